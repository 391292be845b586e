"""Merges a user's raw patch into a rendered Deployment, and says what such a patch must leave; knows no more of the schema."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.servers.reading import dictionary
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# What a run finds the Deployment and its pods by, and what every other object of the server names.
KEPT = (
    "apiVersion",
    "kind",
    "metadata.name",
    "metadata.namespace",
    "spec.selector",
    "spec.template.metadata.labels.app",
)
# Lists of a pod whose items need a name; one without it would replace the list.
_NAMED = ("containers", "initContainers", "volumes", "env")
# Dictionaries of texts, and fields that take a text for a number.
_TEXTS = ("labels", "annotations", "matchLabels", "nodeSelector")
_NUMBER_OR_TEXT = ("maxSurge", "maxUnavailable", "port")
_QUANTITIES = ("requests", "limits")
Keys = tuple[str | int, ...]


def _named(items: object) -> bool:
    return isinstance(items, (list, tuple)) and all(isinstance(item, Mapping) and "name" in item for item in items)


def strategic(value: Any, patch: Any) -> Any:
    """Merge a patch into a value, as a strategic merge patch does, without knowing the schema.

    Args:
        value: what was rendered.
        patch: what to change: dictionaries merge key by key and null removes a key; lists whose items all have a
            ``name`` merge by it (``$patch: delete`` in an item removes the item); anything else replaces.

    Returns:
        the merged value; the arguments stay as they are.
    """
    if isinstance(value, Mapping) and isinstance(patch, Mapping):
        result = dict(value)
        for key, change in patch.items():
            if change is None:
                result.pop(key, None)
            else:
                result[key] = strategic(result.get(key), change)
        return result
    if isinstance(patch, Mapping):
        return {key: strategic(None, change) for key, change in patch.items() if change is not None}
    if value and patch and _named(value) and _named(patch):
        merged = {item["name"]: item for item in value}
        for item in patch:
            name = item["name"]
            if item.get("$patch") == "delete":
                merged.pop(name, None)
            else:
                merged[name] = strategic(merged.get(name), item)
        return list(merged.values())
    return patch


def errors(deployment: Mapping, patch: Mapping) -> list[tuple[Keys, Any, str]]:
    """Find what is wrong with a patch.

    Args:
        deployment: what was rendered.
        patch: what to change.

    Returns:
        for each the keys that lead to it in the patch, its value, and what is allowed there.
    """
    found = list(_misfits(deployment, patch, ()))
    if found:
        return found
    merged = strategic(deployment, patch)
    for path in KEPT:
        if _at(merged, path) != _at(deployment, path):
            return [
                (*_deepest(patch, path), f"a patch must leave {path} as it is: other objects, and later runs, go by it")
            ]
    containers = "spec.template.spec.containers"
    mine = _at(deployment, containers)[0]["name"]
    if all(item["name"] != mine for item in _at(merged, containers) or []):
        return [(*_deepest(patch, containers), f"a patch must leave the container {mine}")]
    return []


def _at(value: Any, path: str) -> Any:
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _deepest(patch: Any, path: str) -> tuple[Keys, Any]:
    """Follow a path as far as the patch has it."""
    keys: Keys = ()
    for key in path.split("."):
        if not isinstance(patch, Mapping) or key not in patch:
            break
        keys, patch = (*keys, key), patch[key]
    return keys, patch


def _misfits(value: Any, patch: Any, keys: Keys) -> Iterator[tuple[Keys, Any, str]]:
    """Find the places where a patch has another type than what it is merged over."""
    if patch is None or value is None:
        return
    if isinstance(value, Mapping):
        if not isinstance(patch, Mapping):
            yield keys, patch, "must be a dictionary, as what it is merged over"
            return
        # What is not rendered is compared with what could be.
        absent = "" if keys and keys[-1] in _TEXTS else None
        for key, change in patch.items():
            before = value.get(key, [{"name": ""}] if key in _NAMED else absent)
            yield from _misfits(before, change, (*keys, key))
    elif isinstance(value, (list, tuple)):
        yield from _list_misfits(value, patch, keys)
    elif wrong := _single_misfit(value, patch, keys):
        yield keys, patch, wrong


def _single_misfit(value: Any, patch: Any, keys: Keys) -> str | None:
    if isinstance(patch, (Mapping, list, tuple)):
        return "must be a single value, as what it is merged over"
    if isinstance(value, bool) or isinstance(patch, bool):
        wrong = "must be true or false" if isinstance(value, bool) else "must be no true or false"
        return None if isinstance(value, bool) and isinstance(patch, bool) else wrong
    if isinstance(value, str) and not isinstance(patch, str) and not {*keys[-2:]} & {*_QUANTITIES, "sizeLimit"}:
        return "must be a text: put it in quotes"
    if isinstance(value, int) and not isinstance(patch, int) and keys[-1] not in _NUMBER_OR_TEXT:
        return "must be a whole number"
    return None


def _list_misfits(value: Any, patch: Any, keys: Keys) -> Iterator[tuple[Keys, Any, str]]:
    if not isinstance(patch, (list, tuple)):
        yield keys, patch, "must be a list, as what it is merged over"
        return
    before = {item.get("name"): item for item in value if isinstance(item, Mapping)}
    for index, item in enumerate(patch):
        below = (*keys, index)
        if before and not isinstance(item, Mapping):
            yield below, item, "must be a dictionary, as what it is merged over"
        elif keys[-1] in _NAMED and not (isinstance(item.get("name"), str) and item["name"]):
            yield below, item, "must have a name, by which it is merged"
        elif before:
            yield from _misfits(before.get(item.get("name"), {}), item, below)


def applied(objects: list[dict], settings: Settings) -> list[dict]:
    """Merge a server's ``patch`` over its Deployment, unless something is wrong with it: that is noted."""
    patch = dictionary(settings, "patch")
    result = []
    for item in objects:
        mine = item["kind"] == "Deployment"
        wrong = errors(item, patch) if mine else []
        for keys, value, allowed in wrong:
            settings.wrong(value, allowed, "patch", *keys)
        result.append(strategic(item, patch) if mine and not wrong else item)
    return result
