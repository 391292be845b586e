"""What a schedule says at a launch that its template does not take: AWX refuses it after half of a run; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def problems(template: Mapping[str, Any], variable: str, limit: str | None, extra_vars: Mapping[str, Any]) -> list[str]:
    """Hold what is said at a launch against what a template asks.

    Args:
        template: a job template or workflow of ``Wanted.found``.
        variable: that the template is an entry of, as ``awx_job_templates``.
        limit: a pattern of hosts, if one is said.
        extra_vars: variables and answers of the survey.

    Returns:
        for each what it must be, in words that go on after the value.
    """
    where, ask = f"{variable}.{template['name']}", template["ask"]
    questions = template.get("survey_spec", {}).get("spec", [])
    found = []
    if limit and not ask["limit"]:
        found.append(f"has a limit, which its template does not ask for (ask of {where})")
    answered = {one["variable"] for one in questions}
    others = sorted(set(extra_vars) - answered)
    if others and not ask["variables"]:
        takes = f"the survey of {where} has {', '.join(sorted(answered)) or 'no variable'}, and ask no variables"
        found.append(f"has {', '.join(others)}, which its template does not take: {takes}")
    missing = [one["variable"] for one in questions if one["required"] and one["variable"] not in extra_vars]
    if missing:
        found.append(f"needs {', '.join(missing)} in extra_vars, which the survey of {where} requires")
    return found
