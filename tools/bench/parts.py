"""What is measured: each part gives its figures as one dictionary. What the figures mean is in docs/benchmark.md."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from argo import AGENT, ArgoCD
from measuring import Failed, in_turn, measured, memory, ratio, requests, slope, summaries
from setting import Setting, documents, missing, names, say, write_chart

SITE = "site.yml"
SERVER_SIDE = "kubectl apply --server-side"
KUSTOMIZE = "kubectl apply -k"
FOLDERS = "kubectl apply -k, four folders"
HELM = "helm upgrade --install"
REFRESH, SYNC = "Argo CD, refresh", "Argo CD, sync"
EMPTY = "an empty play"
PARTS = ("nochange", "first", "rendering", "clusters")
NAMESPACES = {SITE: "bench-site", SERVER_SIDE: "bench-file", KUSTOMIZE: "bench-tree", FOLDERS: "bench-folders"}
NAMESPACES |= {HELM: "bench-helm", SYNC: "bench-argocd"}
AGENTS = {SITE: "OpenAPI-Generator/", HELM: "Helm/", REFRESH: AGENT, SYNC: AGENT}  # the others' is kubectl's
KUBECTL = "kubectl/"
# As the platform's four Applications have them.
APPLICATIONS = ("triton/overlays/cpu", "triton/overlays/gpu", "vllm/overlays/judge", "shared")


class Bench:
    """The tools that are compared, on one control plane, each with the same objects in a namespace of its own."""

    def __init__(self, setting: Setting, runs: int, clusters: tuple[int, ...]):
        self.setting, self.runs, self.clusters = setting, runs, clusters
        self.left_out: dict[str, str] = {}
        self.argocd: ArgoCD | None = None
        self._deployed = False

    # --- What is compared ---

    def prepare(self) -> None:
        """Write the objects in each tool's form: files, a tree, a chart, a repository."""
        folder = self.setting.folder
        self.empty = folder / "empty.yml"
        self.empty.write_text("- {hosts: clusters, gather_facts: false}\n")
        self.kustomize, self.helm = (Path(self.setting.control(name)) for name in ("kustomize", "helm"))
        for tool, namespace in NAMESPACES.items():
            if tool != SITE:
                given = {"tree_repository": str(folder / namespace), "platform_namespace": namespace}
                measured(self.setting.playbook("render", **given), self.setting.env)
        text = self._built(NAMESPACES[KUSTOMIZE])
        self.objects, self.count = names(text), len(documents(text))
        self.file = folder / "objects.yaml"
        self.file.write_text(self._built(NAMESPACES[SERVER_SIDE]))
        write_chart(folder / "chart", self._built(NAMESPACES[HELM]))

    def _tree(self, tool: str) -> Path:
        return self.setting.folder / NAMESPACES[tool] / "infra/k8s"

    def _built(self, namespace: str) -> str:
        tree, file = self.setting.folder / namespace / "infra/k8s", self.setting.folder / f"{namespace}.yaml"
        measured([self.kustomize, "build", tree, "--output", file], self.setting.env)
        return file.read_text()

    def start_argocd(self) -> None:
        """Start Argo CD, unless this machine lacks what it needs."""
        if self.argocd or "Argo CD" in self.left_out:
            return
        if gone := missing():
            self.left_out["Argo CD"] = f"not installed: {', '.join(gone)}"
            say(f"Argo CD is left out; {self.left_out['Argo CD']}")
            return
        program = Path(self.setting.control("argocd"))
        tree = self.setting.folder / NAMESPACES[SYNC]
        self.argocd = ArgoCD(self.setting, program, self.kustomize, tree, NAMESPACES[SYNC])
        self.argocd.start()

    def stop(self) -> None:
        """End what was started here."""
        if self.argocd:
            self.argocd.stop()

    def _commands(self, **variables: object) -> dict[str, list]:
        kubectl = [str(part) for part in self.setting.kubectl_command]
        folders = [shlex.join([*kubectl, "apply", "-k", str(self._tree(FOLDERS) / name)]) for name in APPLICATIONS]
        return {
            SITE: self.setting.playbook("site", platform_namespace=NAMESPACES[SITE], **variables),
            KUSTOMIZE: [*kubectl, "apply", "-k", self._tree(KUSTOMIZE)],
            FOLDERS: ["sh", "-c", " && ".join(folders)],
            SERVER_SIDE: [*kubectl, "apply", "--server-side", "-f", self.file],
            HELM: [
                *(self.helm, "--kubeconfig", self.setting.env["MODELYARD_KUBECONFIG"], "--namespace", NAMESPACES[HELM]),
                *("upgrade", "--install", "bench", self.setting.folder / "chart"),
            ],
            EMPTY: self.setting.playbook(self.empty),
        }

    def _audited(self, tool: str, run: Callable[[], dict]) -> Callable[[], dict]:
        agent = AGENTS.get(tool, KUBECTL)

        def audited() -> dict:
            self.setting.audit.asked()
            figures = run()
            asked = [event for event in self.setting.audit.asked() if event.get("userAgent", "").startswith(agent)]
            if tool == EMPTY:
                return figures
            if not asked:
                raise Failed(f"{tool}: the API server's audit log has no request of {agent}")
            return figures | {"requests": requests(asked, self.objects)}

        return audited

    def _measures(self, **variables: object) -> dict[str, Callable[[], dict]]:
        commands = self._commands(**variables)
        runs = {name: self._audited(name, _run(command, self.setting.env)) for name, command in commands.items()}
        return runs | ({SYNC: self._audited(SYNC, self.argocd.sync)} if self.argocd else {})

    def _deploy(self) -> None:
        """Deploy with each tool, once: site.yml first, and waits, so that the simulated nodes have room for its pods."""
        if self._deployed:
            return
        self.setting.emptied(NAMESPACES.values())
        for run in self._measures().values():
            run()
        self._deployed = True

    # --- Parts ---

    def nochange(self) -> dict:
        """A run with nothing to change."""
        self.start_argocd()
        self._deploy()
        tools = self._measures()
        if self.argocd:
            tools[REFRESH] = self._audited(REFRESH, self.argocd.refresh)
        runs = in_turn(self.runs, tools)
        return {"tools": _summarized(runs), "ratios": _ratios(runs)}

    def first(self) -> dict:
        """A first deploy, into namespaces that are there and empty, without waiting for pods."""
        self.start_argocd()
        self._deployed = False
        tools = self._measures(apply_wait=False)

        def empty() -> None:
            self.setting.emptied(NAMESPACES.values())
            if self.argocd:
                self.argocd.refresh(lambda found: found["status"]["sync"]["status"] == "OutOfSync")

        runs = in_turn(self.runs, tools, before=empty)
        return {"tools": _summarized(runs), "ratios": _ratios(runs)}

    def rendering(self) -> dict:
        """Rendering alone; no cluster is asked."""
        output = self.setting.folder / "rendered"
        commands = {
            "playbooks/render.yml": self.setting.playbook("render", tree_repository=str(output)),
            "kustomize build": [self.kustomize, "build", self._tree(KUSTOMIZE)],
            "helm template": [self.helm, "template", "bench", self.setting.folder / "chart"],
            EMPTY: self.setting.playbook(self.empty),
        }
        tools = {name: _run(command, self.setting.env) for name, command in commands.items()}
        return {
            "tools": _summarized(in_turn(self.runs, tools, before=lambda: shutil.rmtree(output, ignore_errors=True)))
        }

    def many(self) -> dict:
        """A run with nothing to change over several clusters, each a namespace of this control plane; and kubectl with one."""
        self._deploy()
        commands = {str(count): self._over(count) for count in self.clusters}
        measured(self._over(max(self.clusters)), self.setting.env)
        beside = {name: self._commands()[name] for name in (KUSTOMIZE, FOLDERS, SERVER_SIDE)}
        runs = in_turn(
            self.runs, {name: _run(command, self.setting.env) for name, command in (commands | beside).items()}
        )
        found = {name: summaries(runs[name]) for name in commands}
        for name, command in commands.items():
            found[name] |= summaries([memory(command, self.setting.env) for _ in range(min(self.runs, 3))])
        points = {
            key: {int(name): figures[key]["median"] for name, figures in found.items() if key in figures}
            for key in ("wall", "cpu", "sum_mib", "main_mib", "fork_mib")
        }
        return {
            "clusters": found,
            "further": {key: slope(values) for key, values in points.items()},
            "kubectl": {name: summaries(runs[name]) for name in beside},
            "forks": 5,
        }

    def _over(self, count: int) -> list:
        hosts = {f"c{number}": {"platform_namespace": f"bench-{number}"} for number in range(count)}
        inventory = self.setting.folder / f"{count}.json"
        inventory.write_text(json.dumps({"clusters": {"hosts": hosts}}))
        command = self.setting.playbook("site", apply_wait=False)
        return [*command, "-i", inventory, "--limit", ",".join(hosts), "--forks", "5"]


def _run(command: list, env: Mapping[str, str]) -> Callable[[], dict]:
    return lambda: measured(command, env)


def _summarized(runs: Mapping[str, list[dict]]) -> dict[str, dict]:
    return {name: summaries(found) for name, found in runs.items()}


def _ratios(runs: Mapping[str, list[dict]]) -> dict[str, dict]:
    """Of site.yml to each of kubectl's, pair by pair."""
    kubectl = (KUSTOMIZE, FOLDERS, SERVER_SIDE)
    return {name: {key: ratio(runs[SITE], runs[name], key) for key in ("wall", "cpu")} for name in kubectl}


def in_order(parts: Mapping[str, Callable[[], dict]]) -> tuple[dict[str, dict], dict[str, str]]:
    """Measure parts one after the other.

    Args:
        parts: name to what measures it.

    Returns:
        the figures of those that ended well, and why the one that failed did; it is the last one, and no figure is lost by it.
    """
    found: dict[str, dict] = {}
    for part, does in parts.items():
        say(part)
        before = os.getloadavg()[0]
        try:
            figures = does()
        except Failed as error:
            say(f"{part} failed: {error}")
            return found, {part: str(error)}
        found[part] = figures | {"load": [round(one, 2) for one in (before, os.getloadavg()[0])]}
    return found, {}
