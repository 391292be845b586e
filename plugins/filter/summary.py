"""Filter ``modelyard.core.summary``: what a run leaves behind, as a table."""

from __future__ import annotations

import shlex

COLUMNS = ["workload", "profile", "model", "ready", "node", "gpus"]


def columns(rows: list[dict]) -> list[str]:
    """Lay rows out in columns of equal width, under their headings."""
    cells = [[name.upper() for name in COLUMNS], *([row[name] for name in COLUMNS] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(COLUMNS))]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def summary(result: dict, cluster: str, connection: dict) -> str:
    """Close a run.

    Args:
        result: ``changes`` (one line each), ``workloads`` (rows of ``rollout.table``), and where to look next:
            ``namespace`` and ``kind``.
        cluster: its name.
        connection: ``platform_connection``.

    Returns:
        what changed, the table, and the line that points kubectl at the cluster.
    """
    changed = len(result["changes"])
    lines = [f"cluster {cluster}: " + (f"{changed} change{'s'[: changed > 1]}" if changed else "nothing to change")]
    if result["workloads"]:
        lines += ["", *columns(sorted(result["workloads"], key=lambda row: row["workload"]))]
    kubectl = ["kubectl"]
    for option in ("kubeconfig", "context"):
        if isinstance(connection.get(option), str) and connection[option]:
            kubectl += [f"--{option}", connection[option]]
    lines += ["", shlex.join([*kubectl, "-n", result["namespace"], "get", result["kind"]])]
    return "\n".join(lines)


class FilterModule:
    """The filter of this file."""

    def filters(self) -> dict:
        """Name it."""
        return {"summary": summary}
