"""Brings back, within a run that has failed, what ran before it; never a volume claim, a namespace or anything of AWS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, releases, rollout, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock, recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import COMPONENT
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

NEVER = "Never rolled back: volume claims, namespaces, AWS."


def targets(cluster: Cluster, rendered: Mapping, record: int = 0, damaged: list[str] | None = None) -> dict[str, int]:
    """Name the release that each component of a run came from.

    Args:
        cluster: where.
        rendered: the structure of ``servers.render``.
        record: number of the run's own; 0 for a run that changed nothing.
        damaged: takes a line for each record that can't be read: it may be one that a component came from.

    Returns:
        component to the number of its last release that succeeded; components that have none are left out.
    """
    records = releases.listed(cluster, rendered, damaged)
    found = {
        name: releases.last_succeeded(records, name, record or sys.maxsize)
        for name in delivery.options(rendered)["components"]
    }
    return {name: number for name, number in found.items() if number}


def bring_back(
    cluster: Cluster, rendered: Mapping, record: int, lock: Lock, tell: Callable[[str], None]
) -> tuple[bool, str, list[dict]]:
    """Bring back the last releases that succeeded, by the plan that every run makes, and wait until they are rolled out.

    Args:
        cluster: where; the run holds its lock.
        rendered: what the failed run applied.
        record: number of its record.
        lock: the run's.
        tell: called with a line of text when something is worth knowing.

    Returns:
        whether it is back, what runs now, for the operator, and the kinds that the run has applied by that.
    """
    applied: list[dict] = []
    damaged: list[str] = []
    try:
        numbers = targets(cluster, rendered, record, damaged)
        if not numbers:
            none = "No earlier release has succeeded, so there is none to bring back: what is written stays."
            return False, none + _skipped(damaged), []
        name = f"release {', '.join(map(str, sorted(set(numbers.values()))))}"
        tell(f"bringing back {name}")
        items = [
            item
            for number in sorted(set(numbers.values()))
            for item in releases.objects(cluster, rendered, number)
            if numbers.get(item["metadata"]["labels"][COMPONENT]) == number
        ]
        back = releases.rendering(rendered, items, numbers, max(numbers.values()))
        plan = planning.Planner(cluster, {**delivery.options(back), "recorded": recorded(lock.read())}).make()
        # Also makes sure that the lock is still ours, and that a run after a killed one knows what to prune.
        lock.acquire(lock.read(), 0, tell, plan.kinds)
        applied = plan.kinds
        for change in [*plan.changes, *plan.prune]:
            tell(change.summary())
        writes.carry_out(cluster, plan, back["settings"]["apply"])
        deployments = [item for item in items if item["kind"] == "Deployment"]
        settings = back["settings"]["apply"]
        live = rollout.Watch(cluster, settings, tell, lock.alive).wait(deployments) if settings["wait"] else []
    except Failure as error:
        return False, f"Bringing back the last release failed, too: {error}{_skipped(damaged)}", applied
    runs = ", ".join(
        f"{item['metadata']['name']} {item.get('status', {}).get('readyReplicas', 0)}/{item['spec']['replicas']}"
        for item in live
    )
    changed = len(plan.changes) + len(plan.prune)
    told = f"{name.capitalize()} is back ({changed} change{'s'[: changed != 1]})" + (
        f", and runs: {runs}" if runs else ""
    )
    return True, f"{told}. {NEVER}{_skipped(damaged)}", applied


def _skipped(damaged: list[str]) -> str:
    """Say which records could not be looked at, one of which may be of what ran."""
    return "".join(f"  {line}" for line in damaged)


def advice(cluster: Cluster, rendered: Mapping, record: int = 0) -> str:
    """Say how to go back from a run that has failed; nothing where there is nothing to go back to."""
    damaged: list[str] = []
    try:
        found = targets(cluster, rendered, record, damaged)
    except Failure:
        return ""
    numbers = sorted(set(found.values()))
    # Each brings back all that it had, so that the newest comes last.
    steps = [
        f"{job.given('release', one)} (for {', '.join(name for name in found if found[name] == one)})"
        for one in numbers
    ]
    told = [f"Go back: {job.playbook('rollback', 'release', number)}" for number in numbers]
    if len(numbers) > 1:
        told = [f"Go back with playbooks/rollback.yml, once for each, in this order: {', '.join(steps)}"]
    return "".join(f"  {line}" for line in told) + _skipped(damaged)


def closing(rendered: Mapping) -> list[str]:
    """Say, after a release was brought back, what was not, and that the inventory does not know of it."""
    number = rendered.get("rollback_to")
    if not number:
        return []
    lines = [
        f"release {number} is back. {NEVER}",
        "The inventory still says what it said: set it back, too, or the next playbooks/site.yml brings its state again (playbooks/diff.yml shows what differs)",
    ]
    if delivery.is_gitops(rendered):
        lines.append("What the Applications deliver comes from Git, and is rolled back there: git revert, then push")
    return lines
