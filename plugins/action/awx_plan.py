"""Action ``modelyard.core.awx_plan``: see plugins/modules/awx_plan.py for its arguments."""

from __future__ import annotations

import json
import re
from typing import Any

from ansible.plugins.loader import module_loader
from ansible_collections.modelyard.core.plugins.action.render import ActionModule as Render
from ansible_collections.modelyard.core.plugins.action.render import _trusted
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import api, clusters, comparison, credentials, state
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.export import Export
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.namesakes import lost, namesakes, shared
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted, elsewhere, key, word
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, written
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.render import Rendering, everything

ROLE, GROUP, JUDGE, EXPORT = "awx", "clusters", "vllm_judge", "export"
REQUIREMENTS = "requirements-awx.yml"
MISSING = (
    "the collection awx.awx is not installed: `ansible-galaxy collection install -r {file}` "
    "(the execution environment of this project has it)"
)
NO_CLUSTERS = (
    "the inventory has no group clusters: give that of the clusters beside this one, -i inventories/eks -i inventories/awx. "
    "It says what surveys offer and how long jobs may take"
)
# What AWX itself sets in every job.
AWX_OWN = re.compile(
    r"awx_((workflow_)?job(_template)?_(id|name|launch_type)|(parent_job_)?schedule_(id|name)|inventory_(id|name)"
    r"|user_(id|name|email|first_name|last_name)|project_revision|(project|job)_scm_branch|execution_node|webhook_\w+)"
)


class ActionModule(Action):
    """Find out what is to be done so that AWX is as the inventory says."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        values = self._values(task_vars)
        if not module_loader.find_plugin("awx.awx.job_template"):
            raise Failure(MISSING.format(file=REQUIREMENTS))
        given = api.connection(values["connection"])
        for line in api.doubts(given):
            self._display.warning(line)
        tags = set(task_vars.get("ansible_run_tags", [])) - {"all", "tagged"}
        if tags - {EXPORT, *self._task.tags}:
            raise Refused([f"--tags {','.join(sorted(tags))}: this playbook has no parts by tag, but for {EXPORT}"])
        if EXPORT in tags:
            return self._export(values, given, task_vars)
        found = self._clusters(task_vars)
        wanted = Wanted(values, found)
        if wanted.problems.lines:
            raise Refused(wanted.problems.lines)
        known = {*task_vars["groups"], *(host for hosts in task_vars["groups"].values() for host in hosts)}
        for line in [
            *self._doubts(values["clusters"], task_vars),
            *elsewhere(wanted.found, values["inventory"], known),
        ]:
            self._display.warning(line)
        awx = api.Awx(given)
        awx.check_administrator()
        if lines := namesakes(awx, wanted.found, values["organization"]):
            raise Refused(lines)
        there = state.read(awx, values["organization"])
        lines = shared(there, wanted.found, values["organization"]) + lost(there, wanted.found)
        if lines := lines + credentials.problems(wanted, there):
            raise Refused(lines)
        compared = comparison.compare(wanted, there, Forms(awx, there))
        self._tell(compared, values["prune"])
        removed = {kind: items if values["prune"] else [] for kind, items in compared.dropped.items()}
        secret = any(item.get("secret") for kind in ("node", "schedule") for item in compared.calls[kind])
        return {
            # Else -v shows the answers to questions for a password. What there is to do has been told.
            **({"_ansible_no_log": True} if secret else {}),
            # A run's changes are those of the modules.
            "changed": self._task.check_mode and bool(compared.lines or any(removed.values())),
            "organization": values["organization"],
            "calls": compared.calls,
            "dropped": compared.dropped,
            "removed": removed,
            "nothing": not compared.lines and not any(removed.values()),
            "ca_path": given.get("ca_path", ""),
        }

    @staticmethod
    def _doubts(known: dict[str, Any], task_vars: dict) -> list[str]:
        """Say of which clusters a job would not get the credential, or not use it."""
        found = []
        for host in task_vars["groups"][GROUP]:
            # As it is written: nobody has set the variable here.
            said = task_vars["hostvars"].raw_get(host).get("platform_connection")
            if host not in known:
                found.append(f"awx_clusters has no credential of {host}: jobs can't reach it")
            elif clusters.PREFIX not in str(said):
                name = clusters.variable(host)
                found.append(
                    f"platform_connection of {host} does not read {name}: jobs leave its credential unused (docs/awx.md)"
                )
        return found

    def _export(self, values: dict[str, Any], given: dict, task_vars: dict) -> dict:
        """Show what AWX has as variables."""
        found = self._clusters(task_vars) if task_vars["groups"].get(GROUP) else None
        awx = api.Awx(given)
        there = state.read(awx, values["organization"])
        if not there["organization"]:
            raise Failure(f"awx_organization is {values['organization']!r}: AWX has no organization of that name")
        export = Export(there, Forms(awx, there), values["organization"], found)
        for line in export.text().splitlines():
            self.tell(line)
        return {"changed": False, "nothing": True}

    def _tell(self, compared: comparison.Comparison, prune: bool) -> None:
        for line in compared.lines:
            self.tell_change([line])
        for line in compared.by_hand:
            self.tell(f"to be removed by hand, since the modules of awx.awx can't: {line}")
        if not compared.lines:
            self.tell("AWX has everything as the inventory says")
        for kind, items in compared.dropped.items():
            for item in items:
                name = f"{word(kind)} {key(kind, item)}"
                if prune:
                    self.tell_change([f"remove {name}"])
                else:
                    self.tell(f"not in the inventory any more: {name} (-e awx_prune=true removes it)")

    def _values(self, task_vars: dict) -> dict[str, Any]:
        """Give the role's own variables, checked."""
        described = specs.load([ROLE])
        brought = written(described)
        known = {name: value for name, value in task_vars.items() if _checked(name, described[ROLE])}
        self._templar.available_variables = {**brought, **task_vars}
        inputs = Inputs(
            described, known, self._templar.template, lambda name: Render._declared(name, task_vars), brought
        )
        wrong = [*inputs.misspelt(), *inputs.problems(ROLE)]
        if wrong:
            raise Refused(wrong)
        # Plain values, and what is vaulted in the open.
        return json.loads(json.dumps(inputs.values(ROLE), default=str))

    def _clusters(self, task_vars: dict) -> clusters.Clusters:
        """Render every cluster of the inventory, for what AWX needs to know of it."""
        hosts = task_vars["groups"].get(GROUP) or []
        if not hosts:
            raise Failure(NO_CLUSTERS)
        described = specs.load({*everything(), "apply", "tree", *specs.BASES})
        brought = {name: _trusted(value) for name, value in written(described).items()}
        hostvars = task_vars["hostvars"]
        renderings, variants, wrong = {}, {}, []
        for host in hosts:
            variables = hostvars.raw_get(host)
            templar = self._templar.copy_with_new_env(available_variables={**brought, **variables})
            inputs = Inputs(described, variables, templar.template, lambda _name: "", brought)
            renderings[host] = Rendering(inputs, host, lambda _host: None).run(everything(), True)
            wrong += [f"cluster {host}: {line}" for line in renderings[host]["problems"]]
            variants[host] = [] if wrong else list(inputs.values(JUDGE)["variants"])
        if wrong:
            raise Refused(wrong)
        return clusters.facts(renderings, variants)


def _checked(name: str, role: specs.Role) -> bool:
    """Tell whether a variable is to be checked as one of the role's: all that look like it, but for those that AWX sets in a job."""
    return name in role.variables or not AWX_OWN.fullmatch(name)
