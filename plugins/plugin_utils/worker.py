"""Ends a worker of Ansible's with its ansible-playbook, which a killed one can't do; knows no task.

A worker holds both ends of the pipe for its result. Without a reader, one with a long result waits for ever.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Iterator

PR_SET_PDEATHSIG = 1  # linux/prctl.h; the signal is not inherited by what a worker starts


def _signal_at_parents_death(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def bind() -> None:
    """Let every process that this one forks from now on end with it, at once."""
    parent = os.getpid()

    def bound() -> None:
        _signal_at_parents_death(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    os.register_at_fork(after_in_child=bound)


@contextlib.contextmanager
def outliving() -> Iterator[None]:
    """Let this worker finish what it must not leave half done, and end it then if its parent is gone."""
    parent = os.getppid()
    _signal_at_parents_death(0)
    try:
        yield
    finally:
        _signal_at_parents_death(signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


@contextlib.contextmanager
def signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM, so that what is under way ends first, and nothing stops what is to be done after it."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {
        number: signal.signal(number, lambda got, _frame: received.append(got))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
