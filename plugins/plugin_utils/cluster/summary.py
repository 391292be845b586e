"""Closes a run on a cluster: what it changed, what runs where, what to paste next; never asks a cluster."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job, table
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import preflight

COLUMNS = ("workload", "profile", "model", "ready", "node", "gpus")
APPLICATIONS = ("application", "sync", "health", "revision")
# A longer request is none to paste.
LONGEST = 500


def counted(number: int, check: bool) -> str:
    """Say how much a run changed, or would change."""
    if not number:
        return "nothing to change"
    changes = f"{number} change{'s'[: number > 1]}"
    return f"{changes} would be made, and nothing was written" if check else changes


def closing(rendered: Mapping, rows: list[dict], connection: Mapping, width: int = 0) -> list[str]:
    """Close a run.

    Args:
        rendered: what modelyard.core.render returned.
        rows: of ``rollout.table``, or with GitOps one an Application; none where this run's roles have no server.
        connection: ``platform_connection``.
        width: characters that a line of the table may have; 0 for any number.

    Returns:
        the table, a line to paste that asks a server for a prediction, and one that points kubectl at the cluster.
    """
    gitops = delivery.is_gitops(rendered)
    lines = _table(APPLICATIONS if gitops else COLUMNS, rows, width) if rows else _without_servers(rendered)
    kubectl = ["kubectl"]
    # Where a job of AWX ran, nobody has a shell: its files are gone, and a person's own kubectl has settings of its own.
    for option in () if job.number() else ("kubeconfig", "context"):
        if isinstance(connection.get(option), str) and connection[option]:
            kubectl += [f"--{option}", connection[option]]
    asked = [] if gitops else question(rendered, {row["workload"] for row in rows if row["answers"]}, kubectl)
    kind = "applications" if gitops else "pods"
    lines += parked(rendered, rows)
    return [*lines, "", *asked, shlex.join([*kubectl, "-n", delivery.scope(rendered), "get", kind])]


def _without_servers(rendered: Mapping) -> list[str]:
    """Close a run of roles without a server: the objects that they have, or why there are none."""
    items = delivery.objects(rendered, delivery.is_gitops(rendered))
    if items:
        return table.columns(("kind", "name"), [(item["kind"], item["metadata"]["name"]) for item in items])
    if rendered["roles"] == ["argocd_apps"] and not delivery.is_gitops(rendered):
        return ["platform_delivery is direct: no Application is applied, since the other roles apply the objects"]
    return []


def parked(rendered: Mapping, rows: list[dict]) -> list[str]:
    """Say of each server that is parked by whom it is, and what that has saved."""
    parts = {part["name"]: part for part in rendered["parts"] if "needs" in part}
    lines = []
    for row in rows:
        if row.get("parked"):
            price = preflight.price(parts[row["workload"]], row["hours"]) if row["workload"] in parts else ""
            lines.append(f"{row['workload']}: {row['parked']}" + (f" ({price})" if price else ""))
    return lines


def workloads(rows: list[dict], width: int) -> list[str]:
    """Lay out the rows of ``rollout.table``, in lines of at most so many characters; 0 for any number."""
    return _table(COLUMNS, rows, width)


def _table(headings: tuple[str, ...], rows: list[dict], width: int) -> list[str]:
    """Lay the rows out; where that is too wide, each model stands below its server, so that nothing of it is cut."""
    found = sorted(rows, key=lambda row: row[headings[0]])
    lines = table.columns(headings, [[row[name] for name in headings] for row in found])
    if not width or max(map(len, lines)) <= width:
        return lines
    headings = tuple(name for name in headings if name != "model")
    head, *lines = table.columns(headings, [[row[name] for name in headings] for row in found], width)
    below = [[f"  {row['model']}"] if row.get("model", "-") != "-" else [] for row in found]
    return [head, *(text for line, more in zip(lines, below, strict=True) for text in (line, *more))]


def question(rendered: Mapping, answering: set[str], kubectl: list[str]) -> list[str]:
    """Write the command that asks for a prediction, of the last server that answers and has such a question; or none."""
    for part in reversed(rendered["parts"]):
        for asked in part["questions"] if part["enabled"] and part["name"] in answering else []:
            body = json.dumps(asked.get("body"))
            # The API server's proxy removes the header that a key is sent in.
            if asked.get("body") and not asked.get("key") and len(body) <= LONGEST:
                path = delivery.proxied(rendered, part["service"], asked["path"])
                ask = [*kubectl, "create", "--raw", path, "-f", "-"]
                return [f"echo {shlex.quote(body)} | {shlex.join(ask)}"]
    return []
