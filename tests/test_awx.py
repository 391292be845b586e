"""site.yml as an AWX job: ansible-runner in a private data directory laid out as AWX does it, credentials as K8S_AUTH_* alone."""

import os
import subprocess
import uuid
from pathlib import Path

import pytest
import yaml
from awx_jobs import Job
from delivering import deliver, rendering
from kubernetes.config import kube_config
from services import python_of

ROOT = Path(__file__).resolve().parent.parent
DENIED = uuid.uuid4().hex


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
    return Job(folder, platform_connection={}, platform_api_server=cluster.url)


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


def test_a_job_writes_nothing_outside_its_own_folders(deployed):
    changed = subprocess.run(
        [
            "diff",
            "-rq",
            "--no-dereference",
            "--exclude=__pycache__",
            "--exclude=.*",
            ROOT / "roles",
            deployed.folder / "project/roles",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert changed.stdout == ""
    # Ansible's own, and the compiled templates (servers/templates.py).
    left = {str(path.relative_to(deployed.home)) for path in deployed.home.rglob("*") if path.is_file()}
    assert [name for name in left if not name.startswith((".ansible/", ".cache/modelyard/templates/"))] == []


def test_a_job_with_the_wrong_token_is_refused(job, credential, cluster):
    before = cluster.resource_versions()
    assert job.run("denied", {**credential, "K8S_AUTH_API_KEY": DENIED})
    told = (
        "cluster local: Unauthorized (the token in the job''s Kubernetes credential is wrong or has expired: renew it)"
    )
    assert told in job.said(), job.said()
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
