"""A program of the operator's ends with all that it started, whatever stops it."""

import os
import time
from pathlib import Path

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils import command
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure


def told(pid: int, file: str) -> str:
    """What the kernel says of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text(encoding="utf-8")
    except OSError:
        return ""


def test_all_that_a_command_started_ends_with_it(tmp_path):
    """Also what does not end at SIGTERM."""
    pids = tmp_path / "pids"

    def stop() -> None:
        if pids.exists() and len(pids.read_text().split()) == 2:
            raise Failure("stopped")

    shell = f"trap '' TERM; echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; while :; do sleep 0.1; done'"
    command.GRACE_SECONDS, before = 0.2, command.GRACE_SECONDS
    try:
        with pytest.raises(Failure, match="stopped"):
            command.run(shell, os.environ, 60, stop, print)
    finally:
        command.GRACE_SECONDS = before
    for pid in pids.read_text().split():
        ends = time.monotonic() + 10
        # One that nobody has collected yet has no command line.
        while told(int(pid), "cmdline"):
            assert time.monotonic() < ends, f"process {pid} still runs"
            time.sleep(0.05)


def test_a_command_that_leaves_something_running_is_not_waited_for():
    said: list[str] = []
    command.run("echo done; sleep 5 &", os.environ, 60, lambda: None, said.append)
    assert said == ["done"]


def test_a_command_that_is_killed_says_so():
    with pytest.raises(Failure, match="was ended by SIGKILL, and wrote nothing"):
        command.run("kill -9 $$", os.environ, 60, lambda: None, print)
