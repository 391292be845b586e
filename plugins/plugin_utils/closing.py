"""How a run over several clusters closes: a row for each, and what to give to the next run; never asks a cluster."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils import table

SUCCEEDED, FAILED, UNREACHABLE, NOT_BEGUN = "succeeded", "failed", "unreachable", "not begun"
# Of a failure, in characters.
LONGEST = 300


@dataclass
class Cluster:
    """What is known of one cluster of a run.

    Attributes:
        name: of its host.
        begun, ended: when its first task began and its last one ended, in seconds of a clock of the process; 0 if neither.
        changes: that our actions told of; ``None`` where none did.
        changed: tasks that changed something.
        failed: whether its run has failed in the end.
        answers: whether its API server did, each time.
        failure: the first line of what failed last.
    """

    name: str
    begun: float = 0
    ended: float = 0
    changes: int | None = None
    changed: int = 0
    failed: bool = False
    answers: bool = True
    failure: str = ""

    def add(self, result: Mapping[str, Any]) -> None:
        """Count the changes that a task's result names."""
        if isinstance(found := result.get("changes"), Sequence):
            self.changes = (self.changes or 0) + len(found)

    def fail(self, result: Mapping[str, Any]) -> None:
        """Keep why a task failed."""
        # What fails after that (a module in its own words, a rescue) does not know it.
        self.answers = self.answers and result.get("answers") is not False
        text = str(result.get("msg") or result.get("censored") or "the task failed").strip()
        first, *more = text.removeprefix(f"cluster {self.name}: ").splitlines()
        # Of several problems, the first.
        told = " ".join(" ".join((first, *more[: first.endswith(":")])).split())
        self.failure = told if len(told) <= LONGEST else f"{told[: LONGEST - 1]}…"

    @property
    def result(self) -> str:
        """What became of it."""
        if self.failed:
            return FAILED if self.answers else UNREACHABLE
        return SUCCEEDED if self.begun else NOT_BEGUN

    @property
    def row(self) -> tuple[str, ...]:
        """Its texts in the table, but for what failed."""
        if not self.begun:
            return (self.name, self.result, "-", "-")
        changes = self.changed if self.changes is None else self.changes
        return (
            self.name,
            self.result,
            "-" if self.failed and self.changes is None else str(changes),
            _time(self.ended - self.begun),
        )


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def lines(clusters: Sequence[Cluster], check: bool, width: int) -> Iterator[tuple[str, str]]:
    """Lay out how a run closes.

    Args:
        clusters: in the order of the run.
        check: whether nothing was written.
        width: characters that a line may have; what failed has a line of its own where it does not fit. 0 for any number.

    Yields:
        each line, and the result that it is about (``''`` for none).
    """
    head, *rows = table.columns(
        ("cluster", "result", "would change" if check else "changes", "time"),
        [cluster.row for cluster in clusters],
        width,
    )
    yield head, ""
    beside = not width or all(
        len(row) + len(cluster.failure) + table.GAP <= width for row, cluster in zip(rows, clusters, strict=True)
    )
    longest = max(map(len, rows))
    for row, cluster in zip(rows, clusters, strict=True):
        failure = cluster.failure if cluster.failed else ""
        yield f"{row.ljust(longest)}  {failure}".rstrip() if beside else row, cluster.result
        if failure and not beside:
            yield f"    {failure}", cluster.result
    again = [cluster.name for cluster in clusters if cluster.result != SUCCEEDED]
    succeeded = f"{len(clusters) - len(again)} of {len(clusters)} clusters succeeded"
    yield f"{succeeded}; the others again: --limit {','.join(again)}" if again else succeeded, ""
