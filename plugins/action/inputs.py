"""Check roles' variables before the first write. The documentation is in plugins/modules/inputs.py."""

from __future__ import annotations

from pathlib import Path

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs as inputs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.platform import check_platform
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, where


class ActionModule(ActionBase):
    """modelyard.core.inputs"""

    TRANSFERS_FILES = False
    _requires_connection = False
    _VALID_ARGS = frozenset({"roles", "roles_path"})

    def run(self, tmp=None, task_vars=None):
        """Check, and fail with every problem at once."""
        result = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        before = (task_vars.get("__platform_inputs") or {}).get("roles", [])
        asked = self._task.args.get("roles") or []
        if asked and set(asked) <= set(before):
            return result | {"changed": False, "roles": list(before)}

        specs = inputs.load_specs(self._roles_path())
        asked = asked or sorted(role for role, entries in specs.items() if entries)
        unknown = [role for role in asked if role not in specs]
        if unknown:
            raise AnsibleActionFail(f"roles: no such role: {', '.join(unknown)}")

        def declared(name: str) -> str:
            return self._declared(name, task_vars)

        problems = Problems()
        problems.lines += [
            inputs.misspelt_problem(name, task_vars[name], *meant, specs, where(task_vars[name]) or declared(name))
            for name, meant in sorted(inputs.misspelt(task_vars, specs).items())
        ]
        for role in sorted({"platform", *asked} - set(before)):
            values, wrong = inputs.check_role(role, specs[role], task_vars, self._templar.template, declared)
            problems.lines += wrong
            if role == "platform":
                sound = "platform_hardware_profiles" in values
                profiles = self._templar.template(task_vars["__platform_profiles"]) if sound else {}
                problems.lines += check_platform(values, profiles)
        if problems.lines:
            raise AnsibleActionFail(problems.report())
        return result | {"changed": False, "roles": sorted({"platform", *before, *asked})}

    @staticmethod
    def _declared(name: str, task_vars: dict) -> str:
        """Find where a variable is set whose value cannot know: true, false and null carry no origin, but their names do."""
        hostvars = task_vars["hostvars"]
        inventory, manager = hostvars._inventory, hostvars._variable_manager
        host = inventory.get_host(task_vars["inventory_hostname"])
        layers = []
        for entity in (*sorted(host.get_groups(), key=lambda group: (group.depth, group.priority)), host):
            layers += [
                entity.vars,
                get_vars_from_inventory_sources(manager._loader, inventory._sources, [entity], "task"),
            ]
        layers.append(manager.extra_vars)
        places = [
            where(key) for layer in layers for key, value in layer.items() if key == name and value is task_vars[name]
        ]
        return places[-1] if places else ""

    def _roles_path(self) -> Path:
        given = self._task.args.get("roles_path")
        if given:
            return Path(given)
        if self._task._role is None:
            raise AnsibleActionFail("roles_path is needed outside a role")
        return Path(self._task._role.get_role_path()).parent
