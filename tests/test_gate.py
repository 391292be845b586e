"""The judge is awake for an evaluation and parked after it, whatever becomes of the run; at the latest by the cluster itself."""

import json
import os
import random
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    client,
    deadline,
    gating,
    parked,
    parking,
    rollout,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from delivering import NAMESPACE, act, deliver, local
from test_interrupted import kill, no_workers_left, wait_until  # noqa: F401 (a fixture of all tests)

JUDGE = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/judge-vllm"
CRON_JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/cronjobs"
ACCOUNTS = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"


@pytest.fixture(scope="module")
def found(cluster):
    """A platform with a judge, and its rendering."""
    cluster.reset()
    rendered = local(cluster)
    assert not deliver(rendered, {"kubeconfig": str(cluster.kubeconfig)}).failed
    return rendered


@pytest.fixture
def judge(found, cluster):
    """The judge's part, parked for the night."""
    part = next(part for part in found["parts"] if part["name"] == "judge-vllm")
    parked.park(client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), part, "ann@laptop", "the night")
    wait_until(lambda: not judges(cluster))
    return part


def judges(cluster) -> list[dict]:
    return [pod for pod in cluster.api("GET", PODS)["items"] if pod["metadata"]["labels"].get("app") == "judge-vllm"]


def live(cluster) -> dict:
    return cluster.api("GET", JUDGE)


def replicas(cluster) -> int:
    return live(cluster)["spec"]["replicas"]


def assert_parked(cluster) -> None:
    """As it was before: by whom, and why; nothing of the evaluation is left."""
    found = live(cluster)
    note = parking.read(found)
    assert (note["by"], note["reason"], note["replicas"]) == ("ann@laptop", "the night", 1)
    assert gating.NOTE not in found["metadata"]["annotations"]
    wait_until(lambda: not cluster.api("GET", CRON_JOBS)["items"])


def evaluate(cluster, found, said=None, check_mode=False, **options):
    """Call the action; a failure is given as its message."""
    given = {"connection": {"kubeconfig": str(cluster.kubeconfig)}, "rendered": found, **options}
    try:
        return act("gate", [] if said is None else said, check_mode, **given)
    except AnsibleActionFail as error:
        return error.message


def test_a_command_finds_the_judge_awake_and_it_is_parked_again(cluster, found, judge, tmp_path, monkeypatch):
    seen, said = tmp_path / "seen", []
    look = f"kubectl --kubeconfig {cluster.kubeconfig} -n {NAMESPACE} get -o json"
    command = f'{look} deployment/judge-vllm cronjob/judge-vllm-gate > {seen}; echo "$JUDGE_MODEL at $JUDGE_URL"; echo hf_{"a" * 30}'
    monkeypatch.setenv("PATH", f"{cluster.bin}{os.pathsep}{os.environ['PATH']}")
    done = evaluate(cluster, found, said, command=command)
    assert done["changed"]
    deployment, cron_job = json.loads(seen.read_text())["items"]
    assert deployment["status"]["readyReplicas"] == 1
    note = json.loads(deployment["metadata"]["annotations"][gating.NOTE])
    until = datetime.fromisoformat(note["until"])
    assert cron_job["spec"]["schedule"] == f"{until.minute} {until.hour} {until.day} {until.month} *"
    assert timedelta(hours=2) < until - datetime.now(UTC) < timedelta(hours=2, minutes=7)
    assert any(line.startswith("TheBloke/Mistral-7B-Instruct-v0.2-AWQ at http://127.0.0.1:") for line in said), said
    assert "(hidden)" in said
    assert said[-1] == "judge-vllm is parked"
    assert_parked(cluster)
    # The account and its rights go with the CronJob.
    wait_until(lambda: not cluster.api("GET", f"{ACCOUNTS}/judge-vllm-gate"))


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (
            "echo one; echo two >&2; exit 3",
            "gate_command ended with status 3; its last lines:\n  | one\n  | two\njudge-vllm is parked.",
        ),
        (
            "echo begun; sleep 99 & sleep 99",
            "gate_command did not end in 1 s; its last lines:\n  | begun\njudge-vllm is parked.",
        ),
    ],
    ids=["fails", "takes too long"],
)
def test_a_command_that_fails_leaves_the_judge_parked(cluster, found, judge, command, told):
    assert evaluate(cluster, found, command=command, timeout=1) == f"cluster local: {told}"
    assert_parked(cluster)


def test_a_judge_that_does_not_start_is_parked(cluster, found, judge):
    nodes = ["gpu-vllm-1", "gpu-vllm-2"]
    for node in nodes:
        cluster.api("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": True}})
    try:
        quick = {
            **found,
            "settings": {**found["settings"], "apply": {**found["settings"]["apply"], "capacity_timeout": 0}},
        }
        told = evaluate(cluster, quick, command="exit 9")
    finally:
        for node in nodes:
            cluster.api("PATCH", f"/api/v1/nodes/{node}", {"spec": {"unschedulable": None}})
    assert "no node took its pod" in told
    assert told.endswith("\njudge-vllm is parked.")
    assert_parked(cluster)


def test_without_a_command_it_stays_awake_until_the_cluster_parks_it(cluster, found, judge):
    done = evaluate(cluster, found)
    assert (done["url"], replicas(cluster)) == (f"http://judge-vllm-service.{NAMESPACE}.svc:8000", 1)
    # A deploy leaves it so, also where the inventory has none of its pods.
    direct = {"kubeconfig": str(cluster.kubeconfig)}
    assert deliver(found, direct).plan["changes"] == []
    assert not deliver(local(cluster, vllm_judge_parked=True), direct).failed
    assert replicas(cluster) == 1
    deliver(found, direct)
    large = local(cluster, ("vllm_judge",), vllm_judge_variant="judge-large")
    with pytest.raises(AnsibleActionFail, match=r"is awake for an evaluation of .*, until .*: wait for that"):
        act("switch", [], connection=direct, rendered=large, variant="judge-large", inventory="judge")
    told = evaluate(cluster, found, command="exit 9")
    assert (
        f"is awake for another evaluation, of {json.loads(live(cluster)['metadata']['annotations'][gating.NOTE])['by']}"
        in told
    )
    assert replicas(cluster) == 1

    # What the CronJob's pod does, with its account's rights: park, and clean up; and no more than that.
    job = cluster.api("GET", f"{CRON_JOBS}/judge-vllm-gate")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    me = [f"--as=system:serviceaccount:{NAMESPACE}:{pod['serviceAccountName']}"]
    for tried in (
        (
            "-n",
            NAMESPACE,
            "patch",
            "deployment",
            "vllm",
            "--subresource=scale",
            "--type=merge",
            '--patch={"spec":{"replicas":0}}',
        ),
        ("-n", NAMESPACE, "patch", "deployment", "judge-vllm", "--type=merge", '--patch={"spec":{"paused":true}}'),
        ("-n", NAMESPACE, "get", "pods"),
    ):
        assert "is forbidden" in cluster.kubectl(*tried, *me, check=False).stderr
    (park,), (clean,) = pod["initContainers"], pod["containers"]
    for container in (park, clean):
        assert container["command"][0] == "kubectl"
        cluster.kubectl(*container["command"][1:], *me)
    note = parking.read(live(cluster))
    assert (note["by"], note["reason"]) == ("ann@laptop", "the night")
    assert cluster.api("GET", CRON_JOBS)["items"] == []
    # A run of site.yml leaves it so.
    assert deliver(found, {"kubeconfig": str(cluster.kubeconfig)}).plan["changes"] == []
    assert evaluate(cluster, found, command="true")["changed"]
    assert_parked(cluster)


def test_a_judge_that_somebody_else_woke_stays_awake_unless_asked(cluster, found, judge):
    parked.wake(client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), judge)
    wait_until(lambda: live(cluster)["status"].get("readyReplicas") == 1)
    before, said = cluster.resource_versions(), []
    assert not evaluate(cluster, found, said, command="true")["changed"]
    assert said[-1] == "judge-vllm was awake before, and is left as it is"
    after = cluster.resource_versions()
    assert {key for key in after if after[key] != before.get(key)} <= {f"Lease/{NAMESPACE}/modelyard"}
    assert evaluate(cluster, found, command="true", park="always")["changed"]
    assert parking.read(live(cluster))["reason"] == "after an evaluation"


def test_what_others_did_while_a_run_waited_for_the_lock_counts(cluster, found, judge, monkeypatch):
    api = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})

    def gate(by="ann"):
        options = {"by": by, "process": "", "image": "registry.example/kubectl:1", "timeout": 60, "always": False}
        return gating.Gate(api, found, judge, options, lambda _: None)

    def schedule():
        return [job["spec"]["schedule"] for job in cluster.api("GET", CRON_JOBS)["items"]]

    # Two see it parked: the second neither parks it nor moves the deadline.
    first, second = gate(), gate("bob")
    second.options["timeout"] = 7200
    first.open()
    there = schedule()
    with pytest.raises(Failure, match="is awake for another evaluation, of ann, until "):
        second.open()
    second.close()
    assert (replicas(cluster), schedule()) == (1, there)
    first.close()
    assert_parked(cluster)

    # Parked when it was looked at, and awake when it is to be woken, before the deadline is there or just after.
    arrange = deadline.arrange

    def wakes_meanwhile(*args):
        until = arrange(*args)
        parked.wake(api, judge)
        return until

    for late in (False, True):
        parked.park(api, judge, "ann@laptop", "the night")
        waiting = gate()
        with monkeypatch.context() as patched:
            if late:
                patched.setattr(deadline, "arrange", wakes_meanwhile)
            else:
                parked.wake(api, judge)
            waiting.open()
        waiting.close()
        assert (waiting.ours, replicas(cluster), schedule()) == (False, 1, [])

    # Awake when it was looked at, and parked since.
    waiting = gate()
    parked.park(api, judge, "ann@laptop", "the night")
    waiting.open()
    assert (replicas(cluster), len(schedule())) == (1, 1)
    waiting.close()
    assert_parked(cluster)


@pytest.mark.parametrize("action", ["gate", "wake"])
def test_a_judge_that_is_parked_while_a_run_waits_for_it_has_not_answered(cluster, found, judge, monkeypatch, action):
    """As by a schedule, or by kubectl: neither takes the lock."""
    wait = rollout.Watch.wait

    def parked_meanwhile(self, items):
        cluster.api("PATCH", f"{JUDGE}/scale", {"spec": {"replicas": 0}})
        return wait(self, items)

    monkeypatch.setattr(rollout.Watch, "wait", parked_meanwhile)
    options = {"command": "echo evaluated"} if action == "gate" else {}
    these, said = {"connection": {"kubeconfig": str(cluster.kubeconfig)}, "rendered": found}, []
    with pytest.raises(AnsibleActionFail, match="judge-vllm has no pods any more: "):
        act(action, said, **these, **options)
    assert "evaluated" not in said
    assert replicas(cluster) == 0


def test_what_others_did_during_an_evaluation_counts_at_its_end(cluster, found, judge):
    api = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})

    def opened(by):
        options = {"by": by, "process": "", "image": "registry.example/kubectl:1", "timeout": 60, "always": False}
        gate = gating.Gate(api, found, judge, options, lambda _: None)
        gate.open()
        return gate

    first = opened("ann")
    act("park", [], reason="weekend", end="3d", connection={"kubeconfig": str(cluster.kubeconfig)}, rendered=found)
    note = parking.read(live(cluster))
    # The next one has it: it is not the first one's to park.
    second = opened("bob")
    assert "awake for another evaluation by now, of bob" in first.close()
    assert (replicas(cluster), len(cluster.api("GET", CRON_JOBS)["items"])) == (1, 1)
    second.close()
    assert (note["reason"], parking.read(live(cluster))) == ("weekend", note)
    # Parked by a person in the middle of it.
    first = opened("ann")
    parked.park(api, judge, "bob", "holiday", "2099-01-01T00:00:00Z")
    gating.forget(api, judge)
    first.close()
    after = parking.read(live(cluster))
    assert (after["by"], after["reason"], after["until"]) == ("bob", "holiday", "2099-01-01T00:00:00Z")


def test_an_evaluation_whose_time_is_over_keeps_no_deploy_from_the_number_of_pods(cluster, found, judge):
    """The cluster could not run what would have parked it; or has, and somebody has started it since."""
    api, direct = (client.Cluster({"kubeconfig": str(cluster.kubeconfig)}), {"kubeconfig": str(cluster.kubeconfig)})
    options = {"by": "ann", "process": "", "image": "registry.example/kubectl:1", "timeout": 60, "always": False}
    gating.Gate(api, found, judge, options, lambda _: None).open()
    note = json.loads(live(cluster)["metadata"]["annotations"][gating.NOTE])
    over = {gating.NOTE: json.dumps({**note, "until": "2026-01-01T00:00:00Z"})}
    cluster.api("PATCH", f"{JUDGE}?fieldManager={parking.MANAGER}", {"metadata": {"annotations": over}})
    assert "spec.replicas 1 -> 0" in deliver(local(cluster, vllm_judge_parked=True), direct).text
    assert replicas(cluster) == 0
    assert not {gating.NOTE, parking.NOTE} & live(cluster)["metadata"]["annotations"].keys()
    gating.forget(api, judge)
    deliver(found, direct)


def test_whoever_parks_or_wakes_it_ends_the_deadline(cluster, found, judge):
    direct = {"connection": {"kubeconfig": str(cluster.kubeconfig)}, "rendered": found}
    for action in ("wake", "park"):
        evaluate(cluster, found)
        act(action, [], **direct)
        assert gating.NOTE not in live(cluster)["metadata"]["annotations"]
        assert cluster.api("GET", CRON_JOBS)["items"] == []
        assert replicas(cluster) == (action == "wake")
        act("park", [], **direct)


@pytest.mark.parametrize("action", ["wake", "park"])
def test_a_deadline_that_a_killed_run_left_alone_goes_too(cluster, found, judge, monkeypatch, action):
    """Killed between the deadline and waking, or between parking and the deadline's end: nothing is noted on the judge."""
    api = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})
    deadline.arrange(api, judge, found, "registry.example/kubectl:1", datetime.now(UTC) + timedelta(hours=1))
    if action == "park":
        parked.wake(api, judge)
    act(action, [], connection={"kubeconfig": str(cluster.kubeconfig)}, rendered=found)
    assert cluster.api("GET", CRON_JOBS)["items"] == []
    # Without the right to delete CronJobs, where there is none to be known of.
    monkeypatch.setattr(api, "request", refusing(api.request))
    gating.forget(api, judge)


def refusing(request):
    """Answer as to a credential that may delete nothing."""

    def answer(method, *args, **more):
        if method == "DELETE":
            raise client.ApiError(403, b"{}")
        return request(method, *args, **more)

    return answer


def test_what_can_not_be_evaluated_is_refused_before_anything_starts(cluster, found, judge):
    before = cluster.resource_versions()
    said: list[str] = []
    evaluate(cluster, found, said, check_mode=True, command="true")
    assert "would wake judge-vllm, parked by ann@laptop" in said[0]
    assert said[0].endswith("run true, and park it")
    assert "gate_server is 'jugde-vllm': unknown, did you mean 'judge-vllm'?" in evaluate(
        cluster, found, server="jugde-vllm"
    )
    for timeout in (-301, 0, 2592001):
        assert f"gate_timeout is {timeout}: must be a whole number from 1 to 2592000" in evaluate(
            cluster, found, timeout=timeout
        )
    by_git = {**found, "cluster": {**found["cluster"], "delivery": "gitops"}}
    assert "would be started again by Argo CD" in evaluate(cluster, by_git, command="true")
    assert cluster.resource_versions() == before


def test_cut_off_at_any_moment_the_judge_is_parked_or_will_be(cluster, found, judge):
    """By Ctrl-C, by a kill of the playbook, of which its worker learns, and by one of everything: then the CronJob is there."""
    seed = int(os.environ.get("INTERRUPT_SEED") or random.randrange(2**32))
    source = random.Random(seed)
    command = ["-e", json.dumps({"gate_command": "sleep 99"})]
    for how in ("SIGINT", "SIGKILL", "everything"):
        process = cluster.start_playbook("gate", *command)
        wait_until(lambda: cluster.api("GET", CRON_JOBS)["items"])
        moment = source.uniform(0, 2)
        print(f"INTERRUPT_SEED={seed}: {how} {moment:.2f} s after the first write")  # noqa: T201
        time.sleep(moment)
        if how == "SIGINT":
            os.killpg(process.pid, signal.SIGINT)
            process.communicate(timeout=60)
        else:
            kill(process, everything=how == "everything")
        if how == "everything":
            assert not replicas(cluster) or cluster.api("GET", CRON_JOBS)["items"]
            evaluate(cluster, found, command="true")
        wait_until(lambda: not cluster.api("GET", CRON_JOBS)["items"])
        assert_parked(cluster)
