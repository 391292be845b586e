"""Remembers where the variables of the AWS side are set, since what an action is given does not know; never looks at what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import DEFAULT, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs

# Of all variables, and of what is in them.
_KEPT = re.compile(
    r"irsa_.*|platform_(aws_|irsa_|cluster_name|pod_identity).*|\w+(\.[^.]+\.|_)(access|role_name)([.\[].*)?"
)
_PATH = re.compile(r"([a-z]\w*_\w+(?:[.\[][^ ]*)?) is ")
_FOLLOWS = re.compile(r"\{\{ (\w+) \}\}")
_NAME = re.compile(r"\b[a-z]+_\w+")


def of(inputs: Inputs) -> dict[str, str]:
    """Give file and line of each variable, and of what is in it, by its path (``irsa_buckets.models.kms_key_arn``), or that it is a default."""
    options = [pair for role in inputs.roles.values() for pair in role.variables.items()]
    found: dict[str, str] = {}
    for name, option in options:
        given = name if name in inputs.variables else option.get("was")
        if given in inputs.variables:
            value = inputs.variables[given]
            found |= dict(_walk(name, value, where(value) or inputs.declared(given)))
    # What follows another variable is set where that is.
    for name, option in options:
        other = _FOLLOWS.fullmatch(str(option.get("default")))
        if name not in found:
            follows = other and found.get(other[1], DEFAULT) != DEFAULT
            found[name] = f"{found[other[1]]}, {other[1]}" if other and follows else DEFAULT
    return {path: place for path, place in found.items() if place and _KEPT.fullmatch(path)}


def _walk(path: str, value: Any, place: str) -> Iterator[tuple[str, str]]:
    yield path, place
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _walk(f"{path}.{key}", item, where(item) or where(key) or place)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(f"{path}[{index}]", item, where(item) or place)


def located(text: str, places: Mapping[str, str]) -> str:
    """Add to a text where what it is about is set: the path that it begins with, or else the variables that it names.

    Args:
        text: a problem.
        places: of :func:`of`.
    """
    if "(set at " in text or DEFAULT in text:
        return text
    match = _PATH.match(text)
    path = match[1] if match else ""
    while path:
        if path in places:
            return f"{text} ({places[path] if places[path] == DEFAULT else f'set at {places[path]}'})"
        path = path[: max(path.rfind("."), path.rfind("["), 0)]
    named = [name for name in dict.fromkeys(_NAME.findall(text)) if places.get(name, DEFAULT) != DEFAULT]
    return text + "".join(f" ({name} is set at {places[name]})" for name in named)
