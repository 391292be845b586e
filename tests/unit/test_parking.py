"""The note that a server is parked."""

from __future__ import annotations

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import chosen
from rendering import rendered

SAID = {"by": "ann", "since": "2026-11-27T20:00:00Z", "until": "", "reason": "weekend", "replicas": 2}


def deployment(text: str | None) -> dict:
    return {"metadata": {"name": "judge-vllm", **({"annotations": {parking.NOTE: text}} if text is not None else {})}}


def test_what_is_written_is_read():
    assert parking.read(deployment(parking.write(SAID))) == SAID


def test_a_schedule_parks_without_a_note():
    live = {"metadata": {"annotations": {parking.SCHEDULE: "park 0 20 * * *"}}, "spec": {"replicas": 0}}
    assert parking.read(live) == {
        "by": "its schedule",
        "since": "",
        "until": "",
        "reason": "park 0 20 * * *",
        "replicas": 0,
    }
    assert parking.read({**live, "spec": {"replicas": 1}}) == {}


def test_a_server_that_somebody_has_started_is_not_parked():
    assert parking.read({**deployment(parking.write(SAID)), "spec": {"replicas": 1}}) == {}


def test_a_note_is_told():
    until = {**SAID, "until": "2026-11-30T07:00:00Z"}
    assert parking.told(until) == "parked by ann since 2026-11-27T20:00:00Z until 2026-11-30T07:00:00Z: weekend"
    assert parking.told({**SAID, "by": "", "since": "", "reason": "yes"}) == "parked: yes"


@pytest.mark.parametrize("live", [None, deployment(None), deployment("")])
def test_without_a_note_nothing_is_parked(live):
    assert parking.read(live) == {}


@pytest.mark.parametrize("text", ["yes", "[]", '{"replicas": "many"}'])
def test_a_note_that_somebody_else_wrote_still_parks(text):
    assert parking.read(deployment(text)) == {"by": "", "since": "", "until": "", "reason": text, "replicas": 1}


def names(*asked: str, **variables) -> list[str]:
    return [
        part["name"]
        for part in chosen.chosen(
            rendered(**{"vllm_judge_variant": "judge", **variables}), asked, variable="park_servers"
        )
    ]


def test_servers_are_chosen_by_name_and_the_judge_by_default():
    assert names() == ["judge-vllm"]
    assert names("vllm", "judge-vllm", "vllm") == ["vllm", "judge-vllm"]


def test_a_wrong_name_is_told_with_those_that_are_there():
    with pytest.raises(Refused) as refused:
        names("vlm", "triton-inference")
    assert refused.value.problems[0].startswith(
        "park_servers is 'vlm': unknown, did you mean 'vllm'? Known: judge-vllm,"
    )
    assert len(refused.value.problems) == 1
    with pytest.raises(Refused, match=r"no server of vllm_judge is on: name one by park_servers\. .*triton-inference"):
        names(vllm_judge_variant="none")
