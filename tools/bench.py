"""What a run with nothing to change costs, beside `kubectl apply -k` of the same objects, on a control plane of its own: make bench.

Runs are made in turn (A B A B ...), after one that does not count. Prints JSON, times in seconds: medians, and the medians of the
pairs' ratios; the machine's load stands beside them.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOK = [ROOT / ".venv/bin/ansible-playbook"]
FOLDERS = ("triton/overlays/cpu", "triton/overlays/gpu", "vllm/overlays/judge", "shared")
KUBECTL = "bench-kubectl"  # kubectl's copy of the objects has a namespace of its own
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
CLUSTERS = (1, 2, 4, 8)
PORT = 17950


def measured(command: list, env: dict) -> dict:
    """Run a command to its end; its wall and CPU time with all it started, and the memory of its largest process."""
    before = time.monotonic()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            output.seek(0)
            sys.exit(f"{command} failed:\n{output.read().decode()}")
    wall = time.monotonic() - before
    return {"wall": wall, "cpu": usage.ru_utime + usage.ru_stime, "peak_mib": usage.ru_maxrss / 1024}


def medians(runs: list[dict]) -> dict:
    """The median of each figure."""
    return {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}


def in_turn(commands: dict[str, list], env: dict) -> dict[str, list[dict]]:
    """Run commands in turn, RUNS times after one that does not count."""
    for command in commands.values():
        measured(command, env)
    found: dict[str, list[dict]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            found[name].append(measured(command, env))
    return found


def ratio(one: list[dict], other: list[dict], key: str) -> float:
    """The median of the pairs' ratios."""
    return round(statistics.median(a[key] / b[key] for a, b in zip(one, other, strict=True)), 3)


def beside_kubectl(folder: Path, env: dict, kubectl: list) -> dict:
    """A run with nothing to change, an empty play, and kubectl with the same objects."""
    site = [*PLAYBOOK, "-i", "inventories/local", "playbooks/site.yml"]
    empty = folder / "empty.yml"
    empty.write_text("- {hosts: clusters, gather_facts: false}\n")
    tree = ["-e", f"tree_repository={folder}", "-e", f"platform_namespace={KUBECTL}"]
    measured([*PLAYBOOK, "-i", "inventories/local", "playbooks/render.yml", *tree], env)
    measured([*kubectl, "create", "namespace", KUBECTL], env)
    applies = " && ".join(f"{' '.join(map(str, kubectl))} apply -k {folder}/infra/k8s/{name}" for name in FOLDERS)
    commands = {
        "site.yml": site,
        "kubectl apply -k": ["sh", "-c", applies],
        "empty play": [*PLAYBOOK, "-i", "inventories/local", empty],
    }
    for command in list(commands.values())[:2]:
        measured(command, env)
    runs = in_turn(commands, env)
    pairs = {key: ratio(runs["site.yml"], runs["kubectl apply -k"], key) for key in ("wall", "cpu")}
    return {**{name: medians(found) for name, found in runs.items()}, "site.yml / kubectl apply -k": pairs}


def many_clusters(folder: Path, env: dict) -> dict:
    """Runs over 1, 2, 4 and 8 clusters, each a namespace of the one control plane: what a further one costs."""
    found = {}
    for count in CLUSTERS:
        hosts = {f"c{number}": {"platform_namespace": f"bench-{number}"} for number in range(count)}
        inventory = folder / f"{count}.json"
        inventory.write_text(json.dumps({"clusters": {"hosts": hosts}}))
        command = [
            *PLAYBOOK,
            "-i",
            "inventories/local",
            "-i",
            inventory,
            "playbooks/site.yml",
            "--limit",
            "c*",
            "-e",
            "apply_wait=false",
        ]
        measured(command, env)
        found[count] = medians([measured(command, env) for _ in range(3)])
    first, last = found[CLUSTERS[0]], found[CLUSTERS[-1]]
    further = CLUSTERS[-1] - CLUSTERS[0]
    per_cluster = {key: round((last[key] - first[key]) / further, 3) for key in ("wall", "cpu")}
    return {
        "clusters": found,
        "each further cluster": {**per_cluster, "peak_mib": round(last["peak_mib"] - first["peak_mib"], 1)},
    }


def main() -> None:
    """Measure, and print JSON."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        env = {
            **os.environ,
            "CLUSTER_NAME": "modelyard-bench",
            "CLUSTER_PORT": str(PORT),
            "MODELYARD_LOCAL": f"{folder}/cluster",
            "MODELYARD_KUBECONFIG": f"{folder}/cluster/kubeconfig",
            "ANSIBLE_NOCOLOR": "1",
        }
        control = [ROOT / "controlplane/cluster"]
        try:
            measured([*control, "up"], env)
            bin_ = subprocess.run([*control, "bin"], env=env, capture_output=True, text=True, check=True).stdout.strip()
            kubectl = [f"{bin_}/kubectl", "--kubeconfig", env["MODELYARD_KUBECONFIG"]]
            found = {
                "machine": {"processors": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()},
                "runs": RUNS,
                "nothing to change": beside_kubectl(folder, env, kubectl),
                "several clusters, without waiting": many_clusters(folder, env),
            }
        finally:
            subprocess.run([*control, "down"], env=env, capture_output=True, check=False)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
