"""Merges a user's raw patch into a rendered Deployment; knows no schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


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


def patched(objects: list[dict], servers: list[dict]) -> list[dict]:
    """Apply each server's ``patch`` to its Deployment."""
    patches = {server["name"]: server["patch"] for server in servers if server.get("patch")}
    return [
        strategic(item, patches[item["metadata"]["name"]])
        if item["kind"] == "Deployment" and item["metadata"]["name"] in patches
        else item
        for item in objects
    ]
