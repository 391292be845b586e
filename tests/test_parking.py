"""Parking and waking a server, on a real API server: the note and the number of pods, deploys in between, cut off anywhere."""

from __future__ import annotations

import contextlib
import os
import re
from datetime import UTC, datetime, timedelta

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, lease, parked, parking, switching
from delivering import NAMESPACE, act, deliver, local, rendering
from test_interrupted import wait_until

DEPLOYMENT = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/d"


def server(replicas: int | None = 2, image: str = "registry.example/a:1", schedule: str = "") -> dict:
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
    metadata = {"name": "d", **({"annotations": {parking.SCHEDULE: schedule}} if schedule else {})}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}


@pytest.fixture
def run(cluster, clean_platform):
    """Do what the role apply does."""

    def run_(*objects: dict, **variables):
        connection = {"kubeconfig": str(cluster.kubeconfig)}
        found = rendering(*objects, api_server=cluster.url, component="vllm-judge", **variables)
        found["parts"][0]["needs"] = {"awake": 1, "room": {}, "price_per_hour": None}
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


def test_a_deploy_leaves_a_parked_server_parked_and_changes_everything_else(run, api, cluster):
    _, part = run(server())
    parked.park(api, part, "ann@laptop", "weekend", "2026-01-01T00:00:00Z")
    note = parking.read(cluster.api("GET", DEPLOYMENT))
    done, part = run(server(replicas=3, image="registry.example/a:2"))
    live = cluster.api("GET", DEPLOYMENT)
    assert parking.read(live) == note
    assert live["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/a:2"
    assert "update Deployment ml-models/d: spec.template.spec.containers[c].image" in done.text
    assert "stops serving" not in done.text
    assert "replicas" not in done.plan["changes"][0]
    (row,) = done.rollout["workloads"]
    assert (row["ready"], row["parked"]) == ("0/0 parked", parking.told(note))
    assert f"d: parked by ann@laptop since {note['since']} until 2026-01-01T00:00:00Z: weekend" in done.said
    assert "It is left parked, though that is over: wake it with playbooks/wake.yml -e wake_servers=d" in done.text
    assert "nothing to change" in run(server(replicas=3, image="registry.example/a:2"))[0].text
    # As many as before; what the inventory has since comes with the next run.
    assert parked.wake(api, part)[0]["spec"]["replicas"] == 2
    assert "spec.replicas 2 -> 3" in run(server(replicas=3, image="registry.example/a:2"))[0].text
    assert owners(cluster.api("GET", DEPLOYMENT)) == {"modelyard"}


def test_a_server_that_the_inventory_parks_can_be_woken_until_the_next_deploy(run, api, cluster):
    _, part = run(server(replicas=0))
    assert parked.wake(api, part)[0]["spec"]["replicas"] == 1
    # Argo CD leaves what this manager holds.
    assert owners(cluster.api("GET", DEPLOYMENT)) == {parking.MANAGER}
    live, _ = parked.park(api, part, "ann@laptop")
    assert (live["spec"]["replicas"], parking.read(live)["replicas"]) == (0, 1)
    assert "nothing to change" in run(server(replicas=0))[0].text
    parked.wake(api, part)
    assert "taking back what modelyard-park" in run(server(replicas=0))[0].text
    live = cluster.api("GET", DEPLOYMENT)
    assert (live["spec"]["replicas"], parking.read(live), owners(live)) == (0, {}, {"modelyard"})


def test_a_schedule_that_parks_and_wakes_is_left_to_it(run, api, cluster):
    def scheduled(**more):
        return server(**more, schedule="park 0 20 * * 1-5")

    def scale(replicas):
        cluster.api("PATCH", f"{DEPLOYMENT}/scale?fieldManager={parking.MANAGER}", {"spec": {"replicas": replicas}})

    _, part = run(scheduled())
    scale(0)
    done, _ = run(scheduled())
    assert "nothing to change" in done.text
    assert "d: parked by its schedule: park 0 20 * * 1-5" in done.text
    scale(2)
    assert "nothing to change" in run(scheduled())[0].text
    # What the inventory says anew counts, also under a schedule.
    assert "spec.replicas 2 -> 3" in run(scheduled(replicas=3))[0].text
    # A person parks what the schedule has parked. Whoever starts it then has the note removed by the next run.
    scale(0)
    live, _ = parked.park(api, part, "ann@laptop")
    assert parking.read(live)["by"] == "ann@laptop"
    scale(3)
    assert "modelyard/parked" in run(scheduled(replicas=3))[0].text
    assert parking.NOTE not in cluster.api("GET", DEPLOYMENT)["metadata"]["annotations"]
    assert "nothing to change" in run(scheduled(replicas=3))[0].text
    # Without its schedule nobody would wake it.
    scale(0)
    assert "spec.replicas 0 -> 3" in run(server(replicas=3))[0].text


def test_an_autoscaled_server_has_its_fewest_pods_when_it_is_woken(run, api, cluster):
    _, part = run(server(replicas=None))
    cluster.api("PATCH", f"{DEPLOYMENT}?fieldManager=kube-controller-manager", {"spec": {"replicas": 5}})
    scaler = {"kind": "HorizontalPodAutoscaler"}
    parked.park(api, part, "ann@laptop")
    assert "nothing to change" in run(server(replicas=None))[0].text
    woken, _ = parked.wake(api, {**part, "objects": [*part["objects"], scaler], "needs": {"awake": 2}})
    assert woken["spec"]["replicas"] == 2
    assert owners(woken) == set()
    assert "nothing to change" in run(server(replicas=None))[0].text


def cut_off_switch(api, live: dict) -> None:
    """End a server's pods as switch.yml does, which is killed then."""
    note = {"by": "ann@laptop", "since": datetime.now(UTC).strftime(lease.SINCE_FORMAT), "to": "judge-large"}
    settings = {"field_manager": "modelyard", "margin": 60}
    switching.Emptying(api, settings, str, lambda: None).empty([live], [], note)


def test_a_server_is_parked_or_woken_whose_switch_was_cut_off(run, api, cluster):
    _, part = run(server())
    # What was noted before the switch does not count.
    parked.park(api, part, "ann@laptop")
    cluster.api("PATCH", f"{DEPLOYMENT}/scale?fieldManager=kubectl", {"spec": {"replicas": 2}})
    old = {"by": "ann@laptop", "since": "2026-01-01T00:00:00Z", "until": "", "reason": "", "replicas": 2}
    cluster.api("PATCH", DEPLOYMENT, {"metadata": {"annotations": {parking.NOTE: parking.write(old)}}})
    cut_off_switch(api, cluster.api("GET", DEPLOYMENT))
    assert parking.read(cluster.api("GET", DEPLOYMENT)) == {}
    live, _ = parked.park(api, part, "bob@laptop")
    assert parking.read(live)["by"] == "bob@laptop"
    run(server())
    live = cluster.api("GET", DEPLOYMENT)
    assert (live["spec"]["replicas"], parking.read(live)["by"]) == (0, "bob@laptop")
    assert parking.SWITCH not in live["metadata"]["annotations"]
    parked.wake(api, part)
    run(server())
    cut_off_switch(api, cluster.api("GET", DEPLOYMENT))
    live, _ = parked.wake(api, part)
    assert live["spec"]["replicas"]
    assert parking.SWITCH not in live["metadata"]["annotations"]


def test_an_autoscaled_server_that_nobody_would_start_is_started_by_the_next_deploy(run, api, cluster):
    """At zero an autoscaler does nothing."""

    def deployed(replicas: int, **more) -> None:
        run(server(replicas=None, **more))
        live = cluster.api("GET", DEPLOYMENT)
        assert live["spec"]["replicas"] == replicas
        run(server(replicas=None))
        assert owners(cluster.api("GET", DEPLOYMENT)) == set()
        assert "nothing to change" in run(server(replicas=None))[0].text

    # The inventory parks it no more.
    run(server(replicas=0))
    deployed(1)
    # A switch was cut off.
    live = cluster.api("PATCH", f"{DEPLOYMENT}?fieldManager=kube-controller-manager", {"spec": {"replicas": 3}})
    cut_off_switch(api, live)
    deployed(3)
    # The schedule that has parked it goes.
    run(server(replicas=None, schedule="park 0 20 * * 1-5"))
    cluster.api("PATCH", f"{DEPLOYMENT}/scale?fieldManager={parking.MANAGER}", {"spec": {"replicas": 0}})
    assert "nothing to change" in run(server(replicas=None, schedule="park 0 20 * * 1-5"))[0].text
    deployed(1)
    # By hand: that is meant.
    cluster.api("PATCH", f"{DEPLOYMENT}/scale?fieldManager=kubectl", {"spec": {"replicas": 0}})
    assert "nothing to change" in run(server(replicas=None))[0].text


class Cut(Exception):
    """The run ends here."""


def test_cut_off_anywhere_a_server_is_parked_with_its_note_or_awake(run, api, cluster, monkeypatch):
    spec = {"scaleTargetRef": {"name": "d"}, "triggers": [{"type": "cpu", "metadata": {"value": "80"}}]}
    scaler = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "spec": spec}
    scaler["metadata"] = {"name": "d", "namespace": NAMESPACE}
    _, part = run(server())
    part = {**part, "objects": [*part["objects"], scaler], "needs": {"awake": 2}}
    cluster.api("POST", f"/apis/keda.sh/v1alpha1/namespaces/{NAMESPACE}/scaledobjects", scaler)
    request, left = api.request, 0

    def cut(method, *args, **more):
        nonlocal left
        left -= method == "PATCH"
        if left < 0:
            raise Cut
        return request(method, *args, **more)

    def state():
        live = cluster.api("GET", DEPLOYMENT)
        paused = (api.get(scaler)["metadata"].get("annotations") or {}).get(parked.PAUSED)
        return live["spec"]["replicas"], bool(parking.read(live)), paused

    acts = [
        (lambda: parked.park(api, part, "ann@laptop"), (0, True, "0")),
        (lambda: parked.wake(api, part), (2, False, None)),
    ]
    seen = set()
    for writes in range(4):
        for work, there in acts:
            left = writes
            monkeypatch.setattr(api, "request", cut)
            with contextlib.suppress(Cut):
                work()
            monkeypatch.setattr(api, "request", request)
            seen.add(state())
            work()
            assert state() == there
    # Half-way: still awake, parked and not yet held, parked and held no more.
    assert seen == {(2, False, None), (0, True, None), (0, True, "0")}
    assert owners(cluster.api("GET", DEPLOYMENT)) == {"modelyard"}


# --- The actions, and the playbooks ----------------------------------------------------------------


@pytest.fixture
def judge(cluster, clean_platform):
    """Deploy vLLM and the judge; returns what the actions take."""
    found = local(cluster, ("vllm", "vllm_judge"), vllm_judge_variant="judge")
    these = {"connection": {"kubeconfig": str(cluster.kubeconfig)}, "rendered": found}
    assert not deliver(found, these["connection"]).failed
    return these


def pods(cluster, app: str) -> set[str]:
    """Give the UIDs of a server's pods, those aside that were evicted."""
    items = cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{app}")["items"]
    return {item["metadata"]["uid"] for item in items if item["status"]["phase"] != "Failed"}


def evict(cluster, app: str) -> None:
    """End a server's pod as its node does that has no room: it stays, and another one comes."""
    (pod,) = cluster.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{app}")["items"]
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}/status"
    cluster.api("PATCH", path, {"status": {"phase": "Failed", "reason": "Evicted"}})
    deployment = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/{app}"
    wait_until(lambda: pods(cluster, app) and cluster.api("GET", deployment)["status"].get("readyReplicas") == 1)


def test_the_judge_is_parked_until_it_is_woken_and_vllm_is_not_touched(cluster, judge, monkeypatch):
    monkeypatch.setenv("AWX_JOB_ID", "7")
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    vllm, said = pods(cluster, "vllm"), []
    evict(cluster, "judge-vllm")
    versions = cluster.resource_versions()
    assert act("park", said, check_mode=True, **judge)["changed"]
    assert said == ["would park judge-vllm: 1 pod ($1.01 per hour)"]
    assert cluster.resource_versions() == versions

    said.clear()
    done = act("park", said, reason="weekend", end="3d", **judge)
    (row,) = done["servers"]
    assert (row["server"], row["by"], row["reason"], row["replicas"]) == ("judge-vllm", "ann (AWX job 7)", "weekend", 1)
    assert said[0] == "park judge-vllm: 1 pod ($1.01 per hour)"
    assert re.fullmatch(r"judge-vllm: its pods are gone, which frees 1 GPU on gpu-vllm-\d", said[-1])
    assert pods(cluster, "judge-vllm") == set()
    # Two days ago: what that saved.
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/judge-vllm"
    since = (datetime.now(UTC) - timedelta(days=2)).strftime(parking.TIME)
    note = parking.write({**parking.read(cluster.api("GET", path)), "since": since})
    cluster.api("PATCH", f"{path}?fieldManager={parking.MANAGER}", {"metadata": {"annotations": {parking.NOTE: note}}})
    said.clear()
    assert not act("park", said, **judge)["changed"]
    (line,) = [text for text in said if "parked by" in text]
    assert line.startswith(f"judge-vllm is parked by ann (AWX job 7) since {since} until ")
    assert line.endswith(": weekend ($1.01 per hour, saved $48.29)")
    said.clear()
    act("smoke", said, **judge)
    assert any(text.startswith("judge-vllm: parked by ann") and text.endswith("not asked") for text in said)
    run = deliver(judge["rendered"], judge["connection"])
    assert "nothing to change" in run.text
    assert f"since {since} until" in run.text
    assert "saved $48.29" in run.text
    said.clear()
    act("preflight", said, cluster=True, quota=False, **judge)
    assert f"judge-vllm: {parking.told(done['servers'][0] | {'since': since})} ($1.01 per hour, saved $48.29)" in said

    said.clear()
    assert act("wake", said, check_mode=True, **judge)["changed"]
    assert pods(cluster, "judge-vllm") == set()
    said.clear()
    assert act("wake", said, **judge)["changed"]
    assert said[0].startswith("wake judge-vllm: 1 pod (parked by ann (AWX job 7)")
    assert "judge-vllm: its nodes are simulated: nothing answers there" in said
    assert len(pods(cluster, "judge-vllm")) == 1
    said.clear()
    assert not act("wake", said, **judge)["changed"]
    assert said[0] == "judge-vllm is awake ($1.01 per hour)"
    assert pods(cluster, "vllm") == vllm
    assert "nothing to change" in deliver(judge["rendered"], judge["connection"]).text


def test_what_can_not_be_parked_is_told_and_nothing_is_written(cluster, judge):
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/judge-vllm"
    version = cluster.api("GET", path)["metadata"]["resourceVersion"]
    absent = local(cluster, ("vllm_judge", "triton"), vllm_judge_variant="judge")
    cases = [
        ({"servers": ["judge"]}, "park_servers is 'judge': unknown, did you mean"),
        ({"end": "2020-01-01T00:00:00Z"}, "park_until is '2020-01-01T00:00:00Z': must be later than now, 20"),
        (
            {"rendered": absent, "servers": ["judge-vllm", "triton-inference"]},
            "there is no Deployment ml-models/triton-inference: deploy the server first",
        ),
    ]
    # Another run is under way.
    now = datetime.now(UTC).strftime(lease.SINCE_FORMAT)
    spec = {"holderIdentity": "bob@laptop", "acquireTime": now, "renewTime": now, "leaseDurationSeconds": 120}
    cluster.api("PATCH", f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/modelyard", {"spec": spec})
    judge["rendered"]["settings"]["apply"]["lock_wait"] = 0
    cases.append(({}, "another run holds the lock (Lease modelyard): bob@laptop"))
    for arguments, message in cases:
        with pytest.raises(AnsibleActionFail, match=re.escape(message)):
            act("park", [], **{**judge, **arguments})
    assert cluster.api("GET", path)["metadata"]["resourceVersion"] == version


def test_a_schedule_parks_and_wakes_with_the_right_to_do_just_that(cluster, clean_platform):
    def deploy(**variables):
        found = local(cluster, ("vllm", "vllm_judge"), vllm_judge_variant="judge", **variables)
        these = {"connection": {"kubeconfig": str(cluster.kubeconfig)}, "rendered": found}
        done = deliver(found, these["connection"])
        assert not done.failed, done.failed
        return these, done.text

    def kubectl(*args, **more):
        """Act as the CronJobs' account does, with its token alone."""
        kubeconfig = ("--kubeconfig", os.devnull, "--server", cluster.url, "--certificate-authority", ca)
        command = (cluster.bin / "kubectl", *args, *kubeconfig, "--token", token)
        return cluster.run(*command, **more)

    def replicas(name="judge-vllm"):
        return cluster.get("-n", NAMESPACE, "deployment", name)["spec"]["replicas"]

    def suspended():
        return cluster.get("-n", NAMESPACE, "cronjob", "judge-vllm-wake")["spec"]["suspend"]

    times = {"park": "0 20 * * 1-5", "wake": "0 7 * * 1-5", "time_zone": "Europe/Berlin"}
    these, _ = deploy(vllm_judge_schedule=times)
    jobs = {item["metadata"]["name"]: item["spec"] for item in cluster.get("-n", NAMESPACE, "cronjobs")["items"]}
    commands = {
        name: spec["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["command"][1:]
        for name, spec in jobs.items()
    }
    token = cluster.kubectl("-n", NAMESPACE, "create", "token", "judge-vllm-schedule").stdout.strip()
    ca = yaml.safe_load(cluster.kubeconfig.read_text())["clusters"][0]["cluster"]["certificate-authority"]
    kubectl(*commands["judge-vllm-park"])
    assert replicas() == 0
    _, said = deploy(vllm_judge_schedule=times)
    assert "nothing to change" in said
    assert "judge-vllm: parked by its schedule: park 0 20 * * 1-5, wake 0 7 * * 1-5, Europe/Berlin" in said
    kubectl(*commands["judge-vllm-wake"])
    assert replicas() == 1
    assert "nothing to change" in deploy(vllm_judge_schedule=times)[1]
    # Of another server not even that, and of its own nothing else.
    vllm = [word.replace("judge-vllm", "vllm") for word in commands["judge-vllm-park"]]
    template = [word for word in commands["judge-vllm-park"] if not word.startswith("--subresource")]
    for command in (vllm, template, ["get", "deployment", "judge-vllm", "-n", NAMESPACE]):
        assert "Forbidden" in kubectl(*command, check=False).stderr
    assert (replicas(), replicas("vllm")) == (1, 1)
    # What a person parks stays parked until a person wakes it.
    act("park", [], **these)
    assert suspended()
    assert "nothing to change" in deploy(vllm_judge_schedule=times)[1]
    # Or scales it: the deploy that takes the note away lets the schedule run again.
    cluster.kubectl("-n", NAMESPACE, "scale", "deployment/judge-vllm", "--replicas=1")
    deploy(vllm_judge_schedule=times)
    assert not suspended()
    assert "nothing to change" in deploy(vllm_judge_schedule=times)[1]
    act("park", [], **these)
    deploy()
    # A schedule that comes while it is parked wakes it as little.
    deploy(vllm_judge_schedule=times)
    assert suspended()
    act("wake", [], **these)
    assert not suspended()
    assert "prune CronJob ml-models/judge-vllm-wake" in deploy()[1]
    left = cluster.kubectl("-n", NAMESPACE, "get", "cronjobs,roles,rolebindings,serviceaccounts,networkpolicies")
    assert "schedule" not in left.stdout
