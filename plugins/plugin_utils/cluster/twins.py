"""Finds hosts of one run that lead to the same place of the same cluster, where each would undo what the other writes; never asks a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import same_url
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

# What says where a host leads to, with what the roles bring.
BROUGHT = {
    "platform_api_server": "",
    "platform_kube_system_uid": "",
    "platform_connection": {},
    "platform_delivery": "direct",
    "platform_namespace": "ml-models",
    "platform_argocd_namespace": "argocd",
    "argocd_apps_destination_server": "",
    "argocd_apps_destination_name": "",
    "argocd_apps_destination_namespace": "",
}
# Hosts that differ in one of these get out of each other's way. One Argo CD may deliver to several clusters.
APART = {
    "direct": ("platform_namespace",),
    "gitops": ("platform_argocd_namespace", "platform_namespace", *(name for name in BROUGHT if "destination" in name)),
}


def check(known: Mapping) -> None:
    """Refuse to write where another host of the run writes, too.

    Args:
        known: the variables of the task.

    Raises:
        Refused: there is such a host. It is named.
    """
    hosts = known.get("ansible_play_hosts_all") or []
    if len(hosts) < 2:
        return
    here = known["inventory_hostname"]
    mine = _place(known["hostvars"][here])
    for host in hosts:
        if host == here or not (why := _same(mine, _place(known["hostvars"][host]))):
            continue
        place = "platform_argocd_namespace" if mine["platform_delivery"] == "gitops" else "platform_namespace"
        both = " and ".join(sorted((here, host)))
        raise Refused(
            [
                f"the hosts {both} of this run are one cluster ({why}), and work in one namespace of it, {mine[place]}: each would undo "
                "what the other writes. Let each name a cluster of its own (platform_api_server, platform_connection) or a namespace of "
                "its own (platform_namespace), or choose one (--limit)"
            ]
        )


def _place(variables: Mapping) -> dict[str, Any]:
    """Give what says where a host leads to; what can't be read is told by that host itself."""
    found = dict(BROUGHT)
    for name in BROUGHT:
        with contextlib.suppress(AnsibleError, KeyError):
            found[name] = variables[name]
    return found


def _same(one: Mapping, other: Mapping) -> str:
    """Say by what two hosts are one cluster, if they work in one place of it; else ``''``."""
    delivery = one["platform_delivery"]
    if delivery != other["platform_delivery"] or any(one[name] != other[name] for name in APART.get(delivery, ())):
        return ""
    for name, same in (("platform_kube_system_uid", str.__eq__), ("platform_api_server", same_url)):
        if one[name] and other[name]:
            try:
                return f"{name} is {one[name]}" if same(str(one[name]), str(other[name])) else ""
            except ValueError:  # no URL: that host is refused
                return ""
    return "the same platform_connection" if one["platform_connection"] == other["platform_connection"] else ""
