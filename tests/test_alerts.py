"""The rendered alerts, by promtool: their form, and what they say of made-up series (alerts.yml): which fire, and that no other does."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import prometheus
import promql_parser
import pytest
import yaml
from rendering import ROOT, rendered
from test_rendering import selectors

CASES = yaml.safe_load((ROOT / "tests/alerts.yml").read_text())
# Every kind, with what each of its alerts needs to be there.
VARIABLES = {
    "vllm_enabled_profiles": ["vllm", "fast"],
    "vllm_profiles": {"vllm": {"ingress": {"hosts": ["llm.local"], "tls": [{"secretName": "llm-tls"}]}}, "fast": {}},
    "vllm_judge_variant": "judge",
    "triton_enabled_profiles": ["cpu"],
    "mlserver_enabled_profiles": ["mlserver"],
    "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
}


@pytest.fixture(scope="module")
def groups() -> list[dict]:
    result = rendered(**VARIABLES)
    assert result["problems"] == []
    objects = [item for part in result["parts"] for item in part["objects"]]
    return [group for item in objects if item["kind"] == "PrometheusRule" for group in item["spec"]["groups"]]


@pytest.fixture(scope="module")
def rules(groups) -> dict[str, list[dict]]:
    """The rules by alert; several servers have each."""
    found: dict[str, list[dict]] = {}
    for group in groups:
        for rule in group["rules"]:
            found.setdefault(rule["alert"], []).append(rule)
    return found


@pytest.fixture(scope="module")
def folder(groups, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("alerts")
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
    return folder


def promtool(folder: Path, *words: str) -> str:
    """What it finds wrong."""
    command = [prometheus.program("promtool"), *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_promtool_finds_nothing_wrong(groups, tmp_path) -> None:
    for group in groups:
        (tmp_path / f"{group['name']}.yml").write_text(yaml.safe_dump({"groups": [group]}))
    names = [f"{group['name']}.yml" for group in groups]
    assert len(names) == 5
    for name in names:
        assert promtool(tmp_path, "check", "rules", "--lint=all", "--lint-fatal", name) == ""


def test_each_fires_when_it_should_and_no_other(folder) -> None:
    tests = [
        {
            "name": case["name"],
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
            "promql_expr_test": [
                {
                    "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                    "eval_time": str(at),
                    "exp_samples": [
                        {"labels": f'{{alertname="{alert}"}}', "value": count} for alert, count in fires.items()
                    ],
                }
                for at, fires in case["fires"].items()
            ],
        }
        for case in CASES
    ]
    (folder / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "2m", "tests": tests})
    )
    assert promtool(folder, "test", "rules", "tests.yml") == ""


def test_every_alert_has_series_for_which_it_fires_and_is_silent(rules) -> None:
    fired = {alert for case in CASES for fires in case["fires"].values() for alert in fires}
    assert fired == set(rules)
    for alert, found in rules.items():
        asked = {one.name for rule in found for one in selectors(promql_parser.parse(rule["expr"]))}
        silent = [
            case["name"]
            for case in CASES
            if asked & {re.split("[{ ]", series)[0] for series in case["series"]}
            and any(alert not in fires for fires in case["fires"].values())
        ]
        assert silent, alert


def test_every_metric_is_one_that_its_source_says_it_has(rules) -> None:
    for alert, found in rules.items():
        for rule in found:
            asked = {one.name for one in selectors(promql_parser.parse(rule["expr"]))}
            assert asked - prometheus.published() == set(), alert


def test_every_link_leads_to_a_section_of_the_runbooks(rules) -> None:
    text = (ROOT / "docs/runbooks.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"^## (\w+)$", text, re.MULTILINE)}
    linked = {rule["annotations"]["runbook_url"] for found in rules.values() for rule in found}
    address = re.search(r"^repository: (\S+)$", (ROOT / "galaxy.yml").read_text(), re.MULTILINE)[1]
    assert {link.partition("#")[0] for link in linked} == {f"{address}/blob/main/docs/runbooks.md"}
    assert {link.partition("#")[2] for link in linked} == anchors
    # And each alert is named where its section begins.
    for alert, found in rules.items():
        heading = found[0]["annotations"]["runbook_url"].partition("#")[2]
        section = re.search(rf"(?ims)^## {heading}$(.*?)(?=^## |\Z)", text)[1]
        assert f"`{alert}`" in section, alert


def test_each_says_which_server_and_how_bad(rules) -> None:
    for alert, found in rules.items():
        for rule in found:
            assert rule["labels"]["severity"] in ("warning", "critical"), alert
            assert rule["labels"]["namespace"] == "ml-models"
            assert (
                rule["annotations"]["summary"].split(" ")[0].rstrip(":")
                in json.dumps(VARIABLES) + "judge-vllm triton-inference vllm-fast"
            )
