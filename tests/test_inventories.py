"""The inventories parse, and set only variables that a role knows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import applications as argocd
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs as inputs

ROOT = Path(__file__).parents[1]
SPECS = inputs.load_specs(ROOT / "roles")
KNOWN = {option for entries in SPECS.values() for option in entries.get("main", {})}
ANSIBLE_OWN = {"ansible_connection", "ansible_python_interpreter"}
INVENTORIES = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir())


def ansible(command, *arguments):
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    program = Path(sys.executable).parent / command
    return subprocess.run([program, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def variable_files():
    return sorted(
        path for kind in ("group_vars", "host_vars") for path in (ROOT / "inventories").glob(f"*/{kind}/**/*.yml")
    )


@pytest.mark.parametrize("name", INVENTORIES)
def test_it_parses_and_has_clusters(name):
    done = ansible("ansible-inventory", "-i", f"inventories/{name}", "--list")
    assert done.returncode == 0, done.stderr
    inventory = json.loads(done.stdout)
    assert inventory["clusters"]["hosts"]


@pytest.mark.parametrize("file", variable_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_known_variables(file):
    names = set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    assert {name for name in names if not name.startswith("_")} - KNOWN - ANSIBLE_OWN == set()


@pytest.mark.parametrize(
    "file", [path for path in variable_files() if "clusters" in path.parts or "host_vars" in path.parts], ids=str
)
def test_a_file_is_named_after_the_role_whose_variables_it_holds(file):
    names = set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    owners = {inputs.owner(name, SPECS) for name in names - ANSIBLE_OWN}
    role = "platform" if file.stem == "connection" else file.stem
    assert owners <= {role}


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_roles_take_it(name, tmp_path):
    play = tmp_path / "play.yml"
    checks = {"name": "platform", "tasks_from": "inputs"}
    roles = {
        "platform_inputs_roles": sorted(role for role, entries in SPECS.items() if entries and role != "model_server")
    }
    tasks = [{"ansible.builtin.import_role": checks, "vars": roles}]
    play.write_text(yaml.safe_dump([{"hosts": "clusters", "gather_facts": False, "tasks": tasks}]), encoding="utf-8")
    done = ansible("ansible-playbook", "-i", f"inventories/{name}", str(play))
    assert done.returncode == 0, done.stdout


def test_the_two_eks_clusters_differ_where_the_example_says():
    done = ansible("ansible-inventory", "-i", "inventories/eks", "--list")
    hosts = json.loads(done.stdout)["_meta"]["hostvars"]
    for name in (
        "platform_api_server",
        "platform_aws_account_id",
        "platform_aws_region",
        "platform_delivery",
        "vllm_judge_variant",
    ):
        assert hosts["staging"][name] != hosts["production"][name]


def test_no_role_names_a_group():
    for file in (ROOT / "roles").rglob("*"):
        if file.is_file() and file.suffix in {".yml", ".j2"}:
            text = file.read_text(encoding="utf-8")
            assert "group_names" not in text
            assert "groups[" not in text


def test_the_applications_follow_the_defaults_of_the_servers_roles():
    def default(role, name):
        return yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text(encoding="utf-8"))[name]

    ours = {
        name: default("argocd_apps", name)
        for name in ("argocd_apps_triton_profiles", "argocd_apps_vllm", "argocd_apps_judge")
    }
    judge = default("vllm_judge", "vllm_judge_variant")
    vllm = str(default("vllm", "vllm_enabled")).lower()
    assert ours == {
        "argocd_apps_triton_profiles": f"{{{{ triton_enabled_profiles | default({default('triton', 'triton_enabled_profiles')}) }}}}",
        "argocd_apps_vllm": f"{{{{ vllm_enabled | default({vllm}) }}}}",
        "argocd_apps_judge": f"{{{{ vllm_judge_variant | default({judge!r}) }}}}",
    }


def test_the_applications_assume_what_the_servers_roles_say():
    def read(role, folder="defaults"):
        return yaml.safe_load((ROOT / "roles" / role / folder / "main.yml").read_text(encoding="utf-8"))

    said = {**read("triton"), **read("vllm"), **read("vllm_judge"), **read("irsa")}
    assert {name: said[name] for name in argocd.DEFAULTS} == argocd.DEFAULTS
    builtin = read("triton", "vars")["__triton_profiles"]
    assert {name: profile["name"] for name, profile in builtin.items()} == argocd.TRITON_NAMES
    variants = read("vllm_judge", "vars")["__vllm_judge_variants"].values()
    assert not any({"name", "autoscaled", "parked"} & variant.keys() for variant in variants)


def test_the_project_may_deploy_what_is_applied():
    def read(role, folder):
        return yaml.safe_load((ROOT / "roles" / role / folder / "main.yml").read_text(encoding="utf-8"))

    applied = {
        (kind["api_version"].rpartition("/")[0], kind["kind"]) for kind in read("apply", "vars")["__apply_kinds"]
    }
    allowed = {(kind["group"], kind["kind"]) for kind in read("argocd_apps", "defaults")["argocd_apps_project_kinds"]}
    # A cache on a volume claim is applied, and never pruned.
    assert allowed == applied | {("", "PersistentVolumeClaim")}
