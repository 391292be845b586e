"""Finds what an example left for its reader to set (accounts, hosts and names that are nobody's); never connects to anything.

Rendering takes such values, since examples are rendered too. A run that would write them to a cluster is refused: nothing there can be
pulled, read or assumed under these names, and the rollout would tell so only after minutes, or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, problem, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs

ACCEPTED = "platform_accepted_placeholders"
_TEMPLATE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_WORD = "(?<![A-Za-z0-9])(?:{})(?![A-Za-z0-9])"
_SHOUTED = r"(?:AWS_)?(?:ACCOUNT|REGION|CLUSTER)(?:_ID|_NAME)?"
_THINGS = "org|organi[sz]ation|company|account|team|registry|bucket|region|repo|repository|domain|cluster|host|token|user|username|project"
_PLACEHOLDERS = [
    re.compile(pattern)
    for pattern in (
        # Accounts: one digit twelve times, and those of AWS's own documentation; not the end of a UUID.
        r"(?<!\d)(?<![0-9a-f]{4}-)(?:(\d)\1{11}|012345678901|123456789012|123412341234|111122223333|444455556666|777788889999)(?!\d)",
        r"(?i)" + _WORD.format(rf"your[-_ .]?(?:{_THINGS}|[-_]name)|my[-_]?(?:org|company)"),
        r"(?i)" + _WORD.format(r"(?:change|replace|fill|fix|edit)[-_ ]?(?:me|this)|placeholder"),
        _WORD.format("TODO|TBD|FIXME"),
        rf"(?i)<[^<>]*\b(?:your|my|{_THINGS})\b[^<>]*>",
        # In a name that is made of parts, and as a variable of a shell.
        rf"(?<![A-Za-z0-9_]){_SHOUTED}(?=[.:/-])|(?<=[.:/-]){_SHOUTED}(?![A-Za-z0-9_])|\$\{{?{_SHOUTED}\}}?",
        # https://www.rfc-editor.org/rfc/rfc2606; a key such as example.com/gpu is no host.
        r"(?i)(?:^|(?<=//)|(?<=@)|(?<=[a-z0-9]\.))example\.(?:com|net|org)(?=$|:)|(?:(?<=//)|(?<=@)|(?<=[a-z0-9]\.))example\.(?:com|net|org)(?=/)",
        r"(?i)(?<=[a-z0-9])\.(?:example|invalid)(?=$|[:/])",
        # Identifiers that count up or down, or say nothing.
        r"(?i)0123456789ABCDEF|FEDCBA9876543210|X{6,}|0{8}-0{4}-0{4}-0{4}-0{12}|12345678-1234-1234-1234-123456789(?:012|abc)",
    )
]

EXCEPT = "What really is yours: list it in platform_accepted_placeholders"


def placeholders(text: str, accepted: Iterable[str] = ()) -> list[str]:
    """Find the placeholders in a text.

    Args:
        text: any value.
        accepted: texts that are meant as they stand; what lies in one of them is no placeholder.

    Returns:
        each that was found, as it is written.
    """
    for meant in accepted:
        # What stands around it must not grow together.
        text = text.replace(meant, " ") if meant else text
    return list(dict.fromkeys(found[0] for pattern in _PLACEHOLDERS for found in pattern.finditer(text)))


def find(inputs: Inputs, roles: Iterable[str], accepted: Iterable[str]) -> list[str]:
    """Say which variables have a value that an example left to be set.

    Args:
        inputs: the host's variables.
        roles: those whose variables count.
        accepted: as in :func:`placeholders`.

    Returns:
        one text for each value, with its file and line.
    """
    written, computed, known = [], [], set()
    for role in roles:
        spec = inputs.roles[role]
        for key, option in {**spec.axis, **spec.options}.items():
            name = f"{role}_{key}"
            # Annotations, and where the runbooks are, are free text, which nothing depends on.
            if name == ACCEPTED or key.endswith(("annotations", "runbook_url")):
                continue
            raw = inputs.variables.get(name, inputs.defaults[name])
            for path, value, shown in _leaves(name, raw, option):
                # What stands in a template may be the value of another case.
                if found := placeholders(_TEMPLATE.sub(" ", value), accepted):
                    known.update(found)
                    written.append(_line(path, shown, found, where(value) or where(raw)))
            for path, value, shown in _leaves(name, inputs.given(role).get(key), option):
                if found := placeholders(value, accepted):
                    computed.append((found, _line(path, shown, found, where(raw))))
    # What is computed from a value that was told needs no word of its own.
    return [*written, *(line for found, line in computed if not known.issuperset(found))]


def unbuilt(variable: str, image: str, found: list[str]) -> str:
    """Word an image that the user builds, and whose name is composed of a placeholder."""
    return problem(
        variable, image, f"an image in a registry of {found[0]!r}: build your own with make image (docs/adapters.md)"
    )


def _line(path: str, shown: object, found: list[str], place: str) -> str:
    part = "an" if shown == found[0] else f"{found[0]!r} is an"
    return problem(path, shown, f"{part} example's value: set your own", place)


def _leaves(path: str, value: Any, option: Mapping) -> Iterator[tuple[str, str, object]]:
    """Give the texts in a value, each with the keys that lead to it and as it may be shown."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            entry = {"options": option["entries"]} if "entries" in option else None
            inner = entry or (option.get("options") or {}).get(key, {})
            yield from _leaves(f"{path}.{key}", item, inner)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(f"{path}[{index}]", item, {"options": option.get("options")})
    elif isinstance(value, str):
        yield path, value, HIDDEN if option.get("no_log") else value


def refusal(lines: list[str]) -> list[str]:
    """Say how to keep what only looks like an example's, behind the last of what was found; nothing where nothing was."""
    return [*lines[:-1], *(f"{line}. {EXCEPT}" for line in lines[-1:])]
