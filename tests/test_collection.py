"""The project as the collection modelyard.core: built, installed into an empty project, and used there, by the oldest ansible-core too."""

import os
import subprocess
import tomllib

import pytest
import yaml
from conftest import BIN, ROOT
from services import python_of

NAMESPACE = "another-project"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """An empty project with nothing but the installed collection."""
    folder = tmp_path_factory.mktemp("another")
    galaxy = [BIN / "ansible-galaxy", "collection"]
    subprocess.run([*galaxy, "build", "--output-path", folder, ROOT], check=True, capture_output=True)
    (archive,) = folder.glob("modelyard-core-*.tar.gz")
    install = ["install", "--offline", "--no-deps", "--collections-path", folder / "collections", archive]
    subprocess.run([*galaxy, *install], check=True, capture_output=True, cwd=folder)
    archive.unlink()
    return folder


@pytest.fixture
def play(project, cluster):
    """play(NAME) runs a playbook of the collection or a file of the project, by the ansible-core of a dependency group; gives its output."""
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "platform_connection": {"kubeconfig": str(cluster.kubeconfig)},
        "platform_api_server": cluster.url,
        "platform_namespace": NAMESPACE,
        "platform_aws_account_id": "123456789012",
        "platform_accepted_placeholders": ["123456789012"],
        "triton_enabled_profiles": ["cpu"],
        "triton_min_ready_seconds": 0,
        "vllm_enabled": False,
    }
    (project / "hosts.yml").write_text(yaml.dump({"clusters": {"hosts": {"mine": {}}, "vars": variables}}))
    (project / "one_role.yml").write_text(
        yaml.dump([{"hosts": "clusters", "gather_facts": False, "roles": ["modelyard.core.triton"]}])
    )
    # kubernetes.core is that of this project's environment.
    paths = [project / "collections", next(BIN.parent.glob("lib/python*/site-packages"))]
    env = {**cluster.env, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(map(str, paths))}

    def play_(name, group=None, check=True):
        folder = python_of(group).parent if group else BIN
        command = [folder / "ansible-playbook", "-i", "hosts.yml", name]
        done = subprocess.run(
            command, cwd=project, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        assert (done.returncode == 0) == check, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return play_


def test_it_deploys_from_another_project(play, cluster, clean_platform):
    assert "cluster mine: 11 changes" in play("modelyard.core.site")
    live = cluster.api("GET", f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/triton-inference")
    assert live["status"]["readyReplicas"] == 2
    # The role by itself, with Ansible's own validation of its variables before it, finds nothing to do.
    assert "cluster mine: nothing to change" in play("one_role.yml")


def test_the_oldest_ansible_core_deploys_the_same(play, clean_platform):
    assert "cluster mine: 11 changes" in play("modelyard.core.site", "oldest")
    assert "cluster mine: nothing to change" in play("modelyard.core.site")


def test_an_older_one_is_refused_in_words(play):
    said = play("modelyard.core.site", "outdated", check=False)
    assert "ERROR! modelyard.core needs ansible-core 2.19 or newer, and this is 2.18.19: pip install --upgrade" in said
    wanted = yaml.safe_load((ROOT / "meta" / "runtime.yml").read_text())["requires_ansible"]
    assert wanted == ">=2.19.0"


def test_nothing_but_what_others_use_is_in_it(project):
    installed = project / "collections" / "ansible_collections" / "modelyard" / "core"
    found = {path.name for path in installed.iterdir() if path.is_dir()}
    assert found == {"docs", "meta", "playbooks", "plugins", "roles"}


def test_its_version_is_the_projects():
    versions = {yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]}
    versions.add(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])
    assert len(versions) == 1
