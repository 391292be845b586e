"""The stand-in beside the real server, in the same pod with the same adapters: what is asked of both is answered alike.

Alike is everything but what a model makes up: status, kind of content, keys, types, messages, metrics' names and labels.
"""

import copy
import json
import re
import sys

import model_servers
import pytest
import services
from vllm import tiny
from vllm.server import LIVE, MODEL, TOO_HIGH, cut_off

# What the model makes up, and what names or times an answer.
CONTENT = {"id", "created", "text", "content", "prompt_tokens", "completion_tokens", "total_tokens"}
GOOD = tiny.Adapter().files(MODEL)
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Slots beside the good ones: name to files.
SPOILT = {
    "high": TOO_HIGH.files(MODEL),
    "cut": cut_off(GOOD),
    "empty": {},
    "no-config": {WEIGHTS: GOOD[WEIGHTS]},
    "half-config": {**GOOD, CONFIG: b'{"r"'},
    "a-list": {**GOOD, CONFIG: b"[]"},
    "no-rank": {**GOOD, CONFIG: b"{}"},
    "no-weights": {CONFIG: GOOD[CONFIG]},
    "one-byte": {**GOOD, WEIGHTS: b"1"},
    "no-header": {**GOOD, WEIGHTS: b"\x04\0\0\0\0\0\0\0nope"},
    "dora": tiny.Adapter().files(MODEL, use_dora=True),
    "bias": tiny.Adapter().files(MODEL, bias="all"),
    "modules": tiny.Adapter().files(MODEL, modules_to_save=["head"]),
    "good": GOOD,
}
QUESTION = {"prompt": "One word:", "max_tokens": 3, "temperature": 0}
CHAT = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 3}
LOAD, UNLOAD, COMPLETE, TALK = (
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/completions",
    "/v1/chat/completions",
)
JSON = {"headers": {"Content-Type": "application/json"}}
# In this order: what a request loads, a later one meets.
REQUESTS = {
    "health": ("/health", None, {}),
    "ping": ("/ping", None, {}),
    "models": ("/v1/models", None, {}),
    "an unknown path": ("/nosuch", None, {}),
    "a wrong method": (COMPLETE, None, {}),
    "a completion": (COMPLETE, QUESTION, {}),
    "a completion of an adapter": (COMPLETE, {**QUESTION, "model": LIVE}, {}),
    "a chat": (TALK, CHAT, {}),
    "an unknown model": (COMPLETE, {**QUESTION, "model": "nosuch"}, {}),
    "an unknown model in a chat": (TALK, {**CHAT, "model": "nosuch"}, {}),
    "no prompt": (COMPLETE, {"max_tokens": 3}, {}),
    "no messages": (TALK, {"max_tokens": 3}, {}),
    "max_tokens in words": (COMPLETE, {**QUESTION, "max_tokens": "many"}, {}),
    "max_tokens below one": (COMPLETE, {**QUESTION, "max_tokens": -1}, {}),
    "no JSON": (COMPLETE, "{", JSON),
    "a list": (COMPLETE, "[]", JSON),
    "text": (COMPLETE, "{}", {"headers": {"Content-Type": "text/plain"}}),
    **{
        f"load: {slot}": (LOAD, {"lora_name": slot, "lora_path": f"/mnt/adapters/standin-{slot}"}, {})
        for slot in SPOILT
    },
    "load: the same again": (LOAD, {"lora_name": "good", "lora_path": "/mnt/adapters/standin-good"}, {}),
    "load: nowhere": (LOAD, {"lora_name": "nowhere", "lora_path": "/mnt/adapters/standin-nowhere"}, {}),
    "load: without a path": (LOAD, {"lora_name": "good"}, {}),
    "load: an empty name": (LOAD, {"lora_name": "", "lora_path": "/x"}, {}),
    "a completion of what was loaded": (COMPLETE, {**QUESTION, "model": "good"}, {}),
    "models with what was loaded": ("/v1/models", None, {}),
    "unload": (UNLOAD, {"lora_name": "good"}, {}),
    "unload again": (UNLOAD, {"lora_name": "good"}, {}),
    "unload: without a name": (UNLOAD, {}, {}),
}


class Twin(model_servers.Client):
    """The stand-in in the pod of a running server: the same start script, arguments, environment and volumes."""

    def __init__(self, server, folder):
        self.port = str(services.free_port())
        self.pod = copy.copy(server.pod)
        (folder / "bin").mkdir()
        (folder / "bin" / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} {model_servers.program("vllm")} "$@"\n')
        (folder / "bin" / "vllm").chmod(0o755)
        name = self.pod.main["name"]
        self.pod.images = {name: folder / "bin" / "python"}
        self.pod.more = {name: {"PYTHONPATH": str(model_servers.STANDINS / "standin")}}
        self.pod.log, self.pod.process = folder / "log", None
        arguments = [word.replace(f"--port={server.port}", f"--port={self.port}") for word in server.pod.main["args"]]
        self.pod.main = {**self.pod.main, "args": arguments}
        self.pod.start()
        services.wait_for(f"http://127.0.0.1:{self.port}/health", self.pod.process, self.pod.log)


@pytest.fixture(scope="module")
def both(shared, tmp_path_factory):
    """The real server's and the stand-in's answers: {request: (answer, answer)}; `servers` are both."""
    for slot, files in SPOILT.items():
        shared.pod.copy_in(f"standin-{slot}", files)
    twin = Twin(shared, tmp_path_factory.mktemp("twin"))
    try:
        found = {}
        for name, (path, body, more) in REQUESTS.items():
            # After a 500 the real server hangs up.
            model_servers.HTTP.clear()
            found[name] = [one.ask(path, body, **more) for one in (shared, twin)]
        yield found, (shared, twin)
    finally:
        twin.pod.kill()


def shape(value, key=""):
    """A value without what a model makes up."""
    if isinstance(value, dict):
        return {name: shape(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value).__name__ if key in CONTENT else value


def told(answer):
    kind = answer.headers.get("Content-Type", "")
    text = answer.data.decode()
    body = shape(json.loads(text)) if "json" in kind else text
    if answer.status == 400:
        body["error"]["message"] = in_our_words(body["error"]["message"])
    return {"status": answer.status, "type": kind, "body": body}


def in_our_words(message: str) -> str:
    """A message without what is pydantic's, the JSON parser's or in the order of a set."""
    message = re.sub(r"({)(.*)(})", lambda found: str(sorted(found[2].split(", "))), message.partition("\n")[0])
    return message.partition("invalid JSON in header")[0]


@pytest.mark.parametrize("request_", REQUESTS)
def test_the_same_answer(both, request_):
    real, standin = (told(answer) for answer in both[0][request_])
    assert standin == real


def test_the_same_stream(both):
    def rows(server, path, body):
        answer = server.ask(path, {**body, "stream": True})
        lines = answer.data.decode().split("\n\n")
        return answer.headers["Content-Type"], [
            line if "[DONE]" in line or not line else shape(json.loads(line[6:])) for line in lines
        ]

    for path, body in ((COMPLETE, QUESTION), (TALK, CHAT)):
        (real_kind, real), (kind, standin) = (rows(server, path, body) for server in both[1])
        assert kind == real_kind
        # How many parts a text comes in is the model's.
        assert [standin[0], *standin[-3:]] == [real[0], *real[-3:]]


def test_the_same_metrics(both):
    def families(server):
        text = server.ask("/metrics").data.decode()
        kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
        labels = {
            name: set(re.findall(r'(\w+)="', inside))
            for name, inside in re.findall(r"^(\S+?)\{(.*)\} ", text, re.MULTILINE)
        }
        return {name: (kind, labels.get(name)) for name, kind in kinds.items()}

    real, standin = (families(server) for server in both[1])
    assert standin
    assert {name: real.get(name) for name in standin} == standin
