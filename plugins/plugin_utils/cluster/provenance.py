"""Says where a run comes from: who, which inventory, which commit of it, which versions; never writes, and asks no cluster."""

from __future__ import annotations

import functools
import importlib
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import yaml
from ansible.release import __version__ as ansible_version

UNKNOWN = "unknown"
SECONDS = 10
ROOT = Path(__file__).parents[3]


def of(task_vars: Mapping, holder: str) -> dict:
    """Say where a run comes from.

    Args:
        task_vars: the variables of the task.
        holder: who holds the lock.

    Returns:
        ``by``; ``inventory`` (its name below its repository, or without one that of its file and folder); ``commit`` of that repository,
        and ``clean`` (yes, no), or both unknown; ``versions`` (name to version).
    """
    folder, file = task_vars.get("inventory_dir"), task_vars.get("inventory_file")
    path = Path(str(file or folder)).absolute() if file or folder else None
    user, revision = task_vars.get("awx_user_name"), task_vars.get("awx_project_revision")
    commit, clean = _commit(path.parent if path and path.is_file() else path)
    if commit == UNKNOWN and revision:
        commit = str(revision)
    return {
        "by": f"{user}, as {holder}" if user else holder,
        "inventory": str(task_vars.get("awx_inventory_name") or (_name(path) if path else UNKNOWN)),
        "commit": commit,
        "clean": clean,
        "versions": versions(),
    }


def _name(path: Path) -> str:
    """Give an inventory's name: what is above its repository is nobody's business."""
    top = next((parent for parent in path.parents if (parent / ".git").exists()), None)
    return str(path.relative_to(top)) if top else "/".join(path.parts[1:][-2:])


def _commit(folder: Path | None) -> tuple[str, str]:
    """Give the commit that a folder's repository is at, and whether its tree is clean (yes, no)."""
    if not folder or not folder.is_dir():
        return UNKNOWN, UNKNOWN
    # No hook of the repository's is run, and its index is left as it is.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(  # noqa: S603 (git, and a folder that Ansible has read the inventory from)
            command,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return UNKNOWN, UNKNOWN
    lines = done.stdout.splitlines()
    commit = next((line.split()[2] for line in lines if line.startswith("# branch.oid ")), UNKNOWN)
    # Before the first commit, git says "(initial)".
    known = commit if commit.isalnum() else UNKNOWN
    return known, "yes" if all(line.startswith("#") for line in lines) else "no"


@functools.cache
def versions() -> dict[str, str]:
    """Give the versions of what carries a run out."""
    kubernetes = importlib.import_module("ansible_collections.kubernetes.core")
    return {
        "modelyard": _version(ROOT),
        "ansible-core": ansible_version,
        "kubernetes.core": _version(Path(next(iter(kubernetes.__path__)))),
    }


def _version(collection: Path) -> str:
    """Give a collection's version: an installed one has a manifest, one that is worked on a galaxy.yml."""
    try:
        manifest = json.loads((collection / "MANIFEST.json").read_text(encoding="utf-8"))
        return str(manifest["collection_info"]["version"])
    except (OSError, ValueError, LookupError):
        pass
    try:
        return str(yaml.safe_load((collection / "galaxy.yml").read_text(encoding="utf-8"))["version"])
    except (OSError, ValueError, LookupError, yaml.YAMLError):
        return UNKNOWN
