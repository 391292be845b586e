"""What a deploy costs beside kubectl, Helm and Argo CD with the same objects, on a control plane of its own: make bench.

Environment: BENCH_RUNS (5) counted runs of each, BENCH_ONLY (some of nochange,first,rendering,clusters), BENCH_CLUSTERS
(1,2,4,8,16), BENCH_OUTPUT (bench in the project), the folder for bench.json, bench.html and bench.md. The JSON goes to standard
output, too. With --docs nothing is measured: docs/benchmark.md is given the figures of the last run.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pages
from goals import judged
from measuring import ROOT, Failed
from parts import PARTS, Bench
from setting import PLAYBOOK, Setting, say

BUSY = 0.5  # of a core, by others


def options() -> tuple[int, list[str], tuple[int, ...], Path]:
    """What the environment asks for: runs, parts, numbers of clusters, the folder for the output.

    Raises:
        Failed: a value can't be used.
    """
    try:
        runs = int(os.environ.get("BENCH_RUNS") or 5)
        clusters = tuple(sorted({int(one) for one in (os.environ.get("BENCH_CLUSTERS") or "1,2,4,8,16").split(",")}))
    except ValueError as error:
        raise Failed(f"BENCH_RUNS is a number, and BENCH_CLUSTERS are numbers with commas between: {error}") from error
    if runs < 1 or clusters[0] < 1:
        raise Failed("BENCH_RUNS and BENCH_CLUSTERS are 1 or more")
    only = [one.strip() for one in (os.environ.get("BENCH_ONLY") or ",".join(PARTS)).split(",")]
    if strange := [one for one in only if one not in PARTS]:
        raise Failed(f"BENCH_ONLY knows no {', '.join(strange)}, but {', '.join(PARTS)}")
    return runs, [one for one in PARTS if one in only], clusters, ROOT / (os.environ.get("BENCH_OUTPUT") or "bench")


def machine() -> dict:
    """What it is measured on."""

    def told(file: str, key: str) -> str:
        path = Path("/proc") / file
        lines = path.read_text().splitlines() if path.exists() else []
        return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")

    memory = told("meminfo", "MemTotal").removesuffix(" kB")
    return {
        "processors": os.cpu_count(),
        "processor": told("cpuinfo", "model name") or platform.machine(),
        "memory": f"{int(memory) / 2**20:.0f} GiB" if memory else "memory not known",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """What is compared, as pinned."""
    import ansible.release

    modules = {
        "kubectl and Kubernetes": ("kubernetes", "k8s.io/kubernetes"),
        "kustomize": ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
        "Helm": ("helm", "helm.sh/helm/v4"),
        "Argo CD": ("argocd", "github.com/argoproj/argo-cd/v3"),
    }
    found = {"ansible-core": ansible.release.__version__}
    for name, (folder, module) in modules.items():
        words = (ROOT / f"controlplane/{folder}/go.mod").read_text().split()
        found[name] = next(words[at + 1] for at, word in enumerate(words) if word == module and words[at + 1][0] == "v")
    return found


def measure(runs: int, only: list[str], clusters: tuple[int, ...]) -> dict:
    """Start a control plane, measure, and stop it."""
    load = os.getloadavg()[0]
    if load > BUSY:
        say(f"the machine is busy (load {load:.1f}): the figures will be too high, and uneven")
    began = time.monotonic()
    found = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_before": round(load, 2),
        "versions": versions(),
        "runs": runs,
        "parts": {},
    }
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
        setting = Setting(Path(name))
        with setting.running():
            bench = Bench(setting, runs, clusters)
            try:
                bench.prepare()
                found["objects"] = bench.count
                does = {
                    "nochange": bench.nochange,
                    "first": bench.first,
                    "rendering": bench.rendering,
                    "clusters": bench.many,
                }
                for part in only:
                    say(f"{part}: {runs} runs of each")
                    load = os.getloadavg()
                    found["parts"][part] = does[part]() | {
                        "load": [round(one, 2) for one in (load[0], os.getloadavg()[0])]
                    }
            finally:
                bench.stop()
            found["left_out"] = bench.left_out
    found["took_seconds"] = round(time.monotonic() - began)
    return pages.rounded(found | {"goals": judged(found)})


def stop(number: int, _frame: object) -> None:
    """End as an error does, so that what was started is ended; another signal meanwhile changes nothing."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, signal.SIG_IGN)
    raise SystemExit(128 + number)


def main() -> None:
    """Measure and write, or write the document alone."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(one, stop)
    try:
        runs, only, clusters, folder = options()
        if sys.argv[1:] == ["--docs"]:
            pages.write_docs(json.loads((folder / "bench.json").read_text()))
            return
        if not PLAYBOOK.exists():
            raise Failed(f"{PLAYBOOK} is missing: make env installs it")
        found = measure(runs, only, clusters)
    except (Failed, FileNotFoundError) as error:
        sys.exit(f"bench: {error}")
    text = json.dumps(found, indent=2) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(text)
    (folder / "bench.md").write_text(pages.markdown(found))
    (folder / "bench.html").write_text(pages.page(found))
    sys.stdout.write(text)
    say(f"written: {folder}/bench.json, bench.md, bench.html")


if __name__ == "__main__":
    main()
