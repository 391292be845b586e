"""Wakes a server for an evaluation and parks it afterwards, with the time at which the cluster does so by itself; never runs the evaluation.

The deadline is there before the first pod. What is noted of a parked server stays on it while it is awake, so that one that the
cluster has parked, with no right but to do that, is as parked as before.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    deadline,
    delivery,
    lease,
    parked,
    parking,
    questions,
    rollout,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import (
    MERGE_PATCH,
    ApiError,
    Cluster,
    describe,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.writes import TRIES
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

# The annotation of a server that is awake for an evaluation, a JSON object: by, since, until, process.
NOTE = parking.GATE
# From the end of an evaluation to the cluster's own deadline: a run that lives parks long before.
RESERVE_SECONDS = 300
ANSWER_SECONDS = 120


def active(live: Mapping, now: datetime) -> dict:
    """Give the note of an evaluation that a server is awake for, or nothing: it has ended, or was killed on this machine."""
    text = (live["metadata"].get("annotations") or {}).get(NOTE)
    try:
        note = json.loads(text) if text and live["spec"]["replicas"] else {}
        ended = not note or datetime.fromisoformat(note["until"]) < now or lease.is_gone(note["process"])
        return {} if ended else note
    except (ValueError, KeyError, TypeError):
        return {}


def forget(cluster: Cluster, part: Mapping) -> None:
    """Drop the deadline of an evaluation whose server somebody parks or wakes: from then on it is theirs.

    Also where nothing is noted: a run that was killed between two writes leaves the deadline alone.
    """
    live = parked.live_of(cluster, part)
    noted = NOTE in (live["metadata"].get("annotations") or {})
    try:
        deadline.cancel(cluster, part, live["metadata"]["namespace"])
    except ApiError as error:
        # Without the right to delete one, runs have made none.
        if noted or error.status != 403:
            raise
    if noted:
        patch = {"metadata": {"annotations": {NOTE: None}}}
        cluster.request("PATCH", cluster.object_path(live), {"fieldManager": parking.MANAGER}, patch, MERGE_PATCH)


class Gate:
    """One evaluation with one server.

    Attributes:
        until: when the cluster parks it, or ``None`` where nobody parks it: somebody else had woken it before.
    """

    def __init__(
        self, cluster: Cluster, rendered: Mapping, part: Mapping, options: Mapping, tell: Callable[[str], None]
    ) -> None:
        """Look at the server; writes nothing.

        Args:
            cluster: where it is.
            rendered: the structure of ``servers.render``.
            part: the server's part of it.
            options: ``by`` (who), ``process`` (that the evaluation belongs to, or ``""``), ``image`` (with kubectl), ``timeout``
                (seconds of the evaluation), ``always`` (park one, too, that was awake before).
            tell: called with a line of text.

        Raises:
            Failure: another evaluation uses it, or there is no such server.
        """
        self.cluster, self.rendered, self.part, self.options, self.tell = cluster, rendered, part, options, tell
        self.settings, self.until = rendered["settings"]["apply"], None
        self._look()

    @property
    def name(self) -> str:
        """The server's name."""
        return self.part["name"]

    def _now(self) -> datetime:
        return self.cluster.now or datetime.now(UTC)

    def _look(self) -> None:
        """Read the server, and whether it is this evaluation's to wake and to park."""
        self.live = self._unused()
        # Of one that was cut off, what it woke is still to be parked.
        left = NOTE in (self.live["metadata"].get("annotations") or {})
        self.before = parking.read({**self.live, "spec": {"replicas": 0}} if left else self.live)
        self.ours = not self.live["spec"]["replicas"] or left or self.options["always"]

    def _unused(self) -> dict:
        live = parked.live_of(self.cluster, self.part)
        if other := active(live, self._now()):
            place = f"kubectl -n {live['metadata']['namespace']} annotate deployment {self.name} {NOTE}-"
            raise Failure(
                f"{describe(live)} is awake for another evaluation, of {other['by']}, until {other['until']}. Wait for that; or, if it is over, "
                f"park the server (playbooks/park.yml); or, to go on beside it, forget it: {place}"
            )
        return live

    def first_deadline(self) -> datetime:
        """Give the deadline of one that must start first."""
        start = rollout.budget_seconds(self.live, self.settings["margin"]) + self.settings["capacity_timeout"]
        return self._now() + timedelta(seconds=start + ANSWER_SECONDS + self.options["timeout"] + RESERVE_SECONDS)

    def open(self) -> None:
        """Set the deadline, and wake the server; under the lock.

        Raises:
            Failure: another evaluation uses it by now, or the cluster can't be told to park it.
        """
        # While this run waited for the lock, another may have parked or woken it.
        self._look()
        for tries_left in reversed(range(TRIES)):
            if not self.ours:
                self.tell(f"{self.name} is awake already, for somebody else: it stays awake afterwards (gate_park)")
                return
            if not self.until:
                self._set_deadline()
            try:
                replicas = self.live["spec"]["replicas"] or parked.awake(self.part, self.live)
                self._patch(self._noted(), replicas, self.live["metadata"]["resourceVersion"])
                break
            except ApiError as error:
                if error.status != 409 or not tries_left:
                    raise
                self._look_again()
        self.tell(f"{self.name} is awake; the cluster parks it at {self.end}, whatever becomes of this run")

    def _set_deadline(self) -> None:
        try:
            self._arrange(self.first_deadline())
        except ApiError as error:
            with contextlib.suppress(ApiError):
                deadline.cancel(self.cluster, self.part, self.rendered["cluster"]["namespace"])
            raise Failure(
                f"the cluster can't be told to park {self.name} by itself: {error} (docs/rbac.yaml has the rights)"
            ) from None

    def _look_again(self) -> None:
        """Read the server after somebody has changed it; whoever has woken it is not to be parked."""
        until, self.until = self.until, None
        self._look()
        if self.ours:
            self.until = until
        else:
            deadline.cancel(self.cluster, self.part, self.rendered["cluster"]["namespace"])

    def answer(self, alive: Callable[[], None], url: str | None, key: str | None) -> None:
        """Wait until the server answers its questions; from then on the evaluation has its whole time.

        Args:
            alive: called in every round.
            url: where it is asked instead of through the API server's proxy.
            key: its API key, which needs the URL.

        Raises:
            Failure: it does not start, gives a wrong answer, or is parked meanwhile.
        """
        rollout.Watch(self.cluster, self.settings, self.tell, alive).wait([self.live])
        ends = time.monotonic() + ANSWER_SECONDS
        while True:
            alive()
            answers = questions.ask(self.cluster, self.part, self.rendered, url, key)
            parked.check_awake(self.cluster, self.part)
            failed = [answer for answer in answers if not answer["ok"]]
            if not failed:
                break
            if time.monotonic() > ends:
                raise Failure(f"{self.name} gives no right answer: {'; '.join(map(questions.line, failed))}")
            time.sleep(2)
        for answer in answers:
            self.tell(questions.line(answer))
        if self.ours:
            self._arrange(self._now() + timedelta(seconds=self.options["timeout"] + RESERVE_SECONDS))
            self._patch({NOTE: self._gate()}, None)

    def close(self) -> str:
        """Park the server again if it is ours to park.

        Returns:
            what became of it.

        Raises:
            Failure: it could not be parked.
        """
        if not self.ours:
            return f"{self.name} was awake before, and is left as it is"
        if not self.until:
            return f"{self.name} was not woken"
        try:
            self.live = parked.live_of(self.cluster, self.part)
            if (other := active(self.live, self._now())) and other["by"] != self.options["by"]:
                return f"{self.name} is awake for another evaluation by now, of {other['by']}, and is left as it is"
            # Whoever parked it meanwhile has said why and until when.
            noted = parking.NOTE in (self.live["metadata"].get("annotations") or {})
            self._patch({**({} if noted else self._noted()), NOTE: None}, 0)
            deadline.cancel(self.cluster, self.part, self.rendered["cluster"]["namespace"])
        except Failure as error:
            raise Failure(f"{self.name} could not be parked, and the cluster does so at {self.end}: {error}") from None
        return f"{self.name} is parked"

    @property
    def end(self) -> str:
        """When the cluster parks the server; ``""`` where nobody does."""
        return self._text(self.until)

    def _arrange(self, until: datetime) -> None:
        self.until = deadline.arrange(self.cluster, self.part, self.rendered, self.options["image"], until)

    def _gate(self) -> str:
        note = {"by": self.options["by"], "since": self._text(self._now()), "until": self.end}
        return json.dumps({**note, "process": self.options["process"]}, sort_keys=True)

    def _noted(self) -> dict:
        """Give the annotations of a server that is awake; with the note of one that is parked, unless that is the inventory's or a schedule's business."""
        item = parked.deployment(self.part)
        theirs = item["spec"].get("replicas") == 0 or parking.SCHEDULE in (item["metadata"].get("annotations") or {})
        noted = parking.NOTE in (self.live["metadata"].get("annotations") or {})
        if theirs and not noted:
            return {NOTE: self._gate()}
        since = self._text(self._now())
        fresh = {"by": self.options["by"], "since": since, "until": "", "reason": "after an evaluation"}
        pods = {"replicas": self.live["spec"]["replicas"] or self.part["needs"]["awake"]}
        return {NOTE: self._gate(), parking.NOTE: parking.write(self.before or {**fresh, **pods})}

    def _patch(self, annotations: Mapping, replicas: int | None, version: str = "") -> None:
        metadata = {"annotations": dict(annotations), **({"resourceVersion": version} if version else {})}
        patch = {"metadata": metadata, **({} if replicas is None else {"spec": {"replicas": replicas}})}
        path = self.cluster.object_path(self.live)
        self.live = self.cluster.request("PATCH", path, {"fieldManager": parking.MANAGER}, patch, MERGE_PATCH)

    @staticmethod
    def _text(moment: datetime | None) -> str:
        return moment.astimezone(UTC).strftime(parking.TIME) if moment else ""


def inner_url(rendered: Mapping, part: Mapping) -> str:
    """Give a server's URL inside the cluster."""
    service = next(item for item in part["objects"] if item["kind"] == "Service")
    port = next(port["port"] for port in service["spec"]["ports"] if port.get("name") == "http")
    return f"http://{part['service']}.{rendered['cluster']['namespace']}.svc:{port}"


def path(rendered: Mapping, part: Mapping) -> str:
    """Give the path at the API server that leads to a server."""
    return delivery.proxied(rendered, part["service"], "")


def model(part: Mapping) -> str:
    """Give the name by which a server's model is asked, or ``""``."""
    return next((asked["body"]["model"] for asked in part["questions"] if "model" in (asked.get("body") or {})), "")
