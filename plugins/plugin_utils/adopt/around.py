"""Says what becomes of the objects beside a server's Deployment: accounts, Services, autoscalers, routes, monitors; never reads a Secret."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.normal import manifest
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted

ROLE = "eks.amazonaws.com/role-arn"
# Kinds that may be about a server, in the order in which they are looked at.
KINDS = [
    {"api_version": "v1", "kind": "Service"},
    {"api_version": "v1", "kind": "ServiceAccount"},
    {"api_version": "v1", "kind": "PersistentVolumeClaim"},
    {"api_version": "policy/v1", "kind": "PodDisruptionBudget"},
    {"api_version": "autoscaling/v2", "kind": "HorizontalPodAutoscaler"},
    {"api_version": "keda.sh/v1alpha1", "kind": "ScaledObject"},
    {"api_version": "networking.k8s.io/v1", "kind": "Ingress"},
    {"api_version": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute"},
    {"api_version": "monitoring.coreos.com/v1", "kind": "ServiceMonitor"},
    {"api_version": "monitoring.coreos.com/v1", "kind": "PodMonitor"},
    {"api_version": "networking.k8s.io/v1", "kind": "NetworkPolicy"},
]
PORTS = {"vllm": {"http": 8000}, "triton": {"http": 8000, "grpc": 8001, "metrics": 8002}}


def fill(found: Adopted, deployment: Mapping, objects: Iterable[Mapping], role: str) -> list[Mapping]:
    """Add what stands around a server; ``found`` is completed in place.

    Args:
        found: what was read of the server.
        deployment: the live one.
        objects: all of ``KINDS`` in its namespace.
        role: the server's.

    Returns:
        the objects that the inventory has, too.
    """
    labels = deployment["spec"]["template"]["metadata"].get("labels") or {}
    every = [item for item in objects if not _controlled(item)]
    taken: list[Mapping] = []
    extra: list[Mapping] = []
    services = [item for item in every if item["kind"] == "Service" and _selects(item["spec"].get("selector"), labels)]
    _account(found, deployment, every, taken)
    _services(found, services, role, taken, extra)
    reached = {item["metadata"]["name"] for item in services}
    _scalers(found, deployment, every, taken, extra)
    _budgets(found, every, labels, taken)
    for item in every:
        spec = item.get("spec") or {}
        about = (
            (item["kind"] in ("Ingress", "HTTPRoute") and reached & set(_backends(spec)))
            or (
                item["kind"] == "NetworkPolicy"
                and (spec.get("podSelector") or {}).get("matchLabels")
                and _matches(spec["podSelector"], labels)
            )
            or (item["kind"] == "PodMonitor" and _matches(spec.get("selector") or {}, labels))
            or (
                item["kind"] == "ServiceMonitor"
                and any(_matches(spec.get("selector") or {}, one["metadata"].get("labels") or {}) for one in services)
            )
        )
        if about:
            extra.append(item)
    settings = found.settings
    # The role's own would stand beside those that are there.
    settings["network_policy_enabled"] = settings["monitoring_enabled"] = settings["alerts_enabled"] = False
    settings["extra_objects"] = [_ported(manifest(item), found.ports) for item in extra]
    return [*taken, *extra]


def _ported(item: dict, renamed: Mapping[str, str]) -> dict:
    """Let a PodMonitor, or a NetworkPolicy, name the container's ports as the role does."""
    spec, named = item["spec"], []
    if item["kind"] == "PodMonitor":
        named = spec.get("podMetricsEndpoints") or []
    elif item["kind"] == "NetworkPolicy":
        # Of what goes out the ports are other pods'.
        named = [port for rule in spec.get("ingress") or [] for port in rule.get("ports") or []]
    for port in named:
        port |= {"port": renamed.get(port["port"], port["port"])} if "port" in port else {}
    return item


def _controlled(item: Mapping) -> bool:
    return any(owner.get("controller") for owner in item["metadata"].get("ownerReferences") or [])


def _selects(selector: Mapping | None, labels: Mapping) -> bool:
    return bool(selector) and selector.items() <= labels.items()


def _matches(selector: Mapping, labels: Mapping) -> bool:
    """Tell whether a selector takes labels; one with expressions is taken by its labels alone."""
    return (selector.get("matchLabels") or {}).items() <= labels.items()


def _account(found: Adopted, deployment: Mapping, every: list[Mapping], taken: list[Mapping]) -> None:
    """Name the ServiceAccount and its IAM role; the namespace's own default one is nobody's."""
    name = deployment["spec"]["template"]["spec"].get("serviceAccountName") or "default"
    found.settings["role_name"] = ""
    if name == "default":
        found.notes.append("it runs under the namespace's account default: the role makes one of the server's own name")
        return
    found.settings["service_account_name"] = name
    live = next((item for item in every if item["kind"] == "ServiceAccount" and item["metadata"]["name"] == name), None)
    if live:
        taken.append(live)
        found.settings["role_name"] = (live["metadata"].get("annotations") or {}).get(ROLE, "")
        if live.get("imagePullSecrets"):
            found.platform["platform_image_pull_secrets"] = [item["name"] for item in live["imagePullSecrets"]]
    if live and not found.settings["role_name"]:
        found.notes.append(
            f"ServiceAccount {name} names no IAM role; with EKS Pod Identity set role_name and platform_pod_identity: true"
        )


def _services(found: Adopted, services: list[Mapping], role: str, taken: list[Mapping], extra: list[Mapping]) -> None:
    """Let the role make one Service where it would be the same; all others are brought as they are, and select the same pods."""
    settings, name = found.settings, found.settings["name"]
    own = next((item for item in services if role != "mlserver" and _is_plain(item, settings, role)), None)
    if own:
        settings["service_name"] = own["metadata"]["name"]
        taken.append(own)
    elif any(item["metadata"]["name"] == name for item in services):
        settings["service_name"] = f"{name[:55]}-server"
    else:
        settings["service_name"] = name
    for item in services:
        if item is own:
            continue
        changed: dict[str, Any] = {
            **item,
            "spec": {k: v for k, v in item["spec"].items() if k not in ("clusterIP", "clusterIPs", "ipFamilies")},
        }
        if item["spec"].get("clusterIP") == "None":
            changed["spec"]["clusterIP"] = "None"
        if changed["spec"]["selector"].get("app") not in (None, name):
            # The label app is the server's name.
            changed["spec"]["selector"] = {**changed["spec"]["selector"], "app": name}
            found.notes.append(
                f"Service {item['metadata']['name']} selects by the label app, which is the server's name: from the first run on it "
                "leads to the new pods alone"
            )
        if item["spec"].get("ports"):
            # A headless one may have none.
            changed["spec"]["ports"] = [_port(port, found.ports) for port in item["spec"]["ports"]]
        extra.append(changed)


def _is_plain(item: Mapping, settings: Mapping, role: str) -> bool:
    spec, ports = item["spec"], item["spec"].get("ports") or []
    wanted = {settings.get(f"{name}_port", port) for name, port in PORTS[role].items()}
    plain = spec.get("type", "ClusterIP") == "ClusterIP" and spec.get("clusterIP") != "None"
    # One by other labels goes on selecting the old pods beside the new ones.
    plain = plain and "app" in spec["selector"]
    return plain and not item["metadata"].get("annotations") and {port["port"] for port in ports} == wanted


def _port(port: Mapping, renamed: Mapping[str, str]) -> dict:
    """Let a Service lead to a container's port by the name that the role gives it."""
    kept = dict(port)
    if isinstance(port.get("targetPort"), str):
        kept["targetPort"] = renamed.get(port["targetPort"], port["targetPort"])
    return kept


def _scalers(
    found: Adopted, deployment: Mapping, every: list[Mapping], taken: list[Mapping], extra: list[Mapping]
) -> None:
    name = deployment["metadata"]["name"]
    for item in every:
        if item["kind"] not in ("HorizontalPodAutoscaler", "ScaledObject"):
            continue
        if (item["spec"].get("scaleTargetRef") or {}).get("name") != name:
            continue
        if item["kind"] == "HorizontalPodAutoscaler" and item["metadata"]["name"] == name:
            keys = ("minReplicas", "maxReplicas", "metrics", "behavior")
            found.settings["autoscaling"] = {key: item["spec"][key] for key in keys if key in item["spec"]}
            taken.append(item)
        else:
            found.settings["autoscaled"] = True
            extra.append(item)


def _budgets(found: Adopted, every: list[Mapping], labels: Mapping, taken: list[Mapping]) -> None:
    several = found.settings["replicas"] > 1 or found.settings.get("autoscaled") or found.settings.get("autoscaling")
    for item in every:
        if item["kind"] != "PodDisruptionBudget" or not _matches(item["spec"].get("selector") or {}, labels):
            continue
        name, least = item["metadata"]["name"], item["spec"].get("minAvailable")
        if "maxUnavailable" in item["spec"]:
            found.settings["pdb_max_unavailable"] = item["spec"]["maxUnavailable"]
        if name == found.settings["name"]:
            taken.append(item)
        if least is not None:
            found.lost.append(
                f"PodDisruptionBudget {name}: spec.minAvailable {least}: the role's says maxUnavailable (pdb_max_unavailable)"
            )
        if several and name != found.settings["name"]:
            found.notes.append(
                f"PodDisruptionBudget {name}: the role makes one of its own, and a pod in two can't be evicted: delete it after the first run"
            )


def _backends(spec: Mapping) -> list[str]:
    """Name the Services that an Ingress or an HTTPRoute leads to."""
    names = []
    for rule in spec.get("rules") or []:
        names += [
            path["backend"].get("service", {}).get("name") for path in (rule.get("http") or {}).get("paths") or []
        ]
        names += [backend["name"] for backend in rule.get("backendRefs") or []]
    names.append(((spec.get("defaultBackend") or {}).get("service") or {}).get("name"))
    return [name for name in names if name]
