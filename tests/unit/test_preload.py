"""What the tasks of a play need is loaded once, before or while they run, and not by each of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PLAY = """
import os, sys
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.loader import init_plugin_loader
from ansible.vars.manager import VariableManager
init_plugin_loader()
from ansible_collections.modelyard.core.plugins.callback import preload
UTILS = "ansible_collections.modelyard.core.plugins.plugin_utils"

def loaded():
    return [name for name in ("servers.render", "cluster.plan", "cluster.rollout") if f"{UTILS}.{name}" in sys.modules]

tasks = [{"modelyard.core.render": {}}, {"block": [{"import_role": {"name": "apply"}}]}]
loader = DataLoader()
variables = VariableManager(loader, InventoryManager(loader, [sys.argv[1]]))
play = Play.load({"hosts": "all", "tasks": tasks}, variables, loader)
callback = preload.CallbackModule()
callback.v2_playbook_on_start(None)
callback.v2_playbook_on_play_start(play)
print(loaded())
callback.v2_playbook_on_task_start(play.tasks[0].block[0], False)
print(loaded())
sys.stdout.flush()
if not os.fork():
    if not os.fork():
        os._exit(0)
    os.wait()
    print("worker", loaded(), flush=True)
    os._exit(0)
os.wait()
print(loaded())
"""


# Stopped while what comes later is loaded, of which the first can't be.
STOPPED = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)

def load(name, class_only):
    if name.endswith("render"):
        raise ImportError("broken")
    os.kill(os.getpid(), signal.SIGINT)

callback._next[:] = ["modelyard.core.render", "modelyard.core.plan"]
preload.action_loader = type("Loader", (), {"get": staticmethod(load)})
try:
    if not os.fork():
        os._exit(0)
    print("forked", flush=True)
    time.sleep(10)
except KeyboardInterrupt:
    print("stopped")
"""


def play(hosts: str, more: str = "") -> subprocess.CompletedProcess:
    """Begin a play for these hosts."""
    run = [sys.executable, "-W", "ignore", "-c", PLAY + more, hosts]
    return subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)


def test_what_later_tasks_need_is_loaded_while_the_first_runs():
    done = play("localhost,")
    assert done.stdout.splitlines() == [
        "[]",
        "['servers.render']",
        "worker ['servers.render']",
        "['servers.render', 'cluster.plan', 'cluster.rollout']",
    ], done.stderr


def test_with_several_hosts_no_worker_waits_for_that():
    done = play("one,two,")
    assert done.stdout.splitlines()[-1] == "['servers.render']", done.stderr


def test_an_interrupt_while_that_is_loaded_stops_the_run_and_a_fault_does_not():
    done = play("localhost,", STOPPED)
    assert (done.stdout.splitlines()[-2:], done.stderr) == (["forked", "stopped"], "")
