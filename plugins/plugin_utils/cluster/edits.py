"""Finds the fields in which a live object is not as the inventory says, and who wrote them; never asks a cluster.

The API server would tell it by a dry run of an apply, for which a credential must be allowed to write. So it is worked out from
``metadata.managedFields``: what nobody holds, the API server filled in; what lists are merged by is in the keys of their items.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import fields, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity

# What lists are merged by where nobody holds one, or another version of the API wrote it.
KEYS = {
    **dict.fromkeys(("containers", "initContainers", "env", "volumes", "imagePullSecrets"), ("name",)),
    "volumeMounts": ("mountPath",),
}
# Lists that are merged by name, and whose order matters.
ORDERED = ("initContainers", "env")
ORDER = "[order]"
QUANTITIES = ("requests", "limits", "sizeLimit", "divisor", "metrics")
# What controllers of Kubernetes' own write into objects that are not theirs.
CONTROLLERS = ["kube-*", "cloud-controller-manager", parking.MANAGER]
# What kubectl notes for itself, whoever parks, and who asks Argo CD for something.
NOTES = (
    fields.RESTARTED_AT,
    parking.NOTE,
    "kubectl.kubernetes.io/last-applied-configuration",
    # By which a person asks Argo CD to look again; it takes it away when it has.
    "argocd.argoproj.io/refresh",
)
# What Argo CD writes into all that it delivers; the second where it has an installationID.
TRACKING = ("argocd.argoproj.io/tracking-id", "argocd.argoproj.io/installation-id", "app.kubernetes.io/instance")
# The keys that Kubernetes sets itself; in a set the value has brackets.
KUBERNETES = re.compile(r"\[?([\w-]+\.)*(kubernetes|k8s)\.io/.*")
# Maps whose keys are fields of their own.
BY_KEY = ("labels", "annotations", "data", "binaryData")


@dataclass(frozen=True)
class Edit:
    """One field that is not as the inventory says.

    Attributes:
        what: ``changed``, ``removed`` (the inventory has it) or ``added`` (the inventory does not say it).
        path: as in ``fields.changes``.
        wanted: what the inventory says; ``None`` of one that was added.
        live: what the cluster has; ``None`` of one that was removed.
        writer: the entry of ``managedFields`` that holds it, without its fields; empty where nobody does.
    """

    what: str
    path: tuple
    wanted: Any
    live: Any
    writer: Mapping


class Comparison:
    """Compares one object with the live one.

    Attributes:
        edits: what differs.
        beside: fields that others set beside ours, and that are theirs to set.
        made: who made the object where no run did, as ``maker`` gives it; else ``None``.
    """

    def __init__(
        self, item: Mapping, live: Mapping, ours: Callable[[Mapping], bool], adoptable: list[str], fills: Callable
    ) -> None:
        """Compare.

        Args:
            item: the object as it is rendered.
            live: as the API server holds it.
            ours: tells whether an entry of ``managedFields`` is of those who apply what the inventory says.
            adoptable: patterns of managers that people write by: what they add anywhere, a run takes away.
            fills: ``Defaults.fills``.
        """
        self.item, self.adoptable, self.fills = item, adoptable, fills
        self.edits: list[Edit] = []
        self.beside: list[Edit] = []
        entries = [entry for entry in live["metadata"].get("managedFields") or [] if entry.get("fieldsV1") is not None]
        self.entries = [entry for entry in entries if entry.get("subresource") != "status"]
        self.ours = [ours(entry) for entry in self.entries]
        self.made = None if any(self.ours) else maker(live)
        tries = [entry["fieldsV1"] for entry in self.entries]
        for key in item:
            if key in ("apiVersion", "kind", "metadata", "status"):
                continue
            self._field(item[key], live, (key,), _below(tries, f"f:{key}"))
        for key in live:
            if key not in (*item, "status", "operation", "metadata", "apiVersion", "kind"):
                self._extra(live[key], live, (key,), _below(tries, f"f:{key}"))
        inside = _below(tries, "f:metadata")
        for key in ("labels", "annotations", "finalizers", "ownerReferences"):
            found = live["metadata"].get(key, type(item["metadata"].get(key, []))())
            self._walk(item["metadata"].get(key) or type(found)(), found, ("metadata", key), _below(inside, f"f:{key}"))

    def _field(self, wanted: Any, live: Mapping, path: tuple, tries: list) -> None:
        """Compare a field that the inventory sets, in the map that it is in."""
        if wanted is None:
            return
        if path[-1] in live:
            self._walk(wanted, live[path[-1]], path, tries)
        elif not self._dropped(wanted, path, tries):
            self._note("removed", path, wanted, None, tries)

    def _walk(self, wanted: Any, live: Any, path: tuple, tries: list) -> None:
        if isinstance(wanted, dict) and isinstance(live, dict):
            for key, value in wanted.items():
                self._field(value, live, (*path, key), _below(tries, f"f:{key}"))
            for key, value in live.items():
                if wanted.get(key) is None:
                    self._extra(value, live, (*path, key), _below(tries, f"f:{key}"))
        elif isinstance(wanted, list) and isinstance(live, list):
            self._list(wanted, live, path, tries)
        elif not same(path, wanted, live):
            self._note("changed", path, wanted, live, tries)

    def _list(self, wanted: list, live: list, path: tuple, tries: list) -> None:
        union: dict = {}
        for trie in tries:
            union = fields.union(union, trie or {})
        if any(key.startswith("v:") for key in union) or path[-1] == "finalizers":
            self._set(wanted, live, path, tries)
            return
        names = next((tuple(json.loads(key[2:])) for key in union if key.startswith("k:")), None)
        if not names and not any(trie == {} for trie in tries):
            names = KEYS.get(path[-1])
        if names:
            self._keyed(wanted, live, path, tries, names)
        else:
            self._whole(wanted, live, path, tries)

    def _set(self, wanted: list, live: list, path: tuple, tries: list) -> None:
        for value in wanted:
            if value not in live:
                self._note("removed", (*path, f"[{value}]"), value, None, tries)
        for value in live:
            if value not in wanted:
                self._extra(value, {}, (*path, f"[{value}]"), _item(tries, value))

    def _keyed(self, wanted: list, live: list, path: tuple, tries: list, names: tuple) -> None:
        pairs, rest = [], list(live)
        for one in wanted:
            other = next((it for it in rest if all(one.get(key, it.get(key)) == it.get(key) for key in names)), None)
            pairs.append((one, other))
            rest = [it for it in rest if it is not other]
        for one, other in pairs:
            if other is None and "name" in one:
                # The same item, of which a part of the key was edited: a Service's port.
                namesakes = [it for it in rest if it.get("name") == one["name"]]
                other = namesakes[0] if len(namesakes) == 1 else None
                rest = [it for it in rest if it is not other]
            here = (*path, _place(one, names))
            if other is None:
                self._note("removed", here, one, None, tries)
            else:
                self._walk(one, other, here, _item(tries, other))
        for other in rest:
            self._extra(other, {}, (*path, _place(other, names)), _item(tries, other))
        if path[-1] in ORDERED:
            kept = [other["name"] for _, other in pairs if other is not None]
            lives = [it["name"] for it in live if it["name"] in kept]
            if kept != lives and len(kept) == len(lives):
                # An order is nobody's.
                self._note("changed", (*path, ORDER), kept, lives, [None for _ in tries])

    def _whole(self, wanted: list, live: list, path: tuple, tries: list) -> None:
        """Compare a list that is one value; of one item that differs, by its fields."""
        found = []
        if len(wanted) == len(live):
            for place, (one, other) in enumerate(zip(wanted, live, strict=True)):
                edits, self.edits = self.edits, []
                self._walk(one, other, (*path, f"[{place}]"), tries)
                found, self.edits = [*found, self.edits], edits
            differing = [place for place, edits in enumerate(found) if edits]
            if not differing:
                return
            if len(differing) == 1 and isinstance(wanted[0], dict):
                place = differing[0]
                if len(found[place]) == 1:
                    self.edits += found[place]
                    return
                wanted, live, path = wanted[place], live[place], (*path, f"[{place}]")
        # In one order, as their texts are compared.
        bare = [json.loads(json.dumps(self._bare(items, path), sort_keys=True)) for items in (wanted, live)]
        self._note("changed", path, *bare, tries)

    def _bare(self, value: Any, path: tuple) -> Any:
        """Leave out what the API server fills in."""
        if isinstance(value, list):
            return [self._bare(item, (*path, "[]")) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self._bare(below, (*path, key))
            for key, below in value.items()
            if not self.fills(self.item, (*path, key), below, value)
        }

    def _dropped(self, wanted: Any, path: tuple, tries: list) -> bool:
        """Tell whether the API server leaves a field out although a run sent it: one that is empty. Who removes it takes it from us."""
        if wanted in ("", []):
            return True
        held = any(ours and trie is not None for trie, ours in zip(tries, self.ours, strict=True))
        # Of an object that no run applied, nobody can tell.
        held = held or (self.made is not None and wanted == {})
        # An empty selector selects everything.
        return not wanted and held and path[-1] not in ("podSelector", "namespaceSelector")

    def _extra(self, value: Any, beside: Mapping, path: tuple, tries: list) -> None:
        """Judge a field that the inventory does not set."""
        holders = [place for place, trie in enumerate(tries) if trie is not None]
        # Where nobody's books are left, an edit looks like a default: then only what is known to be filled in is none.
        if (self.entries and not holders) or path[-1] in NOTES or self._filled(path, value, beside):
            return
        # Whoever applies as kubectl did before server-side apply holds what the API server filled in, too.
        own = bool(holders) and all(self.ours[place] for place in holders)
        if own and (path[-1] in TRACKING or all(self.entries[place]["operation"] == "Update" for place in holders)):
            return
        if isinstance(value, dict) and not path[-1].startswith("[") and not any(trie == {} for trie in tries):
            below = {key: _below(tries, f"f:{key}") for key in value}
            held = [key for key, inner in below.items() if not tries or any(trie is not None for trie in inner)]
            if len(held) == 1 or path[-1] in BY_KEY:
                for key in held:
                    self._extra(value[key], value, (*path, key), below[key])
                return
        self._note("added", path, None, self._bare(value, path), tries)

    def _filled(self, path: tuple, value: Any, beside: Mapping) -> bool:
        if path[0] == "metadata" or path[0] in ("data", "binaryData", "stringData"):
            return False
        if path[-1] == "nodePort" and self.item["spec"].get("type") in ("NodePort", "LoadBalancer"):
            return False
        return self.fills(self.item, path, value, beside)

    def _note(self, what: str, path: tuple, wanted: Any, live: Any, tries: list) -> None:
        holders = [
            (entry, ours)
            for entry, ours, trie in zip(self.entries, self.ours, tries, strict=True)
            # Of what is gone only the place is left, which says nothing of who took it away.
            if trie is not None and what != "removed"
        ]
        others = [entry for entry, ours in holders if not ours]
        writers = others or [entry for entry, _ in holders]
        by = writer(max(writers, key=lambda entry: entry.get("time", ""))) if writers else {}
        edit = Edit(what, path, wanted, live, by)
        theirs = what == "added" and (others or not holders) and self._theirs(path, others)
        (self.beside if theirs else self.edits).append(edit)

    def _theirs(self, path: tuple, holders: list[Mapping]) -> bool:
        """Tell whether a field that was added is for those to set who hold it."""
        if path == ("spec", "replicas"):
            return True
        books = fields.BOOKKEEPERS if self.item["apiVersion"].startswith("argoproj.io/") else []
        keepers = bool(holders) and all(fields.matches(entry["manager"], [*CONTROLLERS, *books]) for entry in holders)
        if path[0] == "metadata" and not holders:
            # Nobody's books are left: then what has a known writer is that one's.
            return path[-1] in TRACKING or bool(KUBERNETES.fullmatch(path[-1]))
        if path[0] == "metadata":
            return keepers or not any(fields.matches(entry["manager"], self.adoptable) for entry in holders)
        return keepers


def same(path: tuple, wanted: Any, live: Any) -> bool:
    """Tell whether two values of a field mean the same: quantities by their amount."""
    if wanted == live and isinstance(wanted, bool) == isinstance(live, bool):
        return True
    if path[0] != "spec" or not any(key in path for key in QUANTITIES):
        return False
    try:
        return quantity.parse(wanted) == quantity.parse(live)
    except ValueError:
        return False


def _below(tries: list, key: str) -> list:
    """Go down one field; an empty trie holds all that is below."""
    return [trie if not trie else trie.get(key) for trie in tries]


def _item(tries: list, item: Any) -> list:
    """Go down to one item of a list."""
    return [
        trie if not trie else next((below for key, below in trie.items() if fields.addresses(key, item)), None)
        for trie in tries
    ]


def maker(live: Mapping) -> dict:
    """Give who made an object: the first who wrote what is still there."""
    entries = [entry for entry in live["metadata"].get("managedFields") or [] if not entry.get("subresource")]
    return writer(min(entries, key=lambda entry: entry.get("time", ""))) if entries else {}


def writer(entry: Mapping) -> dict:
    """Give who wrote what an entry of ``managedFields`` holds: manager, operation, subresource, time."""
    return {key: entry.get(key, "") for key in ("manager", "operation", "subresource", "time")} if entry else {}


def _place(item: Mapping, names: tuple) -> str:
    found = item.get("name") or "/".join(str(item.get(key)) for key in names if key != "protocol")
    return f"[{found}]"
