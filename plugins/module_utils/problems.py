"""How a wrong input is reported: which variable, its value, what is allowed, where it is set."""

from __future__ import annotations

import os

from ansible._internal._datatag._tags import Origin


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
    path = min(origin.path, os.path.relpath(origin.path), key=len)
    return f"{path}:{origin.line_num}" if origin.line_num else path


def problem(path: str, value: object, allowed: str) -> str:
    """Word one wrong input.

    Args:
        path: the variable and the keys below it, e.g. ``triton_profiles.cpu.replicas``.
        value: what was given.
        allowed: what would be right, as a clause: ``must be a whole number of 1 or more``.

    Returns:
        one line for the operator.
    """
    place = where(value)
    return f"{path} is {value!r}: {allowed}" + (f" (set at {place})" if place else "")
