"""Gives what several adopted servers share one owner, since the roles give each object to one; never asks a cluster."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Server

# Names that the roles let no two servers have, and what to do about a server that gets another one.
NAMES = {
    "service_account_name": (
        "ServiceAccount",
        "what was granted to it (RoleBindings, the IAM role's trust, Pod Identity) must be granted to that one too",
    ),
    "service_name": ("Service", "its clients must ask there"),
}


def separate(servers: Iterable[Server]) -> list[dict]:
    """Let one server alone name an account or a Service, and take out of all servers what several bring.

    Args:
        servers: their settings and notes are completed in place.

    Returns:
        the objects that are of several servers, for ``platform_extra_objects``.
    """
    servers = list(servers)
    for setting in NAMES:
        _names(servers, setting)
    return _objects(servers)


def _names(servers: list[Server], setting: str) -> None:
    kind, then = NAMES[setting]
    users: dict[str, list[Server]] = {}
    for server in servers:
        if name := server.found.settings.get(setting):
            users.setdefault(name, []).append(server)
    for name, those in users.items():
        # It stays with the server that is called so, as each of the others gets one of its own name.
        first, *others = sorted(those, key=lambda server: server.found.settings["name"] != name)
        for server in others:
            own = server.found.settings["name"]
            server.found.settings[setting] = own
            server.found.notes.append(
                f"{kind} {name} is server {first.found.settings['name']}'s too, and the roles give each server its own: {setting} is "
                f"{own} now, and {then}"
            )


def _objects(servers: list[Server]) -> list[dict]:
    users: dict[tuple[str, str], list[tuple[Server, dict]]] = {}
    for server in servers:
        for item in server.found.settings.get("extra_objects") or []:
            users.setdefault((item["kind"], item["metadata"]["name"]), []).append((server, item))
    shared = []
    for (kind, name), those in users.items():
        owners = [server for server, item in those]
        made = next(
            (one for one in servers if kind == "Service" and one.found.settings.get("service_name") == name), None
        )
        if len(owners) == 1 and not made:
            continue
        (first, item), *others = those
        if not made:
            shared.append(item)
        differs = made or any(other != item for _, other in others)
        for server in owners:
            left = [
                one
                for one in server.found.settings["extra_objects"]
                if (one["kind"], one["metadata"]["name"]) != (kind, name)
            ]
            server.found.settings["extra_objects"] = left
            if not left:
                del server.found.settings["extra_objects"]
            if differs:
                server.found.lost.append(
                    f"{kind} {name} is for several servers, and would have to be another one for each: it is as for "
                    f"{(made or first).found.settings['name']}"
                )
            else:
                server.found.notes.append(f"{kind} {name} is for several servers: it stands in platform_extra_objects")
    return shared
