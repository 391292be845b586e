"""Reads one setting as a number, a quantity, a dictionary, labels; never says what a server does with it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names, quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import FALSE, is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings


def whole(settings: Settings, *keys: object, least: int = 0, most: int | None = None) -> int:
    """Read a whole number; note it when it is none, or out of range."""
    value = settings.get(*keys)
    text = str(value)
    if not isinstance(value, bool) and re.fullmatch(r"-?\d+", text, re.ASCII):
        number = int(text)
        if number >= least and (most is None or number <= most):
            return number
    allowed = (
        f"must be a whole number of {least} or more"
        if most is None
        else f"must be a whole number from {least} to {most}"
    )
    settings.wrong(value, allowed, *keys)
    return least


def flag(settings: Settings, key: str) -> bool:
    """Read a boolean; extra variables give it as text."""
    value = settings[key]
    if isinstance(value, bool):
        return value
    if is_true(value):
        return True
    if str(value).lower() not in FALSE:
        settings.wrong(value, "must be true or false", key)
    return False


def amount(settings: Settings, *keys: object) -> Any:
    """Read a quantity in base units; note it, and give None, when it is none or not positive."""
    value = settings.get(*keys)
    try:
        number = quantity.parse(value)
    except ValueError:
        settings.wrong(value, "must be a Kubernetes quantity such as 500m, 4 or 14Gi", *keys)
        return None
    if number < 0:
        settings.wrong(value, "must not be negative", *keys)
        return None
    return number


def matching(settings: Settings, pattern: re.Pattern, allowed: str, *keys: object) -> str:
    """Read text that must match a pattern as a whole."""
    value = settings.get(*keys)
    if not isinstance(value, str) or not pattern.fullmatch(value):
        settings.wrong(value, allowed, *keys)
        return str(value)
    return value


def dictionary(settings: Settings, *keys: object) -> dict:
    """Read a dictionary; null is an empty one."""
    value = settings.get(*keys)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        settings.wrong(value, "must be a dictionary", *keys)
        return {}
    return dict(value)


def listed(settings: Settings, key: str, kind: type | tuple = (Mapping,), what: str = "dictionaries") -> list:
    """Read a list of one kind of item; null is an empty one."""
    value = settings[key]
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, kind) for item in value):
        settings.wrong(value, f"must be a list of {what}", key)
        return []
    return list(value)


def labels(settings: Settings, key: str) -> dict[str, str]:
    """Read labels, checked as the API server checks them."""
    result = {}
    for name, value in dictionary(settings, key).items():
        if value is None:
            continue
        if not names.LABEL_KEY.fullmatch(str(name)):
            settings.wrong(name, "must be a label key", key, name)
        elif isinstance(value, (Mapping, list)) or not names.LABEL_VALUE.fullmatch(text(value)):
            settings.wrong(value, "must be a label value: at most 63 letters, digits, -, _ and .", key, name)
        result[str(name)] = text(value)
    return result


def annotations(settings: Settings, key: str) -> dict[str, str]:
    """Read annotations: any text."""
    result = {}
    for name, value in dictionary(settings, key).items():
        if value is None:
            continue
        if not names.LABEL_KEY.fullmatch(str(name)):
            settings.wrong(name, "must be an annotation key", key, name)
        elif isinstance(value, (Mapping, list)):
            settings.wrong(value, "must be text", key, name)
        result[str(name)] = text(value)
    return result


def text(value: object) -> str:
    """Write a value as Kubernetes wants it in labels, annotations and environments."""
    return str(value).lower() if isinstance(value, bool) else str(value)
