"""Action ``modelyard.core.adopt``: see plugins/modules/adopt.py for its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ansible.template import Templar
from ansible_collections.modelyard.core.plugins.action.render import _trusted
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import around, inventory, telling
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import PROFILES
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster, readable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, written
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.render import Rendering, everything

KINDS = [
    *({"api_version": "apps/v1", "kind": kind} for kind in ("Deployment", "StatefulSet", "DaemonSet")),
    {"api_version": "leaderworkerset.x-k8s.io/v1", "kind": "LeaderWorkerSet"},
    {"api_version": "batch/v1", "kind": "Job"},
    {"api_version": "v1", "kind": "Pod"},
    *around.KINDS,
]


class ActionModule(Action):
    """Write the inventory of what runs in a namespace; reads alone."""

    untouched = "Nothing was written."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        file = Path(options["file"]) if options["file"] else None
        if file and file.exists():
            raise Refused([f"adopt_file is {options['file']}: there is such a file already, and it stays as it is"])
        cluster, namespace, place = Cluster(options["connection"]), options["namespace"], options["place"]
        planning.check_cluster(
            cluster, {key: place.get(key, "") for key in ("cluster_name", "api_server", "kube_system_uid")}
        )
        objects, unseen = self._read(cluster, namespace)
        described = specs.load()
        brought = {name: _trusted(value) for name, value in written(described).items()}

        def inputs(variables: Mapping) -> Inputs:
            known = {"inventory_hostname": task_vars.get("inventory_hostname", "host"), **variables}
            known.setdefault("playbook_dir", task_vars.get("playbook_dir", ""))
            templar = Templar(None, variables={**brought, **known})
            return Inputs(described, known, templar.template, defaults=brought)

        def render(variables: Mapping) -> dict:
            return Rendering(inputs(variables), "host", lambda _: None).run(everything(), False)

        named = {f"platform_{key}": text for key, text in place.items() if text}
        found = inventory.adopt(
            objects,
            {**named, "platform_namespace": namespace},
            render,
            {kind: inputs(named).values(kind) for kind in (*PROFILES, "apply")},
        )
        text = telling.text(found.variables)
        told = telling.told(found, unseen, namespace)
        self.tell("\n  ".join([f"# the inventory of what runs in namespace {namespace}", *text.splitlines()]))
        for line in told:
            self.tell(line)
        if file and not self._task.check_mode:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8") as target:
                target.write(f"---\n{text}")
        keys = ("server", "role", "profile", "restarts")
        servers = [{key: row[key] for key in keys} for row in telling.rows(found)]
        self.hand_on(adopt={"servers": servers, "told": told, "problems": found.problems})
        report = {"cluster": place["cluster_name"], "inventory": text, "told": told, "servers": telling.rows(found)}
        return {"changed": bool(file) and not self._task.check_mode, "report": report}

    def _read(self, cluster: Cluster, namespace: str) -> tuple[list[dict], list[str]]:
        """List what may be, or stand beside, a server; gives the kinds that this credential may not list, too."""
        served = [kind for kind in KINDS if cluster.resource(kind["api_version"], kind["kind"])]

        def read(kind: dict) -> list[dict] | None:
            return readable(cluster.list, kind["api_version"], kind["kind"], namespace)

        lists = cluster.parallel(read, served)
        unseen = [kind["kind"] for kind, items in zip(served, lists, strict=True) if items is None]
        if "Deployment" in unseen:
            raise Refused([f"this credential may not list deployments (apps) in namespace {namespace}"])
        return [item for items in lists for item in items or []], unseen
