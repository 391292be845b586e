"""The note that a server is parked."""

from __future__ import annotations

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking

SAID = {"by": "ann", "since": "2026-11-27T20:00:00Z", "until": "", "reason": "weekend", "replicas": 2}


def deployment(text: str | None) -> dict:
    return {"metadata": {"name": "judge-vllm", **({"annotations": {parking.NOTE: text}} if text is not None else {})}}


def test_what_is_written_is_read():
    assert parking.read(deployment(parking.write(SAID))) == SAID


@pytest.mark.parametrize("live", [None, deployment(None), deployment("")])
def test_without_a_note_nothing_is_parked(live):
    assert parking.read(live) == {}


@pytest.mark.parametrize("text", ["yes", "[]", '{"replicas": "many"}'])
def test_a_note_that_somebody_else_wrote_still_parks(text):
    assert parking.read(deployment(text)) == {"by": "", "since": "", "until": "", "reason": text, "replicas": 1}
