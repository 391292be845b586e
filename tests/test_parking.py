"""Parking and waking a server, on a real API server: the note and the number of pods, deploys in between, cut off anywhere."""

from __future__ import annotations

import re

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, parked, parking
from delivering import NAMESPACE, deliver, rendering

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/d"


def server(replicas: int | None = 2, image: str = "registry.example/a:1") -> dict:
    """Give a server's Deployment."""
    labels = {"app": "d"}
    pod = {
        "nodeSelector": {"workload": "cpu-compute"},
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "c", "image": image}],
    }
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": pod},
        **({} if replicas is None else {"replicas": replicas}),
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


@pytest.fixture
def run(cluster, clean_platform):
    """Do what the role apply does."""

    def run_(*objects: dict, **variables):
        connection = {"kubeconfig": str(cluster.kubeconfig)}
        found = rendering(*objects, api_server=cluster.url, component="vllm-judge", **variables)
        found["parts"][0]["needs"] = {"awake": 1}
        done = deliver(found, connection)
        assert not done.failed, done.failed
        return done, found["parts"][0]

    return run_


@pytest.fixture
def api(cluster):
    """Give the project's own connection."""
    return client.Cluster({"kubeconfig": str(cluster.kubeconfig)})


def owners(live: dict) -> set[str]:
    """Name those who hold the number of pods."""
    entries = live["metadata"]["managedFields"]
    return {entry["manager"] for entry in entries if "f:replicas" in entry["fieldsV1"].get("f:spec", {})}


def test_parking_notes_and_scales_and_waking_leaves_nothing_behind(run, api, cluster):
    _, part = run(server())
    before = cluster.api("GET", DEPLOYMENT)
    live, changed = parked.park(api, part, "ann@laptop", "weekend", "2099-01-01T00:00:00Z")
    note = parking.read(live)
    assert changed
    assert (note["by"], note["reason"], note["until"], note["replicas"]) == (
        "ann@laptop",
        "weekend",
        "2099-01-01T00:00:00Z",
        2,
    )
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", note["since"])
    assert owners(live) == {parking.MANAGER}
    # Once more: nothing; with another reason only that.
    assert parked.park(api, part, "bob")[1] is False
    again = parking.read(parked.park(api, part, "bob", "holiday")[0])
    assert again == {**note, "by": "bob", "reason": "holiday"}
    woken, changed = parked.wake(api, part)
    assert changed
    assert woken["spec"] == before["spec"]
    assert parking.NOTE not in woken["metadata"]["annotations"]
    assert owners(woken) == {"modelyard"}
    assert parked.wake(api, part)[1] is False
    assert "nothing to change" in run(server())[0].text
