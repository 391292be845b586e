"""playbooks/awx.yml as a whole, against a stand-in of AWX: what a person sees, what is written, and what no output and no request holds.

What a run computes and changes, case by case, is in test_awx_runs.py; here Ansible itself runs the play.
"""

import copy
import json
import re
from pathlib import Path

import awx_modules
import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.clusters import Clusters
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs
from awx_api import Awx
from awx_rules import check_survey
from rendering import playbook

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ("hush-git", "hush-a", "hush-b", "hush-hook", "hush-new", "hush-key")
KEPT = ("deploy", "plan", "diff", "switch")
OFF = {"enabled": False}
GIVEN = {
    "awx_organization": "ml",
    "awx_execution_environment": {"name": "ee", "image": "registry.example.com/ee:1"},
    "awx_projects": {
        "modelyard": {"url": "https://git.example.com/m.git", "branch": "v1"},
        "ours": {"url": "https://git.example.com/o.git", "credential": "git"},
    },
    "awx_inventories": {"clusters": {"sources": {"from Git": {"project": "ours", "path": "inventory"}}}},
    "awx_credentials": {"git": {"type": "Source Control", "inputs": {"username": "git", "password": "hush-git"}}},
    "awx_clusters": {
        "a": {"ca": "CA of a", "token": "hush-a", "reader_token": "hush-a-reader"},
        "b": {"ca": "CA of b", "token": "hush-b"},
    },
    "awx_notifications": {
        "hook": {"type": "webhook", "configuration": {"url": "https://hook.example.com", "password": "hush-hook"}},
    },
    "awx_notify": {"error": ["hook"], "approvals": ["hook"]},
    "awx_schedules": {"nightly": {"template": "diff", "at": "02:00", "time_zone": "Europe/Berlin"}},
    "awx_teams": {"ops": {"role": "operator"}, "leads": {"role": "approver"}},
}
FLOW = {
    "plan": {"template": "plan", "success": ["approve"]},
    "approve": {"approval": "Deploy what the plan shows", "success": ["deploy"], "failure": ["diff"]},
    "deploy": {"template": "deploy", "limit": "a", "always": ["diff"]},
    "diff": {"template": "diff", "extra_vars": {"diff_fail": "true"}},
}
CLUSTER = {
    "platform_api_server": "https://{{ inventory_hostname }}.example.com",
    "platform_aws_account_id": "123456789012",
}


def few(variables: dict) -> dict:
    """The same with few job templates and one workflow, of its own: each object is a call of a module."""
    off = {name: OFF for name in specs.catalogue("awx", "job_templates") if name not in KEPT}
    flows = dict.fromkeys(specs.catalogue("awx", "workflows"), OFF)
    return copy.deepcopy(
        {**variables, "awx_job_templates": off, "awx_workflows": {**flows, "roll out": {"nodes": FLOW}}}
    )


class Fleet:
    """An AWX, and an inventory beside it.

    Attributes:
        awx: the stand-in. variables: of the role; tests change them. hosts: the clusters.
    """

    def __init__(self, awx: Awx, folder: Path):
        self.awx, self.folder, self.hosts = awx, folder, {"a": {}, "b": {}}
        self.variables = few(GIVEN)
        self.collections = awx_modules.quick(folder / "collections")

    def run(self, *args, fails=False, login=False, **env) -> str:
        """One run of playbooks/awx.yml, with a token or (login) a user; its output, of which no word is secret."""
        # With the line break that a text of a file of variables may end with.
        token = {"oauth_token": f"{self.awx.token}\n"}
        access = {"username": "admin", "password": self.awx.password} if login else token
        inventory = {
            "all": {
                "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
            },
            "clusters": {"hosts": self.hosts, "vars": CLUSTER},
            "awx": {
                "hosts": {"controller": {}},
                "vars": {"awx_connection": {"host": self.awx.url, **access}, **self.variables},
            },
        }
        (self.folder / "inventory.yml").write_text(json.dumps(inventory))
        self.awx.forget()
        env.setdefault("ANSIBLE_COLLECTIONS_PATH", f"{ROOT}/collections:{self.collections}")
        done = playbook("awx", self.folder / "inventory.yml", *args, **env)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output
        secret = [*SECRETS, self.awx.token, self.awx.password]
        assert [word for word in secret if word in output] == []
        assert "Traceback" not in output, output
        return output

    def sent(self) -> str:
        """The bodies of all requests, as one text."""
        return json.dumps([request.body for request in self.awx.requests])

    def nodes(self, workflow: str) -> dict:
        """Each node of a workflow: what it runs, where, and what comes after it."""
        awx, kind, found = self.awx, "workflow_job_template_nodes", {}
        for node in awx.all(kind, workflow_job_template=awx.one("workflow_job_templates", name=workflow)["id"]):
            after = {link: awx.linked(kind, node["id"], f"{link}_nodes") for link in ("success", "failure", "always")}
            runs = awx.unified(node["unified_job_template"])["name"]
            found[node["identifier"]] = (runs, node["limit"], {link: to for link, to in after.items() if to})
        return found


def changed(output: str) -> int:
    """What the recap says."""
    return int(re.search(r"^controller .*changed=(\d+)", output, re.MULTILINE).group(1))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A fleet whose AWX has had a run in check mode and a first one, with all that these said and sent."""
    with Awx() as awx:
        fleet = Fleet(awx, tmp_path_factory.mktemp("fleet"))
        fleet.empty = awx.state()
        fleet.checked, fleet.checks, fleet.after_check = fleet.run("--check"), awx.writes(), awx.state()
        fleet.output, fleet.requests = fleet.run("-vvv"), list(awx.requests)
        yield fleet


@pytest.fixture
def fleet(made):
    """The same fleet after its first run, whatever other tests did."""
    before = made.awx.state()
    made.variables, made.hosts = few(GIVEN), {"a": {}, "b": {}}
    yield made
    made.awx.restore(before)
    made.awx.lost, made.awx.galaxy = set(), False


def test_check_mode_on_an_empty_awx_says_what_it_would_make_and_makes_nothing(made):
    lines = made.checked.splitlines()
    for line in (
        *("organization ml", "label modelyard", "credential type modelyard cluster a", "credential a deployer"),
        *("execution environment ee", "notification template hook", "project ours", "inventory clusters"),
        *("inventory source clusters / from Git", "job template deploy", "workflow job template roll out"),
        *("workflow node roll out / approve", "schedule diff / nightly", "team ops"),
    ):
        assert f"  would create {line}" in lines
    assert changed(made.checked) == 1
    assert made.checks == []
    assert made.after_check == made.empty


def test_the_first_run_makes_all_of_it(made):
    awx = made.awx
    assert [request for request in made.requests if request.status >= 400] == []
    assert awx.names("job_templates") == sorted(KEPT)
    # The second and third names are AWX's own.
    assert {"a deployer", "a reader", "b deployer", "git"} < set(awx.names("credentials"))
    assert made.nodes("roll out") == {
        "plan": ("plan", None, {"success": ["approve"]}),
        "approve": ("Deploy what the plan shows", None, {"success": ["deploy"], "failure": ["diff"]}),
        "deploy": ("deploy", "a", {"always": ["diff"]}),
        "diff": ("diff", None, {}),
    }
    diff = awx.one("job_templates", name="diff")["id"]
    assert awx.linked("job_templates", diff, "credentials") == ["a reader", "b deployer"]
    assert awx.linked("job_templates", diff, "notification_templates_error") == ["hook"]
    assert awx.linked("job_templates", diff, "labels") == ["modelyard"]
    assert awx.linked("organizations", awx.one("organizations", name="ml")["id"], "galaxy_credentials") == []
    execute = awx.one("job_templates", name="plan")["id"]
    roles = {role["role_field"]: role for role in awx.roles.values() if role["of"] == ("job_templates", execute)}
    assert awx.one("teams", name="ops")["id"] in roles["execute_role"]["teams"]
    assert awx.one("teams", name="leads")["id"] not in roles["execute_role"]["teams"]


def test_a_run_looks_at_the_user_the_connection_and_the_types_of_awx_first(made):
    first = next(number for number, request in enumerate(made.requests) if request.method != "GET")
    before = {request.path: request.query for request in made.requests[:first]}
    assert "me/" in before
    assert "credential_types/" in before
    for output in (made.checked, made.output):
        assert f"awx_connection.host is {made.awx.url}: the token or password and all secrets go there" in " ".join(
            output.split()
        )


def test_secrets_reach_awx_and_nothing_else(made):
    # Each run's output is looked at; this one's was told at the third level of verbosity.
    assert "task path" in made.output
    assert made.awx.one("credentials", name="a reader")["inputs"]["token"] == "hush-a-reader"
    assert made.awx.one("credentials", name="git")["inputs"]["password"] == "hush-git"
    hook = made.awx.one("notification_templates", name="hook")
    assert hook["notification_configuration"]["password"] == "hush-hook"
    holding = {re.sub("/.*", "", request.path) for request in made.requests if "hush-" in json.dumps(request.body)}
    assert holding == {"credentials", "notification_templates"}


def test_the_variables_of_an_inventory_with_a_source_are_never_sent(made):
    sent = [request.body for request in made.requests if request.path.startswith("inventories/") and request.body]
    assert len(sent) == 1
    assert not {"variables", "host_filter"} & {name for name, value in sent[0].items() if value is not None}


def test_a_second_run_changes_nothing_writes_nothing_and_gives_its_tokens_back(fleet):
    output = fleet.run(login=True)
    assert changed(output) == 0
    assert fleet.awx.writes() == []
    assert fleet.sent() == json.dumps([None] * len(fleet.awx.requests))
    assert list(fleet.awx.tokens) == [fleet.awx.token]


def test_an_export_shows_what_is_there_as_variables_and_changes_nothing(fleet):
    output = fleet.run("--tags", "export")
    assert (changed(output), fleet.awx.writes()) == (0, [])
    shown = "\n".join(line.removeprefix("  ") for line in output.splitlines() if line.startswith("  "))
    variables = yaml.safe_load(shown)
    assert variables["awx_organization"] == "ml"
    assert variables["awx_inventories"] == GIVEN["awx_inventories"] | {
        "clusters": {"sources": {"from Git": {"project": "ours", "path": "inventory", "update_on_launch": True}}}
    }
    assert variables["awx_credentials"]["git"]["inputs"]["password"].startswith("{{ vault_git")


def test_what_the_inventory_dropped_is_listed_and_goes_on_request_and_what_others_made_stays(fleet):
    awx, variables = fleet.awx, fleet.variables
    kept = {field: awx.one("job_templates", name="plan")[field] for field in ("project", "inventory", "playbook")}
    awx.add("job_templates", name="theirs", **kept)
    awx.add("teams", name="theirs", organization=awx.one("organizations", name="ml")["id"], description="by hand")
    # A cluster is renamed, another one's token rotated; a template, a schedule and a workflow are no longer wanted.
    fleet.hosts = {"a": {}, "c": {}}
    clusters = variables["awx_clusters"]
    variables["awx_clusters"] = {"a": {"ca": "CA of a", "token": "hush-new"}, "c": clusters["b"]}
    variables["awx_job_templates"]["switch"] = OFF
    variables["awx_workflows"]["roll out"] = OFF
    variables["awx_schedules"] = {}
    dropped = (
        *("schedule diff / nightly", "workflow job template roll out", "job template switch"),
        *("credential a reader", "credential b deployer", "credential type modelyard cluster b"),
    )
    output = fleet.run()
    for name in dropped:
        assert f"  not in the inventory any more: {name} (-e awx_prune=true removes it)" in output.splitlines()
    assert {call.split("/")[0] for call in awx.writes()} == {
        "POST credential_types",
        "POST credentials",
        "POST job_templates",
    }
    assert "hush-new" not in fleet.sent()
    assert awx.one("credentials", name="a deployer")["inputs"]["token"] == "hush-a"
    assert "roll out" in awx.names("workflow_job_templates")

    output = fleet.run("-e", "awx_prune=true", "-e", '{"awx_rotate": ["a"]}')
    for name in dropped:
        assert f"  remove {name}" in output.splitlines()
    assert awx.one("credentials", name="a deployer")["inputs"]["token"] == "hush-new"
    assert awx.names("job_templates") == ["deploy", "diff", "plan", "theirs"]
    assert awx.names("teams") == ["leads", "ops", "theirs"]
    assert (awx.names("workflow_job_templates"), awx.names("schedules")) == ([], [])
    assert not {"a reader", "b deployer"} & set(awx.names("credentials"))
    deploy = awx.one("job_templates", name="deploy")["id"]
    assert awx.linked("job_templates", deploy, "credentials") == ["a deployer", "c deployer"]


def test_what_awx_cannot_read_is_told_with_its_reason_and_read_by_the_next_run(fleet):
    awx = fleet.awx
    organization = awx.one("organizations", name="ml")["id"]
    awx.links["organizations", organization, "galaxy_credentials"] = [
        awx.one("credentials", name="Ansible Galaxy")["id"]
    ]
    fleet.variables["awx_projects"]["more"] = {"url": "https://git.example.com/more.git"}
    fleet.variables["awx_inventories"]["clusters"]["sources"]["from Git"]["path"] = "inventori"
    output = " ".join(fleet.run(fails=True).split())
    assert (
        "AWX has not fetched the project more (awx_projects): it failed, and no job that needs it can start. It says: "
        in output
    )
    assert "Unknown error when attempting to call Galaxy" in output
    # Galaxy is there again, and the path of a source is wrong.
    awx.galaxy, awx.lost = True, {"inventori"}
    output = fleet.run(fails=True)
    assert "  update project more: last update failed" in output.splitlines()
    assert awx.one("projects", name="more")["status"] == "successful"
    output = " ".join(output.split())
    assert "AWX has not read the source from Git of the inventory clusters (awx_inventories)" in output
    assert "Source does not exist: inventori" in output


def test_the_answer_to_a_question_for_a_password_is_in_no_output(fleet):
    key = {"question_name": "Key?", "variable": "key", "type": "password", "required": False}
    answer = {"template": "switch", "extra_vars": {"key": "hush-key"}}
    fleet.variables["awx_job_templates"]["switch"] = {"survey": [key]}
    fleet.variables["awx_schedules"]["keyed"] = {**answer, "at": "03:00"}
    fleet.variables["awx_workflows"]["roll out"]["nodes"] = {**FLOW, "switch": answer}
    output = fleet.run("-vvv")
    assert "  create schedule switch / keyed" in output.splitlines()
    assert fleet.awx.one("schedules", name="keyed")["extra_data"] == {"key": "hush-key"}
    # What is not secret is told.
    assert "(item=roll out / switch)" in output
    fleet.awx.forbidden = {"schedules"}
    fleet.variables["awx_schedules"]["keyed"]["at"] = "04:00"
    fleet.run("-vvv", fails=True)
    fleet.awx.forbidden = set()


def test_what_awx_refuses_of_a_project_or_an_update_is_told_as_such(fleet):
    variables, source = fleet.variables, fleet.awx.one("inventory_sources", name="from Git")
    variables["awx_projects"]["Project X"] = {"url": "s3://git.example.com/x.git"}
    output = fleet.run(fails=True)
    assert "Unsupported git URL" in output
    assert "AWX has not fetched" not in output
    del variables["awx_projects"]["Project X"]
    variables["awx_inventories"]["clusters"]["sources"]["from Git"]["path"] = "other"
    fleet.awx.forbidden = {f"inventory_sources/{source['id']}/update"}
    output = fleet.run(fails=True)
    assert "You don't have permission to POST" in output.replace("''", "'")
    assert "AWX has not read" not in output
    fleet.awx.forbidden = set()


def test_what_awx_says_of_a_credential_or_a_notification_is_told_without_its_secrets(fleet):
    fleet.awx.forbidden = {"credentials", "notification_templates"}
    for name, what in (("credentials", "credential more"), ("notifications", "notification template more")):
        more = copy.deepcopy(fleet.variables[f"awx_{name}"][{"credentials": "git", "notifications": "hook"}[name]])
        fleet.variables[f"awx_{name}"]["more"] = more
        output = fleet.run(fails=True)
        assert f"{what}: You don't have permission to POST to /api/v2/" in output.replace("\\'", "'"), output
        del fleet.variables[f"awx_{name}"]["more"]
    fleet.awx.forbidden = set()
    # Of an update, too.
    fleet.variables["awx_notifications"]["hook"]["messages"] = {"error": {"message": "{{ '{{ job.nothing }}' }}"}}
    output = fleet.run(fails=True)
    assert "notification template hook: Unable to update notification_template hook, see response" in output
    assert "unavailable" in output


def test_a_name_that_another_organization_has_is_refused_before_anything_is_written(fleet):
    default = fleet.awx.one("organizations", name="Default")["id"]
    fleet.awx.add("inventories", name="clusters", organization=default)
    fleet.variables["awx_labels"] = ["new"]
    output = fleet.run(fails=True)
    assert (
        "inventory clusters: the organization Default has one of that name, and the modules of awx.awx look it up"
        in output
    )
    assert fleet.awx.writes() == []


def test_without_the_collection_a_run_says_how_to_get_it(fleet, tmp_path):
    output = fleet.run(fails=True, ANSIBLE_COLLECTIONS_PATH=f"{ROOT}/collections")
    assert (
        "the collection awx.awx is not installed: `ansible-galaxy collection install -r requirements-awx.yml`" in output
    )
    assert fleet.awx.requests == []


def test_all_surveys_that_the_role_brings_are_such_as_awx_takes():
    hosts = ["a", "b", "c"]
    three = Clusters(
        hosts, {host: f"https://{host}" for host in hosts}, ["triton", "vllm"], ["8b", "70b", "none"], 1000
    )
    wanted = Wanted(Inputs(specs.load(["awx"]), GIVEN, lambda value: value).values("awx"), three).found
    surveys = [
        one["survey_spec"] for kind in ("job_template", "workflow") for one in wanted[kind] if one["survey_enabled"]
    ]
    assert len(surveys) > 10
    for survey in surveys:
        check_survey(survey)
