"""A playbook as an AWX job: ansible-runner in a private data directory laid out as AWX does it, and what it leaves there."""

import functools
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
JOB = "4711"


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


@functools.cache
def local_inventory() -> str:
    """The inventory `local` as AWX reads it, as JSON."""
    command = [BIN / "ansible-inventory", "-i", "inventories/local", "--list", "--export"]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


def inventory_script(hosts: dict[str, dict], variables: dict) -> str:
    """Print the local inventory as AWX has it after an import: one script, all variables inside; with other hosts where some are given."""
    content = json.loads(local_inventory())
    content["clusters"]["vars"] |= variables
    if hosts:
        content["clusters"]["hosts"] = list(hosts)
        content["_meta"] = {"hostvars": hosts}
    return f"#! /usr/bin/env python3\n# -*- coding: utf-8 -*-\nprint({json.dumps(content)!r})\n"


class ExtraVars(yaml.SafeDumper):
    """Writes variables as AWX does: no text, a key neither, is a template, but for what the job template itself says."""


ExtraVars.add_representer(str, lambda dumper, text: dumper.represent_scalar("!unsafe", text))


class Job:
    """A private data directory, and what ansible-runner left in it.

    Attributes:
        folder, home: the directory, and the job's HOME in it. artifacts, output, began: of the last run, and when that was.
    """

    def __init__(self, folder: Path, hosts: dict[str, dict] | None = None, **variables):
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        copy_project(folder / "project")
        # What AWX makes of ansible.cfg: its own folder for requirements.yml, then the project's paths, then the defaults.
        paths = {
            "ANSIBLE_COLLECTIONS_PATH": f"{folder}/requirements_collections:collections:~/.ansible/collections:/usr/share/ansible/collections",
            "ANSIBLE_ROLES_PATH": f"{folder}/requirements_roles:roles:~/.ansible/roles:/usr/share/ansible/roles:/etc/ansible/roles",
        }
        # AWX_PRIVATE_DATA_DIR is the folder as AWX has it, and not as the job has it: /runner.
        self.awx = {**paths, "HOME": str(self.home), "JOB_ID": JOB, "AWX_PRIVATE_DATA_DIR": f"/tmp/awx_{JOB}_x"}
        self.awx |= {"ANSIBLE_COLLECTIONS_PATHS": paths["ANSIBLE_COLLECTIONS_PATH"], "ANSIBLE_FORCE_COLOR": "True"}
        self.awx |= {"ANSIBLE_INVENTORY_UNPARSED_FAILED": "True", "ANSIBLE_RETRY_FILES_ENABLED": "False"}
        self.awx |= {"ANSIBLE_UNSAFE_WRITES": "1", "ANSIBLE_BASE_TEAM_MODEL": "main.Team", "INVENTORY_ID": "1"}
        self.awx |= {"PROJECT_REVISION": "0" * 40, "AWX_HOST": "https://towerhost", "MAX_EVENT_RES": "700000"}
        self._write("env/settings", {"job_timeout": 300, "suppress_env_files": True})
        self._write("inventory/hosts", inventory_script(hosts or {}, variables))
        (folder / "inventory/hosts").chmod(stat.S_IRWXU)

    def _write(self, name: str, content: object) -> None:
        file = self.folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(content if isinstance(content, str) else json.dumps(content))

    def start(
        self,
        ident: str,
        credential: dict[str, str],
        playbook: str = "playbooks/site.yml",
        options: str = "",
        runner: Path = BIN / "ansible-runner",
        **extra,
    ) -> subprocess.Popen:
        """Start the job as AWX's runner does, with nothing of this machine's environment.

        Args:
            ident: of its artifacts. credential: what AWX puts into the environment. playbook: below the project.
            options: of ansible-playbook. runner: the program. extra: variables, as a survey has them.
        """
        self._write("env/envvars", {**self.awx, **credential})
        extra = {"awx_job_id": 4711, "tower_job_id": 4711, "awx_user_name": "ada", **extra}
        self._write("env/extravars", yaml.dump(extra, Dumper=ExtraVars))
        self._write("env/cmdline", f"-u root --forks 5 {options}")
        self.artifacts = self.folder / "artifacts" / ident
        self.began = time.time()
        clean = {"PATH": f"{BIN}{os.pathsep}{os.defpath}", "HOME": str(self.home), "LANG": "C.UTF-8"}
        return subprocess.Popen(
            [runner, "run", self.folder, "-p", playbook, "--ident", ident],
            env=clean,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments, **more) -> int:
        """Run the job to its end, with the arguments of `start`; returns the exit code."""
        process = self.start(*arguments, **more)
        self.output, _ = process.communicate()
        return process.returncode

    def events(self) -> list[dict]:
        """The events of the last run, in their order."""
        found = [json.loads(file.read_text()) for file in (self.artifacts / "job_events").glob("*.json")]
        return sorted(found, key=lambda event: event["counter"])

    def stats(self) -> dict:
        """What the last run's last event says."""
        (stats,) = [event["event_data"] for event in self.events() if event["event"] == "playbook_on_stats"]
        assert stats["processed"]
        return stats

    def changed(self) -> int:
        """How many tasks of the last run changed something."""
        return sum(self.stats()["changed"].values())

    def printed(self) -> str:
        """What the last run has printed so far, without the colours."""
        file = self.artifacts / "stdout"
        return re.sub(r"\x1b\[[0-9;]*m", "", file.read_text()) if file.exists() else ""

    def said(self) -> str:
        """The same as one line."""
        return " ".join(self.printed().split())

    def files_with(self, text: str) -> list[str]:
        """Files that hold a text, but for the credential's own, the runner's note of the environment (AWX masks it) and the tests' code."""
        return [
            str(file.relative_to(self.folder))
            for file in self.folder.rglob("*")
            if file.is_file()
            and file != self.folder / "env/envvars"
            and not file.match("artifacts/*/command")
            and not file.is_relative_to(self.folder / "project/tests")
            and text.encode() in file.read_bytes()
        ]

    def written(self) -> list[str]:
        """Files that the last run wrote into the project or its home, but for Ansible's own, bytecode and compiled templates."""
        own = (".ansible", ".cache", "__pycache__")
        files = [file for name in ("project", "home") for file in (self.folder / name).rglob("*") if file.is_file()]
        new = [file.relative_to(self.folder) for file in files if file.stat().st_mtime > self.began]
        return [str(file) for file in new if not set(own) & set(file.parts)]
