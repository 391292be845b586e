"""Matches a policy's texts with a request's: wildcards, policy variables, ARNs, and values of which not all is known; never reads a policy.

Each answer is True, False, or None where it depends on what is not known.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.context import PolicyError, Request, Some

ARN_PARTS = 6
# A pattern is a list of letters, the wildcards, and Some for a variable whose value is not all known.
ANY, ONE = object(), object()
Pattern = list


class Unset(Exception):
    """A policy variable has no value in this request."""


class Expander:
    """Turns a text of a policy into a pattern, its variables replaced by the request's values.

    Args:
        request: has the values.
        variables: whether the policy's version has variables.

    Attributes:
        unknown: the variables met whose value is not all known.
    """

    def __init__(self, request: Request, variables: bool) -> None:
        self.request = request
        self.variables = variables
        self.unknown: set[str] = set()

    def __call__(self, text: str, wildcards: bool = True) -> Pattern:
        """Expand a text.

        Raises:
            Unset: a variable has no value, and no default.
            PolicyError: a variable can't be read.
        """
        parts: Pattern = []
        position = 0
        while position < len(text):
            if self.variables and text.startswith("${", position):
                end = text.find("}", position)
                if end < 0:
                    raise PolicyError(f"a policy variable without an end: {text}")
                parts += self._value(text[position + 2 : end])
                position = end + 1
                continue
            parts += glob(text[position]) if wildcards else [text[position]]
            position += 1
        return parts

    def _value(self, variable: str) -> Pattern:
        if variable in ("*", "?", "$"):
            return [variable]
        match = re.fullmatch(r"\s*([\w:/.+=@-]+)\s*(?:,\s*'([^']*)'\s*)?", variable)
        if not match:
            raise PolicyError(f"a policy variable that can't be read: ${{{variable}}}")
        values = self.request.values(match[1])
        if isinstance(values, Some):
            self.unknown.add(match[1])
            if values.absent and match[2] is not None:
                return [Some((*values.forms, match[2]))]
            return [values]
        if values is not None and len(values) > 1:
            raise PolicyError(f"a policy variable with several values: ${{{variable}}}")
        if values:
            return list(values[0])
        if match[2] is None:
            raise Unset(match[1])
        return list(match[2])


def glob(text: str) -> Pattern:
    """Turn a text with wildcards into a pattern."""
    return [{"*": ANY, "?": ONE}.get(char, char) for char in text]


def text_of(parts: Pattern) -> str:
    """Give a pattern as text."""
    return "".join("*" if part is ANY else "?" if part is ONE else part for part in parts)


def matches(pattern: Pattern, value: str) -> bool:
    """Match a whole text."""
    text = "".join(".*" if part is ANY else "." if part is ONE else re.escape(part) for part in pattern)
    return re.fullmatch(text, value, re.DOTALL) is not None


def whole(pattern: Pattern) -> bool:
    """Tell whether a pattern stands for one text alone."""
    return all(part is not ANY and part is not ONE for part in pattern)


def alternatives(pattern: Pattern) -> list[tuple[Pattern, bool]]:
    """Put each form that a variable may have in its place; the second value tells whether all is known then."""
    options = [[glob(form) for form in part.forms] if isinstance(part, Some) else [[part]] for part in pattern]
    if all(len(option) == 1 and not isinstance(part, Some) for option, part in zip(options, pattern, strict=True)):
        return [(pattern, True)]
    found = []
    for chosen in itertools.product(*options):
        known = all(whole(form) for form, part in zip(chosen, pattern, strict=True) if isinstance(part, Some))
        found.append(([char for form in chosen for char in form], known))
    return found


def may_be_unset(pattern: Pattern) -> bool:
    """Tell whether a variable in it may have no value."""
    return any(isinstance(part, Some) and part.absent for part in pattern)


def together(verdicts: Iterable[bool | None]) -> bool | None:
    """Give what all possibilities agree on."""
    found = set(verdicts)
    return found.pop() if len(found) == 1 else None


def every(verdicts: Iterable[bool | None]) -> bool | None:
    """Tell whether all hold."""
    found = list(verdicts)
    return False if False in found else None if None in found else True


def one_of(verdicts: Iterable[bool | None]) -> bool | None:
    """Tell whether one holds."""
    found = list(verdicts)
    return True if True in found else None if None in found else False


def text_matches(pattern: Pattern, known: bool, value: Pattern) -> bool | None:
    """Match a text, both with wildcards; those in the value stand for what is not known of it, and so do some in a pattern not ``known``."""
    if known and whole(value):
        return matches(pattern, "".join(value))
    if not _meet(pattern, value):
        return False
    return True if known and covers(pattern, value) else None


def _meet(one: Pattern, other: Pattern) -> bool:
    """Tell whether two patterns have a text in common."""
    below = [False] * (len(other) + 1)
    for place in range(len(one), -1, -1):
        row = [False] * (len(other) + 1)
        for spot in range(len(other), -1, -1):
            here = one[place] if place < len(one) else None
            there = other[spot] if spot < len(other) else None
            if here is None and there is None:
                row[spot] = True
            elif here is ANY:
                row[spot] = below[spot] or (there is not None and row[spot + 1])
            elif there is ANY:
                row[spot] = row[spot + 1] or (here is not None and below[spot])
            elif here is not None and there is not None:
                row[spot] = (here is ONE or there is ONE or here == there) and below[spot + 1]
        below = row
    return below[0]


def covers(pattern: Pattern, value: Pattern) -> bool:
    """Tell whether a pattern matches whatever the value may be: nothing, one or several letters that no policy has."""
    strange = "\ue000"
    texts = (
        "".join(strange * many if part is ANY else strange if part is ONE else part for part in value)
        for many in range(3)
    )
    return all(matches(pattern, text) for text in texts)


def arn_matches(pattern: Pattern, known: bool, value: Pattern) -> bool | None:
    """Match an ARN part by part: no wildcard reaches over a colon but in the last part. The arguments are those of ``text_matches``.

    Raises:
        PolicyError: the pattern is no ARN.
    """
    if pattern == [ANY]:
        return True
    if not (known and whole(value)):
        # Not part by part: that could only make of what is possible something that is not.
        return None if _meet(pattern, value) else False
    parts: list[Pattern] = [[]]
    for part in pattern:
        if part == ":" and len(parts) < ARN_PARTS:
            parts.append([])
        else:
            parts[-1].append(part)
    if len(parts) < ARN_PARTS:
        raise PolicyError(f"{text_of(pattern)} is not an ARN of {ARN_PARTS} parts")
    given = "".join(value).split(":", ARN_PARTS - 1)
    return len(given) == ARN_PARTS and all(matches(one, other) for one, other in zip(parts, given, strict=True))
