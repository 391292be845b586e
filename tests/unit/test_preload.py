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
variables = VariableManager(loader, InventoryManager(loader, ["localhost,"]))
play = Play.load({"hosts": "all", "tasks": tasks}, variables, loader)
callback = preload.CallbackModule()
callback.v2_playbook_on_start(None)
callback.v2_playbook_on_play_start(play)
print(loaded())
callback.v2_playbook_on_task_start(play.tasks[0].block[0], False)
print(loaded())
sys.stdout.flush()
if not os.fork():
    print("worker", loaded(), flush=True)
    os._exit(0)
os.wait()
print(loaded())
"""


def test_what_later_tasks_need_is_loaded_while_the_first_runs():
    done = subprocess.run([sys.executable, "-c", PLAY], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        "[]",
        "['servers.render']",
        "worker ['servers.render']",
        "['servers.render', 'cluster.plan', 'cluster.rollout']",
    ], done.stderr
