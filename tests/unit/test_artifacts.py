"""What a run hands on: documented, without credentials, no template, and small however much there is."""

import json
import re
from types import SimpleNamespace

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils import artifacts
from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from delivering import ARTIFACTS, ROOT, act, handed_on, local
from jinja2 import sandbox

SCHEMA = json.loads((ROOT / "docs/artifacts.schema.json").read_text())
# An AWX event has at most 700 kB, and all artifacts are in one.
MOST_BYTES = 200_000


class Found(Action):
    """An action that finds what it is told to."""

    def __init__(self, what, clusters, share):
        self.what, self.share, self._handed, self.clusters = what, share, {}, clusters


def deploy(changes: int) -> dict:
    one = {"action": "update", "object": "Deployment ml-models/vllm", "what": "spec.replicas 2 -> 1"}
    rows = [one | {"object": f"ConfigMap ml-models/c{number}"} for number in range(changes)]
    return {"check": True, "changed": changes, "release": 0, "changes": rows}


def handed(what: dict, clusters: int = 1, share: float = 1.0) -> dict:
    action = Found(what, clusters, share)
    action.hand_on("eks-1", **what)
    return action._handed.get(artifacts.RESULTS, {}).get("eks-1", {})


def test_what_is_small_is_handed_on_as_it_is():
    assert handed({"deploy": deploy(20)}) == {"deploy": deploy(20)}


@pytest.mark.parametrize("clusters", [1, 16, 300, 3000, 1_000_000])
def test_all_clusters_together_have_room_in_an_event(clusters):
    found = handed({"deploy": deploy(5000)}, clusters)
    size = len(json.dumps({"eks-1": found})) if found else 0
    assert size * clusters <= artifacts.RESULTS_BYTES
    assert artifacts.RESULTS_BYTES + artifacts.APPROVED_BYTES <= MOST_BYTES
    ARTIFACTS.validate({"modelyard_results": {"eks-1": found} if found else {}})


def test_what_was_left_out_is_counted():
    found = handed({"deploy": deploy(5000)})["deploy"]
    assert len(found["changes"]) + found["more"]["changes"] == found["changed"] == 5000
    assert len(json.dumps(found)) > artifacts.RESULTS_BYTES / 2


def test_of_very_many_clusters_the_numbers_stay():
    texts = {"variant": "x" * 200, "before": "y" * 200, "taken_back": True}
    assert handed({"switch": texts}, 1000) == {"switch": {"taken_back": True}}
    assert handed({"deploy": deploy(5000)}, 500)["deploy"]["changed"] == 5000


@pytest.mark.parametrize(
    "text",
    [
        "password=hunter2abc",
        "https://ann:hunter2abc@git",
        "--api-key hunter2abc",
        "Authorization: Bearer hunter2abchunter2abc",
    ],
)
def test_no_credential_is_handed_on(text):
    what = {"diff": {"lines": [f"Deployment vllm: {text}"], "error": text}}
    assert "hunter2abc" not in json.dumps(handed(what))


def test_nothing_that_is_handed_on_is_a_template():
    """AWX gives it to the next job as extra variables, and Ansible templates those."""
    found = handed({"diff": {"lines": ["{{ $labels.pod }} {% if x %} {# y #} {{{"], "error": "{{"}})
    assert not any(mark in json.dumps(found).replace('{"', "") for mark in ("{{", "{%", "{#"))


def test_long_lines_are_cut():
    (line,) = handed({"diff": {"lines": ["x" * 1000]}})["diff"]["lines"]
    assert (len(line), line[-3:]) == (artifacts.LONGEST, "...")


def test_two_steps_of_one_action_stand_side_by_side():
    action = Found({}, 1, 1.0)
    action.hand_on("eks-1", deploy={"changed": 1})
    action.hand_on("eks-1", smoke={"asked": 2})
    action.hand_on_as("diff_count", 3)
    assert action._handed == {
        "modelyard_results": {"eks-1": {"deploy": {"changed": 1}, "smoke": {"asked": 2}}},
        "diff_count": 3,
    }


def test_hosts_with_one_name_of_a_cluster_do_not_mix(tmp_path):
    """Ansible merges what the hosts of a run hand on, by its keys."""
    action = Found({}, 2, 1.0)
    for host in ("eu", "us"):
        action.host = host
        action.hand_on(deploy={"changed": 1})
    assert list(action._handed["modelyard_results"]) == ["eu", "us"]
    # One host writes the page of all.
    about = {"cluster": "ml", "answers": False, "why": "", "findings": [], "expected": []}
    result = act(
        "report_page", [], reports=[about | {"host": host} for host in ("eu", "us")], path=f"{tmp_path}/p.html"
    )
    assert list(handed_on(result)["modelyard_results"]) == ["eu", "us"]


def test_an_undocumented_key_is_found():
    with pytest.raises(Exception, match="Additional properties are not allowed"):
        handed_on({"ansible_stats": {"data": {"modelyard_results": {"eks-1": {"deploy": {"change": 1}}}}}})


def test_every_object_of_the_schema_is_closed_and_described():
    def objects(schema: object):
        if isinstance(schema, dict):
            if schema.get("type") == "object":
                yield schema
            for item in schema.values():
                yield from objects(item)
        if isinstance(schema, list):
            for item in schema:
                yield from objects(item)

    assert all(item.get("additionalProperties", True) is not True for item in objects(SCHEMA))


# Of the other actions the tests of what they do hold each result against the schema (tests/delivering.py).
def test_what_needs_no_cluster_is_documented(tmp_path):
    found = local(SimpleNamespace(url="https://127.0.0.1:9"))
    other = local(SimpleNamespace(url="https://127.0.0.1:9"), vllm_image="vllm/vllm-openai:v0.32.0")
    report = {"cluster": "local", "host": "local", "answers": False, "why": "", "findings": [], "expected": []}
    results = [
        act("upgrade", [], rendered=found, upgraded=other),
        act("preflight", [], connection={}, rendered=found, quota=False),
        act("report_page", [], reports=[report], path=str(tmp_path / "page.html")),
    ]
    done = {key: one for result in results for key, one in handed_on(result)["modelyard_results"]["local"].items()}
    assert {row["server"]: row["to"] for row in done["upgrade"]["servers"]}["vllm"] == "0.32.0"
    assert [row["verdict"] for row in done["preflight"]["servers"] if row["server"] == "vllm"] == ["fits"]
    assert done["report"] == {"page": str(tmp_path / "page.html")}


DOCS = (ROOT / "docs/artifacts.md").read_text()
MESSAGES = re.findall(r"```jinja\n(.*?)```", DOCS, re.DOTALL)
RESULTS = {
    "eks-1": {
        "deploy": deploy(1) | {"workloads": [{"workload": "vllm", "ready": 1, "wanted": 2, "parked": ""}]},
        "preflight": {"fits": False, "problems": ["vllm does not fit"]},
        "report": {"ready": 1, "servers": 2, "broken": 1},
        "park": {"servers": [{"server": "judge-vllm", "price": "$5.67 per hour, saved $12.30"}]},
    }
}


def told(message: str, given: dict | None) -> str:
    """Render a message as AWX does, with what it allows of a job; None for a workflow, which has no artifacts."""
    job = {"id": 42, "name": "deploy", "status": "successful"} | ({} if given is None else {"artifacts": given})
    context = {"job": job, "job_friendly_name": "Job", "url": "https://awx/#/jobs/42", "job_metadata": "{}"}
    return " ".join(sandbox.ImmutableSandboxedEnvironment().from_string(message).render(**context).split())


@pytest.mark.parametrize("message", MESSAGES)
def test_a_notification_can_be_saved_and_sent_without_artifacts(message):
    for given in (
        None,
        {},
        {"modelyard_results": {"eks-1": {"deploy": {"changed": 3}}}},
        {"modelyard_results": {"eks-1": {"smoke": {}}}},
    ):
        assert "https://awx/#/jobs/42" in told(message, given)


def test_notifications_tell_what_was_handed_on():
    given = {"modelyard_results": RESULTS, "diff_count": 2, "diff_not_compared": ["eks-2"]}
    assert [told(message, given).removesuffix("https://awx/#/jobs/42").strip() for message in MESSAGES] == [
        "Job #42 deploy successful: eks-1: would change 1; does not fit; 1 of 2 servers ready, 1 broken;",
        "Job #42 deploy: successful, https://awx/#/jobs/42 eks-1: update ConfigMap ml-models/c0: spec.replicas 2 -> 1 vllm: 1 of 2 ready",
        "deploy: 2 differences, not compared: eks-2;",
        "deploy: eks-1: vllm does not fit",
        "eks-1: judge-vllm parked, $5.67 per hour, saved $12.30;",
    ]


def test_the_documentation_names_every_key():
    def keys(schema: object):
        if isinstance(schema, dict):
            yield from schema.get("properties", {})
            for item in schema.values():
                yield from keys(item)
        if isinstance(schema, list):
            for item in schema:
                yield from keys(item)

    assert {key for key in keys(SCHEMA) if f"`{key}`" not in DOCS} == set()
