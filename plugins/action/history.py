"""Action ``modelyard.core.history``: see plugins/modules/history.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils import table
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import archive, delivery, releases
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

COLUMNS = ("release", "when (UTC)", "result", "commit", "by", "changes")
PAST = {"create": "created", "update": "updated", "prune": "pruned", "remove": "removed"}


class ActionModule(Action):
    """Show the releases of a cluster; writes nothing."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, number = options["rendered"], options["number"]
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, delivery.identity(rendered))
        damaged: list[str] = []
        records = releases.listed(cluster, rendered, damaged)
        name = rendered["cluster"]["name"]
        if number:
            record = next((one for one in records if one["number"] == number), None)
            if not record:
                there = ", ".join(str(one["number"]) for one in reversed(records)) or "none"
                raise Refused([f"history_release: there is no release {number}; there are: {there}"])
            for line in _details(record, rendered):
                self.tell(line)
        elif records:
            for line in _table([_row(record) for record in records], self.width):
                self.tell(line)
        else:
            self.tell(f"no run has left a record in namespace {delivery.scope(rendered)} yet")
        self.hand_on(history=_handed(records, damaged))
        report = {"cluster": name, "releases": records, "damaged": damaged}
        return {"changed": False, "report": report, "warnings": damaged}


def _handed(records: list[dict], damaged: list[str]) -> dict:
    """Give what is handed on of the records."""
    keys = ("time", "result", "by", "commit")
    rows = [{"release": one["number"], **{key: one[key] for key in keys}, "changes": short(one)} for one in records]
    right = [one["number"] for one in records if one["result"] == archive.SUCCEEDED]
    numbers = {"latest": max((one["number"] for one in records), default=0), "succeeded": max(right, default=0)}
    return {**numbers, "releases": rows, "damaged": damaged}


def _row(record: dict) -> list[str]:
    commit = record["commit"][:8] + ("-dirty" if record["clean"] == "no" else "")
    when = record["time"][:16].replace("T", " ")
    return [str(record["number"]), when, record["result"], commit, record["by"], short(record)]


def _table(rows: list[list[str]], width: int) -> list[str]:
    """Lay the rows out; where that is too wide, what each release changed stands below it, so that nothing of it is cut."""
    lines = table.columns(COLUMNS, rows)
    if not width or max(map(len, lines)) <= width:
        return lines
    head, *lines = table.columns(COLUMNS[:-1], [row[:-1] for row in rows], width)
    return [head, *(text for line, row in zip(lines, rows, strict=True) for text in (line, f"  {row[-1]}"))]


def short(record: dict) -> str:
    """Say in short what a release changed: how much, and first of all which servers."""
    words = [line.split() for line in record["changes"] if not line.startswith((" ", "..."))]
    counts = {word: sum(first == word for first, *_ in words) for word in PAST}
    counted = ", ".join(f"{count} {PAST[word]}" for word, count in counts.items() if count)
    names = [
        rest[1].rstrip(":,;").rpartition("/")[2] for _, *rest in words if len(rest) > 1 and rest[0] == "Deployment"
    ]
    back = [f"rollback to {record['rollback_to']}"] if record["rollback_to"] else []
    return ": ".join(filter(None, [*back, counted, ", ".join(dict.fromkeys(names))]))


def _details(record: dict, rendered: dict) -> list[str]:
    """Give all that is known of one release, a line each, and the command that prints its objects."""
    versions = [f"{name} {version}" for name, version in record["versions"].items() if name != "images"]
    ended = f" to {record['ended']}" if record["ended"] else ""
    jsonpath = "jsonpath={.binaryData." + archive.OBJECTS.replace(".", r"\.") + "}"
    name, namespace = archive.name_of(record["number"]), delivery.scope(rendered)
    return [
        f"release {record['number']}: {record['result']}, {record['time']}{ended}, by {record['by']}",
        f"inventory {record['inventory']}, commit {record['commit']} (clean: {record['clean']})",
        f"versions: {', '.join(versions)}",
        f"components: {', '.join(record['components'])}",
        *(f"image {image}" for image in record["versions"]["images"]),
        *record["changes"],
        *record["reason"].splitlines(),
        f"its objects: kubectl -n {namespace} get configmap {name} -o '{jsonpath}' | base64 -d | gunzip",
    ]
