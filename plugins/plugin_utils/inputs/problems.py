"""Words a wrong input (which variable, its value, what is allowed, where it is set) and the exceptions that carry it; never decides what is wrong."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible._internal._datatag._tags import Origin
from ansible_collections.modelyard.core.plugins.plugin_utils import job

LONGEST_VALUE = 200
# In the place of file and line, where nobody set a value.
DEFAULT = "this is the default: set it in the inventory"
# Where ansible-runner writes what a job of AWX was given at its launch, and how a person knows it.
EXTRA_VARIABLES = "/env/extravars"
LAUNCH = "launch, in the survey or prompt of the job or in its template's variables"
# A name whose value is a credential.
CREDENTIAL = re.compile(r"(?i)(.*_)?(PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY|ACCESS_KEY(_ID)?|PRIVATE_KEY)")


class Failure(Exception):
    """What stops a run, in words for the operator: the one exception that our actions turn into a failed task.

    Attributes:
        answers: whether the cluster did.
    """

    answers = True


class Refused(Failure):
    """Something is wrong, and nothing was written.

    Attributes:
        problems: one text for each thing that is wrong.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(numbered(problems))


_USER = re.compile(r"(?<=://)[^/?#@\s]+(?=@)")


def masked(text: str) -> str:
    """Hide user and password of the URLs in a text."""
    return _USER.sub("(hidden)", text)


class _Hidden:
    """Stands for a value in a message."""

    def __repr__(self) -> str:
        return "(hidden)"


HIDDEN = _Hidden()


def sparing(name: object, value: Any) -> Any:
    """Give a value of any structure with the credentials in it hidden, which their names tell.

    Args:
        name: the variable, or the key that the value is under.
        value: anything that came out of an inventory.
    """
    if isinstance(value, Mapping):
        # An environment variable in Kubernetes' own form.
        named = {"value": value["name"]} if {"name", "value"} <= value.keys() else {}
        return {key: sparing(named.get(key, key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [sparing(name, item) for item in value]
    return HIDDEN if CREDENTIAL.fullmatch(str(name)) and value is not None else value


def where(value: object) -> str:
    """Tell where a value was written.

    Args:
        value: anything that came out of an inventory, a role's defaults or a playbook.

    Returns:
        ``file:line``, relative to the working directory where that is shorter, or ``''`` when
        ansible-core does not know (a value that a template computed, or an extra variable).
    """
    origin = Origin.get_tag(value)
    if origin is None:
        return ""
    if not origin.path:
        return origin.description or ""
    if job.number() and origin.path.endswith(EXTRA_VARIABLES):
        return LAUNCH
    path = min(origin.path, os.path.relpath(origin.path), key=len)
    return f"{path}:{origin.line_num}" if origin.line_num else path


def retag(value: object, made: Any) -> Any:
    """Let what was made of a value know where that was written."""
    origin = Origin.get_tag(value)
    return origin.tag(made) if origin else made


def problem(path: str, value: object, allowed: str, place: str = "") -> str:
    """Word one wrong input.

    Args:
        path: the variable and the keys below it, e.g. ``triton_profiles.cpu.replicas``.
        value: what was given.
        allowed: what would be right, as a clause: ``must be a whole number of 1 or more``.
        place: where it is set, for a value that does not know (true, false and null never do).

    Returns:
        one line for the operator.
    """
    place = where(value) or place
    try:
        shown = masked(repr(value))
    except ValueError:  # Python writes no number of more than some thousand digits
        shown = "a number of thousands of digits"
    if len(shown) > LONGEST_VALUE:
        shown = f"{shown[:LONGEST_VALUE]}..."
    at = place if place in ("", DEFAULT) else f"set at {place}"
    return f"{path} is {shown}: {allowed}" + (f" ({at})" if at else "")


def nearest(name: object, known: Iterable[str]) -> str:
    """Say which names are known, and which of them was probably meant.

    Args:
        name: the unknown name.
        known: the names that would be right.

    Returns:
        a clause for :func:`problem`: ``unknown, did you mean 'gpu'? Known: cpu, gpu``.
    """
    names = sorted(str(item) for item in known)
    close = difflib.get_close_matches(str(name), names, n=1)
    hint = f"unknown, did you mean {str(close[0])!r}?" if close else "unknown."
    return f"{hint} Known: {', '.join(names) or 'none'}"


def numbered(lines: list[str]) -> str:
    """Word one problem, or several as a numbered list."""
    if len(lines) == 1:
        return lines[0]
    return f"{len(lines)} problems:\n" + "\n".join(f"  {number}. {text}" for number, text in enumerate(lines, 1))


class Problems:
    """Collects wrong inputs, so that one run reports all of them.

    Attributes:
        lines: what was found so far, each worded by :func:`problem`, without repetitions.
        found: how often something was, repetitions included: several servers may share a wrong variable.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.found = 0

    def add(self, path: str, value: object, allowed: str, place: str = "") -> None:
        """Note one wrong input; the arguments are those of :func:`problem`."""
        self.found += 1
        line = problem(path, value, allowed, place)
        if line not in self.lines:
            self.lines.append(line)
