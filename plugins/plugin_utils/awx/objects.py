"""Everything that AWX is to have, kind by kind, with what each object refers to; never asks AWX, and shows no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx import prompts, schedules, teams, templates, workflows
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.surroundings import KINDS, Surroundings
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge

# What AWX looks up by name alone, whichever of these it is (``unified_job_templates``), those that a node or a schedule may name last.
UNIFIED = ("project", "inventory_source", "job_template", "workflow")
NOTIFY = ("started", "success", "error")


# Of a limit, names that are no patterns and no addresses; with a colon there are ports and IPv6, too.
SEPARATOR, PLAIN = re.compile("[,:]"), re.compile("[A-Za-z_][A-Za-z0-9_.-]*")

WORDS = {"workflow": "workflow job template", "node": "workflow node"}


def word(kind: str) -> str:
    """Name a kind as AWX does."""
    return WORDS.get(kind, kind.replace("_", " "))


def key(kind: str, item: Mapping[str, Any]) -> str:
    """Name an object among those of its kind, as a person would."""
    if kind == "node":
        return f"{item['workflow']} / {item['identifier']}"
    if kind == "inventory_source":
        return f"{item['inventory']} / {item['name']}"
    if kind == "schedule":
        return f"{item['unified_job_template']} / {item['name']}"
    if kind == "grant":
        return f"{item['role']} of {item['team']}"
    return str(item["name"])


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Give of a schedule or a node what may be told: among its variables may be an answer to a question for a password."""
    return {name: value for name, value in entry.items() if name != "extra_vars"}


def elsewhere(wanted: Mapping[str, list[dict]], inventory: str, known: set[str]) -> list[str]:
    """Say which limits name no host or group: AWX takes them, and the job finds no host.

    Args:
        wanted: ``Wanted.found``.
        inventory: name of AWX's inventory that has the same hosts and groups.
        known: these.
    """
    others = {item["name"] for item in wanted["job_template"] if item["inventory"] != inventory}
    found = []
    for kind in ("job_template", "workflow", "node", "schedule"):
        for item in wanted[kind]:
            limit = item.get("limit") or ""
            names = [name.strip().lstrip("!&") for name in SEPARATOR.split(limit)]
            lost = [name for name in names if PLAIN.fullmatch(name) and name not in known]
            if lost and not others & {item.get("name"), item.get("template"), item.get("unified_job_template")}:
                about = f"{word(kind)} {key(kind, item)} has the limit {limit}"
                found.append(f"{about}: the inventory has no host or group {', '.join(lost)}")
    return found


class Wanted(Surroundings):
    """Computes what AWX is to have.

    Args:
        values: the variables of the role by name without prefix.
        clusters: the clusters of the inventory.

    Attributes:
        problems: what is wrong with the variables.
        found: kind to its objects. Each has fields of its module, and ``needs``: what it refers to of the same structure,
            as kind and key. What is secret is not in it.
        secrets: kind and key of an object to its fields that are, or may be.
    """

    def __init__(self, values: Mapping[str, Any], clusters: Clusters) -> None:
        super().__init__(values, clusters)
        self.templates = self._merged("job_templates", "playbook")
        self.workflows = self._merged("workflows", "nodes")
        self._job_templates()
        self._workflows()
        self._schedules()
        self._teams()
        self._check_names()

    def _merged(self, name: str, needed: str) -> dict[str, dict]:
        """Give what the role brings with the inventory's over it, without what is not enabled."""
        merged = merge(specs.catalogue("awx", name), self.values[name])
        kept = {key: entry for key, entry in merged.items() if is_true(entry.get("enabled", True))}
        for key, entry in kept.items():
            if entry.get("nodes"):
                # A node that is null is one less.
                kept[key] = {**entry, "nodes": {name: node for name, node in entry["nodes"].items() if node}}
        for key, entry in list(kept.items()):
            if not entry.get(needed):
                hint = nearest(key, specs.catalogue("awx", name))
                meant = f", did you mean {hint}?" if hint else ""
                self.problems.add(f"awx_{name}.{key}", self.values[name][key], f"needs {needed}{meant}")
                del kept[key]
        return kept

    # --- Job templates and workflows ---

    def _notify(
        self, path: str, entry: Mapping[str, Any], words: tuple[str, ...] = NOTIFY
    ) -> tuple[dict, list[tuple[str, str]]]:
        """Give who is told of a template when, and what that refers to."""
        own = entry.get("notify")
        said = {word: list((self.values["notify"] if own is None else own).get(word) or []) for word in words}
        for name in [] if own is None else sorted({name for found in said.values() for name in found}):
            self._one_of(f"{path}.notify", name, self.values["notifications"], "awx_notifications")
        names = {name for found in said.values() for name in found}
        return said, [("notification_template", name) for name in sorted(names)]

    def _job_templates(self) -> None:
        values = self.values
        for name, entry in self.templates.items():
            path = f"awx_job_templates.{name}"
            project = entry.get("project") or values["project"]
            inventory = entry.get("inventory") or values["inventory"]
            where = f"{path}.project" if entry.get("project") else "awx_project"
            self._one_of(where, project, values["projects"], "awx_projects")
            where = f"{path}.inventory" if entry.get("inventory") else "awx_inventory"
            self._one_of(where, inventory, values["inventories"], "awx_inventories")
            for word in entry.get("ask") or []:
                self._one_of(f"{path}.ask", word, list(templates.ASKS), "what can be asked")
            if wrong := templates.sliced(entry):
                self.problems.add(f"{path}.slices", entry.get("slices", "asked at launch"), wrong)
            own = entry.get("credentials") or []
            made = [item["name"] for item in self.found["credential"]]
            for credential in own:
                self._one_of(f"{path}.credentials", credential, made, "awx_credentials")
            credentials = [*self.connections[entry.get("clusters", "deployer")], *own]
            labels = list(dict.fromkeys([*values["labels"], *(entry.get("labels") or [])]))
            for label in labels:
                self._label(label)
            notify, told = self._notify(path, entry)
            if wrong := templates.problem(entry.get("survey") or [], self.clusters):
                self.problems.add(f"{path}.survey", entry["survey"], wrong)
                continue
            item = templates.job_template(name, entry, self.clusters)
            if wrong := templates.hidden(item):
                self.problems.add(f"{path}.extra_vars", item["extra_vars"], wrong)
            item |= {"description": self._described(entry.get("description", "")), "project": project}
            item |= {"inventory": inventory, "credentials": credentials, "labels": labels, "notify": notify}
            item |= {"execution_environment": self.environment}
            needs = [("project", project), ("inventory", inventory), *(("credential", one) for one in credentials)]
            needs += [("execution_environment", self.environment)] if self.environment else []
            groups = [one for one in item["instance_groups"] if one in values["instance_groups"]]
            needs += [*(("label", one) for one in labels), *told, *(("instance_group", one) for one in groups)]
            self._add("job_template", item, *needs)

    def _workflows(self) -> None:
        values = self.values
        canary = values["canary"] or self.clusters.hosts[:1]
        for host in canary:
            self._one_of("awx_canary", host, self.clusters.hosts, "the hosts of the group clusters")
        if len(self.clusters.hosts) <= len(canary) and not values["workflows"].get("fleet"):
            # There is no rest.
            self.workflows.pop("fleet", None)
        self._evaluation()
        known = {*self.templates, *self.workflows}
        for name, entry in self.workflows.items():
            for word in entry.get("ask") or []:
                self._one_of(f"awx_workflows.{name}.ask", word, ["limit", "variables"], "what can be asked")
            wrong = workflows.problems(name, entry, known, self.templates)
            for path, value, allowed in wrong:
                self.problems.add(f"awx_workflows.{path}", value, allowed)
            if not wrong:
                self._workflow(name, entry, canary)
        for node in self.found["node"]:
            name, identifier = node["workflow"], node["identifier"]
            # Not of a name with space around it, which AWX removes: that is a problem of its own.
            entry = self.workflows.get(name, {}).get("nodes", {}).get(identifier)
            if entry and "template" in node:
                # What a survey requires, the workflow may be told when it is launched, or the nodes before may hand on.
                self._prompts(f"awx_workflows.{name}.nodes.{identifier}", entry, node, required=False)
        for flow in self.found["workflow"]:
            self._first_nodes(flow)

    def _first_nodes(self, flow: Mapping[str, Any]) -> None:
        """Look whether the nodes that nothing comes before have what their templates require: only the workflow's survey could give it."""
        if flow["ask"]["variables"]:
            return
        name = flow["name"]
        nodes = self.workflows[name]["nodes"]
        after = {to for node in nodes.values() for link in workflows.LINKS for to in node.get(link) or []}
        asked = {one["variable"] for one in flow.get("survey_spec", {}).get("spec", [])}
        for identifier, node in nodes.items():
            if identifier in after or not node.get("template"):
                continue
            for template in self._template(node["template"]):
                missing = [
                    one for one in prompts.unanswered(template, node.get("extra_vars") or {}) if one not in asked
                ]
                if missing:
                    kind = self._kind_of(node["template"])
                    allowed = f"needs {', '.join(missing)} in extra_vars, which the survey of awx_{kind}s.{node['template']} requires"
                    self.problems.add(f"awx_workflows.{name}.nodes.{identifier}", _shown(node), allowed)

    def _evaluation(self) -> None:
        """Let a job template of the inventory's take the place of the person who says that an evaluation is done."""
        own = self.values["evaluation"]
        self._one_of("awx_evaluation", own, self.templates, "awx_job_templates")
        if own and "evaluate" in self.workflows:
            node = {"template": own, "approval": None}
            self.workflows["evaluate"] = merge(self.workflows["evaluate"], {"nodes": {"evaluate": node}})

    def _workflow(self, name: str, entry: Mapping[str, Any], canary: list[str]) -> None:
        values = self.values
        notify, told = self._notify(f"awx_workflows.{name}", entry, (*NOTIFY, "approvals"))
        item = {"name": name, "description": self._described(entry.get("description", "")), "notify": notify}
        labels = list(dict.fromkeys([*values["labels"], *(entry.get("labels") or [])]))
        for label in labels:
            self._label(label)
        item |= {"labels": labels, "limit": entry.get("limit") or ""}
        # No variable says these. Variables of a workflow would beat what its nodes hand on, such as what was approved.
        item |= {"allow_simultaneous": False, "extra_vars": {}, "scm_branch": ""}
        item |= {"ask": {word: word in (entry.get("ask") or ()) for word in ("limit", "variables")}}
        if wrong := templates.problem(entry.get("survey") or [], self.clusters):
            self.problems.add(f"awx_workflows.{name}.survey", entry["survey"], wrong)
            return
        item |= templates.survey(name, entry.get("survey") or [], self.clusters)
        self._add("workflow", item, *(("label", one) for one in labels), *told)
        for node in workflows.nodes(name, entry, canary, values["approval_timeout"]):
            needs = [("workflow", name)]
            if "template" in node:
                needs.append((self._kind_of(node["template"]), node["template"]))
            needs += [("node", f"{name} / {to}") for link in workflows.LINKS for to in node.get(link, ())]
            self._add("node", node, *needs)

    def _kind_of(self, template: str) -> str:
        return "job_template" if template in self.templates else "workflow"

    def _prompts(self, path: str, entry: Mapping[str, Any], item: dict[str, Any], *, required: bool) -> None:
        """Look whether a template takes what a node or a schedule (``entry``; computed ``item``) says at its launch, and if that is secret."""
        variable = f"awx_{self._kind_of(entry['template'])}s"
        for template in self._template(entry["template"]):
            item["secret"] = prompts.secret(template, item["extra_data"])
            for wrong in prompts.problems(template, variable, item["limit"], item["extra_data"], required=required):
                self.problems.add(path, _shown(entry), wrong)

    def _template(self, name: str) -> list[dict]:
        """Find a job template or workflow; one that is wrong is not there."""
        return [item for item in self.found[self._kind_of(name)] if item["name"] == name]

    # --- When, and who ---

    def _schedules(self) -> None:
        known = [*self.templates, *self.workflows]
        for name, entry in self.values["schedules"].items():
            path = f"awx_schedules.{name}"
            self._one_of(f"{path}.template", entry["template"], known, "awx_job_templates or awx_workflows")
            rule = entry.get("rrule")
            try:
                rule = (
                    schedules.given(rule)
                    if rule
                    else schedules.rrule(
                        entry.get("at") or "", entry.get("days") or (), entry.get("time_zone") or "UTC"
                    )
                )
            except ValueError as error:
                self.problems.add(path, _shown(entry), f"{error}")
                continue
            item = {"name": name, "unified_job_template": entry["template"], "rrule": rule}
            item |= {"enabled": bool(entry.get("enabled", True)), "extra_data": entry.get("extra_vars") or {}}
            item |= {"limit": entry.get("limit") or "", "description": self._described()}
            self._prompts(path, entry, item, required=True)
            self._add("schedule", item, (self._kind_of(entry["template"]), entry["template"]))

    def _teams(self) -> None:
        kinds = ("project", "inventory", "job_template", "workflow")
        everything = {kind: [item["name"] for item in self.found[kind]] for kind in kinds}
        open_to_all = [name for name, entry in self.templates.items() if not entry.get("guarded")]
        for name, entry in self.values["teams"].items():
            for field, known in (("templates", self.templates), ("workflows", self.workflows)):
                for one in entry.get(field) or []:
                    self._one_of(f"awx_teams.{name}.{field}", one, known, f"awx_{field}")
            self._add("team", {"name": name, "description": self._described()})
            for grant in teams.grants(name, entry, everything, open_to_all):
                needs = [(kind, one) for field, kind in teams.FIELDS.items() for one in grant.get(field, ())]
                self._add("grant", grant, ("team", name), *needs)

    def _check_names(self) -> None:
        seen: dict[str, str] = {}
        for kind in UNIFIED:
            for item in self.found[kind]:
                name = item["name"]
                if name in seen and kind in UNIFIED[2:]:
                    allowed = f"must differ from the {seen[name]} of that name: AWX looks both up by it"
                    self.problems.add(f"awx_{kind}s.{name}", name, allowed)
                seen[name] = kind.replace("_", " ")
        for kind in KINDS:
            for item in self.found[kind]:
                name = str(item.get("name", ""))
                if name.isdecimal():
                    self.problems.add(f"name of a {kind}", name, "must not be a number: AWX takes it for an id")
                if "++" in name:
                    allowed = "must not have ++: the modules of awx.awx take it for the address of an object"
                    self.problems.add(f"name of a {kind}", name, allowed)
                if name != name.strip():
                    self.problems.add(f"name of a {kind}", name, "must not begin or end with a space: AWX removes it")
