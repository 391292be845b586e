"""Says what of a cluster needs a person: broken, drifted, too close to its limit, idle and costing; never asks a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import archive
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.fit import amount_of
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.report import rows
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import memory

BROKEN, DRIFTED, LIMIT, IDLE = "broken", "drifted", "limit", "idle"
# In the order of the page.
KINDS = (BROKEN, DRIFTED, LIMIT, IDLE)
# Of a node's CPU or memory, and of a ResourceQuota. GPUs are given away whole: all of them taken is no alarm.
CLOSE = 0.9
RESTARTS = 3
JUDGE = "vllm_judge"
ENDED = {
    archive.FAILED: "failed",
    archive.ROLLED_BACK: "failed and was rolled back",
    archive.INTERRUPTED: "was interrupted",
}
# Of a reason, which may tell a whole log.
LONGEST = 200
HEALTH = ("Degraded", "Missing")


def of(report: Mapping, now: datetime) -> list[dict]:
    """Judge one cluster.

    Args:
        report: of ``modelyard.core.report``, whose ``servers`` are of ``rows.rows``.
        now: by the cluster's clock.

    Returns:
        of each finding ``kind`` (one of ``KINDS``), ``server`` (its name, ``""`` for the cluster itself) and ``text``, by kind.
    """
    if not report["answers"]:
        return [_finding(BROKEN, "", silence(report["why"])), *_refused(report)]
    found = [
        *_refused(report),
        *_cluster(report),
        *_drifted(report),
        *(one for row in report["servers"] for one in _server(row, now)),
    ]
    return sorted(found, key=lambda one: KINDS.index(one["kind"]))


def silence(why: str) -> str:
    """Say that a cluster could not be looked at."""
    return why if "does not answer" in why else f"could not be looked at: {why}"


def _finding(kind: str, server: str, text: str) -> dict:
    return {"kind": kind, "server": server, "text": text}


def _refused(report: Mapping) -> list[dict]:
    if not report["problems"]:
        return []
    more = f", and {len(report['problems']) - 1} more" if report["problems"][1:] else ""
    return [_finding(BROKEN, "", f"a run would refuse its inventory: {report['problems'][0]}{more}")]


def _cluster(report: Mapping) -> list[dict]:
    found = []
    for one in report["applications"]:
        if one["health"] in HEALTH or one["why"] or one["sync"] == "-":
            state = "absent" if one["sync"] == "-" else f"health {one['health']}, sync {one['sync']}"
            why = f": {one['why']}" if one["why"] else ""
            found.append(_finding(BROKEN, "", f"Application {one['application']}: {state}{why}"))
        elif one["sync"] == "OutOfSync":
            found.append(_finding(DRIFTED, "", f"Application {one['application']} is out of sync with Git"))
    last = next(iter(report["releases"]), None)
    if last and last["result"] not in (archive.RUNNING, archive.SUCCEEDED):
        why = f": {last['reason'].splitlines()[0][:LONGEST]}" if last["reason"] else ""
        found.append(_finding(BROKEN, "", f"the last release, {last['number']}, {ENDED[last['result']]}{why}"))
    for chain in report["chains"]:
        if chain.get("broken"):
            why = f"{chain['broken']}: {chain['reason']}"
            found.append(_finding(BROKEN, "", f"{chain['service_account']} does not reach its objects in S3: {why}"))
    for one in report["quotas"]:
        if one["share"] > CLOSE:
            used = f"{one['used']} of {one['hard']} {one['resource']}"
            found.append(_finding(LIMIT, "", f"ResourceQuota {one['quota']}: {used} used, {one['share']:.0%}"))
    return found


def _drifted(report: Mapping) -> list[dict]:
    """Tell of each object that is not as the inventory says; one that is absent makes its server broken."""
    objects: dict[tuple, list[Mapping]] = {}
    for one in report["drift"]:
        if not (one["kind"] == "Deployment" and one["server"] and one["what"] == "absent"):
            objects.setdefault((one["server"], one["kind"], one["name"]), []).append(one)
    found = []
    for (server, kind, name), edits in objects.items():
        more = f", and {len(edits) - 1} more" if edits[1:] else ""
        found.append(_finding(DRIFTED, server, f"{kind} {name}: {edits[0]['text'][:LONGEST]}{more}"))
    return found


def _server(row: Mapping, now: datetime) -> Iterable[dict]:
    name, ready = row["server"], f"{row['ready']} of {row['wanted']} ready"
    if row["state"] == rows.BROKEN:
        yield _finding(BROKEN, name, f"{ready}: {row['why']}")
    elif row["state"] == rows.ABSENT:
        yield _finding(BROKEN, name, f"not deployed: {row['why']}")
    if row["wanted"]:
        yield from _limits(row)
    price = row["cost"]["now"]
    costs = f", ${price:,.2f} per hour" if price else ""
    if row["state"] == rows.PARKED:
        late = rows.age(row["parked"]["until"], now)
        if late:
            yield _finding(IDLE, name, f"parked until {row['parked']['until']}, and nobody woke it")
    elif row["role"] == JUDGE and row["wanted"]:
        yield _finding(IDLE, name, f"the judge is awake{_for(row['age'])}{costs}: park it unless something asks it")
    elif row["gpus"] and row["state"] == rows.BROKEN and not row["ready"] and row["nodes"]:
        held = f"{row['gpus'] * len(row['nodes'])} GPU{'s'[: row['gpus'] * len(row['nodes']) > 1]}"
        yield _finding(IDLE, name, f"holds {held}{_for(row['age'])}, and no pod is ready{costs}")


def _for(seconds: float | None) -> str:
    return "" if seconds is None else f" for {lasting(seconds)}"


def lasting(seconds: float) -> str:
    """Write a time for people, in its largest unit."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _limits(row: Mapping) -> Iterable[dict]:
    name = row["server"]
    if row["verdict"] in (memory.CLOSE, memory.MISFIT):
        yield _finding(LIMIT, name, f"GPU memory: {row['verdict']}: {row['verdict_why']}")
    for resource in ("cpu", "memory"):
        share = row["shares"].get(resource, 0)
        if share > CLOSE:
            yield _finding(
                LIMIT, name, f"asks for {share:.0%} of its node's {'CPU' if resource == 'cpu' else resource}"
            )
    if row["killed"]:
        yield _finding(LIMIT, name, f"ran out of memory: container {', '.join(row['killed'])} was killed")
    if row["restarts"] >= RESTARTS:
        yield _finding(LIMIT, name, f"{row['restarts']} restarts of its pods")


def quotas(found: Iterable[Mapping]) -> list[dict]:
    """Say how full ResourceQuotas are.

    Args:
        found: live ones.

    Returns:
        of each resource that one limits ``quota`` (its name), ``resource``, ``used``, ``hard`` (texts) and ``share``, the fullest first.
    """
    result = []
    for quota in found:
        status = quota.get("status") or {}
        for resource, hard in (status.get("hard") or {}).items():
            used, most = (quantity.parse(value) for value in ((status.get("used") or {}).get(resource, 0), hard))
            amounts = {"used": amount_of(_plain(resource), used), "hard": amount_of(_plain(resource), most)}
            share = float(used / most) if most else float(used > 0)
            result.append({"quota": quota["metadata"]["name"], "resource": resource, **amounts, "share": share})
    return sorted(result, key=lambda one: -one["share"])


def _plain(resource: str) -> str:
    return resource.rpartition(".")[2] if resource.startswith(("requests.", "limits.")) else resource


def applications(found: Iterable[Mapping] | None, wanted: Iterable[str]) -> list[dict]:
    """Say what Argo CD says of each Application.

    Args:
        found: live ones; None where they could not be read.
        wanted: names of those that the inventory asks for.

    Returns:
        ``application``, ``sync`` (``-`` for one that is absent), ``health``, ``revision`` and ``why``.
    """
    if found is None:
        return []
    live = {item["metadata"]["name"]: item for item in found}
    return [_application(name, live.get(name)) for name in sorted({*wanted, *live})]


def _application(name: str, item: Mapping | None) -> dict:
    status = (item or {}).get("status") or {}
    sync, running = status.get("sync") or {}, status.get("operationState") or {}
    errors = [one.get("message", "") for one in status.get("conditions") or [] if "Error" in str(one.get("type"))]
    failed = [running.get("message", "")] if running.get("phase") in ("Failed", "Error") else []
    return {
        "application": name,
        "sync": sync.get("status") or ("not looked at yet" if item else "-"),
        "health": (status.get("health") or {}).get("status") or "-",
        "revision": (sync.get("revision") or "-")[:12],
        "why": "; ".join(text for text in (*errors, *failed) if text),
    }
