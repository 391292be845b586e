"""Action ``modelyard.core.report``: see plugins/modules/report.py for its arguments."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, releases, syncing
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    Cluster,
    Unreachable,
    readable,
    within,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.drift import Drift
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.rollout import redact
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.report import findings, live, rows

# Where one of these is, somebody means AWS to be asked; boto3's own search would ask the machine for a role, and wait for it.
CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
# A cluster that takes longer is one that does not answer: a page of many clusters waits for the slowest.
ANSWERS_SECONDS = 30
RELEASES = 5
RELEASE = ("number", "time", "by", "inventory", "commit", "clean", "result", "reason", "rollback_to")
NOT_LOOKED_AT = "not looked at: there are no AWS credentials"


class ActionModule(Action):
    """Say how every server of a cluster is; never fails by what it finds, nor by what does not answer."""

    share = 0.8

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = options["rendered"]
        report = _empty(rendered, task_vars.get("inventory_hostname") or rendered["cluster"]["name"])
        now = datetime.now(UTC)
        try:
            cluster, seen, more = within(ANSWERS_SECONDS, lambda: _look(options["connection"], rendered))
        except Failure as error:
            report["why"] = redact(str(error))
        else:
            now = seen.now
            report |= _looked_at(rendered, seen) | more
            report |= _identity(cluster, rendered, options["identity"])
        report["findings"] = findings.of(report, now)
        self.tell(_told(report))
        self.hand_on(report=_handed(report))
        return {"changed": False, "report": report}


def _look(connection: dict, rendered: Mapping) -> tuple[Cluster, live.Live, dict]:
    cluster = Cluster(connection)
    planning.check_cluster(cluster, delivery.identity(rendered))
    kept, damaged = _releases(cluster, rendered)
    differences, unread = _drift(cluster, rendered)
    seen = live.read(cluster, rendered)
    return cluster, seen, {"releases": kept, "drift": differences, "unread": [*seen.unread, *damaged, *unread]}


def _releases(cluster: Cluster, rendered: Mapping) -> tuple[list[dict], list[str]]:
    """Give the last releases, and what stands against reading them all."""
    damaged: list[str] = []
    found = readable(releases.listed, cluster, rendered, damaged)
    if found is None:
        return [], ["the records of releases"]
    kept = [{key: one[key] for key in RELEASE} | {"changes": len(one["changes"])} for one in found[:RELEASES]]
    return kept, damaged


def _drift(cluster: Cluster, rendered: Mapping) -> tuple[list[dict], list[str]]:
    """Give what lives and is not as the inventory says, each with the server that it belongs to; and what was not compared."""
    if rendered["problems"]:
        return [], []
    try:
        drift = Drift(cluster, rendered)
    except Unreachable:
        raise
    except Failure as error:
        return [], [f"what differs from the inventory: {redact(str(error))}"]
    parts = [part for part in rendered["parts"] if "needs" in part]
    owners = {identity(item): part["name"] for part in parts for item in part["objects"]}
    # What Argo CD says of its Applications is told by itself.
    found = [one for one in drift.found if one.edit.what != "application"]
    return [
        {"server": owners.get(identity(one.item), ""), **one.report(), "text": one.lines()[0]} for one in found
    ], drift.unread


def _empty(rendered: Mapping, host: str) -> dict:
    """Give the report of a cluster that was not reached."""
    cluster = rendered["cluster"]
    return {
        "host": host,
        "cluster": cluster["name"],
        "region": cluster.get("region") or "",
        "namespace": cluster["namespace"],
        "delivery": cluster["delivery"],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "answers": False,
        "why": "",
        "expected": [part["name"] for part in rendered["parts"] if part["enabled"] and "needs" in part],
        "problems": rendered["problems"],
        "servers": [],
        "applications": [],
        "quotas": [],
        "releases": [],
        "drift": [],
        "chains": [],
        "identity": NOT_LOOKED_AT,
        "unread": [],
        "cost_per_hour": None,
        "unpriced": [],
    }


def _looked_at(rendered: Mapping, seen: live.Live) -> dict:
    cost, unpriced = rows.cost_per_hour(rendered, seen)
    return {
        "answers": True,
        "at": seen.now.isoformat(timespec="seconds"),
        "servers": rows.rows(rendered, seen),
        "applications": findings.applications(seen.applications, _wanted(rendered)),
        "quotas": findings.quotas(seen.quotas),
        "cost_per_hour": cost,
        "unpriced": unpriced,
    }


def _wanted(rendered: Mapping) -> list[str]:
    """Name the Applications that the inventory asks for."""
    items = delivery.objects(rendered, gitops=True) if delivery.is_gitops(rendered) else []
    named = [item["metadata"]["name"] for item in items if item["kind"] == "Application"]
    return named + [name for item in items for _, _, _, name in syncing.generated(item)]


def _identity(cluster: Cluster, rendered: Mapping, wanted: bool) -> dict:
    """Follow the chains to S3 where AWS is to be asked; what does not let it is told, and is no error."""
    settings = rendered["settings"]["irsa"]
    meant = settings["aws_profile"] or settings["aws_profiles"] or any(os.environ.get(name) for name in CREDENTIALS)
    if not wanted or rendered["problems"] or not meant:
        return {"identity": NOT_LOOKED_AT if wanted and not meant else "not looked at"}
    # boto3 takes longer to import than all else that is done here, and most runs have no credentials for AWS.
    from ansible_collections.modelyard.core.plugins.plugin_utils.aws import options as asked
    from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
    from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import observe
    from ansible_collections.modelyard.core.plugins.plugin_utils.aws.report import Reporter

    given = asked.of(rendered)
    try:
        account = Account(given["profile"], given["region"])
        found = observe(cluster, given["service_accounts"], given["pod_identity"])
        chains = Reporter(account, given, found.accounts, found.issuer, found).chains()
    except Failure as error:
        return {"identity": f"not looked at: {redact(str(error))}"}
    return {"identity": f"account {account.id}", "chains": [chain.data() for chain in chains]}


def _counted(report: Mapping) -> dict[str, int]:
    return {kind: sum(one["kind"] == kind for one in report["findings"]) for kind in findings.KINDS}


def _handed(report: Mapping) -> dict:
    """Give what is handed on of a report."""
    return {
        "reached": report["answers"],
        "servers": len(report["servers"]),
        "ready": sum(row["state"] == rows.READY for row in report["servers"]),
        **_counted(report),
        "cost_per_hour": report["cost_per_hour"],
        "findings": report["findings"],
    }


def _told(report: Mapping) -> str:
    if not report["answers"]:
        return findings.silence(report["why"])
    ready = sum(row["state"] == rows.READY for row in report["servers"])
    told = ", ".join(f"{count} {kind}" for kind, count in _counted(report).items() if count)
    return f"{ready} of {len(report['servers'])} servers ready; {told or 'nothing needs a person'}"
