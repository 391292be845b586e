"""Whether a server is awake for an evaluation, and when the cluster parks it."""

import json
import os
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import gating, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import process_id
from rendering import ROOT, playbook

NOW = datetime(2026, 12, 4, 17, 0, tzinfo=UTC)
MINE = process_id(os.getpid())
HOST, BOOT, SPACE, NUMBER, _ = MINE.split("/")


def noted(replicas=1, until=NOW + timedelta(hours=1), process="", text=None):
    note = json.dumps({"by": "ann", "since": "", "until": until.strftime(parking.TIME), "process": process})
    return {"metadata": {"annotations": {gating.NOTE: note if text is None else text}}, "spec": {"replicas": replicas}}


@pytest.mark.parametrize(
    ("live", "active"),
    [
        (noted(), True),
        (noted(process=MINE), True),
        (noted(process="elsewhere/boot/space/1/2"), True),
        (noted(process="/".join([HOST, BOOT, SPACE, NUMBER, "1"])), False),
        (noted(replicas=0), False),
        (noted(until=NOW - timedelta(seconds=1)), False),
        (noted(text=""), False),
        (noted(text="by hand"), False),
        (noted(text="{}"), False),
        ({"metadata": {}, "spec": {"replicas": 1}}, False),
    ],
    ids=[
        "awake",
        "of this process",
        "of another machine",
        "its process is gone",
        "parked",
        "over",
        "empty",
        "no JSON",
        "nothing",
        "none",
    ],
)
def test_an_evaluation_counts_while_its_server_is_awake_and_nobody_has_killed_it(live, active):
    assert bool(gating.active(live, NOW)) is active


def test_the_urls_of_several_clusters_are_left_one_by_one(tmp_path):
    (play,) = yaml.safe_load((ROOT / "playbooks/gate.yml").read_text())
    play["tasks"] = play["tasks"][-1:]
    (tmp_path / "play.yml").write_text(yaml.safe_dump([play]))
    gates = {name: {"gate": {"url": f"http://{name}", "model": "m", "until": ""}} for name in ("a", "b")}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"clusters": {"hosts": gates}}))
    run = playbook(str(tmp_path / "play.yml"), tmp_path / "hosts.yml", ANSIBLE_SHOW_CUSTOM_STATS="1")
    stats = " ".join(run.stdout.partition("CUSTOM STATS")[2].split())
    assert "judge_url: http://a judge_urls: a: http://a b: http://b" in stats, run.stdout + run.stderr
