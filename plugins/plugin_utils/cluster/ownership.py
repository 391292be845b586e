"""Says whose an object is, in labels by which a later run finds what this one made; never decides what goes."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import ANNOTATIONS_BYTES, annotations_bytes

# Kinds that live outside namespaces, of Kubernetes and of what is often beside it; for others the cluster knows it.
CLUSTER_KINDS = frozenset(
    (
        *("Namespace", "Node", "PersistentVolume", "StorageClass", "PriorityClass", "RuntimeClass", "IngressClass"),
        *("ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "APIService", "CertificateSigningRequest"),
        *("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"),
        *("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "CSIDriver", "VolumeSnapshotClass"),
        *("GatewayClass", "ClusterIssuer", "ClusterSecretStore", "ClusterTriggerAuthentication"),
    )
)

MANAGED_BY = "app.kubernetes.io/managed-by"
PROJECT = "modelyard"
COMPONENT = "modelyard/component"
CLUSTER = "modelyard/cluster"
# The component of what makes Argo CD deliver the others.
GITOPS = "argocd-apps"
# That of the records of releases, which no run prunes.
RELEASE = "release"


def identity(item: Mapping) -> tuple[str, str, str, str]:
    """Give what tells an object from all others of a cluster: its API group, kind, namespace and name."""
    metadata = item["metadata"]
    return item["apiVersion"].rpartition("/")[0], item["kind"], metadata.get("namespace") or "", metadata["name"]


def controlled(item: Mapping) -> bool:
    """Tell whether a controller made an object, whose labels it copied from one of ours: it goes with its owner.

    KEDA copies them to its HorizontalPodAutoscaler. The Applications of a set are the exception: they outlive it.
    """
    owners = item["metadata"].get("ownerReferences") or []
    return any(owner.get("controller") and owner["kind"] != "ApplicationSet" for owner in owners)


def component_of(role: str) -> str:
    """Give the component that a role's objects are labelled with."""
    return role.replace("_", "-")


def own(
    objects: list[Mapping],
    component: str,
    cluster: str,
    namespace: str,
    labels: Mapping | None = None,
    annotations: Mapping | None = None,
) -> list[dict]:
    """Label objects as ours, in metadata only: never in selectors or pod templates.

    Args:
        objects: rendered objects.
        component: the role that makes them.
        cluster: the cluster they are for.
        namespace: where those go that name none.
        labels: more labels; those of the object itself win, those of ownership win over all.
        annotations: more annotations; those of the object itself win.

    Returns:
        copies of the objects.
    """
    ours = {MANAGED_BY: PROJECT, COMPONENT: component_of(component), CLUSTER: cluster}
    result = []
    for item in objects:
        metadata = dict(item["metadata"])
        if item["kind"] not in CLUSTER_KINDS:
            metadata.setdefault("namespace", namespace)
        metadata["labels"] = {**(labels or {}), **(metadata.get("labels") or {}), **ours}
        notes = {**(annotations or {}), **(metadata.get("annotations") or {})}
        if notes:
            metadata["annotations"] = notes
        else:
            metadata.pop("annotations", None)
        result.append({**item, "metadata": metadata})
    return result


def oversized(objects: list[Mapping], variables: str) -> list[str]:
    """Word which objects, or their pods, have more annotations than the API server takes.

    Args:
        objects: with all their annotations, from wherever they come.
        variables: what sets them, in words.
    """
    lines = []
    for item in objects:
        pods = ((item.get("spec") or {}).get("template") or {}).get("metadata") or {}
        size = max(annotations_bytes(metadata.get("annotations") or {}) for metadata in (item["metadata"], pods))
        if size > ANNOTATIONS_BYTES:
            name = f"{item['kind']} {item['metadata']['name']}"
            lines.append(
                f"{name}: its annotations ({variables}) have {size} bytes together, and an object takes {ANNOTATIONS_BYTES}"
            )
    return lines
