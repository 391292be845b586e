"""What roles/apply does with a rendering, in this process: its actions, and between them the same server-side apply.

The cluster, the plan, the lock, the writes and the rollout are the real ones. Only Ansible's own part is left out: its forks, its output,
and kubernetes.core's module, which are shown by the plays of tests/test_apply.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import yaml
from ansible.errors import AnsibleActionFail
from ansible.plugins.loader import action_loader
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.admission import Admission
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, describe
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.examination import Examiner
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import GITOPS, own
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from kubernetes.client import Configuration
from rendering import rendered

ROOT = Path(__file__).resolve().parent.parent
# What the roles bring, of the settings that are read of a rendering on the way to a cluster.
BROUGHT = {
    role: {key: option.get("default") for key, option in spec.options.items() if "{{" not in str(option.get("default"))}
    for role, spec in specs.load(("apply", "argocd_apps")).items()
}
# Loaded by the first who asks: not by two threads at once.
ACTIONS = {
    name: action_loader.get(f"modelyard.core.{name}", class_only=True)
    for name in (
        "adopt",
        "diff",
        "facts",
        "gate",
        "history",
        "park",
        "plan",
        "preflight",
        "report",
        "report_page",
        "rollback",
        "rollout",
        "smoke",
        "switch",
        "teardown",
        "upgrade",
        "wake",
    )
}
# docs/artifacts.md: what is not in it is handed on by nobody.
ARTIFACTS = jsonschema.Draft202012Validator(json.loads((ROOT / "docs/artifacts.schema.json").read_text()))
NAMESPACE, ARGOCD = "ml-models", "argocd"


def rendering(
    *objects: dict,
    api_server: str,
    component: str = "irsa",
    misfits: Sequence[str] = (),
    holds: dict[str, float] | None = None,
    **variables: Any,
) -> dict:
    """Give what modelyard.core.render would return for one part with these objects.

    Args:
        objects: without labels of ours; in the namespace of their component unless they name one.
        api_server: URL of the cluster that is meant.
        component: the component that they belong to.
        misfits: what the hardware profile of the part's Deployment is too small for.
        holds: a claim that exists to the bytes that are downloaded into it.
        variables: variables of the roles platform and apply, by their whole names.
    """
    found = {
        "platform_cluster_name": "local",
        "platform_api_server": api_server,
        "platform_kube_system_uid": "",
        "platform_delivery": "gitops" if component == GITOPS else "direct",
        "platform_namespace": NAMESPACE,
        "platform_create_namespaces": True,
        **variables,
    }
    cluster = {key.removeprefix("platform_"): value for key, value in found.items() if key.startswith("platform_")}
    cluster["name"], create = cluster.pop("cluster_name"), cluster.pop("create_namespaces")
    own_settings = {key.removeprefix("apply_"): value for key, value in found.items() if key.startswith("apply_")}
    unknown = own_settings.keys() - BROUGHT["apply"].keys()
    assert not unknown, f"the role apply has no such variables: {unknown}"
    gitops = cluster["delivery"] == "gitops"
    scope = ARGOCD if component == GITOPS else cluster["namespace"]
    namespace = {"name": ARGOCD if gitops else cluster["namespace"], "create": create and not gitops, "labels": {}}
    part = {
        "component": component,
        "enabled": True,
        "name": next((item["metadata"]["name"] for item in objects if item["kind"] == "Deployment"), component),
        "objects": own(list(objects), component, cluster["name"], scope),
        "misfits": list(misfits),
        "holds": holds or {},
        "questions": [],
    }
    return {
        "cluster": {"argocd_namespace": ARGOCD, "host": cluster["name"], **cluster},
        "settings": {**BROUGHT, "apply": {**BROUGHT["apply"], **own_settings}},
        "roles": [component.replace("-", "_")],
        "parts": [part],
        "wanted": [],
        "secrets": [],
        "namespaces": [namespace],
        "problems": [],
        "placeholders": [],
        "warnings": [],
    }


def local(cluster: Any, roles: tuple[str, ...] = (), **variables: Any) -> dict:
    """Render roles as a play does for the local inventory.

    Args:
        cluster: the one that is meant.
        roles: all by default.
        variables: what is set beside the inventory's variables.
    """
    files = sorted((ROOT / "inventories/local/group_vars/clusters").glob("*.yml"))
    given = {name: value for file in files for name, value in yaml.safe_load(file.read_text()).items()}
    literal = {name: value for name, value in given.items() if "{{" not in str(value)}
    here = {"platform_cluster_name": "local", "platform_api_server": cluster.url}
    found = rendered(roles, **{**literal, **here, **variables})
    assert found["problems"] == []
    return found


@dataclass
class Run:
    """What came of a run.

    Attributes:
        said: every line that it showed, its warnings and what stopped it among them.
        failed: what stopped it, or "".
        changed: how many of the role's tasks changed something, as a play's recap counts them.
        plan: what modelyard.core.plan returned.
        rollout: what modelyard.core.rollout returned.
    """

    said: list[str] = field(default_factory=list)
    failed: str = ""
    changed: int = 0
    plan: dict = field(default_factory=dict)
    rollout: dict = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All of it, as one line."""
        return " ".join(" ".join(self.said).split())


def handed_on(result: dict) -> dict:
    """What a task's result hands on, of which each key is documented."""
    stats = result.get("ansible_stats", {"data": {}})
    ARTIFACTS.validate(stats["data"])
    return stats["data"]


def act(name: str, said: list[str], check_mode: bool = False, **arguments: Any) -> dict:
    """Call one of our actions as a task does; what it shows is added to `said`.

    Raises:
        AnsibleActionFail: the task fails.
    """
    task = SimpleNamespace(
        action=f"modelyard.core.{name}",
        args=json.loads(json.dumps(arguments)),
        check_mode=check_mode,
        diff=True,
        async_val=0,
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    action = ACTIONS[name](
        task=task, connection=connection, play_context=None, loader=None, templar=None, shared_loader_obj=None
    )
    action.tell = said.append
    # A task has a process of its own: the credentials of an earlier connection are not there to be used beside its own.
    Configuration.set_default(None)
    cluster = (arguments.get("rendered") or {}).get("cluster") or {"name": "local"}
    result = action.run(task_vars={"inventory_hostname": cluster["name"]})
    said += result.get("warnings", [])
    handed_on(result)
    return result


def deliver(found: dict, connection: dict, check_mode: bool = False) -> Run:
    """Do what the role apply does; one that is stopped says so in its result."""
    run = Run()
    try:
        _deliver(run, {"connection": connection, "rendered": found}, check_mode)
    except AnsibleActionFail as error:
        run.failed = error.message
        run.said.append(run.failed)
    return run


def _deliver(run: Run, these: dict, check_mode: bool) -> None:
    settings = these["rendered"]["settings"]["apply"]
    run.plan = act("plan", run.said, check_mode, **these)
    run.changed += run.plan["changed"]
    if check_mode:
        return
    try:
        cluster = Cluster(these["connection"])
        for item in run.plan["apply"]:
            cluster.apply(item, settings["field_manager"], settings["force"], dry_run=False)
    except ApiError as error:
        raise AnsibleActionFail(act("rollout", run.said, plan=run.plan, cause=str(error), **these)["told"]) from None
    run.changed += bool(run.plan["apply"])
    run.rollout = act("rollout", run.said, plan=run.plan, **these)
    run.changed += run.rollout["changed"]


class Asking(Examiner):
    """One that notes of which objects it asks the API server by a dry run."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.asked: set[str] = set()

    def _rehearsed(self, item: dict, *more: Any) -> dict:
        self.asked.add(describe(item))
        return super()._rehearsed(item, *more)


class Both:
    """The plan of single objects, where only what is in doubt is dry-run, beside the one where all are.

    Attributes:
        changes: how many objects were found to be changed.
    """

    def __init__(self, connection: dict, found: dict) -> None:
        options = delivery.options(found)
        self.objects = options["objects"]
        self.fast, self.full = Asking(Cluster(connection), options), Asking(Cluster(connection), options)
        self.cluster, self.changes = self.full.cluster, 0
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        self.fast.admission = Admission(self.fast.cluster, {NAMESPACE: self.cluster.get(namespace)})

    def compare(self, item: dict) -> Change | None:
        """Look at one object; where no dry run is made, one must say the same. Gives what is to be changed."""
        found, version, asked = [], "", self.fast.asked
        # Not while a controller writes.
        while version != (version := self._version(item)):
            self.fast.asked = set()
            found = [self.fast.examine(item)]
            found += [] if self.fast.asked else [self.full.examine(item)]
        said = [(problems, change and change.lines(), notices) for problems, change, notices in found]
        assert said[0] == said[-1], f"{describe(item)}\n{json.dumps(self.cluster.get(item))}"
        self.changes += found[0].change is not None
        self.fast.asked |= asked
        return found[0].change

    def _version(self, item: dict) -> str:
        return ((self.cluster.get(item) or {}).get("metadata") or {}).get("resourceVersion", "none")

    def take_back(self, item: dict) -> None:
        """Do with one object what a run does."""
        change = self.full.examine(item).change
        if change and change.takeover:
            writes.adopt(self.cluster, change, self.full.manager)
        if change:
            self.cluster.apply(change.item, self.full.manager, force=True, dry_run=False)
