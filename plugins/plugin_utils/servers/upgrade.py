"""Says what changes for a cluster's vLLM servers with another version; asks no cluster, and never decides whether to upgrade."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm_flags

SERVERS = ("vllm", "vllm_judge")
_METRIC = re.compile(r"vllm:[a-z_]+|http_[a-z_]+_total")
# What a histogram's samples have behind its name.
_PARTS = ("_count", "_sum", "_bucket")


@functools.cache
def beyond() -> dict:
    """Give what is known of versions beside their flags: metrics, behaviours, what a default means."""
    return json.loads((specs.ROLES / "vllm" / "versions.json").read_text(encoding="utf-8"))


def changes(today: Mapping, after: Mapping) -> list[dict]:
    """Compare two renderings of one host.

    Args:
        today: the rendering of the inventory as it is.
        after: the same with the images of the next version.

    Returns:
        for each vLLM server that is on: ``server``, ``from``, ``to`` (versions; ``''`` for unknown), ``lines`` of (what, name, change).
    """
    later = {(part["role"], part["profile"]): part for part in after["parts"]}
    found = []
    for part in today["parts"]:
        if part["role"] not in SERVERS or not part["enabled"]:
            continue
        images = [part["image"], later[part["role"], part["profile"]]["image"]]
        versions = [vllm_flags.version_of(image) for image in images]
        changed = images[0] != images[1] and (versions[0] != versions[1] or not versions[0])
        lines = list(_lines(_container(part), json.dumps(today["parts"]), *versions)) if changed else []
        found.append({"server": part["name"], "from": versions[0], "to": versions[1], "lines": lines})
    return found


def _container(part: Mapping) -> dict:
    """Give the server's own container, which a patch may have put others beside."""
    (pod,) = [item["spec"]["template"]["spec"] for item in part["objects"] if item["kind"] == "Deployment"]
    return next(item for item in pod["containers"] if item["image"] == part["image"])


def _lines(container: Mapping, text: str, old: str, new: str) -> Iterator[tuple[str, str, str]]:
    if not (vllm_flags.known(old) and vllm_flags.known(new)):
        yield (
            "flags",
            "all",
            f"not compared: there is no list of {new if vllm_flags.known(old) else old or 'this image'}",
        )
    else:
        yield from _flags(container["args"], old, new)
        before, after = (set(vllm_flags.known(version)["environment"]) for version in (old, new))
        for item in container.get("env", ()):
            if item["name"] in before - after:
                yield "variable", item["name"], f"{new} does not read it"
    yield from _beyond(text, old, new)


def _flags(words: list[str], old: str, new: str) -> Iterator[tuple[str, str, str]]:
    """Compare what is written, and the defaults of what is not. What the new version refuses is told by its own rendering."""
    given = set()
    for word in words:
        flag = vllm_flags.flag_name(word.partition("=")[0]) if word.startswith("-") else ""
        option = vllm_flags.option_of(flag, old) if flag else {}
        given.add(option.get("dest"))
        if option and not vllm_flags.option_of(flag, new):
            yield "flag", flag, "gone"
    after = {option["dest"]: option for option in vllm_flags.known(new)["options"]}
    means = beyond()["defaults"]
    for option in vllm_flags.known(old)["options"]:
        then = after.get(option["dest"])
        if then is None or option["dest"] in given or not option["strings"]:
            continue
        if (was := option.get("default")) != (now := then.get("default")):
            name = option["strings"][0]
            told = means.get(name, "")
            yield "default", name, f"{_shown(was)} becomes {_shown(now)}" + (f": {told}" if told else "")


def _shown(value: Any) -> str:
    return "none" if value is None else json.dumps(value)


def _beyond(text: str, old: str, new: str) -> Iterator[tuple[str, str, str]]:
    metrics = beyond()["metrics"]
    if old in metrics and new in metrics:
        for name in sorted(set(_METRIC.findall(text))):
            plain = next((name.removesuffix(end) for end in _PARTS if name.endswith(end)), name)
            if {name, plain} & set(metrics[old]) and not {name, plain} & set(metrics[new]):
                yield "metric", name, "gone: alerts, autoscalers and dashboards that ask for it see nothing"
        for item in beyond()["behaviours"]:
            if item[old] != item[new]:
                yield (
                    "behaviour",
                    item["what"],
                    f"{item[new]} (was: {item[old]})" + (f"; {item['means']}" if item.get("means") else ""),
                )
    else:
        yield "metrics", "all", f"not compared: nothing is known of {new if old in metrics else old or 'this image'}"
