"""What became of each cluster of a run over several, as a table at its end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ansible import constants, context
from ansible.plugins.callback import CallbackBase
from ansible_collections.modelyard.core.plugins.plugin_utils import closing
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import MACHINE_READABLE, WHOLE
from ansible_collections.modelyard.core.plugins.plugin_utils.fleet import cut

if TYPE_CHECKING:
    from ansible.executor.stats import AggregateStats
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.inventory.host import Host
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: fleet
type: aggregate
short_description: A closing table of a run over several clusters
description:
  - For each cluster what became of it, how much changed, how long it took, and the first line of what failed.
  - Names those, too, that were not begun since the run had stopped. With one cluster it says nothing.
"""

COLOURS = {
    closing.SUCCEEDED: constants.COLOR_OK,
    closing.FAILED: constants.COLOR_ERROR,
    closing.UNREACHABLE: constants.COLOR_UNREACHABLE,
    closing.NOT_BEGUN: constants.COLOR_SKIP,
}
FORKS = (
    "{clusters} clusters go at once, and there are {forks} forks: while {forks} wait for a rollout, the others wait, too. "
    "Raise forks (ansible.cfg, --forks, or the job template's field) to {clusters}"
)


class CallbackModule(CallbackBase):
    """Notes the results of every host, and tells of them at the end."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "modelyard.core.fleet"

    def __init__(self) -> None:
        """Start with no cluster."""
        super().__init__()
        self._clusters: dict[str, closing.Cluster] = {}

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Note which clusters there are, those of later waves among them; see CallbackBase."""
        if WHOLE not in play.tags:
            return
        hosts = play.get_variable_manager().get_vars(play=play)["ansible_play_hosts_all"]
        if len(hosts) < 2:
            return
        forks, largest = context.CLIARGS["forks"], max(map(len, cut(hosts, play.serial)))
        if not self._clusters and play.strategy.endswith("host_pinned") and largest > forks:
            self._display.warning(FORKS.format(clusters=largest, forks=forks))
        for host in hosts:
            self._clusters.setdefault(host, closing.Cluster(host))

    def v2_runner_on_start(self, host: Host, task: Task) -> None:
        """Note that a cluster is begun; see CallbackBase."""
        if found := self._clusters.get(host.name):
            found.begun = found.begun or time.monotonic()

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Count what a task changes; see CallbackBase."""
        if found := self._ended(result):
            found.add(result.result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Note what failed; whether that was recovered from, the end says; see CallbackBase."""
        if found := self._ended(result):
            found.fail(result.result)

    def v2_runner_on_skipped(self, result: CallbackTaskResult) -> None:
        """Note the time; see CallbackBase."""
        self._ended(result)

    def v2_runner_on_unreachable(self, result: CallbackTaskResult) -> None:
        """Note that Ansible itself did not get there; see CallbackBase."""
        if found := self._ended(result):
            found.fail({**result.result, "answers": False})

    def _ended(self, result: CallbackTaskResult) -> closing.Cluster | None:
        if found := self._clusters.get(result.host.name):
            found.ended = time.monotonic()
        return found

    def v2_playbook_on_stats(self, stats: AggregateStats) -> None:
        """Show the table; see CallbackBase."""
        if not self._clusters:
            return
        for host, found in self._clusters.items():
            found.failed = bool(stats.failures.get(host) or stats.dark.get(host))
            found.changed = stats.changed.get(host, 0)
        check = context.CLIARGS["check"]
        width = 0 if self._display.verbosity else self._display.columns
        for line, result in closing.lines(list(self._clusters.values()), check, width):
            self._tell(line, COLOURS.get(result))

    def _tell(self, line: str, colour: Any) -> None:
        stderr = constants.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in MACHINE_READABLE
        self._display.display(line, color=colour, stderr=stderr)
