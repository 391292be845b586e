"""Action ``modelyard.core.smoke``: see plugins/modules/smoke.py for its arguments."""

from __future__ import annotations

import json
import time

import urllib3
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action, checked
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import check_cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure, Refused, nearest, problem

SIMULATED = "kwok.x-k8s.io/node"


class ActionModule(Action):
    """Ask each model server what its users will ask."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = checked(options["rendered"])
        servers = [part for part in rendered["parts"] if part["enabled"] and part["questions"]]
        wrong = _unknown_urls([server["name"] for server in servers], options["urls"])
        if wrong:
            raise Refused(wrong)
        cluster = Cluster(options["connection"])
        check_cluster(cluster, delivery.identity(rendered))
        answers = [answer for server in servers for answer in _ask(cluster, server, options["urls"], rendered)]
        lines = [f"{answer['server']}: {answer['question']}: {answer['answer']}" for answer in answers]
        for line in lines:
            self.tell(line)
        failed = [line for line, answer in zip(lines, answers, strict=True) if not answer["ok"]]
        if failed:
            raise Failure(f"{len(failed)} of {len(answers)} questions got no right answer:\n" + "\n".join(failed))
        return {"changed": False, "answers": answers}


def _unknown_urls(names: list[str], urls: dict) -> list[str]:
    return [problem(f"smoke_urls.{name}", url, nearest(name, names)) for name, url in urls.items() if name not in names]


def _ask(cluster: Cluster, server: dict, urls: dict, rendered: dict) -> list[dict]:
    """Put all questions to one server."""
    url = urls.get(server["name"])
    silence = "" if url else _silent(cluster, server["name"], rendered["cluster"]["namespace"])
    if silence:
        return [{"server": server["name"], "question": "-", "ok": silence != "no pod runs", "answer": silence}]
    return [_answer(cluster, server, question, url, rendered) for question in server["questions"]]


def _silent(cluster: Cluster, name: str, namespace: str) -> str:
    """Say why nothing can answer, or ``''``."""
    live = cluster.get(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": namespace, "name": name}}
    )
    if live and live["spec"].get("replicas") == 0:
        return "parked, not asked"
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


def _answer(cluster: Cluster, server: dict, question: dict, url: str | None, rendered: dict) -> dict:
    method, path = ("POST" if question.get("body") else "GET"), question["path"]
    row = {"server": server["name"], "question": f"{method} {path}"}
    started = time.monotonic()
    try:
        if url:
            answer = _by_url(method, url.rstrip("/") + path, question.get("body"))
        else:
            proxy = delivery.proxied(rendered, server["service"], path)
            answer = cluster.request(method, proxy, body=question.get("body"))
    except (ApiError, Unreachable) as error:
        return {**row, "ok": False, "answer": f"failed: {error}"}
    text = answer if isinstance(answer, str) else json.dumps(answer)
    expected = question.get("expect", "")
    # JSON may be written with or without spaces.
    if "".join(expected.split()) not in "".join(text.split()):
        return {**row, "ok": False, "answer": f"{expected} is not in the answer: {text[:300]}"}
    return {**row, "ok": True, "answer": f"right, after {time.monotonic() - started:.1f} s"}


def _by_url(method: str, url: str, body: dict | None) -> str:
    try:
        answer = urllib3.request(method, url, json=body, timeout=60, retries=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise Unreachable(f"{url} does not answer: {error}") from error
    if answer.status >= 400:
        raise ApiError(answer.status, answer.data)
    return answer.data.decode(errors="replace")
