"""Action ``modelyard.core.park``: see plugins/modules/park.py for its arguments."""

from __future__ import annotations

import os

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    delivery,
    gating,
    parked,
    parking,
    rollout,
    switching,
    twins,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import plan as planning
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock, person
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused, problem
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import chosen, preflight


class ActionModule(Action):
    """Scale servers to zero until they are woken, and wait until their pods are gone."""

    untouched = "Nothing was parked."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered, check = checked(options["rendered"]), self._task.check_mode
        parts = chosen.chosen(rendered, options["servers"], variable="park_servers")
        cluster = Cluster(options["connection"])
        planning.check_cluster(cluster, delivery.identity(rendered))
        twins.check(task_vars)
        before = {part["name"]: parked.live_of(cluster, part) for part in parts}
        try:
            until = parking.until(options["end"], cluster.now)
        except ValueError as error:
            raise Refused([problem("park_until", options["end"], str(error))]) from None
        said = {"by": person(task_vars), "reason": options["reason"], "until": until}
        if check:
            changed = [part for part in parts if parked.park(cluster, part, dry_run=True, **said)[1]]
            self._tell(cluster, parts, changed, before)
            return self._result(cluster, rendered, parts, changed)
        place, settings = delivery.lock(rendered), rendered["settings"]["apply"]
        lock = Lock(cluster, place["lock_namespace"], place["lock_name"], os.getppid())
        with lock.held(settings["lock_wait"], self.tell) as alive:
            freed = {row["workload"]: row for row in rollout.table(cluster, list(before.values()))}
            changed = [part for part in parts if parked.park(cluster, part, **said)[1]]
            self._tell(cluster, parts, changed, before)
            for part in parts:
                gating.forget(cluster, part)
            emptying = switching.Emptying(cluster, settings, self.tell, alive)
            for part in parts if settings["wait"] else []:
                emptying.wait(before[part["name"]])
                self._gone(part, freed[part["name"]])
        return self._result(cluster, rendered, parts, changed)

    def _tell(self, cluster: Cluster, parts: list[dict], changed: list[dict], before: dict[str, dict]) -> None:
        for part in parts:
            live, name = before[part["name"]], part["name"]
            pods, note = live["spec"]["replicas"], parking.read(live)
            price = preflight.price(part, parking.hours(note, cluster.now))
            more = f" ({price})" if price else ""
            if part not in changed:
                self.tell(f"{name} is {parking.told(note)}{more}")
            elif pods:
                self.tell_change([f"park {name}: {pods} pod{'s'[: pods > 1]}{more}"])
            else:
                self.tell_change(
                    [f"change the note of {name}, which is {parking.told(note) if note else 'parked'}{more}"]
                )

    def _gone(self, part: dict, row: dict) -> None:
        free = (
            f", which frees {row['gpus']} GPU{'s'[: row['gpus'] != '1']} on {row['node']}" if row["node"] != "-" else ""
        )
        self.tell(f"{part['name']}: its pods are gone{free if row['gpus'] != '0' else ''}")

    def _result(self, cluster: Cluster, rendered: dict, parts: list[dict], changed: list[dict]) -> dict:
        rows = [{"server": part["name"], **parking.read(parked.live_of(cluster, part))} for part in parts]
        prices = [preflight.price(part, parking.hours(row, cluster.now)) for part, row in zip(parts, rows, strict=True)]
        handed = {"check": self._task.check_mode, "changed": len(changed)}
        servers = [row | {"price": price} for row, price in zip(rows, prices, strict=True)]
        self.hand_on(park={**handed, "servers": servers})
        return {"changed": bool(changed), "servers": rows}
