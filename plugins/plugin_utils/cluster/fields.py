"""Works out who owns which field, from ``metadata.managedFields``; never asks a cluster.

The format is FieldsV1 (structured-merge-diff): a trie whose keys are ``f:<field>``, ``k:<keys of a list item>``,
``v:<value of a set>`` and ``.`` (the thing itself).
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase

# kubectl rollout restart writes this; taking it back would restart the pods once more.
RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"

# Argo CD's controllers in kinds of Argo CD's: they keep their own books there, the status among them. In what an Application
# delivers they are owners like others.
BOOKKEEPERS = ["argocd-*controller"]


def union(one: dict, other: dict) -> dict:
    """Merge two FieldsV1 tries into a new one."""
    return {key: union(one.get(key, {}), other.get(key, {})) for key in {**one, **other}}


def difference(one: dict, other: dict) -> dict:
    """Return what of trie ``one`` is not in trie ``other``, leaf by leaf."""
    left = {}
    for key, below in one.items():
        if key not in other:
            left[key] = below
        elif below:
            rest = difference(below, other[key])
            if rest:
                left[key] = rest
    return left


def matches(manager: str, patterns: list[str]) -> bool:
    """Tell whether a manager's name matches one of the patterns (``fnmatch``; a leading ``!`` excludes)."""
    if any(fnmatchcase(manager, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(fnmatchcase(manager, pattern) for pattern in patterns)


def split(live: dict, manager: str, adoptable: list[str]) -> tuple[dict, list[dict], list[dict]]:
    """Sort an object's owners.

    Args:
        live: the object as the API server holds it.
        manager: our field manager.
        adoptable: patterns of managers whose fields we take over.

    Returns:
        our fields, the entries to take over, and the entries of all others.
    """
    own, absorb, others = {}, [], []
    for entry in live["metadata"].get("managedFields", []):
        subresource = entry.get("subresource", "")
        if entry["manager"] == manager and entry["operation"] == "Apply" and not subresource:
            own = entry["fieldsV1"]
        elif (
            subresource in ("", "scale")
            and entry.get("apiVersion") in (live["apiVersion"], "autoscaling/v1")
            # Ours by an update: kubectl's, by our name.
            and (entry["manager"] == manager or matches(entry["manager"], adoptable))
            and not (live["apiVersion"].startswith("argoproj.io/") and matches(entry["manager"], BOOKKEEPERS))
            and (without_status(entry["fieldsV1"]) or not mark(entry["fieldsV1"]))
        ):
            absorb.append(entry)
        else:
            others.append(entry)
    return own, absorb, others


def without_status(trie: dict) -> dict:
    """Leave ``status`` and the restart mark out of a trie: neither is ours to take."""

    def prune(below):
        marked = f"f:{RESTARTED_AT}" in below
        kept = {}
        for key, value in below.items():
            rest = prune(value)
            # Who holds the map itself holds the mark.
            if key != f"f:{RESTARTED_AT}" and not (marked and key == ".") and (rest or not value):
                kept[key] = rest
        return kept

    return prune({key: value for key, value in trie.items() if key != "f:status"})


def mark(trie: dict) -> dict:
    """Return what of a trie is the restart mark: it stays its manager's, since with a map that is taken goes what nobody holds."""
    return difference({key: value for key, value in trie.items() if key != "f:status"}, without_status(trie))


def handed_over(item: dict, own: dict) -> dict:
    """Find fields that leave our hands without going: replicas that an autoscaler is to own from now on.

    Leaving them out of an apply would remove them, and the API server would put its default there: one pod.

    Args:
        item: the object to be applied.
        own: our fields of the live one.
    """
    ours = "f:replicas" in own.get("f:spec", {})
    return (
        {"f:spec": {"f:replicas": {}}}
        if ours and item["kind"] == "Deployment" and "replicas" not in item["spec"]
        else {}
    )


def absorbed(live: dict, item: dict, manager: str, adoptable: list[str]) -> list[dict]:
    """The ``managedFields`` with every adoptable manager's fields made ours, so that the next apply removes what we don't set.

    This is what client-go's ``csaupgrade`` does for kubectl's client-side apply. What ``item`` hands over is nobody's then.
    """
    own, absorb, others = split(live, manager, adoptable)
    for entry in absorb:
        if entry.get("subresource") != "scale":
            own = union(own, without_status(entry["fieldsV1"]))
            if left := mark(entry["fieldsV1"]):
                others = [*others, {**entry, "fieldsV1": left}]
        elif "f:replicas" in entry["fieldsV1"].get("f:spec", {}):
            own = union(own, {"f:spec": {"f:replicas": {}}})
    own = difference(own, handed_over(item, own))
    ours = {
        "manager": manager,
        "operation": "Apply",
        "apiVersion": live["apiVersion"],
        "fieldsType": "FieldsV1",
        "fieldsV1": own,
    }
    return [*others, ours]


def leftover(result: dict, item: dict, manager: str, adoptable: list[str]) -> dict:
    """Fields that only adopted managers hold after a (dry-run) apply of ``item``: those that the take-over will remove."""
    own, absorb, others = split(result, manager, adoptable)
    taken: dict = {}
    for entry in absorb:
        if not entry.get("subresource"):
            taken = union(taken, without_status(entry["fieldsV1"]))
    held: dict = {}
    for kept in [own, *(entry["fieldsV1"] for entry in others)]:
        taken, held = difference(taken, kept), union(held, kept)
    return unset(taken, item, held)


def remove(value, trie: dict):
    """Return ``value`` without the fields of ``trie``.

    Args:
        value: a (part of an) object.
        trie: FieldsV1 below that part.
    """
    if isinstance(value, dict):
        kept = {}
        for key, below in value.items():
            gone = trie.get(f"f:{key}")
            if gone is None:
                kept[key] = below
            elif gone and not (set(gone) == {"."} and not below):
                rest = remove(below, gone)
                # What is emptied goes, as for the API server: an os without a name would be refused.
                if rest not in ({}, []) or rest == below:
                    kept[key] = rest
        return kept
    if isinstance(value, list):
        kept = []
        for item in value:
            below = next((sub for key, sub in trie.items() if addresses(key, item)), None)
            if below is None:
                kept.append(item)
            elif below and "." not in below:
                kept.append(remove(item, below))
        return kept
    return value


def applied(live: dict, item: dict, managed: list[dict], manager: str) -> dict:
    """Work out what a server-side apply makes of an object, before the API server fills in defaults.

    Args:
        live: the object as it is.
        item: what is applied.
        managed: the ``managedFields`` that the object then has; what of them only ours and not in ``item`` goes.
        manager: our field manager.

    Returns:
        the object, without ``status``.
    """
    own, _, others = split({**live, "metadata": {**live["metadata"], "managedFields": managed}}, manager, [])
    known, held = own, {}
    for entry in others:
        own, held = difference(own, entry["fieldsV1"]), union(held, entry["fieldsV1"])
        known = union(known, entry["fieldsV1"])
    kept = {key: value for key, value in live.items() if key != "status"}
    return merge(remove(kept, unset(own, item, held)), item, known)


def unset(trie: dict, item, held: dict) -> dict:
    """Return what of a trie an object does not set.

    A field that it does not set, and of which nobody else holds a part, is given as a whole: what defaults filled in below it
    is nobody's, and goes with it (a probe's thresholds).

    Args:
        trie: FieldsV1.
        item: the (part of an) object.
        held: FieldsV1 of the others.
    """
    left = {}
    for key, below in trie.items():
        whole = False
        if key.startswith("f:") and isinstance(item, dict):
            found = [item[key[2:]]] if key[2:] in item else []
            whole = key not in (*held, "f:labels", "f:annotations")
        elif key == "." or not isinstance(item, list):
            continue
        else:
            found = [one for one in item if addresses(key, one, defaulted=True)]
        rest = unset(below, found[0], held.get(key, {})) if found else {} if whole else below
        if not found or rest:
            left[key] = rest
    return left


def merge(live, item, trie: dict):
    """Lay an object over the live one as server-side apply does.

    Args:
        live: a part of the live object.
        item: the same part of what is applied.
        trie: FieldsV1 of that part, of all managers: its keys tell which lists are merged, and by what.
    """
    if isinstance(live, dict) and isinstance(item, dict):
        below = {key: trie.get(f"f:{key}") for key in item}
        return live | {
            # An empty trie is a leaf: a map that is one value.
            key: value if key not in live or below[key] == {} else merge(live[key], value, below[key] or {})
            for key, value in item.items()
        }
    names = next((list(json.loads(key[2:])) for key in trie if key.startswith("k:")), None)
    if isinstance(live, list) and isinstance(item, list) and names:
        merged, rest = [], list(live)
        for one in item:
            same = [all(one.get(name, other.get(name)) == other.get(name) for name in names) for other in rest]
            other = rest.pop(same.index(True)) if True in same else {}
            below = next((sub for key, sub in trie.items() if addresses(key, other)), {})
            merged.append(merge(other, one, below))
        return [*merged, *rest]
    if isinstance(live, list) and isinstance(item, list) and any(key.startswith("v:") for key in trie):
        return [*live, *(one for one in item if one not in live)]
    return item


def addresses(key: str, item, defaulted: bool = False) -> bool:
    """Tell whether a key of a trie means an item of a list; ``defaulted`` where the item is not live yet, but what is applied."""
    if key.startswith("v:"):
        return json.loads(key[2:]) == item
    if key.startswith("k:") and isinstance(item, dict):
        # A part of a key may be left to its default: a port's protocol.
        return all(
            item.get(name, wanted if defaulted else None) == wanted for name, wanted in json.loads(key[2:]).items()
        )
    return False


def changes(before, after, path: tuple = ()) -> list[tuple[tuple, object, object]]:
    """List the leaves in which two objects differ.

    Returns:
        tuples of path, old and new value. A path is made of keys, and of ``[name]`` for an item of a list whose
        items carry names: those are compared by name, not by place.
    """
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            change for key in {**before, **after} for change in changes(before.get(key), after.get(key), (*path, key))
        ]
    if isinstance(before, list) and isinstance(after, list):
        one, other = _by_name(before), _by_name(after)
        if one is not None and other is not None:
            return [
                change
                for key in {**one, **other}
                for change in changes(one.get(key), other.get(key), (*path, f"[{key}]"))
            ]
    return [] if before == after else [(path, before, after)]


def _by_name(items: list) -> dict | None:
    if all(isinstance(item, dict) and "name" in item for item in items):
        return {item["name"]: item for item in items}
    return None


def dotted(path: tuple) -> str:
    """Write a path of ``changes`` as people do: ``spec.template.spec.containers[vllm].image``."""
    return ".".join(path).replace(".[", "[")


def covers(trie: dict, path: tuple) -> bool:
    """Tell whether a trie holds the field at a path of ``changes`` (or a part of it)."""
    if not path or not trie:
        return True
    first, rest = path[0], path[1:]
    if first.startswith("["):
        items = {key: below for key, below in trie.items() if key.startswith("k:")}
        named = [below for key, below in items.items() if json.loads(key[2:]).get("name") == first[1:-1]]
        # An item may have had another name.
        return any("f:name" in below or covers(below, rest) for below in named or items.values())
    return f"f:{first}" in trie and covers(trie[f"f:{first}"], rest)


def leaves(trie: dict, path: tuple = ()) -> list[str]:
    """Name the fields of a trie for people: ``spec.replicas``, ``metadata.labels.team``."""
    found = []
    for key, below in trie.items():
        here = path if key == "." else (*path, key.split(":", 1)[1])
        inner = leaves(below, here)
        found += inner or [dotted(here)]
    return list(dict.fromkeys(found))
