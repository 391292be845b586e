"""Finds what objects name and do not bring: classes, Secrets, ConfigMaps, accounts, claims; never asks a cluster.

No dry run tells of these: the API server takes a Deployment whatever its pods name, and the pods wait for ever. Which of them a pod
waits for: https://kubernetes.io/docs/concepts/configuration/secret/#restriction-secret-must-exist and the pages of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

STORAGE = "storage.k8s.io/v1"
# Drivers that read an object of their own, by the attribute that names it.
SECRETS_STORE, SECRETS_STORE_API = "secrets-store.csi.k8s.io", "secrets-store.csi.x-k8s.io/v1"
# Volumes of these kinds name the Secret of their server under secretRef. https://kubernetes.io/docs/concepts/storage/volumes/
REMOTE = ("cephfs", "cinder", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


class Reference(NamedTuple):
    """What an object names.

    Attributes:
        api_version: of the named object.
        kind: of the named object.
        namespace: of the named object; empty for one that belongs to no namespace.
        name: its name; empty for the cluster's default StorageClass, and for any volume that has no class.
        needed: whether nothing starts without it; without a pull secret, a public image is pulled all the same.
        key: what it must hold, of a Secret or ConfigMap; empty for nothing in particular.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    needed: bool = True
    key: str = ""

    def item(self) -> dict:
        """Give it as an object to look for."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": self.name, **namespace}}


def of(item: Mapping) -> Iterator[Reference]:
    """Give what an object names: a workload what its pods need, a claim its class or volume, an account its pull secrets."""
    namespace = item["metadata"].get("namespace", "")
    if item["kind"] == "PersistentVolumeClaim":
        yield from _of_claim(item["spec"], namespace)
    if item["kind"] == "ServiceAccount":
        yield from _pull_secrets(item, namespace)
    if item["kind"] == "StatefulSet":
        for template in item["spec"].get("volumeClaimTemplates") or []:
            yield from _of_claim(template["spec"], namespace)
    pod = pod_spec(item)
    if pod:
        yield from _of_pod(pod, namespace)
        for volume in pod.get("volumes") or []:
            yield from _of_volume(volume, namespace)
        for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
            for source in container.get("envFrom") or []:
                yield from _read(source, "secretRef", "configMapRef", namespace)
            for variable in container.get("env") or []:
                yield from _read(variable.get("valueFrom") or {}, "secretKeyRef", "configMapKeyRef", namespace)


def pod_spec(item: Mapping) -> Mapping:
    """Give the spec of the pods of a workload, or of a pod; empty for any other object."""
    spec = item.get("spec") or {}
    spec = spec.get("jobTemplate", {}).get("spec", spec)
    pod = spec if item["kind"] == "Pod" else (spec.get("template") or {}).get("spec") or {}
    return pod if "containers" in pod else {}


def _of_pod(pod: Mapping, namespace: str) -> Iterator[Reference]:
    if pod.get("nodeName"):
        yield Reference("v1", "Node", "", pod["nodeName"])
    if pod.get("priorityClassName"):
        yield Reference("scheduling.k8s.io/v1", "PriorityClass", "", pod["priorityClassName"])
    if pod.get("runtimeClassName"):
        yield Reference("node.k8s.io/v1", "RuntimeClass", "", pod["runtimeClassName"])
    if pod.get("serviceAccountName", "default") != "default":
        yield Reference("v1", "ServiceAccount", namespace, pod["serviceAccountName"])
    yield from _pull_secrets(pod, namespace)
    for claim in pod.get("resourceClaims") or []:
        for key, kind in (
            ("resourceClaimName", "ResourceClaim"),
            ("resourceClaimTemplateName", "ResourceClaimTemplate"),
        ):
            if claim.get(key):
                yield Reference("resource.k8s.io/v1", kind, namespace, claim[key])


def _pull_secrets(item: Mapping, namespace: str) -> Iterator[Reference]:
    for secret in item.get("imagePullSecrets") or []:
        yield Reference("v1", "Secret", namespace, secret["name"], needed=False)


def _of_volume(volume: Mapping, namespace: str) -> Iterator[Reference]:
    if claim := volume.get("persistentVolumeClaim"):
        yield Reference("v1", "PersistentVolumeClaim", namespace, claim["claimName"])
    if template := (volume.get("ephemeral") or {}).get("volumeClaimTemplate"):
        yield from _of_claim(template["spec"], namespace)
    for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
        yield from _read(source, "secret", "configMap", namespace)
        bundle = source.get("clusterTrustBundle") or {}
        if bundle.get("name") and not bundle.get("optional"):
            yield Reference("certificates.k8s.io/v1", "ClusterTrustBundle", "", bundle["name"])
    if csi := volume.get("csi"):
        # A driver serves volumes without a claim only if it says so in its CSIDriver.
        yield Reference(STORAGE, "CSIDriver", "", csi["driver"])
        if secret := (csi.get("nodePublishSecretRef") or {}).get("name"):
            yield Reference("v1", "Secret", namespace, secret)
        provider = (csi.get("volumeAttributes") or {}).get("secretProviderClass")
        if csi["driver"] == SECRETS_STORE and provider:
            yield Reference(SECRETS_STORE_API, "SecretProviderClass", namespace, provider)
    secrets = [((volume.get(kind) or {}).get("secretRef") or {}).get("name") for kind in REMOTE]
    for name in [*secrets, (volume.get("azureFile") or {}).get("secretName")]:
        if name:
            yield Reference("v1", "Secret", namespace, name)


def _of_claim(spec: Mapping, namespace: str) -> Iterator[Reference]:
    """Give what must be there for a claim to be bound: the volume that it names, or a class."""
    if spec.get("volumeName") or spec.get("storageClassName") == "":
        yield Reference("v1", "PersistentVolume", "", spec.get("volumeName") or "")
    else:
        yield Reference(STORAGE, "StorageClass", "", spec.get("storageClassName") or "")
    if spec.get("volumeAttributesClassName"):
        yield Reference(STORAGE, "VolumeAttributesClass", "", spec["volumeAttributesClassName"])
    source = spec.get("dataSourceRef") or spec.get("dataSource") or {}
    version = {"PersistentVolumeClaim": "v1", "VolumeSnapshot": "snapshot.storage.k8s.io/v1"}.get(source.get("kind"))
    if version:
        yield Reference(version, source["kind"], source.get("namespace") or namespace, source["name"])


def _read(source: Mapping, secret: str, config_map: str, namespace: str) -> Iterator[Reference]:
    for key, kind in ((secret, "Secret"), (config_map, "ConfigMap")):
        named = source.get(key) or {}
        # A volume's Secret has its name under another key than all others.
        name = named.get("secretName") or named.get("name")
        if name and not named.get("optional"):
            # A variable has one key, a volume those that it lists, or all.
            keys = [named.get("key"), *(entry["key"] for entry in named.get("items") or [])]
            for wanted in dict.fromkeys(keys if any(keys) else [""]):
                if wanted is not None:
                    yield Reference("v1", kind, namespace, name, key=wanted)
