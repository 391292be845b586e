"""How the servers end: with the drain and without, while loading, and killed hard. Here `server` is stopped for good.

Each of the three built-in servers is started once; what is asked of a server before its end stands in the same test.
"""

import os
import re
import signal
import threading
from pathlib import Path

import pytest
import urllib3
from vllm.pod import SECRETS
from vllm.server import LIVE, MODEL, QUESTION, TOO_HIGH

TOKENS = 500
SECURITY = Path(__file__).resolve().parents[2] / "docs/security.md"


class Load:
    """Clients that each ask for one long completion; `answers` has what they got: tokens, or what went wrong."""

    def __init__(self):
        self.answers, self.threads = [], []

    def ask(self, server, count: int, tokens: int = TOKENS) -> None:
        models = [server.model, *server.adapters]
        for number in range(count):
            model, prompt = models[number % len(models)], f"Question {number}:"
            body = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0}
            thread = threading.Thread(target=self._one, args=(server, body))
            self.threads.append(thread)
            thread.start()

    def _one(self, server, body: dict) -> None:
        try:
            answer = server.ask("/v1/completions", body, timeout=600)
            said = answer.json()["usage"]["completion_tokens"] if answer.status == 200 else answer.status
        except urllib3.exceptions.HTTPError as error:
            said = type(error).__name__
        self.answers.append(said)

    def join(self) -> list:
        for thread in self.threads:
            thread.join()
        return self.answers


@pytest.fixture
def twenty(until):
    """Twenty requests in flight at a server."""

    def ask(server) -> Load:
        load = Load()
        load.ask(server, 20)
        until(lambda: server.metric("vllm:num_requests_running") == 20, "twenty requests run")
        return load

    return ask


def starts(server, replaced: list[str]) -> None:
    """What a server must do that was started with all of its flags but those that need a GPU."""
    assert [word.partition("=")[0] for word in server.replaced] == replaced
    assert [card["id"] for card in server.ask("/v1/models").json()["data"]] == [server.model]
    assert all(server.pod.probe(name) for name in ("startupProbe", "livenessProbe", "readinessProbe"))
    assert server.ask("/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/a"}).status == 404


def guards(server) -> None:
    """What a server with a key must refuse without it; what it does not is in docs/security.md."""
    paths = [path for path in server.ask("/openapi.json", key=False).json()["paths"] if "{" not in path]
    # The key is asked for before the method is looked at.
    stays_open = {path for path in (*paths, "/metrics") if server.ask(path, key=False).status != 401}
    assert {path for path in paths if path.startswith("/v1")}.isdisjoint(stays_open)
    assert {"/health", "/metrics", "/invocations"} <= stays_open
    (row,) = re.findall(r"^Without the key vLLM .* still answers: (.*)$", SECURITY.read_text(), re.MULTILINE)
    assert set(re.findall(r"`(/[^`]*)`", row)) == stays_open
    answer = server.ask("/invocations", {"model": server.model, **QUESTION}, key=False)
    assert answer.status == 200, answer.data
    wrong = server.ask("/v1/models", key=False, headers={"Authorization": "Bearer wrong"})
    assert (wrong.status, wrong.json()) == (401, {"error": "Unauthorized"})
    (secret,) = SECRETS.values()
    assert secret not in server.log


def test_the_drain_loses_no_request(server, twenty):
    load = twenty(server)
    # Until every proxy knows, more arrive.
    late = threading.Timer(2, load.ask, (server, 5, 20))
    late.start()
    status = server.pod.stop()
    late.join()
    assert sorted(load.join()) == [20] * 5 + [TOKENS] * 20
    assert status == 0


def test_without_the_drain_requests_are_lost(start, twenty):
    # vLLM then neither answers them nor ends: a shorter grace, several times what they take, spares a minute.
    with start("judge", vllm_judge_drain_seconds=30, vllm_judge_termination_grace_seconds=60) as judge:
        starts(judge, [])
        load = twenty(judge)
        judge.pod.stop(hook=False)
        answers = load.join()
        assert len(answers) == 20
        assert [answer for answer in answers if answer != TOKENS]


def test_an_engine_that_is_killed_fails_the_liveness_probe_and_ends_the_container(start, until):
    secret = {"name": "vllm-key", "key": "api-key"}
    with start("judge-large", wait=False, vllm_judge_api_key_secret=secret) as judge:
        # What is loading is not alive yet: the startup probe waits for it.
        assert not judge.pod.probe("startupProbe")
        judge.wait()
        starts(judge, ["--tensor-parallel-size"])
        guards(judge)
        (engine,) = [number for number, name in judge.pod.processes().items() if name.startswith("VLLM::Engine")]
        os.kill(engine, signal.SIGKILL)
        until(lambda: not judge.pod.probe("livenessProbe"), "the liveness probe fails")
        # The kubelet starts a container again whose first process has ended.
        until(lambda: not judge.pod.running(), "the container has ended")


def test_a_stop_while_it_loads_ends_within_the_grace(start, until):
    grace = {"vllm_judge_drain_seconds": 6, "vllm_judge_termination_grace_seconds": 30}
    with start("judge", wait=False, **grace) as judge:
        until(lambda: "vLLM API server version" in judge.log, "it has begun to load")
        # Nobody listens yet: the hook has nothing to wait for. SIGTERM alone would not do: vLLM does not hear it while its
        # engine starts, and is killed when the grace is over.
        judge.pod.stop()
        assert not judge.pod.running()


def test_an_adapter_that_the_loader_keeps_away_would_keep_vllm_from_starting(start, until):
    slots = {LIVE: TOO_HIGH.files(MODEL)}
    with start("vllm", wait=False, by_hand=slots) as server:
        until(lambda: not server.pod.running(), "it has ended")
        assert server.pod.process.returncode == 1
        assert "Call to add_lora method failed: LoRA rank 64 is greater than max_lora_rank 32." in server.log
