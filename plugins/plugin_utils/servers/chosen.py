"""Picks servers of a rendering by name; never asks a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, nearest, problem

JUDGE = "vllm_judge"


def chosen(
    rendered: Mapping, names: Iterable[str], default_role: str = JUDGE, variable: str = "the name of a server"
) -> list[dict]:
    """Give the parts of the servers that are meant.

    Args:
        rendered: the structure of ``servers.render``.
        names: of their Deployments; without any, all servers of ``default_role``.
        default_role: the role whose servers are meant where none is named.
        variable: what names them, for the message.

    Returns:
        the parts, each once, in the order of a run.

    Raises:
        Refused: no server that is on has the name, or none is of that role; the message lists those that are on.
    """
    servers = [part for part in rendered["parts"] if part["enabled"] and "needs" in part]
    # Of a text with commas, a blank may be left.
    known, asked = [part["name"] for part in servers], [name.strip() for name in names if name.strip()]
    if not asked:
        found = [part for part in servers if part["role"] == default_role]
        if not found:
            there = ", ".join(sorted(known)) or "none"
            raise Refused([f"no server of {default_role} is on: name one by {variable}. Servers that are on: {there}"])
        return found
    if wrong := [problem(variable, name, nearest(name, known)) for name in asked if name not in known]:
        raise Refused(wrong)
    return [part for part in servers if part["name"] in asked]
