"""The note that a server is parked."""

from __future__ import annotations

import json
from datetime import UTC, datetime

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


NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("", ""),
        ("12h", "2026-11-30T00:00:00Z"),
        ("1d12h", "2026-12-01T00:00:00Z"),
        ("90m", "2026-11-29T13:30:00Z"),
        ("2026-12-01T07:00:00Z", "2026-12-01T07:00:00Z"),
        # As YAML's own times are written when they become text.
        ("2026-12-01 08:00:00+01:00", "2026-12-01T07:00:00Z"),
    ],
)
def test_the_end_is_a_time_or_how_long(text, time):
    assert parking.until(text, NOW) == time


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("2026-11-29T12:00:00Z", "later than now, 2026-11-29T12:00:00Z"),
        ("0h", "later than now"),
        ("2026-12-01T07:00:00", "time zone"),
        ("2026-12-01", "time zone"),
        ("9999-12-31T23:59:59-14:00", "or how long"),
        *((text, "or how long") for text in ("Monday", "12", "3w", "h", "-3d", "12h3d", "9999999d")),
    ],
)
def test_an_end_that_is_none_is_refused(text, why):
    with pytest.raises(ValueError, match=why):
        parking.until(text, NOW)


def test_it_is_known_for_how_long_a_server_is_parked_and_that_it_is_over():
    assert parking.hours({"since": "2026-11-28T09:00:00Z"}, NOW) == 27
    assert [parking.hours({"since": text}, NOW) for text in ("", "yesterday", "2026-12-01T00:00:00Z")] == [0, 0, 0]
    assert parking.hours({}, NOW) == 0
    times = ("2026-11-29T11:59:59Z", "2026-11-29T12:00:01Z", "", "Monday")
    assert [parking.overdue({"until": text}, NOW) for text in times] == [True, False, False, False]


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


@pytest.mark.parametrize(
    ("until", "evaluates"),
    [("2026-11-29T12:00:01Z", True), ("2026-11-29T11:59:59Z", False), ("soon", False), (None, False)],
)
def test_an_evaluation_has_its_server_until_its_time_is_over(until, evaluates):
    item = {"kind": "Deployment", "metadata": {}, "spec": {"replicas": 0}}
    annotations = {parking.GATE: json.dumps({} if until is None else {"until": until})}
    held = {"manager": parking.MANAGER, "operation": "Update", "apiVersion": "apps/v1", "fieldsV1": {}}
    live = {"apiVersion": "apps/v1", "metadata": {"annotations": annotations, "managedFields": [held]}}
    live["spec"] = {"replicas": 1}
    taken = (item, ["kubectl*", parking.MANAGER])
    assert parking.left(item, live, "modelyard", ["kubectl*"], NOW) == (
        ({**item, "spec": {}}, ["kubectl*"]) if evaluates else taken
    )
