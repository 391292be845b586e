"""Check roles' variables before the first write. The documentation is in plugins/modules/inputs.py."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.module_utils import inputs
from ansible_collections.modelyard.core.plugins.module_utils.platform_inputs import check_platform
from ansible_collections.modelyard.core.plugins.module_utils.problems import Problems


class ActionModule(ActionBase):
    """modelyard.core.inputs"""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset({"roles", "roles_path"})

    def run(self, tmp=None, task_vars=None):
        """Check, and fail with every problem at once."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        specs = inputs.load_specs(self._roles_path())
        asked = self._task.args.get("roles") or sorted(role for role, entries in specs.items() if entries)
        unknown = [role for role in asked if role not in specs]
        if unknown:
            raise AnsibleActionFail(f"roles: no such role: {', '.join(unknown)}")

        before = (task_vars.get("__platform_inputs") or {}).get("roles", [])
        if set(asked) <= set(before):
            return result | {"changed": False, "roles": list(before)}

        problems = Problems()
        problems.lines += [
            inputs.misspelt_problem(name, task_vars[name], *meant)
            for name, meant in sorted(inputs.misspelt(task_vars, specs).items())
        ]
        for role in sorted({"platform", *asked} - set(before)):
            values, wrong = inputs.check_role(role, specs[role], task_vars, self._templar.template)
            problems.lines += wrong
            if role == "platform":
                sound = "platform_hardware_profiles" in values
                profiles = self._templar.template(task_vars["__platform_profiles"]) if sound else {}
                problems.lines += check_platform(values, profiles)
        if problems.lines:
            raise AnsibleActionFail(problems.report())
        return result | {"changed": False, "roles": sorted({"platform", *before, *asked})}

    def _roles_path(self) -> Path:
        given = self._task.args.get("roles_path")
        if given:
            return Path(given)
        if self._task._role is None:
            raise AnsibleActionFail("roles_path is needed outside a role")
        return Path(self._task._role.get_role_path()).parent
