"""Action ``modelyard.core.render``: see plugins/modules/render.py for its arguments."""

from __future__ import annotations

from typing import Any

from ansible import template
from ansible.vars.plugins import get_vars_from_inventory_sources
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import WHOLE, Action
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, nearest, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, written
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.render import PLATFORM, Rendering, everything


class ActionModule(Action):
    """Turn a host's variables into objects, and what else is known of them."""

    def _check_tags(self, task_vars: dict) -> None:
        """Refuse to do everything when a tag asks for a part. In a play of somebody else's the tags are theirs."""
        asked = set(task_vars.get("ansible_run_tags", [])) - {"all", "tagged"}
        if WHOLE in self._task.tags and asked and not asked & set(self._task.tags):
            raise Refused(
                [
                    f"--tags {','.join(sorted(asked))}: these playbooks have no parts by tag. One role: "
                    f"{', '.join(f'playbooks/{role}.yml' for role in everything() if role != PLATFORM)}; one cluster: --limit"
                ]
            )

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        self._check_tags(task_vars)
        roles = options["roles"] or everything()
        unknown = [role for role in roles if role not in everything()]
        if unknown:
            raise Refused([f"roles: {role}: {nearest(role, everything())}" for role in unknown])
        described = specs.load({*everything(), "apply", "tree", *specs.BASES})
        # Other variables may name what a role brings, though Ansible knows no such variable.
        brought = {name: _trusted(value) for name, value in written(described).items()}
        self._templar.available_variables = {**brought, **task_vars}
        hostvars = task_vars["hostvars"]
        inputs = Inputs(
            described, task_vars, self._templar.template, lambda name: self._declared(name, task_vars), brought
        )

        def other(host: str) -> Inputs | None:
            # What hostvars give is templated already.
            return Inputs(described, hostvars[host], lambda value: value) if host in hostvars else None

        found = Rendering(inputs, task_vars["inventory_hostname"], other).run(roles, options["include_disabled"])
        return found | {"changed": False, **self.unshown()}

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


def _trusted(value: Any) -> Any:
    """Let Ansible template what a role brings, wherever in it there is a template."""
    if isinstance(value, dict):
        return {key: _trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_trusted(item) for item in value]
    return template.trust_as_template(value) if isinstance(value, str) and "{{" in value else value
