"""Everything that AWX is to have, kind by kind, with what each object refers to; never asks AWX, and holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx import schedules, teams, templates, workflows
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters, variable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge

# In the order in which they are made: what an object refers to comes before it.
KINDS = (
    *("organization", "label", "credential_type", "credential", "execution_environment", "notification_template"),
    *("instance_group", "project", "inventory", "inventory_source", "job_template", "workflow", "node", "schedule"),
    *("team", "grant"),
)
# What AWX looks up by name alone, whichever of these it is (``unified_job_templates``), those that a node or a schedule may name last.
UNIFIED = ("project", "inventory_source", "job_template", "workflow")
NOTIFY = ("started", "success", "error")
# Before the name of the host that a credential type is for.
CLUSTER_TYPE = "modelyard cluster "
# What AWX fills in where a configuration leaves it out, and that would differ from then on.
NOTIFICATION_DEFAULTS = {
    "webhook": {
        "http_method": "POST",
        "disable_ssl_verification": False,
        "username": "",
        "password": "",
        "headers": {},
    },
    "email": {"timeout": 30},
}


def mark(organization: str) -> str:
    """Give the words in the description of what the role makes: by them it knows its own."""
    return f"managed by modelyard for {organization}"


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


class Wanted:
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
        self.values, self.clusters = values, clusters
        self.problems = Problems()
        self.organization = values["organization"]
        self.found: dict[str, list[dict]] = {kind: [] for kind in KINDS}
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.templates = self._merged("job_templates", "playbook")
        self.workflows = self._merged("workflows", "nodes")
        self._containers()
        self._credentials()
        self._sources()
        self._job_templates()
        self._workflows()
        self._schedules()
        self._teams()
        self._check_names()

    def _merged(self, name: str, needed: str) -> dict[str, dict]:
        """Give what the role brings with the inventory's over it, without what is not enabled."""
        merged = merge(specs.catalogue("awx", name), self.values[name])
        kept = {key: entry for key, entry in merged.items() if is_true(entry.get("enabled", True))}
        for entry in kept.values():
            # A node that is null is one less.
            entry |= (
                {"nodes": {key: node for key, node in entry["nodes"].items() if node}} if entry.get("nodes") else {}
            )
        for key, entry in list(kept.items()):
            if not entry.get(needed):
                hint = nearest(key, specs.catalogue("awx", name))
                meant = f", did you mean {hint}?" if hint else ""
                self.problems.add(f"awx_{name}.{key}", self.values[name][key], f"needs {needed}{meant}")
                del kept[key]
        return kept

    def _add(self, kind: str, item: dict, *needs: tuple[str, str]) -> None:
        self.found[kind].append(item | {"needs": [list(need) for need in needs]})

    def _described(self, text: str = "") -> str:
        return f"{text} ({mark(self.organization)})".lstrip()

    def _one_of(self, path: str, value: str, known: Mapping[str, Any] | list[str], variable_name: str) -> None:
        """Note a problem unless a name is known."""
        if value and value not in known:
            hint = nearest(value, known)
            meant = f"did you mean {hint}?" if hint else f"it has {', '.join(known) or 'none'}"
            self.problems.add(path, value, f"must be one of {variable_name}, {meant}")

    # --- What holds the rest ---

    def _containers(self) -> None:
        values = self.values
        galaxy = {"galaxy_credentials": values["galaxy_credentials"]} if values["galaxy_credentials"] else {}
        self._add("organization", {"name": self.organization, "description": self._described(), **galaxy})
        for name in values["labels"]:
            self._label(name)
        environment = values["execution_environment"]
        self.environment = ""
        if environment.get("image"):
            self.environment = environment.get("name") or "modelyard"
            item = {"name": self.environment, "image": environment["image"], "pull": environment.get("pull", "missing")}
            item |= self._credential("awx_execution_environment.credential", environment)
            self._add("execution_environment", item | {"description": self._described()}, *self._needs(item))
        for name, entry in values["instance_groups"].items():
            item = {"name": name, **{key: value for key, value in entry.items() if value is not None}}
            self._credential(f"awx_instance_groups.{name}.credential", entry)
            self._add("instance_group", item, *self._needs(item))
        for name, entry in values["notifications"].items():
            item = {"name": name, "notification_type": entry["type"], "messages": entry.get("messages")}
            item |= {"defaults": NOTIFICATION_DEFAULTS.get(entry["type"], {})}
            configuration = {**item["defaults"], **(entry.get("configuration") or {})}
            self.secrets["notification_template", name] = {"configuration": configuration}
            self._add("notification_template", item | {"description": self._described()})
        for when, names in values["notify"].items():
            for name in names or []:
                self._one_of(f"awx_notify.{when}", name, values["notifications"], "awx_notifications")

    def _label(self, name: str) -> None:
        if name not in {item["name"] for item in self.found["label"]}:
            self._add("label", {"name": name})

    def _credential(self, path: str, entry: Mapping[str, Any]) -> dict:
        """Give the field for the credential that an entry names, if any."""
        if not entry.get("credential"):
            return {}
        self._one_of(path, entry["credential"], self.values["credentials"], "awx_credentials")
        return {"credential": entry["credential"]}

    @staticmethod
    def _needs(item: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [("credential", item["credential"])] if item.get("credential") else []

    # --- Credentials ---

    def _credentials(self) -> None:
        rotated = self._rotated()
        for name, entry in self.values["credential_types"].items():
            fields = {"inputs": entry.get("inputs") or {}, "injectors": entry.get("injectors") or {}}
            item = {"name": name, "kind": entry.get("kind") or "cloud", "description": self._described()}
            self._add("credential_type", item | fields)
        self.connections: dict[str, list[str]] = {"deployer": [], "reader": [], "none": []}
        for host, entry in self.values["clusters"].items():
            self._one_of(f"awx_clusters.{host}", host, self.clusters.hosts, "the hosts of the group clusters")
            for field in ("token", "ca"):
                if not entry[field]:
                    self.problems.add(f"awx_clusters.{host}.{field}", entry[field], "must not be empty")
            url = entry.get("url") or self.clusters.urls.get(host, "")
            if not url and host in self.clusters.hosts:
                self.problems.add(f"awx_clusters.{host}", entry, "needs url, since the host has no platform_api_server")
            type_name = f"{CLUSTER_TYPE}{host}"
            about = self._described(f"The API server of {host}")
            self._add(
                "credential_type", {"name": type_name, "kind": "cloud", "description": about, **cluster_type(host)}
            )
            accounts = {"deployer": "token", "reader": "reader_token" if entry.get("reader_token") else "token"}
            for account, field in accounts.items():
                name = f"{host} {account if field != 'token' else 'deployer'}"
                self.connections[account].append(name)
                if account == "reader" and field == "token":
                    continue
                item = {"name": name, "credential_type": type_name, "cluster": host, "url": url, "token": field}
                item |= {"update_secrets": rotated is True or bool({name, host} & set(rotated or ()))}
                item |= {"description": self._described(f"The ServiceAccount {account} of {host}")}
                inputs = {"url": url, "token": entry[field], "ca": entry["ca"]}
                self.secrets["credential", name] = {"inputs": inputs}
                self._add("credential", item, ("credential_type", type_name))
        for name, entry in self.values["credentials"].items():
            item = {"name": name, "credential_type": entry["type"], "description": self._described()}
            item |= {"update_secrets": rotated is True or name in (rotated or ())}
            self.secrets["credential", name] = {"inputs": entry.get("inputs") or {}}
            needs = [("credential_type", entry["type"])] if entry["type"] in self.values["credential_types"] else []
            self._add("credential", item, *needs)

    def _rotated(self) -> bool | list[str]:
        said = self.values["rotate"]
        if isinstance(said, (list, tuple)):
            names = [
                *self.values["clusters"],
                *(f"{host} {account}" for host in self.values["clusters"] for account in ("deployer", "reader")),
                *self.values["credentials"],
            ]
            for name in said:
                self._one_of("awx_rotate", name, names, "awx_clusters or awx_credentials")
            return list(said)
        if not isinstance(said, bool) and str(said).lower() not in ("true", "false", "yes", "no"):
            self.problems.add("awx_rotate", said, "must be true, false or a list of names")
        return is_true(said)

    # --- Projects and inventories ---

    def _sources(self) -> None:
        values = self.values
        for name, entry in values["projects"].items():
            item = {"name": name, "scm_url": entry["url"], "scm_branch": entry.get("branch") or ""}
            item |= {"scm_update_on_launch": bool(entry.get("update_on_launch"))}
            item |= self._credential(f"awx_projects.{name}.credential", entry) | {"description": self._described()}
            needs = [("execution_environment", self.environment)] if self.environment else []
            item |= {"default_environment": self.environment} if self.environment else {}
            self._add("project", item, *needs, *self._needs(item))
        for name, entry in values["inventories"].items():
            self._add("inventory", {"name": name, "description": self._described()})
            for source, said in (entry.get("sources") or {}).items():
                path = f"awx_inventories.{name}.sources.{source}.project"
                self._one_of(path, said["project"], values["projects"], "awx_projects")
                item = {"name": source, "inventory": name, "source_project": said["project"]}
                item |= {"source_path": said["path"], "description": self._described()}
                item |= {"update_on_launch": bool(said.get("update_on_launch", True))}
                item |= {"execution_environment": self.environment} if self.environment else {}
                needs = [("execution_environment", self.environment)] if self.environment else []
                self._add("inventory_source", item, ("inventory", name), ("project", said["project"]), *needs)

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
            own = entry.get("credentials") or []
            made = [item["name"] for item in self.found["credential"]]
            for credential in own:
                self._one_of(f"{path}.credentials", credential, made, "awx_credentials")
            credentials = [*self.connections[entry.get("clusters", "deployer")], *own]
            labels = list(dict.fromkeys([*values["labels"], *(entry.get("labels") or [])]))
            for label in labels:
                self._label(label)
            notify, told = self._notify(path, entry)
            item = templates.job_template(name, entry, self.clusters)
            item |= {"description": self._described(entry.get("description", "")), "project": project}
            item |= {"inventory": inventory, "credentials": credentials, "labels": labels, "notify": notify}
            item |= {"execution_environment": self.environment} if self.environment else {}
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
            wrong = workflows.problems(name, entry, known)
            for path, value, allowed in wrong:
                self.problems.add(f"awx_workflows.{path}", value, allowed)
            if not wrong:
                self._workflow(name, entry, canary)

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
        item |= {"labels": labels, "limit": entry.get("limit")}
        item |= {"ask": {word: word in (entry.get("ask") or ()) for word in ("limit", "variables")}}
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

    # --- When, and who ---

    def _schedules(self) -> None:
        known = [*self.templates, *self.workflows]
        for name, entry in self.values["schedules"].items():
            path = f"awx_schedules.{name}"
            self._one_of(f"{path}.template", entry["template"], known, "awx_job_templates or awx_workflows")
            rule = entry.get("rrule")
            try:
                rule = rule or schedules.rrule(
                    entry.get("at") or "", entry.get("days") or (), entry.get("time_zone") or "UTC"
                )
            except ValueError as error:
                self.problems.add(path, entry, f"{error}")
                continue
            item = {"name": name, "unified_job_template": entry["template"], "rrule": rule}
            item |= {"enabled": bool(entry.get("enabled", True)), "extra_data": entry.get("extra_vars") or {}}
            item |= {"limit": entry.get("limit"), "description": self._described()}
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
                if str(item.get("name", "")).isdecimal():
                    self.problems.add(f"name of a {kind}", item["name"], "must not be a number: AWX takes it for an id")


def cluster_type(host: str) -> dict:
    """Describe the credential type of one cluster, in the form of AWX.

    AWX gives a job one credential of each type. With a type for each cluster, one job reaches them all.
    """
    fields = [
        {"id": "url", "label": "URL of the API server", "type": "string"},
        {"id": "token", "label": "Token", "type": "string", "secret": True},
        {"id": "ca", "label": "CA certificate", "type": "string", "multiline": True},
    ]
    connection = '{"host": "{{ url }}", "api_key": "{{ token }}", "ca_cert": "{{ tower.filename }}"}'
    return {
        "inputs": {"fields": fields, "required": ["url", "token", "ca"]},
        "injectors": {"file": {"template": "{{ ca }}"}, "extra_vars": {variable(host): connection}},
    }
