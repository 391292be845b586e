"""What AWX has, in the form in which the role says what it is to have (``objects.Wanted``): to be compared and exported; never writes.

A field has the value that a module of awx.awx compares with what it is given, so what is equal here the module would leave as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.api import Awx
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.notifications import messages
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import NOTIFY
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.templates import ASKS, FIXED, normal
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.workflows import LINKS

# What AWX shows in the place of a secret.
ENCRYPTED = "$encrypted$"
There = Mapping[str, Mapping[str, Mapping[str, Any]]]
# Field of our form: that of the API, where the value is the same.
SAME: dict[str, tuple[str, ...]] = {
    "organization": ("name", "description"),
    "label": ("name",),
    "credential_type": ("name", "description", "kind", "inputs", "injectors"),
    "execution_environment": ("name", "description", "image", "pull"),
    "notification_template": ("name", "description", "notification_type"),
    "instance_group": (
        *("name", "policy_instance_minimum", "policy_instance_percentage", "max_concurrent_jobs", "max_forks"),
        *("is_container_group", "pod_spec_override"),
    ),
    "project": ("name", "description", "scm_type", "scm_url", "scm_branch", "scm_update_on_launch"),
    "inventory": ("name", "description"),
    "inventory_source": (
        "name",
        "description",
        "source",
        "source_path",
        "update_on_launch",
        "overwrite",
        "overwrite_vars",
    ),
    "job_template": (
        *("name", "description", "playbook", "job_type", "diff_mode", "limit", "forks", "job_slice_count", "timeout"),
        *("allow_simultaneous", "survey_enabled", *FIXED),
    ),
    "workflow": ("name", "description", "survey_enabled", "allow_simultaneous"),
    "schedule": ("name", "description", "rrule", "enabled", "unified_job_template"),
    "team": ("name", "description"),
    "credential": ("name", "description", "inputs"),
}
# What a node or a schedule can answer of its template's prompts, and no variable says: it would run elsewhere or otherwise. Of lists, the
# word of the prompt.
ANSWERS = (
    *(
        "inventory",
        "scm_branch",
        "job_type",
        "job_tags",
        "skip_tags",
        "diff_mode",
        "verbosity",
        "execution_environment",
    ),
    *("forks", "job_slice_count", "timeout"),
)
LISTS = {"credentials": "credential", "labels": "labels", "instance_groups": "instance_groups"}
# What of our form is no field of the object.
NOT_FIELDS = ("needs", "secret", "update_secrets", "cluster", "url", "token", "defaults")


class Forms:
    """Gives the forms of objects.

    Args:
        awx: where details are read.
        there: from ``state.read``.
    """

    def __init__(self, awx: Awx, there: There) -> None:
        self.awx, self.there = awx, there
        self._others: dict[str, Callable[[Mapping[str, Any]], dict]] = {
            "organization": self._organization,
            "credential": self._credential,
            "execution_environment": lambda item: self._optional(item, "credential"),
            "notification_template": self._notification,
            "instance_group": lambda item: self._optional(item, "credential"),
            "project": lambda item: self._optional(item, "credential", "default_environment"),
            "inventory_source": self._source,
            "job_template": self._job_template,
            "workflow": self._workflow,
            "schedule": self._schedule,
        }

    def form(self, kind: str, item: Mapping[str, Any]) -> dict:
        """Give the form of one object; of a node see :meth:`nodes`.

        Raises:
            Failure: AWX does not answer, or refuses.
        """
        same = {field: item[field] for field in SAME[kind] if field in item}
        return same | (self._others[kind](item) if kind in self._others else {})

    def nodes(self, item: Mapping[str, Any]) -> list[dict]:
        """Give the two forms of a node, as ``workflows.nodes`` does: its place, and what it runs."""
        names = {one["id"]: one["identifier"] for one in self.there["node"].values()}
        form: dict[str, Any] = {"workflow": item["workflow"], "identifier": item["identifier"]}
        links: dict[str, Any] = {link: [names[one] for one in item[f"{link}_nodes"]] for link in LINKS}
        links["all_parents_must_converge"] = item["all_parents_must_converge"]
        about = item["summary_fields"].get("unified_job_template") or {}
        runs: dict[str, Any] = {"template": about.get("name")}
        if "approval" in about.get("unified_job_type", ""):
            approval = self.awx.get(f"workflow_approval_templates/{about['id']}/")
            runs = {"approval": {"name": approval["name"], "timeout": approval["timeout"]}}
        runs |= {"limit": item.get("limit") or "", "extra_data": item.get("extra_data") or {}}
        # An empty limit is an answer, too: all hosts.
        runs["answers"] = self._answers(item, "workflow_job_template_nodes") + ["limit"] * (item.get("limit") == "")
        return [form | links, form | runs]

    def grants(self, team: Mapping[str, Any]) -> set[int]:
        """Give the ids of the roles that a team has."""
        return {one["id"] for one in self.awx.list(f"teams/{team['id']}/roles/")}

    def _optional(self, item: Mapping[str, Any], *fields: str) -> dict:
        return {field: named(item, field) for field in fields if item.get(field)}

    def _organization(self, item: Mapping[str, Any]) -> dict:
        return {"galaxy_credentials": self._names(item, "organizations", "galaxy_credentials")}

    def _credential(self, item: Mapping[str, Any]) -> dict:
        return {"credential_type": named(item, "credential_type")}

    def _notification(self, item: Mapping[str, Any]) -> dict:
        return {"messages": item.get("messages"), "configuration": item["notification_configuration"]}

    def _source(self, item: Mapping[str, Any]) -> dict:
        form = {"inventory": item["inventory"], "source_project": named(item, "source_project")}
        return form | self._optional(item, "execution_environment")

    def _names(self, item: Mapping[str, Any], path: str, field: str) -> list[str]:
        """Name what is in one of the lists of a template. AWX shows its credentials, and up to ten labels, beside it."""
        beside = item["summary_fields"].get(field)
        if isinstance(beside, Mapping) and beside.get("count") == len(beside.get("results", ())) < 10:
            beside = beside["results"]
        if not isinstance(beside, list):
            beside = self.awx.list(f"{path}/{item['id']}/{field}/", order="")
        return [one["name"] for one in beside]

    def _survey(self, item: Mapping[str, Any], path: str) -> dict:
        if not item["survey_enabled"]:
            return {}
        spec = self.awx.get(f"{path}/{item['id']}/survey_spec/")
        return {"survey_spec": spec | {"spec": [normal(one) for one in spec.get("spec", [])]}}

    def _notify(self, item: Mapping[str, Any], path: str, words: tuple[str, ...]) -> dict[str, list[str]]:
        return {word: self._names(item, path, f"notification_templates_{word}") for word in words}

    def _job_template(self, item: Mapping[str, Any]) -> dict:
        path = "job_templates"
        form = self._optional(item, "execution_environment") | self._survey(item, path)
        form |= {field: named(item, field) if item.get(field) else "" for field in ("project", "inventory")}
        form |= {field: self._names(item, path, field) for field in ("credentials", "labels", "instance_groups")}
        form["ask"] = {word: item[f"ask_{word}_on_launch"] for word in ASKS}
        return form | {
            "extra_vars": _variables(item["extra_vars"]),
            "notify": self._notify(item, path, NOTIFY),
        }

    def _workflow(self, item: Mapping[str, Any]) -> dict:
        path = "workflow_job_templates"
        return {
            "limit": item["limit"] or "",
            "scm_branch": item["scm_branch"] or "",
            "extra_vars": _variables(item["extra_vars"]),
            "labels": self._names(item, path, "labels"),
            "ask": {word: item[f"ask_{word}_on_launch"] for word in ("limit", "variables")},
            "notify": self._notify(item, path, (*NOTIFY, "approvals")),
            **self._survey(item, path),
        }

    def _schedule(self, item: Mapping[str, Any]) -> dict:
        form = {"limit": item["limit"] or "", "extra_data": item["extra_data"]}
        return form | {"answers": self._answers(item, "schedules")}

    def _answers(self, item: Mapping[str, Any], path: str) -> list[str]:
        """Name the prompts that a node or a schedule answers beside its limit and variables. Where none is asked for, AWX takes no list."""
        template = item.get("summary_fields", {}).get("unified_job_template") or {}
        asks = self.there["job_template"].get(template.get("name"), {})
        # An empty text says nothing: no template of ours has tags or a branch that it would beat.
        found = [field for field in ANSWERS if item.get(field) not in (None, "")]
        asked = [field for field, ask in LISTS.items() if asks.get(f"ask_{ask}_on_launch")]
        return found + [field for field in asked if self._names(item, path, field)]


def _variables(text: str) -> dict:
    """Read the variables of a template. YAML alone takes 1e-07 of JSON for text, and a character of two halves for two."""
    try:
        return json.loads(text or "{}")
    except ValueError:
        return yaml.safe_load(text) or {}


def named(item: Mapping[str, Any], field: str) -> str:
    """Give the name of what an object refers to; AWX has its id, and the name beside it."""
    if isinstance(item[field], int):
        return str(item.get("summary_fields", {}).get(field, {}).get("name", item[field]))
    return str(item[field])


def differing(wanted: Mapping[str, Any], form: Mapping[str, Any], secret: Mapping[str, Any]) -> list[str]:
    """Name the fields in which an object is not as it is to be.

    Args:
        wanted: of ``objects.Wanted``.
        form: of what is there.
        secret: fields that ``wanted`` does not hold, since they are secret. What AWX does not show of them counts as equal.
    """
    # What is ordered by name in AWX has no order of its own.
    sets = ("credentials", "labels", "success", "failure", "always")
    found = []
    for field, value in wanted.items():
        # What is not said stays as it is.
        if value is None or field in NOT_FIELDS:
            continue
        has = form.get(field)
        # What is to be empty, AWX has as null or not at all.
        has = has or "" if value == "" else has
        if field in sets:
            value, has = sorted(value), sorted(has or [])
        elif field == "messages":
            has = messages(has or {})
        elif field == "notify":
            value, has = _sorted(value), _sorted(has or {})
        # A node's or a schedule's answer to a question for a password is not shown.
        if not could_be(has, value):
            found.append(field)
    found += [field for field, value in secret.items() if not could_be(_said(form.get(field)), _said(value))]
    return found + (["secrets"] if wanted.get("update_secrets") else [])


def could_be(has: Any, value: Any) -> bool:
    """Tell whether AWX may have a value, as far as it shows it."""
    if isinstance(has, Mapping) and isinstance(value, Mapping):
        return has.keys() == value.keys() and all(could_be(has[key], value[key]) for key in value)
    return has in (ENCRYPTED, value)


def _said(inputs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Leave out what is empty, as AWX does with a secret."""
    return {key: one for key, one in (inputs or {}).items() if one != ""}


def _sorted(lists: Mapping[str, list]) -> dict[str, list]:
    return {key: sorted(value) for key, value in lists.items()}
