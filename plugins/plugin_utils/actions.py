"""What all actions of the collection share: documented arguments, plain values, one exception, one layout of what is wrong; does no work."""

from __future__ import annotations

import functools
import importlib
import json
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, numbered
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import LOADER

UNRENDERED = "nothing was rendered: a playbook can't start in its middle (--start-at-task), since each step needs what those before it found"
# A tag of this project's playbooks, which all run whole.
WHOLE = "whole"
# Programs read the output of these: nothing may stand beside their JSON.
MACHINE_READABLE = ("json", "jsonl")
DOCUMENTED = ("type", "elements", "required", "default", "choices")


@functools.cache
def arguments(name: str) -> dict[str, dict]:
    """Give the argument spec of an action: what the DOCUMENTATION of the module of its name says, fragments included."""
    plugins = "ansible_collections.modelyard.core.plugins"
    said = yaml.load(importlib.import_module(f"{plugins}.modules.{name}").DOCUMENTATION, Loader=LOADER)  # noqa: S506 (a safe loader)
    options = said.get("options") or {}
    for fragment in said.get("extends_documentation_fragment") or []:
        file, _, part = fragment.removeprefix("modelyard.core.").partition(".")
        found = importlib.import_module(f"{plugins}.doc_fragments.{file}").ModuleDocFragment
        options |= yaml.load(getattr(found, part.upper() or "DOCUMENTATION"), Loader=LOADER)["options"]  # noqa: S506
    return {key: {word: option[word] for word in DOCUMENTED if word in option} for key, option in options.items()}


class Action(ActionBase):
    """An action of the collection: ``perform`` does its work, on plain values.

    Attributes:
        untouched: what is said before the problems of a :class:`Refused`: what was left as it is.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    supports_check_mode = True
    untouched = ""

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Check the arguments, do the work, and turn what stops it into a failed task."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(arguments(type(self).__module__.rpartition(".")[2]))
        # Ansible's tagged values are not what the API, boto3 and the YAML writer take.
        options = json.loads(json.dumps(options))
        if options.get("rendered") == {}:
            raise AnsibleActionFail(UNRENDERED)
        name = ((options.get("rendered") or {}).get("cluster") or {}).get("name", "")
        where = f"cluster {name}: " if name else ""
        try:
            return self.perform(options, task_vars or {})
        except Refused as error:
            raise AnsibleActionFail(f"{where}{self.untouched} {numbered(error.problems)}".strip()) from None
        except Failure as error:
            raise AnsibleActionFail(f"{where}{error}") from None

    def perform(self, options: dict, task_vars: dict) -> dict:
        """Do the work.

        Args:
            options: the arguments, as documented.
            task_vars: the variables of the task.

        Returns:
            the task's result.

        Raises:
            Failure: what stops it, for the operator.
        """
        raise NotImplementedError

    def tell(self, line: str) -> None:
        """Show a line at once."""
        stderr = constants.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in MACHINE_READABLE
        self._display.display(f"  {line}", stderr=stderr)


def checked(rendered: dict) -> dict:
    """Give a rendering in which nothing is wrong.

    Raises:
        Refused: something is.
    """
    if rendered["problems"]:
        raise Refused(rendered["problems"])
    return rendered
