"""Puts a server's questions to it, as its users do; never writes, and never decides what becomes of a wrong answer."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import urllib3
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery, parking
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, nearest, problem

SIMULATED = "kwok.x-k8s.io/node"


def unusable(rendered: dict, urls: dict, keys: dict) -> list[str]:
    """Tell which URLs and keys are of no server that is on, and which keys would not arrive: the API server's proxy removes the header."""
    names = [part["name"] for part in rendered["parts"] if part["enabled"] and part["questions"]]
    wrong = [
        problem(f"smoke_urls.{name}", url, nearest(name, names)) for name, url in urls.items() if name not in names
    ]
    wrong += [problem(f"smoke_keys.{name}", HIDDEN, nearest(name, names)) for name in keys if name not in names]
    return wrong + [
        problem(
            f"smoke_keys.{name}", HIDDEN, f"can't be sent through the API server's proxy: set smoke_urls.{name} too"
        )
        for name in keys
        if name in names and name not in urls
    ]


def line(answer: dict) -> str:
    """Say how one question went."""
    return ": ".join(answer[key] for key in ("server", "question", "answer") if answer[key])


def counted(answers: list[dict]) -> str:
    """Count the servers that were asked, those of them that gave no wrong answer, and the questions."""
    asked = [answer for answer in answers if answer["question"] or not answer["ok"]]
    servers = {answer["server"] for answer in asked}
    silent = {answer["server"] for answer in answers} - servers
    right = servers - {answer["server"] for answer in asked if not answer["ok"]}
    text = f"{len(right)} of {len(servers)} servers answered right" if servers else "no server was asked"
    text += f" ({len(asked)} question{'s'[: len(asked) != 1]})" if asked else ""
    return text + (f", {len(silent)} not asked: {', '.join(sorted(silent))}" if silent and servers else "")


def handed(answers: Sequence[dict]) -> dict:
    """Give what a run hands on of the answers: questions that were put, those of them that got a right answer, and all of it."""
    asked = [answer for answer in answers if answer["question"]]
    return {"asked": len(asked), "right": sum(answer["ok"] for answer in asked), "answers": answers}


def ask(cluster: Cluster, server: dict, rendered: dict, url: str | None = None, key: str | None = None) -> list[dict]:
    """Put all questions to one server.

    Args:
        cluster: where it is.
        server: its part of a rendering.
        rendered: the structure of ``servers.render``.
        url: where it is asked; by default through the API server's proxy.
        key: its API key, for one that asks for one and has a URL.

    Returns:
        for each question ``server``, ``question``, ``ok`` and ``answer``; one row with an empty ``question`` where nothing can answer.
    """
    silence = "" if url else _silent(cluster, server["name"], rendered["cluster"]["namespace"])
    if silence:
        return [{"server": server["name"], "question": "", "ok": silence != "no pod runs", "answer": silence}]
    return [_answer(cluster, server, question, url, rendered, key) for question in server["questions"]]


def _silent(cluster: Cluster, name: str, namespace: str) -> str:
    """Say why nothing can answer, or ``''``."""
    live = cluster.get(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name}}
    )
    if live and live["spec"].get("replicas") == 0:
        note = parking.read(live)
        return f"{parking.told(note) if note else 'parked'}, not asked"
    nodes = {pod["spec"].get("nodeName") for pod in cluster.list("v1", "Pod", namespace, f"app={name}")} - {None}
    if not nodes:
        return "no pod runs"
    try:
        found = [cluster.request("GET", f"/api/v1/nodes/{node}") for node in sorted(nodes)]
    except ApiError as error:
        if error.status != 403:
            raise
        return ""
    return (
        "its nodes are simulated: nothing answers there"
        if all(SIMULATED in node["metadata"].get("annotations", {}) for node in found)
        else ""
    )


def _answer(
    cluster: Cluster, server: dict, question: dict, url: str | None, rendered: dict, key: str | None = None
) -> dict:
    """Put one question. Without the key that it needs, the right answer is that it is refused."""
    method, path = ("POST" if question.get("body") else "GET"), question["path"]
    row = {"server": server["name"], "question": f"{method} {path}"}
    started = time.monotonic()
    try:
        if url:
            answer = _by_url(method, url.rstrip("/") + path, question.get("body"), key if question.get("key") else None)
        else:
            proxy = delivery.proxied(rendered, server["service"], path)
            answer = cluster.request(method, proxy, body=question.get("body"))
    except (ApiError, Unreachable) as error:
        if question.get("key") and not key and _asks_for_key(error):
            return {**row, "ok": True, "answer": "refused without the key, as it should be"}
        return {**row, "ok": False, "answer": f"failed: {error}"}
    if question.get("key") and not key:
        return {
            **row,
            "ok": False,
            "answer": "answered without the key of its Secret: whoever reaches the port can ask",
        }
    text = answer if isinstance(answer, str) else json.dumps(answer)
    expected = question.get("expect", "")
    # JSON may be written with or without spaces.
    if "".join(expected.split()) not in "".join(text.split()):
        return {**row, "ok": False, "answer": f"{expected} is not in the answer: {text[:300]}"}
    return {**row, "ok": True, "answer": f"right, after {time.monotonic() - started:.1f} s"}


def _asks_for_key(error: ApiError | Unreachable) -> bool:
    """Tell whether the model server refused, and not the API server, whose answer is a Status."""
    if not isinstance(error, ApiError) or error.status != 401:
        return False
    return not (isinstance(error.details, dict) and error.details.get("kind") == "Status")


def _by_url(method: str, url: str, body: dict | None, key: str | None) -> str:
    headers = {"Authorization": f"Bearer {key}"} if key else None
    try:
        answer = urllib3.request(method, url, json=body, headers=headers, timeout=60, retries=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"{url} does not answer: {error}") from error
    if answer.status >= 400:
        raise ApiError(answer.status, answer.data)
    return answer.data.decode(errors="replace")
