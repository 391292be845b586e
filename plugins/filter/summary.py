"""Filter ``modelyard.core.summary``: what a run leaves behind, as a table."""

from __future__ import annotations

import json
import shlex

from ansible.errors import AnsibleFilterError
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import UNRENDERED
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery

COLUMNS = ["workload", "profile", "model", "ready", "node", "gpus"]
# A longer request is none to paste.
LONGEST = 500


def columns(rows: list[dict]) -> list[str]:
    """Lay rows out in columns of equal width, under their headings."""
    cells = [[name.upper() for name in COLUMNS], *([row[name] for name in COLUMNS] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def summary(rendered: dict, plan: dict, rollout: dict, connection: dict) -> str:
    """Close a run.

    Args:
        rendered: what modelyard.core.render returned.
        plan: what modelyard.core.plan returned: its ``changes``, one line each.
        rollout: what modelyard.core.rollout returned: its ``workloads``, rows of ``rollout.table``; none where it was skipped.
        connection: ``platform_connection``.

    Returns:
        what changed, the table, a line to paste that asks a server for a prediction, and one that points kubectl at the cluster.
    """
    if not rendered:
        raise AnsibleFilterError(UNRENDERED)
    changed, rows = len(plan["changes"]), rollout.get("workloads") or []
    counted = f"{changed} change{'s'[: changed > 1]}" if changed else "nothing to change"
    lines = [f"cluster {rendered['cluster']['name']}: {counted}"]
    if rows:
        lines += ["", *columns(sorted(rows, key=lambda row: row["workload"]))]
    kubectl = ["kubectl"]
    for option in ("kubeconfig", "context"):
        if isinstance(connection.get(option), str) and connection[option]:
            kubectl += [f"--{option}", connection[option]]
    kind = "applications" if delivery.is_gitops(rendered) else "pods"
    asked = question(rendered, {row["workload"] for row in rows if row["answers"]}, kubectl)
    lines += ["", *asked, shlex.join([*kubectl, "-n", delivery.scope(rendered), "get", kind])]
    return "\n".join(lines)


def question(rendered: dict, answering: set[str], kubectl: list[str]) -> list[str]:
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


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict:
        """Name it."""
        return {"summary": summary}
