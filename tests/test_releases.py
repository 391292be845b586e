"""Releases: what a run leaves of itself on the cluster, and how it is brought back. (The text of a record: unit/test_releases.py.)"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import subprocess
import sys
import time

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import (
    client,
    lease,
    parked,
    parking,
    releases,
    rollout,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.examination import Examiner
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import GITOPS
from delivering import ARGOCD, act, deliver, local, rendering

PLACE = "/namespaces/ml-models"
CONFIG_MAPS, PODS = f"/api/v1{PLACE}/configmaps", f"/api/v1{PLACE}/pods"
DEPLOYMENT = f"/apis/apps/v1{PLACE}/deployments/d"
LEASE = f"/apis/coordination.k8s.io/v1{PLACE}/leases/modelyard"


def config_map(name: str, **data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def deployment(image: str = "registry.example/a:1", replicas: int = 1, selector: str = "cpu-compute", **pod) -> dict:
    spec = {
        "replicas": replicas,
        "progressDeadlineSeconds": 30,
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "selector": {"matchLabels": {"app": "d"}},
        "template": {
            "metadata": {"labels": {"app": "d"}},
            "spec": {
                "nodeSelector": {"workload": selector},
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "c", "image": image}],
                **pod,
            },
        },
    }
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


# No node has it: a rollout that can't succeed.
NOWHERE = {"selector": "nowhere"}
SOON = {"apply_capacity_timeout": 1}


class Place:
    """A cluster, with what runs do to it in this process."""

    def __init__(self, cluster) -> None:
        self.cluster = cluster
        self.connection = {"kubeconfig": str(cluster.kubeconfig)}

    def rendering(self, *items: dict, **variables) -> dict:
        return rendering(*items, api_server=self.cluster.url, **variables)

    def run(self, *items: dict, check: bool = True, check_mode: bool = False, **variables):
        done = deliver(self.rendering(*items, **variables), self.connection, check_mode)
        assert not (check and done.failed), done.failed
        return done

    def listed(self, damaged: list[str] | None = None, **variables) -> list[dict]:
        return releases.listed(Cluster(self.connection), self.rendering(**variables), damaged)

    def results(self) -> dict[int, str]:
        return {one["number"]: one["result"] for one in self.listed()}

    def back(self, number: int | str, *items: dict, check_mode: bool = False, **variables):
        """Do what playbooks/rollback.yml does, with an inventory that has these objects."""
        said: list[str] = []
        now = self.rendering(*items, **variables)
        found = act("rollback", said, connection=self.connection, rendered=now, release=str(number))
        done = deliver(found["rendered"], self.connection, check_mode)
        done.said[:0] = said
        return done

    def refused(self, number: int | str, **variables) -> str:
        with pytest.raises(AnsibleActionFail) as stopped:
            self.back(number, **variables)
        return stopped.value.message

    def data(self) -> dict[str, dict]:
        """{name: data} of the ConfigMaps of runs, without the records."""
        found = self.cluster.api("GET", f"{CONFIG_MAPS}?labelSelector=modelyard/component!=release")["items"]
        return {
            one["metadata"]["name"]: one.get("data") for one in found if one["metadata"]["name"] != "kube-root-ca.crt"
        }

    def records(self) -> set[str]:
        found = self.cluster.api("GET", f"{CONFIG_MAPS}?labelSelector=modelyard/component=release")
        return {one["metadata"]["name"] for one in found.get("items", [])}

    def pods(self) -> set[str]:
        """UIDs of the pods that stay."""
        found = self.cluster.api("GET", PODS)["items"]
        return {one["metadata"]["uid"] for one in found if not one["metadata"].get("deletionTimestamp")}

    def image(self) -> str:
        return self.cluster.api("GET", DEPLOYMENT)["spec"]["template"]["spec"]["containers"][0]["image"]


@pytest.fixture
def place(clean_platform):
    return Place(clean_platform)


# --- The record ------------------------------------------------------------------------------------


def test_a_run_that_changes_something_leaves_a_record_that_kubectl_reads(place, cluster):
    made = place.run(deployment(), config_map("one", k="v", key="password: hunter2"))
    (record,) = place.listed()
    assert (record["number"], record["result"], record["components"]) == (1, "succeeded", ["irsa"])
    assert record["by"].partition("@")[0]
    assert record["time"] <= record["ended"]
    assert record["changes"] == made.plan["changes"]
    assert record["versions"]["images"] == ["registry.example/a:1"]
    name = ("-n", "ml-models", "get", "configmap", "modelyard-release-0001", "-o")
    assert cluster.kubectl(*name, "jsonpath={.data.result}").stdout == "succeeded"
    packed = cluster.kubectl(*name, r"jsonpath={.binaryData.objects\.json\.gz}").stdout
    text = gzip.decompress(base64.b64decode(packed)).decode()
    assert "hunter2" not in text
    # All that the run wanted, in the form in which kubectl applies it.
    applied = cluster.kubectl("create", "--dry-run=client", "-o", "name", "-f", "-", input=text).stdout.split()
    assert sorted(applied) == ["configmap/one", "deployment.apps/d"]

    # A second run changes nothing, and a later one records what it leaves alone, too.
    before = cluster.resource_versions()
    place.run(deployment(), config_map("one", k="v", key="password: hunter2"))
    place.run(deployment(), config_map("one", k="w"), check_mode=True)
    assert cluster.resource_versions() == before
    place.run(deployment(), config_map("one", k="w"))
    assert place.results() == {2: "succeeded", 1: "succeeded"}
    kept = releases.objects(Cluster(place.connection), place.rendering(), 2)
    assert {item["kind"]: item.get("data") for item in kept} == {"ConfigMap": {"k": "w"}, "Deployment": None}


def test_a_run_that_changes_nothing_asks_no_more_than_it_did(place, monkeypatch):
    items = [deployment(), config_map("one", k="v")]
    place.run(*items)
    asked = []
    send = client.Cluster._send

    def counted(self, method, path, *rest):
        asked.append(f"{method} {path}")
        return send(self, method, path, *rest)

    monkeypatch.setattr(client.Cluster, "_send", counted)
    place.run(*items)
    # Of the records only the one list that is made anyway, and that leaves them out.
    assert [one for one in asked if "release" in one] == []
    assert len([one for one in asked if one.endswith("/configmaps")]) == 1
    # tests/test_settled.py names those of a whole platform: none of them is for a record.
    assert len(asked) == 23, asked


def test_a_record_that_cannot_be_written_stops_the_run_before_its_first_change(place, cluster):
    place.run(config_map("one", k="v"))
    policies = "/apis/admissionregistration.k8s.io/v1"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]}
    denied = {"expression": "!object.metadata.name.startsWith('modelyard-release')", "message": "no records"}
    policy = {"matchConstraints": {"resourceRules": [rule]}, "validations": [denied]}
    cluster.api("POST", f"{policies}/validatingadmissionpolicies", {"metadata": {"name": "none"}, "spec": policy})
    binding = {"policyName": "none", "validationActions": ["Deny"]}
    cluster.api(
        "POST", f"{policies}/validatingadmissionpolicybindings", {"metadata": {"name": "none"}, "spec": binding}
    )

    def in_force():
        try:
            cluster.api("POST", CONFIG_MAPS, config_map("modelyard-release-x"))
        except RuntimeError:
            return True
        cluster.api("DELETE", f"{CONFIG_MAPS}/modelyard-release-x")
        return False

    try:
        wait_until(in_force)
        done = place.run(config_map("one", k="w"), config_map("two", k="v"), check=False)
    finally:
        for kind in ("validatingadmissionpolicybindings", "validatingadmissionpolicies"):
            cluster.api("DELETE", f"{policies}/{kind}/none")
        wait_until(lambda: not in_force())
    assert "Nothing was applied. the record of this release can't be written to namespace ml-models" in done.failed
    assert "no records" in done.failed
    assert place.data() == {"one": {"k": "v"}}
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_records_are_bounded_and_the_last_that_succeeded_stays(place):
    few = {"apply_releases": 2}
    place.run(config_map("one", k="0"), **few)
    place.run(config_map("one", k="1"), **few)
    for number in range(3):
        place.run(deployment(**NOWHERE), config_map("one", k=f"x{number}"), check=False, **few, **SOON)
    assert place.results() == {5: "failed", 4: "failed", 2: "succeeded"}
    # Nothing of a record is pruned, or told of as another cluster's, and a renamed cluster goes on counting.
    done = place.run(config_map("one", k="2"), platform_cluster_name="renamed")
    assert "modelyard-release" not in done.text
    assert [one["number"] for one in place.listed(platform_cluster_name="renamed")] == [6]
    assert "release 2 is of the cluster local, not of renamed" in place.refused(2, platform_cluster_name="renamed")


def test_objects_that_one_config_map_cannot_hold_take_several_and_all_of_them_go(place):
    big = [config_map(name, k=base64.b64encode(os.urandom(500_000)).decode()) for name in ("a", "b")]
    place.run(*big)
    assert place.records() == {"modelyard-release-0001", "modelyard-release-0001-2"}
    place.run(config_map("a", k="v"), apply_releases=2)
    assert place.back(1, apply_releases=2).failed == ""
    assert place.data()["b"] == big[1]["data"]
    place.run(config_map("a", k="v"), apply_releases=2)
    place.run(config_map("a", k="w"), apply_releases=2)
    assert "modelyard-release-0001-2" not in place.records()


def test_a_run_that_was_cut_off_is_interrupted_and_a_living_one_is_running(place, cluster):
    place.run(config_map("one", k="v"))
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        lock = lease.Lock(Cluster(place.connection), "ml-models", "modelyard", other.pid)
        assert lock.acquire(lock.read(), 0, print) is False
        about = {"by": "ann", "process": lock.identity, "inventory": "i", "commit": "c", "clean": "yes"}
        about["versions"] = {"modelyard": "0.1.0"}
        releases.begin(Cluster(place.connection), place.rendering(config_map("one", k="w")), about, ["update"], [])
        assert place.results() == {2: "running", 1: "succeeded"}
    finally:
        other.communicate()
    assert place.results() == {2: "interrupted", 1: "succeeded"}
    # The next run notes it.
    place.run(config_map("one", k="x"))
    assert cluster.api("GET", f"{CONFIG_MAPS}/modelyard-release-0002")["data"]["result"] == "interrupted"


# --- History ---------------------------------------------------------------------------------------


def test_history_shows_releases_and_tells_of_damaged_ones(place, cluster):
    def history(number: int = 0) -> tuple[list[str], dict]:
        said: list[str] = []
        found = act("history", said, connection=place.connection, rendered=place.rendering(), number=number)
        return said, found["report"]

    assert history()[0] == ["no run has left a record in namespace ml-models yet"]
    for text in ("1", "2", "3"):
        place.run(deployment(image=f"registry.example/a:{text}"), config_map("one", k=text))
    cluster.api("PATCH", f"{CONFIG_MAPS}/modelyard-release-0002", {"data": {"by": "eve"}})
    said, report = history()
    # In 80 characters, what changed stands below each.
    assert [line.split()[0] for line in (said[0], said[1], said[3])] == ["RELEASE", "3", "1"]
    assert [said[2], said[4]] == ["  2 updated: d", "  3 created: d"]
    assert "release 2 (ConfigMap modelyard-release-0002) is damaged, and left out: somebody has edited it" in said
    assert [one["number"] for one in report["releases"]] == [3, 1]
    assert len(report["damaged"]) == 1
    assert "release 2 (ConfigMap" in place.refused(2)
    said, _ = history(3)
    assert "image registry.example/a:3" in said
    (command,) = (line.removeprefix("its objects: ") for line in said if line.startswith("its objects: "))
    command = command.replace("kubectl", f"{cluster.bin}/kubectl", 1)
    environment = {**cluster.env, "KUBECONFIG": str(cluster.kubeconfig)}
    printed = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, check=True)
    assert {item["kind"] for item in json.loads(printed.stdout)["items"]} == {"ConfigMap", "Deployment"}


# --- Rolling back ----------------------------------------------------------------------------------


def test_a_rollback_brings_back_objects_and_prunes_what_came_later(place, cluster):
    place.run(deployment(), config_map("one", k="1"))
    before = place.pods()
    newer = [deployment(image="registry.example/a:2"), config_map("one", k="2"), config_map("two", k="2")]
    place.run(*newer)
    assert place.pods().isdisjoint(before)

    untouched = cluster.resource_versions()
    seen = place.back(1, *newer, check_mode=True)
    assert sum(line.startswith(("update", "prune")) for line in seen.plan["changes"]) == 3
    assert cluster.resource_versions() == untouched

    done = place.back(1, *newer)
    assert done.failed == ""
    assert "prune ConfigMap ml-models/two" in done.said
    assert (place.data(), place.image()) == ({"one": {"k": "1"}}, "registry.example/a:1")
    assert "release 1 is back. Never rolled back: volume claims, namespaces, AWS." in done.said
    assert any(line.startswith("The inventory still says what it said") for line in done.said)
    newest = place.listed()[0]
    assert (newest["number"], newest["result"], newest["rollback_to"]) == (3, "succeeded", 1)
    # Once more changes nothing, and it is itself a release to go back to; the inventory's state comes by the next run.
    untouched = cluster.resource_versions()
    assert place.back(1, *newer).plan["changes"] == []
    assert cluster.resource_versions() == untouched
    place.run(*newer)
    assert place.back(3, *newer).failed == ""
    assert place.image() == "registry.example/a:1"


def test_a_rollback_leaves_volume_claims_as_they_are(place, cluster):
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "cache"}}
    claim["spec"] = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claim["spec"]["storageClassName"] = "standard"
    made = {
        "metadata": {"name": "standard"},
        "provisioner": "example.org/none",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
    cluster.api("POST", "/apis/storage.k8s.io/v1/storageclasses", made)
    place.run(config_map("one", k="1"), claim)
    place.run(config_map("one", k="2"))
    pruned = {"apply_prune_kinds": [{"api_version": "v1", "kind": "PersistentVolumeClaim"}]}
    path = f"/api/v1{PLACE}/persistentvolumeclaims/cache"
    before = cluster.api("GET", path)
    assert "PersistentVolumeClaim" not in place.back(1, config_map("one", k="2")).text
    # Neither brought back, nor pruned by a release that did not have it.
    assert "PersistentVolumeClaim" not in place.back(2, claim, config_map("one", k="1"), **pruned).text
    assert cluster.api("GET", path)["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]


def test_a_credential_in_a_text_comes_back_as_it_is_now(place):
    place.run(config_map("one", url="https://u:old1@a/1"))
    place.run(config_map("one", url="https://u:new2@a/2"))
    assert place.back(1, config_map("one", url="https://u:new2@a/2")).failed == ""
    assert place.data() == {"one": {"url": "https://u:new2@a/1"}}
    place.run(config_map("two", k="v"))
    assert "ConfigMap ml-models/one had a credential in 'https://(hidden by modelyard)@a/1'" in place.refused(1)


def test_a_parked_server_stays_parked(place):
    place.run(deployment(replicas=2), config_map("one", k="1"))
    newer = (deployment(image="registry.example/a:2", replicas=3), config_map("one", k="2"))
    place.run(*newer)
    parked.park(Cluster(place.connection), place.rendering(*newer)["parts"][0], "ann", "weekend")
    assert place.back(1, *newer).failed == ""
    live = place.cluster.api("GET", DEPLOYMENT)
    assert (live["spec"]["replicas"], place.image()) == (0, "registry.example/a:1")
    assert parking.read(live)["reason"] == "weekend"


def test_by_gitops_the_applications_come_back_and_git_is_named(place, cluster):
    def application(name: str, revision: str) -> dict:
        source = {"repoURL": "https://git.internal/x", "path": name, "targetRevision": revision}
        destination = {"server": "https://kubernetes.default.svc", "namespace": "ml-models"}
        spec = {"project": "default", "source": source, "destination": destination}
        return {"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": name}, "spec": spec}

    gitops = {"component": GITOPS}
    place.run(application("vllm", "one"), **gitops)
    newer = (application("vllm", "two"), application("triton", "two"))
    place.run(*newer, **gitops)
    done = place.back(1, *newer, **gitops)
    assert done.failed == ""
    found = cluster.api("GET", f"/apis/argoproj.io/v1alpha1/namespaces/{ARGOCD}/applications")["items"]
    assert [(one["metadata"]["name"], one["spec"]["source"]["targetRevision"]) for one in found] == [("vllm", "one")]
    assert "prune Application argocd/triton; what it deployed stays" in done.said
    assert "What the Applications deliver comes from Git, and is rolled back there: git revert, then push" in done.said


NO_SUCH = (
    ("", {}, "name the release to bring back: -e release=N; there are: 1 (playbooks/history.yml)"),
    ("one", {}, "release=one: is no number; there are: 1"),
    ("9", {}, "there is no release 9 of local; there are 1 (playbooks/history.yml lists them)"),
    ("1", {"platform_delivery": "gitops"}, "release 1 was delivered otherwise (platform_delivery: direct)"),
    ("1", {"platform_cluster_name": "other"}, "release 1 is of the cluster local, not of other"),
    ("1", {"api_server": "https://elsewhere"}, "platform_api_server is https://elsewhere"),
)


def test_a_release_that_is_not_this_clusters_is_refused(place, cluster):
    place.run(config_map("one", k="v"))
    before = cluster.resource_versions()
    for number, variables, told in NO_SUCH:
        now = rendering(**{"api_server": cluster.url, **variables})
        with pytest.raises(AnsibleActionFail) as stopped:
            act("rollback", [], connection=place.connection, rendered=now, release=number)
        assert told in stopped.value.message
    assert cluster.resource_versions() == before


# --- A run that fails ------------------------------------------------------------------------------


def test_a_failed_rollout_names_the_release_to_go_back_to(place):
    place.run(deployment(), config_map("one", k="1"))
    done = place.run(deployment(**NOWHERE), config_map("one", k="2"), check=False, **SOON)
    assert "no node took its pod in 1 s" in done.failed
    assert done.failed.endswith("Go back: playbooks/rollback.yml -e release=1")
    assert place.listed()[0]["reason"] in done.failed
    # So does one that finds everything as the failed one left it.
    again = place.run(deployment(**NOWHERE), config_map("one", k="2"), check=False, **SOON)
    assert again.failed.endswith("Go back: playbooks/rollback.yml -e release=1")
    assert place.results() == {2: "failed", 1: "succeeded"}


BACK = {"apply_rollback_on_failure": True, **SOON}


def test_a_failed_rollout_brings_back_what_ran_and_the_old_pods_serve_on(place, cluster):
    place.run(deployment(), config_map("one", k="1"))
    before = place.pods()
    job = {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "night"}}
    pod = {"containers": [{"name": "c", "image": "a"}], "restartPolicy": "Never"}
    job["spec"] = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    wrong = [deployment(image="registry.example/none:1", **NOWHERE), config_map("one", k="2"), job]
    done = place.run(*wrong, check=False, **BACK)
    assert "Deployment ml-models/d is not rolled out: no node took its pod" in done.failed
    assert "Release 1 is back (3 changes), and runs: d 1/1. Never rolled back: volume claims" in done.failed
    assert (place.data(), place.image(), place.pods()) == ({"one": {"k": "1"}}, "registry.example/a:1", before)
    assert cluster.api("GET", f"/apis/batch/v1{PLACE}/cronjobs/night") == {}
    record = place.listed()[0]
    assert (record["number"], record["result"]) == (2, "rolled back")
    assert "no node took its pod" in record["reason"]
    assert "Release 1 is back" in record["reason"]
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""
    assert place.run(deployment(), config_map("one", k="1")).plan["changes"] == []


def test_a_failed_run_is_left_to_a_caller_that_recovers_by_itself(place):
    """As playbooks/switch.yml does."""
    place.run(deployment(), config_map("one", k="1"))
    found = place.rendering(deployment(**NOWHERE), config_map("one", k="2"), **BACK) | {"recovers": True}
    done = deliver(found, place.connection)
    assert "no node took its pod" in done.failed
    assert "elease 1" not in done.failed
    assert (place.results()[2], place.data()) == ("failed", {"one": {"k": "2"}})


def test_a_first_deploy_that_fails_has_nothing_to_bring_back(place):
    done = place.run(deployment(**NOWHERE), config_map("one", k="1"), check=False, **BACK)
    assert "no node took its pod" in done.failed
    assert "No earlier release has succeeded, so there is none to bring back: what is written stays." in done.failed
    assert place.results() == {1: "failed"}
    assert place.data() == {"one": {"k": "1"}}


def test_an_apply_that_stops_in_the_middle_is_rolled_back(place, monkeypatch):
    place.run(config_map("one", k="1"), config_map("two", k="1"))
    apply = Cluster.apply

    def refusing(self, item, manager, force, dry_run):
        if not dry_run and item["data"] == {"k": "2"} and item["metadata"]["name"] == "two":
            raise client.ApiError(500, b'{"message": "no second"}')
        return apply(self, item, manager, force, dry_run)

    monkeypatch.setattr(Cluster, "apply", refusing)
    done = place.run(config_map("one", k="2"), config_map("two", k="2"), check=False, **BACK)
    assert (
        "no second. Written before that: ConfigMap ml-models/one. Not written: ConfigMap ml-models/two" in done.failed
    )
    assert "Release 1 is back (1 change)" in done.failed
    assert "What is written stays" not in done.failed
    assert place.data() == {"one": {"k": "1"}, "two": {"k": "1"}}
    assert place.results()[2] == "rolled back"


def test_why_an_apply_stopped_is_told_of_a_cluster_that_is_gone_by_then(place, monkeypatch):
    def refusing(self, item, manager, force, dry_run):
        if not dry_run:
            raise client.ApiError(500, b'{"message": "no space left"}')
        return apply(self, item, manager, force, dry_run)

    def gone(self, item):
        raise client.Unreachable("https://10.0.0.9:6443 does not answer")

    apply = Cluster.apply
    monkeypatch.setattr(Cluster, "apply", refusing)
    monkeypatch.setattr(Examiner, "holds", gone)
    done = place.run(config_map("one", k="1"), check=False)
    assert "no space left. What came of it can't be told: https://10.0.0.9:6443 does not answer" in done.failed
    assert "What is written stays, and the next run goes on from there." in done.failed


def test_where_the_rollback_fails_too_both_are_told(place, cluster, monkeypatch):
    place.run(deployment(), config_map("one", k="1"))

    # What ran has no node either, by now.
    monkeypatch.setattr(rollout, "unschedulable", lambda pod: "no node is left")
    monkeypatch.setattr(rollout, "is_complete", lambda deployment: False)
    done = place.run(deployment(image="registry.example/a:2"), config_map("one", k="2"), check=False, **BACK)
    first, _, second = done.failed.partition("Bringing back the last release failed, too:")
    assert "Deployment ml-models/d is not rolled out" in first
    assert "Deployment ml-models/d is not rolled out" in second
    assert place.results()[2] == "failed"
    assert cluster.api("GET", LEASE)["spec"]["holderIdentity"] == ""


def test_the_playbooks_tell_why_a_run_failed_what_runs_now_and_what_was_released(clean_platform):
    """As a person sees it: site.yml fails and takes itself back, history.yml, rollback.yml."""
    cluster = clean_platform
    connection = {"kubeconfig": str(cluster.kubeconfig)}
    assert deliver(local(cluster), connection).failed == ""
    wrong = {"triton_node_selector": {"no": "where"}, "triton_min_ready_seconds": 4, **BACK}
    done = cluster.playbook("site", "-e", json.dumps(wrong), check=False)
    told = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 2
    assert told.count("is not rolled out: no node took its pod in 1 s") == 1
    assert told.count("Release 1 is back (") == 1
    shown = cluster.playbook("history").stdout
    # The inventory's commit is that of the working copy.
    commit = cluster.run("git", "rev-parse", "HEAD").stdout[:8]
    assert re.search(
        rf"^  2 +\S+ \S+ +rolled back  {commit}\S* .*\n    \d updated: triton-inference", shown, re.MULTILINE
    ), shown
    assert re.search(r"^  1 +\S+ \S+ +succeeded ", shown, re.MULTILINE), shown
    asked = cluster.playbook("rollback", check=False)
    assert "name the release to bring back: -e release=N; there are: 1, 2 (playbooks/history.yml)" in " ".join(
        (asked.stdout + asked.stderr).split()
    )
    same = cluster.playbook("rollback", "-e", "release=1").stdout
    assert "changed=0" in same
    assert "release 1 is back. Never rolled back: volume claims, namespaces, AWS." in same


def wait_until(true, seconds: float = 30) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends
        time.sleep(0.1)
