"""Computes and checks what changes a server's number of pods: a HorizontalPodAutoscaler or KEDA's ScaledObject; knows no kind."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import present
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# The setting of each: its template, and the group and kind of the object.
SCALERS = {
    "autoscaling": ("horizontalpodautoscaler.yaml.j2", "autoscaling", "HorizontalPodAutoscaler"),
    "scaled_object": ("scaledobject.yaml.j2", "keda.sh", "ScaledObject"),
}
TEMPLATES = [template for template, _, _ in SCALERS.values()]
# Requests that may wait for each pod before there are more pods; of a kind that does not count them, the load of its CPUs in percent.
WAITING, CPU_PERCENT = 5, 80


def is_autoscaled(settings: Settings) -> bool:
    """Tell whether the number of pods is left to somebody else."""
    return is_true(settings.get("autoscaled")) or any(settings.get(key) for key in SCALERS)


def compute(settings: Settings, namespace: str, name: str, service_name: str, waiting: str) -> dict:
    """Compute a server's autoscaler.

    Args:
        settings: its settings.
        namespace: of the server.
        name: of its Deployment.
        service_name: of its Service, the job of its metrics.
        waiting: its metric of requests that wait, or ``""`` where it has none.

    Returns:
        ``autoscaling`` and ``scaled_object``, each the spec of its object, or empty where there is none.
    """
    if all(settings.get(key) for key in SCALERS):
        theirs = settings.path("autoscaling")
        settings.wrong(
            dict(settings["scaled_object"]), f"KEDA makes an autoscaler of its own: leave {theirs} out", "scaled_object"
        )
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    return {
        "autoscaling": _autoscaling(settings, target, waiting),
        "scaled_object": _scaled_object(settings, target, namespace, service_name, waiting),
    }


def _autoscaling(settings: Settings, target: Mapping, waiting: str) -> dict:
    given = _numbers(settings.get("autoscaling") or {})
    if not given:
        return {}
    _check_bounds(settings, "autoscaling", "minReplicas", "maxReplicas")
    metrics = given.get("metrics")
    if metrics:
        _unused(settings, "autoscaling", "averageValue", "metrics")
    else:
        _check_metric(settings, "autoscaling", "metrics", "averageValue", waiting)
        value = str(given.get("averageValue") or WAITING)
        metrics = [
            {
                "type": "Pods",
                "pods": {"metric": {"name": waiting}, "target": {"type": "AverageValue", "averageValue": value}},
            }
            if waiting
            else {
                "type": "Resource",
                "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": CPU_PERCENT}},
            }
        ]
    return {
        "scaleTargetRef": dict(target),
        "minReplicas": given.get("minReplicas") or 1,
        "maxReplicas": given.get("maxReplicas"),
        "metrics": metrics,
        **present({"behavior": given.get("behavior")}),
    }


def _scaled_object(settings: Settings, target: Mapping, namespace: str, service_name: str, waiting: str) -> dict:
    given = _numbers(settings.get("scaled_object") or {})
    if not given:
        return {}
    _check_bounds(settings, "scaled_object", "minReplicaCount", "maxReplicaCount")
    least = 1 if given.get("minReplicaCount") is None else given["minReplicaCount"]
    triggers = given.get("triggers")
    if triggers:
        for key in ("serverAddress", "threshold"):
            _unused(settings, "scaled_object", key, "triggers")
    else:
        _check_metric(settings, "scaled_object", "triggers", "threshold", waiting)
        if not least:
            settings.wrong(
                least,
                "a server without pods has no metric: needs triggers that see what asks for it",
                "scaled_object",
                "minReplicaCount",
            )
        if waiting and not given.get("serverAddress"):
            allowed = "must be the URL of Prometheus, such as http://prometheus-operated.monitoring.svc:9090"
            settings.wrong(None, allowed, "scaled_object", "serverAddress")
        query = f'sum({waiting}{{namespace="{namespace}", job="{service_name}"}})'
        asked = {"serverAddress": str(given.get("serverAddress")), "query": query}
        asked["threshold"] = str(given.get("threshold") or WAITING)
        cpu = {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(CPU_PERCENT)}}
        triggers = [{"type": "prometheus", "metadata": asked} if waiting else cpu]
    own = ("minReplicaCount", "serverAddress", "threshold", "triggers")
    return {
        "scaleTargetRef": dict(target),
        "minReplicaCount": least,
        **present({key: value for key, value in given.items() if key not in own}),
        "triggers": triggers,
    }


def _numbers(given: Mapping) -> dict:
    """Make numbers of what extra variables give as text."""
    return {key: int(value) if isinstance(value, str) and value.isdecimal() else value for key, value in given.items()}


def _check_bounds(settings: Settings, key: str, least: str, most: str) -> None:
    highest = settings.get(key, most)
    if highest is None:
        settings.wrong(None, "must be set", key, most)
    elif int(settings.get(key, least) or 1) > int(highest):
        settings.wrong(settings.get(key, least), f"must not be above {most}, {highest}", key, least)


def _check_metric(settings: Settings, key: str, own: str, bound: str, waiting: str) -> None:
    if waiting and not is_true(settings.get("monitoring_enabled")):
        allowed = (
            f"without a ServiceMonitor ({settings.path('monitoring_enabled')}) nobody reads {waiting}: needs {own}"
        )
        settings.wrong(None, allowed, key, own)
    if not waiting:
        _unused(settings, key, bound, own)


def _unused(settings: Settings, key: str, name: str, own: str) -> None:
    if settings.get(key, name) is not None:
        allowed = f"belongs to the number of waiting requests, which is not what this server is scaled by (see {own})"
        settings.wrong(settings.get(key, name), allowed, key, name)
