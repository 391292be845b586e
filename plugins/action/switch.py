"""Action ``modelyard.core.switch``: see plugins/modules/switch.py for its arguments."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, gating, parking, switching, twins
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import SINCE_FORMAT, Lock, recorded
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import component_of
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import placeholders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, problem, where

ROLE, VARIABLE, NONE = "vllm_judge", "vllm_judge_variant", "none"
# In an annotation of the Deployment.
MODEL = "modelyard/model"


class ActionModule(Action):
    """Let the judge's pods go before those of another variant come."""

    untouched = "Nothing was applied."
    share = 0.1

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        if options["back"]:
            return self._go_back(options)
        rendered, variant = _checked(options["rendered"], options["variant"]), options["variant"]
        planner, plan, lock, seen = self._planned(options["connection"], rendered)
        twins.check(task_vars)
        deployments, live = _found(planner, plan, variant)
        asked = not planner.cluster.denied(delivery.proxying(rendered))
        if self._task.check_mode:
            for item in deployments:
                name = f"Deployment {item['metadata']['namespace']}/{item['metadata']['name']}"
                self.tell(f"would scale {name} to 0, and wait until its pods are gone, before anything else changes")
        elif deployments:
            if lock.acquire(seen, planner.options["lock_wait"], self.tell, plan.kinds):
                deployments, live = self._again(planner, lock, variant)
            self._empty(planner, lock, deployments, variant, rendered["settings"]["apply"])
            for part in rendered["parts"]:
                switching.start(part["objects"], dict.fromkeys(_pods(deployments), part["needs"]["awake"]))
        for part in rendered["parts"]:
            switching.stay_parked(part["objects"], live)
        saved = [switching.as_it_was(item, planner.manager, planner.adoptable) for item in live]
        switching.start(saved, _pods(live))
        before, told = _described(live), _told(options["inventory"], where(task_vars.get(VARIABLE)), variant)
        handed = {"check": self._task.check_mode, "variant": variant, "before": before, "taken_back": False}
        self.hand_on(switch={**handed, "to_change": told})
        return {
            "rendered": rendered,
            "before": before,
            "saved": saved,
            "asked": asked,
            "told": told,
            "changed": bool(deployments),
        }

    def _planned(self, connection: dict, rendered: dict) -> tuple[planning.Planner, Plan, Lock, dict | None]:
        settings = delivery.options(rendered)
        cluster = Cluster(connection)
        planning.check_cluster(cluster, settings)
        lock = Lock(cluster, settings["lock_namespace"], settings["lock_name"], os.getppid())
        seen = lock.read()
        planner = planning.Planner(cluster, {**settings, "recorded": recorded(seen)})
        return planner, planner.make(), lock, seen

    def _again(self, planner: planning.Planner, lock: Lock, variant: str) -> tuple[list[dict], list[dict]]:
        """Look anew at what the run has left that held the lock meanwhile."""
        try:
            planner.options["recorded"] = recorded(lock.read())
            return _found(planner, planner.make(), variant)
        except BaseException:
            lock.release()
            raise

    def _empty(
        self, planner: planning.Planner, lock: Lock, deployments: list[dict], variant: str, settings: Mapping
    ) -> None:
        """Scale to zero and wait; the lock stays with this run, whose rollout frees it."""
        emptying = switching.Emptying(planner.cluster, settings, self.tell, lock.alive)
        since = planner.cluster.now.strftime(SINCE_FORMAT)
        scaled = switching.scalers(planner.live.values(), deployments)
        try:
            emptying.empty(deployments, scaled, {"by": lock.holder, "since": since, "to": variant})
        except BaseException:
            lock.release()
            raise

    def _go_back(self, options: dict) -> dict:
        """Let the pods of what did not start go, and give what was there before as a rendering."""
        back, name = options["back"], options["rendered"]["cluster"]["name"]
        cause, before = options["cause"].removeprefix(f"cluster {name}: "), options["back"]["before"]
        rendered = _as_before(options["rendered"], back["saved"])
        try:
            planner, plan, lock, seen = self._planned(options["connection"], rendered)
            if deployments := switching.replaced(plan):
                lock.acquire(seen, planner.options["lock_wait"], self.tell, plan.kinds)
                self._empty(planner, lock, deployments, before, rendered["settings"]["apply"])
        except Failure as error:
            raise Failure(
                f"{cause}\nGoing back to {before} failed, too: {error}\n"
                "playbooks/site.yml makes what the inventory says, whatever is there now."
            ) from None
        told = f"{cause}\nSo it was taken back, and what runs is what ran before: {before}."
        self.hand_on(switch={"taken_back": True, "cause": cause})
        return {"rendered": rendered, "changed": bool(deployments), "cause": cause, "told": told}


def _checked(rendered: dict, variant: str) -> dict:
    """Refuse what is wrong with the new variant, and what does not lead to it."""
    rendered["problems"] = [
        f"switch_variant{line.removeprefix(VARIABLE)}" if line.startswith(f"{VARIABLE} is ") else line
        for line in rendered["problems"]
    ]
    checked(rendered)
    if rendered["placeholders"]:
        raise Refused(placeholders.refusal(rendered["placeholders"]))
    if delivery.is_gitops(rendered):
        raise Refused(
            [
                problem(
                    "platform_delivery",
                    "gitops",
                    f"Argo CD applies the judge, so Git says which: park it (playbooks/park.yml), set {VARIABLE}, render and push, run playbooks/site.yml, and wake it (playbooks/wake.yml)",
                )
            ]
        )
    chosen = [part["profile"] for part in rendered["parts"] if part["role"] == ROLE and part["enabled"]]
    if chosen != ([] if variant == NONE else [variant]):
        raise Refused(
            [
                problem(
                    "switch_variant", variant, f"is not what is rendered: leave {VARIABLE} out of the extra variables"
                )
            ]
        )
    rendered = copy.deepcopy(rendered)
    # Whether the new one starts decides whether the old one comes back, and that is done here, its pods first.
    rendered["settings"]["apply"]["wait"] = True
    return rendered | {"recovers": True}


def _found(planner: planning.Planner, plan: Plan, variant: str) -> tuple[list[dict], list[dict]]:
    """Give the Deployments whose pods go, and all that there is; refuse to end an evaluation."""
    deployments = switching.replaced(plan)
    if busy := [note for item in deployments if (note := gating.active(item, planner.cluster.now))]:
        what = f"the judge is awake for an evaluation of {busy[0]['by']}, until {busy[0]['until']}: wait for that, or end it (playbooks/park.yml)"
        raise Refused([problem("switch_variant", variant, what)])
    return deployments, switching.live_objects(planner, plan)


def _pods(live: list[dict]) -> dict[str, int]:
    """Give the numbers of pods, by name, of the Deployments that are not parked."""
    found = [item for item in live if item["kind"] == "Deployment" and not parking.read(item)]
    return {item["metadata"]["name"]: item["spec"].get("replicas", 1) or 1 for item in found}


def _described(live: list[dict]) -> str:
    """Name the servers that there are, and their models."""
    found = [item["metadata"] for item in live if item["kind"] == "Deployment"]
    return ", ".join(f"{item['name']} ({(item.get('annotations') or {}).get(MODEL, '-')})" for item in found) or NONE


def _as_before(rendered: Mapping, saved: list[dict]) -> dict:
    name = next((item["metadata"]["name"] for item in saved if item["kind"] == "Deployment"), ROLE)
    part = {
        "role": ROLE,
        "component": component_of(ROLE),
        "enabled": True,
        "name": name,
        "objects": saved,
        "questions": [],
        "misfits": [],
        "holds": {},
    }
    return {**rendered, "parts": [part]}


def _told(inventory: str, place: str, variant: str) -> str:
    """Say which line of the inventory to change; nothing where it has the variant already."""
    if inventory == variant:
        return ""
    at = f" (set at {place})" if place else ""
    return f"The inventory has {VARIABLE}: {inventory}{at}. Set it to {variant}, or the next run of site.yml brings {inventory} back."
