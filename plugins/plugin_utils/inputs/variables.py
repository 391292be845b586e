"""Resolves the variables of roles: what the inventory sets, over what the roles bring; never decides what a value means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import (
    check_value,
    is_true,
    misspelt,
    misspelt_problem,
    type_error,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import (
    HIDDEN,
    Problems,
    problem,
    retag,
    where,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import BASES, Role, lineage

ANYTHING = {"type": "raw"}


def present(values: Mapping) -> dict:
    """Give a dictionary without what is null: in labels and annotations that is how a key is removed."""
    return {key: value for key, value in values.items() if value is not None}


def merge(base: Mapping, over: Mapping) -> dict:
    """Merge one dictionary over another, dictionary by dictionary; anything else replaces."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[key] = merge(inner, value) if both else value
    return result


def written(roles: Mapping[str, Role]) -> dict[str, Any]:
    """Give what roles bring for each of their variables, by whole name, as it is written."""
    return {name: option.get("default") for role in roles.values() for name, option in role.variables.items()}


def converted(value: Any, option: Mapping) -> Any:
    """Give a value the type that its option has, all the way down: numbers and booleans that came as text, texts that came as numbers.

    What it is made of still knows where it was written.
    """
    wanted = option.get("type", "str")
    if isinstance(value, Mapping):
        if option.get("options"):
            inner = {key: option["options"].get(key, ANYTHING) for key in value}
        elif "entries" in option:
            inner = {key: {"type": "dict", "options": option["entries"]} for key in value}
        else:
            inner = {key: option.get("values", ANYTHING) for key in value}
        return retag(value, {key: converted(item, inner[key]) for key, item in value.items()})
    if isinstance(value, (list, tuple)):
        element = {"type": option.get("elements", "raw"), "options": option.get("options")}
        return retag(value, [converted(item, element) for item in value])
    if wanted == "bool" and isinstance(value, (str, int)):
        return is_true(value)
    if wanted in ("int", "float") and isinstance(value, str):
        return retag(value, int(value) if wanted == "int" else float(value))
    if wanted == "str" and isinstance(value, int) and not isinstance(value, bool):
        return retag(value, str(value))
    return value


class Inputs:
    """The variables of one host, role by role.

    Args:
        roles: all roles, from :func:`specs.load`.
        variables: what the host's inventory, the play and the command line set, as it is written.
        template: turns a written value into the real one.
        declared: finds where a variable is set whose value does not know (true, false and null never do).
        defaults: what the roles bring, by the variables' whole names, as ``template`` takes it; by default as it is written.

    Attributes:
        notices: what is accepted, and should be known.
    """

    def __init__(
        self,
        roles: Mapping[str, Role],
        variables: Mapping[str, Any],
        template: Callable[[Any], Any],
        declared: Callable[[str], str] = lambda _name: "",
        defaults: Mapping[str, Any] | None = None,
    ) -> None:
        self.defaults = written(roles) if defaults is None else defaults
        self.roles, self.variables, self.template, self.declared = roles, variables, template, declared
        self.notices: list[str] = []
        self._given: dict[str, dict[str, Any]] = {}
        self._brought: dict[str, dict[str, Any]] = {}
        self._problems: dict[str, list[str]] = {}
        self._mistyped: set[str] = set()

    def problems(self, role: str) -> list[str]:
        """Say what is wrong with the variables that are set of a role."""
        self.given(role)
        return self._problems[role]

    def mistyped(self, role: str) -> bool:
        """Tell whether a variable of a role is of another type than it must be: what is templated from it is, too."""
        self.given(role)
        return any(name.startswith(f"{role}_") for name in self._mistyped)

    def misspelt(self) -> list[str]:
        """Say which variables belong to no role although they look as if they did."""
        return [
            misspelt_problem(
                name, self.variables[name], *meant, self.roles, where(self.variables[name]) or self.declared(name)
            )
            for name, meant in sorted(misspelt(self.variables, self.roles).items())
        ]

    def given(self, role: str) -> dict[str, Any]:
        """Give the variables of a role that are set, without its prefix, templated; those that are wrong are left out."""
        if role not in self._given:
            problems = Problems()
            self._given[role] = values = {}
            spec = self.roles[role]
            for key, option in {**spec.axis, **spec.options}.items():
                name = f"{role}_{key}"
                if name not in self.variables and option.get("was") in self.variables:
                    self.notices.append(f"{option['was']} is called {name} now")
                    name = option["was"]
                if name not in self.variables:
                    if option.get("required"):
                        problems.lines.append(f"{name} is not set: it is required by the role {role}")
                    continue
                value, wrong = self._checked(name, option)
                if wrong:
                    problems.lines += wrong
                    self._mistyped |= {name} if type_error(value, option["type"]) else set()
                else:
                    values[key] = converted(value, option)
            self._problems[role] = problems.lines
        return self._given[role]

    def brought(self, role: str) -> dict[str, Any]:
        """Give what a role brings for each of its variables, templated."""
        if role not in self._brought:
            spec = self.roles[role]
            self._brought[role] = {key: self._default(f"{role}_{key}") for key in {**spec.axis, **spec.options}}
        return self._brought[role]

    def layers(self, role: str) -> list[tuple[str, dict[str, Any]]]:
        """Give a role's values in layers, the strongest last, each with the prefix of the variables that it comes from."""
        bases = [name for name in lineage(role, self.roles)[:0:-1] if name in BASES]
        given = [(f"{name}_", self.given(name)) for name in (*bases, role)]
        return [(f"{role}_", self.brought(role)), *given]

    def values(self, role: str) -> dict[str, Any]:
        """Give the value of each variable of a role, without its prefix; what is built in is merged beneath the inventory's."""
        values: dict[str, Any] = {}
        for _prefix, layer in self.layers(role):
            values.update(layer)
        for key, option in {**self.roles[role].axis, **self.roles[role].options}.items():
            values[key] = converted(values[key], option)
            if "builtin" in option:
                values[key] = merge(option["builtin"], values[key] or {})
            if option["type"] == "dict" and key.endswith(("labels", "annotations", "selector")):
                values[key] = present(values[key])
        return values

    def _default(self, name: str) -> Any:
        value = self.defaults[name]
        return self.template(value) if "{{" in str(value) else value

    def _checked(self, name: str, option: Mapping) -> tuple[Any, list[str]]:
        raw = self.variables[name]
        value, broken = _template(name, raw, self.template)
        wrong = broken + check_value(name, value, option, where(raw), nested=bool(broken))
        if wrong and not broken and not where(raw):
            wrong = check_value(name, value, option, self.declared(name))
        # What can't be templated is null meanwhile.
        return value, [line for line in wrong if not broken or " is None: " not in line]


def _template(path: str, raw: object, template: Callable[[object], object]) -> tuple[object, list[str]]:
    """Template a value. Parts that cannot be are null, and reported."""
    try:
        return template(raw), []
    except AnsibleError as error:
        if isinstance(raw, Mapping):
            parts = {key: _template(f"{path}.{key}", item, template) for key, item in raw.items()}
            lines = [line for _, found in parts.values() for line in found]
            return {key: part for key, (part, _) in parts.items()}, lines
        if isinstance(raw, (list, tuple)):
            items = [_template(f"{path}[{index}]", item, template) for index, item in enumerate(raw)]
            return [part for part, _ in items], [line for _, found in items for line in found]
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(getattr(cause, "message", cause)).split())
        shown = raw if isinstance(raw, str) else HIDDEN  # an encrypted one says nothing
        return None, [problem(path, shown, reason, where(raw))]
