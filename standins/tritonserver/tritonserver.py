#!/usr/bin/env python3
"""A stand-in for ``tritonserver``, for tests: Triton's command line, HTTP endpoints and shutdown, without a model.

Options come from flags.json, which names their source. It does not speak gRPC (the port only accepts connections), read a
model's configuration or reach a bucket: s3://, gs:// and as:// hold whatever model is asked for; in a local folder each
sub-folder is a model. STANDIN_* variables set its behaviour, see standin.py.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import triton_arguments
from standin import Answer, Behaviour, Request, Server, die, log, metrics
from triton_arguments import ParseError

FLAGS = json.loads((Path(__file__).resolve().parent / "flags.json").read_text())
CUDA_MESSAGE = """E1126 model_lifecycle.cc] failed to load: Internal: CUDA out of memory. Tried to allocate 224.00 MiB.
error: creating server: Internal - failed to load all models"""


# --- The command line --------------------------------------------------------------------------------


def parse(words: list[str]) -> Namespace:
    """Read a command line.

    Args:
        words: what follows ``tritonserver``.

    Returns:
        the options that the stand-in uses; options given several times as lists.

    Raises:
        ParseError: Triton would print this and its usage, and exit with 1.
    """
    values: dict[str, list] = {}
    for _index, name, text in triton_arguments.given(words, FLAGS["options"]):
        if name == "help":
            raise ParseError("")
        values.setdefault(name, []).append(triton_arguments.read(name, FLAGS["options"][name], text))
    if "response-cache-byte-size" in values and "cache-config" in values:
        raise ParseError("Error: Incompatible flags --response-cache-byte-size and --cache-config both provided.")

    def last(name: str, default: Any) -> Any:
        return values.get(name, [default])[-1]

    address = last("http-address", "0.0.0.0")  # noqa: S104 - Triton's default
    args = Namespace(
        repositories=values.get("model-repository", []) + values.get("model-store", []),
        mode=last("model-control-mode", "none"),
        models=values.get("load-model", []),
        strict=last("strict-readiness", True),
        exit_on_error=last("exit-on-error", True),
        exit_timeout=max(0, last("exit-timeout-secs", 30)),
        http=last("allow-http", True) and (address, last("http-port", 8000)),
        grpc=last("allow-grpc", True) and (last("grpc-address", "0.0.0.0"), last("grpc-port", 8001)),  # noqa: S104
        metrics=last("allow-metrics", True) and (last("metrics-address", address), last("metrics-port", 8002)),
    )
    used: dict = {}
    for service in ("http", "grpc", "metrics"):
        place = getattr(args, service)
        if place and place[1] and used.setdefault(place, service) != service:
            place_text = f"{place[0]}:{place[1]}"
            raise ParseError(
                f"The server cannot listen to {used[place].upper()} requests and {service} requests at the same "
                f"address and port {place_text}"
            )
    return args


# --- The server --------------------------------------------------------------------------------------


class Triton:
    """The state of a server, and its endpoints."""

    def __init__(self, args: Namespace, behaviour: Behaviour):
        self.args = args
        self.behaviour = behaviour
        self.lock = threading.Lock()
        self.models: dict[str, dict] = {}
        self.stopping = False
        self.complete = behaviour.fail != "never-ready"

    def known(self, name: str) -> bool:
        """Tell whether a repository holds a model: a bucket holds any."""
        return any("://" in one or (Path(one) / name).is_dir() for one in self.args.repositories)

    def load(self, name: str) -> None:
        """Load a model; ParseError where no repository has it."""
        if not self.known(name):
            raise ParseError(f"failed to load '{name}', failed to poll from model repository")
        with self.lock:
            self.models.setdefault(name, {"success": 0, "failure": 0, "seconds": 0.0})["state"] = "READY"
        log(f"I1126 model_lifecycle.cc] successfully loaded '{name}'")

    def start(self) -> None:
        """Load what the command line names; ParseError for what ends Triton."""
        args = self.args
        if not args.repositories:
            raise ParseError("error: creating server: Invalid argument - --model-repository must be specified")
        for one in args.repositories:
            if "://" not in one and not Path(one).is_dir():
                raise ParseError(f"error: creating server: Internal - failed to stat file {one}")
        names = args.models if args.mode == "explicit" else ["*"]
        if "*" in names and len(names) > 1:
            raise ParseError(
                "error: creating server: Invalid argument - Wildcard model name '*' must be the ONLY startup model if "
                "specified at all."
            )
        if names == ["*"]:
            folders = [Path(one) for one in args.repositories if "://" not in one]
            names = sorted(entry.name for folder in folders for entry in folder.iterdir() if entry.is_dir())
        for name in names:
            try:
                self.load(name)
            except ParseError as error:
                self.complete = False
                log(f"E1126 model_repository_manager.cc] {error}")
        if names and not self.complete and self.behaviour.fail != "never-ready" and args.exit_on_error:
            raise ParseError("error: creating server: Internal - failed to load all models")

    def ready(self) -> bool:
        """Tell whether the server is ready: not stopping, and with strict readiness every model is there."""
        return not self.stopping and (self.complete or not self.args.strict)

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        path = request.path.rstrip("/")
        if path in ("/v2/health/live", "/v2/health/ready"):
            return Answer(200 if path.endswith("live") or self.ready() else 400)
        if path == "/v2":
            return Answer(body={"name": "triton", "version": FLAGS["version"], "extensions": ["model_repository"]})
        if path == "/v2/repository/index" and request.method == "POST":
            with self.lock:
                index = [{"name": name, "version": "1", "state": one["state"]} for name, one in self.models.items()]
            return Answer(body=index)
        if match := re.fullmatch(r"/v2/repository/models/([^/]+)/(load|unload)", path):
            return self.control(match[1], match[2])
        if match := re.fullmatch(r"/v2/models/([^/]+)(?:/versions/\d+)?(/ready|/infer|)", path):
            return self.model(match[1], match[2], request)
        return Answer(404, {"error": "Not Found"})

    def control(self, name: str, verb: str) -> Answer:
        """Load or unload a model, in explicit mode."""
        if self.args.mode != "explicit":
            return Answer(503, {"error": "explicit model load / unload is not allowed if polling is enabled"})
        if verb == "load":
            try:
                self.load(name)
            except ParseError as error:
                return Answer(400, {"error": str(error)})
            return Answer()
        with self.lock:
            if name in self.models:
                self.models[name]["state"] = "UNAVAILABLE"
        return Answer()

    def model(self, name: str, what: str, request: Request) -> Answer:
        """Answer what is asked of one model."""
        with self.lock:
            there = self.models.get(name, {}).get("state") == "READY"
        if what == "/ready":
            return Answer(200 if there and not self.stopping else 400)
        if not there:
            return Answer(404, {"error": f"Request for unknown model: '{name}' is not found"})
        if not what:
            shape = {"datatype": "FP32", "shape": [-1, 1]}
            tensors = {"inputs": [{"name": "INPUT0", **shape}], "outputs": [{"name": "OUTPUT0", **shape}]}
            return Answer(body={"name": name, "versions": ["1"], "platform": "standin", **tensors})
        return self.infer(name, request)

    def infer(self, name: str, request: Request) -> Answer:
        """Answer an inference with the same number each time, after the time that a request takes."""
        began = time.monotonic()
        with self.lock:
            if self.stopping:
                reason = "Server is stopping, scheduler for model has stopped accepting new inference requests"
                return Answer(503, {"error": reason})
        try:
            body = request.json()
            if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
                raise ValueError("Unable to find 'inputs' in request")
            if self.behaviour.request_seconds:
                log(f"stand-in: an inference of {name} runs")
            time.sleep(self.behaviour.request_seconds)
            tensor = {"name": "OUTPUT0", "datatype": "FP32", "shape": [1, 1], "data": [0.5]}
            found = Answer(
                body={"id": body.get("id", ""), "model_name": name, "model_version": "1", "outputs": [tensor]}
            )
        except ValueError as error:
            found = Answer(400, {"error": f"failed to parse the request JSON buffer: {error}"})
        with self.lock:
            self.models[name]["success" if found.status == 200 else "failure"] += 1
            self.models[name]["seconds"] += time.monotonic() - began
        return found

    def metrics(self, request: Request) -> Answer:
        """Write those of Triton's metrics that something reads."""
        if request.path != "/metrics":
            return Answer(404)
        with self.lock:
            models = {name: dict(one) for name, one in self.models.items()}

        def samples(key: str, factor: float = 1) -> tuple:
            return "counter", [({"model": name, "version": "1"}, one[key] * factor) for name, one in models.items()]

        return metrics(
            {
                "nv_inference_request_success": samples("success"),
                "nv_inference_request_failure": samples("failure"),
                "nv_inference_count": samples("success"),
                "nv_inference_exec_count": samples("success"),
                "nv_inference_request_duration_us": samples("seconds", 1e6),
            }
        )

    def stop(self, listeners: list[Server]) -> int:
        """Refuse what is new and wait for what runs, for the exit timeout at most; gives the exit status."""
        with self.lock:
            self.stopping = True
        for listener in listeners:
            listener.shutdown()
            listener.socket.close()
        end = time.monotonic() + self.args.exit_timeout
        while any(listener.busy for listener in listeners):
            if time.monotonic() >= end:
                log("E1126 server.cc] Exit timeout expired. Exiting immediately.")
                return 1
            time.sleep(0.02)
        return 0


def main(words: list[str]) -> None:
    """Run ``tritonserver WORDS``."""
    try:
        args = parse(words)
    except ParseError as error:
        names = "\n".join(f"  --{name}" for name in FLAGS["options"])
        die(f"{error}\nUsage: tritonserver [options]\n{names}")
    behaviour = Behaviour.read(os.environ)
    log(f"I1126 server.cc] Triton {FLAGS['version']} (stand-in: no model is loaded)")
    signal.signal(signal.SIGTERM, lambda *_: die("Terminated while loading", 143))
    triton = Triton(args, behaviour)
    # Its ports open when the models are loaded. Alive but never ready is a Triton that lost a model.
    if behaviour.fail != "never-ready":
        behaviour.load(CUDA_MESSAGE)
    try:
        triton.start()
    except ParseError as error:
        die(str(error))
    stop = threading.Event()
    for number_ in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number_, lambda *_: stop.set())
    listeners = []
    try:
        for name, place, answer in (
            ("HTTPService", args.http, triton.answer),
            ("Metrics Service", args.metrics, triton.metrics),
        ):
            if place:
                listeners.append(Server(*place, answer))
                listeners[-1].server_bind()
                listeners[-1].start()
                log(f"I1126 http_server.cc] Started {name} at {place[0]}:{listeners[-1].server_port}")
        if args.grpc:
            grpc = socket.create_server(args.grpc, backlog=16)
            log(f"stand-in: gRPC is not spoken, its port accepts connections: {grpc.getsockname()[1]}")
    except OSError as error:
        die(f"failed to start: Unavailable - {error}")
    behaviour.ready(lambda: die("stand-in: STANDIN_FAIL is engine-dead, and Triton has no engine: exits"))
    while not stop.wait(3600):
        pass
    log("Signal (15) received.")
    die("I1126 server.cc] Stopped", triton.stop(listeners))


if __name__ == "__main__":
    main(sys.argv[1:])
