"""What AWX installs by itself, and what the execution environment is made of: the versions of the lock."""

import json
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import ansible_collections.kubernetes.core as bundled
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEFINITION = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
COLLECTIONS = yaml.safe_load((ROOT / "requirements-awx.yml").read_text())["collections"]


def locked(name: str) -> str:
    """Version of a package in the lock file: of ansible-core, which groups for tests have at other versions, the project's own."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    assert version(name) in [package["version"] for package in packages if package["name"] == name]
    return version(name)


def test_awx_finds_nothing_to_install_when_it_updates_the_project():
    # Its project_update.yml looks for these, and asks Galaxy for what is in them.
    taken = [f"{folder}requirements.{end}" for folder in ("", "collections/", "roles/") for end in ("yml", "yaml")]
    listed = subprocess.run(["git", "ls-files", "--", *taken], cwd=ROOT, check=True, capture_output=True, text=True)
    assert listed.stdout.split() == []
    assert not [name for name in taken if (ROOT / name).exists()]


def test_the_collection_is_that_of_the_locked_bundle():
    assert version("ansible") == locked("ansible")
    carried = json.loads((Path(bundled.__path__[0]) / "MANIFEST.json").read_text())["collection_info"]["version"]
    assert {"name": "kubernetes.core", "version": carried} in COLLECTIONS


def test_the_execution_environment_has_the_locked_versions():
    needed = DEFINITION["dependencies"]
    assert needed["galaxy"] == "requirements-awx.yml"
    pins = [*needed["python"], needed["ansible_core"]["package_pip"], needed["ansible_runner"]["package_pip"]]
    for pin in pins:
        name, pinned = pin.split("==")
        assert pinned == locked(name), name
