"""Takes out of a live object what a field manager applied, to apply it again later; never asks a cluster.

client-go calls it Extract: https://pkg.go.dev/k8s.io/client-go/applyconfigurations
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields


def applied(live: dict, manager: str, adoptable: Iterable[str] = ()) -> dict:
    """Give an object as it would be applied to become what it is.

    Args:
        live: the object, with its ``managedFields``.
        manager: the field manager whose fields are taken.
        adoptable: patterns of further managers, whose edits are taken too.

    Returns:
        the object without what the API server, its defaults and other managers made of it.
    """
    # What hands nothing over: the live object itself has its replicas.
    ours = fields.absorbed(live, live, manager, list(adoptable))[-1]["fieldsV1"]
    found = _picked({key: value for key, value in live.items() if key != "status"}, ours)
    names = {key: live["metadata"][key] for key in ("name", "namespace") if key in live["metadata"]}
    metadata = {**names, **found.get("metadata", {})}
    return {**found, "apiVersion": live["apiVersion"], "kind": live["kind"], "metadata": metadata}


def _picked(value: Any, trie: dict) -> Any:
    """Keep of a part of an object the fields of a trie; one without anything below it is a leaf."""
    if not trie:
        return value
    if isinstance(value, dict):
        return {key: _picked(item, trie[f"f:{key}"]) for key, item in value.items() if f"f:{key}" in trie}
    if isinstance(value, list):
        found = [
            (item, next((sub for key, sub in trie.items() if fields.addresses(key, item)), None)) for item in value
        ]
        return [_picked(item, below) for item, below in found if below is not None]
    return value
