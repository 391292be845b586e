"""Compares one object with what the cluster has, by a dry run of the apply where that is in doubt; never writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    difference,
    fields,
    hiding,
    parking,
    settled,
    syncing,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.admission import Admission
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change, shown
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    JSON_PATCH,
    ApiError,
    Cluster,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity

# What others may set there, and what is sent where nothing is left.
METADATA: dict[str, dict | list] = {"labels": {}, "annotations": {}, "finalizers": [], "ownerReferences": []}


class Finding(NamedTuple):
    """What is to be said of one object."""

    problems: list[str]
    change: Change | None = None
    notices: Sequence[str] = ()


class Examiner:
    """Compares objects of a run with those of a cluster, one by one."""

    def __init__(
        self,
        cluster: Cluster,
        options: dict,
        live: Mapping[tuple, dict] | None = None,
        admission: Admission | None = None,
        roles: Collection[str] = (),
        released: Collection[str] = (),
    ):
        """Hold the inputs.

        Args:
            cluster: where to look.
            options: the arguments of the action ``modelyard.core.plan``.
            live: objects that were read already, by identity.
            admission: what an unchanged object meets on its way; without it each is dry-run.
            roles: names of the Roles that the same run makes.
            released: names of the Applications that it removes.
        """
        self.cluster = cluster
        self.manager, self.adoptable = options["field_manager"], options["adopt_managers"]
        self.force = options["force"]
        self.live, self.admission = live or {}, admission
        self.roles, self.released = roles, released
        self.syncing = syncing.Syncing(cluster, options)

    def holds(self, item: dict) -> bool:
        """Tell whether the cluster has an object as it is to be."""
        found = self.examine(item)
        return not found.problems and found.change is None

    def examine(self, item: dict) -> Finding:
        """Compare one object with the live one."""
        live, adoptable = None, self.adoptable
        try:
            live = self.live.get(identity(item))
            if not live or live["apiVersion"] != item["apiVersion"]:
                live = self.cluster.get(item)
            item, adoptable = parking.left(item, live, self.manager, adoptable, self.cluster.now)
            if live and self._is_settled(item, live, adoptable):
                return self._compare(item, live, live, adoptable)
            try:
                result = self._rehearsed(item, live, self.force, adoptable)
            except ApiError as error:
                conflicts = _conflicts(error)
                foreign = {name: paths for name, paths in conflicts.items() if not self._adopts(name, adoptable)}
                if not conflicts:
                    raise
                if foreign:
                    owners = "; ".join(f"{name} owns {', '.join(paths)}" for name, paths in foreign.items())
                    return Finding(
                        [
                            f"{describe(item)}: {owners}. Leave the field to its owner (replicas: set autoscaled), or take it with apply_force=true"
                        ]
                    )
                result = self._rehearsed(item, live, True, adoptable)
            if not live:
                return Finding([], Change("create", item, None, result))
            if (live["metadata"].get("deletionTimestamp")) is not None:
                return Finding([f"{describe(item)} is being deleted: wait until it is gone, then run again"])
            return self._compare(item, live, result, adoptable)
        except ApiError as error:
            if _waits_for_role(item, error, self.roles):
                return Finding([], Change("create", item, None, item))
            return Finding([_explain(item, error) + self._holders(live, error)])

    def rehearse(self, item: dict) -> list[str]:
        """Dry-run the creation of an object whose namespace does not exist yet, in one that always does.

        Policies of that namespace say nothing about the real one, so only what is wrong with the object itself counts.
        """
        there = {**item, "metadata": {**item["metadata"], "namespace": "default"}}
        path = self.cluster.path(item["apiVersion"], item["kind"], "default")
        try:
            self.cluster.request("POST", path, {"dryRun": "All", "fieldValidation": "Strict"}, there)
        except ApiError as error:
            foreign = error.status in (403, 409) and "attempting to grant" not in str(error)
            if foreign or "admission" in str(error) or _waits_for_role(item, error, self.roles):
                return []
            return [_explain(item, error)]
        return []

    def _is_settled(self, item: dict, live: dict, adoptable: list[str]) -> bool:
        """Tell whether a dry run would surely say that there is nothing to change."""
        # In this order: of the live object it is known that it is well-formed, and it has what others set.
        return bool(
            self.admission and settled.holds(item, live, self.manager, adoptable) and self.admission.passes(live)
        )

    def _holders(self, live: dict | None, error: ApiError) -> str:
        """Name those whose fields are left alone, where what they set may be what stands against ours."""
        others = fields.split(live, self.manager, self.adoptable)[2] if live and error.status == 422 else []
        names = sorted({entry["manager"] for entry in others if not entry.get("subresource")})
        if not names:
            return ""
        return (
            f". Fields of {', '.join(names)} are left alone: change them there, or add it to apply_adopt_managers, "
            "which takes them back"
        )

    def _adopts(self, manager: str, adoptable: list[str]) -> bool:
        # Ours, where kubectl wrote under our name: an update, which for the API server is another manager.
        return manager == self.manager or fields.matches(manager, adoptable)

    def _rehearsed(self, item: dict, live: dict | None, force: bool, adoptable: list[str]) -> dict:
        """Apply an object as a dry run.

        What a run takes over goes before it applies, but a dry run of the apply still meets it, and of some fields there can
        be only one: two ports of one name, httpGet beside tcpSocket. Then it is worked out without them.
        """
        try:
            return self.cluster.apply(item, self.manager, force, dry_run=True)
        except ApiError as error:
            if error.status != 422 or not live or not fields.split(live, self.manager, adoptable)[1]:
                raise
        taken = fields.absorbed(live, item, self.manager, adoptable)
        answer = self._replaced(item, live, fields.applied(live, item, taken, self.manager))
        answer["metadata"]["managedFields"] = taken
        return answer

    def _compare(self, item: dict, live: dict, result: dict, adoptable: list[str]) -> Finding:
        own, absorb, _ = fields.split(live, self.manager, adoptable)
        rest = fields.leftover(result, item, self.manager, adoptable)
        if rest:
            result = self._without(item, result, rest)
        takeover = bool(absorb)
        if fields.handed_over(item, own):
            takeover, result["spec"]["replicas"] = True, live["spec"]["replicas"]
        problems = [*self.syncing.keeps(live, self.released), *_kept(item, live)]
        notices = [*syncing.notices(live), *self._overdue(live)]
        if shown(live) == shown(result) and not takeover and own == fields.split(result, self.manager, adoptable)[0]:
            return Finding(problems, None, notices)
        change = Change("update", item, live, result, takeover, adoptable)
        for entry in absorb:
            trie = entry["fieldsV1"]
            found = difference.hidden(
                shown(live),
                shown(result),
                lambda path, trie=trie: fields.covers(trie, path) and path[-1] != hiding.NOTED,
            )
            taken = [difference.flat(lines) for lines in found]
            when = f"{entry['manager']} ({entry['time']})" if "time" in entry else entry["manager"]
            if taken:
                notices.append(f"{describe(item)}: taking back what {when} changed: {'; '.join(taken)}")
            elif not own:
                notices.append(f"{describe(item)}: adopting it from {when}")
        return Finding(problems, change, notices)

    def _overdue(self, live: dict) -> list[str]:
        """Say of a server that was to be woken by now that it is still parked."""
        note = parking.read(live) if live["kind"] == "Deployment" else {}
        if not parking.overdue(note, self.cluster.now):
            return []
        name = live["metadata"]["name"]
        return [
            f"{describe(live)}: {parking.told(note)}. It is left parked, though that is over: wake it with {job.playbook('wake', 'wake_servers', name)}"
        ]

    def _without(self, item: dict, result: dict, rest: dict) -> dict:
        """What the server would make of an object once the fields of ``rest`` are gone (it fills defaults in again)."""
        less = fields.remove({key: value for key, value in result.items() if key != "status"}, rest)
        answer = self._replaced(item, result, less)
        answer["metadata"]["managedFields"] = result["metadata"].get("managedFields", [])
        return answer

    def _replaced(self, item: dict, result: dict, less: dict) -> dict:
        """What the server would make of ``less`` in the place of ``result``."""
        changed = [
            {"op": "add", "path": f"/{key}", "value": value}
            for key, value in less.items()
            if key not in ("apiVersion", "kind", "metadata", "status")
        ]
        changed += [{"op": "remove", "path": f"/{key}"} for key in result if key not in less and key != "status"]
        changed += [
            {"op": "add", "path": f"/metadata/{key}", "value": less["metadata"].get(key, empty)}
            for key, empty in METADATA.items()
        ]
        query = {"dryRun": "All", "fieldManager": self.manager}
        answer = self.cluster.request("PATCH", self.cluster.object_path(item), query, changed, JSON_PATCH)
        for key in METADATA:
            if not answer["metadata"].get(key):
                answer["metadata"].pop(key, None)
        return answer


def _kept(item: dict, live: dict) -> list[str]:
    """Refuse what an apply would leave as it is, without an error."""
    if item["kind"] != "Service" or live["spec"].get("clusterIP") != "None" or item["spec"].get("clusterIP") == "None":
        return []
    return [
        f"{describe(item)} is headless (clusterIP: None), which can't be changed in place: delete it first ({deletion(item)})"
    ]


def deletion(item: dict) -> str:
    """Give the command that deletes an object."""
    metadata = item["metadata"]
    place = f"-n {metadata['namespace']} " if metadata.get("namespace") else ""
    return f"kubectl {place}delete {item['kind'].lower()} {metadata['name']}"


def _conflicts(error: ApiError) -> dict[str, list[str]]:
    """Managers in the way and the fields they own, from a conflict (409) of server-side apply."""
    found: dict[str, list[str]] = {}
    for cause in error.causes if error.status == 409 else []:
        if cause.get("reason") == "FieldManagerConflict":
            found.setdefault(cause["message"].split('"')[1], []).append(cause["field"].lstrip("."))
    return found


def _explain(item: dict, error: ApiError) -> str:
    """Say what the API server has against an object, and what to do."""
    name, text = describe(item), str(error)
    if error.status == 403:
        return f"{name}: forbidden: {text}"
    if "field is immutable" in text:
        return f"{name}: {text}. An immutable field can't be changed in place: delete the object first ({deletion(item)}), or give it back its old value"
    if "not declared in schema" in text or "unknown field" in text or "strict decoding" in text:
        return f"{name}: a field that Kubernetes does not know: {text}"
    return f"{name}: the API server refuses it ({error.status}): {text}"


def _waits_for_role(item: dict, error: ApiError, roles: Collection[str]) -> bool:
    """Tell whether a binding can't be dry-run only because the same run is to make its Role first."""
    return item["kind"] == "RoleBinding" and error.status == 404 and item["roleRef"]["name"] in roles
