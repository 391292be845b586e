"""What counts as rolled out, as failed, and as a secret to mask."""

from types import SimpleNamespace

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import rollout
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity


def deployment(replicas=2, generation=3, **status):
    counts = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2, "observedGeneration": 3}
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas, "progressDeadlineSeconds": 100},
        "status": {**counts, **status},
    }


def pod(phase="Pending", **container):
    return {"status": {"phase": phase, "containerStatuses": [{"name": "c", "restartCount": 0, **container}]}}


def test_complete():
    assert rollout.is_complete(deployment())


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 4},
        {"updatedReplicas": 1},
        {"readyReplicas": 1},
        {"availableReplicas": 1},
        {"replicas": 3},
        {"observedGeneration": 2},
    ],
    ids=str,
)
def test_incomplete(change):
    given = deployment()
    for key, value in change.items():
        (given["metadata"] if key == "generation" else given["status"])[key] = value
    assert not rollout.is_complete(given)


def test_a_ready_pod_must_stay_so_before_it_counts():
    given = deployment(readyReplicas=2, availableReplicas=1)
    given["spec"]["minReadySeconds"] = 5
    assert not rollout.is_complete(given)
    assert rollout._progress(given) == "2 of 2 ready, 1 of them for less than 5 s (minReadySeconds)"
    assert rollout._progress(deployment()) == "2 of 2 ready"


def test_a_parked_workload_is_complete_without_counts():
    given = deployment(replicas=0)
    given["status"] = {"observedGeneration": 3}
    assert rollout.is_complete(given)


def test_the_budget_is_longer_than_the_deadline_and_grows_with_replicas():
    assert rollout.budget_seconds(deployment(replicas=1), 20) == 120
    assert rollout.budget_seconds(deployment(replicas=3), 20) == 320
    assert rollout.budget_seconds(deployment(replicas=0), 20) == 120


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (pod(state={"waiting": {"reason": "ContainerCreating"}}), ("", "")),
        (pod(state={"running": {}}, ready=True, restartCount=9), ("", "")),
        (pod(state={"waiting": {"reason": "CreateContainerConfigError"}}), ("c", "CreateContainerConfigError")),
        (pod(state={"waiting": {"reason": "ImagePullBackOff"}}), ("c", "ImagePullBackOff")),
        (pod(state={"waiting": {"reason": "CrashLoopBackOff"}}, restartCount=1), ("c", "CrashLoopBackOff")),
        (
            pod(
                state={"running": {}},
                restartCount=3,
                lastState={"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            ),
            ("c", "OOMKilled"),
        ),
        (pod(state={"running": {}}, restartCount=1, lastState={"terminated": {"reason": "Error"}}), ("", "")),
        (pod(state={"terminated": {"reason": "Error"}}), ("", "")),
        (pod(state={"terminated": {"reason": "Error"}}, restartCount=1), ("c", "Error")),
        (pod(state={"terminated": {"reason": "Completed"}}, restartCount=1), ("c", "ended, with exit code 0")),
        (pod(state={"terminated": {"reason": "Completed"}}, restartCount=1, ready=True), ("", "")),
        ({"status": {"phase": "Failed", "reason": "Evicted"}}, ("", "Evicted")),
    ],
)
def test_fault(given, found):
    assert rollout.fault(given) == found


def test_an_init_container_comes_first():
    given = pod(state={"waiting": {"reason": "PodInitializing"}})
    given["status"]["initContainerStatuses"] = [
        {"name": "load", "restartCount": 4, "state": {"terminated": {"reason": "Error"}}}
    ]
    assert rollout.fault(given) == ("load", "Error")


@pytest.mark.parametrize(
    "line",
    [
        "using hf_abcdefghijklmnopqrstuvwxyz",
        "key AKIAABCDEFGHIJKLMNOP",
        "Authorization: Bearer abcdefghijklmnopqrstuv",
        "AWS_SECRET_ACCESS_KEY=abc123",
        "password: hunter2",
    ],
)
def test_redact_hides_credentials(line):
    text = rollout.redact(line)
    assert "(hidden)" in text
    assert not any(word in text for word in ("hf_abc", "AKIAABC", "abcdefghijklmnopqrstuv", "abc123", "hunter2"))


def test_redact_leaves_an_ordinary_line():
    line = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB; max_num_batched_tokens=2048"
    assert rollout.redact(line) == line


def test_an_error_far_above_the_end_of_a_log_is_told():
    """As MLServer's: its traceback, then an orderly end."""
    log = [
        "[mlserver][bad] INFO - Couldn't load model 'bad'. Model will be removed from registry.",
        "[mlserver] ERROR - Some of the models failed to load during startup!",
        "Traceback (most recent call last):",
        '  File "server.py", line 125, in start',
        "_pickle.UnpicklingError: pickle exhausted before end of frame",
        *[f"INFO: shutting down {number}" for number in range(rollout.LOG_LINES)],
    ]
    assert rollout.excerpt(log) == [log[0], log[1], log[4], *log[5:]]


def test_a_short_log_is_told_as_it_is():
    log = ["ERROR one", "two", "ERROR three"]
    assert rollout.excerpt(log) == log


def test_the_last_errors_are_enough():
    log = [*[f"ERROR {number}" for number in range(100)], *["end"] * rollout.LOG_LINES]
    assert rollout.excerpt(log)[: rollout.TELLING_LINES + 1] == [*log[100 - rollout.TELLING_LINES : 100], "end"]


def test_what_is_handed_on_of_deployments_gives_the_same_table(monkeypatch):
    notes = {"modelyard/profile": "gpu", "modelyard/parked": '{"by": "ann"}', "another": "x" * 1000}
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "n"}} for name in "ab"
    ]
    live = [{**deployment(), **item, "metadata": {**item["metadata"], "generation": 3}} for item in items]
    live[1]["spec"] = {"replicas": 0}
    live[1]["status"] = {"observedGeneration": 3}
    for one in live:
        one["metadata"]["annotations"] = notes
        one["spec"] |= {"selector": {"matchLabels": {"app": "x"}}, "template": {}}
    found = rollout.known(items, {identity(one): one for one in live})
    monkeypatch.setattr(rollout, "_pods", lambda cluster, deployments: [[] for _ in deployments])
    nowhere = SimpleNamespace(now=None)
    assert rollout.table(nowhere, found) == rollout.table(nowhere, live)
    assert [row["ready"] for row in rollout.table(nowhere, found)] == ["2/2", "0/0 parked"]
    assert not any("another" in one["metadata"]["annotations"] or "template" in one["spec"] for one in found)


def test_of_deployments_that_are_not_all_rolled_out_nothing_is_handed_on():
    items = [
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "n"}} for name in "ab"
    ]
    done, late = ({**deployment(generation=number), **item} for number, item in zip((3, 4), items, strict=True))
    for one, number in ((done, 3), (late, 4)):
        one["metadata"] = {**one["metadata"], "generation": number}
    assert rollout.known(items, {identity(done): done}) == []
    assert rollout.known(items, {identity(one): one for one in (done, late)}) == []
