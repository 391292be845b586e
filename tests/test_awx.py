"""The playbooks as AWX jobs: ansible-runner in a private data directory laid out as AWX does it, credentials as K8S_AUTH_* alone."""

import json
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import aws_api
import jsonschema
import pytest
import yaml
from awx_jobs import Job
from delivering import deliver, rendering
from hugging_face import HuggingFace
from kubernetes.config import kube_config
from services import python_of

ROOT = Path(__file__).resolve().parent.parent
DENIED = uuid.uuid4().hex
# The playbooks that make sense as jobs, render.yml not among them: its files would be thrown away with the job's folder, and awx.yml has
# no cluster. One job runs several, each in a play of its own, since every job takes seconds to start.
READING = ("preflight", "diff", "report", "history", "upgrade", "adopt", "smoke", "identity", "facts")
CHANGING = (
    *("triton", "vllm", "vllm_judge", "mlserver", "irsa", "argocd_apps", "aws"),
    *("handover", "park", "wake", "gate", "switch", "rollback"),
)
MODEL = "org/model"
# What AWX takes of a result (MAX_EVENT_RES_DATA).
LARGEST_EVENT = 700_000


@pytest.fixture(scope="module")
def credential(cluster):
    """What AWX's credential type "OpenShift or Kubernetes API Bearer Token" puts into the environment."""
    cluster.reset()
    cluster.kubectl("apply", "-f", "docs/rbac.yaml")
    deployer = "/api/v1/namespaces/modelyard/serviceaccounts/deployer/token"
    token = cluster.api("POST", deployer, {"spec": {}})["status"]["token"]
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority"]
    return {
        "K8S_AUTH_HOST": cluster.url,
        "K8S_AUTH_API_KEY": token,
        "K8S_AUTH_VERIFY_SSL": "True",
        "K8S_AUTH_SSL_CA_CERT": authority,
    }


@pytest.fixture(scope="module")
def job(cluster, credential, tmp_path_factory):
    """A job whose inventory leaves the connection to the credential."""
    folder = tmp_path_factory.mktemp("awx") / "job"
    account = {
        "platform_aws_account_id": aws_api.ACCOUNT,
        "platform_accepted_placeholders": [aws_api.ACCOUNT, "your-org"],
    }
    return Job(folder, platform_connection={}, platform_api_server=cluster.url, **account)


@pytest.fixture(scope="module")
def deployed(job, credential):
    """The first run."""
    assert job.run("first", credential) == 0, job.output
    return job


def test_a_job_deploys_the_platform(deployed, cluster):
    assert deployed.changed()
    items = cluster.api("GET", "/apis/apps/v1/namespaces/ml-models/deployments")["items"]
    workloads = {item["metadata"]["name"]: item["status"] for item in items}
    assert set(workloads) == {"triton-inference", "triton-inference-gpu", "vllm", "judge-vllm"}
    assert all(status["readyReplicas"] == status["replicas"] for status in workloads.values())


def test_a_second_job_changes_nothing(deployed, credential, cluster):
    """With the credential as AWX has it without a CA certificate, of which it is warned once."""
    unchecked = {key: value for key, value in credential.items() if key != "K8S_AUTH_SSL_CA_CERT"}
    before = cluster.resource_versions()
    # Under the oldest runner that is known to work, too.
    oldest = python_of("runner").parent / "ansible-runner"
    assert deployed.run("second", {**unchecked, "K8S_AUTH_VERIFY_SSL": "False"}, runner=oldest) == 0, deployed.output
    assert deployed.changed() == 0
    assert "cluster local: nothing to change" in deployed.said()
    assert "errantly" not in deployed.said()
    assert cluster.resource_versions() == before
    told = (
        f"the certificate of {cluster.url} is not checked (with Verify SSL on and no CA certificate in the credential,"
    )
    assert deployed.said().count(told) == 1


def test_no_credential_is_left_in_any_file(deployed, credential):
    assert deployed.files_with(credential["K8S_AUTH_API_KEY"]) == []
    assert credential["K8S_AUTH_API_KEY"] not in deployed.output


@pytest.fixture(scope="module")
def credentials(credential, aws_services):
    """The cluster's credential, and one for AWS."""
    aws_services.reset()
    return {**credential, **aws_services.env}


def together(job: Job, playbooks: tuple[str, ...]) -> str:
    """Write a playbook that runs several, beside those of the project; returns its name."""
    imports = [{"import_playbook": f"playbooks/{name}.yml"} for name in playbooks]
    (job.folder / "project/together.yml").write_text(json.dumps(imports))
    return "together.yml"


def assert_well_behaved(job: Job, credentials: dict[str, str], *done: str) -> None:
    """What holds for every job: events, artifacts, credentials, and what it writes where."""
    events = job.events()
    tasks = [event for event in events if event["event"] == "runner_on_ok"]
    assert {(event["event_data"]["host"], bool(event["event_data"]["task"])) for event in tasks} == {("local", True)}
    large = {
        event["event_data"].get("task"): size for event in events if (size := len(json.dumps(event))) > LARGEST_EVENT
    }
    assert large == {}
    artifacts = job.stats()["artifact_data"]
    jsonschema.validate(artifacts, json.loads((ROOT / "docs/artifacts.schema.json").read_text()))
    assert set(artifacts["modelyard_results"]["local"]) >= set(done)
    for name in ("K8S_AUTH_API_KEY", "AWS_SECRET_ACCESS_KEY"):
        assert credentials[name] not in job.output
        assert job.files_with(credentials[name]) == []
    assert job.written() == []


def test_every_playbook_is_run_as_a_job():
    there = {file.stem for file in (ROOT / "playbooks").glob("*.yml")}
    assert there - {"render", "awx"} == {*READING, *CHANGING, "site", "teardown"}


def test_what_reads_leaves_the_cluster_alone_and_hands_on_what_it_found(deployed, credentials, cluster):
    before = cluster.resource_versions()
    with HuggingFace({f"/{MODEL}/resolve/main/config.json": '{"hidden_size": 4096}'}) as host:
        asked = {"platform_hf_endpoint": host.url, "facts_models": [MODEL], "preflight_cluster": True}
        image = "vllm/vllm-openai:v0.14.1"
        kept = str(deployed.folder / "page.html")
        playbook = together(deployed, READING)
        given = {"upgrade_vllm_image": image, "report_html": kept, "irsa_report_strict": False, **asked}
        assert deployed.run("read", credentials, playbook, **given) == 0, deployed.output
    assert Path(kept).exists()
    assert cluster.resource_versions() == before
    assert_well_behaved(deployed, credentials, *READING)
    # The other endpoint is in the environment of both.
    assert deployed.stats()["artifact_data"]["diff_count"] == 2


def test_what_changes_something_does_so_as_a_job(deployed, credentials):
    asked = {"switch_variant": "none", "release": 1, "gate_command": "echo asked $JUDGE_MODEL", "park_servers": "vllm"}
    playbook = together(deployed, CHANGING)
    given = {"wake_servers": "vllm", "irsa_oidc_issuer": aws_api.ISSUER, **asked}
    assert deployed.run("change", credentials, playbook, **given) == 0, deployed.output
    assert deployed.changed() == 6
    for told in (
        "create role arn:aws:iam::",
        "park vllm: 1 pod",
        "wake vllm: 1 pod",
        "asked TheBloke/",
        "release 1 is back",
    ):
        assert told in deployed.said()
    assert_well_behaved(deployed, credentials, "deploy", "aws", "park", "wake", "gate", "switch", "rollback")


def test_a_preview_with_large_differences_stays_below_the_size_of_an_event(deployed, credentials):
    given = {"platform_dashboards_enabled": True}
    assert deployed.run("preview", credentials, options="--check --diff -v", **given) == 0, deployed.output
    assert "would create ConfigMap" in deployed.said()
    assert_well_behaved(deployed, credentials, "deploy")


def test_a_job_cancelled_while_its_rollout_waits_can_be_launched_again(deployed, credentials, cluster):
    nodes = [f"/api/v1/nodes/cpu-compute-{number}" for number in (1, 2)]
    for node in nodes:
        cluster.api("PATCH", node, {"spec": {"unschedulable": True}})
    try:
        given = {"triton_replicas": 3, "apply_capacity_timeout": 300}
        process = deployed.start("cancelled", credentials, "playbooks/triton.yml", **given)
        deadline = time.monotonic() + 120
        while "waiting" not in (said := deployed.printed()):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        # As AWX's cancel ends it.
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    finally:
        for node in nodes:
            cluster.api("PATCH", node, {"spec": {"unschedulable": None}})
    assert (deployed.artifacts / "status").read_text() == "canceled"
    listed = subprocess.run(["ps", "-eo", "args"], check=True, capture_output=True, text=True).stdout
    assert [line for line in listed.splitlines() if str(deployed.folder) in line] == []
    # The process that holds the lock is gone, so that nothing is waited for. Then everything goes.
    playbook = together(deployed, ("triton", "teardown"))
    assert deployed.run("again", credentials, playbook, teardown_confirm="local", **given) == 0, deployed.output
    assert "triton-inference cpu-compute 3/3" in deployed.said()
    assert deployed.stats()["failures"] == {}
    assert_well_behaved(deployed, credentials, "deploy", "teardown")


def test_a_job_with_the_wrong_token_is_refused(job, credential, cluster):
    before = cluster.resource_versions()
    assert job.run("denied", {**credential, "K8S_AUTH_API_KEY": DENIED})
    assert "cluster local: Unauthorized (the token in the job''s Kubernetes credential is" in job.said(), job.said()
    assert cluster.resource_versions() == before
    assert job.files_with(DENIED) == []


@pytest.fixture
def connect(cluster, credential, tmp_path, monkeypatch):
    """Plan a run, in this process, whose inventory leaves the connection to an environment; gives what it was stopped by."""
    for name in [name for name in os.environ if name.startswith(("K8S_AUTH_", "KUBE"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Read at its import: a kubeconfig of the machine's own must not be found.
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "config"))

    def connect_(environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        before = cluster.resource_versions()
        item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "one"}, "data": {}}
        done = deliver(rendering(item, api_server=cluster.url), {}, check_mode=True)
        assert cluster.resource_versions() == before
        return done.failed

    return connect_


def test_an_environment_with_a_credential_is_enough(connect, credential):
    assert connect(credential) == ""


def test_a_missing_credential_is_told(connect):
    assert "can't be used (platform_connection, K8S_AUTH_*)" in connect({})


def test_a_credential_for_another_cluster_is_refused(connect, credential, cluster):
    elsewhere = f"https://localhost:{cluster.port}"
    told = connect({**credential, "K8S_AUTH_HOST": elsewhere})
    assert f"the connection (platform_connection or K8S_AUTH_*) leads to {elsewhere}" in told


def documents(*patterns: str):
    for pattern in patterns:
        for file in sorted(ROOT.glob(pattern)):
            yield file, yaml.safe_load(file.read_text()) or []


def test_nothing_asks_a_question():
    plays = [(file, play) for file, found in documents("playbooks/*.yml") for play in found]
    assert plays
    assert [file.name for file, play in plays if "vars_prompt" in play] == []
    tasks = [(file, task) for file, found in documents("roles/*/tasks/*.yml") for task in found]
    assert tasks
    assert [str(file) for file, task in tasks if "ansible.builtin.pause" in task or "pause" in task] == []
