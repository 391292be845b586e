"""The stand-ins for vLLM and Triton as processes: endpoints, failures and shutdown."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from model_servers import ROOT, STANDINS, VERSION, WAIT_SECONDS, StandIn


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Iterator[Any]:
    """Start a stand-in: start(name, *words, VARIABLE=value...); all are stopped at the end."""
    folder = tmp_path_factory.mktemp("logs")
    started: list[StandIn] = []

    def start_(name: str, *words: str, wait: bool = True, **env: str) -> StandIn:
        ports = {"vllm": ["--port=0"], "tritonserver": ["--http-port=0", "--grpc-port=0", "--metrics-port=0"]}[name]
        one = StandIn(name, [*words, *(ports if wait else [])], env, folder)
        started.append(one)
        if wait:
            one.port = one.until(r"Uvicorn running on port (\d+)" if name == "vllm" else r"HTTPService at .*:(\d+)")
        return one

    yield start_
    for one in started:
        one.process.kill()
        one.process.wait()


def adapter(folder: Path, rank: int = 16, **config: Any) -> Path:
    """A LoRA adapter with one tensor."""
    folder.mkdir()
    full = {"r": rank, "lora_alpha": 32, "target_modules": ["q_proj"], "base_model_name_or_path": "org/model", **config}
    (folder / "adapter_config.json").write_text(
        json.dumps({key: value for key, value in full.items() if value is not None})
    )
    header = json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(16))
    return folder


SERVE = ("serve", "org/model", "--max-model-len=4096", "--enable-lora", "--max-loras=1", "--max-lora-rank=32")


# --- vLLM: endpoints ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vllm(start, tmp_path_factory) -> StandIn:
    folder = tmp_path_factory.mktemp("adapters")
    one, two = adapter(folder / "one"), adapter(folder / "two", 32)
    modules = ("--lora-modules", f"one={one}", json.dumps({"name": "two", "path": str(two)}, separators=(",", ":")))
    served = ("--served-model-name", "base", "alias")
    server = start("vllm", *SERVE, *served, *modules, VLLM_ALLOW_RUNTIME_LORA_UPDATING="True")
    server.adapters = folder
    return server


def test_health_version_and_models(vllm) -> None:
    assert (vllm.ask("/health").status, vllm.ask("/health").data) == (200, b"")
    assert vllm.ask("/version").json() == {"version": VERSION}
    models = {card["id"]: card for card in vllm.ask("/v1/models").json()["data"]}
    assert list(models) == ["base", "alias", "one", "two"]
    assert (models["base"]["root"], models["base"]["max_model_len"], models["base"]["parent"]) == (
        "org/model",
        4096,
        None,
    )
    assert (models["two"]["root"], models["two"]["parent"]) == (str(vllm.adapters / "two"), "base")
    assert vllm.ask("/nosuch").status == 404
    assert vllm.ask("/v1/completions").status == 405


def test_answers_are_the_same_each_time(vllm) -> None:
    asked = {"model": "one", "prompt": "One word:", "max_tokens": 1}
    first, second = (vllm.ask("/v1/completions", asked).json() for _ in range(2))
    assert first["choices"] == second["choices"]
    assert first["model"] == "one"
    assert len(first["choices"][0]["text"].split()) == 1
    assert first["choices"][0]["finish_reason"] == "length"
    chat = vllm.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hello"}]}).json()
    assert (chat["model"], chat["choices"][0]["message"]["role"]) == ("base", "assistant")
    stream = vllm.ask("/v1/completions", {**asked, "stream": True})
    assert stream.headers["Content-Type"].startswith("text/event-stream")
    rows = stream.data.decode().split("\n\n")
    assert json.loads(rows[0].removeprefix("data: "))["choices"][0]["text"] == first["choices"][0]["text"]
    assert rows[1] == "data: [DONE]"


def test_wrong_requests(vllm) -> None:
    unknown = vllm.ask("/v1/completions", {"model": "nosuch", "prompt": "a"})
    assert (unknown.status, unknown.json()["error"]["type"]) == (404, "NotFoundError")
    assert unknown.json()["error"]["message"] == "The model `nosuch` does not exist."
    assert vllm.ask("/v1/completions", {"model": "base"}).status == 400
    assert vllm.ask("/v1/completions", {"model": "base", "prompt": "a", "max_tokens": "many"}).status == 400
    assert vllm.ask("/v1/completions", "{", headers={"Content-Type": "application/json"}).status == 400
    assert vllm.ask("/v1/completions", "{}", headers={"Content-Type": "text/plain"}).status == 400


def test_adapters_come_and_go(vllm) -> None:
    path = str(adapter(vllm.adapters / "three"))
    loaded = vllm.ask("/v1/load_lora_adapter", {"lora_name": "three", "lora_path": path})
    assert (loaded.status, loaded.data) == (200, b"Success: LoRA adapter 'three' added successfully.")
    again = vllm.ask("/v1/load_lora_adapter", {"lora_name": "three", "lora_path": path})
    assert (again.status, again.json()["error"]["message"]) == (
        400,
        "The lora adapter 'three' has already been loaded.",
    )
    assert vllm.ask("/v1/completions", {"model": "three", "prompt": "a"}).status == 200
    assert vllm.ask("/v1/unload_lora_adapter", {"lora_name": "three"}).status == 200
    assert vllm.ask("/v1/unload_lora_adapter", {"lora_name": "three"}).status == 404
    assert vllm.ask("/v1/completions", {"model": "three", "prompt": "a"}).status == 404
    assert vllm.ask("/v1/load_lora_adapter", {"lora_name": "three"}).status == 400


def cut(folder: Path) -> None:
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


BROKEN = {
    "no configuration": (lambda folder: (folder / "adapter_config.json").unlink(), 404, "No adapter found for"),
    "half a configuration": (lambda folder: (folder / "adapter_config.json").write_text('{"r"'), 400, "method failed"),
    "no rank": (
        lambda folder: (folder / "adapter_config.json").write_text("{}"),
        400,
        "Missing required configuration fields",
    ),
    "a list": (lambda folder: (folder / "adapter_config.json").write_text("[]"), 400, "method failed"),
    "no weights": (lambda folder: (folder / "adapter_model.safetensors").unlink(), 400, "doesn't contain tensors"),
    "weights cut off": (cut, 400, "incomplete metadata, file not fully covered"),
    "weights almost empty": (
        lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"1"),
        400,
        "header too small",
    ),
    "nothing": (shutil.rmtree, 404, "No adapter found for"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_adapters(vllm, tmp_path, case: str) -> None:
    spoil, status, told = BROKEN[case]
    folder = adapter(tmp_path / "broken")
    spoil(folder)
    refused = vllm.ask("/v1/load_lora_adapter", {"lora_name": "broken", "lora_path": str(folder)})
    assert refused.status == status
    assert told in refused.json()["error"]["message"]
    assert "broken" not in {card["id"] for card in vllm.ask("/v1/models").json()["data"]}


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rank": 64}, "LoRA rank 64 is greater than max_lora_rank 32."),
        ({"use_dora": True}, "vLLM does not yet support DoRA."),
        ({"bias": "all"}, "Adapter bias is not supported."),
        ({"modules_to_save": ["head"]}, "vLLM only supports modules_to_save being None."),
    ],
)
def test_adapters_that_vllm_can_not_serve(vllm, tmp_path, config: dict, told: str) -> None:
    path = str(adapter(tmp_path / "wrong", **config))
    refused = vllm.ask("/v1/load_lora_adapter", {"lora_name": "wrong", "lora_path": path})
    assert (refused.status, told in refused.json()["error"]["message"]) == (400, True)


def test_metrics_count(vllm) -> None:
    before = vllm.metric("vllm:request_success_total", model_name="base", engine="0")
    errors = vllm.metric("http_requests_total", handler="/v1/completions", status="4xx")
    vllm.ask("/v1/completions", {"prompt": "a"})
    vllm.ask("/v1/completions", {"prompt": "a", "model": "nosuch"})
    assert vllm.metric("vllm:request_success_total", model_name="base", engine="0") == before + 1
    assert vllm.metric("http_requests_total", handler="/v1/completions", status="4xx") == errors + 1
    assert vllm.metric("vllm:num_requests_running") == 0


def test_every_metric_of_our_alerts_is_served(vllm) -> None:
    rules = (ROOT / "roles/vllm/templates/alerts.yaml.j2").read_text()
    used = set(re.findall(r"vllm:\w+|http_\w+", rules))
    assert len(used) > 3
    vllm.ask("/v1/models")
    text = vllm.ask("/metrics").data.decode()
    assert {name for name in used if f"\n{name}{{" not in text} == set()


def test_updating_and_keys_only_where_asked_for(start) -> None:
    server = start("vllm", *SERVE, VLLM_API_KEY="right")
    key = {"Authorization": "Bearer right"}
    assert server.ask("/v1/models").status == 401
    assert server.ask("/health").status == 200
    assert server.ask("/v1/models", headers=key).status == 200
    assert server.ask("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/a"}, headers=key).status == 404


# --- vLLM: start and end -----------------------------------------------------------------------------


def in_background(server: StandIn, path: str, body: dict) -> tuple[threading.Thread, list]:
    """Ask in a thread; the list takes the status, or the error."""
    found: list = []

    def ask() -> None:
        try:
            found.append(server.ask(path, body).status)
        except urllib3.exceptions.HTTPError as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    return thread, found


def until_running(server: StandIn, count: int = 1) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while server.metric("vllm:num_requests_running") < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_connection_while_it_loads_and_an_end_on_request(start) -> None:
    server = start("vllm", *SERVE, "--port=0", wait=False, STANDIN_LOAD_SECONDS="600")
    port = int(server.until(r"port (\d+) is bound"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 130


def test_sigterm_cancels_what_runs(start) -> None:
    server = start("vllm", *SERVE, STANDIN_REQUEST_SECONDS="600")
    thread, found = in_background(server, "/v1/completions", {"prompt": "a"})
    until_running(server)
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 0
    thread.join(WAIT_SECONDS)
    assert isinstance(found[0], urllib3.exceptions.ProtocolError)


def test_the_drain_waits_for_what_runs(start) -> None:
    server = start("vllm", *SERVE, STANDIN_REQUEST_SECONDS="6.5")
    thread, found = in_background(server, "/v1/completions", {"prompt": "a"})
    until_running(server)
    script = ROOT / "roles/model_server/files/drain.py"
    metrics = ["vllm:num_requests_running", "vllm:num_requests_waiting"]
    subprocess.run([sys.executable, script, server.port, str(WAIT_SECONDS), *metrics], check=True)
    assert server.metric("vllm:num_requests_running") == 0
    server.process.send_signal(signal.SIGTERM)
    thread.join(WAIT_SECONDS)
    assert (found, server.ended()) == ([200], 0)


def test_requests_wait_for_a_seat_and_leave_with_their_client(start) -> None:
    server = start("vllm", *SERVE, "--max-num-seqs=1", STANDIN_REQUEST_SECONDS="600")
    sockets = []
    for _ in range(2):
        one = socket.create_connection(("127.0.0.1", int(server.port)))
        body = b'{"prompt": "a"}'
        head = f"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        one.sendall(head.encode() + body)
        sockets.append(one)
    deadline = time.monotonic() + WAIT_SECONDS
    while server.metric("vllm:num_requests_waiting") != 1 or server.metric("vllm:num_requests_running") != 1:
        assert time.monotonic() < deadline
    for one in sockets:
        one.close()
    while server.metric("vllm:num_requests_waiting") + server.metric("vllm:num_requests_running"):
        assert time.monotonic() < deadline
    assert server.metric("vllm:time_to_first_token_seconds_count")
    assert server.metric("vllm:request_success_total") == 0


@pytest.mark.parametrize(
    ("fail", "status", "told"),
    [
        ("init", 1, "STANDIN_FAIL is init"),
        ("cuda-out-of-memory", 1, "CUDA out of memory. Tried to allocate"),
        ("crash", 1, "STANDIN_FAIL is crash"),
        ("craash", 1, "STANDIN_FAIL is 'craash'"),
    ],
)
@pytest.mark.parametrize("name", ["vllm", "tritonserver"])
def test_told_to_fail(start, name: str, fail: str, status: int, told: str) -> None:
    words = SERVE if name == "vllm" else ("--model-repository=s3://models",)
    ports = ("--port=0",) if name == "vllm" else ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    server = start(name, *words, *ports, wait=False, STANDIN_FAIL=fail)
    assert server.ended() == status
    assert told in server.log


def test_a_misspelt_variable(start) -> None:
    server = start("vllm", *SERVE, "--port=0", wait=False, STANDIN_LOAD="5")
    assert server.ended() == 1
    assert "STANDIN_LOAD is '5': it takes STANDIN_LOAD_SECONDS" in server.log


def test_a_dead_engine(start) -> None:
    goes = start("vllm", *SERVE, STANDIN_FAIL="engine-dead")
    stays = start("vllm", *SERVE, STANDIN_FAIL="engine-dead", VLLM_KEEP_ALIVE_ON_ENGINE_DEATH="1")
    deadline = time.monotonic() + WAIT_SECONDS
    while stays.ask("/health").status != 503:
        assert time.monotonic() < deadline
    assert stays.ask("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}).status == 500
    answer = stays.ask("/v1/completions", {"prompt": "a"})
    assert (answer.status, answer.json()["error"]["code"]) == (200, 500)
    assert goes.ended() == 0
    assert "EngineDeadError" in goes.log


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ({"rank": 64}, "ValueError: Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 32."),
        (None, "ValueError: Call to add_lora method failed: Loading lora one failed: No adapter found for"),
    ],
)
def test_a_wrong_adapter_ends_the_start(start, tmp_path, config: dict | None, told: str) -> None:
    path = adapter(tmp_path / "one", **config) if config else tmp_path / "none"
    server = start("vllm", *SERVE, "--port=0", "--lora-modules", f"one={path}", wait=False)
    assert server.ended() == 1
    assert told in server.log


def test_refused_command_lines(start) -> None:
    server = start("vllm", *SERVE, "--max-num-sequences=1", wait=False)
    assert server.ended() == 2
    assert server.log.endswith("vllm: error: unrecognized arguments: --max-num-sequences=1\n")
    server = start("vllm", "serve", "org/model", "--max-lora-rank=33", wait=False)
    assert server.ended() == 2
    assert (
        "usage: vllm serve [model_tag] [options]\nvllm serve: error: argument --max-lora-rank: invalid choice: 33"
        in server.log
    )
    server = start("vllm", "serve", "org/model", "--enable-auto-tool-choice", wait=False)
    assert server.ended() == 1
    assert server.log.endswith("TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser\n")
    server = start("tritonserver", "--model-repositry=s3://models", wait=False)
    assert server.ended() == 1
    assert "Usage: tritonserver [options]" in server.log


# --- Triton ------------------------------------------------------------------------------------------

TRITON = ("--model-repository=s3://models", "--model-control-mode=explicit", "--load-model=resnet18")
INPUT = {"id": "7", "inputs": [{"name": "INPUT0", "datatype": "FP32", "shape": [1, 1], "data": [1]}]}


@pytest.fixture(scope="module")
def triton(start) -> StandIn:
    return start("tritonserver", *TRITON)


def test_triton_serves(triton) -> None:
    assert triton.ask("/v2/health/live").status == 200
    assert triton.ask("/v2/health/ready").status == 200
    assert triton.ask("/v2").json()["version"] == "2.63.0"
    assert triton.ask("/v2/models/resnet18").json()["name"] == "resnet18"
    assert triton.ask("/v2/models/resnet18/ready").status == 200
    metrics = triton.until(r"Metrics Service at .*:(\d+)")
    before = triton.metric("nv_inference_request_success", metrics, model="resnet18", version="1")
    answer = triton.ask("/v2/models/resnet18/infer", INPUT).json()
    assert (answer["id"], answer["model_name"], answer["outputs"][0]["data"]) == ("7", "resnet18", [0.5])
    assert triton.ask("/v2/models/resnet18/infer", "{").status == 400
    assert triton.metric("nv_inference_request_success", metrics, model="resnet18") == before + 1
    socket.create_connection(("127.0.0.1", int(triton.until(r"accepts connections: (\d+)"))), 5).close()


def test_triton_loads_and_unloads(triton) -> None:
    assert triton.ask("/v2/models/other/ready").status == 400
    assert triton.ask("/v2/models/other/infer", INPUT).status == 404
    assert triton.ask("/v2/repository/models/other/load", method="POST").status == 200
    assert triton.ask("/v2/models/other/infer", INPUT).status == 200
    assert {"name": "other", "version": "1", "state": "READY"} in triton.ask(
        "/v2/repository/index", method="POST"
    ).json()
    assert triton.ask("/v2/repository/models/other/unload", method="POST").status == 200
    assert triton.ask("/v2/models/other/ready").status == 400


def test_triton_finishes_what_runs(start) -> None:
    server = start("tritonserver", *TRITON, STANDIN_REQUEST_SECONDS="2")
    # A connection that stays, since none is accepted after the signal.
    kept = urllib3.HTTPConnectionPool("127.0.0.1", int(server.port), retries=False)
    assert kept.request("GET", "/v2/health/ready").status == 200
    thread, found = in_background(server, "/v2/models/resnet18/infer", INPUT)
    deadline = time.monotonic() + WAIT_SECONDS
    server.until("an inference of resnet18 runs")
    server.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(urllib3.exceptions.HTTPError):
        while (status := kept.request("GET", "/v2/health/ready").status) == 200:
            assert time.monotonic() < deadline
        assert status == 400
    thread.join(WAIT_SECONDS)
    assert (found, server.ended()) == ([200], 0)


def test_triton_does_not_wait_for_ever(start) -> None:
    server = start("tritonserver", *TRITON, "--exit-timeout-secs=1", STANDIN_REQUEST_SECONDS="600")
    thread, found = in_background(server, "/v2/models/resnet18/infer", INPUT)
    server.until("an inference of resnet18 runs")
    server.process.send_signal(signal.SIGTERM)
    assert server.ended() == 1
    thread.join(WAIT_SECONDS)
    assert isinstance(found[0], urllib3.exceptions.HTTPError)


def test_triton_that_is_never_ready(start) -> None:
    server = start("tritonserver", *TRITON, STANDIN_FAIL="never-ready")
    assert server.ask("/v2/health/live").status == 200
    assert server.ask("/v2/health/ready").status == 400


def test_triton_with_a_folder(start, tmp_path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    server = start("tritonserver", f"--model-repository={tmp_path}")
    assert [one["name"] for one in server.ask("/v2/repository/index", method="POST").json()] == ["a", "b"]
    assert server.ask("/v2/repository/models/a/unload", method="POST").status == 503
    ports = ("--http-port=0", "--grpc-port=0", "--metrics-port=0")
    explicit = (f"--model-repository={tmp_path}", "--model-control-mode=explicit", "--load-model=c")
    lost = start("tritonserver", *explicit, *ports, wait=False)
    assert lost.ended() == 1
    assert "failed to load 'c', failed to poll from model repository" in lost.log
    stays = start("tritonserver", *explicit, "--exit-on-error=false")
    assert (stays.ask("/v2/health/live").status, stays.ask("/v2/health/ready").status) == (200, 400)


# --- Memory, images ----------------------------------------------------------------------------------


def test_memory_is_filled_only_where_a_limit_ends_it(tmp_path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(STANDINS / "standin")
    import standin

    assert standin.memory_limit(tmp_path) == 0
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert standin.memory_limit(tmp_path) == 0
    (tmp_path / "memory/memory.limit_in_bytes").write_text("67108864\n")
    assert standin.memory_limit(tmp_path) == 67108864
    (tmp_path / "memory.max").write_text("max\n")
    assert standin.memory_limit(tmp_path) == 67108864
    (tmp_path / "memory.max").write_text("33554432\n")
    assert standin.memory_limit(tmp_path) == 33554432
    code = "import standin; standin.fill_memory(0)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(STANDINS / "standin")}, capture_output=True, text=True
    )
    assert (done.returncode, "nothing limits the memory here" in done.stderr) == (1, True)


@pytest.mark.parametrize(("image", "program"), [("vllm-openai", "vllm"), ("tritonserver", "tritonserver")])
def test_the_images_hold_what_their_programs_need(tmp_path, image: str, program: str) -> None:
    context, opt = tmp_path / "context", tmp_path / "opt"
    shutil.copytree(STANDINS / image, context)
    subprocess.run([STANDINS / image / "prepare", context], check=True)
    *sources, target = re.search(r"^COPY (.*)$", (context / "Dockerfile").read_text(), re.MULTILINE)[1].split()
    assert target == "/opt/standin/"
    opt.mkdir()
    for source in sources:
        shutil.copy(context / source, opt)
    linked = re.search(rf"ln -s /opt/standin/(\S+) /usr/local/bin/{program} ", (context / "Dockerfile").read_text())[1]
    (tmp_path / program).symlink_to(opt / linked)
    words = ["--version"] if program == "vllm" else ["--help"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run([tmp_path / program, *words], env={"PATH": path}, capture_output=True, text=True, check=False)
    assert (VERSION if program == "vllm" else "--model-repository") in done.stdout + done.stderr
