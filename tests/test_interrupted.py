"""A run that is killed at any moment and repeated gives the same result as one undisturbed run. (Two at once: test_apply.py.)

Moments are random; INTERRUPT_SEED repeats those of an earlier run, whose seed is in the output of a failed test.
"""

import contextlib
import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from delivering import deliver, local

NAMESPACE = "ml-models"
LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/modelyard"
RECORDS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
LARGE = ["-e", "vllm_judge_variant=judge-large"]
# A killed run's lock is free at once.
NOW = ["-e", "apply_lock_wait=1"]

# What controllers make of the rest, differently each time.
MADE = {"Node", "Lease", "Event", "Pod", "ReplicaSet", "EndpointSlice", "Endpoints", "ControllerRevision", "PodMetrics"}
OF_THE_SERVER = {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"}
REVISION = "deployment.kubernetes.io/revision"
ADDRESSES = {"clusterIP", "clusterIPs"}


def state(cluster) -> dict[str, dict]:
    """Return every object of the platform's namespace without what differs from run to run, with its fields' managers."""
    found = {}
    for key, _, item in cluster.objects():
        kind, namespace, name = key.split("/")
        # Of the releases each run leaves a record, and so does each that is cut off: test_releases.py.
        if kind in MADE or NAMESPACE not in (namespace, name) or name.startswith("modelyard-release-"):
            continue
        metadata = {k: v for k, v in item["metadata"].items() if k not in OF_THE_SERVER}
        metadata["annotations"] = {k: v for k, v in metadata.get("annotations", {}).items() if k != REVISION}
        rest = {k: v for k, v in item.items() if k not in ("metadata", "status", "apiVersion", "kind")}
        if kind == "Service":
            rest["spec"] = {k: v for k, v in rest["spec"].items() if k not in ADDRESSES}
        # The status is the controllers', who write it when they come to it.
        entries = [entry for entry in item["metadata"].get("managedFields", []) if entry.get("subresource") != "status"]
        managers = sorted({(entry["manager"], entry.get("subresource", "")) for entry in entries})
        found[key] = {"metadata": metadata, "managers": managers, **rest}
    return found


def differences(found: dict, wanted: dict) -> list[str]:
    """Name the objects that are not the same, with both, for the message of a failed test."""
    keys = sorted(key for key in found | wanted if found.get(key) != wanted.get(key))
    return [f"{key}: {found.get(key)} instead of {wanted.get(key)}" for key in keys]


def assert_as(cluster, wanted: dict) -> None:
    """The platform is as wanted, and every workload is rolled out."""
    assert differences(state(cluster), wanted) == []
    for item in cluster.api("GET", DEPLOYMENTS)["items"]:
        assert item["status"]["readyReplicas"] == item["spec"]["replicas"] == item["status"]["replicas"]


# --- Killing ---------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """Numbers of the processes that a process started, and of those that they started."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):
            continue
    found, new = [], [pid]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return found


# Numbers of the processes of killed runs.
WORKERS: set[int] = set()


def told(pid: int, file: str) -> str:
    """What the kernel says of a process; nothing of one that is gone."""
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return ""


def alive() -> set[int]:
    """Those of them that still run; a dead one that nobody has collected has no command line."""
    return {worker for worker in WORKERS if "ansible" in told(worker, "cmdline")}


def end_workers() -> None:
    """End the processes that killed runs left behind."""
    for worker in alive():
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
    WORKERS.clear()


@pytest.fixture(autouse=True)
def no_workers_left():
    """No process of a killed run outlives it for long: only a module may finish what it is at."""
    yield
    try:
        wait_until(lambda: not alive(), seconds=20)
    finally:
        end_workers()


def kill(process, everything: bool) -> None:
    """End a run at once.

    Its process group is the playbook alone: Ansible's workers have groups of their own, and a module finishes what it is at.
    `everything` ends these too, as a machine does that loses its power. A run that has ended by itself is left at that.
    """
    if process.poll() is not None:
        process.stdout.close()
        return
    os.killpg(process.pid, signal.SIGSTOP)
    WORKERS.update(descendants(process.pid))
    os.killpg(process.pid, signal.SIGKILL)
    if everything:
        end_workers()
    process.stdout.close()
    process.wait()


def wait_until(true, process=None, seconds: float = 60) -> bool:
    """Poll until something is true, or the process has ended."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if true():
            return True
        if process and process.poll() is not None:
            return False
        time.sleep(0.05)
    raise AssertionError(f"it did not happen in {seconds} s")


def holder(cluster) -> str:
    """Say who holds the lock."""
    return cluster.api("GET", LEASE).get("spec", {}).get("holderIdentity", "")


def results(cluster) -> dict[int, str]:
    """{number: result} of the releases."""
    found = cluster.api("GET", f"{RECORDS}?labelSelector=modelyard/component=release")["items"]
    return {int(item["data"]["number"]): item["data"]["result"] for item in found}


def killed(cluster, moment: float, everything: bool, *args, playbook: str = "site") -> None:
    """Start a playbook and kill it so many seconds after it has begun to write; one that is faster ends by itself."""
    stale = holder(cluster)  # what an earlier killed run has left
    process = cluster.start_playbook(playbook, *args)
    if wait_until(lambda: holder(cluster) not in ("", stale), process):
        time.sleep(moment)
    kill(process, everything)


# --- Runs left alone -------------------------------------------------------------------------------


@dataclass
class Reference:
    """The result of undisturbed runs, and how long one takes from its first write to its end."""

    deployed: dict
    switched: dict
    seconds: float


@pytest.fixture(scope="module")
def reference(cluster):
    cluster.reset()
    process = cluster.start_playbook("site")
    assert wait_until(lambda: holder(cluster), process)
    started = time.monotonic()
    text = process.communicate(timeout=120)[0]
    seconds = time.monotonic() - started
    assert process.returncode == 0, text
    deployed = state(cluster)
    cluster.playbook("site", *LARGE)
    switched = state(cluster)
    assert [text.split(":")[0] for text in differences(deployed, switched)]
    return Reference(deployed, switched, seconds)


@pytest.fixture(scope="module")
def moments():
    seed = int(os.environ.get("INTERRUPT_SEED") or random.randrange(2**32))
    return random.Random(seed), seed


@pytest.fixture
def moment(moments, reference):
    """Give a random moment of a run's writing, in seconds since its first write."""
    source, seed = moments

    def moment_():
        seconds = source.uniform(0, reference.seconds)
        print(f"INTERRUPT_SEED={seed}: killed {seconds:.2f} of {reference.seconds:.2f} s after the first write")  # noqa: T201
        return seconds

    return moment_


@pytest.fixture
def deployed(cluster, reference):
    """The platform as a run that nobody disturbed makes it: as it stands, or from the reverted switch of another test."""
    if differences(state(cluster), reference.deployed):
        done = deliver(local(cluster), {"kubeconfig": str(cluster.kubeconfig)})
        assert not done.failed
    assert_as(cluster, reference.deployed)
    return cluster


# --- The playbook is killed ------------------------------------------------------------------------


@pytest.mark.parametrize("everything", [True, False], ids=["everything dies", "workers go on"])
def test_a_killed_deploy_run_again_ends_the_same(clean_platform, reference, moment, everything):
    killed(clean_platform, moment(), everything)
    killed(clean_platform, moment() / 2, everything)
    clean_platform.playbook("site", *NOW)
    assert_as(clean_platform, reference.deployed)
    again = deliver(local(clean_platform), {"kubeconfig": str(clean_platform.kubeconfig)}, check_mode=True)
    assert (again.failed, again.plan["changes"]) == ("", [])


def test_a_deploy_killed_before_its_first_write_leaves_nothing(clean_platform, moments):
    before = clean_platform.resource_versions()
    process = clean_platform.start_playbook("site")
    # A run makes its namespace about a second after its start.
    time.sleep(moments[0].uniform(0.1, 0.6))
    kill(process, everything=True)
    assert clean_platform.resource_versions() == before


def test_no_worker_waits_for_a_reader_that_was_killed(clean_platform):
    """Its result is longer than a pipe holds."""
    process = clean_platform.start_playbook("site", "--check")

    def forks() -> list[int]:
        """The workers: processes that run the same program."""
        mine = told(process.pid, "cmdline")
        return [pid for pid in descendants(process.pid) if told(pid, "cmdline") == mine]

    assert wait_until(forks, process)
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: any("pipe_write" in told(worker, "wchan") for worker in forks()))
    kill(process, everything=False)
    wait_until(lambda: not alive(), seconds=10)


@pytest.mark.parametrize("everything", [True, False], ids=["everything dies", "workers go on"])
def test_a_killed_switch_of_the_judge_can_be_taken_back_or_finished(deployed, reference, moment, everything):
    killed(deployed, moment(), everything, *LARGE)
    deployed.playbook("site", *NOW)
    assert_as(deployed, reference.deployed)
    killed(deployed, moment(), everything, *LARGE)
    deployed.playbook("site", *LARGE, *NOW)
    assert_as(deployed, reference.switched)


def test_a_switch_killed_while_the_old_judge_goes_or_the_new_one_comes(deployed, reference, moment):
    to_large = ["-e", "switch_variant=judge-large"]
    killed(deployed, moment(), True, *to_large, playbook="switch")
    deployed.playbook("site", *NOW)
    assert_as(deployed, reference.deployed)
    killed(deployed, moment(), False, *to_large, playbook="switch")
    deployed.playbook("switch", *to_large, *NOW)
    assert_as(deployed, reference.switched)


@pytest.mark.parametrize("everything", [True, False], ids=["everything dies", "workers go on"])
def test_a_killed_rollback_run_again_ends_the_same(clean_platform, reference, moment, everything):
    connection = {"kubeconfig": str(clean_platform.kubeconfig)}
    for variables in ({}, {"vllm_judge_variant": "judge-large"}):
        assert not deliver(local(clean_platform, **variables), connection).failed
    back = ["-e", "release=1"]
    killed(clean_platform, moment(), everything, *back, playbook="rollback")
    clean_platform.playbook("rollback", *back, *NOW)
    assert_as(clean_platform, reference.deployed)


def test_a_failed_run_killed_while_it_brings_back_what_ran_ends_as_that(deployed, reference, moments):
    wrong = {"vllm_node_selector": {"no": "where"}, "apply_capacity_timeout": 1, "apply_rollback_on_failure": True}
    newest = max(results(deployed))
    process = deployed.start_playbook("site", "-e", json.dumps(wrong))
    assert wait_until(lambda: results(deployed).get(newest + 1) == "failed", process)
    time.sleep(moments[0].uniform(0, 1))
    kill(process, everything=True)
    assert results(deployed)[newest + 1] in ("failed", "rolled back")
    deployed.playbook("site", *NOW)
    assert_as(deployed, reference.deployed)


# --- The control plane is killed -------------------------------------------------------------------


def test_a_deploy_whose_api_server_died_ends_the_same(clean_platform, reference, moment):
    process = clean_platform.start_playbook("site")
    try:
        assert wait_until(lambda: holder(clean_platform), process)
        time.sleep(moment())
        # Not etcd: a cluster that starts beside this one might take its ports before it is back.
        os.kill(clean_platform.processes()["kube-apiserver"], signal.SIGKILL)
        # Longer than a request is repeated.
        time.sleep(2)
    finally:
        clean_platform.control("up")
    text = process.communicate(timeout=180)[0]
    # It has waited for the API server, or said that it was away.
    assert process.returncode == 0 or "does not answer" in text or "refused" in text.lower(), text
    clean_platform.playbook("site")
    assert_as(clean_platform, reference.deployed)
