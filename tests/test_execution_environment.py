"""What AWX and ansible-navigator run the playbooks in: what it is made of, that it is enough, and what AWX installs by itself."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import ansible_collections.kubernetes.core as bundled
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from services import python_of

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
UV = ROOT / "tools/uv"
KUBERNETES_CORE = Path(bundled.__path__[0])
REQUIREMENTS = ROOT / "images/execution-environment/requirements.txt"
PINS = dict(line.split("==") for line in REQUIREMENTS.read_text().split())
COLLECTIONS = yaml.safe_load((ROOT / "requirements-awx.yml").read_text())["collections"]
# What the collections import for plugins that no playbook uses, and how it is called there.
NOT_NEEDED = {
    "jsonpatch": "kubernetes.core.k8s_json_patch",
    "awxkit": "awx.awx.export and awx.awx.import",
    "pytz": "awx.awx.schedule_rrule",
    "tower_cli": "the predecessor of awx.awx, where it is there",
    "distutils": "where ansible-core is older than 2.12",
    "orderreddict": "where Python is older than 2.7",
}


def run(*command, cwd=ROOT, **env) -> str:
    """Run a command with this machine's programs, and give what it prints."""
    known = {"PATH": f"{BIN}{os.pathsep}{os.defpath}", "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=cwd, env={**known, **env}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def version_of(collection: Path) -> dict[str, str]:
    info = json.loads((collection / "MANIFEST.json").read_text())["collection_info"]
    return {"name": f"{info['namespace']}.{info['name']}", "version": info["version"]}


def awx_collection() -> Path:
    (found,) = python_of("awx").parent.parent.glob("lib/python*/site-packages/ansible_collections/awx/awx")
    return found


def imported(folder: Path) -> set[str]:
    """The modules that the Python files below a folder import, by their first name."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {"ansible", "ansible_collections"}


def test_awx_finds_nothing_to_install_when_it_updates_the_project():
    # Its project_update.yml looks for these, and asks Galaxy for what is in them.
    taken = [f"{folder}requirements.{end}" for folder in ("", "collections/", "roles/") for end in ("yml", "yaml")]
    assert [name for name in taken if (ROOT / name).exists()] == []


def test_the_collections_are_those_of_the_lock():
    assert [version_of(KUBERNETES_CORE), version_of(awx_collection())] == COLLECTIONS


def test_every_version_is_that_of_the_lock():
    exported = run(UV, "export", "--quiet", "--frozen", "--no-hashes", "--no-annotate", "--no-header")
    locked = dict(re.findall(r"^(\S+)==([^\s;]+)", exported, re.MULTILINE))
    assert {name: locked.get(name) for name in PINS} == PINS


def test_all_that_a_run_needs_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    # The package ansible is where a working copy has kubernetes.core from.
    wanted = {Requirement(line).name for line in project} - {"ansible"} | {"ansible-runner"}
    assert wanted <= set(PINS)
    needed = [Requirement(line) for name in PINS for line in requires(name) or []]
    below = {canonicalize_name(one.name) for one in needed if not one.marker or one.marker.evaluate({"extra": ""})}
    assert below - set(PINS) == set()


@pytest.mark.parametrize("which", ["modelyard.core", "kubernetes.core", "awx.awx"])
def test_all_that_the_plugins_import_is_pinned(which):
    folder = {"modelyard.core": ROOT, "kubernetes.core": KUBERNETES_CORE}.get(which) or awx_collection()
    distributions = packages_distributions()
    found = imported(folder / "plugins")
    assert found
    missing = {
        name for name in found if not {canonicalize_name(one) for one in distributions.get(name, ())} & set(PINS)
    }
    assert missing - (set() if which == "modelyard.core" else set(NOT_NEEDED)) == set()


def test_the_pins_alone_run_a_playbook(tmp_path):
    # As an image has it: these packages, one folder of collections, and the project.
    run(UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env")
    run(
        UV,
        "pip",
        "install",
        "--quiet",
        "--python",
        tmp_path / "env/bin/python",
        "--no-deps",
        "--requirements",
        REQUIREMENTS,
    )
    (tmp_path / "ansible_collections/kubernetes").mkdir(parents=True)
    (tmp_path / "ansible_collections/kubernetes/core").symlink_to(KUBERNETES_CORE)
    told = run(
        tmp_path / "env/bin/ansible-playbook",
        *("-i", "inventories/local", "playbooks/preflight.yml"),
        ANSIBLE_COLLECTIONS_PATH=f"collections:{tmp_path}",
        HOME=str(tmp_path),
    )
    assert "judge-vllm" in told
    run(
        tmp_path / "env/bin/python",
        "-c",
        "from ansible.plugins.loader import init_plugin_loader; init_plugin_loader()\n"
        "from ansible_collections.modelyard.core.plugins.plugin_utils.aws import account\n"
        "from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client",
        ANSIBLE_COLLECTIONS_PATH=f"collections:{tmp_path}",
    )


def test_the_context_of_the_image(tmp_path):
    run("ansible-builder", "create", "--context", tmp_path, "--output-filename", "Containerfile")
    steps = (tmp_path / "Containerfile").read_text().splitlines()
    assert steps[0].startswith("ARG EE_BASE_IMAGE=")
    assert "FROM $EE_BASE_IMAGE AS base" in steps
    # Before the first pip, so that what is needed by what is asked for is pinned, too.
    first_pip = next(number for number, step in enumerate(steps) if " -m pip install " in step)
    for step in (
        "COPY _build/requirements.txt /usr/share/modelyard/requirements.txt",
        "ENV PIP_CONSTRAINT=/usr/share/modelyard/requirements.txt",
    ):
        assert steps.index(step) < first_pip
    assert (tmp_path / "_build/requirements.txt").read_text().split() == REQUIREMENTS.read_text().split()
    assert yaml.safe_load((tmp_path / "_build/requirements.yml").read_text())["collections"] == COLLECTIONS
    unpinned = (tmp_path / "_build/exclude-collections.txt").read_text().split()
    assert unpinned == [collection["name"] for collection in COLLECTIONS]


def test_make_ee_passes_the_base_image_and_the_name_to_the_engine(tmp_path):
    # Writes down what it was asked.
    (tmp_path / "podman").write_text(f'#!/bin/sh\necho "$*" >>{tmp_path}/asked\n')
    (tmp_path / "podman").chmod(0o755)
    asked = ("EE=registry.example/modelyard-ee:7", "EE_BASE_IMAGE=registry.example/base:1", "ENGINE=podman")
    run("make", "ee", *asked, PATH=f"{tmp_path}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}")
    told = (tmp_path / "asked").read_text()
    assert "-t registry.example/modelyard-ee:7" in told
    assert "--build-arg=EE_BASE_IMAGE=registry.example/base:1" in told


def test_the_image_is_given_credentials_and_no_cluster_of_this_machine():
    """In a container, 127.0.0.1 is the container."""
    settings = yaml.safe_load((ROOT / "ansible-navigator.yml").read_text())["ansible-navigator"]
    passed = settings["execution-environment"]["environment-variables"]["pass"]
    assert {name.partition("_")[0] for name in passed} == {"K8S", "AWS"}


def test_ansible_navigator_runs_a_playbook_and_leaves_no_file(tmp_path):
    told = run(
        *("ansible-navigator", "run", "playbooks/preflight.yml", "-i", "inventories/local", "--ee", "false"),
        HOME=str(tmp_path),
    )
    assert "judge-vllm" in told
    assert "Issues were found while applying the settings" not in told
    assert [*ROOT.glob("*.log"), *ROOT.glob("playbooks/*artifact*")] == []
