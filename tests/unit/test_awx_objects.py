"""What the role awx computes: templates with surveys and timeouts, workflows, schedules, teams; what a run has to do."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.modelyard.core.plugins.action import awx_plan
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import (
    api,
    clusters,
    objects,
    schedules,
    surroundings,
    templates,
    updates,
    workflows,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs
from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

ROOT = Path(__file__).parents[2]
ROLE = specs.load(["awx"])
GIVEN = {
    "awx_organization": "ml",
    "awx_execution_environment": {"name": "ee", "image": "r/ee:1"},
    "awx_projects": {"modelyard": {"url": "https://g/m.git", "branch": "v1"}, "ours": {"url": "https://g/o.git"}},
    "awx_inventories": {"clusters": {"sources": {"from Git": {"project": "ours", "path": "inventory"}}}},
    "awx_clusters": {
        "a": {"ca": "CA", "token": "hush", "reader_token": "hush, too"},
        "b-1": {"ca": "CA", "token": "hush"},
    },
}
TWO = clusters.Clusters(
    ["a", "b-1"], {"a": "https://a", "b-1": "https://b"}, ["triton", "vllm"], ["judge", "none"], 1000
)


def wanted(known=TWO, **variables) -> objects.Wanted:
    inputs = Inputs(ROLE, {**GIVEN, **variables}, lambda value: value)
    assert inputs.problems("awx") == []
    return objects.Wanted(inputs.values("awx"), known)


def one(found: objects.Wanted, kind: str, name: str) -> dict:
    return next(item for item in found.found[kind] if objects.key(kind, item) == name)


def runs(found: objects.Wanted, name: str) -> dict:
    """What a node runs; its links are an object of their own."""
    return [item for item in found.found["node"] if objects.key("node", item) == name][1]


# What a job gets of a credential.
CONNECTION = {"host": "https://b", "api_key": 'a "b"\\', "ca_cert": "/run/x"}


def in_awx(template: str) -> str:
    """Render the text of a credential type as AWX does it."""
    known = {"url": CONNECTION["host"], "token": CONNECTION["api_key"], "tower": {"filename": CONNECTION["ca_cert"]}}
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(template).render(known)


# --- What AWX is to have ---------------------------------------------------------------------------


def test_every_playbook_has_a_job_template_but_for_those_whose_files_would_be_lost():
    made = {Path(item["playbook"]).name for item in wanted().found["job_template"]}
    known = {path.name for path in (ROOT / "playbooks").glob("*.yml")}
    assert known - made == {"render.yml", "adopt.yml", "awx.yml"}
    assert made <= known


def test_all_questions_name_a_variable_of_their_playbook():
    for name, entry in specs.catalogue("awx", "job_templates").items():
        text = (ROOT / entry["playbook"]).read_text(encoding="utf-8")
        assert [one["variable"] for one in entry.get("survey", []) if one["variable"] not in text] == [], name


def test_one_job_has_the_credentials_of_all_clusters_each_of_a_type_of_its_own():
    found = wanted()
    assert one(found, "job_template", "deploy")["credentials"] == ["a deployer", "b-1 deployer"]
    # Where there is no token that only reads, the other one has to do.
    assert one(found, "job_template", "diff")["credentials"] == ["a reader", "b-1 deployer"]
    assert one(found, "job_template", "upgrade")["credentials"] == []
    types = {item["name"]: item["credential_type"] for item in found.found["credential"]}
    assert types == {
        "a deployer": "modelyard cluster a",
        "a reader": "modelyard cluster a",
        "b-1 deployer": "modelyard cluster b-1",
    }
    injected = one(found, "credential_type", "modelyard cluster b-1")["injectors"]["extra_vars"]
    assert json.loads(in_awx(injected["modelyard_connection_b_1"])) == CONNECTION


def test_nothing_that_is_computed_holds_a_secret():
    found = wanted(
        awx_credentials={"Git": {"type": "Source Control", "inputs": {"password": "hush"}}},
        awx_notifications={"chat": {"type": "slack", "configuration": {"token": "hush"}}},
    )
    assert "hush" not in json.dumps(found.found)


@pytest.mark.parametrize(
    ("rotate", "written"),
    [
        (False, []),
        (True, ["a deployer", "a reader", "b-1 deployer"]),
        (["a"], ["a deployer", "a reader"]),
        (["b-1 deployer"], ["b-1 deployer"]),
        ("true", ["a deployer", "a reader", "b-1 deployer"]),
    ],
)
def test_secrets_are_written_again_only_where_that_is_asked_for(rotate, written):
    found = wanted(awx_rotate=rotate).found["credential"]
    assert [item["name"] for item in found if item["update_secrets"]] == written


def test_what_ends_with_a_line_break_in_a_file_of_variables_has_none_in_awx():
    found = wanted(
        awx_clusters={"a": {"ca": "CA\n", "token": "hush\n"}},
        awx_credential_types={"ours": {"inputs": {"fields": [{"id": "key", "label": "Key"}]}}},
        awx_schedules={
            "s": {
                "template": "diff",
                "rrule": "DTSTART:20260101T020000Z\nRRULE:FREQ=DAILY;INTERVAL=1\n",
                "limit": "a\n",
            }
        },
        awx_workflows={"fleet": {"nodes": {"approve": {"approval": "Deploy\n"}, "report": {"limit": "a\n"}}}},
        awx_instance_groups={"gpu": {"is_container_group": True, "pod_spec_override": "spec: {}\n"}},
        awx_job_templates={"diff": {"description": "Compares\n"}},
    )
    assert found.problems.lines == []
    assert found.secrets["credential", "a deployer"]["inputs"]["token"] == "hush"
    # A rule stands on one line.
    assert one(found, "schedule", "diff / s")["rrule"] == "DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1"
    assert one(found, "schedule", "diff / s")["limit"] == "a"
    assert runs(found, "fleet / approve")["approval"]["name"] == "Deploy"
    assert runs(found, "fleet / report")["limit"] == "a"
    assert one(found, "instance_group", "gpu")["pod_spec_override"] == "spec: {}"
    assert one(found, "job_template", "diff")["description"] == "Compares (managed by modelyard for ml)"
    # AWX says what type a field has that did not say it.
    assert one(found, "credential_type", "ours")["inputs"]["fields"] == [
        {"id": "key", "label": "Key", "type": "string"}
    ]


def test_a_cluster_without_a_url_is_told_without_its_tokens():
    nowhere = clusters.Clusters(["a", "b-1"], {"a": "", "b-1": "https://b"}, ["vllm"], ["none"], 1)
    (line,) = wanted(nowhere).problems.lines
    assert line == "awx_clusters.a: needs url, since the host has no platform_api_server"


def test_a_survey_offers_what_the_clusters_have():
    spec = one(wanted(), "job_template", "park")["survey_spec"]["spec"]
    assert spec[0]["variable"] == "park_servers"
    assert (spec[0]["type"], spec[0]["choices"], spec[0]["required"]) == ("multiselect", ["triton", "vllm"], False)
    # Without one AWX's page of the survey fails.
    assert spec[0]["default"] == ""
    (variant,) = one(wanted(), "job_template", "switch")["survey_spec"]["spec"]
    assert (variant["type"], variant["choices"], variant["required"]) == ("multiplechoice", ["judge", "none"], True)
    # AWX refuses a survey without questions.
    assert one(wanted(), "job_template", "smoke")["survey_enabled"] is False
    assert "survey_spec" not in one(wanted(), "job_template", "smoke")


def test_choices_are_one_list_however_they_are_written():
    question = {"question_name": "x", "variable": "x", "required": True, "type": "multiplechoice", "choices": "a\nb\n"}
    found = one(wanted(awx_job_templates={"diff": {"survey": [question]}}), "job_template", "diff")
    assert found["survey_spec"]["spec"] == [question | {"choices": ["a", "b"], "default": ""}]


def test_no_survey_asks_for_a_password():
    spec = [one for item in wanted().found["job_template"] for one in item.get("survey_spec", {}).get("spec", [])]
    assert spec
    assert [one for one in spec if one["type"] == "password"] == []


def test_what_a_workflow_or_a_schedule_starts_can_start_without_an_answer():
    found = wanted()
    started = {item["template"] for item in found.found["node"] if "template" in item}
    for name in started:
        item = one(found, "job_template", name)
        spec = item.get("survey_spec", {}).get("spec", [])
        assert [question for question in spec if question["required"] and question.get("default", "") == ""] == [], name
        # A node's hosts are refused by a template that does not ask for them.
        assert item["ask"]["limit"], name


def test_no_template_that_an_operator_may_launch_takes_variables_with_the_right_to_write():
    brought = specs.catalogue("awx", "job_templates")
    writes = [name for name, entry in brought.items() if entry["clusters"] == "deployer" and not entry.get("guarded")]
    assert {"plan", "gate"} <= set(writes)
    assert [name for name in writes if "variables" in brought[name]["ask"]] == []


def test_a_deploy_after_an_approval_needs_one_for_its_cluster():
    found = wanted()
    for name in ("deploy with approval / deploy", "fleet / first", "fleet / rest"):
        assert runs(found, name)["extra_data"] == {"apply_approval_required": True}
    # So a cluster that does not answer holds up no other one.
    assert one(found, "node", "fleet / plan")["always"] == ["approve"]
    assert one(found, "node", "fleet / rest")["always"] == ["smoke rest"]


def failed(nodes: dict, failing: set[str]) -> bool:
    """Run a workflow as AWX does, and say whether it calls it failed: a failure that another node comes after does not count."""
    links = {name: {link: node.get(link) or [] for link in workflows.LINKS} for name, node in nodes.items()}
    ahead = {to for after in links.values() for found in after.values() for to in found}
    left, done = [name for name in nodes if name not in ahead], set()
    wrong = {name for name, node in nodes.items() if node.get("extra_vars", {}).get("report_fail") == "true"} | failing
    while left:
        done.add(name := left.pop())
        left += links[name]["failure" if name in wrong else "success"] + links[name]["always"]
    return any(name in wrong and not links[name]["failure"] + links[name]["always"] for name in done)


@pytest.mark.parametrize("name", ["deploy with approval", "fleet"])
def test_a_workflow_of_which_a_step_has_failed_is_failed(name):
    nodes = specs.catalogue("awx", "workflows")[name]["nodes"]
    assert not failed(nodes, set())
    # Whoever approves decides whether a cluster may be missing.
    may_fail = {"plan"} if name == "fleet" else set()
    silent = {step for step in nodes if step != "report failure" and not failed(nodes, {step})}
    assert silent == may_fail


def test_a_timeout_covers_every_round_of_clusters():
    many = clusters.Clusters([f"c{n}" for n in range(20)], {}, [], [], 1000)
    assert templates.timeout_seconds({"rollouts": 1}, TWO, 2) == 1000
    assert templates.timeout_seconds({"rollouts": 2, "plus": 60}, many, 16) == 2 * 2060
    assert templates.timeout_seconds(77, many, 16) == 77
    assert one(wanted(awx_job_templates={"deploy": {"timeout": 5}}), "job_template", "deploy")["timeout"] == 5


@pytest.mark.parametrize(
    ("entry", "rounds"),
    [
        ({"ask": ["limit"]}, 2),
        ({"ask": ["variables"]}, 20),
        ({"extra_vars": {"fleet_serial": [5]}}, 20),
        ({"survey": [{"variable": "fleet_canary"}]}, 20),
    ],
)
def test_a_timeout_leaves_time_for_waves_of_one_cluster_each_where_a_job_can_be_told_to_make_them(entry, rounds):
    many = clusters.Clusters([f"c{n}" for n in range(20)], {}, [], [], 1000)
    entry = {"playbook": "playbooks/site.yml", "timeout": {"rollouts": 1}, **entry}
    entry["survey"] = [one | {"question": "Which"} for one in entry.get("survey", [])]
    assert templates.job_template("deploy", entry, many)["timeout"] == rounds * 1000


def test_the_slowest_deployment_decides_how_long_a_rollout_may_take():
    def deployment(seconds, replicas):
        spec = {"progressDeadlineSeconds": seconds, "replicas": replicas}
        return {"kind": "Deployment", "spec": spec}

    settings = {"margin": 120, "capacity_timeout": 900, "lock_wait": 180, "rollback_on_failure": False}
    parts = [{"objects": [deployment(1450, 3), {"kind": "Service"}]}, {"objects": [deployment(1740, 1)]}]
    rendered = {"settings": {"apply": settings}, "parts": parts}
    assert clusters.rollout_seconds(rendered) == 180 + 900 + 3 * 1450 + 120 + 300
    settings["rollback_on_failure"] = True
    assert clusters.rollout_seconds(rendered) == 180 + 2 * (900 + 3 * 1450 + 120) + 300


def test_job_templates_of_the_inventory_are_merged_over_those_of_the_role():
    own = {
        "mlserver": {"enabled": False},
        "diff": {"slices": 4, "labels": ["nightly"]},
        "ours": {"playbook": "playbooks/ours.yml", "project": "ours", "clusters": "none"},
    }
    found = wanted(awx_job_templates=own)
    names = [item["name"] for item in found.found["job_template"]]
    assert "mlserver" not in names
    diff = one(found, "job_template", "diff")
    assert (diff["job_slice_count"], diff["playbook"], diff["labels"]) == (
        4,
        "playbooks/diff.yml",
        ["modelyard", "nightly"],
    )
    assert [item["name"] for item in found.found["label"]] == ["modelyard", "nightly"]
    assert one(found, "job_template", "ours")["project"] == "ours"


def test_the_canary_is_deployed_first_and_the_others_afterwards():
    found = wanted(awx_canary=["b-1"])
    assert runs(found, "fleet / first")["limit"] == "b-1"
    assert runs(found, "fleet / rest")["limit"] == "clusters:!b-1"
    alone = clusters.Clusters(["a"], {"a": "https://a"}, [], [], 1)
    given = {"a": {"ca": "CA", "token": "hush"}}
    assert "fleet" not in [item["name"] for item in wanted(alone, awx_clusters=given).found["workflow"]]


def test_an_evaluation_of_ones_own_takes_the_place_of_a_person():
    assert "approval" in runs(wanted(), "evaluate / evaluate")
    own = {"evaluate model": {"playbook": "playbooks/evaluate.yml", "project": "ours"}}
    found = wanted(awx_job_templates=own, awx_evaluation="evaluate model")
    node = runs(found, "evaluate / evaluate")
    assert (node.get("template"), "approval" in node) == ("evaluate model", False)
    assert one(found, "node", "evaluate / evaluate")["always"] == ["park"]
    # What the role brings is not changed by it.
    assert "approval" in runs(wanted(), "evaluate / evaluate")


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        (("02:00",), "DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1"),
        (
            ("20:30", ["fri", "mon"], "Europe/Berlin"),
            "DTSTART;TZID=Europe/Berlin:20260101T203000 RRULE:FREQ=WEEKLY;INTERVAL=1;BYDAY=MO,FR",
        ),
    ],
)
def test_a_schedule_is_a_rule_in_the_form_of_awx(given, rule):
    assert schedules.rrule(*given) == rule


def test_what_is_guarded_is_launched_only_by_a_team_that_names_it():
    found = wanted(
        awx_teams={
            "ops": {"role": "operator"},
            "leads": {"role": "operator", "templates": ["teardown"]},
            "bosses": {"role": "approver", "workflows": ["fleet"]},
            "all": {"role": "viewer"},
            "nobody": {"role": "operator", "templates": [], "workflows": []},
        }
    )
    launched = one(found, "grant", "execute of ops")["job_templates"]
    assert {"diff", "plan", "park"} <= set(launched)
    assert set(launched) & {"deploy", "rollback", "teardown", "switch"} == set()
    assert one(found, "grant", "execute of leads")["job_templates"] == ["teardown"]
    assert one(found, "grant", "approval of bosses")["workflows"] == ["fleet"]
    none = one(found, "grant", "execute of nobody")
    assert (none["job_templates"], none["workflows"]) == ([], [])
    assert [item["role"] for item in found.found["grant"] if item["team"] == "all"] == ["read"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"awx_projects": {}}, "awx_project is 'modelyard': must be one of awx_projects"),
        ({"awx_inventory": "cluster"}, "awx_inventory is 'cluster': must be one of awx_inventories, did you mean clusters?"),
        ({"awx_job_templates": {"dif": {"slices": 2}}}, "awx_job_templates.dif is {'slices': 2}: needs playbook, did you mean diff?"),
        ({"awx_job_templates": {"diff": {"ask": ["limits"]}}}, "awx_job_templates.diff.ask is 'limits': must be one of"),
        ({"awx_job_templates": {"diff": {"ask": ["scm_branch"]}}}, "awx_job_templates.diff.ask is 'scm_branch': must be one of"),
        ({"awx_clusters": {"c": {"ca": "x", "token": "y"}}}, "awx_clusters.c is 'c': must be one of the hosts of the group clusters"),
        ({"awx_clusters": {"a": {"ca": "x", "token": ""}}}, "awx_clusters.a.token is '': must not be empty"),
        ({"awx_clusters": {"a": {"ca": "x", "token": "hush\nhush"}}}, "awx_clusters.a.token: must be of one line"),
        ({"awx_clusters": {"b-1": {"ca": "x", "token": "y"}, "b_1": {"ca": "x", "token": "y"}}}, "must differ from b-1 in more than this: the variable of both would be modelyard_connection_b_1"),
        ({"awx_rotate": ["c"]}, "awx_rotate is 'c': must be one of awx_clusters, awx_credentials or awx_notifications"),
        ({"awx_job_templates": {"diff": {"extra_vars": {"diff_fail": "true", "x": 1}}}}, "must not have diff_fail: its survey has a default for it, which AWX takes instead"),
        ({"awx_job_templates": {"diff": {"survey": [{"variable": "x"}]}}}, "awx_job_templates.diff.survey is [{'variable': 'x'}]: needs question_name, type, required in question 1"),
        *[
            ({"awx_job_templates": {"diff": {"survey": [{"question_name": "x", "variable": "x", "required": True, **wrong}]}}}, f"{message} in question 1")
            for wrong, message in (
                ({"type": "txt"}, "must have a type of text, textarea, password, multiplechoice, multiselect, integer, float, not txt,"),
                ({"type": "text", "required": "yes"}, "must have true or false for required"),
                ({"type": "multiplechoice"}, "needs choices"),
                ({"type": "multiplechoice", "choices": ["a", "b"], "default": "c"}, "must have a default of its choices, not c,"),
                ({"type": "multiplechoice", "choices": "a\nb\n", "default": "a\nb"}, "must have one default"),
                ({"type": "integer", "default": "3"}, "must have a default that is a whole number"),
                ({"type": "integer", "min": "3"}, "must have a whole number for min"),
                ({"type": "text", "default": True}, "must have a default that is text (in quotes)"),
                ({"type": "text", "default": None}, "must have a default that is text (in quotes)"),
                ({"type": "multiplechoice", "choices": [True, False]}, "must have choices that are text (in quotes)"),
            )
        ],
        ({"awx_job_templates": {"diff": {"survey": [{"question_name": "x", "variable": "x", "required": True, "type": "text"}] * 2}}}, "must have another variable than x, which an earlier question has, in question 2"),
        ({"awx_schedules": {"s": {"template": "facts", "at": "02:00", "extra_vars": {"x": 1}}}}, "has x, which its template does not take: the survey of awx_job_templates.facts has no variable"),
        ({"awx_schedules": {"s": {"template": "fleet", "at": "02:00", "limit": "a"}}}, "has a limit, which its template does not ask for (ask of awx_workflows.fleet)"),
        ({"awx_schedules": {"s": {"template": "switch", "at": "02:00"}}}, "needs switch_variant in extra_vars, which the survey of awx_job_templates.switch requires"),
        ({"awx_workflows": {"w": {"nodes": {"switch": {"template": "switch"}}}}}, "needs switch_variant in extra_vars, which the survey of awx_job_templates.switch requires"),
        *[
            ({"awx_schedules": {"s": {"template": template, "at": "02:00", "extra_vars": answer}}}, f"must have {message}, as the survey of awx_job_templates.{template} asks")
            for template, answer, message in (
                ("diff", {"diff_fail": True}, "one of false, true (in quotes) for diff_fail"),
                ("diff", {"diff_fail": ["true"]}, "one of false, true (in quotes) for diff_fail"),
                ("park", {"park_servers": "vllm"}, "a list of triton, vllm (in quotes) for park_servers"),
                ("park", {"park_servers": ["vlm"]}, "a list of triton, vllm (in quotes) for park_servers"),
                ("park", {"park_until": 3}, "text (in quotes) for park_until"),
                ("gate", {"gate_timeout": "60"}, "a whole number for gate_timeout"),
                ("gate", {"gate_timeout": 59}, "60 at least for gate_timeout"),
                ("gate", {"gate_timeout": 7201}, "7200 at most for gate_timeout"),
            )
        ],
        ({"awx_workflows": {"fleet": {"nodes": {"report": {"extra_vars": {"x": 1}}}}}}, "has x, which its template does not take: the survey of awx_job_templates.report has report_fail, report_html"),
        ({"awx_workflows": {"fleet": {"nodes": {"report": {"extra_vars": {"report_html": 1}}}}}}, "must have text (in quotes) for report_html, as the survey of awx_job_templates.report asks"),
        ({"awx_job_templates": {"smoke": {"ask": []}}}, "has a limit, which its template does not ask for (ask of awx_job_templates.smoke)"),
        ({"awx_workflows": {"fleet": {"nodes": {"approve": {"limit": "a"}}}}}, "must have no limit and no extra_vars beside its approval"),
        ({"awx_workflows": {"fleet": {"survey": [{"question": "x"}]}}}, "awx_workflows.fleet.survey is [{'question': 'x'}]: needs variable in question 1"),
        *[
            ({"awx_schedules": {"s": {"template": "diff", "rrule": rule}}}, message)
            for rule, message in (
                ("FREQ=DAILY", "must have an rrule such as DTSTART:"),
                ("DTSTART:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1", "must have an rrule such as DTSTART:"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=DAILY", "must have an rrule such as DTSTART:"),
                ("DTSTART:20260101T020000Z EXRULE:FREQ=DAILY;INTERVAL=1", "must have an rrule such as DTSTART:"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1 EXDATE:20260102T020000Z", "must have an rrule such as DTSTART:"),
                ("DTSTART;TZID=Berlin:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1", "must have a time_zone of the tz database"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=MONTHLY;INTERVAL=1;BYDAY=1MO", "must have no number in BYDAY"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=SECONDLY;INTERVAL=1", "must have no rule of seconds"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1;COUNT=1000", "must have a COUNT below 1000"),
                ("DTSTART:20260101T020000Z RRULE:FREQ=DAILY;INTERVAL=1;UNTIL=20270101T020000Z;COUNT=3", "must have one of COUNT and UNTIL"),
                ("DTSTART;TZID=Europe/Berlin:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1;UNTIL=20270101T020000", "must have an UNTIL in UTC, such as 20261231T230000Z"),
            )
        ],
        ({"awx_notifications": {"n": {"type": "slack", "messages": {"eror": {}}}}}, "must have texts for started, success, error, not for eror"),
        ({"awx_notifications": {"n": {"type": "slack", "messages": {"error": "x"}}}}, "must have a message and a body for error"),
        ({"awx_notifications": {"n": {"type": "slack", "messages": {"workflow_approval": {"denied": {"message": "a\nb"}}}}}}, "must have a message of one line for denied"),
        ({"awx_labels": ["c++"]}, "name of a label is 'c++': must not have ++"),
        ({"awx_workflows": {"own ": {"nodes": {"a": {"template": "plan"}}}}}, "name of a workflow is 'own ': must not begin or end with a space"),
        ({"awx_labels": ["nightly "]}, "name of a label is 'nightly ': must not begin or end with a space"),
        ({"awx_rotate": 3}, "awx_rotate is 3: must be true, false or a list of names"),
        ({"awx_rotate": [3]}, "awx_rotate is '3': must be one of awx_clusters, awx_credentials or awx_notifications"),
        ({"awx_schedules": {"s": {"template": "dif", "at": "02:00"}}}, "awx_schedules.s.template is 'dif'"),
        ({"awx_schedules": {"s": {"template": "diff", "at": "2:00"}}}, "must be a time of day such as 02:00, in quotes"),
        ({"awx_schedules": {"s": {"template": "diff", "at": "02:00", "days": ["Monday"]}}}, "has the day 'Monday'"),
        ({"awx_schedules": {"s": {"template": "diff", "at": "02:00", "time_zone": "Berlin"}}}, "a time_zone of the tz database"),
        ({"awx_canary": ["x"]}, "awx_canary is 'x': must be one of the hosts of the group clusters"),
        ({"awx_workflows": {"fleet": {"nodes": {"plan": {"success": ["x"]}}}}}, "awx_workflows.fleet.nodes.plan.success is 'x'"),
        (
            {"awx_workflows": {"fleet": {"nodes": {"report": {"always": ["plan"]}}}}},
            "must not come back to where it was",
        ),
        ({"awx_workflows": {"deploy": {"nodes": {"a": {"template": "plan"}}}}}, "must differ from the job template of that name"),
        ({"awx_workflows": {"fleet": {"limit": "a"}}}, "awx_workflows.fleet.limit is 'a': must be left out: it would take the place of the limits of the nodes"),
        ({"awx_workflows": {"evaluate": {"ask": ["limits"]}}}, "awx_workflows.evaluate.ask is 'limits': must be one of what can be asked, did you mean limit?"),
        ({"awx_workflows": {"fleet": {"ask": ["limit"]}}}, "awx_workflows.fleet.ask is 'limit': must be left out"),
        ({"awx_job_templates": {"plan": {"slices": 2}}}, "awx_job_templates.plan.slices is 2: must be 1 with check"),
        ({"awx_job_templates": {"smoke": {"limit": "a"}}}, "awx_workflows.deploy with approval.ask is 'limit': must be left out, or that of smoke: an empty one at the launch would stand for all hosts, over it"),
        ({"awx_job_templates": {"smoke": {"slices": 2}}}, "awx_workflows.fleet.nodes.smoke first.limit is 'CANARY': must be left out where smoke has slices: one without a cluster of the limit fails"),
        ({"awx_job_templates": {"plan": {"ask": ["limit", "job_slice_count"]}}}, "awx_job_templates.plan.slices is 'asked at launch': must be 1 with check"),
        ({"awx_evaluation": "x"}, "awx_evaluation is 'x': must be one of awx_job_templates"),
        ({"awx_notify": {"error": ["x"]}}, "awx_notify.error is 'x': must be one of awx_notifications"),
        ({"awx_teams": {"t": {"role": "operator", "templates": ["x"]}}}, "awx_teams.t.templates is 'x'"),
        ({"awx_labels": ["7"]}, "name of a label is '7': must not be a number"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_by_the_name_of_its_variable(given, message):
    assert any(message in line for line in wanted(**given).problems.lines), wanted(**given).problems.lines


def test_what_a_survey_requires_may_come_from_the_workflow_or_the_nodes_before():
    question = {"question_name": "Which?", "variable": "switch_variant", "type": "text", "required": False}
    first = {"switch": {"template": "switch"}}
    later = {"plan": {"template": "plan", "success": ["switch"]}, **first}
    for flow in ({"nodes": first, "survey": [question]}, {"nodes": first, "ask": ["variables"]}, {"nodes": later}):
        assert wanted(awx_workflows={"w": flow}).problems.lines == []


def test_what_is_wrong_with_a_schedule_is_told_without_its_variables():
    question = {"question_name": "Key?", "variable": "key", "type": "password", "required": True, "min": 9}
    template = {"diff": {"ask": [], "survey": [question]}}
    for more in ({"at": "02:00", "limit": "a"}, {"at": "2:00"}):
        entry = {"template": "diff", "extra_vars": {"key": "hush"}, **more}
        lines = wanted(awx_job_templates=template, awx_schedules={"s": entry}).problems.lines
        assert any("awx_schedules.s" in line for line in lines)
        assert "hush" not in str(lines)


def test_a_limit_that_names_no_host_is_doubted():
    found = wanted(
        awx_job_templates={"diff": {"limit": "a,b*,~x.*"}, "plan": {"limit": "clusters:!gone"}},
        awx_schedules={"s": {"template": "smoke", "at": "02:00", "limit": "b-1, old:a"}},
        awx_workflows={"w": {"nodes": {"n": {"template": "smoke", "limit": "old"}}}},
    ).found
    assert objects.elsewhere(found, "clusters", {"clusters", "all", "a", "b-1"}) == [
        "job template plan has the limit clusters:!gone: the inventory has no host or group gone",
        "workflow node w / n has the limit old: the inventory has no host or group old",
        "schedule smoke / s has the limit b-1, old:a: the inventory has no host or group old",
    ]
    assert objects.elsewhere(found, "another", {"all"}) == []


def test_the_example_is_one_that_the_role_takes():
    text = (ROOT / "inventories/awx/group_vars/awx/awx.yml").read_text(encoding="utf-8")
    given = yaml.safe_load(text.replace("| default('')", "| default('x')"))
    found = wanted(
        clusters.Clusters(
            ["staging", "production"], {"staging": "https://s", "production": "https://p"}, ["vllm"], ["none"], 1
        ),
        **given,
    )
    assert found.problems.lines == []


def test_of_two_linked_nodes_the_second_is_made_first():
    found = wanted().found["node"]
    made = set()
    for item in found:
        assert {f"{item['workflow']} / {to}" for link in workflows.LINKS for to in item.get(link, [])} <= made
        made.add(objects.key("node", item))
    # What it runs comes by a call of its own, when it stands where it belongs.
    for name in ("approve rest", "rest"):
        first, second = (item for item in found if item["identifier"] == name)
        assert not {"approval", "template"} & set(first)
        assert not {"success", "failure", "always"} & set(second)


# --- Where AWX is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "environment", "message"),
    [
        ({}, {}, "awx_connection.host is not set: the URL of AWX, there or in CONTROLLER_HOST"),
        ({"host": "https://a"}, {"CONTROLLER_USERNAME": "u"}, "awx_connection has no login"),
        ({"host": "https://a", "oauth_token": "t", "ca_path": "/no/file"}, {}, "awx_connection.ca_path is '/no/file'"),
        ({"host": "https://a", "oauth_token": "\n"}, {}, "awx_connection has no login"),
        ({"host": "https://a", "oauth_token": "t\nu"}, {}, "awx_connection.oauth_token .* must be of one line"),
        ({"host": "https://a"}, {"CONTROLLER_OAUTH_TOKEN": "t\n"}, "CONTROLLER_OAUTH_TOKEN.* must be of one line"),
    ],
)
def test_a_connection_that_lacks_something_is_told(said, environment, message):
    with pytest.raises(Failure, match=message):
        api.connection(said, environment)


def test_the_environment_says_what_the_inventory_leaves_out():
    environment = {"CONTROLLER_HOST": "https://e", "CONTROLLER_OAUTH_TOKEN": "e", "CONTROLLER_VERIFY_SSL": "false"}
    assert api.connection({}, environment) == {"host": "https://e", "oauth_token": "e", "validate_certs": False}
    # As the modules do it.
    given = api.connection({"host": "https://a", "username": "u", "password": "p"}, environment)
    assert (given["host"], given["oauth_token"]) == ("https://a", "e")
    given = api.connection({"host": "https://a", "username": "u", "password": "p"}, {"TOWER_OAUTH_TOKEN": "old"})
    assert given["oauth_token"] == "old"


def test_a_token_that_ends_with_a_line_break_is_one():
    assert api.connection({"host": "https://a", "oauth_token": "t\n"}, {})["oauth_token"] == "t"


@pytest.mark.parametrize(
    ("host", "validate_certs", "message"),
    [
        ("http://a", True, "go there unencrypted"),
        ("https://a", False, "go to whoever answers as https://a"),
        ("https://a", True, ""),
    ],
)
def test_a_token_that_anybody_could_read_on_its_way_is_warned_of(host, validate_certs, message):
    said = {"host": host, "oauth_token": "hush", "validate_certs": validate_certs}
    lines = api.doubts(api.connection(said, {}))
    assert [message in line for line in lines] == ([True] if message else [])
    assert "hush" not in str(lines)


def test_the_modules_wait_for_an_answer_as_long_as_the_plan_does():
    (block,) = yaml.safe_load((ROOT / "roles/awx/tasks/objects.yml").read_text(encoding="utf-8"))
    assert block["module_defaults"]["group/awx.awx.controller"]["request_timeout"] == api.TIMEOUT_SECONDS


def test_an_awx_that_is_not_there_is_told():
    with pytest.raises(Failure, match=r"http://127.0.0.1:9 \(awx_connection.host\) does not answer: .*refused"):
        api.Awx({"host": "http://127.0.0.1:9", "oauth_token": "hush", "validate_certs": True}).get("ping/")


@pytest.mark.parametrize("host", ["staging", "eu-west.1"])
def test_the_example_of_clusters_reads_what_a_credential_gives_to_a_job(host):
    text = (ROOT / "inventories/eks/group_vars/clusters/platform.yml").read_text(encoding="utf-8")
    said = trust_as_template(yaml.safe_load(text)["platform_connection"])
    given = {name: in_awx(text) for name, text in surroundings.cluster_type(host)["injectors"]["extra_vars"].items()}
    known = {"inventory_hostname": host}
    in_a_job = Templar(DataLoader(), variables={**known, **given}).template(said)
    assert in_a_job == CONNECTION
    assert Templar(DataLoader(), variables=known).template(said) == {"context": host}


@pytest.mark.parametrize(
    ("name", "checked"),
    [("awx_job_id", False), ("awx_job_scm_branch", False), ("awx_workflow_job_name", False), ("awx_user_name", False), ("awx_project_revision", False),
     ("awx_inventory_id", False), ("awx_orgnization", True), ("awx_inventory", True), ("awx_project", True),
     ("awx_schedule", True), ("awx_job_template", True)],
)  # fmt: skip
def test_what_awx_itself_sets_in_a_job_is_no_misspelt_variable(name, checked):
    assert (name in ROLE["awx"].variables or not awx_plan.AWX_OWN.fullmatch(name)) == checked


def test_a_project_whose_first_update_is_about_to_begin_is_waited_for(monkeypatch):
    statuses = iter(["never updated", "pending", "successful"])
    awx = SimpleNamespace(list=lambda path, **query: [{"status": next(statuses)}])
    monkeypatch.setattr(updates, "LOOK_SECONDS", 0)
    assert updates.unread(awx, [{"name": "modelyard"}], "ml", 9) == []
