"""Waits until Deployments are rolled out, and explains one that won't be; never writes."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking, volumes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    ApiError,
    Cluster,
    Unreachable,
    describe,
    readable,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import MANAGED_BY, PROJECT, identity
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.volumes import unschedulable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import GPU
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

LOG_LINES = 20
# What a program says of an error may stand far above the end of its log, when it shuts down in order afterwards.
SEARCHED_LINES, TELLING_LINES = 300, 6
TELLING = re.compile(r"\b(?:ERROR|CRITICAL|FATAL)\b|^\S*(?:Error|Exception)\b|(?i:couldn't|could not|failed)")
EVENTS = 6
# A fault must last this long before it counts: a missing ConfigMap may be on its way, a registry may answer the
# second time. What passes it does not heal by itself (field notes 19).
PATIENCE_SECONDS = {
    "CreateContainerConfigError": 15,
    "CreateContainerError": 15,
    "RunContainerError": 15,
    "InvalidImageName": 0,
    "ErrImagePull": 60,
    "ImagePullBackOff": 60,
    "ErrImageNeverPull": 0,
}
RESTARTS = 3
REFUSED_SECONDS = 15
OUTAGE_SECONDS = 120
# Pods of other phases hold no GPU any more, and stay until somebody deletes them.
LIVING = ("Pending", "Running", "Unknown")
# What looks like a credential never leaves a log: Hugging Face, AWS and GitHub tokens, bearer headers, key=value pairs.
SECRET = re.compile(
    r"(hf_\w{20,}|AKIA\w{16}|ghp_\w{30,}|[Bb]earer\s+[\w.~+/-]{16,}|(?i:(?:password|secret|token|api_?key|access_?key)[\x22\x27]?\s*[=:]\s*)\S+)"
)


class Failed(Failure):
    """A rollout that won't complete; the message is for the operator."""


def redact(text: str) -> str:
    """Hide what looks like a credential in a log line."""
    return SECRET.sub("(hidden)", text)


def excerpt(log: list[str]) -> list[str]:
    """Choose the last lines of a log, and before them those above that tell of an error."""
    telling = [line for line in log[:-LOG_LINES] if TELLING.search(line)]
    return [*telling[-TELLING_LINES:], *log[-LOG_LINES:]]


def is_complete(deployment: dict) -> bool:
    """Tell whether a Deployment's newest template runs everywhere and nothing of an older one is left.

    The conditions are those of ``kubectl rollout status``.
    """
    status, wanted = deployment.get("status", {}), deployment["spec"].get("replicas", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")]
    return status.get("observedGeneration", 0) >= deployment["metadata"]["generation"] and counts == [wanted] * 4


def condition(item: dict, kind: str) -> dict:
    """One condition of an object's status, or ``{}``."""
    return next((entry for entry in item.get("status", {}).get("conditions", []) if entry["type"] == kind), {})


def selector(deployment: dict) -> str:
    """The label selector of a Deployment as a query string."""
    return ",".join(f"{key}={value}" for key, value in deployment["spec"]["selector"]["matchLabels"].items())


def budget_seconds(deployment: dict, margin: int) -> int:
    """How long a rollout may take: its progress deadline for each replica that waits for its turn, and a margin."""
    return (
        deployment["spec"].get("progressDeadlineSeconds", 600) * max(1, deployment["spec"].get("replicas", 1)) + margin
    )


def container_states(pod: dict) -> list[dict]:
    """The statuses of a pod's containers, init containers first."""
    status = pod.get("status", {})
    return [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]


def fault(pod: dict) -> tuple[str, str]:
    """Find what keeps a pod from starting.

    Args:
        pod: a Pod.

    Returns:
        the name of the container (``''`` for the pod itself) and the reason, or two empty strings.
    """
    if pod.get("status", {}).get("phase") == "Failed":
        return "", pod["status"].get("reason") or "Failed"
    for state in container_states(pod):
        reason = (state.get("state", {}).get("waiting") or {}).get("reason", "")
        if reason in PATIENCE_SECONDS or reason == "CrashLoopBackOff":
            return state["name"], reason
        now, restarts = state.get("state", {}).get("terminated"), state.get("restartCount", 0)
        ended = state.get("lastState", {}).get("terminated") or now or {}
        # One that ended twice is on its way to CrashLoopBackOff.
        if (restarts >= RESTARTS or (now and restarts)) and not state.get("ready"):
            reason = ended.get("reason") or "Restarting"
            return state["name"], "ended, with exit code 0" if reason == "Completed" else reason
    return "", ""


class Watch:
    """Waits for a list of Deployments on one cluster."""

    def __init__(self, cluster: Cluster, options: dict, tell, alive):
        """Hold the inputs.

        Args:
            cluster: where they are.
            options: ``capacity_timeout`` and ``margin`` in seconds.
            tell: called with a line of text when something is worth knowing.
            alive: called in every round, so that the lock is renewed.
        """
        self.cluster, self.options, self.tell, self.alive = cluster, options, tell, alive
        self.since: dict[tuple, float] = {}
        self.lines: dict[str, str] = {}
        # Not every credential that parks and wakes may.
        self.may_list = True

    def wait(self, items: list[dict]) -> list[dict]:
        """Wait until all are rolled out.

        Args:
            items: the Deployments (apiVersion, kind, metadata).

        Returns:
            the live Deployments.

        Raises:
            Failed: with the explanation, as soon as it is clear that one won't.
        """
        started, pause, answered, told = time.monotonic(), 0.25, time.monotonic(), time.monotonic()
        done: dict[str, dict] = {}
        while True:
            try:
                self.alive()
                rest = [item for item in items if describe(item) not in done]
                for item, live in zip(rest, self.read(rest), strict=True):
                    self._look(item, live, done, started)
                answered = time.monotonic()
            except (Unreachable, ApiError) as error:
                # A control plane may fail over during a long wait; a refusal (4xx) does not heal.
                if (isinstance(error, ApiError) and error.status < 500) or time.monotonic() - answered > OUTAGE_SECONDS:
                    raise
                self.tell(f"the API server is away: {error}")
            if len(done) == len(items):
                return [done[describe(item)] for item in items]
            if time.monotonic() - told > 30:
                told = time.monotonic()
                self.tell(
                    f"{len(done)} of {len(items)} rolled out after {told - started:.0f} s; "
                    + "; ".join(f"{name}: {line}" for name, line in self.lines.items() if name not in done)
                )
            time.sleep(pause)
            pause = min(pause * 1.3, 3)

    def read(self, items: list[dict]) -> list[dict | None]:
        """Read Deployments: several by one list of ours, and alone what that has not.

        Args:
            items: the Deployments (apiVersion, kind, metadata), of one namespace.
        """
        listed = {}
        if len(items) > 1 and self.may_list:
            namespace = items[0]["metadata"]["namespace"]
            found = readable(self.cluster.list, "apps/v1", "Deployment", namespace, f"{MANAGED_BY}={PROJECT}")
            self.may_list = found is not None
            listed = {identity(live): live for live in found or []}
        return [listed.get(identity(item)) or self.cluster.get(item) for item in items]

    def _look(self, item: dict, live: dict | None, done: dict, started: float) -> None:
        name, waited = describe(item), time.monotonic() - started
        if live is None:
            raise Failed(f"{name} is gone: something else deleted it during the rollout")
        if is_complete(live):
            done[name] = live
            if name in self.lines:
                self.tell(f"{name} is rolled out after {waited:.0f} s")
            return
        pods = self._new_pods(live)
        line = _progress(live)
        pending = next((text for text in map(unschedulable, pods) if text), "")
        apart = {pod["metadata"]["uid"]: volumes.fault(self.cluster, pod) for pod in pods if fault(pod) == ("", "")}
        unmet = next((redact(found.text) for found in apart.values() if found), "")
        line += f", {unmet}" if unmet else f", waiting for a node: {pending}" if pending else ""
        if self.lines.get(name) != line:
            self.tell(f"{name}: {line}")
        self.lines[name] = line
        reason = self._volumes(apart) or self._reason(name, live, pods, pending, waited)
        if reason:
            raise Failed(self.explain(live, pods, reason))

    def _lasts(self, key: tuple, present: bool) -> float:
        """Seconds since a fault was first seen; -1 while it is absent."""
        if not present:
            self.since.pop(key, None)
            return -1
        return time.monotonic() - self.since.setdefault(key, time.monotonic())

    def _volumes(self, apart: dict[str, volumes.Fault | None]) -> str:
        """Give what has kept a pod from its volumes for too long, or ``''``."""
        late = [
            found
            for uid, found in apart.items()
            if self._lasts((uid, "volumes"), bool(found)) >= (found.patience if found else 0) and found
        ]
        return redact(late[0].text) if late else ""

    def _reason(self, name: str, live: dict, pods: list[dict], pending: str, waited: float) -> str:
        current = live["status"].get("observedGeneration", 0) >= live["metadata"]["generation"]
        for pod in pods:
            container, reason = fault(pod)
            key = (pod["metadata"]["uid"],)
            if self._lasts(key, bool(reason)) >= PATIENCE_SECONDS.get(reason, 0) and reason:
                return f"container {container}: {reason}" if container else reason
        refused = condition(live, "ReplicaFailure")
        if self._lasts((name, "refused"), current and refused.get("status") == "True") >= REFUSED_SECONDS:
            return f"its pods are refused: {refused.get('message', refused.get('reason'))}"
        if self._lasts((name, "pending"), bool(pending)) > self.options["capacity_timeout"]:
            return f"no node took its pod in {self.options['capacity_timeout']} s (apply_capacity_timeout): {pending}"
        progressing = condition(live, "Progressing")
        if current and progressing.get("reason") == "ProgressDeadlineExceeded" and not pending:
            return f"no progress in its progressDeadlineSeconds ({live['spec'].get('progressDeadlineSeconds')} s)"
        budget = budget_seconds(live, self.options["margin"])
        return (
            f"not rolled out in {budget} s"
            if waited > budget + (self.options["capacity_timeout"] if pending else 0)
            else ""
        )

    def _new_pods(self, deployment: dict) -> list[dict]:
        """The pods of a Deployment's newest ReplicaSet."""
        namespace, chosen = deployment["metadata"]["namespace"], selector(deployment)
        revision = (deployment["metadata"].get("annotations") or {}).get("deployment.kubernetes.io/revision")
        sets = self.cluster.list("apps/v1", "ReplicaSet", namespace, chosen)
        owned = [
            item
            for item in sets
            if any(
                owner["uid"] == deployment["metadata"]["uid"] for owner in item["metadata"].get("ownerReferences", [])
            )
            and item["metadata"].get("annotations", {}).get("deployment.kubernetes.io/revision") == revision
        ]
        if not owned or deployment["status"].get("observedGeneration", 0) < deployment["metadata"]["generation"]:
            return []
        template = owned[0]["metadata"]["labels"]["pod-template-hash"]
        return self.cluster.list("v1", "Pod", namespace, f"{chosen},pod-template-hash={template}")

    def explain(self, deployment: dict, pods: list[dict], reason: str) -> str:
        """Tell an operator what is wrong with a Deployment: its pods, their containers, last events and last log lines."""
        status, namespace = deployment["status"], deployment["metadata"]["namespace"]
        lines = [
            f"{describe(deployment)} is not rolled out: {reason}",
            f"  {status.get('readyReplicas', 0)} of {deployment['spec']['replicas']} replicas ready, {status.get('updatedReplicas', 0)} of the new template",
        ]
        lines += self._events(namespace, deployment["metadata"]["name"], "Deployment")
        for pod in sorted(pods, key=lambda item: fault(item) == ("", ""))[:2]:
            lines += self._pod_lines(pod)
        name = deployment["metadata"]["name"]
        serving = status.get("availableReplicas", 0)
        lines.append(f"  {serving} replica(s) still serve." if serving else "  Nothing serves now.")
        lines.append(f"  Look: kubectl -n {namespace} describe deployment {name}")
        return "\n".join(lines)

    def _pod_lines(self, pod: dict) -> list[str]:
        namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
        lines = [
            f"  pod {name} on {pod['spec'].get('nodeName') or 'no node'}: {pod['status'].get('phase')}"
            + (f", {pod['status']['message']}" if pod["status"].get("message") else "")
        ]
        if unschedulable(pod):
            lines.append(f"    scheduler: {unschedulable(pod)}")
        lines += [f"    {redact(line)}" for line in volumes.lines(self.cluster, pod)]
        initial = {state["name"] for state in pod.get("status", {}).get("initContainerStatuses", [])}
        for state in container_states(pod):
            ended = (state.get("state", {}).get("terminated") or {}).get("reason") == "Completed"
            # A server that ends is at fault, whatever its exit code.
            if state.get("ready") or (ended and state["name"] in initial):
                continue
            lines.append("    " + _container_line(state))
            lines += self._log(namespace, name, state)
        return lines + self._events(namespace, name, "Pod")

    def _log(self, namespace: str, pod: str, state: dict) -> list[str]:
        query = {"container": state["name"], "tailLines": SEARCHED_LINES}
        # Of one that does not run just now, the kubelet gives the newest log by itself, and an older one may be gone.
        if state.get("restartCount") and state.get("state", {}).get("running") is not None:
            query["previous"] = "true"
        try:
            text = self.cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}/log", query, patient=False)
        except (ApiError, Unreachable) as error:
            # A container that never started has no log; simulated nodes have no kubelet to ask.
            return [f"      (no log: {error})"]
        return [f"      | {redact(line)}" for line in excerpt(str(text).splitlines())]

    def _events(self, namespace: str, name: str, kind: str) -> list[str]:
        return [
            f"    event {event.get('type')} {event.get('reason')}: {redact(event.get('message', ''))}"
            for event in volumes.events(self.cluster, namespace, kind, name)
            if event.get("type") != "Normal"
        ][-EVENTS:]


def _progress(deployment: dict) -> str:
    """How many pods are ready, and whether they still have to stay so for minReadySeconds."""
    status, least = deployment["status"], deployment["spec"].get("minReadySeconds", 0)
    ready, available = status.get("readyReplicas", 0), status.get("availableReplicas", 0)
    waiting = f", {ready - available} of them for less than {least} s (minReadySeconds)" if ready > available else ""
    return f"{ready} of {deployment['spec']['replicas']} ready{waiting}"


def _container_line(state: dict) -> str:
    (kind, detail), *_ = (state.get("state") or {"unknown": {}}).items()
    detail = detail or {}
    text = (
        f"container {state['name']}: {kind}"
        + (f" {detail['reason']}" if detail.get("reason") else "")
        + (f": {redact(detail['message'])}" if detail.get("message") else "")
    )
    ended = state.get("lastState", {}).get("terminated") or (detail if kind == "terminated" else {})
    if ended:
        text += f"; last exit {ended.get('reason', '')} (code {ended.get('exitCode')})"
    return text + f"; {state.get('restartCount', 0)} restarts"


def _runs(pod: dict) -> bool:
    containers = pod["status"].get("containerStatuses") or []
    return bool(containers) and all(item["ready"] and item.get("containerID") for item in containers)


def handed(rows: Sequence[dict]) -> list[dict]:
    """Give the rows of :func:`table` as a run hands them on: numbers instead of what a person reads."""
    found = []
    for row in rows:
        ready, _, wanted = row["ready"].partition(" ")[0].partition("/")
        counts = {"ready": int(ready), "wanted": int(wanted), "gpus": int(row["gpus"])}
        texts = {key: row[key] for key in ("profile", "model", "node")}
        found.append(
            {"workload": row["workload"], **counts, **texts, "answers": row["answers"], "parked": row["parked"]}
        )
    return found


def known(items: Sequence[dict], live: Mapping[tuple, dict]) -> list[dict]:
    """Give of Deployments that are rolled out what :func:`table` looks at, so that they need not be read again.

    Args:
        items: the Deployments that are wanted.
        live: identity of each that was read to the live one.

    Returns:
        one for each item; nothing where any is not there, or not rolled out.
    """
    found = [live.get(identity(item)) for item in items]
    return [
        {
            **{key: one[key] for key in ("apiVersion", "kind")},
            "metadata": {
                **{key: one["metadata"][key] for key in ("name", "namespace")},
                "annotations": {
                    key: value
                    for key, value in (one["metadata"].get("annotations") or {}).items()
                    if key.startswith(f"{PROJECT}/")
                },
            },
            "spec": {key: one["spec"][key] for key in ("replicas", "selector")},
            "status": {"readyReplicas": one["status"].get("readyReplicas", 0)},
        }
        for one in found
        if one and all(other and is_complete(other) for other in found)
    ]


def table(cluster: Cluster, deployments: list[dict]) -> list[dict]:
    """Say where everything runs.

    Args:
        cluster: where the Deployments are.
        deployments: live ones, or as they are to be.

    Returns:
        a row for each: workload, profile, model, ready (``ready/wanted``), node (names without their domain, joined by ``,``), gpus (of all its pods that have not ended), answers (whether
        a pod is ready whose containers really run, which a simulated node's do not), parked: who parked it, since when and why, or '', and for how many hours it has been.
    """

    def row(deployment, found):
        notes = deployment["metadata"].get("annotations") or {}
        pods = [
            pod
            for pod in found
            if not pod["metadata"].get("deletionTimestamp") and pod.get("status", {}).get("phase", "Pending") in LIVING
        ]
        gpus = sum(
            int(count)
            for pod in pods
            for container in pod["spec"]["containers"]
            for name, count in container.get("resources", {}).get("requests", {}).items()
            if GPU.search(name)
        )
        wanted = deployment["spec"].get("replicas", 1)
        return {
            "workload": deployment["metadata"]["name"],
            "profile": notes.get("modelyard/profile", "-"),
            "model": notes.get("modelyard/model", "-"),
            "ready": f"{deployment.get('status', {}).get('readyReplicas', 0)}/{wanted}" + ("" if wanted else " parked"),
            "node": ",".join(sorted({pod["spec"].get("nodeName", "").partition(".")[0] for pod in pods} - {""})) or "-",
            "gpus": str(gpus),
            "answers": any(_runs(pod) for pod in pods),
            "parked": parking.told(note) if (note := parking.read(deployment)) else "",
            "hours": parking.hours(note, cluster.now),
        }

    return [row(one, found) for one, found in zip(deployments, _pods(cluster, deployments), strict=True)]


def _pods(cluster: Cluster, deployments: list[dict]) -> list[list[dict]]:
    """List the pods of each Deployment: of several in one namespace by one list, where their selectors share a key."""
    chosen = [one["spec"]["selector"]["matchLabels"] for one in deployments]
    shared = set.intersection(*map(set, chosen)) if chosen else set()
    places = {one["metadata"]["namespace"] for one in deployments}
    if not shared or len(places) > 1:
        return cluster.parallel(
            lambda one: cluster.list("v1", "Pod", one["metadata"]["namespace"], selector(one)), deployments
        )
    values = {key: sorted({labels[key] for labels in chosen}) for key in sorted(shared)}
    query = ",".join(f"{key} in ({','.join(those)})" for key, those in values.items())
    found = cluster.list("v1", "Pod", *places, query)
    return [[pod for pod in found if labels.items() <= pod["metadata"]["labels"].items()] for labels in chosen]
