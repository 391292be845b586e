"""One more kind of server, added to a copy of the project as CONTRIBUTING.md says: a role, a module, one name in one list."""

import json
import shutil
import subprocess

import pytest
import yaml
from conftest import BIN, ROOT

MADE_UP = ROOT / "tests" / "made_up_kind"
LIST = "plugins/plugin_utils/servers/__init__.py"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The project with the made-up kind."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("collections", "inventories", "meta", "playbooks", "plugins", "roles"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True)
    for name in ("ansible.cfg", "galaxy.yml"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(MADE_UP / "role", folder / "roles" / "echo")
    shutil.copy(MADE_UP / "echo.py", folder / "plugins/plugin_utils/servers")
    text = (folder / LIST).read_text()
    assert text.count('"mlserver")') == 1
    (folder / LIST).write_text(text.replace('"mlserver")', '"mlserver", "echo")'))
    return folder


def play(project, cluster, name, *args, check=True):
    command = [BIN / "ansible-playbook", "-i", "inventories/local", f"playbooks/{name}.yml", *args]
    done = subprocess.run(
        command, cwd=project, env=cluster.env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return " ".join((done.stdout + done.stderr).split())


def test_it_is_deployed_with_the_others_and_asked(project, cluster, clean_platform):
    text = play(project, cluster, "site", "-e", "echo_min_ready_seconds=0")
    assert "create Deployment ml-models/echo-small" in text
    assert "create Deployment ml-models/vllm" in text
    assert "echo-small cpu-compute 1/1" in text
    assert " hello judge-vllm " in text
    live = cluster.api("GET", "/apis/apps/v1/namespaces/ml-models/deployments/echo-small")
    assert live["metadata"]["labels"]["modelyard/component"] == "echo"
    account = cluster.api("GET", "/api/v1/namespaces/ml-models/serviceaccounts/echo-small")
    assert account["metadata"]["annotations"]["eks.amazonaws.com/role-arn"].endswith(":role/my-echo-s3-read")
    assert "echo-small: its nodes are simulated" in play(project, cluster, "smoke")
    # Off again, it goes; the others stay.
    text = play(project, cluster, "site", "-e", '{"echo_enabled_profiles": []}')
    assert "prune Deployment ml-models/echo-small" in text
    assert "prune Deployment ml-models/vllm" not in text


def test_it_is_rendered_for_git_with_its_applications(project, cluster, tmp_path):
    # A default of all servers, and a value that names what another role brings.
    given = {"model_server_run_as_user": 4711, "echo_labels": {"beside": "{{ vllm_container_name }}"}}
    text = play(project, cluster, "render", "-e", f"tree_repository={tmp_path}", "-e", json.dumps(given))
    assert "files" in text
    read = {
        str(file.relative_to(tmp_path / "infra")): yaml.safe_load(file.read_text())
        for file in (tmp_path / "infra").rglob("*.yaml")
    }
    for profile, replicas in (("small", 1), ("tall", 3)):
        deployment = read[f"k8s/echo/{profile}/deployment-echo-{profile}.yaml"]
        assert deployment["spec"]["replicas"] == replicas
        assert deployment["spec"]["template"]["spec"]["securityContext"]["runAsUser"] == 4711
        assert deployment["metadata"]["labels"]["beside"] == "vllm"
        assert read[f"argocd/echo/echo-{profile}.yaml"]["spec"]["source"]["path"] == f"infra/k8s/echo/{profile}"
    assert "echo-small.yaml" in read["argocd/echo/kustomization.yaml"]["resources"]
    assert "echo-tall.yaml" not in read["argocd/echo/kustomization.yaml"]["resources"]
    assert "echo" in read["k8s/kustomization.yaml"]["resources"]
    assert read["k8s/echo/kustomization.yaml"]["resources"] == ["small"]


def test_its_role_is_made_in_aws_and_in_the_report(project, cluster, cloud, clean_platform):
    cluster.env.update(cloud.env)
    issuer = '{"irsa_oidc_issuer": "https://oidc.eks.eu-central-1.amazonaws.com/id/ECHO", "platform_aws_account_id": "123456789012"}'
    try:
        text = play(project, cluster, "aws", "-e", issuer)
        assert "my-echo-s3-read" in text
        text = play(project, cluster, "identity", "-e", issuer, check=False)
    finally:
        for name in cloud.env:
            cluster.env.pop(name, None)
    assert "ml-models/echo-small" in text


def test_its_inputs_are_checked(project, cluster):
    wrong = '{"echo_profiles": {"small": {"replicaz": 2}}, "echo_wordz": [], "echo_enabled_profiles": ["smal"]}'
    text = play(project, cluster, "site", "-e", wrong, check=False)
    assert "echo_profiles.small.replicaz" in text
    assert "did you mean replicas?" in text
    assert "echo_wordz" in text
    assert "did you mean echo_words?" in text


def test_a_role_without_its_inputs_is_refused(project, cluster):
    file = project / "roles/echo/meta/inputs.yml"
    kept = file.read_text()
    file.unlink()
    try:
        text = play(project, cluster, "site", check=False)
    finally:
        file.write_text(kept)
    assert "role echo: nothing describes its variables" in text
    assert "CONTRIBUTING.md" in text
