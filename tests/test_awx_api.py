"""The stand-in of AWX's REST API against the modules of awx.awx 24.6.1: their requests and answers are those that were seen on a real AWX."""

import awx_modules
import pytest
import urllib3
from awx_api import Awx

ORG, TYPE = "GET organizations/?name=", "GET credential_types/?name="
EE, INVENTORY = "GET execution_environments/?name=", "GET inventories/?organization=&name="
PROJECT, TEMPLATE = "GET projects/?organization=&name=", "GET job_templates/?organization=&name="
WORKFLOW, NODE = (
    "GET workflow_job_templates/?organization=&name=",
    "GET workflow_job_template_nodes/?identifier=&workflow_job_template=",
)
IN = {"organization": "modelyard"}
SURVEY = {
    "name": "",
    "description": "",
    "spec": [
        {
            "question_name": "Which?",
            "variable": "which",
            "type": "multiplechoice",
            "required": False,
            "choices": ["a", "b"],
            "default": "a",
        }
    ],
}
CREDENTIAL = {
    "name": "my-cluster",
    "credential_type": "a cluster",
    "inputs": {"host": "https://a", "token": "first-secret"},
    **IN,
}
# AWX adds a type that is left out.
FIELDS = [
    {"id": "host", "label": "URL", "type": "string"},
    {"id": "token", "label": "Token", "type": "string", "secret": True},
]
INJECTORS = {
    "file": {"template.ca": "{{ host }}"},
    "extra_vars": {"platform_connection": {"api_key": "{{ token }}", "ca": "{{ tower.filename.ca }}"}},
}
NODES = {"workflow_job_template": "roll out", **IN}
SOURCE = {"name": "from the project", "inventory": "fleet", **IN}
# module, arguments, requests of the first run, of the second (None: those of the first that read), changed in the second, in check mode.
CASES = [
    ("organization", {"name": "modelyard"}, [ORG, "POST organizations/"], None, False, False),
    (
        "organization",
        {"name": "modelyard", "galaxy_credentials": []},
        [ORG, "GET organizations/N/galaxy_credentials/"],
        None,
        False,
        False,
    ),
    (
        "execution_environment",
        {"name": "ee", "image": "ee:3", **IN},
        [EE, ORG, "POST execution_environments/"],
        None,
        False,
        False,
    ),
    (
        "credential_type",
        {"name": "a cluster", "kind": "cloud", "inputs": {"fields": FIELDS}, "injectors": INJECTORS},
        [TYPE, "POST credential_types/"],
        None,
        False,
        False,
    ),
    (
        "credential",
        CREDENTIAL,
        [TYPE, ORG, "GET credentials/?credential_type=&organization=&name=", "POST credentials/"],
        [TYPE, ORG, "GET credentials/?credential_type=&organization=&name=", "PATCH credentials/N/"],
        True,
        True,
    ),
    (
        "credential",
        {**CREDENTIAL, "inputs": {"host": "https://a", "token": "second-secret"}, "update_secrets": False},
        [TYPE, ORG, "GET credentials/?credential_type=&organization=&name="],
        None,
        False,
        False,
    ),
    (
        "project",
        {"name": "code", "scm_type": "git", "scm_url": "https://git.example/x", "default_environment": "ee", **IN},
        [ORG, PROJECT, EE, "POST projects/", "GET project_updates/N/", "GET project_updates/N/"],
        [ORG, PROJECT, EE],
        False,
        False,
    ),
    (
        "project_update",
        {"name": "code", "interval": 0.01, **IN},
        [ORG, PROJECT, "POST projects/N/update/", "GET project_updates/N/", "GET project_updates/N/"],
        [ORG, PROJECT, "POST projects/N/update/", "GET project_updates/N/", "GET project_updates/N/"],
        False,
        True,
    ),
    (
        "inventory",
        {"name": "fleet", **IN},
        [ORG, INVENTORY, "POST inventories/"],
        [ORG, INVENTORY, "PATCH inventories/N/"],
        False,
        True,
    ),
    ("inventory", {"name": "fleet", "kind": "", **IN}, [ORG, INVENTORY], None, False, False),
    (
        "inventory_source",
        {
            **SOURCE,
            "source": "scm",
            "source_project": "code",
            "source_path": "inventories/eks/hosts.yml",
            "overwrite_vars": True,
            "execution_environment": "ee",
        },
        [ORG, INVENTORY, "GET inventory_sources/?inventory=&name=", EE, PROJECT, "POST inventory_sources/"],
        None,
        False,
        False,
    ),
    (
        "inventory_source_update",
        {**SOURCE, "wait": True, "interval": 0.01},
        [
            *(ORG, INVENTORY, "GET inventory_sources/?inventory=&name=", "POST inventory_sources/N/update/"),
            *("GET inventory_updates/N/", "GET inventory_updates/N/"),
        ],
        [
            *(ORG, INVENTORY, "GET inventory_sources/?inventory=&name=", "POST inventory_sources/N/update/"),
            *("GET inventory_updates/N/", "GET inventory_updates/N/"),
        ],
        True,
        True,
    ),
    (
        "host",
        {"name": "by-hand", "inventory": "fleet", "variables": {"a": 1}},
        ["GET inventories/?name=", "GET hosts/?inventory=&name=", "POST hosts/"],
        None,
        False,
        False,
    ),
    (
        "group",
        {"name": "clusters", "inventory": "fleet", "hosts": ["by-hand"]},
        [
            *("GET inventories/?name=", "GET groups/?inventory=&name=", "GET hosts/?inventory=&name=", "POST groups/"),
            *("GET groups/N/hosts/", "POST groups/N/hosts/"),
        ],
        None,
        False,
        False,
    ),
    ("label", {"name": "ours", **IN}, [ORG, "GET labels/?organization=&name=", "POST labels/"], None, False, False),
    ("team", {"name": "operators", **IN}, [ORG, "GET teams/?organization=&name=", "POST teams/"], None, False, False),
    (
        "notification_template",
        {
            "name": "hook",
            "notification_type": "webhook",
            **IN,
            "notification_configuration": {
                "url": "https://hook.example",
                "http_method": "POST",
                "headers": {},
                "username": "",
                "password": "",
                "disable_ssl_verification": False,
            },
        },
        [ORG, "GET notification_templates/?organization=&name=", "POST notification_templates/"],
        None,
        False,
        False,
    ),
    ("instance_group", {"name": "pods"}, ["GET instance_groups/?name=", "POST instance_groups/"], None, False, False),
    (
        "job_template",
        {
            "name": "deploy",
            "playbook": "playbooks/site.yml",
            "project": "code",
            "inventory": "fleet",
            **IN,
            "execution_environment": "ee",
            "credentials": ["my-cluster"],
            "labels": ["ours"],
            "notification_templates_error": ["hook"],
            "instance_groups": ["pods"],
            "ask_limit_on_launch": True,
            "survey_spec": SURVEY,
            "survey_enabled": True,
        },
        [
            *(ORG, EE, TEMPLATE, "GET inventories/?name=", PROJECT, "GET credentials/?name="),
            *("GET labels/?organization=&name=", "GET notification_templates/?name=", "GET instance_groups/?name="),
            *("POST job_templates/", "GET job_templates/N/credentials/", "POST job_templates/N/credentials/"),
            *("GET job_templates/N/labels/", "POST job_templates/N/labels/"),
            *(
                "GET job_templates/N/notification_templates_error/",
                "POST job_templates/N/notification_templates_error/",
            ),
            *("GET job_templates/N/instance_groups/", "POST job_templates/N/instance_groups/"),
            "POST job_templates/N/survey_spec/",
        ],
        [
            *(ORG, EE, TEMPLATE, "GET inventories/?name=", PROJECT, "GET credentials/?name="),
            *("GET labels/?organization=&name=", "GET notification_templates/?name=", "GET instance_groups/?name="),
            *("GET job_templates/N/survey_spec/", "GET job_templates/N/credentials/", "GET job_templates/N/labels/"),
            *("GET job_templates/N/notification_templates_error/", "GET job_templates/N/instance_groups/"),
        ],
        False,
        False,
    ),
    (
        "workflow_job_template",
        {"name": "roll out", "survey_spec": SURVEY, **IN},
        [ORG, WORKFLOW, "POST workflow_job_templates/", "POST workflow_job_templates/N/survey_spec/", WORKFLOW],
        [ORG, WORKFLOW, "GET workflow_job_templates/N/survey_spec/", WORKFLOW],
        False,
        False,
    ),
    (
        "workflow_job_template_node",
        {**NODES, "identifier": "deploy", "unified_job_template": "deploy", "limit": "a", "extra_data": {"which": "b"}},
        [ORG, WORKFLOW, NODE, "GET unified_job_templates/?name=", "POST workflow_job_template_nodes/"],
        None,
        False,
        False,
    ),
    (
        "workflow_job_template_node",
        {**NODES, "identifier": "approve", "approval_node": {"name": "approve", "description": "", "timeout": 60}},
        [
            *(ORG, WORKFLOW, NODE, "POST workflow_job_template_nodes/", NODE),
            "POST workflow_job_template_nodes/N/create_approval_template/",
        ],
        [ORG, WORKFLOW, NODE, NODE, "GET workflow_approval_templates/N/"],
        False,
        False,
    ),
    (
        "workflow_job_template_node",
        {**NODES, "identifier": "approve", "success_nodes": ["deploy"]},
        [
            *(ORG, WORKFLOW, NODE, NODE, "GET workflow_job_template_nodes/N/success_nodes/"),
            "POST workflow_job_template_nodes/N/success_nodes/",
        ],
        None,
        False,
        False,
    ),
    (
        "schedule",
        {
            "name": "nightly",
            "unified_job_template": "deploy",
            "extra_data": {"which": "a"},
            **IN,
            "rrule": "DTSTART;TZID=Europe/Berlin:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1",
        },
        [
            ORG,
            "GET unified_job_templates/?organization=&name=",
            "GET schedules/?unified_job_template=&name=",
            "POST schedules/",
        ],
        None,
        False,
        False,
    ),
    (
        "role",
        {"role": "execute", "job_templates": ["deploy"], "teams": ["operators"]},
        ["GET job_templates/?name=", "GET teams/?name=", "GET roles/N/teams/", "POST roles/N/teams/"],
        None,
        False,
        False,
    ),
    ("settings", {"settings": {"SCHEDULE_MAX_JOBS": 10}}, ["GET settings/all/"], None, False, False),
]


@pytest.fixture(scope="module")
def filled():
    """An AWX in which every case has run: once, once more, and in check mode."""
    with Awx() as awx:
        seen = []
        for module, arguments, *_ in CASES:
            runs = []
            for check in (False, False, True):
                awx.forget()
                runs.append((awx_modules.run(awx, module, check, **arguments), awx.calls()))
            seen.append(runs)
        yield awx, seen


@pytest.mark.parametrize("number", range(len(CASES)), ids=[f"{number}-{case[0]}" for number, case in enumerate(CASES)])
def test_a_module_makes_the_requests_and_gets_the_answers_of_a_real_awx(filled, number):
    _, _, first, second, again, check = CASES[number]
    runs = filled[1][number]
    for returned, _ in runs:
        assert not returned.get("failed"), returned
    assert runs[0][1] == first
    assert runs[1][1] == ([call for call in first if call.startswith("GET ")] if second is None else second)
    assert runs[1][0]["changed"] is again
    assert runs[2][0]["changed"] is check
    assert [call for call in runs[2][1] if not call.startswith("GET ")] == []


def test_a_rotated_token_is_silently_not_written_without_update_secrets(filled):
    assert filled[0].one("credentials", name="my-cluster")["inputs"]["token"] == "first-secret"


@pytest.fixture(scope="module")
def awx():
    """An AWX with an organization, a project and an inventory, as somebody made them."""
    with Awx() as awx:
        org = awx.add("organizations", name="modelyard")["id"]
        project = awx.add("projects", name="code", organization=org, scm_type="git", scm_url="https://git.example/x")
        project["playbook_files"] = ["playbooks/site.yml"]
        awx.add("inventories", name="fleet", organization=org)
        awx.add("workflow_job_templates", name="roll out", organization=org)
        yield awx


def get(awx, path, method="GET", token=None, **body):
    """Status and body of one request."""
    headers = {"Authorization": f"Bearer {token or awx.token}"}
    answer = urllib3.request(method, f"{awx.url}/api/v2/{path}", headers=headers, json=body or None, retries=False)
    shown = answer.data and answer.headers["Content-Type"] == "application/json"
    return answer.status, answer.json() if shown else None, answer


def test_with_user_and_password_a_module_takes_a_token_and_gives_it_back_in_check_mode_too(awx):
    for check in (False, True):
        awx.forget()
        assert not awx_modules.run(awx, "organization", check, login=True, name="modelyard")["changed"]
        assert [line.split()[0] for line in awx.log] == ["POST", "GET", "DELETE"]
        assert len(awx.tokens) == 1


def test_a_wrong_token_and_a_wrong_password(awx):
    returned = awx_modules.run(awx, "organization", name="modelyard", controller_oauthtoken="wrong")
    assert returned["msg"] == "Invalid authentication credentials for /api/v2/organizations/ (HTTP 401)."
    returned = awx_modules.run(awx, "organization", login=True, name="modelyard", controller_password="wrong")
    assert returned["msg"] == "Failed to get token: HTTP Error 401: Unauthorized"


def test_check_mode_on_an_empty_awx_fails_at_the_second_object(awx):
    assert awx_modules.run(awx, "organization", True, name="not there")["changed"]
    returned = awx_modules.run(awx, "team", True, name="operators", organization="not there")
    assert returned["msg"] == "Request to /api/v2/organizations/?name=not+there returned 0 items, expected 1"


def test_an_inventory_with_variables_and_a_source_changes_after_each_sync():
    with Awx() as awx:
        org = awx.add("organizations", name="modelyard")["id"]
        inventory = awx.add("inventories", name="fleet", organization=org)
        source = {"name": "s", "inventory": inventory["id"], "source": "controller", "overwrite_vars": True}
        awx.add("inventory_sources", **source)
        awx.imported = {"variables": {"imported": 1}, "hosts": {"a": {"b": 2}}}
        arguments = {"name": "fleet", "kind": "", "variables": {"sent": 1}, **IN}
        for _ in range(2):
            assert awx_modules.run(awx, "inventory", **arguments)["changed"]
            assert inventory["variables"] == '{"sent": 1}'
            awx_modules.run(awx, "inventory_source_update", name="s", inventory="fleet", wait=True, interval=0.01)
            assert inventory["variables"] == '{"imported": 1}'
        assert awx.one("hosts", name="a")["variables"] == '{"b": 2}'


def test_a_password_question_in_a_survey_is_always_changed(awx):
    question = {"question_name": "?", "variable": "x", "type": "password", "required": True, "default": "secret"}
    survey = {"name": "", "description": "", "spec": [question]}
    for _ in range(2):
        assert awx_modules.run(awx, "workflow_job_template", name="roll out", survey_spec=survey, **IN)["changed"]


def test_approval_nodes_in_the_template_of_a_workflow_are_always_changed_and_with_links_at_once_they_fail(awx):
    nodes = [
        {
            "identifier": "one",
            "unified_job_template": {"name": "code", "type": "project", "organization": {"name": "modelyard"}},
        },
        {"identifier": "two", "unified_job_template": {"name": "two", "type": "workflow_approval"}},
    ]
    for _ in range(2):
        returned = awx_modules.run(awx, "workflow_job_template", name="roll out", workflow_nodes=nodes, **IN)
        assert returned["changed"], returned
    both = {"approval_node": {"name": "both"}, "success_nodes": ["one"]}
    returned = awx_modules.run(awx, "workflow_job_template_node", identifier="both", **both, **NODES)
    assert returned["failed"]
    assert awx.linked(
        "workflow_job_template_nodes", awx.one("workflow_job_template_nodes", identifier="both")["id"], "success_nodes"
    ) == ["one"]


def test_a_node_whose_template_is_missing_ends_in_a_traceback(awx):
    with pytest.raises(TypeError):
        awx_modules.run(awx, "workflow_job_template_node", identifier="lost", unified_job_template="lost", **NODES)


def test_a_project_whose_sync_fails_says_why_only_in_its_output():
    with Awx() as awx:
        project = {"name": "code", "scm_type": "git", "scm_url": "https://git.example/x", "organization": "Default"}
        returned = awx_modules.run(awx, "project", **project)
        assert returned["msg"] == "Project update failed"
        number = max(awx.updates)
        assert "Galaxy" in get(awx, f"project_updates/{number}/stdout/?format=txt")[2].data.decode()
        inventory = awx.add("inventories", name="fleet", organization=awx.one("organizations", name="Default")["id"])
        awx.add(
            "inventory_sources",
            name="s",
            inventory=inventory["id"],
            source="scm",
            source_project=awx.one("projects", name="code")["id"],
        )
        returned = awx_modules.run(
            awx, "inventory_source_update", name="s", inventory="fleet", wait=True, interval=0.01
        )
        refused = {"__all__": ["Missing a revision to run due to failed project update."]}
        assert returned["response"] == {"status_code": 400, "json": refused}


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "words"),
    [
        ("GET", "job_templates/?nam=x", {}, 400, "no field named 'nam'"),
        ("GET", "projects/?organization__nam=x", {}, 400, "no field named 'nam'"),
        ("GET", "nothing/", {}, 404, "could not be found"),
        ("GET", "projects/99999/", {}, 404, "could not be found"),
        ("GET", "projects/?page=9", {}, 404, "Invalid page."),
        ("POST", "teams/", {"name": "x"}, 400, "This field is required."),
        ("POST", "teams/", {"name": "x", "organization": 99999}, 400, "object does not exist"),
        ("POST", "teams/", {"name": "x", "organization": "ORG", "descripton": "y"}, 400, "no such field"),
        ("POST", "inventories/", {"name": "fleet", "organization": "ORG"}, 400, "already exists"),
        ("POST", "inventories/", {"name": "f2", "organization": "ORG", "variables": {"a": 1}}, 400, "Not a valid str"),
        ("POST", "job_templates/", {"name": "x", "playbook": "a.yml", "project": "PROJECT", "inventory": "FLEET"}, 400, "not found for project"),
        ("POST", "job_templates/", {"name": "x", "playbook": "playbooks/site.yml", "project": "PROJECT", "inventory": "FLEET", "ask_scm_branch_on_launch": True}, 400, "overriding branch"),
        ("POST", "credentials/", {"name": "x", "organization": "ORG", "credential_type": "TYPE", "inputs": {"x": "y"}}, 400, "unexpected"),
        ("POST", "credential_types/", {"name": "x", "kind": "cloud", "injectors": {"env": {"A": "{{ b }}"}}}, 400, "undefined"),
        *(
            ("POST", "credential_types/", {"name": "x", "kind": "cloud", "inputs": {"fields": [{"id": "a", "label": "A", **one}]}}, 400, words)
            for one, words in (
                ({"id": "a-b"}, "does not match"),
                ({"id": "tower"}, "reserved"),
                ({"type": "integer"}, "is not one of"),
                ({"secret": "yes"}, "is not of type"),
                ({"type": "boolean", "secret": True}, "not allowed for boolean"),
                ({"ask_at_runtime": True}, "not supported for custom"),
            )
        ),
        *(
            ("POST", "credential_types/", {"name": "x", "kind": "cloud", "injectors": one}, 400, words)
            for one, words in (
                ({"env": {"ANSIBLE_X": "1"}}, "not allowed to be used"),
                ({"extra_vars": {"a-b": "1"}}, "does not match"),
                ({"file": {"template": "1", "template.a": "1"}}, "multi-file"),
                ({"file": {"ca": "1"}}, "does not match"),
            )
        ),
        ("PATCH", "execution_environments/EE/", {"organization": "ORG"}, 400, "Cannot change the organization"),
        ("POST", "schedules/", {"name": "x", "unified_job_template": "PROJECT", "rrule": "DTSTART:20260101T000000Z"}, 400, "rule required"),
        ("POST", "schedules/", {"name": "x", "unified_job_template": "PROJECT", "rrule": "DTSTART:20260101T000000Z RRULE:FREQ=NEVER;INTERVAL=1"}, 400, "parsing failed"),
        *[
            ("POST", "schedules/", {"name": "x", "unified_job_template": "PROJECT", "rrule": f"DTSTART:20260101T000000Z {rule}"}, 400, words)
            for rule, words in (
                ("DTSTART:20270101T000000Z RRULE:FREQ=DAILY;INTERVAL=1", "Multiple DTSTART"),
                ("EXRULE:FREQ=DAILY;INTERVAL=1", "rule required"),
                ("RRULE:FREQ=DAILY;INTERVAL=1 EXDATE:20270101T000000Z", "EXDATE not allowed"),
                ("RRULE:FREQ=DAILY;INTERVAL=1;COUNT=1000", "not supported"),
                ("RRULE:FREQ=DAILY;INTERVAL=1;UNTIL=20270101", "parsing failed"),
            )
        ],
        ("POST", "schedules/", {"name": "x", "unified_job_template": "PROJECT", "rrule": "DTSTART;TZID=Berlin:20260101T000000 RRULE:FREQ=DAILY;INTERVAL=1"}, 400, "parsing failed"),
        ("POST", "workflow_job_templates/FLOW/survey_spec/", {"name": "", "description": "", "spec": []}, 400, "any items"),
        ("POST", "workflow_job_template_nodes/", {"identifier": "x", "workflow_job_template": "FLOW", "unified_job_template": "PROJECT", "limit": "a"}, 400, "not configured to prompt"),
        ("DELETE", "credential_types/TYPE/", {}, 403, "managed"),
        ("PATCH", "execution_environments/OWN/", {"image": "x"}, 403, "Only the 'pull' field"),
        ("DELETE", "credentials/GALAXY/", {}, 403, "managed"),
        ("POST", "credentials/", {"name": "x", "organization": "ORG", "credential_type": "REGISTRY", "inputs": {"host": "x", "verify_ssl": "yes"}}, 400, "boolean"),
        ("POST", "instance_groups/", {"name": "pods", "credential": "GALAXY"}, 400, "is_container_group"),
        ("POST", "instance_groups/", {"name": "pods", "credential": "GALAXY", "is_container_group": True}, 400, "Only Kubernetes"),
        ("PATCH", "instance_groups/GROUP/", {"is_container_group": True}, 400, "may not be changed"),
        ("GET", "labels/c++/", {}, 404, "could not be found"),
        ("PATCH", "settings/all/", {"X": 1}, 400, "no such setting"),
    ],
)  # fmt: skip
def test_what_awx_refuses_is_refused(awx, method, path, body, status, words):
    known = {
        "ORG": awx.one("organizations", name="modelyard")["id"],
        "PROJECT": awx.one("projects", name="code")["id"],
        "FLEET": awx.one("inventories", name="fleet")["id"],
        "FLOW": awx.one("workflow_job_templates", name="roll out")["id"],
        "TYPE": awx.one("credential_types", name="Machine")["id"],
        "EE": awx.one("execution_environments", name="AWX EE (24.6.1)")["id"],
        "OWN": awx.one("execution_environments", name="Control Plane Execution Environment")["id"],
        "REGISTRY": awx.one("credential_types", name="Container Registry")["id"],
        "GALAXY": awx.one("credentials", name="Ansible Galaxy")["id"],
        "GROUP": awx.one("instance_groups", name="default")["id"],
    }
    for name, number in known.items():
        path = path.replace(name, str(number))
    before = awx.state()
    got, answer, _ = get(
        awx,
        path,
        method,
        **{key: known.get(value, value) if isinstance(value, str) else value for key, value in body.items()},
    )
    assert (got, words in str(answer)) == (status, True), answer
    assert awx.state() == before


def test_a_rule_is_kept_on_one_line_with_its_end_in_utc_and_text_without_blanks_around_it(awx):
    project = awx.one("projects", name="code")["id"]
    rule = "DTSTART;TZID=Europe/Berlin:20260101T020000\nRRULE:FREQ=DAILY;INTERVAL=1;UNTIL=20300701T020000"
    kept = awx.add("schedules", name=" nightly\n", unified_job_template=project, rrule=rule)
    assert kept["rrule"] == (
        "DTSTART;TZID=Europe/Berlin:20260101T020000 RRULE:FREQ=DAILY;INTERVAL=1;UNTIL=20300701T000000Z"
    )
    assert kept["name"] == "nightly"


def test_a_node_without_a_template_keeps_no_answers(awx):
    flow = awx.one("workflow_job_templates", name="roll out")["id"]
    given = {"limit": "a", "extra_data": {"x": 1}, "all_parents_must_converge": True}
    node = awx.add("workflow_job_template_nodes", identifier="bare", workflow_job_template=flow, **given)
    assert (node["limit"], node["extra_data"], node["all_parents_must_converge"]) == (None, {}, True)


def test_a_text_of_a_notification_can_only_use_an_artifact_with_a_default(awx):
    org = awx.one("organizations", name="modelyard")["id"]
    body = {
        "name": "hook",
        "organization": org,
        "notification_type": "webhook",
        "notification_configuration": {"url": "u"},
    }
    text = "{{ job.artifacts.modelyard_results }}"
    status, answer, _ = get(awx, "notification_templates/", "POST", **body, messages={"error": {"body": text}})
    assert (status, "unavailable" in str(answer)) == (400, True)
    text = "{{ job.artifacts.modelyard_results | default({}) }}"
    assert get(awx, "notification_templates/", "POST", **body, messages={"error": {"body": text}})[0] == 201


def test_lists_have_pages_and_filters(awx):
    org = awx.one("organizations", name="modelyard")["id"]
    for number in range(5):
        awx.add("labels", name=f"label {number}", organization=org)
    status, answer, raw = get(awx, "labels/?page_size=2&order_by=-name")
    assert (status, raw.headers["X-API-Product-Name"], raw.headers["X-API-Product-Version"]) == (200, "AWX", "24.6.1")
    names, address = [], "labels/?page_size=2&order_by=-name"
    while address:
        _, answer, _ = get(awx, address.removeprefix("/api/v2/"))
        names += [one["name"] for one in answer["results"]]
        address = answer["next"]
    assert (answer["count"], names) == (5, [f"label {number}" for number in (4, 3, 2, 1, 0)])

    def found(query):
        return [one["name"] for one in get(awx, f"labels/?{query}")[1]["results"]]

    assert found("or__name=label 1&or__name=label 3") == ["label 1", "label 3"]
    assert found("name__in=label 1,label 2&not__name=label 2") == ["label 1"]
    assert found("name__startswith=label&organization__name=modelyard&name__endswith=4") == ["label 4"]
    assert found("organization__isnull=true") == []


def test_what_is_removed_takes_what_cannot_be_without_it_along(awx):
    with Awx() as awx:
        org = awx.add("organizations", name="modelyard")["id"]
        kind = awx.add("credential_types", name="cluster", kind="cloud", inputs={"fields": FIELDS})["id"]
        secret = awx.add("credentials", name="c", organization=org, credential_type=kind, inputs={"token": "secret"})[
            "id"
        ]
        assert get(awx, f"credentials/{secret}/")[1]["inputs"] == {"token": "$encrypted$"}
        assert get(awx, f"credential_types/{kind}/", "DELETE")[0] == 403
        flow = awx.add("workflow_job_templates", name="flow", organization=org)["id"]
        node = awx.add("workflow_job_template_nodes", identifier="n", workflow_job_template=flow)["id"]
        assert get(awx, f"workflow_job_templates/{flow}/", "DELETE")[0] == 204
        assert get(awx, f"workflow_job_template_nodes/{node}/")[0] == 404
        assert get(awx, f"credentials/{secret}/", "DELETE")[0] == 204
        assert get(awx, f"credential_types/{kind}/", "DELETE")[0] == 204
        inventory = awx.add("inventories", name="i", organization=org)["id"]
        project = awx.add("projects", name="p", organization=org, local_path="p")["id"]
        source = awx.add("inventory_sources", name="s", inventory=inventory, source="scm", source_project=project)
        update = awx.update("inventory_sources", source)
        assert get(awx, f"inventories/{inventory}/", "DELETE")[0] == 409
        update["status"] = "successful"
        assert get(awx, f"projects/{project}/", "DELETE")[0] == 204
        assert awx.all("inventory_sources") == []
        assert get(awx, f"inventories/{inventory}/", "DELETE")[0] == 202
        assert get(awx, f"inventories/{inventory}/")[1]["pending_deletion"] is True
        assert get(awx, f"inventories/{inventory}/", "DELETE")[0] == 400
        awx.collect()
        assert get(awx, f"inventories/{inventory}/")[0] == 404


def test_the_log_has_no_secret(awx):
    awx_modules.run(awx, "organization", login=True, name="modelyard")
    assert awx.log
    assert not [line for line in awx.log if awx.password in line or awx.token in line or "session-" in line]
