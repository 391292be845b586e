"""Action ``modelyard.core.wake``: see plugins/modules/wake.py for its arguments."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    delivery,
    gating,
    parked,
    parking,
    questions,
    rollout,
    summary,
    twins,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import chosen, preflight

# A pod that is ready may not be behind its Service at once.
ANSWER_SECONDS = 60


class ActionModule(Action):
    """Start parked servers, and wait until they answer."""

    untouched = "Nothing was woken."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, check, urls, keys = (
            checked(options["rendered"]),
            self._task.check_mode,
            options["urls"],
            options["keys"],
        )
        parts = chosen.chosen(rendered, options["servers"], variable="wake_servers")
        if wrong := questions.unusable(rendered, urls, keys):
            raise Refused(wrong)
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, delivery.identity(rendered))
        twins.check(task_vars)
        before = {part["name"]: parked.live_of(cluster, part) for part in parts}
        if check:
            changed = [part for part in parts if parked.wake(cluster, part, dry_run=True)[1]]
            self._tell(cluster, parts, changed, before)
            return self._result(cluster, rendered, parts, changed, before)
        place, settings = delivery.lock(rendered), rendered["settings"]["apply"]
        lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid())
        with lock.held(settings["lock_wait"], self.tell) as alive:
            changed = [part for part in parts if parked.wake(cluster, part)[1]]
            self._tell(cluster, parts, changed, before)
            for part in parts:
                gating.forget(cluster, part)
            if not settings["wait"]:
                return self._result(cluster, rendered, parts, changed, before)
            live = rollout.Watch(cluster, settings, self.tell, alive).wait([*map(parked.deployment, parts)])
            answers = [
                answer
                for part in parts
                for answer in _answered(cluster, part, rendered, urls.get(part["name"]), keys.get(part["name"]), alive)
            ]
        rows = rollout.table(cluster, live)
        for line in [*map(questions.line, answers), *summary.workloads(rows, self.width)]:
            self.tell(line)
        if wrong := [questions.line(answer) for answer in answers if not answer["ok"]]:
            raise Failure("awake, but without a right answer: " + "; ".join(wrong))
        return self._result(cluster, rendered, parts, changed, before, rows, answers)

    def _result(
        self,
        cluster: Cluster,
        rendered: dict,
        parts: list[dict],
        changed: list[dict],
        before: dict[str, dict],
        rows: Sequence[dict] = (),
        answers: Sequence[dict] = (),
    ) -> dict:
        """Give the task's result, and hand on what was woken."""
        servers = []
        for part in parts:
            hours = parking.hours(parking.read(before[part["name"]]), cluster.now)
            servers.append({"server": part["name"], "woken": part in changed, "price": preflight.price(part, hours)})
        handed = {"check": self._task.check_mode, "changed": len(changed), "servers": servers}
        more = {"workloads": rollout.handed(rows), **questions.handed(answers)}
        self.hand_on(wake={**handed, **more})
        return {"changed": bool(changed), "workloads": list(rows), "answers": list(answers)}

    def _tell(self, cluster: Cluster, parts: list[dict], changed: list[dict], before: dict[str, dict]) -> None:
        for part in parts:
            live, name = before[part["name"]], part["name"]
            note = parking.read(live)
            price = preflight.price(part, parking.hours(note, cluster.now))
            told = "; ".join(text for text in (parking.told(note) if note else "", price) if text)
            more = f" ({told})" if told else ""
            if part not in changed:
                self.tell(f"{name} is awake{more}")
                continue
            pods = parked.awake(part, live)
            wanted = parked.deployment(part)["spec"].get("replicas")
            lines = [f"wake {name}: {pods} pod{'s'[: pods > 1]}{more}"]
            if wanted == 0:
                lines.append("  the inventory parks it: the next deploy parks it again")
            elif wanted not in (None, pods):
                lines.append(f"  as many as before; the inventory says {wanted}, which the next deploy brings")
            self.tell_change(lines)


def _answered(cluster: Cluster, part: dict, rendered: dict, url: str | None, key: str | None, alive) -> list[dict]:
    """Ask until all answers are right, or it has been long enough.

    Raises:
        Failure: somebody has parked it meanwhile.
    """
    ends = time.monotonic() + ANSWER_SECONDS
    while True:
        answers = questions.ask(cluster, part, rendered, url, key) if part["questions"] else []
        parked.check_awake(cluster, part)
        if all(answer["ok"] for answer in answers) or time.monotonic() > ends:
            return answers
        alive()
        time.sleep(1)
