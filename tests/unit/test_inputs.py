"""Wrong variables are reported, with what is allowed and where they are set."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs as inputs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.platform import check_platform

ROOT = Path(__file__).parents[2]
SPECS = inputs.load_specs(ROOT / "roles")


def defaults(role):
    values = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8"))
    values |= {"platform_cluster_name": "here", "platform_api_server": "https://x", "platform_aws_account_id": "1" * 12}
    return {name: value for name, value in values.items() if "{{" not in str(value)}


BUILTIN = yaml.safe_load((ROOT / "roles/platform/vars/main.yml").read_text(encoding="utf-8"))[
    "__platform_hardware_profiles"
]


def complaints(role="platform", **given):
    """Check a role with some variables set, untemplated."""
    values, lines = inputs.check_role(role, SPECS[role], defaults(role) | given, lambda value: value)
    if role == "platform":
        profiles = {name: dict(profile) for name, profile in BUILTIN.items()}
        for name, profile in values.get("platform_hardware_profiles", {}).items():
            profiles[name] = profiles.get(name, {}) | profile
        lines += check_platform(values, profiles)
    return lines


@pytest.mark.parametrize("role", sorted(role for role, entries in SPECS.items() if "main" in entries))
def test_defaults_are_right_and_all_described(role):
    file = ROOT / "roles" / role / "defaults" / "main.yml"
    names = set(yaml.safe_load(file.read_text(encoding="utf-8")) or {}) if file.is_file() else set()
    unset = {name for name, option in SPECS[role]["main"].items() if option.get("required") or "default" not in option}
    assert names - set(SPECS[role]["main"]) == set(), "has a default, but is not in the argument spec"
    assert set(SPECS[role]["main"]) - names - unset == set(), "says a default that defaults/main.yml lacks"


@pytest.mark.parametrize("role", ["platform", "irsa", "argocd_apps"])
def test_no_complaint_about_the_defaults(role):
    assert complaints(role) == []


# --- Names ---


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("platform_namspace", "platform_namespace"),
        ("platform_image_pull_secrts", "platform_image_pull_secrets"),
        ("plattform_delivery", "platform_delivery"),
        ("argo_apps_path", "argocd_apps_path"),
        ("argocd_app_path", "argocd_apps_path"),
        ("PLATFORM_DELIVERY", "platform_delivery"),
        ("irsa_workflow_rolename", "irsa_workflow_role_name"),
        ("irsa_something_else", None),
        ("triton_repilcas", "triton_replicas"),
        ("tritn_replicas", "triton_replicas"),
        ("vllm_judge_varient", "vllm_judge_variant"),
        ("vllmjudge_variant", "vllm_judge_variant"),
        ("vlm_image", "vllm_image"),
    ],
)
def test_misspelt_names(name, right):
    assert inputs.misspelt([name], SPECS)[name][0] == right


@pytest.mark.parametrize(
    "name",
    [
        "platform_namespace",
        "__platform_x",
        "ansible_platform_x",
        "team",
        "groups",
        "inventory_hostname",
        "platforms",
        "my_platform_delivery",
    ],
)
def test_names_that_are_nobodys_business(name):
    assert inputs.misspelt([name], SPECS) == {}


def test_the_longest_role_owns_a_name():
    specs = {"vllm": {"main": {"vllm_image": {}}}, "vllm_judge": {"main": {"vllm_judge_variant": {}}}, "new": {}}
    assert inputs.owner("vllm_judge_image", specs) == "vllm_judge"
    assert inputs.misspelt(["vllm_judge_image"], specs)["vllm_judge_image"][1] == "vllm_judge"
    assert inputs.misspelt(["vllm_judge_variants"], specs)["vllm_judge_variants"] == (
        "vllm_judge_variant",
        "vllm_judge",
    )
    assert inputs.misspelt(["vlllm_image"], specs)["vlllm_image"] == ("vllm_image", "vllm")
    assert inputs.misspelt(["new_x"], specs) == {}, "a role without a spec reports nothing"


# --- Types and values ---


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"platform_delivery": "gitop"}, "platform_delivery is 'gitop': must be one of direct, gitops"),
        ({"platform_namespace": ["x"]}, "platform_namespace is ['x']: must be a text"),
        ({"platform_namespace": 1.5}, "platform_namespace is 1.5: must be a text: put it in quotes"),
        ({"platform_namespace": None}, "platform_namespace is None: must be a text"),
        ({"platform_create_namespaces": "maybe"}, "platform_create_namespaces is 'maybe': must be true or false"),
        ({"platform_image_pull_secrets": "x"}, "platform_image_pull_secrets is 'x': must be a list"),
        ({"platform_image_pull_secrets": [{}]}, "platform_image_pull_secrets[0] is {}: must be a text"),
        ({"platform_connection": "x"}, "platform_connection is (hidden): must be a dictionary"),
        (
            {"platform_connection": {"contxt": "secret"}},
            "platform_connection.contxt is (hidden): no such key, did you mean context?",
        ),
        ({"platform_connection": {"api_key": ["s"]}}, "platform_connection.api_key is (hidden): must be a text"),
        ({"platform_image_pull_seconds": "ten"}, "platform_image_pull_seconds is 'ten': must be a whole number"),
        ({"platform_image_pull_seconds": True}, "platform_image_pull_seconds is True: must be a whole number"),
        ({"platform_image_pull_seconds": -1}, "platform_image_pull_seconds is -1: must be 0 or more"),
        ({"platform_extra_labels": {"a": True}}, "platform_extra_labels.a is True: must be a text: put it in quotes"),
        ({"platform_extra_labels": {"a": "b c"}}, "platform_extra_labels.a is 'b c': must be up to 63"),
        ({"platform_extra_labels": {"a b": "c"}}, "platform_extra_labels.a b is 'c': the key must be"),
        ({"platform_extra_labels": {"app": "x"}}, "platform_extra_labels.app is 'x': modelyard sets this key itself"),
        (
            {"platform_extra_annotations": {"a": 1}},
            "platform_extra_annotations.a is 1: must be a text: put it in quotes",
        ),
        ({"platform_namespace": "ML_models"}, "platform_namespace is 'ML_models': must be a name of up to 63"),
        ({"platform_namespace": ""}, "platform_namespace is '': must be a name of up to 63"),
        ({"platform_cluster_name": "arn:aws:eks:x/y"}, "platform_cluster_name is 'arn:aws:eks:x/y': becomes a label"),
        ({"platform_api_server": "api.example.com"}, "platform_api_server is 'api.example.com': must be a URL"),
        ({"platform_api_server": ""}, "platform_api_server and platform_kube_system_uid are both empty"),
        ({"platform_kube_system_uid": "x"}, "platform_kube_system_uid is 'x': must be a UID"),
        ({"platform_aws_account_id": "123"}, "platform_aws_account_id is '123': must be the 12 digits"),
        ({"platform_aws_account_id": 0o12345670123}, "YAML reads a number with a leading 0 as octal"),
        ({"platform_aws_account_id": ""}, "because the ServiceAccounts name IAM roles"),
        (
            {"platform_aws_partition": "aws-eu"},
            "platform_aws_partition is 'aws-eu': must be one of aws, aws-cn, aws-us-gov",
        ),
        (
            {"platform_aws_region": "cn-north-1"},
            "platform_aws_partition is 'aws': must be aws-cn, the partition of the region",
        ),
        ({"platform_aws_region": "frankfurt"}, "platform_aws_region is 'frankfurt': must be an AWS region"),
        ({"platform_irsa_role_path": "team"}, "platform_irsa_role_path is 'team': must begin and end with /"),
        ({"platform_hf_token_secret": {"name": "x"}}, "needs name and key, or neither"),
        ({"platform_hf_endpoint": "hf"}, "platform_hf_endpoint is 'hf': must be a URL"),
        (
            {"platform_proxy": {"https_proxy": "proxy:3128"}},
            "platform_proxy.https_proxy is 'proxy:3128': must be a URL",
        ),
        (
            {"platform_proxy": {"https_proxy": "http://me:hush@proxy:3128"}},
            "platform_proxy.https_proxy is 'http://(hidden)@proxy:3128': must be a URL such as",
        ),
        (
            {"platform_hf_endpoint": "https://hush@hf.example.com"},
            "platform_hf_endpoint is 'https://(hidden)@hf.example.com': must be a URL such as",
        ),
        (
            {"platform_connection": {"proxy": "http://me:hush@proxy:3128"}},
            "platform_connection.proxy is 'http://(hidden)@proxy:3128': must be a URL",
        ),
        (
            {"platform_image_registry_mirrors": {"nvcr.io": "https://m"}},
            "platform_image_registry_mirrors.nvcr.io is 'https://m'",
        ),
        ({"platform_hardware_profiles": {"gpu": 3}}, "platform_hardware_profiles.gpu is 3: must be a dictionary"),
        (
            {"platform_hardware_profiles": {"gpu": {"gpuz": 1}}},
            "platform_hardware_profiles.gpu.gpuz is 1: no such key, did you mean gpus?",
        ),
        (
            {"platform_hardware_profiles": {"gpu": {"gpus": "two"}}},
            "platform_hardware_profiles.gpu.gpus is 'two': must be a whole",
        ),
        (
            {"platform_hardware_profiles": {"gpu": {"taints": [{"key": "a", "effect": "NoSchedul"}]}}},
            "platform_hardware_profiles.gpu.taints[0].effect is 'NoSchedul': must be one of NoSchedule",
        ),
        (
            {"platform_hardware_profiles": {"gpu": {"taints": [{"key": "a"}]}}},
            "taints[0] is {'key': 'a'}: needs effect",
        ),
        (
            {"platform_hardware_profiles": {"gpu": {"allocatable": {"cpu": "4 cores", "memory": "1Gi"}}}},
            "platform_hardware_profiles.gpu.allocatable.cpu is '4 cores': must be a quantity such as 3920m",
        ),
        (
            {"platform_hardware_profiles": {"new": {"gpus": 1}}},
            "needs instance_type, labels, allocatable, gpu_type, gpu_memory_gib",
        ),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else "",
)
def test_platform_complaints(given, expected):
    lines = complaints(**given)
    assert any(expected in line for line in lines), lines
    assert "hush" not in str(lines)


def test_numbers_and_truth_may_come_from_the_command_line():
    assert complaints(platform_image_pull_seconds="30", platform_create_namespaces="false") == []


def test_a_broken_part_does_not_hide_the_others():
    wrong = {
        "platform_delivery": "x",
        "platform_aws_region": "y",
        "platform_connection": {"a": 1},
        "platform_namespace": "Z",
    }
    assert len(complaints(**wrong)) == 4


def test_a_profile_of_ones_own():
    own = {
        "instance_type": "g6e.xlarge",
        "labels": {"workload": "gpu-l40s"},
        "taints": [{"key": "nvidia.com/gpu", "effect": "NoSchedule"}],
        "gpus": 1,
        "gpu_type": "L40S",
        "gpu_memory_gib": 44.4,
        "allocatable": {"cpu": "3920m", "memory": "29317Mi"},
    }
    assert complaints(platform_hardware_profiles={"gpu-l40s": own, "gpu": {"gpu_memory_gib": 15}}) == []


@pytest.mark.parametrize(
    ("role", "given", "expected"),
    [
        ("irsa", {"irsa_workflow_role_name": "a b"}, "irsa_workflow_role_name is 'a b': must be up to 64 letters"),
        ("irsa", {"irsa_workflow_role_name": "arn:aws:iam::1:role/x"}, "must be an ARN like"),
        (
            "irsa",
            {"irsa_workflow_rules": [{"verbs": ["get"]}]},
            "irsa_workflow_rules[0] is {'verbs': ['get']}: needs apiGroups and",
        ),
        (
            "argocd_apps",
            {"argocd_apps_retry": {"limits": 3}},
            "argocd_apps_retry.limits is 3: no such key, did you mean limit?",
        ),
        (
            "argocd_apps",
            {"argocd_apps_overrides": {"x": {"pth": "y"}}},
            "argocd_apps_overrides.x.pth is 'y': no such key, did you mean path?",
        ),
        ("argocd_apps", {"argocd_apps_extra": {"x": "y"}}, "argocd_apps_extra.x is 'y': must be a dictionary"),
    ],
)
def test_complaints_of_other_roles(role, given, expected):
    lines = complaints(role, **given)
    assert any(expected in line for line in lines), lines


# --- The action ---

PLAY = """
- hosts: clusters
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: platform, tasks_from: inputs}
      vars: {platform_inputs_roles: [irsa, argocd_apps]}
    - ansible.builtin.import_role: {name: platform, tasks_from: inputs}
      vars: {platform_inputs_roles: [irsa]}
"""

GROUP_VARS = """\
platform_api_server: https://x
platform_aws_account_id: "123456789012"
platform_namespace: true
platform_namspace: x
platform_connection:
  context: "{{ nowhere }}"
platform_conection: {api_key: hush}
platform_hardware_profiles:
  gpu:
    labels: {workload: false}
helper: irsa-role
irsa_workflow_role_name: "{{ helper }} !"
"""


def run(folder, group_vars, *arguments):
    (folder / "group_vars").mkdir()
    (folder / "hosts.yml").write_text("clusters: {hosts: {here: {ansible_connection: local}}}\n", encoding="utf-8")
    (folder / "group_vars" / "clusters.yml").write_text(group_vars, encoding="utf-8")
    (folder / "play.yml").write_text(PLAY, encoding="utf-8")
    command = [
        Path(sys.executable).parent / "ansible-playbook",
        "-i",
        folder / "hosts.yml",
        *arguments,
        folder / "play.yml",
    ]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_one_run_reports_everything_and_where(tmp_path):
    done = run(tmp_path, GROUP_VARS, "-e", "platform_delivery=gitop", "-e", "argocd_apps_pth=x")
    file = tmp_path / "group_vars" / "clusters.yml"
    lines = [line.strip() for line in done.stdout.splitlines() if line.strip().startswith("- ")]
    assert done.returncode == 2, done.stdout
    for expected, place in {
        "platform_namespace is True: must be a text: put it in quotes": f"{file}:3",
        "platform_namspace is 'x': no such variable of the role platform, did you mean platform_namespace?": f"{file}:4",
        "platform_connection.context is '{{ nowhere }}': 'nowhere' is undefined": f"{file}:6",
        "platform_conection is (hidden): no such variable of the role platform, did you mean platform_connection?": f"{file}:7",
        "platform_hardware_profiles.gpu.labels.workload is False: must be a text: put it in quotes": f"{file}:10",
        "irsa_workflow_role_name is 'irsa-role !': must be up to 64 letters, digits and +=,.@_-, or a whole ARN": f"{file}:12",
        "platform_delivery is 'gitop': must be one of direct, gitops": "<CLI option '-e'>",
        "argocd_apps_pth is 'x': no such variable of the role argocd_apps, did you mean argocd_apps_path?": "<CLI option '-e'>",
    }.items():
        assert f"- {expected} (set at {place})" in lines
    assert "hush" not in done.stdout + done.stderr


def test_right_variables_pass_once_and_for_all(tmp_path):
    done = run(tmp_path, 'platform_api_server: https://x\nplatform_aws_account_id: "123456789012"\n')
    assert done.returncode == 0, done.stdout
    assert "ok=2" in done.stdout
