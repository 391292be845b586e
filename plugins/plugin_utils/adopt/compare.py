"""Compares a Deployment that runs with the one that is rendered, field by field, and writes the patch that makes them one; knows no cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.normal import plain, told
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
# By what the items of a list are the same.
KEYS = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "env": "name",
    "volumeMounts": "mountPath",
    "ports": "containerPort",
}
# What the roles do in their own way. Everything else is patched.
POD = r"spec\.template\.spec"
OWN = re.compile(
    rf"""metadata\.(labels|annotations)(\.|$) | spec\.selector | spec\.strategy | spec\.(minReadySeconds|revisionHistoryLimit|progressDeadlineSeconds|replicas)
    | spec\.template\.metadata\.(labels\.app$ | annotations)
    | {POD}\.(enableServiceLinks|automountServiceAccountToken|serviceAccountName|terminationGracePeriodSeconds|topologySpreadConstraints)
    | {POD}\.(volumes | containers\[[^]]+\]\.volumeMounts)
    | {POD}\.containers\[[^]]+\]\.image$
    | {POD}\.(c|initC)ontainers\[[^]]+\]\.(command|args|env)(\.|\[|$)
    | {POD}\.containers\[[^]]+\]\.(startup|liveness|readiness)Probe\.httpGet\.port$
    | {POD}\.containers\[[^]]+\]\.ports\[\d+\]\.name$
    """,
    re.VERBOSE,
)
# Of these the role's own stays where the pod has none.
ADDED = re.compile(
    rf"{POD}\.(init)?[cC]ontainers\[[^]]+\]\.(lifecycle|startupProbe|livenessProbe|readinessProbe|imagePullPolicy|ports\[\d+\])$"
)
# Of these no value is shown: a credential may stand in them.
HIDDEN = re.compile(r"\.(args|command|env)(\.|\[|$)")
Path = tuple[str | tuple[str, Any], ...]
Difference = tuple[Path, Any, Any]


def differences(live: Any, rendered: Any, path: Path = ()) -> Iterator[Difference]:
    """Find the fields that differ: path, what is live and what is rendered, ABSENT for nothing.

    Args:
        live: an object, or a part of it, without what the API server filled in.
        rendered: the same of the one that is rendered.
        path: the keys that lead there; an item of a list is the list's key for it, and its value.
    """
    if isinstance(live, Mapping) and isinstance(rendered, Mapping):
        for key in sorted({*live, *rendered}):
            yield from differences(live.get(key, ABSENT), rendered.get(key, ABSENT), (*path, key))
        return
    name = KEYS.get(str(path[-1])) if path and isinstance(path[-1], str) else None
    lists = all(isinstance(part, list) or part is ABSENT for part in (live, rendered))
    if name and lists:
        ours, theirs = _by(rendered, name), _by(live, name)
        for key in dict.fromkeys([*theirs, *ours]):
            yield from differences(theirs.get(key, ABSENT), ours.get(key, ABSENT), (*path, (name, key)))
        return
    if not _same(live, rendered, path):
        yield path, live, rendered


def _by(items: Any, name: str) -> dict:
    return {} if items is ABSENT else {item.get(name): item for item in items}


def _same(live: Any, rendered: Any, path: Path) -> bool:
    if live is ABSENT or rendered is ABSENT:
        return live is rendered
    if live == rendered or str(live) == str(rendered):
        return True
    if any(key in ("requests", "limits", "sizeLimit") for key in path):
        try:
            return quantity.parse(live) == quantity.parse(rendered)
        except ValueError:
            return False
    return False


def normal(deployment: Mapping, renamed: Mapping[str, str]) -> dict:
    """Give a live Deployment as it is compared: without defaults, other tools' marks, and with the role's names of volumes."""
    metadata = {key: told(deployment["metadata"].get(key) or {}) for key in ("labels", "annotations")}
    spec = plain(deployment["spec"], ("spec",))
    template = spec["template"]
    template.pop("creationTimestamp", None)
    inner = template.get("metadata") or {}
    template["metadata"] = {key: kept for key in ("labels", "annotations") if (kept := told(inner.get(key) or {}))}
    pod = template["spec"]
    for volume in pod.get("volumes") or []:
        volume["name"] = renamed.get(volume["name"], volume["name"])
    for container in (*pod["containers"], *(pod.get("initContainers") or [])):
        for mount in container.get("volumeMounts") or []:
            mount["name"] = renamed.get(mount["name"], mount["name"])
    return {"metadata": {key: kept for key, kept in metadata.items() if kept}, "spec": spec}


def rendered(deployment: Mapping) -> dict:
    """Give the rendered Deployment as it is compared."""
    spec = plain(deployment["spec"], ("spec",))
    template = spec["template"]["metadata"]
    for key in ("labels", "annotations"):
        if key in template:
            template[key] = told(template[key])
            template[key] or template.pop(key)
    metadata = {key: told(deployment["metadata"].get(key) or {}) for key in ("labels", "annotations")}
    return {"metadata": {key: kept for key, kept in metadata.items() if kept}, "spec": spec}


def dotted(path: Path) -> str:
    """Write a path for people: ``spec.template.spec.containers[vllm].image``."""
    text = ""
    for key in path:
        text += f"[{key[1]}]" if isinstance(key, tuple) else f".{key}"
    return text.lstrip(".")


def is_own(one: Difference) -> bool:
    """Tell whether the role does this in its own way, so that it is told and not patched."""
    path, live, _ = one
    text = dotted(path)
    return bool(OWN.match(text)) or (live is ABSENT and bool(ADDED.search(text)))


def patch(found: Iterable[Difference]) -> dict:
    """Write the patch that undoes differences: what the pod has is put in, what it has not is taken out."""
    result: dict = {}
    for path, live, _ in found:
        port = isinstance(path[-1], tuple) and path[-1][0] == "containerPort" and live is not ABSENT
        # A patch merges ports by their names.
        _put(result, path, {"name": f"port-{path[-1][1]}", **live} if port else live)
    return result


def _put(into: dict, path: Path, live: Any) -> None:
    key, rest = path[0], path[1:]
    if rest and isinstance(rest[0], tuple):
        name, value = rest[0]
        items = into.setdefault(key, [])
        item = next((one for one in items if one.get(name) == value), None)
        if item is None:
            item = {name: value}
            items.append(item)
        if rest[1:]:
            _put(item, rest[1:], live)
        elif live is ABSENT:
            item["$patch"] = "delete"
        else:
            item.update(live)
        return
    if rest:
        _put(into.setdefault(key, {}), rest, live)
    else:
        into[key] = None if live is ABSENT else live


def line(one: Difference) -> str:
    """Say what would change, with values only where they are short and no credential's."""
    path, live, ours = one
    text = dotted(path)
    if HIDDEN.search(text) and live is not ABSENT:
        return f"{text}: {'no longer there' if ours is ABSENT else 'as the role writes it'}"
    return f"{text}: {_short(hiding.hide(live))} -> {_short(hiding.hide(ours))}"


def _short(value: Any) -> str:
    if value is ABSENT:
        return "nothing"
    text = value if isinstance(value, str) else repr(value) if not isinstance(value, (dict, list)) else _outline(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _outline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(map(str, value)) + "}"
    return (
        "["
        + ", ".join(
            item if isinstance(item, str) else _outline(item) if isinstance(item, (dict, list)) else str(item)
            for item in value
        )
        + "]"
    )
