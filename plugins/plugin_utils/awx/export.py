"""What AWX has of an organization as variables of the role awx, so that an inventory can be begun with it; never writes, and knows no secret."""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Mapping
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import teams, templates
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import ENCRYPTED, Forms, There
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.namesakes import MARK
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import word
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.state import MANAGED
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.surroundings import CLUSTER_TYPE, ITS_GROUPS, mark
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.workflows import LINKS
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs

JINJA = re.compile(r"\{[{%#]")
# What a job template says in the same words as awx_job_templates does.
SAME = ("playbook", "project", "inventory", "limit", "forks", "timeout", "extra_vars", "labels", "instance_groups")


class Export:
    """Turns what is there into variables.

    Args:
        there: from ``state.read``.
        forms: of what is there.
        organization: its name.
        clusters: those of the inventory, if there are any: what the role would make of them by itself is left out.

    Attributes:
        missing: what no variable can say.
    """

    def __init__(self, there: There, forms: Forms, organization: str, clusters: Clusters | None) -> None:
        self.there, self.organization, self.clusters = there, organization, clusters
        self.missing: list[str] = []
        self.forms = {
            kind: {name: forms.form(kind, item) for name, item in items.items()}
            for kind, items in there.items()
            if kind not in ("node", "grant", MANAGED)
        }
        self.nodes = {name: forms.nodes(item) for name, item in there["node"].items()}
        self.roles = {name: forms.grants(team) for name, team in there["team"].items()}
        self.types = {
            name.removeprefix(CLUSTER_TYPE): name for name in there["credential_type"] if name.startswith(CLUSTER_TYPE)
        }

        self._leave_out()
        every = [*self.forms["job_template"].values(), *self.forms["workflow"].values()]
        # Those that all have.
        self.labels = [name for name in there["label"] if every and all(name in form["labels"] for form in every)]

    def variables(self) -> dict[str, Any]:
        """Give the variables that are not as the role brings them."""
        found: dict[str, Any] = {"awx_organization": self.organization}
        galaxy = self.forms["organization"].get(self.organization, {}).get("galaxy_credentials")
        found |= {"awx_galaxy_credentials": galaxy} if galaxy else {}
        found |= {"awx_labels": self.labels} | self._environment()
        found["awx_instance_groups"] = {
            name: _said(form, "name") for name, form in self.forms["instance_group"].items() if name not in ITS_GROUPS
        }
        found["awx_projects"] = {name: self._project(form) for name, form in self.forms["project"].items()}
        found["awx_inventories"] = {name: {"sources": self._sources(name)} for name in self.forms["inventory"]}
        found |= self._credentials()
        found["awx_notifications"] = {
            name: self._notification(name, form) for name, form in self.forms["notification_template"].items()
        }
        found |= self._templates() | self._workflows()
        found["awx_schedules"] = {
            form["name"]: {"template": form["unified_job_template"], "rrule": form["rrule"], "enabled": form["enabled"]}
            | ({"limit": form["limit"]} if form["limit"] else {})
            | ({"extra_vars": form["extra_data"]} if form["extra_data"] else {})
            for form in self.forms["schedule"].values()
        }
        found["awx_teams"] = {name: self._team(name) for name in self.forms["team"]}
        # No seconds for an approval are any time, and not the role's.
        return {name: value for name, value in found.items() if value or value == 0 or name == "awx_labels"}

    def _leave_out(self) -> None:
        """Leave out what the variables have no words for, with all that refers to it: the role would refuse it, or make it otherwise."""
        there = self.there
        self._keep("project", lambda name, form: form["scm_type"] == "git")
        self._keep("inventory", lambda name, form: not there["inventory"][name].get("kind"))
        self._keep(
            "inventory_source",
            lambda name, form: (
                form["source"] == "scm"
                and form["inventory"] in self.forms["inventory"]
                and form["source_project"] in self.forms["project"]
            ),
        )
        for name, form in self.forms["inventory_source"].items():
            off = [field for field in ("overwrite", "overwrite_vars") if not form[field]]
            self.missing += [f"that {' and '.join(off)} of the inventory source {name} is off"] if off else []
        self._keep(
            "credential_type",
            lambda name, form: all(one == self.organization for one in MARK.findall(form["description"])),
        )
        self._keep(
            "job_template",
            lambda name, form: (
                form["project"] in self.forms["project"]
                and form["inventory"] in ("", *self.forms["inventory"])
                and set(form["credentials"]) <= set(self.forms["credential"])
            ),
        )
        self.missing += [
            f"{', '.join(form['answers'])} of the {what} {name}"
            for what, found in (
                ("schedule", self.forms["schedule"]),
                ("workflow node", {name: one[1] for name, one in self.nodes.items()}),
            )
            for name, form in found.items()
            if form["answers"]
        ]
        known = {None, *self.forms["job_template"], *self.forms["workflow"]}
        self._keep(
            "workflow",
            lambda name, form: all(
                one[1].get("template") in known for one in self.nodes.values() if one[1]["workflow"] == name
            ),
        )
        known, seen = {*self.forms["job_template"], *self.forms["workflow"]}, set()

        def is_first(name: str, form: Mapping[str, Any]) -> bool:
            first = form["unified_job_template"] in known and form["name"] not in seen
            seen.add(form["name"])
            return first

        self._keep("schedule", is_first)
        self._keep("team", lambda name, form: self._granted(name) == self._has(name))

    def _keep(self, kind: str, sayable: Callable[[str, Mapping[str, Any]], bool]) -> None:
        kept = {name: form for name, form in self.forms[kind].items() if sayable(name, form)}
        self.missing += [f"the {word(kind)} {name}" for name in self.forms[kind] if name not in kept]
        self.forms[kind] = kept

    def text(self) -> str:
        """Write the variables as a file of an inventory has them."""
        body = yaml.dump(self.variables(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
        return "".join(f"# not said here: {line}\n" for line in self.missing) + body

    def _description(self, form: Mapping[str, Any]) -> str:
        return (form.get("description") or "").replace(mark(self.organization), "").rstrip()

    def _environment(self) -> dict:
        used = collections.Counter(
            form["execution_environment"]
            for form in self.forms["job_template"].values()
            if form.get("execution_environment")
        )
        if not used:
            return {}
        name = used.most_common(1)[0][0]
        self.missing += [f"the execution environment {other} of some job templates" for other in used if other != name]
        return {
            "awx_execution_environment": _said(
                self.forms["execution_environment"].get(name, {"name": name}), "description"
            )
        }

    def _project(self, form: Mapping[str, Any]) -> dict:
        found = {"url": form["scm_url"], "branch": form["scm_branch"], "credential": form.get("credential")}
        return _said(found | {"update_on_launch": form["scm_update_on_launch"]})

    def _sources(self, inventory: str) -> dict:
        return {
            form["name"]: {
                "project": form["source_project"],
                "path": form["source_path"],
                "update_on_launch": form["update_on_launch"],
            }
            for form in self.forms["inventory_source"].values()
            if form["inventory"] == inventory
        }

    # --- Credentials ---

    def _credentials(self) -> dict:
        found: dict[str, dict] = {"awx_clusters": {}, "awx_credential_types": {}, "awx_credentials": {}}
        for name, form in self.forms["credential_type"].items():
            if name not in self.types.values():
                found["awx_credential_types"][name] = _said(form, "name", "description")
        for name, form in self.forms["credential"].items():
            host = form["credential_type"].removeprefix(CLUSTER_TYPE)
            if host not in self.types:
                inputs = _vaulted(name, form["inputs"])
                found["awx_credentials"][name] = {"type": form["credential_type"], "inputs": inputs}
                continue
            inputs = {field: form["inputs"].get(field, "") for field in ("url", "ca")}
            about = found["awx_clusters"].setdefault(host, inputs)
            field = "reader_token" if name.endswith(" reader") else "token"
            about[field] = _vault(f"{host}_{field}")
        return found

    def _notification(self, name: str, form: Mapping[str, Any]) -> dict:
        found = {"type": form["notification_type"], "configuration": _vaulted(name, form["configuration"])}
        return found | ({"messages": form["messages"]} if form.get("messages") else {})

    # --- Job templates and workflows ---

    def _templates(self) -> dict:
        every = [*self.forms["job_template"].values(), *self.forms["workflow"].values()]
        notify = [{word: names for word, names in form["notify"].items() if names} for form in every]
        common = max(notify, key=len, default={})
        found = {name: self._template(name, form, common) for name, form in self.forms["job_template"].items()}
        for name in specs.catalogue("awx", "job_templates"):
            found.setdefault(name, {"enabled": False})
        return {"awx_notify": common, "awx_job_templates": {name: said for name, said in found.items() if said}}

    def _template(self, name: str, form: Mapping[str, Any], notify: Mapping[str, list]) -> dict:
        brought = specs.catalogue("awx", "job_templates").get(name, {})
        default: dict[str, Any] = {"project": "modelyard", "inventory": "clusters", "clusters": "deployer"}
        default |= {"slices": 1, "forks": None}
        if brought and self.clusters:
            computed = templates.job_template(name, brought, self.clusters)
            default |= self._words(computed) | {key: computed[key] for key in SAME if key in computed}
            default |= {key: brought[key] for key in ("clusters", "description") if key in brought}
        found = {key: form[key] for key in SAME} | self._words(form) | self._access(form)
        found |= {"description": self._description(form), "labels": self._further(form)}
        said = {key: value for key, value in found.items() if value != default.get(key, type(value)())}
        self._unsaid(name, form)
        return said | self._notify(form, notify)

    @staticmethod
    def _words(form: Mapping[str, Any]) -> dict:
        """Give what awx_job_templates calls otherwise."""
        return {
            "check": form["job_type"] == "check",
            "ask": [word for word, asked in form["ask"].items() if asked],
            "slices": form["job_slice_count"],
            "survey": form.get("survey_spec", {}).get("spec", []),
        }

    def _access(self, form: Mapping[str, Any]) -> dict:
        """Tell which of the clusters' credentials a template has, as one word where it has those of all of them."""
        has = set(form["credentials"])
        for account in ("deployer", "reader"):
            of_all = {
                next((one for one in (f"{host} {account}", f"{host} deployer") if one in self.forms["credential"]), "")
                for host in self.types
            } - {""}
            if of_all and of_all <= has:
                return {"clusters": account, "credentials": sorted(has - of_all)}
        return {"clusters": "none", "credentials": sorted(has)}

    def _further(self, form: Mapping[str, Any]) -> list[str]:
        return [name for name in form["labels"] if name not in self.labels]

    def _unsaid(self, name: str, form: Mapping[str, Any]) -> None:
        for field, value in templates.FIXED.items():
            if form[field] != value:
                self.missing.append(f"{field} of the job template {name}")
        if form["allow_simultaneous"]:
            self.missing.append(f"concurrent jobs of the job template {name}")
        if form["diff_mode"] != (form["job_type"] == "check"):
            self.missing.append(f"whether the job template {name} shows changes")

    @staticmethod
    def _notify(form: Mapping[str, Any], common: Mapping[str, list]) -> dict:
        has = {word: names for word, names in form["notify"].items() if names}
        # A job template is told of no approval.
        usual = {word: names for word, names in common.items() if word in form["notify"]}
        return {} if has == usual else {"notify": {word: has.get(word, []) for word in form["notify"]}}

    def _workflows(self) -> dict:
        timeouts = [one["approval"]["timeout"] for found in self.nodes.values() for one in found if "approval" in one]
        found = {}
        for name, form in self.forms["workflow"].items():
            brought = specs.catalogue("awx", "workflows").get(name, {})
            nodes: dict[str, Any] = dict.fromkeys(brought.get("nodes", {}))
            nodes |= {
                one[0]["identifier"]: _node(one[0] | one[1])
                for one in self.nodes.values()
                if one[0]["workflow"] == name
            }
            ask = [word for word, asked in form["ask"].items() if asked]
            found[name] = {"description": self._description(form), "ask": ask, "nodes": nodes}
            found[name] |= {"labels": self._further(form)} if self._further(form) else {}
            found[name] |= {"limit": form["limit"]} if form["limit"] else {}
            beyond = {"variables": "extra_vars", "a branch": "scm_branch", "concurrent jobs": "allow_simultaneous"}
            self.missing += [f"{what} of the workflow {name}" for what, field in beyond.items() if form[field]]
            survey = form.get("survey_spec", {}).get("spec")
            found[name] |= {"survey": survey} if survey else {}
        for name in specs.catalogue("awx", "workflows"):
            found.setdefault(name, {"enabled": False})
        common = max(set(timeouts), key=timeouts.count, default=None)
        self.missing += [f"approvals that may take {other} s" for other in sorted(set(timeouts) - {common})]
        return {"awx_approval_timeout": common, "awx_workflows": found}

    def _allowed(self, team: str, kind: str, role: str) -> list[str]:
        return [
            one
            for one, item in self.there[kind].items()
            if one in self.forms[kind]
            and item["summary_fields"]["object_roles"].get(f"{role}_role", {}).get("id") in self.roles[team]
        ]

    def _has(self, team: str) -> set[tuple[str, str, str]]:
        """Give the rights of a team that the role grants and takes back."""
        return {
            (role, field, one)
            for role in teams.ROLES
            for field, kind in teams.FIELDS.items()
            for one in self._allowed(team, kind, role)
        }

    def _granted(self, team: str) -> set[tuple[str, str, str]]:
        """Give the rights that the team would have by its variable."""
        everything = {kind: list(self.forms[kind]) for kind in teams.FIELDS.values()}
        return {
            (grant["role"], field, one)
            for grant in teams.grants(team, self._team(team), everything, [])
            for field in teams.FIELDS
            for one in grant.get(field, ())
        }

    def _team(self, name: str) -> dict:
        launched, flows = (self._allowed(name, kind, "execute") for kind in ("job_template", "workflow"))
        if launched or flows:
            # An empty list is none, and left out it is all.
            return {"role": "operator", "templates": launched, "workflows": flows}
        approved = self._allowed(name, "workflow", "approval")
        return {"role": "approver", "workflows": approved} if approved else {"role": "viewer"}


def _node(form: Mapping[str, Any]) -> dict:
    what = {"approval": form["approval"]["name"]} if "approval" in form else {"template": form["template"]}
    # The key that the role may have brought for it goes.
    what |= {"template": None} if "approval" in what else {"approval": None}
    what |= {"limit": form["limit"] or None, "all_parents": form["all_parents_must_converge"] or None}
    what |= {"extra_vars": form["extra_data"]} if form["extra_data"] else {}
    return what | {link: form[link] for link in LINKS}


def _said(form: Mapping[str, Any], *without: str) -> dict:
    """Give what a form says, without what is empty."""
    return {key: value for key, value in form.items() if value not in (None, "", [], {}) and key not in without}


def _vaulted(name: str, fields: Mapping[str, Any]) -> dict:
    return {key: _vault(f"{name}_{key}") if value == ENCRYPTED else value for key, value in fields.items()}


class _Vault(str):
    """Text that Ansible is to render."""


def _vault(name: str) -> str:
    """Give the text that takes a secret from a variable, which a vault is to have."""
    return _Vault("{{ vault_" + re.sub(r"\W+", "_", name).lower() + " }}")


class _Dumper(yaml.SafeDumper):
    """Writes what stands in two places twice, and lists as the linters want them."""

    def ignore_aliases(self, data: object) -> bool:
        """Never write an alias."""
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent the items of a list."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    """What AWX renders, such as the injectors of a credential type, Ansible must not."""
    return dumper.represent_scalar("!unsafe" if JINJA.search(value) else "tag:yaml.org,2002:str", value)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(_Vault, yaml.SafeDumper.represent_str)
