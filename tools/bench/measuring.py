"""Runs commands and measures them: time, CPU, memory, requests to the API server; medians, spread, slope. It knows no tool."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PROC = Path("/proc")
# No command takes this long, on a slow machine either.
LIMIT_SECONDS = 600
SAMPLE_SECONDS = 0.02
# The control plane's own programs ask the API server, too, and the bench itself.
BACKGROUND = ("kube-", "kwok-", "etcd", "bench")
REQUESTS = ("discovery", "lists", "reads", "dry runs", "writes", "rights")


class Failed(Exception):
    """A command failed or took too long; the text says which, and what it said."""


# --- Processes -------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """A process and all that it started, whatever session they are in; itself alone where there is no /proc."""
    children: dict[int, list[int]] = {}
    for entry in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            children.setdefault(int(_stat(entry)[1]), []).append(int(entry.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _stat(file: Path) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold spaces: state, parent, ..."""
    return file.read_text().rpartition(")")[2].split()


def kill(pid: int) -> None:
    """Kill a process and all that it started."""
    for one in descendants(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(one, signal.SIGKILL)


def end(process: subprocess.Popen) -> None:
    """Kill a process that still runs, and all that it started, and wait for its end."""
    if process.poll() is None:
        kill(process.pid)
        process.wait()


def cpu_of(pids: Iterable[int]) -> float:
    """CPU seconds of processes and of what they started and waited for; 0 where there is no /proc."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            ticks += sum(map(int, _stat(PROC / str(pid) / "stat")[11:15]))  # utime, stime, cutime, cstime
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> dict[int, tuple[float, float]]:
    """Memory of a process and of each that it started, by its id, in MiB.

    Returns:
        its share (PSS: what several have in common is divided among them, so that it can be added up), and the most that was
        resident so far; nothing where there is no /proc/PID/smaps_rollup.
    """
    found = {}
    for one in descendants(pid):
        with contextlib.suppress(OSError, KeyError):
            found[one] = tuple(
                _lines(PROC / str(one) / file)[key] / 1024
                for file, key in (("smaps_rollup", "Pss"), ("status", "VmHWM"))
            )
    return found


def _lines(file: Path) -> dict[str, int]:
    """The lines "Name: NUMBER kB" of a file in /proc."""
    words = [line.split() for line in file.read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) for line in words if line[-1:] == ["kB"]}


# --- Commands --------------------------------------------------------------------------------------


@contextlib.contextmanager
def started(command: Sequence, env: Mapping[str, str]):
    """Start a command in the project's folder; what is left of it is killed. Gives the process, and a function that says what failed."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=ROOT,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

        def failure(what: str) -> Failed:
            output.seek(0)
            return Failed(f"{' '.join(map(str, command))} {what}:\n{output.read().decode(errors='replace')[-4000:]}")

        try:
            yield process, failure
        finally:
            end(process)


def measured(command: Sequence, env: Mapping[str, str]) -> dict[str, float]:
    """Run a command to its end.

    Args:
        command: the program and its arguments.
        env: its environment.

    Returns:
        ``wall`` and ``cpu`` in seconds, of it and all it started.

    Raises:
        Failed: it ended with another code than 0, or ran for LIMIT_SECONDS.
    """
    begin = time.monotonic()
    with started(command, env) as (process, failure):
        timer = threading.Timer(LIMIT_SECONDS, kill, [process.pid])
        timer.daemon = True
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        wall = time.monotonic() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            late = f" after {wall:.0f} s" if wall >= LIMIT_SECONDS else ""
            raise failure(f"ended with {process.returncode}{late}")
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime}


def memory(command: Sequence, env: Mapping[str, str]) -> dict[str, float]:
    """Run a command to its end, and look at its processes' memory every SAMPLE_SECONDS: not in a run whose time counts.

    Returns:
        in MiB: ``sum_mib`` of all processes at the moment at which it was most, and ``processes`` at that moment; ``main_mib``
        and ``fork_mib``, the most that was resident of the first process and of the largest of those that it started (0:
        none). Nothing where there is no /proc/PID/smaps_rollup.

    Raises:
        Failed: as of `measured`.
    """
    shares: list[float] = []
    main = fork = 0.0
    deadline = time.monotonic() + LIMIT_SECONDS
    with started(command, env) as (process, failure):
        while process.poll() is None:
            seen = memory_of(process.pid)
            shares = max(shares, [share for share, _ in seen.values()], key=sum)
            main = max(main, seen.get(process.pid, (0, 0))[1])
            fork = max([fork, *(resident for pid, (_, resident) in seen.items() if pid != process.pid)])
            if time.monotonic() > deadline:
                raise failure(f"did not end within {LIMIT_SECONDS} s")
            time.sleep(SAMPLE_SECONDS)
        if process.returncode:
            raise failure(f"ended with {process.returncode}")
    if not shares:
        return {}
    return {"sum_mib": sum(shares), "processes": len(shares), "main_mib": main, "fork_mib": fork}


# --- Requests --------------------------------------------------------------------------------------


class Audit:
    """The API server's audit log: what was asked since it was last looked at."""

    def __init__(self, file: Path):
        self.file = file
        self._read = 0

    def asked(self) -> list[dict]:
        """The requests since the last call, without those of the control plane's own programs."""
        with self.file.open("rb") as log:
            log.seek(self._read)
            lines = log.read()
        # A line may be half written.
        whole = lines[: lines.rfind(b"\n") + 1]
        self._read += len(whole)
        events = map(json.loads, whole.splitlines())
        return [event for event in events if not event.get("userAgent", "").startswith(BACKGROUND)]


def kind_of(event: Mapping[str, Any]) -> str:
    """What a request is for, one of REQUESTS."""
    about, verb = event.get("objectRef") or {}, event["verb"]
    if not about.get("resource"):
        return "discovery"
    if about["resource"].startswith("selfsubject"):
        return "rights"
    if verb in {"list", "watch"}:
        return "lists"
    if verb == "get":
        return "reads"
    return "dry runs" if "dryRun=" in event["requestURI"] else "writes"


def requests(events: Sequence[Mapping[str, Any]], objects: Iterable[str]) -> dict[str, Any]:
    """How many requests there were, and the most that one object or one kind saw.

    Args:
        events: of the audit log.
        objects: names of the objects that are deployed; a run's Lease and its records have requests of their own.

    Returns:
        a number for each of REQUESTS, and ``all``; ``reads an object``, ``dry runs an object``, ``lists a kind``; ``by``, the
        numbers by what is done to which resource.
    """
    names = set(objects)
    sorts = Counter(kind_of(event) for event in events)
    most: dict[str, int] = {}
    for sort, each, what in (
        ("reads", "name", "object"),
        ("dry runs", "name", "object"),
        ("lists", "resource", "kind"),
    ):
        asked = [event["objectRef"] for event in events if kind_of(event) == sort]
        counted = Counter(
            (one["resource"], one.get("namespace"), one.get(each))
            for one in asked
            if each == "resource" or one.get("name") in names
        )
        most[f"{sort} {'an' if what == 'object' else 'a'} {what}"] = max(counted.values(), default=0)
    by = Counter(
        f"{kind_of(event)}: {(event.get('objectRef') or {}).get('resource', '')}".rstrip(": ") for event in events
    )
    return {**{sort: sorts[sort] for sort in REQUESTS}, "all": len(events), **most, "by": dict(sorted(by.items()))}


# --- Statistics ------------------------------------------------------------------------------------


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summaries(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The summary of each figure of some runs of one command; the requests are the last run's, since all make the same."""
    found: dict[str, Any] = {key: summary([run[key] for run in runs]) for key in runs[0] if key != "requests"}
    return found | {key: runs[-1][key] for key in ("requests",) if key in runs[-1]}


def ratio(one: Sequence[Mapping], other: Sequence[Mapping], key: str) -> dict[str, float]:
    """The summary of the ratios of two commands' runs, pair by pair, since pairs ran one after the other."""
    return summary([a[key] / b[key] for a, b in zip(one, other, strict=True)])


def slope(points: Mapping[int, float]) -> float | None:
    """What one more costs: the slope of the straight line nearest to the points (least squares); None for less than two."""
    if len(points) < 2:
        return None
    return statistics.linear_regression(list(points), list(points.values())).slope


def in_turn(
    runs: int, commands: Mapping[str, Callable[[], dict]], before: Callable[[], None] = lambda: None, warm: bool = True
) -> dict[str, list[dict]]:
    """Run commands in turn (A B A B ...), so that what else the machine does falls on all alike.

    Args:
        runs: how often each.
        commands: name to what runs and measures it.
        before: called before each round.
        warm: one round more goes ahead and does not count.

    Returns:
        name to the figures of its runs.
    """
    found: dict[str, list[dict]] = {name: [] for name in commands}
    for round_ in range(runs + warm):
        before()
        for name, command in commands.items():
            figures = command()
            if round_ >= warm:
                found[name].append(figures)
    return found
