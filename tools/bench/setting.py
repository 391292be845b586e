"""Where it is measured: a control plane of its own in a folder of its own, gone afterwards, and what is deployed there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import kubernetes
import yaml
from measuring import ROOT, Audit, Failed, end, measured

# The machine's own variables must not reach a run.
STRANGE = re.compile(
    r"(?:KUBECONFIG|K8S_AUTH_.*|ANSIBLE_.*|HELM_.*|MODELYARD_LOCAL|MODELYARD_KUBECONFIG|CLUSTER_.*|PYTHONDONTWRITEBYTECODE)"
)
NAME = "modelyard-bench"
PORTS = range(17950, 17990)
PLAYBOOK = ROOT / ".venv/bin/ansible-playbook"


class Setting:
    """A running control plane: `env` makes programs talk to it."""

    def __init__(self, folder: Path):
        self.folder = folder
        if not PLAYBOOK.exists():
            raise Failed(f"{PLAYBOOK} is missing: make env installs it")
        home = folder / "cluster"
        self.env = {key: value for key, value in os.environ.items() if not STRANGE.fullmatch(key)} | {
            "CLUSTER_NAME": NAME,
            "CLUSTER_PORT": str(free_ports()),
            "CLUSTER_AUDIT": "yes",
            "MODELYARD_LOCAL": str(home),
            "MODELYARD_KUBECONFIG": str(home / "kubeconfig"),
            "KUBECACHEDIR": str(home / "cache"),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            **{f"HELM_{name}_HOME": str(folder / "helm" / name.lower()) for name in ("CACHE", "CONFIG", "DATA")},
        }
        self.audit = Audit(home / "kwok/clusters" / NAME / "logs/audit.log")

    def control(self, verb: str) -> str:
        """What `controlplane/cluster VERB` prints; its progress is shown."""
        process = subprocess.Popen(
            [ROOT / "controlplane/cluster", verb],
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate()
        finally:
            end(process)
        if process.returncode:
            raise Failed(f"controlplane/cluster {verb} ended with {process.returncode}")
        return printed.strip()

    @contextlib.contextmanager
    def running(self) -> Iterator[Setting]:
        """Start the control plane; it is gone after, also when the start failed half-way."""
        try:
            self.control("up")
            self.kubectl_command = [f"{self.control('bin')}/kubectl", "--kubeconfig", self.env["MODELYARD_KUBECONFIG"]]
            yield self
        finally:
            subprocess.run([ROOT / "controlplane/cluster", "down"], env=self.env, capture_output=True, check=False)

    def kubectl(self, *args: object) -> None:
        """Run kubectl to its end."""
        measured([*self.kubectl_command, *args], self.env)

    def api(self, method: str, path: str, body: Mapping | None = None) -> dict:
        """One request to the API server as its admin, under the name of the bench.

        Raises:
            Failed: an answer with a status of 400 or more.
        """
        if "_client" not in self.__dict__:
            self._client = kubernetes.config.new_client_from_config(self.env["MODELYARD_KUBECONFIG"])
        form = "merge-patch+json" if method == "PATCH" else "json"
        answer = self._client.rest_client.pool_manager.request(
            method,
            self._client.configuration.host + path,
            body=json.dumps(body) if body else None,
            headers={"Content-Type": f"application/{form}", "User-Agent": "bench"},
        )
        if answer.status >= 400:
            raise Failed(f"{method} {path}: {answer.status} {answer.data.decode()}")
        return answer.json()

    def playbook(self, name: str | Path, **variables: object) -> list:
        """The command that runs a playbook on the local inventory."""
        path = name if isinstance(name, Path) else ROOT / f"playbooks/{name}.yml"
        given = ["-e", json.dumps(variables)] if variables else []
        return [PLAYBOOK, "-i", ROOT / "inventories/local", path, *given]

    def emptied(self, namespaces: Iterable[str]) -> None:
        """Make namespaces that hold nothing."""
        names = list(namespaces)
        self.kubectl("delete", "namespace", "--ignore-not-found", "--wait", "--timeout=300s", *names)
        for name in names:
            self.api("POST", "/api/v1/namespaces", {"metadata": {"name": name}})


def free_ports() -> int:
    """The first port of PORTS that is free with those that the control plane's other components derive from it.

    Raises:
        Failed: none is.
    """
    for port in PORTS:
        if not any(_taken(port + offset) for offset in (0, *range(10000, 15000, 1000))):
            return port
    raise Failed(f"the ports {PORTS[0]} to {PORTS[-1]}, or those 10000 to 14000 above them, are all in use")


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def documents(text: str) -> list[str]:
    """The YAML documents of a stream, as text."""
    return [part.strip() + "\n" for part in re.split(r"(?m)^---$", text) if part.strip()]


def write_chart(folder: Path, text: str) -> None:
    """Write a Helm chart whose templates are objects as they stand: rendering them is no work of Helm's.

    Args:
        folder: of the chart; made.
        text: the objects, a YAML stream. Braces in them are escaped, so that Helm leaves them alone.
    """
    templates = folder / "templates"
    templates.mkdir(parents=True)
    (folder / "Chart.yaml").write_text("apiVersion: v2\nname: bench\nversion: 1.0.0\n")
    for number, document in enumerate(documents(text)):
        kind = yaml.safe_load(document)["kind"].lower()
        (templates / f"{number:02}-{kind}.yaml").write_text(document.replace("{{", '{{ "{{" }}'))


def names(text: str) -> set[str]:
    """The names of the objects of a YAML stream."""
    return {yaml.safe_load(document)["metadata"]["name"] for document in documents(text)}


def missing() -> list[str]:
    """Programs that Argo CD needs and that are not on this machine."""
    return [program for program in ("git", "redis-server") if not shutil.which(program)]


def say(text: str) -> None:
    """Tell what is going on: standard output is the JSON's."""
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()
