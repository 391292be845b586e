"""What job templates of AWX stand on: organization, credentials, projects, inventories, who is told; never asks AWX, and shows no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx import notifications
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters, variable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems

# In the order in which they are made: what an object refers to comes before it.
KINDS = (
    *("organization", "label", "credential_type", "credential", "execution_environment", "notification_template"),
    *("instance_group", "project", "inventory", "inventory_source", "job_template", "workflow", "node", "schedule"),
    *("team", "grant"),
)
# What AWX brings itself: of these, what the inventory does not say is AWX's.
ITS_GROUPS = ("default", "controlplane")
# What an instance group has that nobody has said anything of.
OF_A_GROUP = {
    **dict.fromkeys(("policy_instance_minimum", "policy_instance_percentage", "max_concurrent_jobs", "max_forks"), 0),
    "is_container_group": False,
    "credential": "",
    "pod_spec_override": "",
}
# Before the name of the host that a credential type is for.
CLUSTER_TYPE = "modelyard cluster "


def mark(organization: str) -> str:
    """Give the words in the description of what the role makes: by them it knows its own.

    With both parentheses: without, those of ``ml`` would be found in what ``ml-platform`` has.
    """
    return f"(managed by modelyard for {organization})"


class Surroundings:
    """Computes them.

    Args:
        values: the variables of the role by name without prefix.
        clusters: the clusters of the inventory.

    Attributes:
        problems, found, secrets: as of ``objects.Wanted``.
        connections: which credentials of the clusters a template gets, by the word for it in ``awx_job_templates``.
        environment: name of the execution environment, or ``""``.
    """

    def __init__(self, values: Mapping[str, Any], clusters: Clusters) -> None:
        self.values, self.clusters = values, clusters
        self.problems = Problems()
        self.organization = values["organization"]
        self.found: dict[str, list[dict]] = {kind: [] for kind in KINDS}
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.rotated = self._rotated()
        self._containers()
        self._credentials()
        self._sources()

    def _add(self, kind: str, item: dict, *needs: tuple[str, str]) -> None:
        # AWX removes space around a text: with it, each run would see a difference.
        texts = {field: text.strip() for field, text in item.items() if isinstance(text, str) and field != "name"}
        self.found[kind].append(item | texts | {"needs": [list(need) for need in needs]})

    def _described(self, text: str = "") -> str:
        return f"{text.strip()} {mark(self.organization)}".lstrip()

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
            said = {key: value for key, value in entry.items() if value is not None}
            item = {"name": name, **({} if name in ITS_GROUPS else OF_A_GROUP), **said}
            self._credential(f"awx_instance_groups.{name}.credential", entry)
            self._add("instance_group", item, *self._needs(item))
        for name, entry in values["notifications"].items():
            item = {"name": name, "notification_type": entry["type"], "messages": None}
            if entry.get("messages") is not None:
                if wrong := notifications.problem(entry["messages"]):
                    self.problems.add(f"awx_notifications.{name}.messages", entry["messages"], wrong)
                    continue
                item["messages"] = notifications.messages(entry["messages"])
            item |= {"update_secrets": self._is_rotated(name)}
            item |= {"defaults": notifications.DEFAULTS.get(entry["type"], {})}
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
            return {"credential": ""}
        self._one_of(path, entry["credential"], self.values["credentials"], "awx_credentials")
        return {"credential": entry["credential"]}

    @staticmethod
    def _needs(item: Mapping[str, Any]) -> list[tuple[str, str]]:
        return [("credential", item["credential"])] if item.get("credential") else []

    # --- Credentials ---

    def _credentials(self) -> None:
        for name, entry in self.values["credential_types"].items():
            inputs = dict(entry.get("inputs") or {})
            if inputs.get("fields"):
                # AWX keeps it so.
                inputs["fields"] = [{"type": "string", **field} for field in inputs["fields"]]
            fields = {"inputs": inputs, "injectors": entry.get("injectors") or {}}
            item = {"name": name, "kind": entry.get("kind") or "cloud", "description": self._described()}
            self._add("credential_type", item | fields)
        self.connections: dict[str, list[str]] = {"deployer": [], "reader": [], "none": []}
        for host, entry in self.values["clusters"].items():
            self._cluster(host, entry)
        for name, entry in self.values["credentials"].items():
            item = {"name": name, "credential_type": entry["type"], "description": self._described()}
            item |= {"update_secrets": self._is_rotated(name)}
            self.secrets["credential", name] = {"inputs": entry.get("inputs") or {}}
            needs = [("credential_type", entry["type"])] if entry["type"] in self.values["credential_types"] else []
            self._add("credential", item, *needs)

    def _cluster(self, host: str, entry: Mapping[str, Any]) -> None:
        """Add the type and the credentials of one cluster."""
        self._one_of(f"awx_clusters.{host}", host, self.clusters.hosts, "the hosts of the group clusters")
        self._check_cluster(host, entry)
        url = (entry.get("url") or self.clusters.urls.get(host, "")).strip()
        if not url and host in self.clusters.hosts:
            # Without its value, which has the tokens.
            self.problems.lines.append(f"awx_clusters.{host}: needs url, since the host has no platform_api_server")
        type_name = f"{CLUSTER_TYPE}{host}"
        about = self._described(f"The API server of {host}")
        self._add("credential_type", {"name": type_name, "kind": "cloud", "description": about, **cluster_type(host)})
        accounts = {"deployer": "token", "reader": "reader_token" if entry.get("reader_token") else "token"}
        for account, field in accounts.items():
            name = f"{host} {account if field != 'token' else 'deployer'}"
            self.connections[account].append(name)
            if account == "reader" and field == "token":
                continue
            item = {"name": name, "credential_type": type_name, "cluster": host, "url": url, "token": field}
            item |= {"update_secrets": self._is_rotated(name, host)}
            item |= {"description": self._described(f"The ServiceAccount {account} of {host}")}
            # As the task does it: a text of more than one line in a file of variables ends with a line break.
            inputs = {"url": url, "token": entry[field].strip(), "ca": entry["ca"]}
            self.secrets["credential", name] = {"inputs": inputs}
            self._add("credential", item, ("credential_type", type_name))

    def _check_cluster(self, host: str, entry: Mapping[str, Any]) -> None:
        for field in ("token", "ca"):
            if not entry[field].strip():
                self.problems.add(f"awx_clusters.{host}.{field}", entry[field], "must not be empty")
        for field in ("token", "reader_token"):
            if len((entry.get(field) or "").strip().splitlines()) > 1:
                path = f"awx_clusters.{host}.{field}"
                self.problems.lines.append(f"{path}: must be of one line")
        same = [other for other in self.values["clusters"] if variable(other) == variable(host) and other != host]
        if same:
            allowed = f"must differ from {same[0]} in more than this: the variable of both would be {variable(host)}"
            self.problems.add(f"awx_clusters.{host}", host, allowed)

    def _is_rotated(self, *names: str) -> bool:
        return self.rotated is True or bool(set(names) & set(self.rotated or ()))

    def _rotated(self) -> bool | list[str]:
        said = self.values["rotate"]
        if isinstance(said, (list, tuple)):
            names = [
                *self.values["clusters"],
                *(f"{host} {account}" for host in self.values["clusters"] for account in ("deployer", "reader")),
                *self.values["credentials"],
                *self.values["notifications"],
            ]
            said = [str(name) for name in said]
            for name in said:
                self._one_of("awx_rotate", name, names, "awx_clusters, awx_credentials or awx_notifications")
            return said
        if not isinstance(said, bool) and str(said).lower() not in ("true", "false", "yes", "no"):
            self.problems.add("awx_rotate", said, "must be true, false or a list of names")
        return is_true(said)

    # --- Projects and inventories ---

    def _sources(self) -> None:
        values = self.values
        for name, entry in values["projects"].items():
            item = {"name": name, "scm_url": entry["url"], "scm_branch": entry.get("branch") or ""}
            item |= {"scm_type": "git"}
            item |= {"scm_update_on_launch": bool(entry.get("update_on_launch"))}
            item |= self._credential(f"awx_projects.{name}.credential", entry) | {"description": self._described()}
            needs = [("execution_environment", self.environment)] if self.environment else []
            item |= {"default_environment": self.environment}
            self._add("project", item, *needs, *self._needs(item))
        for name, entry in values["inventories"].items():
            self._add("inventory", {"name": name, "description": self._described()})
            for source, said in (entry.get("sources") or {}).items():
                path = f"awx_inventories.{name}.sources.{source}.project"
                self._one_of(path, said["project"], values["projects"], "awx_projects")
                item = {"name": source, "inventory": name, "source_project": said["project"]}
                item |= {"source_path": said["path"], "description": self._described()}
                item |= {"update_on_launch": bool(said.get("update_on_launch", True))}
                # A cluster that is renamed or gone is gone in AWX as well.
                item |= {"source": "scm", "overwrite": True, "overwrite_vars": True}
                item |= {"execution_environment": self.environment}
                needs = [("execution_environment", self.environment)] if self.environment else []
                self._add("inventory_source", item, ("inventory", name), ("project", said["project"]), *needs)


def cluster_type(host: str) -> dict:
    """Describe the credential type of one cluster, in the form of AWX.

    AWX gives a job one credential of each type. With a type for each cluster, one job reaches them all.
    """
    fields = [
        {"id": "url", "label": "URL of the API server", "type": "string"},
        {"id": "token", "label": "Token", "type": "string", "secret": True},
        {"id": "ca", "label": "CA certificate", "type": "string", "multiline": True},
    ]
    connection = (
        '{"host": {{ url | tojson }}, "api_key": {{ token | tojson }}, "ca_cert": {{ tower.filename | tojson }}}'
    )
    return {
        "inputs": {"fields": fields, "required": ["url", "token", "ca"]},
        "injectors": {"file": {"template": "{{ ca }}"}, "extra_vars": {variable(host): connection}},
    }
