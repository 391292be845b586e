"""What the stand-ins for vLLM and Triton share: how they are told to behave, and an HTTP server. For tests only.

STANDIN_LOAD_SECONDS     how long loading takes (0)
STANDIN_REQUEST_SECONDS  how long a request takes (0)
STANDIN_FAIL             what goes wrong (nothing):
    init                exits with 1 while it starts
    out-of-memory       allocates memory after loading until the kernel kills it; refused where nothing limits it
    cuda-out-of-memory  says what is said where the GPU's memory does not suffice, and exits with 1
    never-ready         never finishes loading
    crash               exits with 1, STANDIN_FAIL_SECONDS after it was ready
    engine-dead         vLLM only: the engine dies, STANDIN_FAIL_SECONDS after it was ready
STANDIN_FAIL_SECONDS     see there (0)
"""

from __future__ import annotations

import json
import os
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

FAILURES = ("", "init", "out-of-memory", "cuda-out-of-memory", "never-ready", "crash", "engine-dead")
_UNLIMITED = 1 << 60


def log(text: str) -> None:
    """Write a line to standard error, at once."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def die(text: str, status: int = 1) -> None:
    """Say why, and end the process, whatever its threads do."""
    log(text)
    sys.stdout.flush()
    os._exit(status)


# --- How to behave -----------------------------------------------------------------------------------


@dataclass
class Behaviour:
    """What the environment says: times in seconds, and one of FAILURES."""

    load_seconds: float = 0
    request_seconds: float = 0
    fail: str = ""
    fail_seconds: float = 0

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Behaviour:
        """Read STANDIN_*; SystemExit with what is wrong for an unknown name or value."""
        found = cls()
        for name, text in environment.items():
            if not name.startswith("STANDIN_"):
                continue
            key = name.removeprefix("STANDIN_").lower()
            if key == "fail" and text in FAILURES:
                found.fail = text
                continue
            try:
                if key == "fail" or key not in cls.__dataclass_fields__:
                    raise ValueError
                setattr(found, key, float(text))
            except ValueError:
                sys.exit(
                    f"stand-in: {name} is {text!r}: it takes STANDIN_LOAD_SECONDS, STANDIN_REQUEST_SECONDS, "
                    f"STANDIN_FAIL_SECONDS (numbers) and STANDIN_FAIL ({', '.join(FAILURES[1:])})"
                )
        return found

    def load(self, cuda_message: str) -> None:
        """Take the time that loading takes, and fail where it is told to."""
        if self.fail == "init":
            die("stand-in: STANDIN_FAIL is init: exits")
        time.sleep(self.load_seconds)
        if self.fail == "never-ready":
            log("stand-in: STANDIN_FAIL is never-ready: goes on loading")
            while True:
                time.sleep(3600)
        if self.fail == "cuda-out-of-memory":
            die(cuda_message)
        if self.fail == "out-of-memory":
            fill_memory(memory_limit())

    def ready(self, dead: Callable[[], None]) -> None:
        """Start the clock of what fails after the start: crash, or `dead` for engine-dead."""
        if self.fail in ("crash", "engine-dead"):
            action = dead if self.fail == "engine-dead" else lambda: die("stand-in: STANDIN_FAIL is crash: exits")
            timer = threading.Timer(self.fail_seconds, action)
            timer.daemon = True
            timer.start()


def memory_limit(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Read this container's limit of memory, in bytes, from cgroup v2 or v1; 0 where there is none."""
    for file in (root / "memory.max", root / "memory/memory.limit_in_bytes"):
        try:
            text = file.read_text().strip()
        except OSError:
            continue
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    return 0


def fill_memory(limit: int) -> None:
    """Allocate until the kernel kills the process; exit with 1 where no limit would stop it."""
    if not limit:
        die("stand-in: STANDIN_FAIL is out-of-memory, but nothing limits the memory here: set a limit")
    log(f"stand-in: STANDIN_FAIL is out-of-memory: fills {limit} bytes")
    kept = [b"x" * (8 << 20) for _ in range(2 * limit // (8 << 20) + 1)]
    die(f"stand-in: {len(kept) * 8} MiB allocated, and still alive")


# --- HTTP --------------------------------------------------------------------------------------------


@dataclass
class Request:
    """What a client sent; `gone` tells whether it has hung up since."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    gone: Callable[[], bool]

    def json(self) -> Any:
        """Decode the body; ValueError where it is no JSON."""
        return json.loads(self.body or b"null")


@dataclass
class Answer:
    """What goes back: JSON for dictionaries and lists, text as it is, and a sequence of texts as a stream."""

    status: int = 200
    body: Any = ""
    kind: str = "text/plain; charset=utf-8"
    stream: Iterable[str] | None = None
    headers: dict = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        """Give the body's bytes and their content type."""
        if isinstance(self.body, (dict, list)):
            return json.dumps(self.body).encode(), "application/json"
        return str(self.body).encode(), self.kind


class Server(ThreadingHTTPServer):
    """Answers each request with `answer(request)`, in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, host: str, port: int, answer: Callable[[Request], Answer]):
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, port), _Handler, bind_and_activate=False)
        self.answer = answer
        self.lock = threading.Lock()
        # Requests whose answer is not written yet.
        self.busy = 0

    def server_bind(self) -> None:
        """Bind, without http.server's look-up of the host's name, which waits for a resolver."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def start(self) -> None:
        """Listen and serve in the background, once bound."""
        self.server_activate()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, request, client_address) -> None:
        """Be quiet about clients that hang up."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _handle(self) -> None:
        with self.server.lock:
            self.server.busy += 1
        try:
            self._answer()
        finally:
            with self.server.lock:
                self.server.busy -= 1

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path = self.path.partition("?")[0]
        answer = self.server.answer(Request(self.command, path, self.headers, body, self._gone))
        content, kind = answer.encoded()
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.stream is not None:
            self.send_header("Content-Type", "text/event-stream; charset=utf-8")
            self.send_header("Connection", "close")
            self.end_headers()
            for part in answer.stream:
                self.wfile.write(part.encode())
            return
        if kind:
            self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = _handle  # noqa: N815 - http.server's names

    def _gone(self) -> bool:
        try:
            return self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def log_message(self, text: str, *values: Any) -> None:
        """Probes would fill the log."""


def metrics(families: Mapping[str, tuple[str, list[tuple[Mapping[str, Any], float]]]]) -> Answer:
    """Write Prometheus' text format: name to type and samples (labels, value); of a histogram its count, and the bucket of all."""
    lines = []
    for name, (kind, samples) in families.items():
        lines += [f"# HELP {name} {name}", f"# TYPE {name} {kind}"]
        for labels, value in samples:
            inside = ",".join(f'{key}="{escape(text)}"' for key, text in labels.items())
            if kind == "histogram":
                lines.append(f'{name}_bucket{{{inside},le="+Inf"}} {float(value)}')
            lines.append(f"{name}{'_count' if kind == 'histogram' else ''}{{{inside}}} {float(value)}")
    return Answer(body="\n".join(lines) + "\n", kind="text/plain; version=0.0.4; charset=utf-8")


def escape(text: Any) -> str:
    """Write a label's value."""
    return str(text).replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
