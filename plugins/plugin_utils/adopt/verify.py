"""Holds an inventory against what runs: renders it, patches what differs, and says what is left; never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import compare
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import PROFILES, Render, Result, Server
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import SKIPPABLE

SKIPPED = "it runs so, adopted as it was"


def verify(result: Result, render: Render) -> None:
    """Render, patch what differs, turn off the checks that what runs would not pass, and tell what is left."""
    rendered = render(result.variables)
    for server in result.servers:
        live = compare.normal(server.live, server.found.renamed)
        ours = deployment(rendered, server)
        if ours is None:
            continue
        patched = [one for one in compare.differences(live, compare.rendered(ours)) if not compare.is_own(one)]
        if made := compare.patch(patched):
            server.found.settings["patch"] = made
    rendered = _accepted(result, render)
    result.problems = rendered["problems"]
    for server in result.servers:
        ours = deployment(rendered, server)
        if ours is None:
            continue
        live = compare.normal(server.live, server.found.renamed)
        left = list(compare.differences(live, compare.rendered(ours)))
        server.changes = [compare.line(one) for one in left if not _is_mark(one)]
        server.restarts = any(compare.dotted(path).startswith("spec.template.") for path, _, _ in left)


def _is_mark(one: compare.Difference) -> bool:
    """Tell whether it is one of our own labels or annotations, of which every run speaks."""
    return compare.dotted(one[0]).partition("[")[0].startswith(("metadata.labels", "metadata.annotations"))


def _accepted(result: Result, render: Render) -> dict:
    """Render; where something is refused that runs all the same, turn off the checks that refuse it, and no others."""
    rendered = render(result.variables)
    for server in result.servers:
        mine = f"{PROFILES[server.kind][0]}.{server.profile}."
        if not any(line.startswith(mine) for line in rendered["problems"]):
            continue
        settings = server.found.settings
        if any(line.startswith(f"{mine}patch") for line in rendered["problems"]):
            server.found.lost.append("what a patch would have to change (below, as changes)")
            settings.pop("patch", None)
        before, settings["skip_checks"] = len(render(result.variables)["problems"]), dict.fromkeys(SKIPPABLE, SKIPPED)
        rendered = render(result.variables)
        left = len(rendered["problems"])
        if left == before:
            settings["skip_checks"] = {}
        for check in SKIPPABLE:
            less = {name: why for name, why in settings["skip_checks"].items() if name != check}
            kept, settings["skip_checks"] = settings["skip_checks"], less
            if len(render(result.variables)["problems"]) > left:
                settings["skip_checks"] = kept
        if not settings["skip_checks"]:
            del settings["skip_checks"]
        rendered = render(result.variables)
    return rendered


def deployment(rendered: Mapping, server: Server) -> Mapping | None:
    """Give a server's Deployment as it is rendered; None where something is wrong with it."""
    return next(
        (
            item
            for part in rendered["parts"]
            if part["profile"] == server.profile and part["role"] == server.kind
            for item in part["objects"]
            if item["kind"] == "Deployment"
        ),
        None,
    )
