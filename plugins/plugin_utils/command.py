"""Runs a program of the operator's, and ends it with all that it started where it may not go on; knows no cluster."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

LAST_LINES = 20
# From SIGTERM to SIGKILL.
GRACE_SECONDS = 10


def run(
    command: str, env: Mapping[str, str], seconds: float, alive: Callable[[], None], tell: Callable[[str], None]
) -> None:
    """Run a command of the shell, and show what it writes.

    Args:
        command: for ``/bin/sh``.
        env: its environment.
        seconds: that it may take.
        alive: called again and again; what it raises ends the command.
        tell: called with each line.

    Raises:
        Failure: its status is not 0, or it takes too long; with its last lines.
    """
    process = subprocess.Popen(  # noqa: S603 (what the operator asks for)
        ["/bin/sh", "-c", command],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    last: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def read() -> None:
        for line in process.stdout or ():
            last.append(line.rstrip())
            tell(line.rstrip())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    ends = time.monotonic() + seconds
    try:
        while process.poll() is None:
            alive()
            if time.monotonic() > ends:
                raise Failure(f"did not end in {seconds:g} s{_told(last)}")
            time.sleep(0.1)
    except BaseException:
        _end(process)
        raise
    # What it left running may keep its output open.
    reader.join(1)
    status = process.returncode
    if status:
        how = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise Failure(how + _told(last))


def _told(last: collections.deque[str]) -> str:
    return "; its last lines:" + "".join(f"\n  | {line}" for line in last) if last else ", and wrote nothing"


def _end(process: subprocess.Popen) -> None:
    """End a command and all that it started, first with SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
