"""Runs the pod of a rendered Deployment on this machine, without a container engine.

Each container has its own root, users and processes (see `enter`): command, arguments, environment, volumes, user and read-only
root are the rendered ones, and vLLM is process 1. The image is the Python environment of a dependency group. The network is the
machine's.
"""

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import urllib3

ENTER = Path(__file__).with_name("enter")
ADAPTERS = "/mnt/adapters"
# The Secrets that pods may name: (name, key) to value.
SECRETS = {("vllm-key", "api-key"): "hush"}
NAMESPACES = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"]


class Pod:
    """A pod's volumes, and the processes of its containers.

    Args:
        objects: what the role rendered.
        name: the Deployment's.
        folder: holds the volumes and the logs; new.
        images: container to the Python that its image has.
        more: container to environment variables beside the rendered ones.
        kept: paths whose content outlives the pod, to the folder that has it.
    """

    def __init__(self, objects, name, folder: Path, images: dict[str, Path], more: dict[str, dict], kept=()):
        by_name = {(item["kind"], item["metadata"]["name"]): item for item in objects}
        self.deployment = by_name["Deployment", name]
        self.spec = self.deployment["spec"]["template"]["spec"]
        self.folder, self.images, self.more, self.kept = folder, images, more, dict(kept)
        self.main = self.spec["containers"][0]
        self.log = folder / "log"
        self.process = None
        (folder / "root").mkdir(parents=True)
        for volume in self.spec["volumes"]:
            self.volume(volume["name"]).mkdir()
            if "configMap" in volume:
                for file, content in by_name["ConfigMap", volume["configMap"]["name"]]["data"].items():
                    (self.volume(volume["name"]) / file).write_text(content)

    def volume(self, name: str) -> Path:
        return self.folder / f"volume-{name}"

    def init(self) -> subprocess.CompletedProcess:
        """Run the init container to its end."""
        (container,) = self.spec["initContainers"]
        return subprocess.run(
            self._command(container), env=self._environment(container), capture_output=True, text=True, check=False
        )

    def start(self) -> None:
        """Start the main container; what it writes is in `log`."""
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self._command(self.main),
                env=self._environment(self.main),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(self, command: list[str], given: bytes = b"") -> subprocess.CompletedProcess:
        """Run a command in the main container, as kubectl exec and hooks do."""
        inside = ["nsenter", f"--target={self.first()}", "--user", "--preserve-credentials", "--mount", "--pid"]
        user = [f"--setuid={self._id('User')}", f"--setgid={self._id('Group')}"]
        return subprocess.run(
            [*inside, *user, *command], env=self._environment(self.main), input=given, capture_output=True, check=False
        )

    def copy_in(self, slot: str, files: dict[str, bytes]) -> str:
        """Copy files into an adapter's slot as kubectl cp does, with the image's tar; the path in the container."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            folder = tarfile.TarInfo(slot)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(folder)
            for name, content in files.items():
                entry = tarfile.TarInfo(f"{slot}/{name}")
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
        done = self.run(["tar", "xmf", "-", "-C", ADAPTERS], packed.getvalue())
        assert done.returncode == 0, done.stderr
        return f"{ADAPTERS}/{slot}"

    def first(self) -> int:
        """The main container's process 1, by its number on the machine."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def processes(self) -> dict[int, str]:
        """What runs in the main container: number on the machine to name."""
        found, left = {}, [self.first()]
        while left:
            number = left.pop()
            with contextlib.suppress(OSError):
                found[number] = Path(f"/proc/{number}/comm").read_text().strip()
                left += map(int, Path(f"/proc/{number}/task/{number}/children").read_text().split())
        return found

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def probe(self, name: str) -> bool:
        """Whether one of the main container's probes succeeds now, as the kubelet judges an answer."""
        probe = self.main[name]
        (port,) = [one["containerPort"] for one in self.main["ports"] if one["name"] == probe["httpGet"]["port"]]
        url = f"http://127.0.0.1:{port}{probe['httpGet']['path']}"
        try:
            answer = urllib3.request("GET", url, timeout=probe.get("timeoutSeconds", 1), retries=False)
        except urllib3.exceptions.HTTPError:
            return False
        return 200 <= answer.status < 400

    def stop(self, hook: bool = True) -> int | None:
        """Stop the main container as the kubelet does: the preStop hook to its end, SIGTERM, SIGKILL when the grace is over.

        Args:
            hook: False leaves the hook out.

        Returns:
            the exit status; None where it took SIGKILL.
        """
        # The hook is a part of the grace.
        end = time.monotonic() + self.spec["terminationGracePeriodSeconds"]
        if hook:
            done = self.run(self.main["lifecycle"]["preStop"]["exec"]["command"])
            assert done.returncode == 0, done.stderr
        if self.running():
            os.kill(self.first(), signal.SIGTERM)
        try:
            return self.process.wait(max(end - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def kill(self) -> None:
        """End the main container at once."""
        if self.running():
            with contextlib.suppress(ProcessLookupError, IndexError):
                os.kill(self.first(), signal.SIGKILL)
        self.process.wait()

    def remove(self) -> None:
        """End what runs, and remove the volumes."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.folder)

    def _id(self, kind: str) -> str:
        return str(self.spec["securityContext"][f"runAs{kind}"])

    def _environment(self, container: dict) -> dict[str, str]:
        rendered = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        for item in container["env"]:
            if reference := item.get("valueFrom", {}).get("secretKeyRef"):
                rendered[item["name"]] = SECRETS[reference["name"], reference["key"]]
        programs = f"{self.images[container['name']].parent}:/usr/local/bin:/usr/bin:/bin"
        return {"PATH": programs, **self.more.get(container["name"], {}), **rendered}

    def _command(self, container: dict) -> list[str]:
        assert container["securityContext"]["readOnlyRootFilesystem"]
        mounts = [(str(self.volume(one["name"])), one) for one in container["volumeMounts"]]
        volumes = [
            f"{folder}={one['mountPath']}{':ro' if one.get('readOnly') else ''}"
            for folder, one in sorted_by_path(mounts)
        ]
        # A volume at /tmp must not hide what lies below the machine's.
        shown = [self.images[container["name"]].parents[1], Path(sys.base_prefix)]
        volumes += [
            f"{path}={path}:ro" for path in shown if any(path.is_relative_to(m["mountPath"]) for _, m in mounts)
        ]
        paths = {one["mountPath"] for _, one in mounts}
        volumes += [f"{where}={path}" for path, where in self.kept.items() if str(Path(path).parent) in paths]
        words = [*container.get("command", []), *container.get("args", [])]
        return [
            *NAMESPACES,
            str(ENTER),
            str(self.folder / "root"),
            self._id("User"),
            self._id("Group"),
            *volumes,
            "--",
            *words,
        ]


def sorted_by_path(mounts: list) -> list:
    """A volume inside another one comes after it."""
    return sorted(mounts, key=lambda mount: mount[1]["mountPath"])
