"""Runs of the role awx against the stand-in of AWX: what is made, that nothing is made twice, what is told, dropped, rotated and exported."""

import http.server
import json

import awx_role
import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.modelyard.core.plugins.plugin_utils.awx import api, objects, state, updates
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import Forms
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge
from awx_api import Awx
from serving import Served

TWO = Clusters(["a", "b-1"], {"a": "https://a", "b-1": "https://b"}, ["triton", "vllm"], ["judge", "none"], 1000)
KEPT = ("deploy", "plan", "preflight", "diff", "smoke", "report", "park", "gate")
GIVEN = {
    "awx_organization": "ml",
    "awx_labels": ["modelyard"],
    "awx_execution_environment": {"name": "ee", "image": "r/ee:1"},
    "awx_projects": {"modelyard": {"url": "https://g/m.git", "branch": "v1"}, "ours": {"url": "https://g/o.git"}},
    "awx_inventories": {"clusters": {"sources": {"from Git": {"project": "ours", "path": "inventories/eks"}}}},
    "awx_clusters": {
        "a": {"ca": "CA", "token": "hush-a", "reader_token": "hush-r"},
        "b-1": {"ca": "CA", "token": "hush-b"},
    },
    "awx_credentials": {"Git": {"type": "Source Control", "inputs": {"username": "git", "password": "hush-g"}}},
    "awx_notifications": {"chat": {"type": "webhook", "configuration": {"url": "https://x", "password": "hush-n"}}},
    "awx_notify": {"error": ["chat"], "approvals": ["chat"]},
    "awx_instance_groups": {"gpu": {"max_forks": 5}},
    # Each is a call of a module: the cases need few of them.
    "awx_job_templates": {
        **{name: {"enabled": False} for name in specs.catalogue("awx", "job_templates") if name not in KEPT},
        "diff": {"slices": 2, "labels": ["nightly"], "instance_groups": ["gpu"], "extra_vars": {"diff_aws": False}},
    },
    "awx_workflows": {"fleet": {"enabled": False}},
    "awx_schedules": {
        "nightly": {
            "template": "diff",
            "at": "02:00",
            "time_zone": "Europe/Berlin",
            "extra_vars": {"diff_fail": "true"},
        }
    },
    "awx_teams": {"ops": {"role": "operator"}, "bosses": {"role": "approver"}},
}


def linked(awx: Awx, kind: str, name: str, list_: str) -> list[str]:
    """Name what is in a list of an object."""
    called = "identifier" if kind.endswith("_nodes") else "name"
    return awx.linked(kind, awx.one(kind, **{called: name})["id"], list_)


def starts(awx: Awx, workflow: str = "deploy with approval") -> set[str]:
    """Name the nodes that AWX starts when the workflow is launched: those that none comes before. One without a template has failed."""
    kind = "workflow_job_template_nodes"
    known = awx.all("workflow_job_templates", name=workflow)
    nodes = {one["id"]: one for flow in known for one in awx.all(kind, workflow_job_template=flow["id"])}
    after = {
        one: {link: awx.links.get((kind, one, f"{link}_nodes"), []) for link in ("success", "failure", "always")}
        for one in nodes
    }
    before = {
        one: {parent for parent, links in after.items() if any(one in to for to in links.values())} for one in nodes
    }
    look, failed, found = [one for one in nodes if not before[one]], set(), set()
    while look:
        one = look.pop()
        if nodes[one]["unified_job_template"]:
            found.add(nodes[one]["identifier"])
            continue
        failed.add(one)
        # A node waits for all those before it that may still run.
        look += [child for child in after[one]["failure"] + after[one]["always"] if before[child] <= failed]
    return found


@pytest.fixture(scope="module")
def first():
    """An AWX after one run, with what that run did, and what a launch would have started at any time."""
    with Awx() as awx:
        awx.started = set()
        awx.first = awx_role.run(awx, TWO, GIVEN, watch=lambda: awx.started.update(starts(awx)))
        yield awx


@pytest.fixture
def awx(first):
    """The same AWX, without the requests so far; what a test changes is put back."""
    before = first.state()
    first.forget()
    yield first
    for name, value in before.items():
        setattr(first, name, value)


def test_check_mode_in_an_empty_awx_tells_everything_and_writes_nothing():
    with Awx() as awx:
        before = awx.state()
        plan, made = awx_role.run(awx, TWO, GIVEN, check=True)
        assert (made, awx.writes(), awx.state()) == ([], [], before)
        # One list for what organizations share, one for all names that are looked up alone, and none below one that is not there.
        assert len(awx.requests) == 7
    assert "create job template deploy" in plan.lines
    assert "create workflow node deploy with approval / approve" in plan.lines
    assert plan.lines[-1] == (
        "grant approval to bosses: workflow job template deploy with approval, workflow job template evaluate"
    )


def test_a_run_makes_what_check_mode_told(first):
    _, made = first.first
    assert [name for name, result in made if not result["changed"]] == []
    assert set(first.names("job_templates")) == set(KEPT)
    assert linked(first, "job_templates", "deploy", "credentials") == ["a deployer", "b-1 deployer"]
    assert linked(first, "workflow_job_template_nodes", "approve", "success_nodes") == ["deploy"]
    assert first.one("schedules", name="nightly")["rrule"].startswith("DTSTART;TZID=Europe/Berlin:")
    # AWX would install the requirements of the project with one.
    assert linked(first, "organizations", "ml", "galaxy_credentials") == []


def test_a_second_run_calls_no_module(awx):
    plan, made = awx_role.run(awx, TWO, GIVEN)
    assert (plan.lines, made, awx.writes()) == ([], [], [])
    assert plan.dropped == {kind: [] for kind in plan.dropped}


def test_a_change_is_told_by_its_field_and_written_alone(awx):
    given = merge(GIVEN, {"awx_job_templates": {"plan": {"timeout": 77}}, "awx_labels": ["modelyard", "new"]})
    plan, _ = awx_role.run(awx, TWO, given, check=True)
    assert plan.lines[:2] == ["create label new", "update job template deploy: labels"]
    assert "update job template plan: timeout, labels" in plan.lines
    assert awx.writes() == []
    given = merge(GIVEN, {"awx_job_templates": {"plan": {"timeout": 77}}})
    _, made = awx_role.run(awx, TWO, given)
    assert awx_role.changed(made) == ["job_template plan"]
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_what_somebody_changed_in_awx_is_put_back(awx):
    awx.one("job_templates", name="deploy")["allow_simultaneous"] = True
    awx.surveys[awx.one("job_templates", name="park")["id"]]["spec"].pop()
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    assert plan.lines == ["update job template deploy: allow_simultaneous", "update job template park: survey_spec"]
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


def test_space_around_a_text_which_awx_removes_is_no_change(awx):
    limited = {"awx_job_templates": {"history": {"enabled": True, "limit": "a\n"}}}
    given = merge(GIVEN, limited | {"awx_projects": {"modelyard": {"branch": "v2\n"}}})
    given = merge(given, {"awx_execution_environment": {"image": "r/ee:2 "}})
    given = merge(given, {"awx_inventories": {"clusters": {"sources": {"from Git": {"path": "inventories/eks\n"}}}}})
    plan, _ = awx_role.run(awx, TWO, given)
    assert plan.lines[:3] == [
        "update execution environment ee: image",
        "update project modelyard: scm_branch",
        "create job template history",
    ]
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_what_would_run_elsewhere_or_otherwise_is_put_back(awx):
    awx.one("job_templates", name="deploy").update(
        ask_inventory_on_launch=True, ask_execution_environment_on_launch=True, job_tags="x", skip_tags="y", verbosity=3
    )
    awx.one("inventory_sources", name="from Git").update(overwrite=False, overwrite_vars=False)
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    assert plan.lines == [
        "update inventory source clusters / from Git: overwrite, overwrite_vars",
        "update job template deploy: job_tags, skip_tags, verbosity, ask_inventory_on_launch, ask_execution_environment_on_launch",
    ]
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


def test_what_the_inventory_says_no_more_is_emptied_or_told_to_be_removed_by_hand(awx):
    ee = awx.one("execution_environments", name="ee")["id"]
    awx.one("instance_groups", name="gpu")["max_concurrent_jobs"] = 3
    awx.one("job_templates", name="plan")["limit"] = "a"
    awx.one("projects", name="ours")["credential"] = awx.one("credentials", name="Git")["id"]
    awx.one("execution_environments", name="ee")["credential"] = awx.one("credentials", name="Git")["id"]
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    assert plan.lines == ["update instance group gpu: max_concurrent_jobs", "update job template plan: limit"]
    assert plan.by_hand == ["execution environment ee: credential", "project ours: credential"]
    plan, made = awx_role.run(awx, TWO, {**GIVEN, "awx_execution_environment": {}})
    assert (plan.lines, made) == ([], [])
    assert {"project ours: credential, default_environment", "job template diff: execution_environment"} < set(
        plan.by_hand
    )
    assert awx.one("job_templates", name="diff")["execution_environment"] == ee


def test_the_injectors_of_a_type_are_told_to_be_removed_by_hand(awx):
    fields = {"fields": [{"id": "key", "label": "Key"}]}
    given = {**GIVEN, "awx_credential_types": {"ours": {"inputs": fields, "injectors": {"env": {"KEY": "{{ key }}"}}}}}
    awx_role.run(awx, TWO, given)
    assert awx_role.run(awx, TWO, given)[0].lines == []
    plan, made = awx_role.run(awx, TWO, {**GIVEN, "awx_credential_types": {"ours": {"inputs": fields}}})
    assert (plan.lines, plan.by_hand, made) == ([], ["credential type ours: injectors"], [])


def test_what_a_workflow_has_beside_the_inventory_is_taken_away(awx):
    one = awx.one("workflow_job_templates", name="deploy with approval")
    one |= {"allow_simultaneous": True, "scm_branch": "x", "extra_vars": '{"apply_approved": {}}'}
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    fields = "allow_simultaneous, extra_vars, scm_branch"
    assert plan.lines == [f"update workflow job template deploy with approval: {fields}"]
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


@pytest.mark.parametrize("limit", ["a", ""])
def test_a_limit_of_a_workflow_is_left_to_a_person_since_an_empty_one_beats_those_of_its_nodes(awx, limit):
    one = awx.one("workflow_job_templates", name="deploy with approval")
    one |= {"limit": limit, "allow_simultaneous": True}
    for _ in range(2):
        plan, _ = awx_role.run(awx, TWO, GIVEN)
        assert plan.by_hand == ["workflow job template deploy with approval: limit"]
        assert (one["limit"], one["allow_simultaneous"]) == (limit, False)
    assert plan.lines == []


def test_a_limit_that_a_schedule_has_no_longer_is_gone_in_awx_too(awx):
    given = merge(GIVEN, {"awx_schedules": {"nightly": {"limit": "a"}}})
    assert awx.one("schedules", name="nightly")["limit"] is None
    awx_role.run(awx, TWO, given)
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == ["replace schedule diff / nightly: limit"]
    # An empty one would stand for all hosts, over the template's own.
    assert awx.one("schedules", name="nightly")["limit"] is None
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


def test_what_somebody_else_has_a_schedule_or_a_node_say_at_its_launch_is_gone(awx):
    given = merge(GIVEN, {"awx_job_templates": {"plan": {"ask": ["limit", "verbosity", "credential"]}}})
    awx_role.run(awx, TWO, given)
    nodes, theirs = "workflow_job_template_nodes", {"job_type": "check", "verbosity": 0}
    theirs |= {"inventory": awx.one("inventories", name="clusters")["id"]}
    awx.one("schedules", name="nightly").update(theirs)
    awx.one(nodes, identifier="report").update(job_tags="x", limit="")
    awx.links[nodes, awx.one(nodes, identifier="plan")["id"], "credentials"] = [
        awx.one("credentials", name="Git")["id"]
    ]
    left = "# not said here: inventory, job_type, verbosity of the schedule diff / nightly"
    assert left in awx_role.exported(awx, TWO, "ml").splitlines()
    plan, _ = awx_role.run(awx, TWO, given)
    assert {f"replace {FLOW} plan: credentials", f"replace {FLOW} report: job_tags, limit"} < set(plan.lines)
    assert "replace schedule diff / nightly: inventory, job_type, verbosity" in plan.lines
    assert {awx.one("schedules", name="nightly")[field] for field in theirs} == {None}
    assert {awx.one(nodes, identifier="report")[field] for field in ("job_tags", "limit")} == {None}
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_what_awx_keeps_in_another_form_than_it_was_sent_is_no_change(awx):
    secret = {"question_name": "Key?", "variable": "key", "type": "password", "required": False}
    given = merge(
        flow({"approve": {"approval": "Deploy what the plan shows\n"}, "report": {"limit": "a\n"}}),
        {
            "awx_job_templates": {"smoke": {"survey": [secret]}},
            "awx_workflows": {
                "deploy with approval": {"ask": [], "nodes": {"smoke": {"extra_vars": {"key": "hush-k"}}}}
            },
            "awx_schedules": {
                "once a day": {"template": "plan", "rrule": "DTSTART:20260101T020000Z\nRRULE:FREQ=DAILY;INTERVAL=1\n"},
                "with a key": {"template": "smoke", "at": "03:00", "extra_vars": {"key": "hush-k"}},
            },
        },
    )
    awx_role.run(awx, TWO, given)
    assert awx.one("schedules", name="with a key")["extra_data"] == {"key": "hush-k"}
    plan, made = awx_role.run(awx, TWO, given)
    assert (plan.lines, made) == ([], [])


def test_a_team_that_may_less_loses_what_it_had(awx):
    def has(team: str, role: str) -> list[str]:
        number = awx.one("teams", name=team)["id"]
        of = [one["of"] for one in awx.roles.values() if one["role_field"] == f"{role}_role" and number in one["teams"]]
        return sorted(awx.objects[kind][one]["name"] for kind, one in of)

    # Somebody else's, and another right than the role grants: both stay.
    where = {field: awx.one("job_templates", name="plan")[field] for field in ("project", "inventory", "playbook")}
    theirs = awx.add("job_templates", name="theirs", **where)["id"]
    plan = awx.one("job_templates", name="plan")["id"]
    for one in awx.roles.values():
        if (one["of"][1], one["role_field"]) in ((theirs, "execute_role"), (plan, "admin_role")):
            one["teams"] = [*one["teams"], awx.one("teams", name="ops")["id"]]
    given = {**GIVEN, "awx_teams": {"ops": {"role": "viewer"}, "bosses": {"role": "approver", "workflows": []}}}
    told, _ = awx_role.run(awx, TWO, given)
    assert told.lines == [
        "revoke execute from ops: job template plan, job template preflight, job template diff and 6 more",
        "revoke approval from bosses: workflow job template deploy with approval, workflow job template evaluate",
    ]
    assert (has("ops", "execute"), has("ops", "admin"), has("bosses", "approval")) == (["theirs"], ["plan"], [])
    assert "deploy" in has("ops", "read")
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_what_has_the_name_of_what_a_workflow_or_a_schedule_starts_is_told_before_the_modules_find_two(awx):
    organization = awx.one("organizations", name="ml")["id"]
    awx.add("workflow_job_templates", name="diff", organization=organization)
    assert awx_role.refused(awx, TWO, GIVEN) == [
        "workflow job template diff: a workflow or a schedule starts another template of that name, and the modules of awx.awx would find "
        "both: remove or rename the one in AWX"
    ]
    # Nothing starts this one.
    awx.one("workflow_job_templates", name="diff")["name"] = "triton"
    assert awx_role.refused(awx, TWO, GIVEN) == []


def test_a_new_variant_is_a_new_choice(awx):
    more = Clusters(TWO.hosts, TWO.urls, [*TWO.servers, "chat"], TWO.variants, TWO.rollout_seconds)
    assert awx_role.run(awx, more, GIVEN, check=True)[0].lines == ["update job template park: survey_spec"]


def test_what_the_inventory_dropped_is_listed_and_removed_only_on_request(awx):
    where = {field: awx.one("job_templates", name="plan")[field] for field in ("project", "inventory", "playbook")}
    awx.add("job_templates", name="theirs", **where)
    given = merge(
        GIVEN, {"awx_workflows": {"evaluate": {"enabled": False}}, "awx_job_templates": {"gate": {"enabled": False}}}
    )
    given["awx_schedules"] = {}
    plan, made = awx_role.run(awx, TWO, given)
    dropped = {kind: [objects.key(kind, item) for item in items] for kind, items in plan.dropped.items() if items}
    assert dropped == {"schedule": ["diff / nightly"], "workflow": ["evaluate"], "job_template": ["gate"]}
    assert (made, awx.writes()) == ([], [])
    awx_role.run(awx, TWO, {**given, "awx_prune": True})
    assert "theirs" in awx.names("job_templates")
    assert "gate" not in awx.names("job_templates")
    assert "evaluate" not in awx.names("workflow_job_templates")
    assert awx.names("schedules") == []
    plan, made = awx_role.run(awx, TWO, {**given, "awx_prune": True})
    assert (plan.lines, any(plan.dropped.values()), made) == ([], False, [])


def test_what_an_organization_has_whose_name_begins_alike_stays(awx):
    about = "(managed by modelyard for ml-platform)"
    awx.add("execution_environments", name="other", image="r/other:1", description=about)
    awx.add("credential_types", name="modelyard cluster c", kind="cloud", description=about)
    plan, _ = awx_role.run(awx, TWO, {**GIVEN, "awx_prune": True})
    assert any(plan.dropped.values()) is False
    assert "other" in awx.names("execution_environments")


def test_an_inventory_that_awx_is_removing_is_not_removed_again_and_not_made_before_it_is_gone(awx):
    more = merge(GIVEN, {"awx_inventories": {"more": {"sources": {"its": {"project": "ours", "path": "x"}}}}})
    awx_role.run(awx, TWO, more)
    plan, _ = awx_role.run(awx, TWO, {**GIVEN, "awx_prune": True})
    assert (plan.dropped["inventory"], plan.by_hand) == ([{"name": "more"}], [])
    assert "more" in awx.names("inventories")
    assert awx_role.run(awx, TWO, {**GIVEN, "awx_prune": True})[0].dropped["inventory"] == []
    assert awx_role.refused(awx, TWO, GIVEN) == []
    message = "inventory more: AWX is still removing the one of that name: run this again when it has"
    assert awx_role.refused(awx, TWO, more) == [message]
    awx.collect()
    assert awx_role.refused(awx, TWO, more) == []
    assert "create inventory more" in awx_role.run(awx, TWO, more)[0].lines


def test_what_awx_keeps_of_what_is_removed_is_told(awx):
    kind = awx.one("credential_types", name="modelyard cluster b-1")["id"]
    awx.add(
        "credentials", name="theirs", organization=awx.one("organizations", name="Default")["id"], credential_type=kind
    )
    given = {**GIVEN, "awx_clusters": {"a": GIVEN["awx_clusters"]["a"]}, "awx_prune": True}
    given["awx_inventories"] = {"clusters": {"sources": {"Git": {"project": "ours", "path": "inventories/eks"}}}}
    one = Clusters(["a"], {"a": "https://a"}, TWO.servers, TWO.variants, 1000)
    plan, _ = awx_role.run(awx, one, given)
    assert plan.by_hand == [
        "credential type modelyard cluster b-1, since credentials of others are of it: theirs",
        "the hosts and groups of the inventory clusters that only its source from Git brought",
    ]
    assert "b-1 deployer" not in awx.names("credentials")
    assert awx.names("inventory_sources") == ["Git"]


def test_a_renamed_host_has_credentials_of_its_own(awx):
    renamed = Clusters(["a", "b-2"], {"a": "https://a", "b-2": "https://b"}, TWO.servers, TWO.variants, 1000)
    given = {**GIVEN, "awx_clusters": {"a": GIVEN["awx_clusters"]["a"], "b-2": GIVEN["awx_clusters"]["b-1"]}}
    awx_role.run(awx, renamed, {**given, "awx_prune": True})
    assert linked(awx, "job_templates", "deploy", "credentials") == ["a deployer", "b-2 deployer"]
    assert not {"b-1 deployer"} & set(awx.names("credentials"))
    assert "modelyard cluster b-1" not in awx.names("credential_types")


def test_a_rotated_token_is_written_only_where_it_is_asked_for(awx):
    given = merge(GIVEN, {"awx_clusters": {"a": {"token": "fresh"}}})
    assert awx_role.run(awx, TWO, given)[1] == []
    plan, _ = awx_role.run(awx, TWO, {**given, "awx_rotate": ["a"]})
    assert plan.lines == ["update credential a deployer: secrets", "update credential a reader: secrets"]
    assert awx.one("credentials", name="a deployer")["inputs"]["token"] == "fresh"
    assert awx.one("credentials", name="b-1 deployer")["inputs"]["token"] == "hush-b"


def test_a_rotated_secret_of_a_notification_is_written_where_it_is_asked_for(awx):
    given = merge(GIVEN, {"awx_notifications": {"chat": {"configuration": {"password": "fresh"}}}})
    assert awx_role.run(awx, TWO, given)[1] == []
    plan, _ = awx_role.run(awx, TWO, {**given, "awx_rotate": ["chat"]})
    assert plan.lines == ["update notification template chat: secrets"]
    assert awx.one("notification_templates", name="chat")["notification_configuration"]["password"] == "fresh"


def test_a_secret_that_is_empty_is_no_change_and_empties_what_is_there(awx):
    given = merge(GIVEN, {"awx_credentials": {"Git": {"inputs": {"password": "", "ssh_key_data": ""}}}})
    assert awx_role.run(awx, TWO, given)[0].lines == ["update credential Git: inputs"]
    assert awx.one("credentials", name="Git")["inputs"] == {"username": "git"}
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_another_url_of_a_cluster_is_noticed_without_rotation(awx):
    moved = Clusters(TWO.hosts, {**TWO.urls, "a": "https://a2"}, TWO.servers, TWO.variants, 1000)
    plan, _ = awx_role.run(awx, moved, GIVEN)
    assert plan.lines == ["update credential a deployer: inputs", "update credential a reader: inputs"]
    assert awx.one("credentials", name="a deployer")["inputs"] == {"url": "https://a2", "token": "hush-a", "ca": "CA"}


def test_while_a_workflow_is_made_a_launch_starts_nothing_but_its_first_node(first):
    assert first.started == {"preflight"}


FLOW = "workflow node deploy with approval /"
BEFORE = "what comes before it"


def flow(nodes: dict) -> dict:
    """The variables with other nodes of the workflow."""
    return {**GIVEN, "awx_workflows": {**GIVEN["awx_workflows"], "deploy with approval": {"nodes": nodes}}}


@pytest.mark.parametrize(
    ("nodes", "lines"),
    [
        # A node less: what came after it would start by itself, without the approval.
        (
            {"approve": None, "plan": {"success": ["deploy"]}},
            [
                f"remove {FLOW} approve",
                *(f"replace {FLOW} {name}: {BEFORE}" for name in ("report", "report failure", "smoke", "deploy")),
                f"update {FLOW} plan: success",
            ],
        ),
        (
            {"smoke": None, "deploy": {"success": ["report"]}},
            [f"remove {FLOW} smoke", f"replace {FLOW} report: {BEFORE}", f"update {FLOW} deploy: success"],
        ),
        # A template becomes an approval: the module would rename the job template; and the other way round.
        (
            {"smoke": {"template": None, "approval": "It works"}},
            [f"replace {FLOW} smoke: template", f"replace {FLOW} report: {BEFORE}"],
        ),
        (
            {"approve": {"template": "diff", "approval": None}},
            [
                f"replace {FLOW} approve: approval",
                *(f"replace {FLOW} {name}: {BEFORE}" for name in ("report", "report failure", "smoke", "deploy")),
            ],
        ),
        # Another link between two nodes, which AWX refuses beside the first.
        (
            {"smoke": {"always": ["report failure"], "failure": []}},
            [f"update {FLOW} smoke: failure, always"],
        ),
        (
            {"deploy": {"success": [], "always": ["smoke"]}},
            [
                *(f"replace {FLOW} {name}: {BEFORE}" for name in ("report", "smoke")),
                f"update {FLOW} deploy: success, always",
            ],
        ),
        # The other direction, a circle beside the first.
        (
            {"smoke": {"success": []}, "deploy": {"success": ["report"]}, "report": {"always": ["smoke"]}},
            [
                *(f"replace {FLOW} {name}: {BEFORE}" for name in ("report", "smoke")),
                f"update {FLOW} deploy: success",
            ],
        ),
    ],
)
def test_a_workflow_that_changes_never_starts_a_node_without_those_before_it(awx, nodes, lines):
    given = flow(nodes)
    names, started = awx.names("job_templates"), set()
    plan, _ = awx_role.run(awx, TWO, given, watch=lambda: started.update(starts(awx)))
    assert sorted(plan.lines) == sorted(lines)
    assert started == {"preflight"}
    assert awx.names("job_templates") == names
    plan, made = awx_role.run(awx, TWO, given)
    assert (plan.lines, made) == ([], [])


def test_a_node_that_waits_for_all_before_it_never_runs_without_one_of_them(awx):
    def given(first: str) -> dict:
        nodes = {
            **{name: {"template": name, "success": []} for name in ("plan", "preflight", "diff")},
            "one": {"approval": "The first", "success": ["deploy"]},
            "two": {"approval": "The second", "success": ["deploy"]},
            "deploy": {"template": "deploy", "all_parents": True, "success": ["report"]},
            "report": {"template": "report", "all_parents": True},
        }
        nodes["plan"]["success"] = ["one"]
        nodes[first]["success"] = ["two"]
        # A link that is only dropped.
        nodes["plan"]["failure"] = ["diff"] if first == "preflight" else []
        return {**GIVEN, "awx_workflows": {**GIVEN["awx_workflows"], "one / both": {"nodes": nodes}}}

    kind, seen = "workflow_job_template_nodes", []

    def watch():
        """Note which approvals lead to a deploy that has something to run: AWX waits for no other."""
        for deploy in awx.all(kind, identifier="deploy", unified_job_template=template):
            nodes = awx.all(kind, workflow_job_template=deploy["workflow_job_template"])
            before = [one for one in nodes if deploy["id"] in awx.links.get((kind, one["id"], "success_nodes"), [])]
            if {"one", "two"} & {one["identifier"] for one in nodes}:
                seen.append(sorted(one["identifier"] for one in before if one["unified_job_template"]))

    template = awx.one("job_templates", name="deploy")["id"]
    for first in ("preflight", "diff"):
        plan, _ = awx_role.run(awx, TWO, given(first), watch=watch)
        assert seen
        assert [names for names in seen if names != ["one", "two"]] == []
        assert awx_role.run(awx, TWO, given(first))[0].lines == []
    assert "replace workflow node one / both / deploy: what comes before it" in plan.lines


def test_what_a_node_has_no_longer_is_gone_in_awx_too(awx):
    given = flow({"report": {"all_parents": True, "limit": "a"}, "diff": {"extra_vars": {"diff_fail": "true"}}})
    given["awx_workflows"]["deploy with approval"]["ask"] = []
    awx_role.run(awx, TWO, given)
    assert awx_role.run(awx, TWO, given)[0].lines == []
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    assert f"replace {FLOW} report: limit, all_parents_must_converge" in plan.lines
    assert f"replace {FLOW} diff: extra_data" in plan.lines
    report = awx.one("workflow_job_template_nodes", identifier="report")
    assert (report["limit"], report["all_parents_must_converge"]) == (None, False)
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


def test_what_is_exported_gives_no_change(awx):
    found = awx_role.export(awx, TWO, "ml")
    assert "hush" not in str(found)
    assert found["awx_clusters"]["b-1"] == {"url": "https://b", "ca": "CA", "token": "{{ vault_b_1_token }}"}
    # What the role makes by itself needs no words.
    assert "plan" not in found["awx_job_templates"]
    plan, made = awx_role.run(awx, TWO, found)
    assert (plan.lines, {kind: items for kind, items in plan.dropped.items() if items}) == ([], {})
    assert made == []


def test_an_awx_of_somebody_else_is_exported_too(awx):
    organization = awx.add("organizations", name="theirs")["id"]
    project = awx.add(
        "projects", name="p", organization=organization, scm_type="git", scm_url="https://g/p.git", allow_override=True
    )["id"]
    inventory = awx.add("inventories", name="i", organization=organization)["id"]
    awx.add("job_templates", name="t", project=project, inventory=inventory, playbook="playbooks/site.yml", verbosity=1)
    found = awx_role.export(awx, TWO, "theirs")
    assert found["awx_job_templates"]["t"] == {
        "playbook": "playbooks/site.yml",
        "project": "p",
        "inventory": "i",
        "clusters": "none",
        "forks": 0,
    }
    plan, _ = awx_role.run(awx, TWO, found, check=True)
    assert plan.lines == [
        "update organization theirs: description (this role has not made it)",
        "update project p: description (this role has not made it)",
        "update inventory i: description (this role has not made it)",
        "update job template t: verbosity, description (this role has not made it)",
    ]


def test_what_an_export_has_no_words_for_is_left_out_with_what_refers_to_it_and_told(awx):
    theirs = awx.one("organizations", name="ml")["id"]
    where = {field: awx.one("job_templates", name="plan")[field] for field in ("project", "inventory", "playbook")}
    smart = awx.add("inventories", name="smart", organization=theirs, kind="smart", host_filter="name=a")["id"]
    awx.add("inventory_sources", name="EC2", inventory=where["inventory"], source="ec2")
    awx.add("job_templates", name="on smart", **{**where, "inventory": smart})
    # It may approve what it may not see: no role of a team says that.
    team = awx.add("teams", name="others", organization=theirs)["id"]
    flow = awx.one("workflow_job_templates", name="evaluate")["id"]
    for role in awx.roles.values():
        if (role["of"], role["role_field"]) == (("workflow_job_templates", flow), "approval_role"):
            role["teams"] = [*role["teams"], team]
    awx.add("projects", name="by hand", organization=theirs, local_path="x")
    project = awx.one("projects", name="ours")["id"]
    awx.add(
        "schedules",
        name="fetch",
        unified_job_template=project,
        rrule="DTSTART:20260101T000000Z RRULE:FREQ=DAILY;INTERVAL=1",
    )
    about = "(managed by modelyard for others)"
    awx.add("credential_types", name="modelyard cluster c", kind="cloud", description=about)
    text = awx_role.exported(awx, TWO, "ml")
    left = (
        *("the project by hand", "the inventory smart", "the inventory source clusters / EC2"),
        *("the job template on smart", "the schedule ours / fetch", "the credential type modelyard cluster c"),
        "the team others",
    )
    assert sorted(line for line in text.splitlines() if line.startswith("#")) == sorted(
        f"# not said here: {one}" for one in left
    )
    plan, made = awx_role.run(awx, TWO, awx_role.export(awx, TWO, "ml"))
    assert (plan.lines, made) == ([], [])


def test_approvals_that_may_take_any_time_are_exported_as_such(awx):
    awx_role.run(awx, TWO, {**GIVEN, "awx_approval_timeout": 0})
    plan, made = awx_role.run(awx, TWO, awx_role.export(awx, TWO, "ml"))
    assert (plan.lines, made) == ([], [])


def test_what_awx_renders_is_exported_so_that_ansible_does_not(awx):
    fields = {"fields": [{"id": "key", "label": "Key", "type": "string"}]}
    injectors = {"env": {"KEY": "{{ key }}"}}
    awx.add("credential_types", name="ours", kind="cloud", inputs=fields, injectors=injectors)
    found = Templar(DataLoader(), variables={}).template(awx_role.export(awx, TWO, "ml")["awx_credential_types"])
    assert found == {"ours": {"kind": "cloud", "inputs": fields, "injectors": injectors}}
    text = awx_role.exported(awx, TWO, "ml")
    assert "password: '{{ vault_git_password }}'" in text


def test_what_awx_could_not_read_is_read_again(awx):
    source, project = awx.one("inventory_sources", name="from Git"), awx.one("projects", name="ours")
    source["status"], project["status"] = "failed", "canceled"
    plan, _ = awx_role.run(awx, TWO, GIVEN)
    assert plan.lines == [
        "update project ours: last update canceled",
        "update inventory source clusters / from Git: last update failed",
    ]
    assert (source["status"], project["status"]) == ("successful", "successful")
    # What runs already is left to end.
    source["status"] = "running"
    assert awx_role.run(awx, TWO, GIVEN)[0].lines == []


def test_a_project_whose_branch_has_moved_on_is_read_before_its_templates_are_written(awx):
    project = awx.one("projects", name="modelyard")
    # Gate's playbook is newer than the last update; without it AWX refuses any change of its template.
    project["playbook_files"] = [one for one in project["playbook_files"] if one != "playbooks/gate.yml"]
    given = merge(GIVEN, {"awx_job_templates": {"gate": {"timeout": 77}}})
    plan, made = awx_role.run(awx, TWO, given)
    assert plan.lines == ["update project modelyard: no playbooks/gate.yml yet", "update job template gate: timeout"]
    assert [name for name, _ in made] == ["project modelyard", "project_update modelyard", "job_template gate"]
    # One that is fetched for the first time is waited for.
    project["playbook_files"] = []
    awx.update("projects", project)
    assert awx_role.run(awx, TWO, given)[0].lines == ["update project modelyard: no playbooks/diff.yml yet"]
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_variables_are_the_same_in_awx(awx):
    given = merge(GIVEN, {"awx_job_templates": {"diff": {"extra_vars": {"a": "\N{ROCKET}", "b": 1e-07}}}})
    awx_role.run(awx, TWO, given)
    assert awx_role.run(awx, TWO, given)[0].lines == []


@pytest.mark.parametrize("said", [{"smoke_model": ""}, {}])
def test_a_variable_that_is_empty_is_another_than_none(awx, said):
    before = {} if said else {"smoke_model": ""}
    for extra_vars in (before, said):
        given = merge(GIVEN, {"awx_job_templates": {"smoke": {"extra_vars": extra_vars}}})
        awx_role.run(awx, TWO, given)
    assert json.loads(awx.one("job_templates", name="smoke")["extra_vars"]) == said


def test_a_survey_in_lines_is_the_same_in_awx(awx):
    question = {"question_name": "x", "variable": "x", "required": False, "type": "multiselect"}
    question |= {"choices": "a\n\nb\n", "default": "a\nb\n"}
    given = merge(GIVEN, {"awx_job_templates": {"diff": {"survey": [question]}}})
    given["awx_schedules"] = {}
    awx_role.run(awx, TWO, given)
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_why_an_update_failed_is_told_as_text_and_one_that_goes_on_is_no_failure(awx):
    reader = awx_role.reader(awx)
    source = awx.one("inventory_sources", name="from Git")
    update = next(one for one in awx.updates.values() if one["of"] == ("inventory_sources", source["id"]))
    # An import has no tasks, and so no events of any that failed.
    update.update(stdout="\x1b[0;31m<inventory> & its parser's error\x1b[0m")
    source["status"] = "failed"
    assert updates.why(reader, "inventory_sources/", name="from Git").endswith("<inventory> & its parser's error")
    source["status"] = "running"
    assert "its update has not ended (status running)" in updates.why(reader, "inventory_sources/", name="from Git")


def test_why_a_project_failed_is_told_once_awx_has_its_output(awx):
    reader = awx_role.reader(awx)
    project = awx.one("projects", name="ours")
    update = max(
        (one for one in awx.updates.values() if one["of"] == ("projects", project["id"])), key=lambda one: one["id"]
    )
    update.update(status="failed", stdout="fatal: repository not found", lag=2)
    project["status"] = "failed"
    assert updates.why(reader, "projects/", name="ours").endswith("It says: fatal: repository not found")


def test_of_a_source_it_is_told_why_its_project_failed_or_why_it_did_not_run(awx):
    reader = awx_role.reader(awx)
    source = awx.one("inventory_sources", name="from Git")
    project, update = (
        next(one for one in awx.updates.values() if one["of"] == of)
        for of in (("projects", source["source_project"]), ("inventory_sources", source["id"]))
    )
    source["status"] = "failed"
    update.update(status="error", result_traceback="ErrImagePull: r/ee:1")
    assert updates.why(reader, "inventory_sources/", name="from Git").endswith("It says: ErrImagePull: r/ee:1")
    project.update(status="failed", stdout="fatal: repository not found")
    about = {"job_type": "project_update", "job_name": "ours", "job_id": str(project["id"])}
    update.update(status="failed", job_explanation=f"Previous Task Failed: {json.dumps(about)}")
    reason = updates.why(reader, "inventory_sources/", name="from Git")
    assert reason.endswith("It says: fatal: repository not found")


def test_who_is_no_administrator_is_refused(awx):
    reader = awx_role.reader(awx)
    reader.check_administrator()
    awx.one("users", username="admin")["is_superuser"] = False
    with pytest.raises(Failure, match=r"the user of awx_connection, admin, is no system administrator"):
        reader.check_administrator()


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, r"refuses the login \(awx_connection"), (404, r"has no /api/v2/nothing/"), (200, "answers .* with no JSON")],
)
def test_what_awx_refuses_is_told_by_the_name_of_the_variable(awx, status, message):
    token = awx.token if status != 401 else "wrong"
    reader = api.Awx({"host": awx.url, "oauth_token": token, "validate_certs": True})
    path = "nothing/" if status != 200 else f"project_updates/{min(awx.updates)}/stdout/"
    with pytest.raises(Failure, match=message):
        reader.get(path)


def test_lists_of_more_than_a_page_are_read_whole(awx):
    organization = awx.one("organizations", name="ml")["id"]
    for number in range(450):
        awx.add("labels", name=f"label {number}", organization=organization)
    diff, ops = awx.one("job_templates", name="diff")["id"], awx.one("teams", name="ops")["id"]
    rule = "DTSTART;TZID=Europe/Berlin:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1"
    for number in range(250):
        project = awx.add("projects", name=f"project {number}", organization=organization)["id"]
        awx.add("schedules", name="nightly", unified_job_template=project, rrule=rule)
    for role in awx.roles.values():
        role["teams"] = [*role["teams"], ops] if ops not in role["teams"] else role["teams"]
    reader = awx_role.reader(awx)
    there = state.read(reader, "ml")
    assert len(there["label"]) == len(awx.all("labels", organization=organization)) > 450
    # Of one name, so that AWX's own order does not tell them apart.
    assert len(there["schedule"]) == len(awx.all("schedules", name="nightly")) > 250
    assert Forms(reader, there).grants({"id": ops}) == awx.roles.keys()
    assert awx.one("schedules", unified_job_template=diff)


def test_an_awx_that_is_elsewhere_is_told_before_the_token_goes_there(awx):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(301)
            self.send_header("Location", f"{awx.url}{self.path}")
            self.end_headers()

        def log_message(self, *_):
            pass

    awx.forget()
    with Served(Elsewhere) as elsewhere:
        reader = api.Awx({"host": elsewhere.url, "oauth_token": awx.token, "validate_certs": True})
        with pytest.raises(Failure, match=rf"\(awx_connection.host\) leads .* to {awx.url}/api/v2/.*: set it to where"):
            reader.list("me/")
    assert awx.log == []


def test_an_instance_group_that_nobody_has_is_told_before_anything_is_written(awx):
    def told(*groups):
        return awx_role.refused(awx, TWO, merge(GIVEN, {"awx_job_templates": {"diff": {"instance_groups": groups}}}))

    assert told("gpuu") == [
        "awx_job_templates.diff.instance_groups has 'gpuu': AWX has no instance group of that name, did you mean gpu?"
    ]
    assert told("default", "gpu") == []


def test_a_text_that_the_inventory_dropped_is_gone_in_awx_too(awx):
    def given(messages):
        return merge(GIVEN, {"awx_notifications": {"chat": {"messages": messages}}})

    def texts():
        kept = awx.one("notification_templates", name="chat")["messages"]
        return {event: parts["message"] for event, parts in kept.items() if parts and parts.get("message")}

    both = {"error": {"message": "it failed"}, "success": {"message": "{{ job.artifacts.x | default('') }}"}}
    for messages in (both, {"error": both["error"], "success": None}):
        assert awx_role.run(awx, TWO, given(messages))[0].lines == ["update notification template chat: messages"]
        assert texts() == {event: parts["message"] for event, parts in messages.items() if parts}
        assert awx_role.run(awx, TWO, given(messages))[0].lines == []
    # A new one, which AWX keeps as it came.
    more = {"type": "webhook", "configuration": {"url": "https://y"}, "messages": {"error": {"message": "it failed"}}}
    others = merge(given(both), {"awx_notifications": {"more": more}})
    assert "create notification template more" in awx_role.run(awx, TWO, others)[0].lines
    assert awx_role.run(awx, TWO, others)[0].lines == []


@pytest.mark.parametrize(
    "given",
    [
        {"type": "awssns", "configuration": {"aws_region": "eu-central-1", "sns_topic_arn": "arn"}},
        {"type": "slack", "configuration": {"token": "hush", "channels": ["#ml"]}},
        {"type": "slack", "configuration": {"token": "hush", "channels": ["#ml"], "hex_color": "#ff0000"}},
    ],
)
def test_what_awx_fills_in_of_a_notification_is_no_change(awx, given):
    given = merge(GIVEN, {"awx_notifications": {"more": given}})
    assert awx_role.run(awx, TWO, given)[0].lines == ["create notification template more"]
    assert awx_role.run(awx, TWO, given)[0].lines == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "Sorce Control"}, "awx_credentials.Git.type is 'Sorce Control': AWX has no credential type of that name, did you mean Source Control?"),
        ({"inputs": {"user": "git"}}, "awx_credentials.Git.inputs has user: the type Source Control has username, password"),
        ({"inputs": {"username": 7}}, "awx_credentials.Git.inputs.username must be text (in quotes)"),
        ({"inputs": {"ssh_key_data": "hush"}}, "awx_credentials.Git.inputs.ssh_key_data must be a private key, from its line BEGIN to its line END"),
        ({"type": "Vault", "inputs": {"vault_password": ""}}, "awx_credentials.Git.inputs.vault_password must not be empty for the type Vault: leave it out if AWX looks it up elsewhere"),
        ({"type": "ours", "inputs": {"key": ""}}, "awx_credentials.Git.inputs.key must not be empty for the type ours"),
        ({"type": "Vault"}, "credential Git: AWX has one of that name of the type Source Control, and would keep it beside that of the type Vault"),
    ],
)  # fmt: skip
def test_a_credential_that_awx_would_refuse_is_refused_before_anything_is_written(awx, given, message):
    types = {"ours": {"inputs": {"fields": [{"id": "key", "label": "Key", "type": "string"}], "required": ["key"]}}}
    lines = awx_role.refused(
        awx,
        TWO,
        {
            **GIVEN,
            "awx_credential_types": types,
            "awx_credentials": {"Git": {**GIVEN["awx_credentials"]["Git"], **given}},
        },
    )
    assert any(message in line for line in lines), lines
    assert "hush" not in str(lines)
    assert awx_role.refused(awx, TWO, GIVEN) == []


def test_what_a_credential_requires_may_be_left_to_a_lookup_of_awx(awx):
    given = merge(GIVEN, {"awx_credentials": {"elsewhere": {"type": "Vault", "inputs": {"vault_id": "x"}}}})
    assert awx_role.refused(awx, TWO, given) == []
    assert awx_role.run(awx, TWO, given)[0].lines == ["create credential elsewhere"]
    assert awx_role.run(awx, TWO, given)[0].lines == []


def test_other_fields_of_a_type_in_use_are_refused(awx):
    awx.one("credential_types", name="modelyard cluster a")["inputs"] = {"fields": []}
    (line,) = awx_role.refused(awx, TWO, GIVEN)
    assert (
        "credential type modelyard cluster a: its inputs are to change, which AWX refuses while it is in use (by a deployer, a reader)"
        in line
    )


def test_what_all_organizations_share_is_left_to_the_one_that_has_it(awx):
    awx.one("credential_types", name="modelyard cluster a")["description"] = "(managed by modelyard for others)"
    environment = awx.one("execution_environments", name="ee")
    environment.update(organization=awx.one("organizations", name="Default")["id"])
    assert awx_role.refused(awx, TWO, GIVEN) == [
        "execution environment ee: the organization Default has it, and all of AWX has one of that name: "
        "give yours another one in awx_execution_environment.name",
        "credential type modelyard cluster a: the organization others has it, and all of AWX has one of that name: "
        "give yours another one (in awx_clusters it is the name of the host)",
    ]
    environment.update(organization=None)
    assert awx_role.refused(awx, TWO, GIVEN)[0] == (
        "execution environment ee: it is of no organization, and AWX gives it none later: "
        "give yours another one in awx_execution_environment.name"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"awx_execution_environment": {"name": "ee", "image": "r/ee:1", "credential": "Git"}}, "execution environment ee: its credential Git is of the type Source Control, and AWX takes one of Container Registry"),
        ({"awx_projects": {"ours": {"credential": "AWS"}}}, "project ours: its credential AWS is of the type Amazon Web Services, and AWX takes one of Source Control"),
        ({"awx_instance_groups": {"gpu": {"credential": "Git", "is_container_group": True}}}, "instance group gpu: its credential Git is of the type Source Control, and AWX takes one of OpenShift or Kubernetes API Bearer Token"),
        ({"awx_job_templates": {"diff": {"credentials": ["Git"]}}}, "job template diff: AWX gives no job a credential of the type Source Control, as Git is"),
        ({"awx_job_templates": {"diff": {"credentials": ["AWS", "AWS 2"]}}}, "job template diff: AWX gives a job one credential of the type Amazon Web Services, not AWS and AWS 2"),
    ],
)  # fmt: skip
def test_a_credential_of_a_type_that_is_not_taken_there_is_refused(awx, given, message):
    aws = {"type": "Amazon Web Services", "inputs": {"username": "u", "password": "hush"}}
    vault = {"type": "Vault", "inputs": {"vault_password": "hush"}}
    known = {"AWS": aws, "AWS 2": aws} | {name: merge(vault, {"inputs": {"vault_id": name}}) for name in ("one", "two")}
    several = {"awx_job_templates": {"plan": {"credentials": ["AWS", "one", "two"]}}}
    allowed = merge(merge(GIVEN, {"awx_credentials": known}), several)
    assert awx_role.refused(awx, TWO, allowed) == []
    assert awx_role.refused(awx, TWO, merge(allowed, given)) == [message]


def test_both_credentials_of_a_cluster_for_one_job_are_refused(awx):
    given = {**merge(GIVEN, {"awx_job_templates": {"diff": {"credentials": ["a deployer"]}}}), "awx_credentials": {}}
    assert awx_role.refused(awx, TWO, given) == [
        "job template diff: AWX gives a job one credential of the type modelyard cluster a, not a reader and a deployer"
    ]


def test_the_name_of_what_is_awxs_own_is_refused(awx):
    ours = {
        "awx_credential_types": {"Machine": {"inputs": {"fields": [{"id": "key", "label": "Key"}]}}},
        "awx_execution_environment": {"name": "Control Plane Execution Environment", "image": "r/ee:1"},
        "awx_credentials": {"Ansible Galaxy": {"type": "Source Control", "inputs": {"username": "git"}}},
    }
    own = "AWX has one of that name of its own, which it lets nobody change: give yours another one"
    assert awx_role.refused(awx, TWO, {**GIVEN, **ours}) == [
        "credential Ansible Galaxy: AWX itself has one of that name, and the modules of awx.awx look it up by its name alone: "
        "rename one of the two",
        f"execution environment Control Plane Execution Environment: {own} in awx_execution_environment.name",
        f"credential type Machine: {own} (in awx_clusters it is the name of the host)",
    ]


def test_a_project_that_awx_does_not_begin_to_fetch_is_waited_for_some_time_only(awx):
    project = awx.one("projects", name="ours")
    awx.polls = 1000
    awx.update("projects", project)["job_explanation"] = "there is not enough available capacity"
    awx.polls = 1
    (line,) = updates.unread(awx_role.reader(awx), [{"name": "ours"}], "ml", 0.1)
    assert line == (
        "AWX has not fetched the project ours (awx_projects): its update has not ended (status pending: there is not enough available "
        "capacity). Look in AWX what it waits for; when it has ended, run this again"
    )


def test_an_organization_gets_a_galaxy_credential_of_its_own():
    hub = {"type": "Ansible Galaxy/Automation Hub API Token", "inputs": {"url": "https://hub"}}
    given = {**GIVEN, "awx_projects": {}, "awx_inventories": {}, "awx_schedules": {}, "awx_teams": {}}
    given |= {"awx_credentials": {"hub": hub}, "awx_galaxy_credentials": ["hub", "Ansible Galaxy"]}
    given |= {
        f"awx_{kind}": {name: {"enabled": False} for name in specs.catalogue("awx", kind)}
        for kind in ("job_templates", "workflows")
    }
    with Awx() as awx:
        assert awx_role.run(awx, TWO, given)[0].lines[0] == "create organization ml"
        assert linked(awx, "organizations", "ml", "galaxy_credentials") == ["hub", "Ansible Galaxy"]
        assert awx_role.run(awx, TWO, given)[0].lines == []


def test_a_job_gets_one_credential_of_a_type_and_several_vaults(awx):
    vault = {"type": "Vault", "inputs": {"vault_password": "hush"}}
    several = {name: merge(vault, {"inputs": {"vault_id": name}}) for name in ("one", "two")}
    given = {"awx_credentials": several, "awx_job_templates": {"plan": {"credentials": ["one", "two"]}}}
    awx_role.run(awx, TWO, merge(GIVEN, given))
    assert {"one", "two"} < set(linked(awx, "job_templates", "plan", "credentials"))
