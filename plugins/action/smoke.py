"""Action ``modelyard.core.smoke``: see plugins/modules/smoke.py for its arguments."""

from __future__ import annotations

import json
import time

import urllib3
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.plan import Refused, check_cluster
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest, problem

SIMULATED = "kwok.x-k8s.io/node"


class ActionModule(ActionBase):
    """Ask each model server what its users will ask."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        options = json.loads(json.dumps(options))
        try:
            problems = options["problems"] + _unknown_urls(options)
            if problems:
                raise Refused(problems)
            cluster = Cluster(options["connection"])
            check_cluster(cluster, options)
            answers = [answer for server in options["servers"] for answer in _ask(cluster, server, options)]
        except (ApiError, Unreachable, Refused) as error:
            raise AnsibleActionFail(f"cluster {options['cluster_name']}: {error}") from None
        for answer in answers:
            self._display.display(f"  {answer['server']}: {answer['question']}: {answer['answer']}")
        wrong = [answer for answer in answers if not answer["ok"]]
        if wrong:
            lines = [f"{answer['server']}: {answer['question']}: {answer['answer']}" for answer in wrong]
            raise AnsibleActionFail(
                f"{len(wrong)} of {len(answers)} questions got no right answer:\n" + "\n".join(lines)
            )
        return {"changed": False, "answers": answers}


ARGUMENTS = {
    "connection": {"type": "dict", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "api_server": {"type": "str", "default": ""},
    "kube_system_uid": {"type": "str", "default": ""},
    "problems": {"type": "list", "elements": "str", "default": []},
    "namespace": {"type": "str", "required": True},
    "servers": {"type": "list", "elements": "dict", "required": True},
    "urls": {"type": "dict", "default": {}},
}


def _unknown_urls(options: dict) -> list[str]:
    names = [server["name"] for server in options["servers"]]
    return [
        problem(f"smoke_urls.{name}", url, nearest(name, names))
        for name, url in options["urls"].items()
        if name not in names
    ]


def _ask(cluster: Cluster, server: dict, options: dict) -> list[dict]:
    """Put all questions to one server."""
    url = options["urls"].get(server["name"])
    silence = "" if url else _silent(cluster, server["name"], options["namespace"])
    if silence:
        return [{"server": server["name"], "question": "-", "ok": silence != "no pod runs", "answer": silence}]
    return [_answer(cluster, server, question, url, options["namespace"]) for question in server["questions"]]


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


def _answer(cluster: Cluster, server: dict, question: dict, url: str | None, namespace: str) -> dict:
    method, path = ("POST" if question.get("body") else "GET"), question["path"]
    row = {"server": server["name"], "question": f"{method} {path}"}
    started = time.monotonic()
    try:
        if url:
            answer = _by_url(method, url.rstrip("/") + path, question.get("body"))
        else:
            proxy = f"/api/v1/namespaces/{namespace}/services/{server['service']}:http/proxy"
            answer = cluster.request(method, proxy + path, body=question.get("body"))
    except (ApiError, Unreachable) as error:
        return {**row, "ok": False, "answer": f"failed: {error}"}
    text = answer if isinstance(answer, str) else json.dumps(answer)
    expected = question.get("expect", "")
    if expected not in text:
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
