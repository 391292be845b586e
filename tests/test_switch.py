"""Switching the judge: the old one's pods are gone before the new one's come, and it comes back if the new one does not start."""

import contextlib
import json
import re
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import lease, parking
from delivering import NAMESPACE, Run, act, deliver, local
from test_interrupted import differences, state, wait_until

PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
JUDGE = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/judge-vllm"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/modelyard"
LARGE_NODE = "/api/v1/nodes/gpu-vllm-large-1"
ROLES = ("vllm_judge",)


def connection(cluster) -> dict:
    return {"kubeconfig": str(cluster.kubeconfig)}


def switch(cluster, variant: str, inventory: str = "judge", check_mode: bool = False, **variables) -> Run:
    """Do what playbooks/switch.yml does: its actions, in this process."""
    run, these = Run(), {"connection": connection(cluster)}
    found = local(cluster, ROLES, **{"vllm_judge_variant": variant, **variables})
    try:
        first = act("switch", run.said, check_mode, rendered=found, variant=variant, inventory=inventory, **these)
    except AnsibleActionFail as error:
        run.failed = error.message
        return run
    run.changed = first["changed"]
    done = deliver(first["rendered"], these["connection"], check_mode)
    run.said += done.said
    run.plan = done.plan
    if not done.failed:
        run.said.append(first["told"])
        return run
    back = act("switch", run.said, rendered=first["rendered"], back=first, cause=done.failed, **these)
    again = deliver(back["rendered"], these["connection"])
    run.said += again.said
    run.failed = again.failed or back["cause"]
    return run


def pods(cluster, app: str = "judge-vllm") -> list[dict]:
    return [pod for pod in cluster.api("GET", PODS)["items"] if pod["metadata"]["labels"].get("app") == app]


def uids(cluster, app: str) -> list[str]:
    return [pod["metadata"]["uid"] for pod in pods(cluster, app)]


def profile(cluster) -> str:
    """The hardware profile of the judge that is there."""
    return cluster.api("GET", JUDGE)["metadata"]["annotations"]["modelyard/profile"]


@pytest.fixture(scope="module")
def deployed(cluster):
    """A platform with a judge."""
    cluster.reset()
    assert not deliver(local(cluster), connection(cluster)).failed
    return cluster


@pytest.fixture
def judge(deployed):
    """The same before each test, whatever the last one left."""
    deployed.api("PATCH", LARGE_NODE, {"spec": {"unschedulable": None}})
    assert not deliver(local(deployed, ROLES), connection(deployed)).failed
    wait_until(lambda: len(pods(deployed)) == 1)
    return deployed


@contextlib.contextmanager
def held(cluster):
    """Keep the judge's pod from going."""
    (pod,) = pods(cluster)
    path = f"{PODS}/{pod['metadata']['name']}"
    cluster.api("PATCH", path, {"metadata": {"finalizers": ["example.com/held"]}})
    try:
        yield
    finally:
        cluster.api("PATCH", path, {"metadata": {"finalizers": None}})


def test_the_old_pods_are_gone_before_the_new_ones_come(judge):
    before, vllm = state(judge), uids(judge, "vllm")
    (old,) = uids(judge, "judge-vllm")
    found: list[Run] = []
    with held(judge):
        thread = threading.Thread(target=lambda: found.append(switch(judge, "judge-large")))
        thread.start()
        wait_until(lambda: pods(judge)[0]["metadata"].get("deletionTimestamp"))
        time.sleep(1)
        # It is on its way out, and holds its GPU: nothing of the new one is there.
        assert uids(judge, "judge-vllm") == [old]
        assert profile(judge) == "gpu-vllm"
        note = json.loads(judge.api("GET", JUDGE)["metadata"]["annotations"]["modelyard/switch"])
        assert (note["to"], note["replicas"]) == ("judge-large", 1)
        assert judge.api("GET", LEASE)["spec"]["holderIdentity"]
    thread.join(60)
    (run,) = found
    assert not run.failed
    assert "scale Deployment ml-models/judge-vllm from 1 to 0" in run.text
    assert "taking back" not in run.text
    assert run.said[-1] == (
        "The inventory has vllm_judge_variant: judge. Set it to judge-large, or the next run of site.yml brings judge back."
    )
    live = judge.api("GET", JUDGE)
    assert (profile(judge), live["status"]["readyReplicas"]) == ("gpu-vllm-large", 1)
    assert "modelyard/switch" not in live["metadata"]["annotations"]
    assert uids(judge, "vllm") == vllm
    assert not judge.api("GET", LEASE)["spec"]["holderIdentity"]

    again = switch(judge, "judge-large")
    assert (again.changed, again.plan["changes"]) == (False, [])
    # The same as a run of site.yml makes of it, and back.
    large = state(judge)
    assert not deliver(local(judge, ROLES, vllm_judge_variant="judge-large"), connection(judge)).plan["changes"]
    assert state(judge) == large
    assert not switch(judge, "judge", "judge-large").failed
    assert differences(state(judge), before) == []


def test_one_that_does_not_start_leaves_what_was_there(judge):
    # Edited by hand, which stays: it is brought back as it was, not as the inventory has it.
    judge.kubectl("-n", NAMESPACE, "set", "env", "deployment/judge-vllm", "A=b")
    wait_until(lambda: judge.api("GET", JUDGE)["status"].get("updatedReplicas") == 1 and len(pods(judge)) == 1)
    before, vllm = state(judge), uids(judge, "vllm")
    judge.api("PATCH", LARGE_NODE, {"spec": {"unschedulable": True}})
    done = judge.playbook("switch", "-e", "switch_variant=judge-large", "-e", "apply_capacity_timeout=0", check=False)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2, text
    assert re.search(
        r"Deployment ml-models/judge-vllm is not rolled out: no node took its pod in 0 s .* So it was taken back, and what runs "
        r"is what ran before: judge-vllm \(TheBloke/Mistral-7B-Instruct-v0.2-AWQ\)\. PLAY RECAP",
        text,
    ), text
    found = state(judge)
    # What kubectl had is ours now.
    for one in (found, before):
        for item in one.values():
            del item["managers"]
    assert differences(found, before) == []
    assert judge.api("GET", JUDGE)["status"]["readyReplicas"] == 1
    assert uids(judge, "vllm") == vllm


def test_a_pod_that_stays_brings_everything_back(judge):
    quick = {"vllm_judge_drain_seconds": 0, "vllm_judge_termination_grace_seconds": 1}
    assert not deliver(local(judge, ROLES, **quick), connection(judge)).failed
    before = state(judge)
    with held(judge):
        run = switch(judge, "judge-large", apply_margin=0, **quick)
    assert "example.com/held" in run.failed
    wait_until(lambda: judge.api("GET", JUDGE)["status"].get("readyReplicas") == 1)
    assert differences(state(judge), before) == []


def test_a_variant_of_another_name_comes_when_the_old_one_is_gone(judge):
    before = state(judge)
    other = {"vllm_judge_variants": {"other": {"name": "judge-other", "hardware_profile": "gpu-vllm"}}}
    run = switch(judge, "other", **other)
    assert not run.failed
    moments = [
        "scale Deployment ml-models/judge-vllm from 1 to 0",
        "create Deployment ml-models/judge-other",
        "prune Deployment ml-models/judge-vllm",
    ]
    places = [run.text.index(moment) for moment in moments]
    assert places == sorted(places)
    assert len(pods(judge, "judge-other")) == 1
    assert judge.api("GET", JUDGE) == {}
    assert not switch(judge, "judge", "other").failed
    assert differences(state(judge), before) == []
    # A parked one stays so by the other name, also with the next deploy.
    these = {"connection": connection(judge), "rendered": local(judge, ROLES)}
    act("park", [], reason="weekend", **these)
    note = parking.read(judge.api("GET", JUDGE))
    assert not switch(judge, "other", **other).failed
    renamed = JUDGE.replace("judge-vllm", "judge-other")
    assert parking.read(judge.api("GET", renamed)) == note
    assert pods(judge, "judge-other") == []
    run = deliver(local(judge, ROLES, vllm_judge_variant="other", **other), these["connection"])
    assert not run.plan["changes"], run.text
    assert parking.read(judge.api("GET", renamed)) == note
    assert not switch(judge, "judge", "other").failed
    assert parking.read(judge.api("GET", JUDGE)) == note
    act("wake", [], **these)
    assert differences(state(judge), before) == []


def test_what_changes_while_a_switch_waits_for_the_lock_counts(judge, monkeypatch):
    acquire, meanwhile = lease.Lock.acquire, {}

    def late(self, *args):
        judge.api("PATCH", f"{JUDGE}?fieldManager=kubectl-edit", {"metadata": meanwhile})
        judge.api("PATCH", LEASE, {"metadata": {"annotations": {"example.com/run": json.dumps(meanwhile)}}})
        return acquire(self, *args)

    monkeypatch.setattr(lease.Lock, "acquire", late)
    # An evaluation begins.
    until = (datetime.now(UTC) + timedelta(hours=1)).strftime(parking.TIME)
    note = json.dumps({"by": "ann@laptop", "since": until, "until": until, "process": ""})
    meanwhile["annotations"] = {parking.GATE: note}
    (uid,) = uids(judge, "judge-vllm")
    run = switch(judge, "judge-large")
    assert "the judge is awake for an evaluation of ann@laptop" in run.failed
    assert uids(judge, "judge-vllm") == [uid]
    assert not judge.api("GET", LEASE)["spec"]["holderIdentity"]
    # Somebody edits it: going back brings that back.
    judge.api("PATCH", JUDGE, {"metadata": {"annotations": {parking.GATE: None}}})
    meanwhile.update(annotations={}, labels={"edited": "meanwhile"})
    found = local(judge, ROLES, vllm_judge_variant="judge-large")
    these = {"rendered": found, "variant": "judge-large", "inventory": "judge", "connection": connection(judge)}
    saved = act("switch", [], **these)["saved"]
    assert [item["metadata"]["labels"].get("edited") for item in saved if item["kind"] == "Deployment"] == ["meanwhile"]


def test_what_is_refused_or_only_looked_at_touches_nothing(judge):
    before = judge.resource_versions()
    run = switch(judge, "judge-large", check_mode=True)
    assert "would scale Deployment ml-models/judge-vllm to 0" in run.text
    assert "update Deployment ml-models/judge-vllm" in run.text
    run = switch(judge, "judge-large", vllm_judge_node_selector={"workload": "gpu-vllm"})
    assert run.failed.startswith("cluster local: Nothing was applied.")
    assert judge.resource_versions() == before
