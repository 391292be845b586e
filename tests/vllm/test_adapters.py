"""Adapters on the real server: loaded while it serves, of other shapes, and bad ones, which the loader kept away."""

import json

import pytest
from vllm import tiny
from vllm.pod import ADAPTERS
from vllm.server import GOOD, LIVE, MODEL, STAGED, TOO_HIGH, cut_off, said

EVERY = (*tiny.ATTENTION, *tiny.MLP)
SHAPES = {
    "rank 1": tiny.Adapter(rank=1, fill=11),
    "the highest rank": tiny.Adapter(rank=32, fill=12),
    "one module": tiny.Adapter(modules=("o_proj",), fill=13),
    "MLP alone": tiny.Adapter(modules=tiny.MLP, fill=14),
    "every module": tiny.Adapter(modules=EVERY, fill=15),
    "the first layer": tiny.Adapter(modules=EVERY, layers=(0,), fill=16),
}


def load(server, name: str, path: str):
    return server.ask("/v1/load_lora_adapter", {"lora_name": name, "lora_path": path})


def names(server) -> set[str]:
    return {card["id"] for card in server.ask("/v1/models").json()["data"]}


def test_the_loader_filled_the_good_slots_and_kept_the_bad_away(server):
    events = [json.loads(line) for line in server.init.stdout.splitlines()]
    reasons = {item["slots"][0]: item["reason"] for item in events if item["event"] == "refused"}
    assert set(reasons) == {"too-high", "cut-off"}
    assert "rank 64, above --max-lora-rank=32" in reasons["too-high"]
    assert "truncated or damaged" in reasons["cut-off"]
    assert [item["alias"] for item in events if item["event"] == "alias_missing"] == ["nobody"]
    assert set(server.adapters) == {LIVE, STAGED}
    for slot in ("too-high", "cut-off", "nobody"):
        assert f"start.sh: no adapter in slot {slot}\n" in server.log
        assert server.pod.run(["ls", f"{ADAPTERS}/{slot}"]).returncode != 0
    assert names(server) >= {LIVE, STAGED}


def test_an_adapter_is_loaded_while_it_serves(server):
    path = server.pod.copy_in("later", tiny.Adapter(rank=16, fill=7).files(MODEL))
    loaded = load(server, "later", path)
    assert (loaded.status, loaded.data) == (200, b"Success: LoRA adapter 'later' added successfully.")
    assert "later" in names(server)
    answers = {name: said(server, name) for name in (server.model, LIVE, STAGED, "later")}
    assert len(set(answers.values())) == 4, answers
    assert load(server, "later", path).status == 400
    assert server.ask("/v1/unload_lora_adapter", {"lora_name": "later"}).status == 200
    assert "later" not in names(server)
    assert server.ask("/v1/completions", {"model": "later", "prompt": "a"}).status == 404


@pytest.mark.parametrize("shape", SHAPES)
def test_adapters_of_other_shapes(server, shape):
    slot = shape.replace(" ", "-")
    assert load(server, slot, server.pod.copy_in(slot, SHAPES[shape].files(MODEL))).status == 200
    assert said(server, slot) != said(server, server.model)
    assert server.ask("/v1/unload_lora_adapter", {"lora_name": slot}).status == 200


# What the loader keeps away: files of a slot, vLLM's answer where someone loads it by hand, a part of its message.
BAD = {
    "rank-64": (TOO_HIGH.files(MODEL), 400, "LoRA rank 64 is greater than max_lora_rank 32"),
    "truncated": (cut_off(GOOD["live"].files(MODEL)), 400, "file not fully covered"),
    "empty": ({}, 404, "No adapter found for"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_adapter_is_refused_and_the_server_goes_on(server, case):
    files, status, told = BAD[case]
    refused = load(server, case, server.pod.copy_in(case, files))
    assert (refused.status, told in refused.json()["error"]["message"]) == (status, True), refused.data
    assert case not in names(server)
    assert server.ask("/health").status == 200
    assert said(server, LIVE) != said(server, server.model)


def test_offline_nothing_is_loaded_from_a_repository(server):
    """HF_HUB_OFFLINE, which the test's pod has: what is no folder would be downloaded."""
    refused = load(server, "foreign", "org/adapter")
    assert (refused.status, "No adapter found for org/adapter" in refused.json()["error"]["message"]) == (404, True)
    assert "foreign" not in names(server)
