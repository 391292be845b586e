#!/usr/bin/env python3
"""A stand-in for ``vllm serve``, for tests: vLLM's command line, endpoints, failures and shutdown, without a model.

Status codes, messages and the keys of answers are those of the version in flags.json, which tests/vllm compares with the real
server. It does not read the model, check what needs the model's configuration, or verify adapters' modules. STANDIN_* variables set its behaviour, see standin.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import struct
import sys
import threading
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import arguments
from standin import Answer, Behaviour, Request, Server, die, log, metrics

FLAGS = json.loads((Path(__file__).resolve().parent / "flags.json").read_text())
CUDA_MESSAGE = """(EngineCore_DP0 pid=1) ERROR [core.py] EngineCore failed to start.
torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 224.00 MiB. GPU 0 has a total capacity of 21.99 GiB of which 112.44 MiB is free.
(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"""
DEAD_MESSAGE = "EngineCore encountered an issue. See stack trace (above) for the root cause."
# What vLLM's watchdog takes at most to see that the engine is dead.
WATCHDOG_SECONDS = 5
# vLLM's own default is larger on large GPUs.
MAX_NUM_SEQS = 256
# What vLLM says of every model.
PERMISSION = {
    "object": "model_permission",
    "allow_create_engine": False,
    "allow_sampling": True,
    "allow_logprobs": True,
    "allow_search_indices": False,
    "allow_view": True,
    "allow_fine_tuning": False,
    "organization": "*",
    "group": None,
    "is_blocking": False,
}
# What is null in an answer to a plain question.
NO_CHOICE = dict.fromkeys(("logprobs", "stop_reason", "token_ids"))
NO_PROMPT = dict.fromkeys(("prompt_logprobs", "prompt_token_ids"))
NO_ANSWER = dict.fromkeys(("service_tier", "system_fingerprint", "kv_transfer_params"))
NO_MESSAGE = dict.fromkeys(("refusal", "annotations", "audio", "function_call", "reasoning", "reasoning_content"))
REASONS = ("stop", "length", "abort", "error", "repetition")


class Broken(Exception):
    """A request that vLLM itself stumbles over."""


class Refused(Exception):
    """An answer that is an error, as vLLM writes it."""

    def __init__(self, message: str, kind: str = "BadRequestError", status: int = 400, param: str | None = None):
        super().__init__(message)
        self.answer = Answer(status, {"error": {"message": message, "type": kind, "param": param, "code": status}})


def check_adapter(name: str, path: str, args: Namespace) -> None:
    """Refuse an adapter that vLLM would refuse: no configuration, a rank too high, weights missing or cut off."""
    call = "Call to add_lora method failed: "
    if not args.enable_lora:
        raise Refused(f"{call}LoRA is not enabled. Use --enable-lora to enable LoRA.")
    folder = Path(path).expanduser()
    try:
        config = json.loads((folder / "adapter_config.json").read_text())
    except FileNotFoundError:
        # A path that is none is taken for a repository of Hugging Face; this stand-in downloads nothing.
        message = f"{call}Loading lora {name} failed: No adapter found for {path}"
        raise Refused(message, "NotFoundError", 404) from None
    except (OSError, ValueError) as error:
        raise Refused(f"{call}{error}") from None
    try:
        wrong = unfit(config, args.max_lora_rank)
    except (AttributeError, TypeError) as error:
        wrong = str(error)
    if wrong:
        raise Refused(call + wrong)
    weights = folder / "adapter_model.safetensors"
    if weights.is_file():
        check_safetensors(weights, call)
    elif not any((folder / f"adapter_model.{kind}").is_file() for kind in ("bin", "pt")):
        raise Refused(f"{call}{path} doesn't contain tensors")


def unfit(config: dict, max_rank: int) -> str:
    """Tell why vLLM can't serve an adapter of this configuration, or ''."""
    if isinstance(config, list):
        return "list indices must be integers or slices, not str"
    if missing := {"r", "lora_alpha", "target_modules"} - set(config):
        return f"Missing required configuration fields: {missing}"
    wrong = {
        "vLLM only supports modules_to_save being None.": config.get("modules_to_save"),
        "vLLM does not yet support DoRA.": config.get("use_dora"),
        f"LoRA rank {config['r']} is greater than max_lora_rank {max_rank}.": config["r"] > max_rank,
        "Adapter bias is not supported.": config.get("bias", "none") != "none",
    }
    return " ".join(message for message, true in wrong.items() if true)


def check_safetensors(file: Path, call: str) -> None:
    """Refuse a file whose header does not cover it exactly, as the library safetensors does."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        start = stream.read(8)
        if len(start) < 8:
            raise Refused(f"{call}Error while deserializing header: header too small")
        length = struct.unpack("<Q", start)[0]
        if length > size - 8:
            raise Refused(f"{call}Error while deserializing header: invalid header length")
        try:
            header = json.loads(stream.read(length))
            ends = [item["data_offsets"][1] for name, item in header.items() if name != "__metadata__"]
        except (ValueError, LookupError, TypeError, AttributeError):
            raise Refused(f"{call}Error while deserializing header: invalid JSON in header") from None
    if 8 + length + max(ends, default=0) != size:
        raise Refused(f"{call}Error while deserializing header: incomplete metadata, file not fully covered")


def invalid(kind: str, what: str) -> Refused:
    """Give the refusal of a body that vLLM's schema does not take; what follows the first line is pydantic's."""
    return Refused(f"1 validation error:\n  {{'type': '{kind}', {what}}}", "Bad Request")


def empty(status: int) -> Answer:
    """Give an answer without a body, and without its type."""
    return Answer(status, kind="")


def parts(shared: dict, words: list[str], reason: str, *, chat: bool) -> list[str]:
    """Write an answer as a stream, a word each time."""
    rows: list[dict] = []
    if chat:
        role = {"role": "assistant", "content": "", "reasoning_content": None}
        first = {"index": 0, "delta": role, "logprobs": None, "finish_reason": None}
        rows.append({"choices": [first], "prompt_token_ids": None})
    for number, word in enumerate(words):
        text, last = (f" {word}" if number else word), number == len(words) - 1
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason if last else None, **NO_CHOICE}
        if chat:
            choice["delta"] = {"content": text, "reasoning_content": None}
            if not last:
                del choice["stop_reason"]
            rows.append({"choices": [choice]})
        else:
            rows.append({"choices": [choice | {"text": text, "prompt_token_ids": None}], "usage": None})
    kind = "chat.completion.chunk" if chat else "text_completion"
    lines = [json.dumps({**shared, "object": kind, **row}) for row in rows]
    return [f"data: {line}\n\n" for line in [*lines, "[DONE]"]]


class Api:
    """The state of a server, and its endpoints."""

    def __init__(self, args: Namespace, behaviour: Behaviour, environment: dict[str, str]):
        self.args = args
        self.behaviour = behaviour
        self.names = [name for name in args.served_model_name or [] if name] or [args.model]
        self.keys = args.api_key or [key for key in [environment.get("VLLM_API_KEY")] if key]
        self.updating = environment.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "0").strip().lower() in ("1", "true")
        self.adapters: dict[str, dict] = {}
        self.dead = False
        self.created = int(time.time())
        self.lock = threading.Lock()
        self.seats = threading.BoundedSemaphore(args.max_num_seqs or MAX_NUM_SEQS)
        self.running = self.waiting = self.begun = self.prompt_tokens = self.generated_tokens = 0
        self.finished = dict.fromkeys(REASONS, 0)
        self.answers: dict[tuple, int] = {}

    # --- Adapters ---

    def load(self, name: str, path: str, base: str | None = None) -> str:
        """Load an adapter; Refused where vLLM would refuse it."""
        if not name or not path:
            raise Refused("Both 'lora_name' and 'lora_path' must be provided.", "InvalidUserInput")
        with self.lock:
            if name in self.adapters:
                raise Refused(f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
            check_adapter(name, path, self.args)
            self.adapters[name] = {"path": path, "parent": base if base in self.names else self.names[0]}
        log(f"INFO [serving_models.py] Loaded new LoRA adapter: name '{name}', path '{path}'")
        return f"Success: LoRA adapter '{name}' added successfully."

    def unload(self, name: str) -> str:
        """Unload an adapter."""
        if not name:
            raise Refused("'lora_name' needs to be provided to unload a LoRA adapter.", "InvalidUserInput")
        with self.lock:
            if name not in self.adapters:
                raise Refused(f"The lora adapter '{name}' cannot be found.", "NotFoundError", 404)
            del self.adapters[name]
        return f"Success: LoRA adapter '{name}' removed successfully."

    # --- Requests ---

    def answer(self, request: Request) -> Answer:
        """Answer a request, and count it."""
        path = request.path
        try:
            found = self._route(request)
        except Refused as refused:
            found = refused.answer
        except Broken:
            found = Answer(500, "Internal Server Error")
        if path not in ("/metrics", "/health", "/load", "/ping", "/version"):
            key = (path if found.status != 404 or path.startswith("/v1") else "none", request.method, found.status)
            with self.lock:
                self.answers[key] = self.answers.get(key, 0) + 1
        return found

    def _route(self, request: Request) -> Answer:
        authorised = not self.keys or request.headers.get("Authorization") in [f"Bearer {key}" for key in self.keys]
        if request.path.startswith("/v1") and not authorised:
            return Answer(401, {"error": "Unauthorized"})
        routes: dict[str, tuple[str, Any]] = {
            "/health": ("GET", lambda: empty(503 if self.dead else 200)),
            "/ping": ("GET", lambda: empty(503 if self.dead else 200)),
            "/version": ("GET", lambda: Answer(body={"version": FLAGS["version"]})),
            "/metrics": ("GET", self.metrics),
            "/v1/models": ("GET", self.models),
            "/v1/completions": ("POST", lambda: self.complete(request, chat=False)),
            "/v1/chat/completions": ("POST", lambda: self.complete(request, chat=True)),
        }
        if self.updating:
            routes["/v1/load_lora_adapter"] = ("POST", lambda: self._adapter(request, "lora_name", "lora_path"))
            routes["/v1/unload_lora_adapter"] = ("POST", lambda: self._adapter(request, "lora_name"))
        method, found = routes.get(request.path, ("", None))
        if found is None:
            return Answer(404, {"detail": "Not Found"})
        if request.method != method:
            return Answer(405, {"detail": "Method Not Allowed"})
        return found()

    def _body(self, request: Request) -> dict:
        if request.headers.get_content_type() != "application/json":
            told = "Unsupported Media Type: Only 'application/json' is allowed"
            raise Refused(f'1 validation error:\n  {told} ["{told}"]', "Bad Request")
        try:
            body = request.json()
        except ValueError as error:
            raise invalid("json_invalid", f"'loc': ('body', 1), 'msg': 'JSON decode error: {error}'") from None
        if not isinstance(body, dict):
            # One of vLLM's own validators takes it for a dictionary.
            raise Broken
        return body

    def _adapter(self, request: Request, *keys: str) -> Answer:
        body = self._body(request)
        for key in keys:
            if not isinstance(body.get(key), str):
                raise invalid("missing", f"'loc': ('body', '{key}'), 'msg': 'Field required'")
        values = [body[key] for key in keys]
        return Answer(body=self.load(*values) if len(values) == 2 else self.unload(*values), kind="")

    def models(self) -> Answer:
        """List the model under each of its names, and the adapters, whose parent it is."""
        length = self.args.max_model_len
        cards = [(name, self.args.model, None, length) for name in self.names]
        with self.lock:
            cards += [(name, one["path"], one["parent"], None) for name, one in self.adapters.items()]
        keys = ("id", "root", "parent", "max_model_len")
        permission = {**PERMISSION, "id": "modelperm-standin", "created": self.created}
        shared = {"object": "model", "created": self.created, "owned_by": "vllm", "permission": [permission]}
        return Answer(
            body={"object": "list", "data": [{**shared, **dict(zip(keys, card, strict=True))} for card in cards]}
        )

    def complete(self, request: Request, *, chat: bool) -> Answer:
        """Answer with a few words, the same for the same question, after the time that a request takes."""
        body = self._body(request)
        prompt = body.get("messages" if chat else "prompt")
        if not prompt:
            raise invalid("missing", "'loc': ('body',), 'msg': 'Field required'")
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 16
        if not isinstance(limit, int):
            raise invalid("int_parsing", "'loc': ('body', 'max_tokens'), 'msg': 'Input should be a valid integer'")
        model = body.get("model") or self.names[0]
        with self.lock:
            known = model in self.names or model in self.adapters
        if not known:
            raise Refused(f"The model `{model}` does not exist.", "NotFoundError", 404, "model")
        if limit < 1:
            told = f"max_tokens must be at least 1, got {limit}. (parameter=max_tokens, value={limit})"
            raise Refused(told, param="max_tokens")
        if self.dead:
            # 0.14.1 returns the error of a completion as if it were an answer.
            raised = Refused(DEAD_MESSAGE, "Internal Server Error" if chat else "InternalServerError", 500)
            return Answer(500 if chat else 200, raised.answer.body)
        if not self._generate(request):
            return Answer()  # nobody reads it, but it is counted, as if all were well
        words = f"an answer of {model}".split()[:limit]
        text = " ".join(words)
        reason = "length" if len(words) == limit else "stop"
        used = {"prompt_tokens": len(str(prompt).split()), "completion_tokens": len(words)}
        with self.lock:
            self.finished[reason] += 1
            self.prompt_tokens += used["prompt_tokens"]
            self.generated_tokens += used["completion_tokens"]
        shared = {"id": "chatcmpl-standin" if chat else "cmpl-standin", "created": self.created, "model": model}
        if body.get("stream"):
            return Answer(stream=parts(shared, words, reason, chat=chat))
        choice = {"index": 0, "finish_reason": reason, **NO_CHOICE}
        used |= {"total_tokens": sum(used.values()), "prompt_tokens_details": None}
        if chat:
            message = {"role": "assistant", "content": text, "tool_calls": [], **NO_MESSAGE}
            found = {"object": "chat.completion", "choices": [choice | {"message": message}], **NO_PROMPT}
        else:
            found = {"object": "text_completion", "choices": [choice | {"text": text, **NO_PROMPT}]}
        return Answer(body={**shared, **found, "usage": used, **NO_ANSWER})

    def _generate(self, request: Request) -> bool:
        """Wait for a seat and for the request's time; False where the client hung up, which vLLM does not count."""
        with self._counted("waiting"):
            while not self.seats.acquire(timeout=0.1):
                if request.gone():
                    return False
        try:
            with self._counted("running"):
                with self.lock:
                    self.begun += 1
                end = time.monotonic() + self.behaviour.request_seconds
                while (left := end - time.monotonic()) > 0:
                    if request.gone():
                        return False
                    time.sleep(min(left, 0.1))
        finally:
            self.seats.release()
        return True

    @contextlib.contextmanager
    def _counted(self, key: str):
        with self.lock:
            setattr(self, key, getattr(self, key) + 1)
        try:
            yield
        finally:
            with self.lock:
                setattr(self, key, getattr(self, key) - 1)

    def metrics(self) -> Answer:
        """Write those of vLLM's metrics that something reads."""
        own = {"engine": "0", "model_name": self.names[0]}
        with self.lock:
            families = {
                "vllm:num_requests_running": ("gauge", [(own, self.running)]),
                "vllm:num_requests_waiting": ("gauge", [(own, self.waiting)]),
                "vllm:kv_cache_usage_perc": ("gauge", [(own, 0)]),
                "vllm:num_preemptions_total": ("counter", [(own, 0)]),
                "vllm:prompt_tokens_total": ("counter", [(own, self.prompt_tokens)]),
                "vllm:generation_tokens_total": ("counter", [(own, self.generated_tokens)]),
                "vllm:time_to_first_token_seconds": ("histogram", [(own, self.begun)]),
                "vllm:e2e_request_latency_seconds": ("histogram", [(own, sum(self.finished.values()))]),
                "vllm:request_success_total": (
                    "counter",
                    [({**own, "finished_reason": reason}, count) for reason, count in self.finished.items()],
                ),
                "http_requests_total": (
                    "counter",
                    [
                        ({"handler": path, "method": method, "status": f"{status // 100}xx"}, count)
                        for (path, method, status), count in self.answers.items()
                    ],
                ),
            }
        return metrics(families)

    def die(self) -> None:
        """Let the engine die: /health answers 503, and the server ends unless it is told to stay."""
        log("ERROR [async_llm.py] AsyncLLM output_handler failed. vllm.v1.engine.exceptions.EngineDeadError")
        self.dead = True
        if os.environ.get("VLLM_KEEP_ALIVE_ON_ENGINE_DEATH", "0") in ("", "0"):
            time.sleep(WATCHDOG_SECONDS)
            die("INFO: Shutting down", 0)


def interrupted(_signal: int, _frame: Any) -> None:
    """End while loading, as Python does for a KeyboardInterrupt that nobody catches."""
    die("KeyboardInterrupt: terminated", 130)


def main(words: list[str]) -> None:
    """Run ``vllm WORDS``."""
    try:
        args = arguments.parse(words, FLAGS)
        if args.subparser == "serve":
            arguments.check_files(args)
    except Exception as error:
        die(f"Traceback (most recent call last):\n{type(error).__name__}: {error}")
    if args.subparser != "serve":
        die("stand-in: only `vllm serve` is stood in for")
    behaviour = Behaviour.read(os.environ)
    log(f"INFO [api_server.py] vLLM API server version {FLAGS['version']} (stand-in: no model is loaded)")
    signal.signal(signal.SIGTERM, interrupted)
    api = Api(args, behaviour, dict(os.environ))
    # Bound before the model is loaded, listening after: until then connections are refused.
    server = Server(args.host or "", args.port, api.answer)
    try:
        server.server_bind()
    except OSError as error:
        die(f"OSError: {error}")
    log(f"stand-in: port {server.server_port} is bound")
    behaviour.load(CUDA_MESSAGE)
    for one in args.lora_modules or ():
        try:
            api.load(one["name"], one["path"], one.get("base_model_name"))
        except Refused as refused:
            die(f"Traceback (most recent call last):\nValueError: {refused}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    server.start()
    log(f"INFO [launcher.py] Started server; Uvicorn running on port {server.server_port}")
    behaviour.ready(api.die)
    while not stop.wait(3600):
        pass
    # Requests that run are not waited for: their connections end with the process.
    die("INFO [launcher.py] Shutting down FastAPI HTTP server.", 0)


if __name__ == "__main__":
    main(sys.argv[1:])
