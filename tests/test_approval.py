"""A deploy after an approval, against a real API server: it does what was approved, or writes nothing and frees the lock."""

import json
import subprocess
import time

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.lease import Lock
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import GITOPS
from delivering import ARTIFACTS, NAMESPACE, deliver, handed_on, rendering

CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/modelyard"
PROJECT = {
    "apiVersion": "argoproj.io/v1alpha1",
    "kind": "AppProject",
    "metadata": {"name": "modelyard-local"},
    "spec": {"sourceRepos": ["https://git.example.org/a"]},
}


def config_map(name, **data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@pytest.fixture
def run(cluster, clean_platform):
    """Do what the role apply does with a list of objects."""

    def run_(*objects, approved="", check_mode=False, **variables):
        found = rendering(*objects, api_server=cluster.url, apply_approved=approved, **variables)
        return deliver(found, {"kubeconfig": str(cluster.kubeconfig)}, check_mode)

    return run_


@pytest.fixture
def approve(run):
    """Run in check mode, as a job before an approval does; returns what the next one is given."""

    def approve_(*objects, **variables):
        done = run(*objects, check_mode=True, **variables)
        assert not done.failed
        return handed_on(done.plan)["apply_approved"]

    return approve_


def by_hand(cluster, value: str) -> None:
    """Change the ConfigMap a as a person does, whose changes a run takes back."""
    patch = json.dumps({"data": {"k": value}})
    cluster.kubectl("-n", NAMESPACE, "patch", "configmap", "a", "--type", "merge", "--patch", patch)


def data(cluster) -> dict[str, dict]:
    items = cluster.api("GET", f"{CONFIG_MAPS}?labelSelector=app.kubernetes.io/managed-by=modelyard")["items"]
    return {item["metadata"]["name"]: item.get("data") for item in items}


def test_a_first_deploy_does_what_was_approved(run, approve, cluster):
    """The namespace is made before the lock, so the plan is made twice."""
    objects = config_map("a", k="1"), config_map("b", k="1")
    approved = approve(*objects)
    assert list(approved["local"]["changes"]) == [
        "create ConfigMap ml-models/a", "create ConfigMap ml-models/b", "create Namespace ml-models",
    ]  # fmt: skip
    done = run(*objects, approved=json.dumps(approved))
    assert (done.failed, "as approved: 3 changes" in done.said) == ("", True)
    assert {name: data(cluster)[name] for name in "ab"} == {"a": {"k": "1"}, "b": {"k": "1"}}
    # Somebody else has done all of it by the time of the next one: nothing would be written.
    again = run(*objects, approved=approved)
    assert (again.failed, again.changed) == ("", 0)
    assert "nothing is left to do of what was approved" in again.said


def test_a_deploy_that_would_do_something_else_writes_nothing(run, approve, cluster):
    assert "Nothing was applied. apply_approved has nothing of host local" in run(config_map("a"), approved={}).failed
    assert NAMESPACE not in cluster.namespaces()
    run(config_map("a", k="1"), config_map("old"))
    approved = approve(config_map("a", k="2"))
    before = cluster.resource_versions()
    # Somebody has changed the inventory since.
    done = run(config_map("a", k="3"), config_map("new"), approved=approved)
    assert "Nothing was applied. apply_approved: what this run would do is not what was approved." in done.failed
    assert 'other than approved: update ConfigMap ml-models/a: data.k "1" -> "3"' in done.text
    assert "new: create ConfigMap ml-models/new" in done.text
    assert "and no longer to be done" not in done.text
    # A check only tells it, and hands on its own.
    foretold = run(config_map("a", k="3"), approved=approved, check_mode=True)
    assert (
        foretold.failed,
        'other than approved: update ConfigMap ml-models/a: data.k "1" -> "3"' in foretold.said,
    ) == ("", True)
    assert "what it hands on is to be approved anew" in foretold.text
    assert handed_on(foretold.plan)["apply_approved"] == approve(config_map("a", k="3"))
    # Nor without any, where one is required.
    required = run(config_map("a", k="2"), apply_approval_required=True)
    assert (
        "Nothing was applied. apply_approved has nothing of host local (it has: none), and apply_approval"
        in required.failed
    )
    assert cluster.resource_versions() == before
    # Somebody has changed the cluster since: by a run, or with kubectl.
    by_hand(cluster, "by hand")
    done = run(config_map("a", k="2"), approved=approved)
    assert 'other than approved: update ConfigMap ml-models/a: data.k "by hand" -> "2"' in done.text
    assert "approved, and no longer to be done" not in done.text
    by_hand(cluster, "1")
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""
    # A part of it is done already, as by a run that stopped half-way: the rest is as approved.
    cluster.api("DELETE", f"{CONFIG_MAPS}/old")
    done = run(config_map("a", k="2"), approved=approved)
    assert (done.failed, data(cluster)["a"]) == ("", {"k": "2"})
    assert "as approved: 1 change of 2; no longer to be done: prune ConfigMap ml-models/old" in done.said


def test_what_another_run_did_while_it_waited_is_no_longer_what_was_approved(run, approve, cluster, monkeypatch):
    run(config_map("a", k="1"))
    approved = approve(config_map("a", k="2"))
    api = client.Cluster({"kubeconfig": str(cluster.kubeconfig)})
    process = subprocess.Popen(["sleep", "600"])
    other = Lock(api, NAMESPACE, "modelyard", process.pid)
    other.acquire(other.read(), 0, print)

    def freed(seconds):
        by_hand(cluster, "other")
        other.release()

    monkeypatch.setattr(time, "sleep", freed)
    try:
        done = run(config_map("a", k="2"), approved=approved)
    finally:
        process.kill()
        process.wait()
    assert "as approved: 1 change" in done.said
    assert 'other than approved: update ConfigMap ml-models/a: data.k "other" -> "2"' in done.text
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""
    assert data(cluster)["a"] == {"k": "other"}


@pytest.mark.parametrize("by", ["another plan", "a lock"])
def test_what_is_refused_once_the_namespace_was_made_says_so(run, approve, cluster, monkeypatch, by):
    """Between the namespace and the lock in it another run may come."""
    approved = approve(config_map("a", k="1"))
    process = subprocess.Popen(["sleep", "600"])
    create = writes.create_namespace

    def overtaken(api, namespace):
        made = create(api, namespace)
        if by == "a lock":
            other = Lock(api, NAMESPACE, "modelyard", process.pid)
            other.acquire(other.read(), 0, print)
        else:
            labels = {
                "app.kubernetes.io/managed-by": "modelyard",
                "modelyard/cluster": "local",
                "modelyard/component": "irsa",
            }
            item = config_map("a", k="2")
            api.apply(
                {**item, "metadata": {"name": "a", "namespace": NAMESPACE, "labels": labels}},
                "modelyard",
                True,
                dry_run=False,
            )
        return made

    monkeypatch.setattr(writes, "create_namespace", overtaken)
    try:
        failed = run(config_map("a", k="1"), approved=approved, apply_lock_wait=0).failed
    finally:
        process.kill()
        process.wait()
    if by == "a lock":
        assert "another run holds the lock" in failed
        assert failed.endswith("The namespace ml-models was made.")
    else:
        assert (
            "Nothing was applied. The namespace ml-models was made. apply_approved: what this run would do is" in failed
        )
        assert 'new: update ConfigMap ml-models/a: data.k "2" -> "1"' in failed
        assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_gitops_delivers_what_was_approved(run, approve, cluster):
    approved = approve(PROJECT, component=GITOPS)
    other = PROJECT | {"spec": {"sourceRepos": ["https://git.example.org/b"]}}
    done = run(other, component=GITOPS, approved=approved)
    assert "other than approved: create AppProject argocd/modelyard-local" in done.text
    assert not run(PROJECT, component=GITOPS, approved=approved).failed


def test_an_artifact_goes_from_play_to_play(cluster, clean_platform, tmp_path):
    """As AWX hands it on: what the check says at its end is the next one's extra variables."""
    as_json = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_SHOW_CUSTOM_STATS": "true"}
    artifacts = json.loads(cluster.playbook("irsa", "--check", env=as_json).stdout)["global_custom_stats"]
    ARTIFACTS.validate(artifacts)
    deploy = artifacts["modelyard_results"]["local"]["deploy"]
    # The plan's and the rollout's are one.
    assert (deploy["check"], deploy["updated"], deploy["release"], deploy["workloads"]) == (True, 0, 0, [])
    (tmp_path / "artifacts.json").write_text(json.dumps(artifacts))
    given = ["-e", f"@{tmp_path}/artifacts.json"]
    changed = ["-e", json.dumps({"platform_extra_annotations": {"example.org/a": "{{ 'b' }}"}})]
    other = cluster.playbook("irsa", *given, *changed, check=False)
    assert other.returncode == 2
    assert "other than approved: create ServiceAccount ml-models/" in " ".join((other.stdout + other.stderr).split())
    assert NAMESPACE not in cluster.namespaces()
    assert f"as approved: {deploy['changed']} changes" in cluster.playbook("irsa", *given).stdout
