"""What a deploy costs beside kubectl, Helm and Argo CD with the same objects, on a control plane of its own: make bench.

Environment: BENCH_RUNS (5) counted runs of each, BENCH_ONLY (some of nochange,first,rendering,clusters), BENCH_CLUSTERS
(1,2,4,8,16), BENCH_MINUTES (90) after which it ends with what it has, BENCH_OUTPUT (bench in the project), the folder for
bench.json, bench.html and bench.md. The JSON goes to standard output, too. With --docs nothing is measured: docs/benchmark.md is
given the figures of the last run.
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
from typing import Any, NamedTuple

import pages
from goals import judged
from measuring import ROOT, Failed
from parts import PARTS, Bench, in_order
from setting import Setting, say

BUSY = 0.5  # of a core, by others


class Options(NamedTuple):
    """What the environment asks for."""

    runs: int
    only: list[str]
    clusters: tuple[int, ...]
    minutes: int
    folder: Path


def options() -> Options:
    """Read them.

    Raises:
        Failed: a value can't be used.
    """

    def numbers(name: str, default: str) -> list[int]:
        try:
            found = sorted({int(one) for one in (os.environ.get(name) or default).split(",")})
        except ValueError:
            found = [0]
        if found[0] < 1:
            raise Failed(f"{name}={os.environ[name]} can't be used: {default} is an example")
        return found

    only = [one.strip() for one in (os.environ.get("BENCH_ONLY") or ",".join(PARTS)).split(",")]
    if strange := [one for one in only if one not in PARTS]:
        raise Failed(f"BENCH_ONLY knows no {', '.join(strange)}, but {', '.join(PARTS)}")
    return Options(
        numbers("BENCH_RUNS", "5")[0],
        [one for one in PARTS if one in only],
        tuple(numbers("BENCH_CLUSTERS", "1,2,4,8,16")),
        numbers("BENCH_MINUTES", "90")[0],
        ROOT / (os.environ.get("BENCH_OUTPUT") or "bench"),
    )


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


def measure(given: Options) -> dict:
    """Start a control plane, measure, and stop it."""
    load = os.getloadavg()[0]
    if load > BUSY:
        say(f"the machine is busy (load {load:.1f}): the figures will be too high, and uneven")
    began = time.monotonic()
    found: dict[str, Any] = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load_before": round(load, 2),
        "versions": versions(),
        "runs": given.runs,
    }
    with tempfile.TemporaryDirectory(prefix="modelyard-bench-") as name:
        setting = Setting(Path(name))
        with setting.running():
            bench = Bench(setting, given.runs, given.clusters)
            try:
                bench.prepare()
                found["objects"] = bench.count
                does = dict(zip(PARTS, (bench.nochange, bench.first, bench.rendering, bench.many), strict=True))
                found["parts"], failed = in_order({part: does[part] for part in given.only})
            finally:
                signal.alarm(0)  # What is started is ended whatever the time is.
                bench.stop()
    found |= {"left_out": bench.left_out, "failed": failed, "took_seconds": round(time.monotonic() - began)}
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
        given = options()
        results = given.folder / "bench.json"
        if sys.argv[1:] == ["--docs"]:
            if not results.exists():
                raise Failed(f"{results} is missing: make bench writes it")
            pages.write_docs(json.loads(results.read_text()))
            return

        def late(*_: object) -> None:
            raise Failed(f"it was not done after {given.minutes} minutes (BENCH_MINUTES)")

        signal.signal(signal.SIGALRM, late)
        signal.alarm(given.minutes * 60)
        found = measure(given)
    except Failed as error:
        sys.exit(f"bench: {error}")
    text = json.dumps(found, indent=2) + "\n"
    given.folder.mkdir(parents=True, exist_ok=True)
    results.write_text(text)
    results.with_suffix(".md").write_text(pages.markdown(found))
    results.with_suffix(".html").write_text(pages.page(found))
    sys.stdout.write(text)
    say(f"written: {results}, bench.md and bench.html beside it")
    sys.exit(1 if found["failed"] else 0)


if __name__ == "__main__":
    main()
