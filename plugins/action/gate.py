"""Action ``modelyard.core.gate``: see plugins/modules/gate.py for its arguments."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from ansible_collections.modelyard.core.plugins.plugin_utils import command, worker
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    delivery,
    forward,
    gating,
    parked,
    parking,
    rollout,
    twins,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock, process_id
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, problem
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.chosen import chosen

# A CronJob's schedule has no year: 30 days are far from where the deadline would be another year's.
LONGEST_SECONDS = 30 * 24 * 3600


class Interrupted(Failure):
    """The run ends; ``signal`` is what ended it, or 0 where ansible-playbook was killed."""

    def __init__(self, number: int) -> None:
        super().__init__(f"{signal.Signals(number).name} ended the run" if number else "ansible-playbook was killed")
        self.signal = number


class ActionModule(Action):
    """Wake a server, evaluate with it, and park it whatever happens."""

    untouched = "Nothing was started."

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        part = self._part(rendered, options)
        cluster = Cluster(options["connection"])
        check_cluster(cluster, delivery.identity(rendered))
        twins.check(task_vars)
        if not options["url"] and (denied := cluster.denied(delivery.proxying(rendered))):
            may_not = ", ".join(verb for verb, *_ in denied)
            what = f"must be set, or the rights be granted: this credential may not {may_not} services/proxy (docs/rbac.yaml)"
            raise Refused([problem("gate_url", options["url"], what)])
        lock = Lock(cluster, delivery.scope(rendered), delivery.lock(rendered)["lock_name"], os.getppid())
        settings = {
            "by": lock.holder,
            # The URL that is left is used by others, after the end of this run.
            "process": process_id(os.getppid()) if options["command"] else "",
            "image": options["image"] or part["schedule_image"],
            "timeout": options["timeout"],
            "always": options["park"] == "always",
        }
        gate = gating.Gate(cluster, rendered, part, settings, self.tell)
        result = {"url": options["url"] or gating.inner_url(rendered, part), "model": gating.model(part)}
        handed = {"check": self._task.check_mode, "server": gate.name, "woken": gate.ours, **result}
        if self._task.check_mode:
            self.tell(self._foretold(gate, options["command"]))
            self.hand_on(gate={**handed, "until": ""})
            return {**result, "until": "", "changed": gate.ours}
        try:
            with worker.outliving(), worker.signals() as received:
                self._evaluate(gate, lock, options, _alive(received))
        except Interrupted as error:
            if error.signal:
                # Ansible's own handler ends this process: nobody reads a result any more.
                signal.raise_signal(error.signal)
            raise
        self.hand_on(gate={**handed, "woken": gate.ours, "until": gate.end})
        return {**result, "until": gate.end, "changed": gate.ours}

    def _part(self, rendered: dict, options: dict) -> dict:
        found = chosen(rendered, [options["server"]] if options["server"] else [], variable="gate_server")
        part, wrong = found[0], []
        if len(found) > 1:
            names = ", ".join(one["name"] for one in found)
            wrong.append(problem("gate_server", options["server"], f"must name one of {names}"))
        if any(item["kind"] == "ScaledObject" for item in part["objects"]):
            wrong.append(
                problem(
                    "gate_server",
                    part["name"],
                    "is scaled by KEDA, which would wake it again: give it minReplicaCount 0",
                )
            )
        item = parked.deployment(part)
        scheduled = parking.SCHEDULE in (item["metadata"].get("annotations") or {})
        if delivery.is_gitops(rendered) and item["spec"].get("replicas") and not scheduled:
            what = "would be started again by Argo CD when the cluster parks it at the deadline: let Git have it parked (vllm_judge_parked)"
            wrong.append(problem("gate_server", part["name"], what))
        if any(asked.get("key") for asked in part["questions"]) and not options["url"]:
            what = "must be set: the server asks for an API key, which the API server's proxy removes"
            wrong.append(problem("gate_url", options["url"], what))
        if not 1 <= options["timeout"] <= LONGEST_SECONDS:
            what = f"must be a whole number from 1 to {LONGEST_SECONDS}, in seconds"
            wrong.append(problem("gate_timeout", options["timeout"], what))
        if wrong:
            raise Refused(wrong)
        return part

    def _foretold(self, gate: gating.Gate, asked: str) -> str:
        then = f"run {asked}, and park it" if asked else "leave its URL, and let the cluster park it"
        if not gate.ours:
            return f"{gate.name} is awake already: would {then.split(',')[0]}; it stays awake"
        return f"would wake {gate.name}{f', {parking.told(gate.before)}' if gate.before else ''}; {then}"

    def _evaluate(self, gate: gating.Gate, lock: Lock, options: dict, alive: Callable[[], None]) -> None:
        failed: Failure | None = None
        try:
            self._open(gate, lock)
            gate.answer(alive, options["url"] or None, options["key"] or None)
            if options["command"]:
                with self._reached(gate, options) as url:
                    self._run(gate, options, url, alive)
        except Failure as error:
            failed = error
        except BaseException:
            gate.close()
            raise
        if failed or options["command"]:
            self._close(gate, failed)

    def _close(self, gate: gating.Gate, failed: Failure | None) -> None:
        """Park the server, and say what became of it, below what failed before."""
        try:
            told = gate.close()
        except Failure as error:
            raise Failure(f"{failed}\n{error}" if failed else str(error)) from None
        if isinstance(failed, Interrupted):
            raise failed
        if failed:
            raise Failure(f"{failed}\n{told}.") from None
        self.tell(told)

    def _open(self, gate: gating.Gate, lock: Lock) -> None:
        """Wake the server between the runs of others: one that has planned with it parked would park it again."""
        lock.acquire(lock.read(), gate.settings["lock_wait"], self.tell)
        try:
            gate.open()
        finally:
            lock.release()

    @contextlib.contextmanager
    def _reached(self, gate: gating.Gate, options: dict) -> Iterator[str]:
        if options["url"]:
            yield options["url"]
            return
        where = gating.path(gate.rendered, gate.part)
        with forward.forwarded(gate.cluster, where, options["timeout"]) as url:
            yield url

    def _run(self, gate: gating.Gate, options: dict, url: str, alive: Callable[[], None]) -> None:
        known = {"URL": url.rstrip("/"), "MODEL": gating.model(gate.part), "NAME": gate.name}
        known["CLUSTER"] = gate.rendered["cluster"]["name"]
        env = {**os.environ, **{f"JUDGE_{key}": value for key, value in known.items()}}
        try:
            command.run(
                options["command"], env, options["timeout"], alive, lambda line: self.tell(rollout.redact(line))
            )
        except Interrupted:
            raise
        except Failure as error:
            raise Failure(f"gate_command {rollout.redact(str(error))}") from None


def _alive(received: list[int]) -> Callable[[], None]:
    parent = os.getppid()

    def alive() -> None:
        if received:
            raise Interrupted(received[0])
        if os.getppid() != parent:
            raise Interrupted(0)

    return alive
