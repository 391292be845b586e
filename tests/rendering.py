"""What the project computes and renders for a host: in this process, or by Ansible itself. Asks no cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible.template import Templar
from ansible_collections.modelyard.core.plugins.action.render import _trusted
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, written
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import kinds, load_kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.render import Rendering, everything

ROOT = Path(__file__).parents[1]
RENDER = "tests/playbooks/render.yml"
DESCRIBED = specs.load()
BROUGHT = {name: _trusted(value) for name, value in written(DESCRIBED).items()}
HERE = {"inventory_hostname": "here", "platform_api_server": "https://x", "platform_aws_account_id": "123456789012"}
HERE |= {"playbook_dir": "/project/playbooks"}


def host(**variables: Any) -> Inputs:
    """Give a host's variables as the action does: what roles bring is templated, what a test gives stays as it stands."""
    variables = HERE | variables
    templar = Templar(None, variables=BROUGHT | variables)
    return Inputs(DESCRIBED, variables, templar.template, defaults=BROUGHT)


def prefixed(role: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{role}_{name}": value for name, value in values.items()}


def computed(role: str, **variables: Any) -> tuple[list[dict], list[str]]:
    """Compute the servers of a role that are on; the second is what is wrong with them, as an operator is told."""
    inputs, problems = host(**variables), Problems()
    wrong = [line for name in (*specs.BASES, role) for line in inputs.problems(name)]
    if wrong:
        return [], wrong
    found = {kind.role: kinds.servers(kind, inputs, problems) for kind in load_kinds()}
    on = [server for servers in found.values() for server in servers if server.enabled]
    kinds.check_distinct(on, problems)
    platform, result = inputs.values("platform"), []
    for server in on:
        if server.kind.role == role:
            settings = server.settings
            facts = {**server.kind.compute(settings, platform), "profile": server.profile}
            result.append(facts | {"misfits": settings.misfits, "notices": settings.notices})
    return result, problems.lines


def rendered(roles: tuple[str, ...] = (), off: bool = False, others: dict | None = None, **variables: Any) -> dict:
    """Render roles for one host; `others` has the variables of further hosts."""
    hosts = {name: host(inventory_hostname=name, **given) for name, given in (others or {}).items()}
    return Rendering(host(**variables), "here", hosts.get).run(list(roles) or everything(), off)


def playbook(name: str, inventory: Path | str, *args: str | Path, **env: str) -> subprocess.CompletedProcess:
    """Run a playbook whose hosts have no cluster: whatever would connect to one fails. `name` is site, or a path that ends in .yml."""
    path = name if name.endswith(".yml") else f"playbooks/{name}.yml"
    command = [Path(sys.executable).parent / "ansible-playbook", "--forks", "4", "-i", inventory, path, *args]
    connection = ("KUBECONFIG", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    own = {key: value for key, value in os.environ.items() if not key.startswith("K8S_AUTH_") and key not in connection}
    nowhere = {"K8S_AUTH_HOST": "https://127.0.0.1:9", "KUBECONFIG": "/nowhere", "MODELYARD_KUBECONFIG": "/nowhere"}
    return subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env={**own, "ANSIBLE_NOCOLOR": "1", **nowhere, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def run_render(inventory: Path, *args: str) -> dict[str, dict]:
    """Render every host of an inventory in one play, by Ansible itself: {host: the rendering, and the objects of what is on}."""
    done = playbook(RENDER, inventory, *args, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    assert done.returncode == 0, done.stdout + done.stderr
    (task,) = json.loads(done.stdout[done.stdout.index("{\n") :])["plays"][0]["tasks"]
    for rendered in task["hosts"].values():
        on = [part for part in rendered["parts"] if part["enabled"]]
        rendered["objects"] = [item for part in on for item in part["objects"]]
    return task["hosts"]


class Objects:
    """Objects by kind, namespace and name."""

    def __init__(self, objects: list[dict]):
        self.by_name = {
            (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item for item in objects
        }
        assert len(self.by_name) == len(objects)

    def get(self, kind: str, name: str, namespace: str = "ml-models") -> dict:
        return self.by_name[kind, namespace, name]

    def all(self, kind: str, namespace: str = "ml-models", **labels: str) -> list[dict]:
        return [
            item
            for (kind_, namespace_, _), item in sorted(self.by_name.items())
            if (kind_, namespace_) == (kind, namespace) and labels.items() <= item["metadata"].get("labels", {}).items()
        ]

    def names(self) -> list[str]:
        return sorted(f"{kind} {namespace}/{name}" for kind, namespace, name in self.by_name)
