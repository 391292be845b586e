"""Holds an inventory against what runs: renders it, patches what differs, and says what is left; never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import compare, credentials, vllm, words
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import PROFILES, Render, Result, Server
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import SKIPPABLE

SKIPPED = "it runs so, adopted as it was"


def verify(result: Result, render: Render) -> None:
    """Render, patch what differs, turn off the checks that what runs would not pass, and tell what is left."""
    rendered = _accepted(result, render)
    for server in result.servers:
        live = compare.normal(server.live, server.found.renamed)
        ours = deployment(rendered, server)
        if ours is None:
            continue
        patched = [one for one in compare.differences(live, compare.rendered(ours)) if not compare.is_own(one)]
        if made := compare.patch(patched):
            server.found.settings["patch"] = made
            credentials.take_out(server.found)
    rendered = _accepted(result, render)
    result.problems = rendered["problems"]
    for server in result.servers:
        ours = deployment(rendered, server)
        if ours is None:
            continue
        if server.kind == "vllm":
            server.found.lost += _flags(server, ours)
        live = compare.normal(server.live, server.found.renamed)
        left = list(compare.differences(live, compare.rendered(ours)))
        server.changes = [compare.line(one) for one in left if not _is_mark(one)]
        server.restarts = any(compare.dotted(path).startswith("spec.template.") for path, _, _ in left)


def _flags(server: Server, ours: Mapping) -> list[str]:
    """Tell of the flags without a variable of their own which vLLM would read otherwise, or not at all; no value is shown."""
    version = vllm.version_of(server.found.settings["image"])
    live, _ = words.vllm(server.words, version)
    # Kubernetes makes one $ of two.
    args = [word.replace("$$", "$") for word in ours["spec"]["template"]["spec"]["containers"][0].get("args", [])]
    made, _ = words.vllm(args, version)
    return [
        f"args: {flag}: the rendered command line has it {'otherwise' if flag in made else 'no longer'}"
        for flag, value in live.items()
        if flag not in vllm.HANDLED and str(made.get(flag)) not in (str(value), credentials.UNSET)
    ]


def _is_mark(one: compare.Difference) -> bool:
    """Tell whether it is one of our own labels or annotations, of which every run speaks."""
    return compare.dotted(one[0]).partition("[")[0].startswith(("metadata.labels", "metadata.annotations"))


def _accepted(result: Result, render: Render) -> dict:
    """Render; where something is refused that runs all the same, turn off the checks that refuse it, and no others."""
    rendered = render(result.variables)
    for server in result.servers:
        if any(line.startswith(f"{_path(server)}patch") for line in rendered["problems"]):
            server.found.lost.append("what a patch would have to change (below, as changes)")
            server.found.settings.pop("patch", None)
            rendered = render(result.variables)
        if _refused(server, rendered):
            _skip(server, result, render, len(rendered["problems"]))
            rendered = render(result.variables)
    return rendered


def _path(server: Server) -> str:
    return f"{PROFILES[server.kind][0]}.{server.profile}."


def _refused(server: Server, rendered: Mapping) -> bool:
    """Tell whether something of a server is refused; what the role brings is told under the role's own variable."""
    others = f"{PROFILES[server.kind][0]}."
    return any(
        line.startswith(_path(server)) or (line.startswith(f"{server.kind}_") and not line.startswith(others))
        for line in rendered["problems"]
    )


def _skip(server: Server, result: Result, render: Render, before: int) -> None:
    """Turn off those checks of a server without which fewer problems are told."""
    settings = server.found.settings
    known = settings.get("skip_checks") or {}

    def problems(checks: Mapping) -> int:
        settings["skip_checks"] = dict(checks)
        return len(render(result.variables)["problems"])

    chosen = dict.fromkeys(SKIPPABLE, SKIPPED)
    least = problems(chosen)
    if least == before:
        chosen = dict(known)
    else:
        for check in SKIPPABLE:
            less = {name: why for name, why in chosen.items() if name != check}
            chosen = less if problems(less) == least else chosen
    settings["skip_checks"] = chosen
    if not chosen:
        del settings["skip_checks"]


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
