"""A real Argo CD on the control plane, with a Git repository in a folder: Redis, its repo server and its application controller."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from measuring import Failed, cpu_of, end, measured
from setting import Setting

APPLICATION = "bench"
SYNC_SECONDS = 300
LOOK_SECONDS = 0.02
AGENT = "argocd-"
PATH = f"/apis/argoproj.io/v1alpha1/namespaces/argocd/applications/{APPLICATION}"


class ArgoCD:
    """Argo CD and one Application, which delivers a tree as its root kustomization says; nothing syncs by itself."""

    def __init__(self, setting: Setting, program: Path, kustomize: Path, tree: Path, namespace: str):
        self.setting, self.program, self.kustomize = setting, program, kustomize
        self.home = setting.folder / "argocd"
        self.tree, self.namespace = tree, namespace
        self._processes: list[subprocess.Popen] = []
        self._asked = 0

    def start(self) -> None:
        """Push the tree, configure Argo CD and start it; `stop` ends what was started, also after a failure here."""
        self.home.mkdir()
        repository = self.home / "repository.git"
        who = ("-c", "user.name=bench", "-c", "user.email=bench@example.com", "-c", "commit.gpgsign=false")
        self._git("init", "--quiet", "--initial-branch=main")
        self._git("add", "--all")
        self._git(*who, "commit", "--quiet", "--message", "As rendered")
        self._git("clone", "--quiet", "--bare", ".", str(repository))
        self._configure(f"file://{repository}")
        self._start()

    def stop(self) -> None:
        """End its processes."""
        for process in self._processes:
            end(process)
        self._processes.clear()

    def sync(self) -> dict[str, float]:
        """Have everything applied, as `argocd app sync` does.

        Returns:
            ``wall``, until all is applied and found to be as in Git, and ``cpu`` of its processes, in seconds.

        Raises:
            Failed: the sync failed, or took longer than SYNC_SECONDS.
        """
        self._asked += 1
        who = f"bench-{self._asked}"

        def done(found: dict) -> bool:
            state = found.get("status", {}).get("operationState", {})
            if state.get("operation", {}).get("initiatedBy", {}).get("username") != who:
                return False
            if state["phase"] in {"Failed", "Error"}:
                raise Failed(f"Argo CD's sync failed: {state.get('message')}\n{self._said()}")
            return state["phase"] == "Succeeded" and synced(found)

        return self._timed({"operation": {"initiatedBy": {"username": who}, "sync": {}}}, done)

    def refresh(self, until: Callable[[dict], bool] | None = None) -> dict[str, float]:
        """Have Git and the cluster compared, as its webhook does; until it has done so and (by default) finds no difference.

        Returns:
            as of `sync`.

        Raises:
            Failed: it took longer than SYNC_SECONDS.
        """
        key = "argocd.argoproj.io/refresh"

        def done(found: dict) -> bool:
            return key not in found["metadata"].get("annotations", {}) and (until or synced)(found)

        return self._timed({"metadata": {"annotations": {key: "normal"}}}, done)

    def _timed(self, patch: dict, done: Callable[[dict], bool]) -> dict[str, float]:
        pids = [process.pid for process in self._processes]
        cpu, begin = cpu_of(pids), time.monotonic()
        found = self.setting.api("PATCH", PATH, patch)
        while not done(found):
            if time.monotonic() - begin > SYNC_SECONDS or any(one.poll() is not None for one in self._processes):
                raise Failed(f"Argo CD ended, or did not finish within {SYNC_SECONDS} s:\n{self._said()}")
            time.sleep(LOOK_SECONDS)
            found = self.setting.api("GET", PATH)
        return {"wall": time.monotonic() - begin, "cpu": cpu_of(pids) - cpu}

    def _git(self, *args: str) -> None:
        measured(["git", "-C", self.tree, *args], self.setting.env | {"GIT_CONFIG_GLOBAL": os.devnull})

    def _configure(self, url: str) -> None:
        for file in (self.program.parent / "argocd-config").glob("argocd-*.yaml"):
            self.setting.kubectl("apply", "--server-side", "--namespace", "argocd", "-f", file)
        # Otherwise made by argocd-server, which nothing here needs.
        self._create(
            "AppProject", "default", {"sourceRepos": ["*"], "destinations": [{"namespace": "*", "server": "*"}]}
        )
        self._create(
            "Application",
            APPLICATION,
            {
                "project": "default",
                "source": {"repoURL": url, "path": "infra/k8s", "targetRevision": "main"},
                "destination": {"server": "https://kubernetes.default.svc", "namespace": self.namespace},
            },
        )

    def _create(self, kind: str, name: str, spec: Mapping) -> None:
        item = {"apiVersion": "argoproj.io/v1alpha1", "kind": kind, "metadata": {"name": name, "namespace": "argocd"}}
        self.setting.api("POST", f"{PATH.rpartition('/applications')[0]}/{kind.lower()}s", {**item, "spec": spec})

    def _start(self) -> None:
        redis, repo, *metrics = (free_port() for _ in range(4))
        cache = f"127.0.0.1:{redis}"
        bind = ("--bind", "127.0.0.1", "--port", redis)
        self._run("redis-server", *bind, "--save", "", "--appendonly", "no", "--dir", self.home)
        listen = ("--address", "127.0.0.1", "--port", repo)
        listen += ("--metrics-address", "127.0.0.1", "--metrics-port", metrics[0])
        self._run("argocd-repo-server", "--redis", cache, "--disable-tls", *listen)
        plain = ("--repo-server-plaintext", "--repo-server", f"127.0.0.1:{repo}")
        # It looks when it is asked to, not while others are measured.
        rarely = ("--app-resync", "86400", "--app-resync-jitter", "0", "--metrics-port", metrics[1])
        self._run("argocd-application-controller", "--namespace", "argocd", "--redis", cache, *plain, *rarely)

    def _run(self, name: str, *args: object) -> None:
        env = {**self.setting.env, "KUBECONFIG": self.setting.env["MODELYARD_KUBECONFIG"], "HOME": str(self.home)}
        env |= {"ARGOCD_FAKE_IN_CLUSTER": "true", "ARGOCD_GPG_ENABLED": "false"}
        env["PATH"] = f"{self.kustomize.parent}{os.pathsep}{env['PATH']}"
        for variable in ("TLS_DATA_PATH", "SSH_DATA_PATH", "PLUGINSOCKFILEPATH", "APP_CONF_PATH"):
            folder = self.home / variable.lower()
            folder.mkdir(exist_ok=True)
            env[f"ARGOCD_{variable}"] = str(folder)
        program: str | Path = name
        if name != "redis-server":
            # It acts by the name that it is called by.
            program = self.home / name
            program.symlink_to(self.program)
        with (self.home / f"{name}.log").open("w") as log:
            process = subprocess.Popen(
                [str(part) for part in (program, *args)],
                env=env,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._processes.append(process)

    def _said(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self.home.glob("*.log")))


def synced(found: Mapping) -> bool:
    """Whether an Application is as in Git."""
    return found.get("status", {}).get("sync", {}).get("status") == "Synced"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
