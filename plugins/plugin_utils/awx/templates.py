"""Job templates: what each runs, asks and may take, from what the role brings and the inventory changes; never asks AWX."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.fleet import CANARY, SERIAL

# More forks at once take memory that an execution node may not have.
MOST_FORKS, DEFAULT_FORKS = 16, 5
ASKS = (
    *("limit", "job_type", "diff_mode", "verbosity", "variables", "credential"),
    *("forks", "instance_groups", "job_slice_count", "tags", "skip_tags", "labels", "timeout"),
)

# Types of a survey's questions, to the types of their defaults.
OF_CHOICES = ("multiplechoice", "multiselect")
TYPES = {**dict.fromkeys(("text", "textarea", "password", *OF_CHOICES), str), "integer": int, "float": float}
WORDS = {str: "text (in quotes)", int: "a whole number", float: "a number with a point"}
# What no variable says: another inventory or image at launch would reach other clusters, or run other code. Another branch AWX takes only
# of a project that allows it, and these do not.
FIXED: dict[str, Any] = {
    **dict.fromkeys(("scm_branch", "job_tags", "skip_tags"), ""),
    "verbosity": 0,
    **dict.fromkeys(
        ("ask_inventory_on_launch", "ask_execution_environment_on_launch", "ask_scm_branch_on_launch"), False
    ),
}


def job_template(name: str, entry: Mapping[str, Any], clusters: Clusters) -> dict:
    """Compute one job template, but for what it refers to.

    Args:
        name: its name.
        entry: what the role brings of it, with the inventory's keys over them.
        clusters: the clusters of the inventory.

    Returns:
        fields of the module awx.awx.job_template.
    """
    forks = entry.get("forks", min(MOST_FORKS, len(clusters.hosts)))
    found = {
        **FIXED,
        "name": name,
        "playbook": entry["playbook"],
        "job_type": "check" if entry.get("check") else "run",
        "diff_mode": bool(entry.get("check")),
        "limit": entry.get("limit") or "",
        "forks": forks,
        "job_slice_count": entry.get("slices", 1),
        "timeout": timeout_seconds(entry.get("timeout", 0), clusters, 1 if _in_waves(entry) else forks),
        "extra_vars": entry.get("extra_vars") or {},
        # Two jobs on one cluster would wait for each other's lock.
        "allow_simultaneous": False,
        "ask": {word: word in (entry.get("ask") or ()) for word in ASKS},
        "instance_groups": entry.get("instance_groups", []),
    }
    return found | survey(name, entry.get("survey") or [], clusters)


def sliced(entry: Mapping[str, Any]) -> str:
    """Say why a template may not divide its clusters among jobs, or nothing: AWX keeps one of their artifacts of a name."""
    divided = int(entry.get("slices") or 1) > 1 or "job_slice_count" in (entry.get("ask") or ())
    if divided and entry.get("check"):
        return "must be 1 with check: AWX would hand on what one of the slices found, and the approval would be for its clusters alone"
    return ""


def timeout_seconds(said: int | Mapping[str, int], clusters: Clusters, forks: int) -> int:
    """Compute after how many seconds AWX cancels a job.

    Args:
        said: the seconds; or ``rollouts``, how many of the slowest cluster one after the other, and seconds that come on top (``plus``).
        clusters: the clusters of the inventory.
        forks: how many of them a job has at once; 0 for Ansible's own number.
    """
    if not isinstance(said, Mapping):
        return int(said)
    rounds = math.ceil(len(clusters.hosts) / (forks or DEFAULT_FORKS))
    return rounds * (said.get("rollouts", 0) * clusters.rollout_seconds + said.get("plus", 0))


def _in_waves(entry: Mapping[str, Any]) -> bool:
    """Tell whether a job may be told to go in waves, each after the one before: at worst of one cluster each."""
    told = {*(entry.get("extra_vars") or {}), *(one.get("variable") for one in entry.get("survey") or ())}
    return "variables" in (entry.get("ask") or ()) or not told.isdisjoint((SERIAL, CANARY))


def survey(name: str, questions: list[Mapping[str, Any]], clusters: Clusters) -> dict:
    """Write a survey in the form of AWX; a question that is in that form already stays as it is.

    Args:
        name: of the template that it belongs to.
        questions: as in ``roles/awx/job_templates.yml``.
        clusters: the clusters of the inventory.

    Returns:
        ``survey_enabled``, and ``survey_spec`` if there are questions: AWX takes none without.
    """
    if not questions:
        return {"survey_enabled": False}
    spec = [_normal(one, clusters) for one in questions]
    return {"survey_enabled": True, "survey_spec": {"name": name, "description": "", "spec": spec}}


def problem(questions: list[Mapping[str, Any]], clusters: Clusters) -> str:
    """Say what is wrong with the questions of a survey, or nothing; arguments as for :func:`survey`."""
    seen: set[str] = set()
    for number, one in enumerate(questions, 1):
        needed = ("question", "variable") if "question" in one else ("question_name", "variable", "type", "required")
        if missing := [field for field in needed if field not in one]:
            return f"needs {', '.join(missing)} in question {number}"
        written = _normal(one, clusters)
        wrong = _wrong(written)
        if written["variable"] in seen:
            wrong = f"must have another variable than {written['variable']}, which an earlier question has,"
        if wrong:
            return f"{wrong} in question {number}"
        seen.add(written["variable"])
    return ""


def hidden(template: Mapping[str, Any]) -> str:
    """Say which variables of a template no job would ever have, or nothing: AWX gives it the default of a question instead."""
    questions = template.get("survey_spec", {}).get("spec", [])
    asked = [one["variable"] for one in questions if one.get("default", "") != ""]
    if found := [name for name in template["extra_vars"] if name in asked]:
        return f"must not have {', '.join(found)}: its survey has a default for it, which AWX takes instead; say it at the launch or in a schedule"
    return ""


def _wrong(one: Mapping[str, Any]) -> str:
    """Say what is wrong with one question in the form of AWX, or nothing."""
    kind, default = TYPES.get(one["type"]), one.get("default")
    if kind is None:
        return f"must have a type of {', '.join(TYPES)}, not {one['type']},"
    if not isinstance(one["required"], bool):
        return "must have true or false for required"
    for limit in ("min", "max"):
        if isinstance(one.get(limit), bool) or not isinstance(one.get(limit), int | None):
            return f"must have a whole number for {limit}"
    if "default" in one and default != "" and (isinstance(default, bool) or not isinstance(default, kind)):
        return f"must have a default that is {WORDS[kind]}"
    return _wrong_choices(one) if one["type"] in OF_CHOICES else ""


def _wrong_choices(one: Mapping[str, Any]) -> str:
    choices, defaults = one.get("choices") or [], (one.get("default") or "").splitlines()
    if not choices:
        return "needs choices"
    if not all(isinstance(choice, str) for choice in choices):
        # Such as yes and no, which YAML takes for booleans. An answer is text, and would be none of them.
        return "must have choices that are text (in quotes)"
    if one["type"] == "multiplechoice" and len(defaults) > 1:
        return "must have one default"
    other = [default for default in defaults if default not in choices]
    return f"must have a default of its choices, not {', '.join(other)}," if other else ""


def _normal(one: Mapping[str, Any], clusters: Clusters) -> dict:
    found = normal(one if "question_name" in one else _question(one, clusters))
    # AWX's own page of a survey fails if such a question has no default. An empty one gives a job nothing.
    return {"default": "", **found} if found["type"] in OF_CHOICES else found


def normal(one: Mapping[str, Any]) -> dict:
    """Give a question in the one form that is compared: choices as a list, where AWX takes text of a line for each as well.

    Of the lines of choices, and of a default among them, AWX drops the empty ones.
    """
    found = dict(one)
    if isinstance(one.get("choices"), str):
        found["choices"] = _lines(one["choices"])
    if one.get("type") in OF_CHOICES and isinstance(one.get("default"), str):
        found["default"] = "\n".join(_lines(one["default"]))
    return found


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _question(said: Mapping[str, Any], clusters: Clusters) -> dict:
    choices = said.get("choices")
    if isinstance(choices, str):
        choices = clusters.choices(choices)
    kind = said.get("type") or ("multiselect" if said.get("several") else "multiplechoice")
    found = {
        "question_name": said["question"],
        "question_description": said.get("about", ""),
        "variable": said["variable"],
        "type": kind,
        "required": said.get("required", False),
    }
    found |= {"choices": list(choices)} if choices is not None else {}
    return found | {key: said[key] for key in ("min", "max", "default") if key in said}
