"""What a person sees in a terminal: the default output, without what says nothing."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from ansible.playbook.task_include import TaskInclude
from ansible.plugins.callback.default import CallbackModule as Default

if TYPE_CHECKING:
    from ansible.executor.task_result import CallbackTaskResult
    from ansible.playbook.included_file import IncludedFile
    from ansible.playbook.play import Play
    from ansible.playbook.task import Task

DOCUMENTATION = """
name: console
type: stdout
short_description: The default output, without what says nothing
description:
  - As C(ansible.builtin.default), but a task of this project's that changes nothing says nothing, nor does one that is skipped or
    an included file. With C(-v) they do.
  - The heading of a task that tells what it does stands above what it tells.
  - A failure is told once, and a message is shown as it is.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

OURS = "modelyard.core."
# They show lines while they work.
TELLING = tuple(
    f"{OURS}{name}" for name in ("aws", "facts", "gate", "plan", "preflight", "rollout", "smoke", "switch", "tree")
)


class CallbackModule(Default):
    """The default output, with less of it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "modelyard.core.console"

    @property
    def _brief(self) -> bool:
        return self._display.verbosity == 0

    def get_option(self, name: str, hostvars: Any = None) -> Any:
        """Give an option; without -v no task that is skipped is shown, and so no heading before there is something below it.

        Args:
            name: of the option.
            hostvars: see AnsiblePlugin.

        """
        return False if name == "display_skipped_hosts" and self._brief else super().get_option(name, hostvars)

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Begin a play, or a wave of it, with no heading shown; see CallbackBase."""
        self._headed: set[str] = set()
        super().v2_playbook_on_play_start(play)

    def v2_playbook_on_task_start(self, task: Task, is_conditional: bool) -> None:
        """Show the heading at once, of a task that tells what it does, for the first cluster that comes to it; see CallbackBase."""
        super().v2_playbook_on_task_start(task, is_conditional)
        if self._brief and task.action in TELLING and task._uuid not in self._headed:
            self._headed.add(task._uuid)
            self._print_task_banner(task)

    def v2_playbook_on_include(self, included_file: IncludedFile) -> None:
        """Say nothing of an included file; see CallbackBase."""
        if not self._brief:
            super().v2_playbook_on_include(included_file)

    def v2_runner_on_ok(self, result: CallbackTaskResult) -> None:
        """Say nothing of a task of ours that changes nothing, nor of an include; see CallbackBase."""
        quiet = isinstance(result.task, TaskInclude) or (
            result.task.action.startswith(OURS) and not result.result.get("changed")
        )
        if self._brief and quiet:
            self._handle_warnings_and_exception(result)
        else:
            super().v2_runner_on_ok(result)

    def v2_runner_on_failed(self, result: CallbackTaskResult, ignore_errors: bool = False) -> None:
        """Tell what failed once: Ansible tells the message, and the result that holds it; see CallbackBase."""
        if self._brief and result.result.get("msg"):
            result.result.pop("exception", None)
        super().v2_runner_on_failed(result, ignore_errors)

    def _dump_results(self, result: Any, *args: Any, **more: Any) -> str:
        """Write a result that is a message alone as that message, without YAML's quotes and line breaks."""
        said = {key: value for key, value in result.items() if not key.startswith("_ansible") and value is not False}
        if self._brief and set(said) - {"exception", "warnings", "deprecations", "failed", "invocation"} == {"msg"}:
            return "\n" + textwrap.indent(str(said["msg"]), "    ")
        return super()._dump_results(result, *args, **more)
