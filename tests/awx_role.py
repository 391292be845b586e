"""Runs the role awx in the test's own process, against a stand-in of AWX: a play would start an interpreter for each object."""

from collections.abc import Callable
from pathlib import Path

import awx_modules
import yaml
from ansible._internal._templating._utils import Omit
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import api, comparison, credentials, state, updates
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.export import Export
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.namesakes import lost, namesakes, shared
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs

TASKS = Path(__file__).resolve().parent.parent / "roles/awx/tasks"


def run(
    awx, clusters: Clusters, variables: dict, check: bool = False, watch: Callable[[], None] = lambda: None
) -> tuple[comparison.Comparison, list[tuple[str, dict]]]:
    """One run of the role.

    Args:
        awx: the stand-in. clusters: those of the inventory. variables: of the role. check: in check mode.
        watch: called after each call of a module.

    Returns:
        what there was to do, and each call of a module with what it returned.
    """
    inputs = Inputs(specs.load(["awx"]), variables, lambda value: value)
    assert inputs.problems("awx") == []
    values = inputs.values("awx")
    wanted, there, lines = _read(awx, clusters, values)
    assert lines == []
    compared = comparison.compare(wanted, there, Forms(reader(awx), there))
    removed = {kind: items if values["prune"] else [] for kind, items in compared.dropped.items()}
    plan = {"organization": values["organization"], "calls": compared.calls, "removed": removed}
    made = [] if check else _tasks(awx, {**variables, "awx_plan": plan}, watch)
    return compared, made


def refused(awx, clusters: Clusters, variables: dict) -> list[str]:
    """What a run would refuse since AWX has something else, in the words of the run."""
    return _read(awx, clusters, Inputs(specs.load(["awx"]), variables, lambda value: value).values("awx"))[2]


def reader(awx) -> api.Awx:
    """What a run reads the stand-in with."""
    return api.Awx({"host": awx.url, "oauth_token": awx.token, "validate_certs": True})


def _read(awx, clusters: Clusters, values: dict) -> tuple[Wanted, dict, list[str]]:
    """What is wanted, what is there, and what a run would refuse."""
    wanted, name = Wanted(values, clusters), values["organization"]
    there = state.read(reader(awx), name)
    lines = namesakes(reader(awx), wanted.found, name) + shared(there, wanted.found, name) + lost(there, wanted.found)
    return wanted, there, [*wanted.problems.lines, *lines, *credentials.problems(wanted, there)]


def exported(awx, clusters: Clusters, organization: str) -> str:
    """The text that the role exports."""
    there = state.read(reader(awx), organization)
    return Export(there, Forms(reader(awx), there), organization, clusters).text()


def export(awx, clusters: Clusters, organization: str) -> dict:
    """The variables that the role exports, as Ansible reads them from a file of an inventory."""
    return DataLoader().load(trust_as_template(exported(awx, clusters, organization)))


def _tasks(awx, variables: dict, watch: Callable[[], None]) -> list[tuple[str, dict]]:
    made = []
    (block,) = yaml.safe_load((TASKS / "objects.yml").read_text())
    for imported in block["block"]:
        for task in yaml.safe_load((TASKS / imported["ansible.builtin.import_tasks"]).read_text()):
            module = next(word for word in task if "." in word)
            if not module.startswith("awx.awx."):
                if module.endswith(".awx_unread") and "timeout" in task[module]:
                    objects = _templated(task[module]["objects"], variables)
                    assert updates.unread(reader(awx), objects, variables["awx_organization"], 10) == []
                # The others stop a run whose modules failed; here that is an assertion.
                continue
            loop_var, results = task["loop_control"]["loop_var"], []
            for item in _templated(task["loop"], variables | _trusted(task.get("vars", {}))):
                known = {**variables, **_trusted(task.get("vars", {})), loop_var: item}
                arguments = _templated(task[module], known)
                result = awx_modules.run(awx, module.removeprefix("awx.awx."), **arguments)
                watch()
                assert "failed_when" in task or not result.get("failed"), (module, arguments, result)
                made.append((f"{module.removeprefix('awx.awx.')} {_name(item)}", result))
                results.append({**result, loop_var: item})
            if "register" in task:
                variables = {**variables, task["register"]: {"results": results}}
    return made


def _name(item: dict) -> str:
    return str(item.get("name") or item.get("identifier") or item.get("team") or "")


def _trusted(value):
    if isinstance(value, dict):
        return {key: _trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def _templated(value, variables: dict):
    return Templar(DataLoader(), variables={"omit": Omit, **variables}).template(_trusted(value))


def changed(made: list[tuple[str, dict]]) -> list[str]:
    """Name the calls that changed something."""
    return [name for name, result in made if result["changed"]]
