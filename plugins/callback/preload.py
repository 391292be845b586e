"""Load in the parent process what nearly every task would load again in a process of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from ansible.playbook.block import Block
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import action_loader, filter_loader, lookup_loader, test_loader
from ansible_collections.modelyard.core.plugins.plugin_utils import runner, worker
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import WHOLE

if TYPE_CHECKING:
    from ansible.playbook import Playbook
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: preload
type: aggregate
short_description: Load plugins before tasks are forked
description:
  - Ansible runs each task in a fork of its process, for each host, and what the task needs is first imported there, each time again.
  - Loaded before the fork, it is inherited. What it saves stands in
    docs/architecture.md.
  - While the first of our tasks runs, what the later ones of its play need is loaded, in a run with one host.
  - A fork ends with the process, too, however that ends.
  - An old ansible-runner shows what tasks show (docs/execution-environment.md).
  - A play of this project's whose own tags are skipped ends in an error, instead of doing nothing.
"""

OURS = "modelyard.core."
AFTER_FORK_SECONDS = 0.1


class CallbackModule(CallbackBase):
    """Acts at a playbook's start, and before each of our own tasks."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "modelyard.core.preload"

    def v2_playbook_on_start(self, playbook: Playbook) -> None:
        """Load ansible-core's filters, tests and lookups that templates use, bind the workers, mend the runner; returns nothing, raises nothing.

        Args:
            playbook: what is about to run, not looked at.

        """
        # To find one plugin by its name, Ansible loads the files of all that stand beside it.
        filter_loader.get("ansible.builtin.combine")
        test_loader.get("ansible.builtin.defined")
        lookup_loader.get("ansible.builtin.env")
        self._later: list[str] = []
        self._next: list[str] = []
        os.register_at_fork(after_in_parent=self._load_next, after_in_child=self._next.clear)
        worker.bind()
        runner.mend()

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Tell that tags leave nothing of a play of this project's to be done, which Ansible ends without a word; returns nothing.

        Args:
            play: what is about to run.

        Raises:
            SystemExit: its tags are skipped; an error of a callback would be a warning only.
        """
        skipped = sorted({WHOLE, "always", "tagged"} & set(play.skip_tags))
        if WHOLE in play.tags and skipped:
            raise SystemExit(f"[ERROR]: --skip-tags {','.join(skipped)}: these playbooks have no parts by tag")
        # While this process loads, Ansible forks no worker for the next host.
        hosts = play.get_variable_manager().get_vars(play=play)["ansible_play_hosts_all"]
        self._later = list(dict.fromkeys(_ours(play.tasks))) if len(hosts) == 1 else []

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Load one of our actions with all that it imports; returns nothing, raises nothing.

        Args:
            task: what is about to run on every host.
            is_conditional: not looked at.

        """
        if task.action.startswith(OURS):
            action_loader.get(task.action, class_only=True)
            # Only then: so that a task that comes first is not held up.
            self._next[:], self._later = self._later, []

    def _load_next(self) -> None:
        """Load what comes later, once a task runs: its worker has a processor of its own, and this process would only wait."""
        names = list(self._next)
        self._next.clear()
        with worker.signals() as received:
            for name in names:
                # What is wrong with it its task will tell.
                with contextlib.suppress(Exception):
                    action_loader.get(name, class_only=True)
        for number in received:
            # From here Python lets no exception out, such as that of an interrupt: it comes when the fork is over.
            threading.Timer(AFTER_FORK_SECONDS, os.kill, (os.getpid(), number)).start()


def _ours(tasks: Iterable) -> Iterator[str]:
    """Give the names of our actions in tasks and blocks, in their order."""
    for task in tasks:
        if isinstance(task, Block):
            yield from _ours(task.block)
        elif task.action.startswith(OURS):
            yield task.action
