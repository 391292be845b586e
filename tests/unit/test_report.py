"""What the report says of a server, and what of it needs a person."""

from __future__ import annotations

import copy
import json
import re
from base64 import b64encode
from hashlib import sha256
from html import unescape
from typing import Any

import fleet
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.report import findings, page, rows
from fleet import NOW, ago, deployment, live, pod, report
from rendering import rendered


@pytest.fixture(scope="module")
def found() -> dict:
    """Two Tritons, vLLM and the judge."""
    rendering = rendered(vllm_judge_variant="judge", triton_enabled_profiles=["cpu", "gpu"])
    assert rendering["problems"] == []
    return rendering


NOTE = {"by": "anna", "since": ago(days=2), "until": ago(hours=-20), "reason": "weekend", "replicas": 1}


def parked(found: dict, **note: str) -> dict[str, dict]:
    return {"judge-vllm": deployment(found, "judge-vllm", 0, note={**NOTE, **note})}


def of(found: dict, deployments: dict | None = None, pods: dict | None = None, **more: Any) -> dict:
    """A report of a cluster whose judge is parked, and whose other servers run but for what is given."""
    return report(found, live(found, parked(found) | (deployments or {}), {"judge-vllm": [], **(pods or {})}, **more))


def told(one: dict) -> list[tuple[str, str, str]]:
    return [(found["kind"], found["server"], found["text"]) for found in one["findings"]]


def row(one: dict, server: str) -> dict:
    return next(row for row in one["servers"] if row["server"] == server)


def broken(found: dict, server: str = "vllm", ready: int = 0, **how: Any) -> dict:
    """A report in which the newest pod of one server is not ready, in a way."""
    return of(found, {server: deployment(found, server, 1, ready)}, {server: [pod(server, **how)]})


def test_what_runs_as_it_should_needs_nobody(found):
    one = of(found)
    assert told(one) == []
    assert [(row["server"], row["state"], row["ready"], row["wanted"]) for row in one["servers"]] == [
        ("triton-inference", "ready", 2, 2),
        ("triton-inference-gpu", "ready", 1, 1),
        ("vllm", "ready", 1, 1),
        ("judge-vllm", "parked", 0, 0),
    ]


def test_a_row_says_how_a_server_is(found):
    vllm = row(of(found), "vllm")
    assert (vllm["role"], vllm["profile"], vllm["instance_type"]) == ("vllm", "gpu-vllm", "g5.xlarge")
    assert (vllm["model"], vllm["image"].rpartition(":")[0]) == ("TheBloke/Mistral-7B-v0.1-AWQ", "vllm/vllm-openai")
    assert (vllm["age"], vllm["restarts"], vllm["nodes"]) == (
        3 * 86400,
        0,
        ["vllm-node-0.eu-central-1.compute.internal"],
    )
    assert vllm["account"]["role_arn"].endswith("role/my-vllm-s3-read")


def test_a_gpus_memory_is_divided_without_a_rest(found):
    memory = row(of(found), "vllm")["memory"]
    assert memory["total"] == 22 * GIB
    assert sum(size for part, size in memory.items() if part != "total") == pytest.approx(memory["total"])
    assert memory["weights"] == pytest.approx(3.88 * GIB, rel=0.01)
    assert row(of(found), "triton-inference")["memory"] == {}


def test_a_share_is_that_of_the_node_it_is_on_or_of_the_profile(found):
    shares = row(of(found), "vllm")["shares"]
    assert shares["gpu"] == 1
    assert shares["cpu"] == pytest.approx(0.8, abs=0.02)
    node = {"metadata": {}, "status": {"allocatable": {"cpu": "30", "memory": "120Gi", "nvidia.com/gpu": "4"}}}
    shares = row(of(found, nodes={"vllm-node-0.eu-central-1.compute.internal": node}), "vllm")["shares"]
    assert shares["gpu"] == 0.25
    assert shares["cpu"] == pytest.approx(0.1)


def test_a_server_costs_the_nodes_that_it_is_on_and_parking_saves_those_of_its_own(found):
    apart = of(found)
    names = ("now", "month", "parked", "awake", "saved")
    assert [row(apart, "vllm")["cost"][name] for name in names] == [1.006, 1.006 * 730, 0, 1.006, None]
    saved = pytest.approx(48 * 1.006)
    assert [row(apart, "judge-vllm")["cost"][name] for name in names] == [0, 0, 0, 1.006, saved]
    assert row(apart, "triton-inference")["cost"]["now"] == 2 * 0.384
    assert apart["cost_per_hour"] == pytest.approx(1.006 + 0.752 + 2 * 0.384)
    # Two servers of a pool on one node: neither saves it alone, and it is paid for once.
    there = [pod("triton-inference", number) for number in range(2)]
    there[1]["spec"] = there[0]["spec"]
    both = of(found, pods={"triton-inference": there, "triton-inference-gpu": [copy.deepcopy(there[0])]})
    assert row(both, "triton-inference")["cost"]["now"] == row(both, "triton-inference")["cost"]["parked"] == 0.384
    assert both["cost_per_hour"] < apart["cost_per_hour"]
    unpriced = rendered(platform_hardware_profiles={"gpu-vllm": {"instance_type": "x9.large", "price_per_hour": None}})
    other = report(unpriced, live(unpriced))
    assert row(other, "vllm")["cost"]["now"] is None
    assert other["unpriced"] == ["gpu-vllm"]


@pytest.mark.parametrize(
    ("how", "kinds", "text"),
    [
        ({"waiting": "CrashLoopBackOff"}, ["broken", "idle"], "0 of 1 ready: container vllm of vllm-0: CrashLoopBackOff"),
        ({"waiting": "ImagePullBackOff"}, ["broken", "idle"], "0 of 1 ready: container vllm of vllm-0: ImagePullBackOff"),
        ({"waiting": "ContainerCreating"}, ["broken", "idle"], "0 of 1 ready: a start may take"),
        ({"waiting": "ContainerCreating", "since": ago(seconds=60)}, [], ""),
    ],
)  # fmt: skip
def test_a_server_that_is_not_rolled_out_is_broken_once_its_time_is_over(found, how, kinds, text):
    one = broken(found, **how)
    assert [kind for kind, server, _ in told(one) if server == "vllm"] == kinds
    assert not kinds or text in told(one)[0][2]
    assert row(one, "vllm")["state"] == ("not rolled out" if kinds else "starting")


def test_a_server_without_a_node_is_broken_unless_one_may_still_come(found):
    waiting = pod("vllm", since=ago(seconds=60))
    waiting["spec"] = {}
    condition = {"type": "PodScheduled", "status": "False", "message": "0/6 nodes are available"}
    waiting["status"] = {"phase": "Pending", "conditions": [condition]}
    given = {"vllm": deployment(found, "vllm", 1, 0)}, {"vllm": [waiting]}
    assert told(of(found, *given)) == [
        ("broken", "vllm", "0 of 1 ready: no node takes its pod: 0/6 nodes are available")
    ]
    scaled = copy.deepcopy(found)
    next(part for part in scaled["parts"] if part["name"] == "vllm")["autoscaled_pool"] = True
    assert told(of(scaled, *given)) == []


def test_a_server_that_is_absent_is_broken_unless_argo_cd_has_it_elsewhere(found):
    gone = {"vllm": None}, {"vllm": []}
    assert told(of(found, *gone)) == [("broken", "vllm", "not deployed: the cluster has no Deployment of this name")]
    hub = copy.deepcopy(found)
    hub["settings"]["argocd_apps"] |= {"destination_server": "https://prod.example.com", "destination_name": ""}
    one = of(hub, *gone, applications=[])
    assert row(one, "vllm")["state"] == "elsewhere"
    assert [text for _, server, text in told(one) if server == "vllm"] == []


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        ({"sync": {"status": "Synced"}, "health": {"status": "Healthy"}}, "", ""),
        ({"sync": {"status": "Synced"}, "health": {"status": "Progressing"}}, "", ""),
        ({"sync": {"status": "OutOfSync"}, "health": {"status": "Healthy"}}, "drifted", "is out of sync with Git"),
        ({"sync": {"status": "Synced"}, "health": {"status": "Degraded"}}, "broken", "health Degraded, sync Synced"),
        ({"conditions": [{"type": "ComparisonError", "message": "no such path"}]}, "broken", ": no such path"),
        ({"conditions": [{"type": "SharedResourceWarning", "message": "twice"}], "sync": {"status": "Synced"}}, "", ""),
        ({"sync": {"status": "OutOfSync"}, "operationState": {"phase": "Failed", "message": "denied"}}, "broken", ": denied"),
        (None, "broken", "absent"),
    ],
)  # fmt: skip
def test_an_application_that_is_not_well(found, status, kind, text):
    item = [] if status is None else [{"metadata": {"name": "vllm-app"}, "status": status}]
    one = report(
        found, live(found, parked(found), {"judge-vllm": []}), applications=findings.applications(item, ["vllm-app"])
    )
    assert [found[0] for found in told(one)] == ([kind] if kind else [])
    assert all(text in found[2] for found in told(one))


@pytest.mark.parametrize(
    ("used", "hard", "resource", "text"),
    [
        ("37", "40", "requests.cpu", "ResourceQuota team: 37 of 40 requests.cpu used, 92%"),
        ("36", "40", "requests.cpu", ""),
        ("4", "4", "requests.nvidia.com/gpu", "ResourceQuota team: 4 of 4 requests.nvidia.com/gpu used, 100%"),
        ("31Gi", "32Gi", "limits.memory", "ResourceQuota team: 31744Mi of 32768Mi limits.memory used, 97%"),
        ("0", "0", "pods", ""),
    ],
)
def test_a_quota_that_is_nearly_used_up(found, used, hard, resource, text):
    quota = {"metadata": {"name": "team"}, "status": {"used": {resource: used}, "hard": {resource: hard}}}
    assert told(of(found, quotas=[quota])) == ([("limit", "", text)] if text else [])


def test_restarts_and_containers_that_ran_out_of_memory_are_close_to_a_limit(found):
    killed = of(found, pods={"vllm": [pod("vllm", restarts=3, ended="OOMKilled")]})
    assert [text for kind, _, text in told(killed) if kind == "limit"] == [
        "ran out of memory: container vllm was killed",
        "3 restarts of its pods",
    ]
    assert told(of(found, pods={"vllm": [pod("vllm", restarts=2, ended="Error")]})) == []


def test_a_model_whose_memory_is_too_close_to_tell_is_close_to_a_limit():
    close = rendered(vllm_gpu_memory_utilization=0.3)
    limits = [found for found in told(report(close, live(close))) if found[0] == "limit"]
    assert [found[1] for found in limits] == ["vllm"]
    assert "GPU memory: too close to tell: the weights need" in limits[0][2]


def test_a_pod_that_takes_nearly_all_of_its_node_is_close_to_a_limit(found):
    node = {"metadata": {}, "status": {"allocatable": {"cpu": "3.3", "memory": "120Gi", "nvidia.com/gpu": "1"}}}
    one = of(found, nodes={"vllm-node-0.eu-central-1.compute.internal": node})
    assert told(one) == [("limit", "vllm", "asks for 91% of its node's CPU")]


def test_an_awake_judge_and_one_that_nobody_woke_cost_or_wait(found):
    awake = report(found, live(found))
    assert told(awake) == [
        ("idle", "judge-vllm", "the judge is awake for 3 d, $1.01 per hour: park it unless something asks it")
    ]
    late = report(found, live(found, parked(found, until=ago(hours=1)), {"judge-vllm": []}))
    assert told(late) == [("idle", "judge-vllm", f"parked until {ago(hours=1)}, and nobody woke it")]
    assert told(report(found, live(found, parked(found, until=""), {"judge-vllm": []}))) == []
    # Without a note it is the inventory that has it at no replicas.
    off = report(found, live(found, {"judge-vllm": deployment(found, "judge-vllm", 0)}, {"judge-vllm": []}))
    assert (row(off, "judge-vllm")["state"], told(off)) == ("no replicas", [])


def test_a_broken_chain_and_an_inventory_that_a_run_would_refuse(found):
    chain = {
        "service_account": "ml-models/vllm-sa",
        "broken": "trust",
        "unjudged": "",
        "reason": "names another subject",
    }
    one = report(
        {**found, "problems": ["vllm_replicas is -1: must be 0 or more", "x"]},
        live(found, parked(found), {"judge-vllm": []}),
        chains=[chain],
    )
    assert told(one) == [
        ("broken", "", "a run would refuse its inventory: vllm_replicas is -1: must be 0 or more, and 1 more"),
        ("broken", "", "ml-models/vllm-sa does not reach its objects in S3: trust: names another subject"),
    ]  # fmt: skip


def test_what_differs_from_the_inventory_is_told_once_an_object(found):
    edit = {"server": "vllm", "kind": "Deployment", "name": "vllm", "what": "changed", "text": "changed spec.replicas"}
    edits = [
        edit,
        {**edit, "text": "added spec.paused"},
        {**edit, "server": "", "kind": "Role", "name": "workflow-role"},
    ]
    gone = [
        {**edit, "what": "absent", "text": "absent"},
        {**edit, "kind": "Service", "what": "absent", "text": "absent"},
    ]
    seen = live(found, parked(found), {"judge-vllm": []})
    assert told(report(found, seen, drift=edits)) == [
        ("drifted", "vllm", "Deployment vllm: changed spec.replicas, and 1 more"),
        ("drifted", "", "Role workflow-role: changed spec.replicas"),
    ]
    assert told(report(found, seen, drift=gone)) == [("drifted", "vllm", "Service vllm: absent")]


@pytest.mark.parametrize(
    ("result", "reason", "text"),
    [
        ("succeeded", "", ""),
        ("running", "", ""),
        ("failed", "Deployment vllm is not rolled out\n  its log", ", 4, failed: Deployment vllm is not rolled out"),
        ("rolled back", "", ", 4, failed and was rolled back"),
        ("interrupted", "", ", 4, was interrupted"),
    ],
)
def test_a_last_release_that_did_not_succeed_is_broken(found, result, reason, text):
    last = [{"number": 4, "result": result, "reason": reason}, {"number": 3, "result": "failed", "reason": ""}]
    one = report(found, live(found, parked(found), {"judge-vllm": []}), releases=last)
    assert told(one) == ([("broken", "", f"the last release{text}")] if text else [])


def test_a_cluster_that_does_not_answer_is_broken_and_nothing_else_is_said_of_it(found):
    one = report(found, None, "https://10.0.0.1 does not answer: timed out")
    assert told(one) == [("broken", "", "https://10.0.0.1 does not answer: timed out")]
    assert told(report(found, None, "no such file"))[0][2] == "could not be looked at: no such file"
    assert len(told(report({**found, "problems": ["vllm_replicas is -1"]}, None, "no such file"))) == 2


def test_what_a_loader_put_into_each_slot(found):
    vllm = deployment(found, "vllm")
    slots = json.loads(
        next(
            entry["value"]
            for container in vllm["spec"]["template"]["spec"]["initContainers"]
            for entry in container["env"]
            if entry["name"] == "ADAPTER_SLOTS"
        )
    )
    first, second = slots
    events = [
        {"event": "removed", "slot": first, "reason": "is not whole"},
        {"event": "loaded", "slot": first, "version": "14"},
        {"event": "alias_missing", "model": "mistral-7b-lora", "alias": slots[second]},
    ]
    assert rows.loaded(vllm, None)[0] == {
        "slot": first,
        "source": f"mistral-7b-lora@{slots[first]}",
        "version": "",
        "state": "version not known",
    }
    assert [(one["version"], one["state"]) for one in rows.loaded(vllm, events)] == [
        ("14", "loaded"),
        ("", "MLflow has no such alias"),
    ]
    refused = [*events, {"event": "refused", "slots": [first], "reason": "token=hf_abcdefghijklmnopqrstuvwx"}]
    assert rows.loaded(vllm, refused)[0]["state"] == "refused: (hidden)"
    sources = {"MODEL_SLOTS": json.dumps({"iris": {"model": "iris", "alias": "live"}, "cats": {"uri": "s3://b/cats"}})}
    vllm["spec"]["template"]["spec"]["initContainers"] = [
        {"name": "load-models", "env": [{"name": name, "value": value} for name, value in sources.items()]}
    ]
    assert [one["source"] for one in rows.loaded(vllm, None)] == ["iris@live", "s3://b/cats"]


def test_the_libraries_are_those_that_are_pinned():
    folder = page.ASSETS / "vendor"
    pins = json.loads((folder / "pins.json").read_text())
    assert {pin["file"] for pin in pins} == {path.name for path in folder.glob("*.min.*")}
    for pin in pins:
        assert sha256((folder / pin["file"]).read_bytes()).hexdigest() == pin["sha256"]
        assert f"{pin['licence']} License" in (folder / pin["licence_file"]).read_text()


# --- The page ---------------------------------------------------------------------------------------

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover='alert(3)"


def test_whatever_a_cluster_says_is_text(found):
    vllm = deployment(found, "vllm", 1, 0, note=None)
    vllm["metadata"]["annotations"]["modelyard/model"] = HOSTILE
    vllm["spec"]["template"]["spec"]["containers"][0]["image"] = HOSTILE
    bad = pod("vllm", waiting="CrashLoopBackOff")
    bad["status"]["containerStatuses"][0]["name"] = HOSTILE
    judge = deployment(found, "judge-vllm", 0, note=HOSTILE)
    one = report(
        found, live(found, {"vllm": vllm, "judge-vllm": judge}, {"vllm": [bad], "judge-vllm": []}), host=HOSTILE
    )
    release = {
        "number": 1,
        "time": HOSTILE,
        "by": HOSTILE,
        "commit": HOSTILE,
        "result": HOSTILE,
        "changes": 1,
        "clean": "no",
        "rollback_to": 0,
    }
    away = {"host": HOSTILE, "cluster": HOSTILE, "answers": False, "why": HOSTILE}
    before_all = {**release, "time": "0001-01-01T00:00:00+05:00"}  # in UTC it would be in the year 0
    html = page.render([{**one, "releases": [release, before_all], "unread": [HOSTILE], "identity": HOSTILE}, away])
    assert html.count("&lt;script&gt;alert(1)") > 10
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "' onmouseover='" not in html


def test_the_page_loads_nothing_and_runs_nothing_but_its_own():
    html = page.render(fleet.fleet(4))
    policy = unescape(html.partition('content="')[2].partition('"')[0])
    scripts = html.split("<script>")[1:]
    hashes = [b64encode(sha256(one.partition("</script>")[0].encode()).digest()).decode() for one in scripts]
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {' '.join(f"'sha256-{one}'" for one in hashes)}; "
        "base-uri 'none'; form-action 'none'"
    )
    head, _, rest = html.partition("<style>")
    body = rest.partition("</style>")[2]
    for text in (head, body.partition("<script>")[0]):
        assert " src=" not in text
        assert "url(" not in text
        assert "<link" not in text
        assert [word for word in text.split('href="')[1:] if not word.startswith("#")] == []


def test_a_fleet_of_servers_with_eight_gpus_each_stays_small():
    many = fleet.fleet()
    assert (len(many), {len(one["servers"]) for one in many}) == (64, {6, 0})
    for one in many:
        large = next((row for row in one["servers"] if row["server"] == "vllm-large"), None)
        one["servers"] = [{**row, "gpus": 8, "memory": large["memory"]} for row in one["servers"]]
    assert len(page.render(many).encode()) < 2e6


def test_an_inventory_without_servers_and_a_host_that_could_not_be_read_make_a_page(found):
    none = rendered(vllm_enabled=False, vllm_judge_variant="none", triton_enabled_profiles=[])
    html = page.render(
        [
            report(none, live(none)),
            {"host": "eu-west", "cluster": "east", "answers": False, "why": "no such variable"},
            {"host": "eu.west", "cluster": "east", "answers": False, "why": "no such variable"},
        ],
        NOW,
    )
    assert "could not be looked at: no such variable" in html
    anchors = re.findall(r' id="([^"]+)"', html)
    assert len(anchors) == len(set(anchors))
    assert "29 Nov 2026, 10:00 UTC" in html
    assert page.render([])
