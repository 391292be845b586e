"""Computes and checks the way to a server from outside the cluster: an Ingress, a route of a Gateway, and who is let in; knows no kind."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import present
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# The setting of each: its template, and the group and kind of the object.
WAYS = {
    "ingress": ("ingress.yaml.j2", "networking.k8s.io", "Ingress"),
    "http_route": ("httproute.yaml.j2", "gateway.networking.k8s.io", "HTTPRoute"),
}


def compute(settings: Settings, platform: Mapping, service_name: str, ports: Mapping[str, int]) -> dict:
    """Compute the ways to a server.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.
        service_name: its Service.
        ports: the Service's ports by name.

    Returns:
        ``ingress`` and ``http_route``, each what its template places, or empty where there is none.
    """
    for key in WAYS:
        if settings.get(key):
            _check(settings, platform, key, ports)
    return {"ingress": _ingress(settings, service_name), "http_route": _http_route(settings, service_name, ports)}


def _check(settings: Settings, platform: Mapping, key: str, ports: Mapping[str, int]) -> None:
    port, path = _port(settings, key), settings.get(key, "path")
    if port not in ports:
        settings.wrong(port, nearest(port, ports), key, "port")
    if path is not None and not str(path).startswith("/"):
        settings.wrong(path, "must begin with /", key, "path")
    for index, item in enumerate(settings.get(key, "from") or []):
        wrong = _peer_error(item)
        if wrong:
            settings.wrong(dict(item), wrong, key, "from", index)
    if _is_closed(settings, platform, key):
        settings.notices.append(
            f"{settings.path(key)}: the server's NetworkPolicy lets in no namespace but the platform's own, so what serves the "
            f"{WAYS[key][2]} can't reach it: name its namespace or network in {settings.path(key)}.from"
        )


def _is_closed(settings: Settings, platform: Mapping, key: str) -> bool:
    peers = settings.get("network_policy_ingress_from") or []
    own = {platform["namespace"], platform["ai_namespace"]}
    more = settings.get(key, "from") or settings.get("network_policy_extra_ingress")
    policy = str(settings.get("network_policy_enabled")).lower() not in ("false", "no", "off", "0", "n", "f")
    return policy and not more and all(peer.get("namespace") in own for peer in peers)


def _peer_error(item: Mapping) -> str | None:
    if bool(item.get("namespace")) == bool(item.get("cidr")):
        return "must have either a namespace or a cidr"
    if not item.get("cidr"):
        return None
    if item.get("pod_labels"):
        return "pod_labels belong to a namespace"
    try:
        ipaddress.ip_network(str(item["cidr"]))
    except ValueError:
        return "must be a network such as 10.0.0.0/16"
    return None


def _port(settings: Settings, key: str) -> str:
    return str(settings.get(key, "port") or "http")


def _ingress(settings: Settings, service_name: str) -> dict:
    given = settings.get("ingress") or {}
    if not given:
        return {}
    backend = {"service": {"name": service_name, "port": {"name": _port(settings, "ingress")}}}
    way = {"http": {"paths": [{"path": given.get("path") or "/", "pathType": "Prefix", "backend": backend}]}}
    hosts = list(given.get("hosts") or [])
    tls = [present({"hosts": hosts or None, **entry}) for entry in given.get("tls") or []]
    spec = {"ingressClassName": given.get("className"), "tls": tls or None}
    return {
        "annotations": present(given.get("annotations") or {}),
        "spec": {**present(spec), "rules": [{"host": host, **way} for host in hosts] or [way]},
    }


def _http_route(settings: Settings, service_name: str, ports: Mapping[str, int]) -> dict:
    given = settings.get("http_route") or {}
    if not given:
        return {}
    if not given.get("parentRefs"):
        settings.wrong(None, "must name the Gateway", "http_route", "parentRefs")
    rule: dict[str, Any] = {
        "matches": [{"path": {"type": "PathPrefix", "value": given.get("path") or "/"}}],
        "backendRefs": [{"name": service_name, "port": ports.get(_port(settings, "http_route"))}],
    }
    if present(given.get("timeouts") or {}):
        rule["timeouts"] = present(given["timeouts"])
    spec = {"parentRefs": given.get("parentRefs"), "hostnames": given.get("hostnames")}
    return {"annotations": present(given.get("annotations") or {}), "spec": {**present(spec), "rules": [rule]}}


def places(settings: Settings) -> list[tuple[str, tuple]]:
    """Give what only one server can have: the setting, and class or Gateways, host and path that it leads to the server."""
    found = []
    for key, by, hosts in (("ingress", "className", "hosts"), ("http_route", "parentRefs", "hostnames")):
        if settings.get(key):
            served = (key, str(settings.get(key, by)), str(settings.get(key, "path") or "/"))
            found += [(key, (*served, host)) for host in settings.get(key, hosts) or ["*"]]
    return found


def admitted(settings: Settings) -> list[dict]:
    """Give the ingress rules of a NetworkPolicy that let in what serves the ways to a server."""
    rules = []
    for key in WAYS:
        peers = [_peer(item) for item in settings.get(key, "from") or []]
        if peers:
            port = settings.get(f"{_port(settings, key)}_port")
            rules.append({"from": peers, "ports": [{"protocol": "TCP", "port": int(port)}]} if _is_number(port) else {})
    return [rule for rule in rules if rule]


def _is_number(value: object) -> bool:
    return str(value).isdecimal()


def _peer(item: Mapping) -> dict:
    if item.get("cidr"):
        return {"ipBlock": {"cidr": str(item["cidr"])}}
    name = item.get("namespace")
    peer: dict[str, Any] = {
        "namespaceSelector": {} if name == "*" else {"matchLabels": {"kubernetes.io/metadata.name": name}}
    }
    if item.get("pod_labels"):
        peer["podSelector"] = {"matchLabels": present(item["pod_labels"])}
    return peer
