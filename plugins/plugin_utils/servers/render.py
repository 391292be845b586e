"""Turns the variables of one host into objects and what else is known of them, in one structure; never asks a cluster.

The structure (plain values; what the action ``modelyard.core.render`` returns) is all that deploying, writing files, smoke, the AWS side and
the identity report read:

* ``cluster``: ``name``, ``host``, ``api_server``, ``kube_system_uid``, ``delivery``, ``namespace``, ``argocd_namespace``, and of AWS
  ``account_id``, ``partition``, ``region``, ``pod_identity``.
* ``settings``: the variables of the roles that have readers of their own, without prefix and without credentials.
* ``roles``: the roles that were rendered.
* ``parts``: one for each server, for what the workflows share, for the inventory's own objects, and for the Applications. Each has its ``role``, ``component``,
  ``profile``, ``enabled``, ``name``, ``objects``, the ``variables`` that it comes from, and where it has such: ``service``,
  ``questions`` (smoke), ``schedule_image`` (with kubectl: the gate), ``hugging_face`` (facts), ``start_seconds`` and ``autoscaled_pool`` (the plan), ``needs`` (``servers.needs``: the preflight), ``misfits``, ``holds`` (a claim that exists to the bytes that are downloaded into it), ``account`` (its ServiceAccount: ``component``, ``namespace``, ``name``, ``role_arn``, ``reads``, ``access``,
  and ``variable``, which sets the access), ``folder``, ``base`` and ``bundle`` (the tree), ``off`` (Applications of what is off).
* ``role_arns``: every IAM role that the inventory names, carried by an account or not.
* ``wanted``: the parts that Argo CD must leave, whichever Application has them.
* ``secrets``: Secrets that the run keeps, without their data.
* ``namespaces``: those that must be there, each with ``name``, ``create`` and ``labels``.
* ``problems``: what is wrong. ``placeholders``: what an example left to be set, which is wrong where a cluster is written to.
  ``warnings``: what was not checked; ``notices``: the same, since Ansible takes the former out of what is registered. ``places``: where variables of the AWS side are set.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils import servers as registry
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    compose_arn,
    role_annotations,
    role_name_error,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    component_of,
    identity,
    oversized,
    own,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import placeholders, places
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.platform import check_platform
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import BASES, lineage
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import (
    dashboards,
    exposure,
    extra,
    instances,
    kinds,
    needs,
    patch,
    pods,
    pool,
    templates,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

WORKFLOWS, PLATFORM, APPLICATIONS = "irsa", "platform", "argocd_apps"
# Roles whose variables others than this module read, and those of them that are credentials or no setting.
READ = ("apply", "irsa", "argocd_apps", "tree")
UNREAD = {"argocd_apps": "repository", "apply": "rendered"}


def everything() -> list[str]:
    """Name the roles that render, in the order of a run."""
    return [WORKFLOWS, PLATFORM, *registry.ROLES, APPLICATIONS]


class Rendering:
    """Renders roles for one host.

    Args:
        inputs: the host's variables.
        host: its name in the inventory.
        other: gives the variables of another host of the inventory, or None where there is no such.
    """

    def __init__(self, inputs: Inputs, host: str, other: Callable[[str], Inputs | None]) -> None:
        self.inputs, self.host, self.other = inputs, host, other
        self.problems = Problems()
        self.warnings: list[str] = []
        self.images: list[str] = []
        self.platform = inputs.values("platform")
        # Of all kinds, since a role that runs alone must not take a name of another's either.
        self.servers: dict[str, list[kinds.Server]] = {}
        # The objects that the inventory brings to what is on: whose settings have them, at which place of the list.
        self.brought: list[tuple[Settings, int, dict]] = []
        # The servers that are on, by what leads to them from outside.
        self.led_to: dict[tuple, str] = {}

    def run(self, roles: list[str], off: bool) -> dict:
        """Render.

        Args:
            roles: what to render, of :func:`everything`.
            off: also what the inventory has off.

        Returns:
            the structure that this module's docstring describes. With problems, parts may be missing.
        """
        parts: list[dict] = []
        wanted: list[str] = []
        self.problems.lines += self._input_problems(roles)
        # Where it is no type or no pool that is wrong, the role's own value stands in, and more can be told.
        if not self.inputs.mistyped("platform") and "platform_hardware_profiles" not in self._wrong():
            self._find_servers()
            self.platform["demands"] = pool.demands(
                [server for found in self.servers.values() for server in found], self.platform
            )
            for role in roles:
                if role == WORKFLOWS:
                    parts += self._workflows(off)
                elif role == PLATFORM:
                    parts += self._extra()
                elif role == APPLICATIONS:
                    found, wanted = self._applications()
                    parts += found
            for kind in registry.load_kinds():
                if kind.role in roles and kind.role in self.servers:
                    parts += self._servers(kind, off)
        self._check_brought(parts)
        # What stands in for a wrong variable is not told as another.
        platform = self.inputs.problems("platform")
        told = [line for line in self.problems.lines if line in platform or line.split(" ")[0] not in self._wrong()]
        order = {role: place for place, role in enumerate(roles)}
        result = {
            "cluster": self._cluster(),
            "settings": {role: self._settings(role) for role in READ},
            "roles": roles,
            "parts": sorted(parts, key=lambda part: order[part["role"]]),
            "role_arns": self._role_arns(),
            "wanted": wanted,
            "secrets": self._secrets() if APPLICATIONS in roles else [],
            "namespaces": self._namespaces(),
            "problems": list(dict.fromkeys(told)),
            "placeholders": self._placeholders(parts),
            "warnings": [*self.inputs.notices, *self.warnings],
            "notices": [*self.inputs.notices, *self.warnings],
            "places": places.of(self.inputs),
        }
        return json.loads(json.dumps(result, default=templates.plain))

    # --- What is wrong before anything is computed -------------------------------------------------

    def _input_problems(self, roles: list[str]) -> list[str]:
        inputs = self.inputs
        lines = inputs.misspelt()
        used = dict.fromkeys(["platform", *READ, *BASES, *roles])
        for role in used:
            lines += inputs.problems(role)
        sound = "hardware_profiles" not in inputs.given("platform") or not inputs.problems("platform")
        values = {f"platform_{key}": value for key, value in self.platform.items()}
        wrong = self._wrong()
        right = {key: value for key, value in values.items() if key not in wrong}
        profiles = self.platform["hardware_profiles"] if sound else {}
        return lines + check_platform(right, {name: instances.completed(profiles[name]) for name in profiles})

    def _wrong(self) -> set[str]:
        """Name the platform's variables that are wrong by themselves, and left out."""
        return {re.split(r"[ .[]", line, maxsplit=1)[0] for line in self.inputs.problems("platform")}

    def _find_servers(self) -> None:
        found = []
        for kind in registry.load_kinds():
            # What is wrong with another kind's variables is told where that is rendered.
            if any(self.inputs.problems(role) for role in (kind.role, *BASES)):
                continue
            self.servers[kind.role] = kinds.servers(kind, self.inputs, self.problems)
            found += [server for server in self.servers[kind.role] if server.enabled]
        kinds.check_distinct(found, self.problems)

    # --- Parts -------------------------------------------------------------------------------------

    def _servers(self, kind: kinds.Kind, off: bool) -> list[dict]:
        return [
            self._server(kind, server)
            for server in self.servers[kind.role]
            if server.enabled or (off and server.described)
        ]

    def _server(self, kind: kinds.Kind, server: kinds.Server) -> dict:
        settings, before = server.settings, self.problems.found
        computed = kind.compute(settings, self.platform)
        computed |= pods.compute(settings, self.platform, computed)
        if server.enabled:
            self.warnings += settings.notices
            self._note_image(server, computed)
        brought = self._brought(settings, kind.role, server.enabled)
        for key, place in exposure.places(settings) if server.enabled else []:
            other = self.led_to.setdefault(place, computed["name"])
            if other != computed["name"]:
                settings.wrong(place[-1], f"leads to {other} already, by the same path", key)
        objects: list[dict] = []
        wrong = self.problems.found != before
        if not wrong:
            roles = tuple(lineage(kind.role, self.inputs.roles))
            rendered = templates.render(roles, computed["templates"], server=computed)
            pods.check_ports(settings, rendered)
            objects = self._owned(patch.applied(rendered, settings), kind.role)
            objects += brought
            self.problems.lines += oversized(objects, server.variables)
        account = None
        if computed["role_arn"]:
            account = {
                "component": kind.role,
                "namespace": self.platform["namespace"],
                "name": computed["service_account_name"],
                "role_arn": computed["role_arn"],
                "reads": computed.get("reads") or [],
                "access": settings.get("access") or [],
                "variable": settings.path("access"),
            }
        return {
            "role": kind.role,
            "component": component_of(kind.role),
            "profile": server.profile,
            "enabled": server.enabled,
            "name": computed["name"],
            "image": computed["image"],
            "schedule_image": computed["schedule_image"],
            "variables": server.variables,
            "chosen_by": kind.variables,
            "objects": objects,
            "service": computed["service_name"],
            "questions": computed["questions"],
            "start_seconds": computed["start_seconds"],
            "autoscaled_pool": computed["autoscaled_pool"],
            "needs": needs.of(computed, settings, self.platform, objects, wrong),
            "misfits": settings.misfits,
            "holds": computed.get("holds") or {},
            "hugging_face": computed.get("hugging_face"),
            "account": account,
            "folder": kind.place(server.profile)[0] if server.profile else kind.base,
            # Objects that follow no template are no overlay of others: kustomize would rename them, and not what they name.
            "base": kind.base if server.profile and not extra.kinds_of(settings) else "",
            "bundle": list(kind.bundle(server.profile)) if kind.bundle else [],
        }

    def _note_image(self, server: kinds.Server, computed: Mapping) -> None:
        """Note the init container's image, which the user builds, where what composes its name is an example's."""
        image = computed.get("init", {}).get("image", "")
        found = placeholders.placeholders(image, self.platform["accepted_placeholders"])
        if found and not server.settings.is_given("init_image"):
            self.images.append(placeholders.unbuilt(server.settings.path("init_image"), image, found))

    def _placeholders(self, parts: list[dict]) -> list[str]:
        """Say what an example left to be set, in the variables of what is on."""
        on = {part["role"] for part in parts if part["enabled"]}
        if self.platform["delivery"] != "gitops":
            on -= {APPLICATIONS}
        roles = dict.fromkeys([PLATFORM, *BASES, *(role for role in everything() if role in on)])
        lines = placeholders.find(self.inputs, roles, self.platform["accepted_placeholders"])
        return list(dict.fromkeys([*lines, *self.images]))

    def _extra(self) -> list[dict]:
        """Give the part of the objects that belong to no server; none without such."""
        settings = self._platform_settings(self.inputs, self.problems)
        shown = dashboards.enabled(self.platform)
        if not settings.get(extra.KEY) and not shown:
            return []
        on = [role for role, found in self.servers.items() if any(server.enabled for server in found)]
        part = self._part(
            PLATFORM, extra.PART, True, dashboards.objects(self.platform, on, self.inputs.roles) if shown else []
        )
        part["objects"] += self._brought(settings, PLATFORM, True)
        return [part | {"folder": extra.PART, "chosen_by": settings.path(extra.KEY), "variables": "platform_*"}]

    def _platform_settings(self, inputs: Inputs, problems: Problems) -> Settings:
        return Settings([(f"{PLATFORM}_", inputs.values(PLATFORM))], [], problems)

    def _brought(self, settings: Settings, role: str, enabled: bool) -> list[dict]:
        """Give the objects that the inventory brings to a part."""
        found = extra.objects(settings, str(self.platform["namespace"]))
        if len(found) < len(settings.get(extra.KEY) or []):
            return []
        owned = self._owned(found, role)
        self.brought += [(settings, index, item) for index, item in enumerate(owned) if enabled]
        return owned

    def _check_brought(self, parts: list[dict]) -> None:
        """Refuse an object of the inventory's own that has the name of another one."""
        on = [(part, item) for part in parts if part["enabled"] for item in part["objects"]]
        for settings, index, item in self.brought:
            others = [(part, other) for part, other in on if other is not item and identity(other) == identity(item)]
            for part, other in others:
                theirs = next((found for found in self.brought if found[2] is other), None)
                place = (
                    f"{theirs[0].path(extra.KEY)}" if theirs else f"{part['variables'].split(',')[0]} ({part['name']})"
                )
                allowed = f"{item['kind']} of this name comes from {place} too, and an object has one owner"
                if theirs and theirs[0].path(extra.KEY) == settings.path(extra.KEY) and theirs[0] is not settings:
                    allowed = f"every server that is on would have this {item['kind']}: set it for one profile, or in platform_extra_objects"
                settings.wrong(item["metadata"]["name"], allowed, extra.KEY, index, "metadata", "name")

    def _workflows(self, off: bool) -> list[dict]:
        values = self.inputs.values(WORKFLOWS)
        if not (values["workflow_enabled"] or off):
            return [self._part(WORKFLOWS, "shared", False, [])]
        platform, arn = self.platform, self._arn(values["workflow_role_name"])
        annotations = role_annotations(arn, platform["pod_identity"], platform["sts_regional_endpoints"])
        workflow = {**values, "namespace": platform["namespace"]}
        workflow["annotations"] = {**annotations, **values["workflow_annotations"]}
        names = ["serviceaccount.yaml.j2", "role.yaml.j2", "rolebinding.yaml.j2"]
        part = self._part(
            WORKFLOWS, "shared", values["workflow_enabled"], templates.render((WORKFLOWS,), names, workflow=workflow)
        )
        part |= {"folder": "shared", "chosen_by": "irsa_workflow_enabled"}
        if arn:
            part["account"] = {
                "component": "workflow",
                "namespace": platform["namespace"],
                "name": values["workflow_service_account"],
                "role_arn": arn,
                "reads": [],
                "access": values["workflow_access"],
                "variable": f"{WORKFLOWS}_workflow_access",
            }
        return [part]

    def _applications(self) -> tuple[list[dict], list[str]]:
        if (
            self.inputs.problems(APPLICATIONS)
            or self.inputs.problems(WORKFLOWS)
            or len(self.servers) < len(registry.ROLES)
        ):
            return [self._part(APPLICATIONS, "applications", False, [])], []
        settings = {**self.inputs.values(APPLICATIONS), "host": self.host}
        this = self._argocd_cluster(self.inputs, self.servers, settings)
        others = {}
        for host in settings["hosts"] if settings["generator"] == "list" else []:
            inputs = self.other(host)
            if inputs is not None:
                found = {kind.role: kinds.servers(kind, inputs, Problems()) for kind in registry.load_kinds()}
                others[host] = self._argocd_cluster(inputs, found, settings, host)
        computed = argocd.applications(this, others, settings)
        self.problems.lines += (
            computed["problems"]
            + argocd.credentials(settings["repository"], str(settings["repo_url"]), settings["repository_name"])[
                "problems"
            ]
        )
        objects = (
            templates.render((APPLICATIONS,), ["appproject.yaml.j2"], project=computed["project"])
            if computed["project"]
            else []
        )
        objects += [self._application(app) for app in computed["applications"]]
        part = self._part(APPLICATIONS, "applications", True, objects)
        part["off"] = self._owned([self._application(app) for app in computed["off"]], APPLICATIONS)
        return [part], computed["parts"]

    def _argocd_cluster(
        self, inputs: Inputs, found: dict[str, list[kinds.Server]], settings: dict, host: str = ""
    ) -> dict:
        """Describe one cluster to Argo CD: this one, or a host of the inventory with what it sets itself."""
        shared = inputs.values(WORKFLOWS)["workflow_enabled"]
        servers = [server for kind in registry.load_kinds() for server in found[kind.role] if server.described]
        brought = extra.kinds_of(self._platform_settings(inputs, Problems()))
        brought += dashboards.KINDS if dashboards.enabled(inputs.values(PLATFORM)) else []
        if not host:
            return argocd.cluster(str(self.platform["cluster_name"]), servers, shared, settings, brought)
        given = inputs.given(APPLICATIONS)
        said = {
            key: given[key]
            for key in ("path", "destination_server", "destination_name", "destination_namespace")
            if key in given
        }
        if "destination_namespace" not in said and "namespace" in inputs.given("platform"):
            said["destination_namespace"] = inputs.given("platform")["namespace"]
        said["destination_given"] = bool({"destination_server", "destination_name"} & said.keys())
        said |= {"profiles": given.get("profiles", {}), "shared": given.get("shared", shared)}
        name = str(inputs.given("platform").get("cluster_name", host))
        return argocd.cluster(name, servers, shared, {**settings, **said}, brought)

    def _application(self, app: Mapping) -> dict:
        name = "applicationset.yaml.j2" if app["generator"] else "application.yaml.j2"
        return templates.render((APPLICATIONS,), [name], app=app)[0]

    def _part(self, role: str, name: str, enabled: bool, objects: list[dict]) -> dict:
        """Give a part that is no server."""
        return {
            "role": role,
            "component": component_of(role),
            "profile": "",
            "enabled": enabled,
            "name": name,
            "variables": f"{role}_*, platform_*",
            "objects": self._owned(objects, role),
            "questions": [],
            "misfits": [],
            "account": None,
            "folder": "",
            "base": "",
            "bundle": [],
        }

    def _owned(self, objects: list[dict], role: str) -> list[dict]:
        platform = self.platform
        namespace = platform["argocd_namespace"] if role == APPLICATIONS else platform["namespace"]
        labels, annotations = platform["extra_labels"], platform["extra_annotations"]
        return own(objects, role, platform["cluster_name"], namespace, labels, annotations)

    # --- What else is known ------------------------------------------------------------------------

    def _arn(self, role_name: Any) -> str:
        platform = self.platform
        if not role_name or not platform["irsa_enabled"] or role_name_error(role_name):
            return ""
        return compose_arn(role_name, platform["aws_account_id"], platform["aws_partition"], platform["irsa_role_path"])

    def _role_arns(self) -> list[str]:
        """Name every role, carried or not: one that nobody carries any more is not to trust this cluster."""
        names = [self.inputs.values(WORKFLOWS)["workflow_role_name"]]
        found = [server for servers in self.servers.values() for server in servers if server.described]
        names += [server.settings["role_name"] for server in found]
        return [arn for arn in dict.fromkeys(self._arn(name) for name in names) if arn]

    def _cluster(self) -> dict:
        keys = (
            "api_server",
            "kube_system_uid",
            "require_tls",
            "delivery",
            "namespace",
            "argocd_namespace",
            "pod_identity",
        )
        aws = {key: self.platform[f"aws_{key}"] for key in ("account_id", "partition", "region")}
        return {
            "name": str(self.platform["cluster_name"]),
            "host": self.host,
            **{key: self.platform[key] for key in keys},
            **aws,
        }

    def _settings(self, role: str) -> dict:
        return {key: value for key, value in self.inputs.values(role).items() if key != UNREAD.get(role)}

    def _secrets(self) -> list[dict]:
        values = self.inputs.values(APPLICATIONS)
        return [
            {
                "name": values["repository_name"],
                "component": component_of(APPLICATIONS),
                "labels": {"argocd.argoproj.io/secret-type": "repository"},
                "kept": any((values["repository"] or {}).values()),
            }
        ]

    def _namespaces(self) -> list[dict]:
        platform = self.platform
        if platform["delivery"] == "gitops":
            # Argo CD's namespace is Argo CD's: it must be there.
            return [{"name": platform["argocd_namespace"], "create": False, "labels": {}}]
        return [
            {
                "name": platform["namespace"],
                "create": platform["create_namespaces"],
                "labels": platform["namespace_labels"],
            }
        ]
