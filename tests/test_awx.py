"""site.yml as an AWX job: ansible-runner in a private data directory laid out as AWX does it, credentials as K8S_AUTH_* alone."""

import json
import os
import shutil
import stat
import subprocess
import sys
import tomllib
import uuid
from importlib.metadata import version
from pathlib import Path

import ansible_collections.kubernetes.core as bundled
import pytest
import yaml
from delivering import deliver, rendering
from kubernetes.config import kube_config

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
JOB = "4711"
DENIED = uuid.uuid4().hex


def copy_project(target: Path) -> None:
    """Copy what Git has or would take: a checkout, as AWX's project sync makes it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name, follow_symlinks=False)


def inventory_script(cluster, **variables) -> str:
    """Print the local inventory as AWX has it after an import: one script, all variables inside."""
    text = cluster.run(BIN / "ansible-inventory", "-i", "inventories/local", "--list", "--export").stdout
    content = json.loads(text)
    content["clusters"]["vars"] |= variables
    return f"#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint({json.dumps(content)!r})\n"


class Job:
    """A private data directory, and what ansible-runner left in it."""

    def __init__(self, folder: Path, cluster, **inventory):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        copy_project(folder / "project")
        # What AWX makes of ansible.cfg: its own folder for requirements.yml, then the project's paths, then the defaults.
        paths = {
            "ANSIBLE_COLLECTIONS_PATH": f"{folder}/requirements_collections:collections:~/.ansible/collections:/usr/share/ansible/collections",
            "ANSIBLE_ROLES_PATH": f"{folder}/requirements_roles:roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles",
        }
        self.awx = {**paths, "HOME": str(self.home), "JOB_ID": JOB, "AWX_PRIVATE_DATA_DIR": str(folder)}
        self.awx |= {"ANSIBLE_FORCE_COLOR": "True", "ANSIBLE_INVENTORY_UNPARSED_FAILED": "True"}
        self.awx |= {"ANSIBLE_RETRY_FILES_ENABLED": "False"}
        self._write("env/extravars", {"awx_job_id": 4711, "tower_job_id": 4711, "awx_user_name": "ada"})
        self._write("env/settings", {"job_timeout": 300, "suppress_env_files": True})
        self._write("env/cmdline", "-u root --forks 5")
        self._write("inventory/hosts", inventory_script(cluster, **inventory))
        (folder / "inventory/hosts").chmod(stat.S_IRWXU)

    def _write(self, name: str, content: object) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    def run(self, ident: str, credential: dict[str, str], playbook: str = "playbooks/site.yml") -> int:
        """Run the job as AWX's runner does, with nothing of this machine's environment; returns the exit code."""
        self._write("env/envvars", {**self.awx, **credential})
        command = [BIN / "ansible-runner", "run", self.folder, "-p", playbook, "--ident", ident]
        clean = {"PATH": f"{BIN}{os.pathsep}{os.defpath}", "HOME": str(self.home), "LANG": "C.UTF-8"}
        done = subprocess.run(
            command, env=clean, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        self.artifacts = self.folder / "artifacts" / ident
        self.output = done.stdout + done.stderr
        return done.returncode

    def changed(self) -> int:
        """How many tasks changed something, as the job's last event says."""
        events = [json.loads(file.read_text()) for file in (self.artifacts / "job_events").glob("*.json")]
        (stats,) = [event["event_data"] for event in events if event["event"] == "playbook_on_stats"]
        assert stats["processed"]
        return sum(stats["changed"].values())

    def said(self) -> str:
        """All that the job printed, as one line."""
        return " ".join((self.artifacts / "stdout").read_text().split())

    def files_with(self, text: str) -> list[str]:
        """Files that hold a text, but for the credential's own and the runner's note of the environment (AWX masks it)."""
        return [
            str(file.relative_to(self.folder))
            for file in self.folder.rglob("*")
            if file.is_file()
            and file != self.folder / "env/envvars"
            and not file.match("artifacts/*/command")
            and text.encode() in file.read_bytes()
        ]


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
    return Job(folder, cluster, platform_connection={}, platform_api_server=cluster.url)


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
    assert deployed.run("second", {**unchecked, "K8S_AUTH_VERIFY_SSL": "False"}) == 0, deployed.output
    assert deployed.changed() == 0
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


def locked(name: str) -> str:
    """Version of a package in the lock file: of ansible-core, which groups for tests have at other versions, the project's own."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert version(name) in [package["version"] for package in packages if package["name"] == name]
    return version(name)


def test_requirements_pin_the_collection_of_the_locked_bundle():
    assert version("ansible") == locked("ansible")
    carried = json.loads((Path(bundled.__path__[0]) / "MANIFEST.json").read_text())["collection_info"]["version"]
    pinned = yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]
    assert pinned == [{"name": "kubernetes.core", "version": carried}]


def test_the_execution_environment_has_the_locked_versions():
    needed = yaml.safe_load((ROOT / "execution-environment.yml").read_text())["dependencies"]
    assert needed["galaxy"] == "requirements.yml"
    pins = [*needed["python"], needed["ansible_core"]["package_pip"], needed["ansible_runner"]["package_pip"]]
    for pin in pins:
        name, pinned = pin.split("==")
        assert pinned == locked(name), name
