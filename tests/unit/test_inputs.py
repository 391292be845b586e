"""Wrong variables are reported, with what is allowed and where they are set; which layer of variables wins."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import check, specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, merge
from rendering import DESCRIBED, host, rendered

ROOT = Path(__file__).parents[2]


def complaints(role="platform", **given):
    """Render a role for one host: what is wrong."""
    return rendered(() if role == "platform" else (role,), **{"platform_cluster_name": "here", **given})["problems"]


@pytest.mark.parametrize("role", sorted(DESCRIBED))
def test_no_complaint_about_what_a_role_brings(role):
    option_of = {**DESCRIBED[role].axis, **DESCRIBED[role].options}
    brought = host(playbook_dir="/x").brought(role)
    for key, option in option_of.items():
        value = merge(option["builtin"], brought[key]) if "builtin" in option else brought[key]
        assert check.check_value(f"{role}_{key}", value, option, nested=value is None) == []
        assert (brought[key] is not None) or not option.get("required"), key


def test_no_complaint_about_the_defaults():
    assert complaints() == []


# --- What a role says of its variables ---


def described(folder, **said):
    """Write roles with an inputs.yml each, and read them."""
    for role, content in said.items():
        (folder / role / "meta").mkdir(parents=True)
        if content is not None:
            text = content if isinstance(content, str) else yaml.safe_dump(content)
            (folder / role / "meta" / "inputs.yml").write_text(text, encoding="utf-8")
    return folder


def about(**more):
    return {"short_description": "A role", "description": "Of a test", **more}


TEXT = {"type": "str", "description": "A text", "default": "a"}


def test_a_role_has_what_it_extends_and_states_what_differs(tmp_path):
    folder = described(
        tmp_path,
        base=about(options={"name": TEXT, "image": TEXT}),
        one=about(extends="base", options={"name": {"default": "one"}, "own": TEXT}, axis={"which": TEXT}),
        two=about(extends="one", options={"image": {"description": "Another"}}, axis={"all": {**TEXT, "type": "dict"}}),
    )
    found = specs.load(folder=folder)
    assert list(found) == ["base", "one", "two"]
    assert found["two"].options == {
        "name": {**TEXT, "default": "one"},
        "image": {**TEXT, "description": "Another"},
        "own": TEXT,
    }
    # What chooses the servers is no key of a profile, and not inherited; the keys of a profile are the role's variables.
    assert set(found["two"].variables) == {"two_all", "two_name", "two_image", "two_own"}
    assert found["two"].axis["all"]["entries"] == found["two"].options
    assert found["base"].options["name"] == TEXT


def test_a_role_is_read_with_what_it_extends_and_no_other(tmp_path):
    folder = described(tmp_path, a=about(options={"x": TEXT}), b=about(extends="a"), c=about(options={"y": TEXT}))
    assert set(specs.load(["b"], folder)) == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "role one: nothing describes its variables, so none of them could be checked: .*one/meta/inputs.yml is"),
        ("options: [", "role one: .*inputs.yml can't be read"),
        ("options: text", "role one: .*inputs.yml can't be read"),
        ("just a text", "role one: .*inputs.yml can't be read"),
        ({"options": {"name": TEXT}}, "role one: .*can't be read: KeyError.'short_description'"),
        (about(extends="nobody"), "role nobody: nothing describes its variables"),
        (about(options={"name": {"type": "str"}}), "role one: .*needs type and description: name"),
        (about(options={"name": {"description": "x"}, "ok": TEXT}), "needs type and description: name$"),
        (about(axis={"name": {"description": "x"}}), "needs type and description: name$"),
    ],
    ids=str,
)
def test_a_role_that_does_not_describe_its_variables_is_refused(tmp_path, content, message):
    folder = described(tmp_path, one=content)
    with pytest.raises(Failure, match=message):
        specs.load(["one"], folder)


def test_the_documentation_has_every_variable_and_the_keys_of_a_profile():
    found = specs.argument_specs(DESCRIBED["vllm"])["argument_specs"]
    assert set(found) == {"main", "vllm_profiles"}
    assert set(found["main"]["options"]) == set(DESCRIBED["vllm"].variables)
    assert set(found["vllm_profiles"]["options"]) == set(DESCRIBED["vllm"].options)
    kept = {key for options in found.values() for option in options["options"].values() for key in option}
    assert kept == {"type", "description", "default", "elements", "choices", "options"}


# --- Layers ---


def layered(said, **variables):
    """Give the inputs of roles that a test makes up, without templates."""
    roles = {name: specs.Role(name, extends, axis, options, {}) for name, (extends, axis, options) in said.items()}
    return Inputs(roles, variables, lambda value: value)


OPTIONS = {
    "name": {"type": "str", "default": "brought"},
    "count": {"type": "int", "default": 1},
    "labels": {"type": "dict", "default": {"a": "brought"}},
}
SERVERS = {"model_server": ("", {}, OPTIONS), "triton": ("model_server", {}, OPTIONS), "other": ("", {}, OPTIONS)}


def test_the_platforms_default_is_weaker_than_the_roles_own_variable_and_stronger_than_what_it_brings():
    assert layered(SERVERS).values("triton")["name"] == "brought"
    assert layered(SERVERS, model_server_name="all").values("triton")["name"] == "all"
    assert layered(SERVERS, model_server_name="all", triton_name="own").values("triton")["name"] == "own"
    assert layered(SERVERS, triton_name="own").values("model_server")["name"] == "brought"
    # Of no use to a role that is no model server.
    assert layered(SERVERS, model_server_name="all").values("other")["name"] == "brought"


def test_it_reaches_a_role_that_extends_one_that_extends():
    said = {**SERVERS, "judge": ("triton", {}, OPTIONS)}
    assert layered(said, model_server_name="all").values("judge")["name"] == "all"
    # A role's own variables are no defaults of those that extend it.
    assert layered(said, triton_name="own").values("judge")["name"] == "brought"


def test_a_dictionary_replaces_a_weaker_one():
    inputs = layered(SERVERS, model_server_labels={"b": "all"}, triton_labels={"c": "own"})
    assert inputs.values("triton")["labels"] == {"c": "own"}
    assert layered(SERVERS, model_server_labels={}).values("triton")["labels"] == {}


def test_what_is_built_in_is_merged_beneath():
    pools = {"type": "dict", "default": {}, "builtin": {"gpu": {"gpus": 1, "labels": {"w": "gpu"}}}}
    said = {"platform": ("", {}, {"pools": pools})}
    own = {"gpu": {"labels": {"x": "y"}}, "mine": {"gpus": 2}}
    assert layered(said, platform_pools=own).values("platform")["pools"] == {
        "gpu": {"gpus": 1, "labels": {"w": "gpu", "x": "y"}},
        "mine": {"gpus": 2},
    }
    assert layered(said).values("platform")["pools"] == pools["builtin"]


def test_merging_changes_neither():
    base, over = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2], "e": None}, "d": {"f": 1}}
    assert merge(base, over) == {"a": {"b": 1, "c": [2], "e": None}, "d": {"f": 1}}
    assert (base, over) == ({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2], "e": None}, "d": {"f": 1}})


def test_a_variable_keeps_working_under_its_earlier_name_and_a_notice_says_so():
    said = {
        "triton": ("", {}, {"access": {"type": "list", "elements": "str", "default": [], "was": "irsa_triton_access"}})
    }
    inputs = layered(said, irsa_triton_access=["a"])
    assert inputs.values("triton")["access"] == ["a"]
    assert inputs.notices == ["irsa_triton_access is called triton_access now"]
    assert inputs.misspelt() == []
    both = layered(said, irsa_triton_access=["a"], triton_access=["b"])
    assert both.values("triton")["access"] == ["b"]
    assert both.notices == []
    assert layered(said, irsa_triton_access="a").problems("triton") == ["irsa_triton_access is 'a': must be a list"]


@pytest.mark.parametrize("role", ["triton", "vllm", "vllm_judge"])
def test_the_access_of_a_server_was_called_otherwise(role):
    found = rendered((role,), **{f"irsa_{role}_access": [{"bucket": "mine"}], f"{role}_role_name": "reader"})
    assert found["problems"] == []
    assert f"irsa_{role}_access is called {role}_access now" in found["warnings"]
    on = [part for part in found["parts"] if part["enabled"]]
    assert [part["account"]["access"] for part in on] == [[{"bucket": "mine"}]] * len(on)


def test_a_value_that_is_wrong_is_left_out_and_the_others_count():
    inputs = layered(SERVERS, triton_count="many", triton_name="own")
    assert inputs.given("triton") == {"name": "own"}
    assert inputs.problems("triton") == ["triton_count is 'many': must be a whole number"]


def test_text_of_the_command_line_becomes_the_type():
    said = {"apply": ("", {}, {"force": {"type": "bool", "default": False}, "wait": {"type": "int", "default": 1}})}
    assert layered(said, apply_force="yes", apply_wait="30").values("apply") == {"force": True, "wait": 30}
    assert layered(said, apply_force="no").values("apply")["force"] is False


def test_what_is_required_must_be_set():
    said = {"apply": ("", {}, {"rendered": {"type": "dict", "required": True}})}
    assert layered(said).problems("apply") == ["apply_rendered is not set: it is required by the role apply"]


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
        ("vllm_enabled_profile", "vllm_enabled_profiles"),
        ("model_server_replica", "model_server_replicas"),
        ("modelserver_replicas", "model_server_replicas"),
    ],
)
def test_misspelt_names(name, right):
    assert check.misspelt([name], DESCRIBED)[name][0] == right


@pytest.mark.parametrize(
    "name",
    [
        "platform_namespace",
        "model_server_replicas",
        "irsa_triton_access",
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
    assert check.misspelt([name], DESCRIBED) == {}


@pytest.mark.parametrize(
    "name",
    [
        "argocd_apps_triton_profiles",
        "argocd_apps_vllm",
        "argocd_apps_judge",
        "argocd_apps_vllm_name",
        "argocd_apps_triton_prefix",
    ],
)
def test_a_variable_that_is_gone_is_refused(name):
    assert any(f"{name} is" in line and "no such variable" in line for line in complaints("argocd_apps", **{name: "x"}))


def test_the_longest_role_owns_a_name():
    roles = {
        "vllm": specs.Role("vllm", "", {}, {"image": TEXT}, {}),
        "vllm_judge": specs.Role("vllm_judge", "vllm", {"variant": TEXT}, {}, {}),
    }
    assert check.owner("vllm_judge_image", roles) == "vllm_judge"
    assert check.misspelt(["vllm_judge_image"], roles)["vllm_judge_image"][1] == "vllm_judge"
    assert check.misspelt(["vllm_judge_variants"], roles)["vllm_judge_variants"] == (
        "vllm_judge_variant",
        "vllm_judge",
    )
    assert check.misspelt(["vlllm_image"], roles)["vlllm_image"] == ("vllm_image", "vllm")
    assert check.misspelt(["new_x"], roles) == {}


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("vllm_ingress", {"host": "models.example.com"}, "{'host': 'models.example.com'}"),
        ("vllm_ingress", {"host": "h", "API_TOKEN": "hush"}, "{'host': 'h', 'API_TOKEN': (hidden)}"),
        ("vllm_sidecar", [{"name": "A_PASSWORD", "value": "hush"}], "[{'name': 'A_PASSWORD', 'value': (hidden)}]"),
        ("vllm_hf_token", "hush", "(hidden)"),
        ("vllm_password", "hush", "(hidden)"),
        # Of a role with a credential, any structure may be it.
        ("platform_whatever", {"user": "hush"}, "(hidden)"),
    ],
)
def test_of_an_unknown_variable_the_credentials_alone_are_hidden(name, value, shown):
    roles = specs.load()
    role = check.owner(name, roles)
    line = check.misspelt_problem(name, value, None, role, roles, "")
    assert line.startswith(f"{name} is {shown}: no such variable of the role {role}, ")


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
        (
            {"platform_image_pull_seconds": -1},
            "platform_image_pull_seconds is -1: must be a whole number from 0 to 604800",
        ),
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
        (
            {"platform_api_server": "http://api", "platform_require_tls": True},
            "must begin with https, since platform_require_tls",
        ),
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
        ({"platform_irsa_role_path": f"/{'p' * 511}/"}, "must begin and end with /, with up to 512 characters"),
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
    - modelyard.core.render: {roles: [irsa, argocd_apps]}
      register: rendered
    - ansible.builtin.debug: {var: rendered.problems}
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


def test_one_run_reports_everything_and_where(tmp_path):
    (tmp_path / "group_vars").mkdir()
    (tmp_path / "hosts.yml").write_text("clusters: {hosts: {here: {ansible_connection: local}}}\n", encoding="utf-8")
    file = tmp_path / "group_vars" / "clusters.yml"
    file.write_text(GROUP_VARS, encoding="utf-8")
    (tmp_path / "play.yml").write_text(PLAY, encoding="utf-8")
    wrong = ["-e", "platform_delivery=gitop", "-e", "argocd_apps_pth=x"]
    program = Path(sys.executable).parent / "ansible-playbook"
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment |= {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    command = [program, "-i", tmp_path / "hosts.yml", *wrong, tmp_path / "play.yml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hush" not in done.stdout + done.stderr
    task = json.loads(done.stdout)["plays"][0]["tasks"][-1]
    assert set(task["hosts"]["here"]["rendered.problems"]) == {
        f"{told} (set at {place})"
        for told, place in {
            "platform_namespace is True: must be a text: put it in quotes": f"{file}:3",
            "platform_namspace is 'x': no such variable of the role platform, did you mean platform_namespace?": f"{file}:4",
            "platform_connection.context is '{{ nowhere }}': 'nowhere' is undefined": f"{file}:6",
            "platform_conection is (hidden): no such variable of the role platform, did you mean platform_connection?": f"{file}:7",
            "platform_hardware_profiles.gpu.labels.workload is False: must be a text: put it in quotes": f"{file}:10",
            "irsa_workflow_role_name is 'irsa-role !': must be up to 64 letters, digits and +=,.@_-, or a whole ARN": f"{file}:12",
            "platform_delivery is 'gitop': must be one of direct, gitops": "<CLI option '-e'>",
            "argocd_apps_pth is 'x': no such variable of the role argocd_apps, did you mean argocd_apps_path?": "<CLI option '-e'>",
        }.items()
    }
