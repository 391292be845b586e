"""Clients of a running model server: the stand-ins as processes, and what asks any server."""

from __future__ import annotations

import atexit
import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import urllib3

ROOT = Path(__file__).resolve().parent.parent
STANDINS = ROOT / "standins"
FOLDERS = {"vllm": "vllm-openai", "tritonserver": "tritonserver"}
# Of the vLLM that the roles deploy.
VERSION = "0.14.1"
WAIT_SECONDS = 60
HTTP = urllib3.PoolManager(retries=False)


@functools.cache
def program(name: str) -> Path:
    """A stand-in's program, beside all that its image holds."""
    # Not below /tmp: a pod has its own there.
    home = ROOT / ".cache"
    home.mkdir(exist_ok=True)
    made = tempfile.mkdtemp(prefix="standin-", dir=home)
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = Path(shutil.copytree(STANDINS / FOLDERS[name], made, dirs_exist_ok=True))
    subprocess.run([STANDINS / FOLDERS[name] / "prepare", folder], check=True)
    return folder / {"vllm": "serve.py", "tritonserver": "tritonserver.py"}[name]


class Client:
    """Asks a server on this machine; `port` is its port."""

    port: str

    def ask(
        self, path: str, body: Any = None, *, port: str = "", timeout: float = WAIT_SECONDS, **more
    ) -> urllib3.BaseHTTPResponse:
        method = more.pop("method", "GET" if body is None else "POST")
        known = {"json": body} if isinstance(body, dict) else {"body": body}
        return HTTP.request(method, f"http://127.0.0.1:{port or self.port}{path}", timeout=timeout, **known, **more)

    def metric(self, name: str, port: str = "", **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = self.ask("/metrics", port=port).data.decode()
        rows = re.findall(rf"^{re.escape(name)}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
        assert rows, text
        return sum(
            float(value) for inside, value in rows if all(f'{key}="{one}"' in inside for key, one in labels.items())
        )


class StandIn(Client):
    """A started stand-in; what it writes is in `log`."""

    def __init__(self, name: str, words: list[str], env: dict[str, str], folder: Path):
        self.file = folder / f"{name}-{time.monotonic_ns()}.log"
        known = {key: value for key, value in os.environ.items() if not key.startswith(("STANDIN_", "VLLM_"))}
        with self.file.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, program(name), *words],
                env={**known, **env},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    @property
    def log(self) -> str:
        return self.file.read_text()

    def until(self, pattern: str) -> str:
        """Wait for a line, and give its first group."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not (found := re.search(pattern, self.log)):
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return found[1] if found.groups() else found[0]

    def ended(self) -> int:
        return self.process.wait(WAIT_SECONDS)
