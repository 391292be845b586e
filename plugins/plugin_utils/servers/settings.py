"""Settings in layers: a role's variables, and the profiles or variants that are merged over them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, nearest, where


def merge(base: Mapping, over: Mapping) -> dict:
    """Merge one dictionary over another, dictionary by dictionary; anything else replaces."""
    result = dict(base)
    for key, value in over.items():
        inner = result.get(key)
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        result[key] = merge(inner, value) if both else value
    return result


def _find(values: object, keys: tuple) -> tuple[bool, Any]:
    """Look a nested value up; whether it is there, and what it is."""
    for key in keys:
        inside = isinstance(values, Mapping) and key in values
        if inside or (isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)):
            values = values[key]  # type: ignore[index]
        else:
            return False, None
    return True, values


class Settings:
    """The effective settings of one server, and the variable that each of them comes from.

    Args:
        layers: pairs of a prefix (``triton_``, ``triton_profiles.gpu.``) and the values that are set there, the
            strongest last.
        problems: where wrong inputs are noted.

    Attributes:
        values: the layers merged.
        misfits: what the table of hardware profiles is too small for, in words; real nodes have the last word.
    """

    def __init__(self, layers: list[tuple[str, Mapping]], problems: Problems) -> None:
        self.layers = layers
        self.problems = problems
        self.values: dict[str, Any] = {}
        self.misfits: list[str] = []
        for _prefix, values in layers:
            self.values = merge(self.values, values)

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def get(self, *keys: object) -> Any:
        """Give a nested value, or None."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def path(self, *keys: object) -> str:
        """Name the variable that sets a value, e.g. ``triton_profiles.gpu.resources.limits.cpu``."""
        path = ".".join(str(key) for key in keys)
        for prefix, values in reversed(self.layers):
            if _find(values, keys)[0]:
                return prefix + path
        # A key that is nowhere belongs where its dictionary is set.
        return f"{self.path(*keys[:-1])}.{keys[-1]}" if len(keys) > 1 else self.layers[-1][0] + path

    def wrong(self, value: object, allowed: str, *keys: object) -> None:
        """Note that the value under these keys is wrong."""
        # What was computed from a value does not know where that was written; the layer does.
        written = next(
            (found for _, layer in reversed(self.layers) for there, found in [_find(layer, keys)] if there), None
        )
        self.problems.add(self.path(*keys), value, allowed, where(written))


def choose(
    variable: str, names: list, chosen_by: str, builtin: Mapping, own: Mapping, problems: Problems
) -> list[tuple[str, list[tuple[str, Mapping]]]]:
    """Find the profiles (or variants) that are enabled.

    Args:
        variable: the variable with the user's own profiles, e.g. ``triton_profiles``.
        names: the enabled ones.
        chosen_by: the variable that says so, e.g. ``triton_enabled_profiles``.
        builtin: the profiles that the role brings.
        own: the user's profiles, merged over those of the same name.
        problems: where unknown names are noted.

    Returns:
        for each enabled profile its name and its layers, for :class:`Settings`.
    """
    found = []
    for index, name in enumerate(names):
        path = f"{chosen_by}[{index}]" if len(names) > 1 else chosen_by
        if name not in builtin and name not in own:
            problems.add(path, name, nearest(name, {*builtin, *own}))
        elif name in names[:index]:
            problems.add(path, name, "is listed twice")
        else:
            layers = [(f"{variable}.{name}.", layer.get(name) or {}) for layer in (builtin, own)]
            found.append((name, layers))
    return found


def check_keys(variable: str, own: Mapping, allowed: set[str], problems: Problems) -> None:
    """Note keys of the user's profiles that no server has, enabled or not."""
    for name, values in own.items():
        if not isinstance(values, Mapping):
            problems.add(f"{variable}.{name}", values, "must be a dictionary")
            continue
        for key in values:
            if key not in allowed:
                problems.add(f"{variable}.{name}.{key}", key, nearest(key, allowed))
