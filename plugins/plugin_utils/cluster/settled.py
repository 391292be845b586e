"""Tells without a dry run that an apply would leave an object as it is; never asks a cluster, and never says so where there is doubt.

What a server-side apply does follows from the object that is applied, the live one and its ``managedFields``: it writes nothing where our
fields are the ones that the object sets, no more and no fewer, and the live object has their values. Whoever edited it since took a field
from us, or shares one, or wrote under our name: that shows in one of the two. What the API server does to every object on its
way (admission) is ``cluster/admission.py``'s to know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields, kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.defaults import BUILT_IN, filled
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity

# A number that the API server leaves out of what it keeps where it is zero.
OMITTED = ("spec", "minReadySeconds")
# Of metadata, what an apply sets.
METADATA = ("labels", "annotations", "finalizers", "ownerReferences")
# Maps that are one value, by the marker structType=atomic or mapType=atomic of Kubernetes' types, and of custom resources made of them.
# A map of another name that is held as one value was empty when it was applied.
ATOMIC = frozenset(
    (
        *("selector", "podSelector", "namespaceSelector", "labelSelector", "nodeSelector", "roleRef", "scaleTargetRef"),
        *("fieldRef", "resourceFieldRef", "configMapKeyRef", "secretKeyRef", "objectSelector"),
    )
)


def holds(item: Mapping, live: Mapping, manager: str, adoptable: list[str]) -> bool:
    """Tell whether an apply of an object surely changes neither the live one nor who owns which field.

    Args:
        item: the object to be applied.
        live: as the API server holds it.
        manager: our field manager.
        adoptable: patterns of managers whose fields a run takes over.
    """
    entries = live["metadata"].get("managedFields") or []
    ours = [one for one in entries if (one["manager"], one["operation"]) == (manager, "Apply")]
    if (
        len(ours) != 1
        or ours[0].get("subresource")
        or not item["apiVersion"] == live["apiVersion"] == ours[0]["apiVersion"]
    ):
        return False
    others = [one.get("fieldsV1") or {} for one in entries if one is not ours[0]]
    if fields.split(dict(live), manager, adoptable)[1] or live["metadata"].get("deletionTimestamp"):
        return False
    if {"status", "stringData"} & item.keys() or item["metadata"].keys() - {*METADATA, "name", "namespace"}:
        return False
    said = {key: value for key, value in item.items() if key not in ("apiVersion", "kind", "metadata")}
    if metadata := {key: item["metadata"][key] for key in METADATA if key in item["metadata"]}:
        said["metadata"] = metadata
    books = ours[0]["fieldsV1"]
    return bool(books) and _Walk(kinds.group_of(item["apiVersion"]) in BUILT_IN).same(said, live, books, others, ())


class _Walk:
    """Goes through an object, the live one and the tries of ``managedFields`` at once."""

    def __init__(self, built_in: bool) -> None:
        # Custom resources are kept as they were written; of Kubernetes' own the API server rewrites quantities and fills in defaults.
        self.built_in = built_in

    def same(self, wanted: Any, live: Any, trie: Mapping, others: list[Mapping], path: tuple) -> bool:
        """Tell whether what a part of the object sets is what we own of it, and what the live one has there."""
        if not trie:
            return self._leaf(wanted, live, others, path)
        if isinstance(wanted, dict) and isinstance(live, dict):
            return {f"f:{key}" for key in wanted} == trie.keys() and all(
                self.same(value, live[key], trie[f"f:{key}"], _below(others, f"f:{key}"), (*path, key))
                if key in live
                else self.built_in and (*path, key) == OMITTED and value == 0 and not _below(others, f"f:{key}")
                for key, value in wanted.items()
            )
        if isinstance(wanted, list) and isinstance(live, list):
            if all(key.startswith("v:") for key in trie):
                return self._set(wanted, live, trie)
            return self._keyed(wanted, live, trie, others, path)
        return False

    def _leaf(self, wanted: Any, live: Any, others: list[Mapping], path: tuple) -> bool:
        # Of a value that somebody else owns, too, each difference is a conflict: it is compared before defaults are filled in.
        if wanted is None or (others and wanted != live):
            return False
        # Where somebody holds parts of it, it is not one value: it was empty when we applied it.
        if isinstance(wanted, dict | list) and wanted and any(others):
            return False
        return not (isinstance(wanted, dict) and wanted and path[-1] not in ATOMIC) and self._equal(wanted, live, path)

    def _equal(self, wanted: Any, live: Any, path: tuple) -> bool:
        """Compare values, of which the live one may have what the API server fills in."""
        if type(wanted) is not type(live):
            return self._amount(wanted, live, path)
        if isinstance(wanted, dict):
            return wanted.keys() <= live.keys() and all(
                self._equal(wanted[key], value, (*path, key))
                if key in wanted
                else self.built_in and filled((*path, key), value)
                for key, value in live.items()
            )
        if isinstance(wanted, list):
            # Items have no names in the paths of defaults.
            return len(wanted) == len(live) and all(
                self._equal(one, other, path) for one, other in zip(wanted, live, strict=True)
            )
        return wanted == live or self._amount(wanted, live, path)

    def _amount(self, wanted: Any, live: Any, path: tuple) -> bool:
        """Tell whether two values are one quantity, where a quantity stands."""
        resources = path[-3:-1] in (("resources", "requests"), ("resources", "limits"))
        if not self.built_in or not (resources or path[-2:] == ("emptyDir", "sizeLimit")):
            return False
        # It is rewritten within its format: 1Gi and 1073741824 are two values.
        texts = str(wanted), str(live)
        if texts[0].endswith("i") != texts[1].endswith("i") or any("e" in text.lower() for text in texts):
            return False
        try:
            return quantity.parse(wanted) == quantity.parse(live)
        except ValueError:
            return False

    def _set(self, wanted: list, live: list, trie: Mapping) -> bool:
        """Compare a list whose items are its keys."""
        ours = sorted(json.dumps(json.loads(key[2:])) for key in trie)
        return sorted(map(json.dumps, wanted)) == ours and [one for one in live if one in wanted] == wanted

    def _keyed(self, wanted: list, live: list, trie: Mapping, others: list[Mapping], path: tuple) -> bool:
        """Compare a list that is merged by keys of its items; the order counts, that of the others' items beside ours does not."""
        places = []
        for key, below in trie.items():
            if not key.startswith("k:") or "." not in below:
                return False
            mine = [one for one in wanted if fields.addresses(key, one, defaulted=True)]
            there = [place for place, one in enumerate(live) if fields.addresses(key, one)]
            if len(mine) != 1 or len(there) != 1 or not isinstance(mine[0], dict):
                return False
            inner = {name: one for name, one in below.items() if name != "."}
            # Its keys are fields of it: an item that is held without any is not one that was applied.
            if not inner or not self.same(mine[0], live[there[0]], inner, _below(others, key), path):
                return False
            places.append((next(place for place, one in enumerate(wanted) if one is mine[0]), there[0]))
        found = [there for _, there in sorted(places)]
        return len({place for place, _ in places}) == len(wanted) and found == sorted(found)


def _below(tries: list[Mapping], key: str) -> list[Mapping]:
    return [trie[key] for trie in tries if key in trie]
