"""The inventories parse, set only variables that a role knows, and render what they rendered before the roles became one step.

Every inventory is rendered once, by one play; no cluster is asked.
"""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import check
from rendering import DESCRIBED, ROOT, playbook, run_render

KNOWN = {name for role in DESCRIBED.values() for name in role.variables}
ANSIBLE_OWN = {"ansible_connection", "ansible_python_interpreter", "ansible_pipelining"}
# That of AWX has no cluster.
INVENTORIES = sorted(path.name for path in (ROOT / "inventories").iterdir() if path.is_dir() and path.name != "awx")
# sha256 of each file's content of `playbooks/render.yml` at commit ab0d087, by inventory, cluster, folder and kind-name.
BEFORE = ROOT / "tests" / "rendered_before.json"


def variable_files():
    return sorted(
        path for kind in ("group_vars", "host_vars") for path in (ROOT / "inventories").glob(f"*/{kind}/**/*.yml")
    )


@pytest.fixture(scope="module")
def rendered() -> dict[str, dict[str, dict]]:
    """By inventory and host the rendering, of what is off too."""
    more = {"render_off": True, "argocd_apps_path": "infra/{{ platform_cluster_name }}/k8s"}
    return {name: run_render(Path("inventories", name), "-e", json.dumps(more)) for name in INVENTORIES}


@pytest.mark.parametrize("name", INVENTORIES)
def test_it_has_clusters_and_the_roles_take_it(rendered, name):
    assert rendered[name]
    assert {host: found["problems"] for host, found in rendered[name].items()} == {host: [] for host in rendered[name]}
    assert {
        host: [part["misfits"] for part in found["parts"] if part["misfits"]] for host, found in rendered[name].items()
    } == {host: [] for host in rendered[name]}


@pytest.mark.parametrize("file", variable_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_known_variables(file):
    names = set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    assert {name for name in names if not name.startswith("_")} - KNOWN - ANSIBLE_OWN == set()


@pytest.mark.parametrize(
    "file", [path for path in variable_files() if "clusters" in path.parts or "host_vars" in path.parts], ids=str
)
def test_a_file_is_named_after_the_role_whose_variables_it_holds(file):
    names = set(yaml.safe_load(file.read_text(encoding="utf-8")) or {})
    owners = {check.owner(name, DESCRIBED) for name in names - ANSIBLE_OWN}
    role = "platform" if file.stem == "connection" else file.stem
    assert owners <= {role}


def test_the_two_eks_clusters_differ_where_the_example_says(rendered):
    staging, production = (rendered["eks"][host] for host in ("staging", "production"))
    for key in ("api_server", "account_id", "region", "delivery"):
        assert staging["cluster"][key] != production["cluster"][key], key
    judges = [
        [part["profile"] for part in found["parts"] if part["role"] == "vllm_judge" and part["enabled"]]
        for found in (staging, production)
    ]
    assert judges[0] != judges[1]


def test_no_token_of_the_eks_example_goes_to_whom_nobody_checks(rendered):
    assert [one["cluster"].get("require_tls") for one in rendered["eks"].values()] == [True, True]


def test_the_inventories_of_this_machine_have_no_placeholder_and_the_others_only_such(rendered):
    found = {name: [len(one["placeholders"]) for one in hosts.values()] for name, hosts in rendered.items()}
    assert found["local"] == found["kind"] == [0]
    assert 0 not in found["eks"] + found["platform"]


def test_the_example_unchanged_is_refused_with_file_and_line_before_any_cluster_is_asked():
    done = playbook("site", "inventories/eks", "--check")
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    for host, variable, value in (
        ("staging", "platform_api_server", "0123456789ABCDEF"),
        ("staging", "platform_aws_account_id", "111122223333"),
        ("production", "platform_api_server", "FEDCBA9876543210"),
        ("production", "platform_aws_account_id", "444455556666"),
    ):
        file = f"inventories/eks/host_vars/{host}/platform.yml"
        lines = (ROOT / file).read_text().splitlines()
        (line,) = [number for number, text in enumerate(lines, 1) if text.startswith(variable)]
        assert value in said
        assert f"example's value: set your own (set at {file}:{line})" in said
    assert (
        "argocd_apps_repo_url is 'https://github.com/your-org/mlops-on-kubernetes': 'your-org' is an example's" in said
    )
    assert "cluster staging: Nothing was applied. 3 problems:" in said
    assert "What really is yours: list it in platform_accepted_placeholders" in said


def test_no_role_names_a_group():
    for file in (ROOT / "roles").rglob("*"):
        if file.is_file() and file.suffix in {".yml", ".j2"}:
            text = file.read_text(encoding="utf-8")
            assert "group_names" not in text
            assert "groups[" not in text


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def test_every_object_is_what_it_was(rendered):
    """What is deployed changes only on purpose: then this writes the new list, to be committed with the change."""
    found = {}
    for name, hosts in rendered.items():
        for host, result in hosts.items():
            files = tree.compose(layout.folders(result), result["cluster"]["name"], f"host {host}")
            top = f"{name}/{layout.parent(result).removeprefix('infra/')}"
            for path, text in files.items():
                content = yaml.load(text, Loader=yaml.CSafeLoader)
                found[f"{top}/{path.removesuffix('.yaml')}"] = digest(content)
    before = json.loads(BEFORE.read_text(encoding="utf-8"))
    different = sorted(path for path in {*before, *found} if before.get(path) != found.get(path))
    if different:
        new = ROOT / ".local" / BEFORE.name
        new.parent.mkdir(exist_ok=True)
        new.write_text(json.dumps(found, indent=0, sort_keys=True) + "\n", encoding="utf-8")
    assert different == [], f"changed on purpose? cp .local/{BEFORE.name} tests/"
