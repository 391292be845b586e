"""Workflows: nodes, what comes after each, and what runs where, from what the role brings and the inventory changes; never asks AWX."""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from typing import Any

CANARY, REST = "CANARY", "REST"
LINKS = ("success", "failure", "always")


def nodes(workflow: str, entry: Mapping[str, Any], canary: list[str], approval_timeout: int) -> list[dict]:
    """Compute the nodes of a workflow, the last ones first: a link needs both its ends.

    Args:
        workflow: its name.
        entry: what the role brings of it, with the inventory's keys over them; without a problem.
        canary: hosts that are deployed first.
        approval_timeout: seconds that an approval may take; 0 for any time.

    Returns:
        each twice, with its ``workflow`` and ``identifier``: first all with their links, then all with their ``template`` and its prompts,
        or their ``approval`` (name and timeout). So none has something to run before it stands where it belongs. Those that wait for all
        before them come at the end, the first ones first: AWX does not wait for one without a template.
    """
    patterns = {CANARY: ":".join(canary), REST: ":".join(["clusters", *(f"!{host}" for host in canary)])}
    placed, filled, waiting = [], [], []
    for identifier in _order(entry["nodes"]):
        node = entry["nodes"][identifier]
        one: dict[str, Any] = {"workflow": workflow, "identifier": identifier}
        links = {link: list(node.get(link) or []) for link in LINKS}
        all_parents = bool(node.get("all_parents"))
        placed.append(one | {"all_parents_must_converge": all_parents} | links)
        if node.get("approval"):
            one["approval"] = {"name": node["approval"].strip(), "timeout": approval_timeout}
        else:
            one["template"] = node["template"]
        limit = (node.get("limit") or "").strip()
        one |= {"limit": patterns.get(limit, limit), "extra_data": node.get("extra_vars") or {}}
        (waiting if all_parents else filled).append(one)
    return [*placed, *filled, *reversed(waiting)]


def _order(known: Mapping[str, Mapping]) -> list[str]:
    """Order nodes so that what comes after one stands before it.

    Raises:
        graphlib.CycleError: a node comes after itself.
    """
    after = {name: [to for link in LINKS for to in node.get(link) or []] for name, node in known.items()}
    return list(graphlib.TopologicalSorter(after).static_order())


def problems(
    workflow: str, entry: Mapping[str, Any], templates: set[str], jobs: Mapping[str, Mapping]
) -> list[tuple[str, Any, str]]:
    """Find what is wrong with the nodes of a workflow.

    Args:
        workflow: its name.
        entry: as for :func:`nodes`.
        templates: names of all job templates and workflows.
        jobs: the job templates by name.

    Returns:
        for each the path below ``awx_workflows``, the value, and what it must be.
    """
    wrong: list[tuple[str, Any, str]] = []
    known = entry.get("nodes") or {}
    if not known:
        wrong.append((workflow, entry, "needs nodes"))
    for identifier, node in known.items():
        wrong += _node_problems(f"{workflow}.nodes.{identifier}", node, set(known), templates, jobs)
    if any((node or {}).get("limit") for node in known.values()):
        # AWX gives the workflow's limit to every node, over the node's own.
        why = "must be left out: it would take the place of the limits of the nodes"
        wrong += [(f"{workflow}.limit", entry["limit"], why)] if entry.get("limit") else []
        wrong += [(f"{workflow}.ask", "limit", why)] if "limit" in (entry.get("ask") or ()) else []
    elif limited := [name for node in known.values() if jobs.get(name := node.get("template"), {}).get("limit")]:
        # AWX's page asks for it with an empty answer.
        why = (
            f"must be left out, or that of {limited[0]}: an empty one at the launch would stand for all hosts, over it"
        )
        wrong += [(f"{workflow}.ask", "limit", why)] if "limit" in (entry.get("ask") or ()) else []
    if not wrong:
        try:
            _order(known)
        except graphlib.CycleError as error:
            wrong.append(
                (f"{workflow}.nodes", " -> ".join(reversed(error.args[1])), "must not come back to where it was")
            )
    return wrong


def _node_problems(
    path: str, node: Mapping[str, Any], known: set[str], templates: set[str], jobs: Mapping[str, Mapping]
) -> list[tuple[str, Any, str]]:
    wrong: list[tuple[str, Any, str]] = []
    if bool(node.get("template")) == bool(node.get("approval")):
        wrong.append((path, node, "needs either a template or an approval"))
    elif node.get("approval") and (node.get("limit") or node.get("extra_vars")):
        wrong.append((path, node, "must have no limit and no extra_vars beside its approval"))
    elif node.get("template") and node["template"] not in templates:
        wrong.append((f"{path}.template", node["template"], _named(templates)))
    elif node.get("limit") and int(jobs.get(node.get("template"), {}).get("slices") or 1) > 1:
        # AWX cuts the inventory, not what the limit leaves of it.
        why = f"must be left out where {node['template']} has slices: one without a cluster of the limit fails"
        wrong.append((f"{path}.limit", node["limit"], why))
    links = [(link, name) for link in LINKS for name in node.get(link) or []]
    return wrong + [(f"{path}.{link}", name, _named(known)) for link, name in links if name not in known]


def _named(names: set[str]) -> str:
    return f"must be one of {', '.join(sorted(names))}"
