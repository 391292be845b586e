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
from ansible_collections.modelyard.core.plugins.plugin_utils import artifacts
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import trust
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.places import located
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, numbered
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import LOADER

UNRENDERED = "nothing was rendered: a playbook can't start in its middle (--start-at-task), since each step needs what those before it found"
UNNAMED = (
    "-e has words without a variable: {words}. A value with blanks needs quotes of its own: -e \"name='two words'\""
)
# A tag of this project's playbooks, which all run whole.
WHOLE = "whole"
# Programs read the output of these: nothing may stand beside their JSON.
MACHINE_READABLE = ("json", "jsonl")
# Of a line, by what it begins with.
COLOURS = {
    **dict.fromkeys(("create", "+", "hand"), constants.COLOR_DIFF_ADD),
    **dict.fromkeys(("update", "change"), constants.COLOR_CHANGED),
    **dict.fromkeys(("prune", "remove", "delete", "-"), constants.COLOR_DIFF_REMOVE),
}
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


class Stopped(AnsibleActionFail):
    """What stopped an action, for the operator.

    Ansible would print it twice, once with the line of our own role where the task stands.
    """

    omit_exception_key = True


class Action(ActionBase):
    """An action of the collection: ``perform`` does its work, on plain values.

    Attributes:
        untouched: what is said before the problems of a :class:`Refused`: what was left as it is.
        host: the inventory's name of it.
        cluster: name of the cluster, with ``: `` behind it, where the run has several; else ``''``.
        clusters: how many the run has.
        share: how much of what a run may hand on of a cluster this action may; those of one playbook have at most 1 together.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    supports_check_mode = True
    untouched = ""
    host = ""
    cluster = ""
    clusters = 1
    share = 1.0

    def run(self, tmp: Any = None, task_vars: dict | None = None) -> dict:
        """Check the arguments, do the work, and turn what stops it into a failed task."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(arguments(type(self).__module__.rpartition(".")[2]))
        # Ansible's tagged values are not what the API, boto3 and the YAML writer take.
        options = json.loads(json.dumps(options))
        known = task_vars or {}
        self.host = known.get("inventory_hostname", "")
        self._handed: dict[str, dict] = {}
        self.clusters = max(len(known.get("ansible_play_hosts_all") or ()), 1)
        # -e reason='two words' reaches Ansible as reason=two and a word of which it says nothing.
        if words := known.get("_raw_params"):
            raise Stopped(UNNAMED.format(words=words))
        if options.get("rendered") == {}:
            raise Stopped(UNRENDERED)
        name = ((options.get("rendered") or {}).get("cluster") or {}).get("name", "")
        where = f"cluster {name}: " if name else ""
        known_places = (options.get("rendered") or {}).get("places") or {}
        if len(known.get("ansible_play_hosts_all") or ()) > 1:
            self.cluster = f"{name or known['inventory_hostname']}: "
        try:
            if "connection" in options and (options.get("place") or options["rendered"]["cluster"]).get("require_tls"):
                options["connection"] = trust.required(options["connection"])
            result = self._named(self.perform(options, known))
        except Refused as error:
            problems = [located(text, known_places) for text in error.problems]
            raise Stopped(f"{where}{self.untouched} {numbered(problems)}".strip()) from None
        except Failure as error:
            # For who counts the clusters that are gone.
            gone = {} if error.answers else {"answers": False}
            raise Stopped(where + located(str(error), known_places), result=gone) from None
        finally:
            # Ansible shows a warning once, however many tasks of a run have it.
            for told in trust.warnings:
                self._display.warning(f"{self.cluster}{told}")
            trust.warnings.clear()
        if self._handed:
            result["ansible_stats"] = {"data": self._handed, "per_host": False, "aggregate": True}
        return result

    def hand_on(self, host: str = "", /, **what: dict) -> None:
        """Hand on what was done to a cluster, to whoever comes after this run: see docs/artifacts.md. Of a task that fails nothing is.

        Args:
            host: the inventory's name of it, which no other has; that of the task by default.
            what: what was done to its keys, as ``artifacts.handed`` takes them.
        """
        host = host or self.host
        if found := artifacts.handed(what, self.room - len(host) - artifacts.FRAME):
            self._handed.setdefault(artifacts.RESULTS, {}).setdefault(host, {}).update(found)

    @property
    def room(self) -> float:
        """Bytes that this action may hand on of a cluster."""
        return self.share * artifacts.RESULTS_BYTES / self.clusters

    def hand_on_as(self, name: str, value: Any) -> None:
        """Hand on a value under a name of its own: of dictionaries, lists and numbers those of all clusters become one."""
        self._handed[name] = value

    def _named(self, result: dict) -> dict:
        """Let what Ansible shows of a result name the cluster."""
        named = {"warnings": [f"{self.cluster}{text}" for text in result["warnings"]]} if "warnings" in result else {}
        if self.cluster and "diff" in result:
            headers = ("before_header", "after_header")
            named["diff"] = [one | {key: f"{self.cluster}{one[key]}" for key in headers} for one in result["diff"]]
        return {**result, **named}

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

    def unshown(self) -> dict[str, bool]:
        """Give what keeps Ansible from showing a result that the next task reads, below -vvv: thousands of lines that nobody does."""
        return {"_ansible_verbose_override": self._display.verbosity < 3}

    def tell(self, line: str) -> None:
        """Show a line at once, in the colour of what it begins with, under the cluster's name where the run has several."""
        stderr = constants.DEFAULT_STDOUT_CALLBACK.rpartition(".")[2] in MACHINE_READABLE
        first = next(iter(line.removeprefix("would ").split()), "")
        self._display.display(f"  {self.cluster}{line}".rstrip(), color=COLOURS.get(first), stderr=stderr)

    @property
    def width(self) -> int:
        """Characters that a line of a table may have: those of the terminal, or of 80 without one; with -v any number (0)."""
        return 0 if self._display.verbosity else self._display.columns - len(f"  {self.cluster}")

    def tell_change(self, lines: list[str]) -> None:
        """Show a change, in check mode as what would be."""
        first, *rest = lines
        for line in (f"would {first}" if self._task.check_mode else first, *rest):
            self.tell(line)


def checked(rendered: dict) -> dict:
    """Give a rendering in which nothing is wrong.

    Raises:
        Refused: something is.
    """
    if rendered["problems"]:
        raise Refused(rendered["problems"])
    return rendered
