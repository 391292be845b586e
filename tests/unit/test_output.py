"""What a person reads of a plan and at a run's end: every line fits a narrow terminal, and says what differs."""

import json
import re
from types import SimpleNamespace

import pytest
from ansible import constants
from ansible_collections.modelyard.core.plugins.plugin_utils import actions, table
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import summary as aws_summary
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import difference, hiding, summary
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change

MODEL = "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"
ROWS = [
    {"workload": "triton-inference-gpu", "profile": "gpu", "model": "resnet18", "ready": "1/1", "node": "gpu-1", "gpus": "1", "answers": False},
    {"workload": "judge-vllm", "profile": "gpu-vllm", "model": MODEL, "ready": "1/1", "node": "ip-10-0-101-123,ip-10-0-101-124", "gpus": "1", "answers": False},
]  # fmt: skip
RENDERED = {"cluster": {"delivery": "direct", "namespace": "ml-models"}, "parts": []}


def deployment(*args: str, **spec):
    container = {
        "name": "c",
        "image": "registry/vllm:1",
        "args": list(args),
        "resources": {"limits": {"nvidia.com/gpu": 4}},
    }
    spec = {"replicas": 1, "template": {"spec": {"containers": [container]}}, **spec}
    return {"kind": "Deployment", "metadata": {"namespace": "n", "name": "d"}, "spec": spec}


def differing(before, after):
    return [line for lines in difference.described(before, after) for line in lines]


# --- What differs -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"replicas": 2}, {"replicas": 1}, ["replicas 2 -> 1"]),
        ({"a": [1, 2, 3]}, {"a": [1, 3, 4]}, ["a:", "  - 2", "  + 4"]),
        # An argument goes with its flag, whichever of the two differs.
        ({"args": ["--x", "1", "--y"]}, {"args": ["--x", "2", "--y"]}, ["args:", '  - "--x" "1"', '  + "--x" "2"']),
        ({"args": ["--y"]}, {"args": ["--x", "2", "--y"]}, ["args:", '  + "--x" "2"']),
        ({"a": None}, {"a": ["one"]}, ["a:", '  + "one"']),
        ({"a": ["one"]}, {"a": None}, ["a:", '  - "one"']),
        ({"a": ["one", "two"]}, {"a": ["two", "one"]}, ["a:", '  + "two"', '  - "two"']),
        ({"rules": [{"port": 1, "from": "x"}]}, {"rules": [{"port": 2, "from": "x"}]}, ["rules[0].port 1 -> 2"]),
        ({"run.sh": "a\nb\n"}, {"run.sh": "a\nc\n"}, ["run.sh:", "  - b", "  + c"]),
    ],
)  # fmt: skip
def test_a_field_that_differs_shows_what_goes_and_what_comes(before, after, lines):
    assert sorted(differing(before, after)) == sorted(lines)


@pytest.mark.parametrize(
    "long", [{"a": "x" * 300 + "1"}, {"a": ["x" * 300 + "1"]}, {"a": {"b": ["y", "x" * 300 + "1"]}}]
)
def test_long_values_are_never_cut_to_the_same_text(long):
    after = eval(repr(long).replace("1", "2"))
    (told,) = difference.described(long, after)
    assert len(max(told, key=len)) <= 2 * difference.LONGEST + 10
    assert "1" in difference.flat(told)
    assert "2" in difference.flat(told)


def test_a_long_list_is_cut_and_says_so():
    lines = differing({"a": []}, {"a": list(range(99))})
    assert lines[-1] == f"  ... and {99 - difference.MOST} more lines: see --diff"
    assert len(lines) == 2 + difference.MOST


def test_an_update_has_one_field_a_line_and_a_single_one_beside_its_object():
    before = deployment("--len=1", "--old")
    change = Change("update", before, before, deployment("--len=2", replicas=3))
    field = "spec.template.spec.containers[c].args"
    assert change.lines() == [
        "update Deployment n/d:",
        "  spec.replicas 1 -> 3",
        f"  {field}:",
        '    - "--len=1"',
        '    - "--old"',
        '    + "--len=2"',
    ]
    assert change.summary() == (
        f'update Deployment n/d: spec.replicas 1 -> 3; {field}: - "--len=1" - "--old" + "--len=2"'
    )
    change = Change("update", before, before, deployment("--len=1", "--old", replicas=3))
    assert change.lines() == ["update Deployment n/d: spec.replicas 1 -> 3"]
    change.notes.append("down for up to 600 s")
    assert change.lines()[1:] == ["  spec.replicas 1 -> 3", "  down for up to 600 s"]


CONTAINER = "spec.template.spec.containers[c]"


@pytest.mark.parametrize(
    ("more", "details"),
    [
        (
            {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]},
            [f'{CONTAINER}.env: - {{"name": "DB_PASSWORD", "value": "{hiding.MARK}"}}'],
        ),
        ({"args": ["--api-key", "hunter2"]}, [f'{CONTAINER}.args: - "--api-key" "{hiding.MARK}" + "--api-key" "$(KEY)"']),
        # Where nothing else differs, that something does is told, and where.
        ({"env": [{"name": "KEY", "value": "x"}, {"name": "API_KEY", "value": "hunter2"}]}, [f"{CONTAINER}.env[API_KEY].value: a credential"]),
    ],
)  # fmt: skip
def test_a_credential_that_a_run_takes_back_is_in_no_plan_and_no_record(more, details):
    before, after = deployment("--api-key", "$(KEY)"), deployment("--api-key", "$(KEY)")
    container = before["spec"]["template"]["spec"]["containers"][0]
    container |= more
    if "KEY" in str(more.get("env")):
        after["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": "KEY", "value": "x"},
            {"name": "API_KEY", "value": "sesame"},
        ]
    noted = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(before)}
    before["metadata"]["annotations"], after["metadata"]["annotations"] = noted, {}
    change = Change("update", before, before, after)
    said = json.dumps([change.summary(), change.lines(), change.diff()])
    assert [word for word in ("hunter2", "sesame") if word in said] == []
    assert all(text in change.summary() for text in details), change.summary()


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (deployment(), "create Deployment n/d: registry/vllm:1, 1 replica, 4 GPUs each"),
        (deployment(replicas=None), "create Deployment n/d: registry/vllm:1, 4 GPUs each"),
        (
            {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}, {"port": 53, "protocol": "UDP"}]}},
            "create Service s: 80/TCP, 53/UDP",
        ),
        ({"kind": "Secret", "metadata": {"name": "s"}, "data": {"password": "x"}}, "create Secret s"),
    ],
)  # fmt: skip
def test_what_is_made_says_what_matters_of_it(item, line):
    assert Change("create", item, None, item).lines() == [line]


# --- The closing table --------------------------------------------------------------------------------


def test_the_table_fits_a_narrow_terminal_and_loses_no_model():
    lines = summary.closing(RENDERED, ROWS, {}, 77)
    assert max(map(len, lines)) <= 77
    assert lines[0].split() == ["WORKLOAD", "PROFILE", "READY", "NODE", "GPUS"]
    assert lines[1].startswith("judge-vllm ")
    assert lines[2] == f"  {MODEL}"
    assert lines[-1] == "kubectl -n ml-models get pods"


def test_a_run_of_roles_without_a_server_closes_with_their_objects_or_why_there_are_none():
    role = {"kind": "Role", "metadata": {"name": "workflow-manager"}}
    part = {"enabled": True, "name": "shared", "component": "irsa", "objects": [role], "questions": []}
    assert summary.closing({**RENDERED, "parts": [part], "roles": ["irsa"]}, [], {}, 77)[:2] == [
        "KIND  NAME",
        "Role  workflow-manager",
    ]
    (told, *_) = summary.closing({**RENDERED, "roles": ["argocd_apps"]}, [], {}, 77)
    assert told.startswith("platform_delivery is direct: no Application is applied")


def test_a_job_is_given_no_path_of_its_own_files(monkeypatch):
    connection = {"kubeconfig": "/k", "context": "c"}
    assert summary.closing(RENDERED, ROWS, connection)[-1].startswith("kubectl --kubeconfig /k --context c -n")
    monkeypatch.setenv("AWX_JOB_ID", "7")
    assert summary.closing(RENDERED, ROWS, connection)[-1] == "kubectl -n ml-models get pods"


@pytest.mark.parametrize("width", [177, 0])
def test_a_wide_one_shows_all_of_it(width):
    head, judge, *_ = summary.closing(RENDERED, ROWS, {}, width)
    assert head.split() == ["WORKLOAD", "PROFILE", "MODEL", "READY", "NODE", "GPUS"]
    assert judge.split() == [ROWS[1][key] for key in summary.COLUMNS]


def test_what_does_not_fit_is_cut_with_a_mark_but_never_the_first_column():
    lines = table.columns(["name", "what"], [["n" * 30, "w" * 60]], 60)
    assert lines == [f"{'NAME':30}  WHAT", f"{'n' * 30}  {'w' * 27}…"]
    assert table.columns(["name", "what"], [["n" * 90, "w" * 9]], 60)[1].startswith("n" * 90)


def test_check_mode_says_would():
    assert summary.counted(0, check=True) == summary.counted(0, check=False) == "nothing to change"
    assert summary.counted(1, check=False) == "1 change"
    assert summary.counted(2, check=True) == "2 changes would be made, and nothing was written"


# --- Lines --------------------------------------------------------------------------------------------


class Display:
    verbosity, columns = 0, 79

    def __init__(self):
        self.lines = []

    def display(self, line, color=None, stderr=False):
        self.lines.append((line, color))


@pytest.fixture
def action():
    class Plan(actions.Action):
        def __init__(self):
            self._display, self._task = Display(), SimpleNamespace(check_mode=False)

    return Plan()


@pytest.mark.parametrize(
    ("line", "colour"),
    [
        ("create Deployment n/d", constants.COLOR_DIFF_ADD),
        ("would create Deployment n/d", constants.COLOR_DIFF_ADD),
        ("update Deployment n/d", constants.COLOR_CHANGED),
        ("prune Deployment n/d", constants.COLOR_DIFF_REMOVE),
        ('    - "--len=1"', constants.COLOR_DIFF_REMOVE),
        ("cluster local: nothing to change", None),
    ],
)
def test_a_line_has_the_colour_of_what_it_tells(action, line, colour):
    action.tell(line)
    assert action._display.lines == [(f"  {line}", colour)]


def test_check_mode_says_of_every_change_that_it_would_be(action):
    action._task.check_mode = True
    action.tell_change(["update Deployment n/d:", "  spec.replicas 1 -> 2"])
    assert [line for line, _ in action._display.lines] == [
        "  would update Deployment n/d:",
        "    spec.replicas 1 -> 2",
    ]


def test_with_several_clusters_every_line_names_its_own(action):
    action.cluster = "staging: "
    action.tell("create Deployment n/d")
    assert action._display.lines == [("  staging: create Deployment n/d", constants.COLOR_DIFF_ADD)]
    assert action.width == 79 - len("  staging: ")
    named = action._named({"warnings": ["w"], "diff": [{"before_header": "d", "after_header": "d", "before": ""}]})
    assert named == {
        "warnings": ["staging: w"],
        "diff": [{"before_header": "staging: d", "after_header": "staging: d", "before": ""}],
    }


# --- AWS ----------------------------------------------------------------------------------------------


OPTIONS = {
    "state": "present",
    "buckets": {"models": {}},
    "pod_identity": True,
    "oidc_issuer": "",
    "service_accounts": [
        {"namespace": "n", "name": name, "role_arn": f"arn:aws:iam::{account}:role/ml/{name}"}
        for name, account in (("vllm", "1" * 12), ("triton", "1" * 12), ("elsewhere", "2" * 12))
    ],
}


def test_an_aws_run_closes_with_all_that_there_is_and_what_became_of_it():
    changes = [
        "create role arn:aws:iam::111111111111:role/ml/vllm",
        "create policy p of role vllm",
        "change role triton: sessions of 3600 s",
        "delete role arn:aws:iam::111111111111:role/ml/former",
        "create Pod Identity association of n/vllm",
        f"delete OIDC provider arn:aws:iam::{'1' * 12}:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/{'A' * 32}",
    ]
    lines = aws_summary.closing(OPTIONS, "1" * 12, changes, check=False, width=77)
    assert [re.split("  +", line) for line in lines] == [
        ["KIND", "NAME", "STATE"],
        ["OIDC provider", "A" * 32, "deleted"],
        ["association", "n/triton", "as it was"],
        ["association", "n/vllm", "created"],
        ["bucket", "models", "as it was"],
        ["role", "former", "deleted"],
        ["role", "triton", "changed"],
        ["role", "vllm", "created"],
    ]
    (role,) = [
        line
        for line in aws_summary.closing(OPTIONS, "1" * 12, changes, check=True)
        if "role" in line and "vllm" in line
    ]
    assert role.endswith("to be created")
    assert aws_summary.closing({**OPTIONS, "state": "absent"}, "1" * 12, [], check=False) == []
