"""Keeps one run at a time on a cluster, by a Lease that also notes the kinds that runs applied; never waits longer than told."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

# A killed run's lock is free after this; a living one renews it in far less. It must outlast the one call
# in which nothing can renew it: kubernetes.core.k8s applying every object of a cluster (seconds).
DURATION_SECONDS = 120
RENEWED_EVERY = 10
PROCESS = "modelyard/process"
SINCE_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"


class Held(Failure):
    """Another run holds the lock."""


def process_id(pid: int) -> str:
    """Identify a process beyond doubt: host, boot, process namespace, number and start time.

    Args:
        pid: of the process.

    Returns:
        five words joined by ``/``, or ``''`` where the system has no ``/proc`` or the process is gone.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        state, started = status[0], status[19]
        if state == "Z":  # it has ended, and its parent does not ask: often so in a container
            return ""
        return "/".join([socket.gethostname(), boot, str(Path("/proc/self/ns/pid").readlink()), str(pid), started])
    except OSError:
        return ""


def is_gone(process: str) -> bool:
    """Tell whether a process that ran on this very machine has ended; in doubt, it has not."""
    mine, theirs = process_id(os.getpid()).split("/"), process.split("/")
    return len(mine) == len(theirs) == 5 and mine[:3] == theirs[:3] and process_id(int(theirs[3])) != process


def person(known: Mapping) -> str:
    """Say who works here, for what is noted on a cluster: ``ann@laptop``, or AWX's user and job.

    Args:
        known: the variables of the task, AWX's own among them.
    """
    user, number = known.get("awx_user_name") or getpass.getuser(), job.number()
    return f"{user} (AWX job {number})" if number else f"{user}@{socket.gethostname()}"


def recorded(lease: dict | None) -> list[dict]:
    """Give the kinds that earlier runs applied, as ``api_version`` and ``kind``; none where no run has noted them."""
    annotations = (lease or {"metadata": {}})["metadata"].get("annotations") or {}
    return kinds.read(annotations.get(kinds.NOTE, ""))


def _version(lease: dict | None) -> str:
    return lease["metadata"]["resourceVersion"] if lease else ""


class Lock:
    """The lock of one cluster.

    A no-change run never takes it, so it costs nothing then.
    """

    def __init__(self, cluster: Cluster, namespace: str, name: str, pid: int):
        """Name the lock.

        Args:
            cluster: where it lives.
            namespace: an existing namespace, by the time it is taken.
            name: of the Lease.
            pid: of the ansible-playbook process, whose end frees the lock.
        """
        self.cluster = cluster
        self.path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self.name = name
        self.pid = pid
        self.process = process_id(pid)
        run = f"AWX job {job.number()}" if job.number() else f"process {pid}"
        self.holder = f"{getpass.getuser()}@{socket.gethostname()} ({run})"
        self.identity = self.process or self.holder
        # When this process last wrote it, or tried to, by the monotonic clock.
        self.renewed = float("-inf")

    def read(self) -> dict | None:
        """Return the Lease, or ``None`` when there is none (or no namespace for it) yet."""
        try:
            return self.cluster.request("GET", f"{self.path}/{self.name}")
        except ApiError as error:
            # Without the right to read it: the plan lists that right among those that are missing.
            if error.status not in (403, 404):
                raise
            return None

    def holder_of(self, lease: dict | None) -> str:
        """Tell who else holds the lock now, ``''`` when nobody does: it is free, expired, ours, or its process is gone."""
        spec = (lease or {}).get("spec") or {}
        annotations = (lease or {"metadata": {}})["metadata"].get("annotations") or {}
        process = annotations.get(PROCESS, "")
        if not spec.get("holderIdentity") or process == self.identity or is_gone(process):
            return ""
        renewed = datetime.strptime(spec["renewTime"], SINCE_FORMAT).replace(tzinfo=UTC)
        ago = (self.cluster.now - renewed).total_seconds()
        left = spec["leaseDurationSeconds"] - ago
        if left < 0:
            return ""
        # A living run renews it long before.
        return (
            f"{spec['holderIdentity']} since {spec['acquireTime']}. It renewed the lock {max(ago, 0):.0f} s ago; "
            f"unless it does so again, the lock frees itself in {left:.0f} s"
        )

    def acquire(self, seen: dict | None, wait_seconds: float, tell, applies: Iterable[Mapping] = ()) -> bool:
        """Take the lock, and note the kinds that the run applies before it does: one that is killed has left word of them.

        Args:
            seen: what ``read`` gave before the plan was made.
            wait_seconds: how long to wait for another run.
            tell: called with a line of text while waiting.
            applies: the kinds; those that are noted already stay.

        Returns:
            whether another run held it since ``seen``, so that what was planned must be planned anew.

        Raises:
            Held: it is still held at the end of the wait.
        """
        ends, told = time.monotonic() + wait_seconds, 0.0
        while True:
            self._end_with_the_run()
            lease = self.read()
            other = self.holder_of(lease)
            if not other and self._write(lease, noted=kinds.union(recorded(lease), applies)):
                self.renewed = time.monotonic()
                return _version(lease) != _version(seen)
            if other and time.monotonic() > ends:
                raise Held(f"another run holds the lock (Lease {self.name}): {other}, or when that run ends.")
            if other and time.monotonic() - told > 10:
                told = time.monotonic()
                tell(f"waiting for another run: {other}")
            time.sleep(1 if other else 0.1)

    def _write(self, lease: dict | None, held: bool = True, noted: list[dict] | None = None) -> bool:
        """Write the Lease; ``False`` when another writer was faster. Without ``noted`` the kinds stay those that it has."""
        # The API server's clock, so that two controllers with different clocks agree.
        now = (self.cluster.now or datetime.now(UTC)).strftime(SINCE_FORMAT)
        spec = (lease or {}).get("spec") or {}
        annotations = (lease or {"metadata": {}})["metadata"].get("annotations") or {}
        ours = annotations.get(PROCESS) == self.identity
        note = kinds.write(recorded(lease) if noted is None else noted)
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": self.name,
                "annotations": {PROCESS: self.identity if held else "", kinds.NOTE: note},
            },
            "spec": {
                "holderIdentity": self.holder if held else "",
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": spec["acquireTime"] if ours and spec.get("acquireTime") else now,
                "renewTime": now,
            },
        }
        try:
            if lease is None:
                self.cluster.request("POST", self.path, body=body)
            else:
                body["metadata"]["resourceVersion"] = lease["metadata"]["resourceVersion"]
                self.cluster.request("PUT", f"{self.path}/{self.name}", body=body)
        except ApiError as error:
            if error.status not in (404, 409) or (error.status == 404 and lease is None):
                raise
            return False
        return True

    def renew(self) -> None:
        """Say that the run still lives.

        Raises:
            Held: another run has taken the lock.
        """
        self._end_with_the_run()
        lease = self.read()
        other = self.holder_of(lease)
        if other:
            raise Held(f"this run was silent for over {DURATION_SECONDS} s and lost the lock to {other}")
        self._write(lease)

    def alive(self) -> None:
        """Renew it if that is due: for whoever waits, in every round.

        Raises:
            Held: another run has taken the lock.
        """
        if time.monotonic() - self.renewed > RENEWED_EVERY:
            self.renewed = time.monotonic()
            self.renew()

    @contextlib.contextmanager
    def held(self, wait_seconds: float, tell: Callable[[str], None]) -> Iterator[Callable[[], None]]:
        """Hold the lock meanwhile.

        Args:
            wait_seconds: how long to wait for another run.
            tell: called with a line of text while waiting.

        Yields:
            what is called again and again, so that the lock stays this run's.

        Raises:
            Held: another run holds it.
        """
        self.acquire(self.read(), wait_seconds, tell)
        try:
            yield self.alive
        finally:
            # Otherwise it frees itself.
            with contextlib.suppress(ApiError, Unreachable):
                self.release()

    def _end_with_the_run(self) -> None:
        """Stop this worker when its ansible-playbook was killed: nobody else does, and it would keep the lock for ever."""
        if self.process and process_id(self.pid) != self.process:
            os._exit(1)

    def clear(self, seen: dict | None) -> None:
        """Free the lock that a killed run has left, for those who look at it; ``seen`` is what ``read`` gave."""
        if seen and seen["spec"].get("holderIdentity") and not self.holder_of(seen):
            self._write(seen, held=False)

    def release(self, noted: list[dict] | None = None) -> None:
        """Free the lock if it is ours, and note the kinds of which there is something from now on; by default those noted already."""
        lease = self.read()
        if lease and ((lease["metadata"].get("annotations") or {}).get(PROCESS)) == self.identity:
            self._write(lease, held=False, noted=noted)
