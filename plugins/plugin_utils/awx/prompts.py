"""What a schedule or a node says at a launch that its template does not take: AWX refuses it after half of a run; never asks AWX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.templates import OF_CHOICES, TYPES, WORDS


def problems(
    template: Mapping[str, Any], variable: str, limit: str | None, extra_vars: Mapping[str, Any], *, required: bool
) -> list[str]:
    """Hold what is said at a launch against what a template asks.

    Args:
        template: a job template or workflow of ``Wanted.found``.
        variable: that the template is an entry of, as ``awx_job_templates``.
        limit: a pattern of hosts, if one is said.
        extra_vars: variables and answers of the survey.
        required: whether the answers that the survey requires must be among them.

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
    if missing and required:
        found.append(f"needs {', '.join(missing)} in extra_vars, which the survey of {where} requires")
    for one in questions:
        wrong = _wrong(one, extra_vars[one["variable"]]) if one["variable"] in extra_vars else ""
        found += [f"must have {wrong} for {one['variable']}, as the survey of {where} asks"] if wrong else []
    return found


def unanswered(template: Mapping[str, Any], extra_vars: Mapping[str, Any]) -> list[str]:
    """Name the variables that a survey requires, and that have neither an answer nor a default: AWX starts a node's job without them."""
    questions = template.get("survey_spec", {}).get("spec", [])
    return [
        one["variable"]
        for one in questions
        if one["required"] and one.get("default", "") == "" and one["variable"] not in extra_vars
    ]


def secret(template: Mapping[str, Any], extra_vars: Mapping[str, Any]) -> bool:
    """Tell whether a question for a password is answered; arguments as for :func:`problems`."""
    questions = template.get("survey_spec", {}).get("spec", [])
    return any(one["type"] == "password" and one["variable"] in extra_vars for one in questions)


def _wrong(question: Mapping[str, Any], value: Any) -> str:
    """Say what the answer to a question must be, or nothing."""
    if question["type"] in OF_CHOICES:
        several = question["type"] == "multiselect"
        fits = isinstance(value, list) if several else not isinstance(value, list)
        if fits and all(one in question["choices"] for one in (value if several else [value])):
            return ""
        return f"{'a list' if several else 'one'} of {', '.join(question['choices'])} (in quotes)"
    kind = TYPES[question["type"]]
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        return WORDS[kind]
    size, unit = (len(value), " characters") if kind is str else (value, "")
    low, high = question.get("min"), question.get("max")
    if low is not None and size < low:
        return f"{low}{unit} at least"
    return f"{high}{unit} at most" if high is not None and size > high else ""
