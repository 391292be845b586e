"""The benchmark's own parts: what it counts and computes, that it leaves no process, its chart, its goals, its page. It measures nothing here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import browser
import pytest
import yaml

ROOT = Path(__file__).parents[1]
BENCH = ROOT / "tools" / "bench"
sys.path.insert(0, str(BENCH))

import goals  # noqa: E402 # they are a program's, not a package's
import measuring  # noqa: E402
import pages  # noqa: E402
import parts  # noqa: E402
import setting  # noqa: E402

OBJECTS = """\
apiVersion: v1
kind: ConfigMap
metadata:
  name: one
data:
  text: |
    {{ .Values.no }} and {{{ x }}}
    ---
---
apiVersion: v1
kind: Service
metadata:
  name: two
"""


def figures(wall: float, cpu: float, **more) -> dict:
    return {"wall": measuring.summary([wall, wall + 0.2]), "cpu": measuring.summary([cpu]), **more}


def asked(*given: tuple[str, str]) -> dict:
    """The requests' numbers, of (verb, URL)."""
    return measuring.requests([event(verb, url) for verb, url in given], {"one", "two"})


def event(verb: str, url: str) -> dict:
    parts_of = re.fullmatch(r"/api/v1/namespaces/(\w+)/(\w+)/?(\w*)(?:\?.*)?", url)
    about = dict(zip(("namespace", "resource", "name"), parts_of.groups(), strict=True)) if parts_of else None
    return {"verb": verb, "requestURI": url, "objectRef": about}


def measured_before() -> dict:
    """What a run of the benchmark gives."""
    nothing = asked(("get", "/apis"), ("list", "/api/v1/namespaces/a/services"))
    tools = {name: figures(1 + number, 1.0, requests=nothing) for number, name in enumerate(parts.NAMESPACES)}
    tools[parts.EMPTY] = figures(0.5, 0.4)
    ratios = {name: {"wall": measuring.summary([0.5])} for name in (parts.KUSTOMIZE, parts.FOLDERS)}
    compared = {"tools": tools, "ratios": ratios, "load": [0.1, 1.0]}
    memory = {"main_mib": 80.0, "fork_mib": 70.0, "sum_mib": 120.0}
    some = {key: measuring.summary([value]) for key, value in memory.items()}
    many = {
        "clusters": {"1": figures(1, 1, **some), "16": figures(7, 9, **some)},
        "further": {"wall": 0.4, "cpu": 0.53, "main_mib": 0.0, "fork_mib": 0.0, "sum_mib": 0.0},
        "kubectl": {name: figures(1, 0.5) for name in (parts.KUSTOMIZE, parts.FOLDERS, parts.SERVER_SIDE)},
        "load": [0.1, 1.0],
    }
    rendering = {"tools": {"kustomize build": figures(0.2, 0.1)}, "load": [0.1, 1.0]}
    found = {
        "began": "2026-11-29T14:00:00+00:00",
        "took_seconds": 600,
        "machine": {"processors": 2, "processor": "<b>", "memory": "23 GiB", "system": "Linux", "python": "3.13.0"},
        "load_before": 0.1,
        "versions": {"Helm": "v4.3.2"},
        "objects": 30,
        "runs": 5,
        "parts": {"nochange": compared, "first": compared, "rendering": rendering, "clusters": many},
        "left_out": {"Argo CD": "not installed: redis-server"},
        "failed": {"clusters": "it was not done\nafter all"},
    }
    return pages.rounded(found | {"goals": goals.judged(found)})


# --- Counting and computing ------------------------------------------------------------------------


def test_requests_are_counted_by_what_they_are_for():
    found = asked(
        ("get", "/apis"),
        ("get", "/api/v1/namespaces/a/services/one"),
        ("get", "/api/v1/namespaces/a/services/one"),
        ("get", "/api/v1/namespaces/a/services/two"),
        ("get", "/api/v1/namespaces/a/leases/lock"),
        ("patch", "/api/v1/namespaces/a/services/one?dryRun=All"),
        ("patch", "/api/v1/namespaces/a/services/one"),
        ("list", "/api/v1/namespaces/a/services"),
        ("list", "/api/v1/namespaces/b/services"),
        ("create", "/api/v1/namespaces/a/selfsubjectrulesreviews"),
    )
    counts = {"discovery": 1, "lists": 2, "reads": 4, "dry runs": 1, "writes": 1, "rights": 1, "all": 10}
    most = {"reads an object": 2, "dry runs an object": 1, "lists a kind": 1}
    assert {key: found[key] for key in counts | most} == counts | most
    assert found["by"]["reads: services"] == 3


def test_the_audit_log_gives_what_is_new_and_no_half_line(tmp_path):
    log = tmp_path / "audit.log"
    lines = [
        json.dumps({"userAgent": agent}) for agent in ("kubectl/v1", "kube-scheduler/v1", "kwok-controller/v0", "bench")
    ]
    log.write_text("\n".join(lines) + '\n{"userAgent"')
    audit = measuring.Audit(log)
    assert audit.asked() == [{"userAgent": "kubectl/v1"}]
    with log.open("a") as more:
        more.write(': "Helm/4"}\n')
    assert audit.asked() == [{"userAgent": "Helm/4"}]


def test_statistics():
    assert measuring.summary([3, 1, 2]) == {"median": 2, "min": 1, "max": 3}
    assert measuring.ratio([{"wall": 1}, {"wall": 9}], [{"wall": 2}, {"wall": 3}], "wall")["median"] == 1.75
    assert measuring.slope({1: 3.0, 2: 5.0, 4: 9.0}) == pytest.approx(2)
    assert measuring.slope({1: 3.0}) is None


def test_runs_are_made_in_turn_and_the_first_round_does_not_count():
    order = []

    def run(name):
        return lambda: order.append(name) or {"wall": len(order)}

    found = measuring.in_turn(2, {"a": run("a"), "b": run("b")}, before=lambda: order.append("-"))
    assert "".join(order) == "-ab-ab-ab"
    assert [one["wall"] for one in found["a"]] == [5, 8]


def test_a_part_that_fails_ends_it_and_keeps_what_was_measured(capsys):
    def fails():
        raise measuring.Failed("it was not done")

    found, failed = parts.in_order({"nochange": lambda: {"tools": {}}, "first": fails, "rendering": fails})
    assert (list(found), failed) == (["nochange"], {"first": "it was not done"})
    assert "bench: first failed: it was not done" in capsys.readouterr().err


# --- Processes -------------------------------------------------------------------------------------


def test_a_command_is_measured_with_all_that_it_started():
    burn = "import time\nwhile time.process_time() < .3: pass"
    found = measuring.measured(["sh", "-c", f"{sys.executable} -c '{burn}'; true"], os.environ)
    assert found["wall"] > 0.3
    assert found["cpu"] > 0.3


def test_memory_is_of_the_main_process_its_largest_fork_and_all():
    program = "import os, time; x = b'x' * 2**25; os.fork() or [b'x' * 2**26, time.sleep(.5), os._exit(0)]; os.wait()"
    found = measuring.memory([sys.executable, "-c", program], os.environ)
    assert found["processes"] == 2
    # The main process has 32 MiB, the fork shares them and has 64 more.
    assert 64 > found["main_mib"] > 32
    assert found["fork_mib"] > 96
    assert found["sum_mib"] > 96


def test_a_command_that_fails_or_does_not_end_is_told_with_what_it_said(monkeypatch):
    with pytest.raises(measuring.Failed, match="ended with 3:\nno such thing"):
        measuring.measured(["sh", "-c", "echo no such thing; exit 3"], os.environ)
    monkeypatch.setattr(measuring, "LIMIT_SECONDS", 0.2)
    with pytest.raises(measuring.Failed, match=r"ended with -9 after"):
        measuring.measured(["sleep", "1000"], os.environ)


def test_an_interrupted_command_leaves_no_process_in_another_session_either():
    with (
        contextlib.suppress(KeyboardInterrupt),
        measuring.started(["sh", "-c", "setsid sleep 1234.5 & sleep 1234.5"], os.environ) as (process, _),
    ):
        deadline = time.monotonic() + 30
        while len(pids := measuring.descendants(process.pid)) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise KeyboardInterrupt
    while any(running(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def running(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and "(sleep) Z" not in stat.read_text()


# --- What is compared ------------------------------------------------------------------------------


def test_the_chart_holds_the_objects_with_their_braces_escaped(tmp_path):
    setting.write_chart(tmp_path / "chart", OBJECTS)
    written = sorted((tmp_path / "chart/templates").iterdir())
    assert [file.name for file in written] == ["00-configmap.yaml", "01-service.yaml"]
    text = "---\n".join(file.read_text() for file in written)
    assert re.findall(r"\{\{.*?\}\}", text)[0] == '{{ "{{" }}'
    # What Helm makes of them.
    rendered = text.replace('{{ "{{" }}', "{{")
    assert list(yaml.safe_load_all(rendered)) == list(yaml.safe_load_all(OBJECTS))
    assert setting.names(OBJECTS) == {"one", "two"}


def test_goals_say_what_was_found_and_whether_it_is_met():
    found = {goal["goal"]: (goal["found"], goal["met"]) for goal in measured_before()["goals"]}
    assert found["a run with nothing to change: at most 0.8 times the time of kubectl apply -k"] == (0.5, True)
    assert found["a run with nothing to change: no dry run"] == (0, True)
    assert found["a further cluster: no more CPU than kubectl apply -k"] == (0.53, False)
    assert found["the largest fork: with 16 clusters at most 1.1 times its memory with 1"] == (1.0, True)
    assert goals.judged({"parts": {"rendering": {}}}) == []


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"BENCH_ONLY": "nochange,frist"}, "BENCH_ONLY knows no frist, but nochange, first, rendering, clusters"),
        ({"BENCH_RUNS": "many"}, "BENCH_RUNS=many can't be used: 5 is an example"),
        ({"BENCH_CLUSTERS": "0,1"}, "BENCH_CLUSTERS=0,1 can't be used: 1,2,4,8,16 is an example"),
    ],
)
def test_what_it_can_not_do_is_told_at_once(given, told):
    done = subprocess.run(
        [sys.executable, BENCH], env={**os.environ, **given}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"bench: {told}")


# --- Results ---------------------------------------------------------------------------------------


def test_the_figures_go_between_the_marks_of_the_document_and_again(tmp_path):
    file = tmp_path / "benchmark.md"
    before = pages.DOCS.read_text()
    file.write_text(before)
    for _ in range(2):
        pages.write_docs(measured_before(), file)
    head, _, rest = file.read_text().partition("<!-- figures -->\n")
    assert before.startswith(head)
    assert rest.endswith("<!-- end of figures -->\n")
    assert rest.count("### A first deploy") == 1
    assert "| site.yml | 1.10 | 1.00 to 1.20 | 1.00 | 2 | 1 | 1 | 0 | 0 | 0 | 0 |" in rest
    assert "| each further cluster | 0.40 |  | 0.53 | 0.0 | 0.0 | 0.0 |" in rest
    assert "Left out: Argo CD: not installed: redis-server" in rest
    assert "Failed: clusters: it was not done.  \n" in rest


def test_the_page_opens_by_itself_for_everyone_on_any_screen(tmp_path):
    file = tmp_path / "bench.html"
    file.write_text(pages.page(measured_before()))
    with browser.opened() as tab:
        for width, scheme in ((1440, "light"), (1440, "dark"), (390, "light")):
            tab.look(width, scheme=scheme)
            tab.open(file)
            assert tab.axe() == []
            assert (tab.complaints, tab.asked) == ([], [file.as_uri()])
            assert tab.run("document.documentElement.scrollWidth") == width
        bars = tab.run("[...document.querySelectorAll('figure:first-child td')].map(one => one.clientWidth)")
        assert len(set(bars)) > 3
