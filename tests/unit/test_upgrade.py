"""What another version of vLLM changes for the servers of an inventory."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import upgrade, vllm_flags
from rendering import rendered

ROOT = Path(__file__).parents[2]
TODAY, NEXT = "vllm/vllm-openai:v0.14.1-cu130", "vllm/vllm-openai:v0.32.0"
VERSIONS = ("0.14.1", "0.32.0")


def compared(image: str = NEXT, **variables: Any) -> tuple[dict[str, tuple], list[str]]:
    """The changes of vLLM's own server by name, and what the new version refuses."""
    today = rendered(vllm_image=TODAY, **variables)
    assert today["problems"] == []
    after = rendered(vllm_image=image, **variables)
    (one,) = [one for one in upgrade.changes(today, after) if one["server"] == "vllm"]
    return {name: (what, change) for what, name, change in one["lines"]}, after["problems"]


def test_flags_that_are_gone_or_refused() -> None:
    found, problems = compared(
        vllm_extra_args={"swap-space": 2, "max-num-seqs": 8, "collect-detailed-traces": ["model,worker"]}
    )
    assert found["--swap-space"] == ("flag", "gone")
    assert "--max-num-seqs" not in found
    assert [re.sub(" is .*", "", line) for line in problems] == [
        "vllm_extra_args.swap-space",
        "vllm_extra_args.collect-detailed-traces",
    ]
    assert "vLLM 0.32.0 has no flag --swap-space" in problems[0]
    assert compared(vllm_extra_args={"max-num-seqs": 8})[1] == []


def test_defaults_that_an_inventory_leaves_alone() -> None:
    found, _ = compared()
    assert found["--allowed-origins"] == (
        "default",
        '["*"] becomes []: browsers refuse a page of another site, unless `vllm_extra_args` gives the flag',
    )
    # The role always gives it.
    assert "--gpu-memory-utilization" not in found
    assert "--allowed-origins" not in compared(vllm_extra_args={"allowed-origins": ["https://a"]})[0]


def test_variables_that_are_no_longer_read() -> None:
    before, after = (set(vllm_flags.known(version)["environment"]) for version in VERSIONS)
    (gone, *_), (kept, *_) = sorted(before - after), sorted(before & after)
    found, _ = compared(vllm_env={gone: "1", kept: "1", "MINE": "1"})
    assert found[gone] == ("variable", "0.32.0 does not read it")
    assert not {kept, "MINE"} & set(found)


def test_metrics_that_are_asked_for(monkeypatch) -> None:
    known = upgrade.beyond()
    less = [name for name in known["metrics"]["0.32.0"] if name != "vllm:num_requests_waiting"]
    assert [what for what, _ in compared()[0].values() if what == "metric"] == []
    monkeypatch.setattr(upgrade, "beyond", lambda: known | {"metrics": known["metrics"] | {"0.32.0": less}})
    # The alert asks for it.
    assert compared()[0]["vllm:num_requests_waiting"][0] == "metric"


def test_behaviours() -> None:
    what, change = compared()[0]["an adapter's rank is too high"]
    assert what == "behaviour"
    assert change.startswith("500: Call to add_lora method failed")
    assert "counted by `VLLMServerErrors`" in change


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.99.0", "mirror.example/own:latest"])
def test_a_version_that_is_not_known_is_told(image: str) -> None:
    found, problems = compared(image, vllm_extra_args={"max-num-seqs": 8})
    assert problems == []
    assert {(what, change.partition(":")[0]) for what, change in found.values()} == {("metrics", "not compared")}


def test_nothing_changes_with_the_same_version() -> None:
    assert compared("vllm/vllm-openai:v0.14.1") == ({}, [])


def test_what_is_known_of_versions_is_what_they_said() -> None:
    known = upgrade.beyond()
    facts = {name: json.loads((ROOT / f"tests/vllm/facts/{name}.json").read_text()) for name in VERSIONS}
    assert known["metrics"] == {name: sorted(one["metrics"]) for name, one in facts.items()}
    old, new = (one["behaviours"] for one in facts.values())
    assert [item["what"] for item in known["behaviours"]] == [
        what for what in old | new if old.get(what) != new.get(what)
    ]
    tree = ast.parse((ROOT / "tests/vllm/test_facts.py").read_text())
    (means,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MEANS"
    ]
    assert known["defaults"] == {name: text for name, text in means.items() if name.startswith("--")}
    for item in known["behaviours"]:
        assert item.get("means") == means.get(item["what"])
        for version, said in zip(VERSIONS, (old, new), strict=True):
            text = said.get(item["what"], "does not exist")
            assert not isinstance(text, str) or item[version] == text
