"""The effective settings of one server, and which variable each of them comes from; never decides what a setting means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import (
    DEFAULT,
    Failure,
    Problems,
    problem,
    where,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge

Layers = list[tuple[str, Mapping]]

# Checks that foresee what happens on the cluster, and that the inventory can turn off by name; vllm_skip_checks lists them.
SKIPPABLE = ("flags", "generation", "length", "memory", "parallel", "pool", "volumes")


def _find(values: object, keys: tuple) -> tuple[bool, Any]:
    """Look a nested value up; whether it is there, and what it is."""
    for key in keys:
        inside = isinstance(values, Mapping) and key in values
        if inside or (isinstance(values, (list, tuple)) and isinstance(key, int) and key < len(values)):
            values = values[key]  # type: ignore[index]
        else:
            return False, None
    return True, values


def _place(values: Any, keys: tuple) -> str:
    """Tell where a nested value was written; what can't know (null, true, false) is where its key is, or what holds it."""
    place = ""
    for key in keys:
        if not _find(values, (key,))[0]:
            break
        named = next((name for name in values if name == key), None) if isinstance(values, Mapping) else None
        values = values[key]
        place = where(values) or where(named) or place
    return place


class Settings:
    """The settings of one server.

    Args:
        base: pairs of a prefix (``triton_``) and the variables of the role that are set there, the strongest last; the first is
            what the role brings. As in Ansible, a dictionary replaces a weaker one.
        profile: the same for the server's profile (``triton_profiles.gpu.``), which is merged over the base key by key; the last
            is what the inventory says of it.
        problems: where wrong inputs are noted.

    Attributes:
        values: the layers merged.
        misfits: what the table of hardware profiles is too small for, in words; real nodes have the last word.
        notices: what could not be checked, in words.
    """

    def __init__(self, base: Layers, profile: Layers, problems: Problems) -> None:
        self.problems = problems
        self.values: dict[str, Any] = {}
        self.misfits: list[str] = []
        self.notices: list[str] = []
        self.layers: Layers = [*base, *profile]
        self._base = len(base)
        self._brought = [layer for _, layer in (*base[:1], *profile[:-1])]
        for _prefix, values in base:
            self.values.update(values)
        for _prefix, values in profile:
            self.values = merge(self.values, values)

    def __getitem__(self, key: str) -> Any:
        if key not in self.values:
            role = self.layers[0][0].rstrip("_")
            raise Failure(f"role {role}: its module reads {key}, which roles/{role}/meta/inputs.yml does not describe")
        return self.values[key]

    def get(self, *keys: object) -> Any:
        """Give a nested value, or None."""
        value: Any = self.values
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return value

    def is_given(self, key: str) -> bool:
        """Tell whether the inventory sets it: neither the role's default nor what is built in for a profile does."""
        given = [*self.layers[1 : self._base], *self.layers[self._base :][-1:]]
        return any(key in values for _, values in given)

    def _setting(self, key: object) -> Layers:
        """Give the layers that make a setting, the strongest first: of the base one, since there a dictionary replaces another."""
        base = [layer for layer in self.layers[: self._base] if key in layer[1]][-1:]
        return [*base, *self.layers[self._base :]][::-1]

    def path(self, *keys: object) -> str:
        """Name the variable that sets a value, e.g. ``triton_profiles.gpu.resources.limits.cpu``."""
        path = ".".join(str(key) for key in keys)
        for prefix, values in self._setting(keys[0]):
            if _find(values, keys)[0]:
                return prefix + path
        # A key that is nowhere belongs where its dictionary is set.
        return f"{self.path(*keys[:-1])}.{keys[-1]}" if len(keys) > 1 else self.layers[-1][0] + path

    def wrong(self, value: object, allowed: str, *keys: object) -> None:
        """Note that the value under these keys is wrong."""
        # What was computed from a value does not know where that was written; the layer does.
        self.problems.add(self.path(*keys), value, allowed, self.place(*keys))

    def foresee(self, check: str, value: object, allowed: str, *keys: object) -> None:
        """Note what would go wrong on the cluster, unless the inventory turned this check off.

        Args:
            check: one of ``SKIPPABLE``; turned off, the finding is a notice, with the reason that the inventory gives.
            value: what is wrong.
            allowed: the rule, in words.
            keys: of the value.
        """
        skipped = self.values.get("skip_checks")
        reason = skipped.get(check) if isinstance(skipped, Mapping) else None
        if reason:
            line = problem(self.path(*keys), value, allowed, self.place(*keys))
            self.notices.append(f"{line}. Not refused: {self.path('skip_checks', check)} says {str(reason)!r}")
        else:
            self.wrong(value, allowed, *keys)

    def place(self, *keys: object) -> str:
        """Tell where the value under these keys is set: file and line, that it is the default, or nothing."""
        layer = next((layer for _, layer in self._setting(keys[0]) if _find(layer, keys)[0]), {})
        return _place(layer, keys) or (DEFAULT if any(layer is one for one in self._brought) else "")
