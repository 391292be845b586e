"""Words what adopting found: the inventory as a file, and lines beside it; never looks at a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Result

# Of a change, between the field and what it is to be, where the pod has nothing.
ADDS = ": nothing -> "


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def text(variables: Mapping) -> str:
    """Write variables as a file for ``host_vars``; what has braces is no template."""
    return yaml.dump(dict(variables), Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=140)


_Dumper.add_representer(
    str,
    lambda dumper, value: dumper.represent_scalar(
        "!unsafe" if "{{" in value or "{%" in value else "tag:yaml.org,2002:str", value
    ),
)


def told(result: Result, unseen: list[str], namespace: str) -> list[str]:
    """Say what the inventory leaves out, what a run would change, and what to do first; one line each."""
    lines = [f"can't be expressed: {line}" for line in result.others]
    if not result.servers:
        lines.append(f"no Deployment in namespace {namespace} runs vLLM, Triton or MLServer")
    for server in result.servers:
        name = server.found.settings["name"]
        lines += [f"{name}: can't be expressed: {line}" for line in server.found.lost]
        if server.takeover:
            lines.append(f"{name}: can't be taken over under this name: {server.takeover}")
        lines += [f"{name}: {line}" for line in server.found.notes]
        added = [line.partition(ADDS)[0] for line in server.changes if ADDS in line]
        lines += [f"{name}: would change: {line}" for line in server.changes if ADDS not in line]
        lines += [f"{name}: would add: {', '.join(added)}"] if added else []
        lines.append(f"{name}: a run {'replaces its pods' if server.restarts else 'leaves its pods as they are'}")
    lines += [f"a run would refuse the inventory as it stands: {line}" for line in result.problems]
    if unseen:
        lines.append(
            f"this credential may not list {', '.join(unseen)}: whether some of these belong to a server is not known"
        )
    return lines


def rows(result: Result) -> list[dict]:
    """Give of each server what was found, as data."""
    return [
        {
            "server": server.found.settings["name"],
            "role": server.kind,
            "profile": server.profile,
            "lost": server.found.lost,
            "notes": server.found.notes,
            "changes": server.changes,
            "restarts": server.restarts,
            "takeover": server.takeover,
        }
        for server in result.servers
    ]
