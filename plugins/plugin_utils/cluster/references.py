"""Finds what objects name and do not bring: classes, Secrets, ConfigMaps, accounts, claims; never asks a cluster.

No dry run tells of these: the API server takes a Deployment whatever its pods name, and the pods wait for ever. Which of them a pod
waits for: https://kubernetes.io/docs/concepts/configuration/secret/#restriction-secret-must-exist and the pages of each kind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple


class Reference(NamedTuple):
    """What an object names.

    Attributes:
        api_version: of the named object.
        kind: of the named object.
        namespace: of the named object; empty for one that belongs to no namespace.
        name: its name.
        needed: whether nothing starts without it; without a pull secret, a public image is pulled all the same.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    needed: bool = True

    def item(self) -> dict:
        """Give it as an object to look for."""
        namespace = {"namespace": self.namespace} if self.namespace else {}
        return {"apiVersion": self.api_version, "kind": self.kind, "metadata": {"name": self.name, **namespace}}


def of(item: Mapping) -> Iterator[Reference]:
    """Give what an object names: a Deployment its pods' classes, account, claims, Secrets and ConfigMaps, a claim its class."""
    namespace = item["metadata"].get("namespace", "")
    if item["kind"] == "PersistentVolumeClaim" and item["spec"].get("storageClassName"):
        yield Reference("storage.k8s.io/v1", "StorageClass", "", item["spec"]["storageClassName"])
    if item["kind"] == "Deployment":
        pod = item["spec"]["template"]["spec"]
        yield from _of_pod(pod, namespace)
        for volume in pod.get("volumes") or []:
            if claim := volume.get("persistentVolumeClaim"):
                yield Reference("v1", "PersistentVolumeClaim", namespace, claim["claimName"])
            for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
                yield from _read(source, "secret", "configMap", namespace)
        for container in [*(pod.get("initContainers") or []), *pod["containers"]]:
            for source in container.get("envFrom") or []:
                yield from _read(source, "secretRef", "configMapRef", namespace)
            for variable in container.get("env") or []:
                yield from _read(variable.get("valueFrom") or {}, "secretKeyRef", "configMapKeyRef", namespace)


def _of_pod(pod: Mapping, namespace: str) -> Iterator[Reference]:
    if pod.get("priorityClassName"):
        yield Reference("scheduling.k8s.io/v1", "PriorityClass", "", pod["priorityClassName"])
    if pod.get("runtimeClassName"):
        yield Reference("node.k8s.io/v1", "RuntimeClass", "", pod["runtimeClassName"])
    if pod.get("serviceAccountName", "default") != "default":
        yield Reference("v1", "ServiceAccount", namespace, pod["serviceAccountName"])
    for secret in pod.get("imagePullSecrets") or []:
        yield Reference("v1", "Secret", namespace, secret["name"], needed=False)


def _read(source: Mapping, secret: str, config_map: str, namespace: str) -> Iterator[Reference]:
    for key, kind in ((secret, "Secret"), (config_map, "ConfigMap")):
        named = source.get(key) or {}
        # A volume's Secret has its name under another key than all others.
        name = named.get("secretName") or named.get("name")
        if name and not named.get("optional"):
            yield Reference("v1", kind, namespace, name)
