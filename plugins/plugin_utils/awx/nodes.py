"""What becomes of the nodes of workflows, in an order in which none is ever without the nodes before it; never writes.

AWX starts every node that nothing comes before, so a deploy that lost its approval for a moment would run without it. Hence nodes are made
without a template, then linked, then given what they run; and one that would be left alone in between is removed first and made again.
"""

from __future__ import annotations

import graphlib
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms, There, differing
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import key
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.workflows import LINKS

# What is called before the nodes are made: each a list of ``Comparison.calls``.
REMOVED, UNLINKED = "node_removed", "node_unlinked"
Edge = tuple[str, str, str]


def changes(wanted: Mapping[str, list[dict]], there: There, forms: Forms) -> tuple[list[str], dict[str, list[dict]]]:
    """Compare the nodes of workflows that are wanted with those that are there.

    Args:
        wanted: of ``objects.Wanted.found``; its nodes as ``workflows.nodes`` gives them.
        there: from ``state.read``.
        forms: of what is there.

    Returns:
        what is to be told, a node a line; and the calls: nodes to remove (``REMOVED``), nodes that only lose links (``UNLINKED``), and
        those to make or change (``node``), each in its order.

    Raises:
        Failure: AWX does not answer, or refuses.
    """
    of: dict[str, list[dict]] = {}
    for item in wanted["node"]:
        of.setdefault(key("node", item), []).append(item)
    flows = {item["workflow"] for item in wanted["node"]}
    has = {name: forms.nodes(item) for name, item in there["node"].items() if item["workflow"] in flows}
    edges, wanted_edges = _edges(has), _edges(of)
    gone = _gone(of, has, edges, wanted_edges)
    kept = {edge for edge in edges & wanted_edges if not {edge[0], edge[2]} & gone.keys()}
    lines = [
        f"replace workflow node {name}: {', '.join(gone[name])}" if name in of else f"remove workflow node {name}"
        for name in gone
    ]
    unlinked = {edge[0]: None for edge in sorted(edges - wanted_edges) if not {edge[0], edge[2]} & gone.keys()}
    calls = {
        REMOVED: [_named(has[name][0]) for name in _last_first(gone, edges)],
        UNLINKED: [_named(has[name][0]) | _links(has[name][0], kept) for name in unlinked],
        "node": [],
    }
    fields: dict[str, list[str]] = {}
    for item in wanted["node"]:
        name = key("node", item)
        if name in gone or name not in has:
            different = True
            if name not in gone:
                fields[name] = []
        else:
            form = has[name][0] | has[name][1]
            if told := differing(item, form, {}):
                fields.setdefault(name, []).extend(told)
            # A link to a node that is made again is gone with it.
            different = bool(differing(item, form | _links(item, kept), {}))
        if different:
            calls["node"].append({field: value for field, value in item.items() if field != "needs"})
    lines += [
        f"update workflow node {name}: {', '.join(told)}" if told else f"create workflow node {name}"
        for name, told in fields.items()
    ]
    return lines, calls


def _gone(
    of: Mapping[str, list[dict]], has: Mapping[str, list[dict]], edges: set[Edge], wanted: set[Edge]
) -> dict[str, list[str]]:
    """Name the nodes to remove, with why those that are wanted are made again."""
    gone = {name: [] for name in has if name not in of}
    gone |= {name: why for name in has if name in of and (why := _unchangeable(of[name], has[name]))}
    # One that waits for all before it would not wait for what is not there.
    waits = {name for name, forms in of.items() if forms[0]["all_parents_must_converge"]}
    while True:
        stay = edges & wanted
        kept = {child for parent, _, child in stay if parent not in gone}
        short = {child for parent, _, child in stay if parent in gone} & waits
        before, after = ({child for _, _, child in all_edges} for all_edges in (edges, wanted))
        alone = [name for name in has if name not in gone and name in ((before & after) - kept) | short]
        if not alone:
            return gone
        gone |= {name: ["what comes before it"] for name in alone}


def _unchangeable(wanted: list[dict], has: list[dict]) -> list[str]:
    """Name the fields that the module does not change, or not to this value: it would rename the template, or leave them out."""
    to, form = wanted[0] | wanted[1], has[0] | has[1]
    found = ["template"] if "approval" in to and form.get("template") else []
    found += ["approval"] if "template" in to and "approval" in form else []
    found += form["answers"]
    return found + [
        field for field in ("limit", "extra_data", "all_parents_must_converge") if form[field] and not to[field]
    ]


def _edges(forms: Mapping[str, list[dict]]) -> set[Edge]:
    return {
        (name, link, f"{links['workflow']} / {to}")
        for name, (links, _) in forms.items()
        for link in LINKS
        for to in links[link]
    }


def _links(form: Mapping[str, Any], edges: set[Edge]) -> dict[str, list[str]]:
    name, workflow = key("node", form), f"{form['workflow']} / "
    return {
        link: sorted(child.removeprefix(workflow) for parent, kind, child in edges if (parent, kind) == (name, link))
        for link in LINKS
    }


def _named(form: Mapping[str, Any]) -> dict[str, Any]:
    return {"workflow": form["workflow"], "identifier": form["identifier"]}


def _last_first(gone: Mapping[str, Any], edges: set[Edge]) -> list[str]:
    after = {name: [child for parent, _, child in sorted(edges) if parent == name and child in gone] for name in gone}
    return list(graphlib.TopologicalSorter(after).static_order())
