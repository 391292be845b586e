"""The rendered tree: kubectl and kustomize build from it exactly what the roles apply, field by field. Needs no cluster."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from rendering import ROOT, playbook, rendered, run_render

# The committed tree, of inventories/platform: it is what the inventory says, or the first test fails.
INFRA = ROOT / "infra"
NAMESPACE = "ml-models"
# platform.md's paths.
CONTRACT = [
    *(
        f"k8s/{path}"
        for path in ("triton/base", "triton/overlays/cpu", "triton/overlays/gpu", "vllm/base", "vllm/judge")
    ),
    *(f"k8s/{path}" for path in ("vllm/judge-large", "vllm/overlays/judge", "vllm/overlays/judge-large", "shared")),
]
APPLICATIONS = [
    *("triton/triton-inference-cpu.yaml", "triton/triton-inference-gpu.yaml", "vllm/vllm-inference.yaml"),
    *("vllm/vllm-inference-judge.yaml", "vllm/vllm-inference-judge-large.yaml", "shared/ml-models-shared.yaml"),
]
WANTED = ["triton/overlays/cpu", "triton/overlays/gpu", "vllm/base", "vllm/judge", "shared"]

# Clusters of one repository, beside the contract's own.
CLUSTERS = {
    "large": {
        "vllm_judge_variant": "judge-large",
        "vllm_judge_parked": True,
        "triton_enabled_profiles": ["nothing", "gpu"],
        "triton_profiles": {"nothing": {}},
    },
    "own": {
        "platform_namespace": "models",
        "triton_enabled_profiles": ["cpu", "gpu", "big", "apart"],
        # Without a disruption budget in the base.
        "triton_replicas": 1,
        "triton_profiles": {
            "big": {"name": "triton-inference-big", "replicas": 3, "service_account_name": "triton-inference-big"},
            "apart": {"name": "server", "monitoring_enabled": False},
        },
        "triton_env": {"A": "1e3", "B": "y", "C": "0o17", "D": "two\nlines \n", "E": "012", "F": "{{ 'a: b #c' }}"},
        "triton_extra_args": ["--id=null", "--id", "- y", "--id", "true"],
        "vllm_enabled": False,
        "vllm_judge_variant": "tiny",
        "vllm_judge_variants": {
            "tiny": {"model": "org/tiny-model", "startup_seconds": 120, "hardware_profile": "gpu-vllm"}
        },
        "irsa_workflow_enabled": False,
        "argocd_apps_shared": False,
    },
    "several": {
        "vllm_enabled_profiles": ["fast", "vllm"],
        "vllm_profiles": {
            "fast": {},
            "tuned": {
                "name": "llm",
                "adapter_slots": {"summaries": "live"},
                "cache": {"type": "claim", "size": "20Gi"},
            },
        },
        "platform_extra_objects": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"key": "value"}}
        ],
        # Two servers that are on can't share a host.
        "triton_enabled_profiles": ["cpu"],
        "triton_ingress": {"className": "nginx"},
        "triton_autoscaling": {"maxReplicas": 3},
        "vllm_judge_variant": "judge",
        "mlserver_enabled_profiles": ["mlserver"],
        "mlserver_models": {"iris": {"registered_model": "iris", "alias": "live"}},
        "mlserver_profiles": {"off": {}},
    },
}


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(done) -> str:
    return " ".join((done.stdout + done.stderr).split())


def identity(item: dict) -> tuple:
    return item["apiVersion"], item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]


def by_identity(items: list[dict]) -> dict[tuple, dict]:
    found = {identity(item): item for item in items}
    assert len(found) == len(items)
    return found


def render(repository: Path, *args, inventory="inventories/platform", check=True) -> subprocess.CompletedProcess:
    """Write the tree of an inventory below a folder."""
    done = playbook("render", inventory, "-e", json.dumps({"tree_repository": str(repository)}), *args)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def build():
    """Build a folder with kubectl's kustomize and with kustomize itself, and give what both make of it."""

    def run(*args) -> str:
        return subprocess.run([str(arg) for arg in args], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    run("controlplane/cluster", "build")
    kubectl = Path(run("controlplane/cluster", "bin").strip(), "kubectl")
    kustomize = run("controlplane/cluster", "kustomize").strip()

    def build_(folder: Path) -> dict[tuple, dict]:
        texts = [run(kubectl, "kustomize", folder), run(kustomize, "build", folder)]
        one, other = (by_identity(list(yaml.load_all(text, Loader=yaml.CSafeLoader))) for text in texts)
        assert one == other
        return one

    return build_


# --- The committed tree -----------------------------------------------------------------------------


def test_the_committed_tree_is_what_the_inventory_says():
    before = files_of(INFRA)
    done = render(ROOT, "--check", "--diff")
    assert "changed=0" in done.stdout, f"run: make render\n{done.stdout}"
    assert f"{len(before)} files, 0 written, 0 removed" in said(done)
    assert files_of(INFRA) == before


def test_its_paths_are_the_contracts():
    rendered = files_of(INFRA)
    assert [path for path in CONTRACT if f"{path}/kustomization.yaml" not in rendered] == []
    assert [path for path in APPLICATIONS if f"argocd/{path}" not in rendered] == []
    folders = {path.relative_to(INFRA).as_posix() for path in INFRA.rglob("*") if path.is_dir()}
    assert folders == {
        *CONTRACT,
        *("k8s", "k8s/triton", "k8s/triton/overlays", "k8s/vllm", "k8s/vllm/overlays"),
        *("argocd", "argocd/triton", "argocd/vllm", "argocd/shared"),
    }


def test_each_file_holds_one_object_named_after_it_and_says_whence_it_came():
    for path, content in files_of(INFRA).items():
        lines = content.decode().splitlines()
        assert "do not edit" in lines[0], path
        assert lines[1] == "# Cluster ml-platform, host ml-platform of inventories/platform", path
        assert lines[2].startswith("# Variables: "), path
        (item,) = yaml.safe_load_all(content)
        stem = Path(path).stem
        if isinstance(item, dict) and stem != "kustomization" and not stem.startswith("patch-"):
            kind = [] if item["kind"] == "Application" else [item["kind"].lower()]
            assert stem == "-".join([*kind, item["metadata"]["name"]])
        assert str(ROOT).encode() not in content


def test_the_applications_that_are_on_are_the_contracts(build):
    found = {name: item["spec"]["source"]["path"] for (_, _, _, name), item in build(INFRA / "argocd").items()}
    assert found == {
        "triton-inference-cpu": "infra/k8s/triton/overlays/cpu",
        "triton-inference-gpu": "infra/k8s/triton/overlays/gpu",
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
        "ml-models-shared": "infra/k8s/shared",
    }


@pytest.fixture(scope="module")
def built(build) -> dict[str, dict[tuple, dict]]:
    """{folder: its objects} of every folder of the tree."""
    folders = sorted(path.parent for path in INFRA.rglob("kustomization.yaml"))
    return {folder.relative_to(INFRA).as_posix(): build(folder) for folder in folders}


def test_every_folder_builds(built):
    assert set(built) == {path.relative_to(INFRA).as_posix() for path in INFRA.rglob("*") if path.is_dir()}
    parts = {path: {**built[path]} for path in built}
    both = built["k8s/vllm/base"] | built["k8s/vllm/judge-large"]
    assert parts["k8s/vllm/overlays/judge-large"] == both
    everything = {key: item for path in WANTED for key, item in built[f"k8s/{path}"].items()}
    assert built["k8s"] == everything
    assert len(everything) == sum(len(built[f"k8s/{path}"]) for path in WANTED)


# --- Several clusters -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clusters(tmp_path_factory) -> tuple[Path, dict[str, dict]]:
    """A repository with the trees of several clusters, and by cluster what the roles render for it."""
    folder = tmp_path_factory.mktemp("clusters")
    common = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "{{ ansible_playbook_python }}",
        "platform_api_server": "https://127.0.0.1:6443",
        "platform_aws_account_id": "123456789012",
        "argocd_apps_path": "infra/{{ platform_cluster_name }}/k8s",
    }
    inventory = folder / "hosts.yml"
    inventory.write_text(json.dumps({"clusters": {"hosts": CLUSTERS, "vars": common}}))
    render(folder, inventory=inventory)
    return folder, run_render(inventory)


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_clusters_folder_is_what_its_roles_render(clusters, build, name):
    folder, hosts = clusters
    objects = by_identity(hosts[name]["objects"])
    argocd = {key: item for key, item in objects.items() if item["kind"] == "Application"}
    assert build(folder / "infra" / name / "k8s") == {key: objects[key] for key in objects.keys() - argocd.keys()}
    assert build(folder / "infra" / name / "argocd") == argocd


def test_clusters_have_folders_of_their_own(clusters):
    folder, _ = clusters
    assert {path.name for path in (folder / "infra").iterdir()} == set(CLUSTERS)
    application = yaml.safe_load((folder / "infra/large/argocd/vllm/vllm-inference-judge-large.yaml").read_text())
    assert application["spec"]["source"]["path"] == "infra/large/k8s/vllm/judge-large"


def test_profiles_and_judges_of_ones_own_follow_the_pattern(clusters, build):
    folder, hosts = clusters
    own = folder / "infra/own/k8s"
    for path in ("triton/overlays/big", "triton/overlays/apart", "vllm/tiny", "vllm/overlays/tiny", "vllm/judge"):
        assert (own / path / "kustomization.yaml").is_file(), path
    big = yaml.safe_load((own / "triton/overlays/big/kustomization.yaml").read_text())
    assert (big["nameSuffix"], big["resources"][0]) == ("-big", "../../base")
    # A name that is no suffix of the base's can't be an overlay of it.
    apart = yaml.safe_load((own / "triton/overlays/apart/kustomization.yaml").read_text())
    assert "deployment-server.yaml" in apart["resources"]
    # Nothing of vLLM is on but the judge, and of the shared nothing at all.
    assert not (own / "vllm/overlays/kustomization.yaml").exists()
    assert "shared" not in yaml.safe_load((own / "kustomization.yaml").read_text())["resources"]
    # A profile that says nothing is the base.
    base = by_identity(
        [i for i in hosts["large"]["objects"] if i["metadata"]["labels"].get("app") == "triton-inference"]
    )
    assert build(folder / "infra/large/k8s/triton/base") == base


def test_each_vllm_server_has_a_folder_and_what_is_on_is_built(clusters, build):
    folder, hosts = clusters
    vllm = folder / "infra/several/k8s/vllm"
    assert {path.name for path in vllm.iterdir() if path.is_dir()} == {
        *("base", "fast", "tuned", "judge", "judge-large", "overlays")
    }
    parts = {part["profile"]: part["objects"] for part in hosts["several"]["parts"]}
    assert build(vllm / "fast") == by_identity(parts["fast"])
    assert {name for _, _, _, name in build(vllm / "tuned")} == {"llm", "llm-cache"}
    together = build(vllm)
    assert together == by_identity(parts["vllm"] + parts["fast"] + parts["judge"])
    # Nothing of the contract's server is another for the others.
    base = yaml.load((vllm / "base/deployment-vllm.yaml").read_text(), Loader=yaml.CSafeLoader)
    committed = yaml.load((INFRA / "k8s/vllm/base/deployment-vllm.yaml").read_text(), Loader=yaml.CSafeLoader)
    assert base["spec"] == json.loads(json.dumps(committed["spec"]).replace("000000000000", "123456789012"))
    on = folder / "infra/several/argocd/vllm"
    assert {name for _, _, _, name in build(on)} == {"vllm-inference", "vllm-inference-fast", "vllm-inference-judge"}
    assert (on / "vllm-inference-tuned.yaml").is_file()


def test_each_mlserver_has_a_folder_and_an_application(clusters, build):
    folder, hosts = clusters
    several = folder / "infra/several"
    (part,) = [part for part in hosts["several"]["parts"] if part["role"] == "mlserver" and part["enabled"]]
    assert build(several / "k8s/mlserver/mlserver") == by_identity(part["objects"])
    assert (several / "k8s/mlserver/off/deployment-mlserver-off.yaml").is_file()
    (application,) = build(several / "argocd/mlserver").values()
    assert application["metadata"]["name"] == "mlserver-mlserver"
    assert application["spec"]["source"]["path"] == "infra/several/k8s/mlserver/mlserver"


# --- Refusals and edits -----------------------------------------------------------------------------


@pytest.fixture
def edited(tmp_path) -> Path:
    """A copy of the repository, for a test to edit."""
    shutil.copytree(INFRA, tmp_path / "infra")
    return tmp_path


def test_a_folder_edited_by_hand_is_set_right(edited):
    base = edited / "infra/k8s/vllm/base"
    deployment, service = base / "deployment-vllm.yaml", base / "service-vllm-service.yaml"
    deployment.write_text(deployment.read_text().replace("replicas: 1", "replicas: 7"))
    service.write_text(service.read_text() + "{{ no YAML")
    (base / "networkpolicy-vllm.yaml").rename(base / "networkpolicy-copy.yaml")
    shutil.rmtree(edited / "infra/k8s/shared")
    before = files_of(edited)
    preview = render(edited, "--check", "--diff")
    assert files_of(edited) == before
    assert "-  replicas: 7\n+  replicas: 1\n" in preview.stdout
    assert "7 written, 1 removed" in said(preview)
    assert "changed=1" in preview.stdout
    assert "7 written, 1 removed" in said(render(edited))
    assert files_of(edited / "infra") == files_of(INFRA)


def test_the_documents_folder_of_ones_own_builds(build, edited):
    text = (ROOT / "docs/gitops.md").read_text()
    (example,) = (
        part.split("```")[0] for part in text.split("```yaml\n") if "kind: Kustomization" in part.split("```")[0]
    )
    own = edited / "apps/vllm"
    own.mkdir(parents=True)
    (own / "kustomization.yaml").write_text(example)
    deployment = build(own)["apps/v1", "Deployment", NAMESPACE, "vllm"]
    assert deployment["spec"]["template"]["spec"]["priorityClassName"] == "high"


def test_two_clusters_in_one_folder_are_refused(clusters, tmp_path):
    folder, _ = clusters
    args = ["-e", "argocd_apps_path=infra/k8s"]
    done = render(tmp_path, *args, inventory=folder / "hosts.yml", check=False)
    assert done.returncode
    assert (
        "argocd_apps_path is 'infra/k8s': for the clusters large, own, several: each has a folder of its own"
        in said(done)
    )
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_in_an_inventory_is_told_before_anything_is_written(tmp_path):
    wrong = {
        # Not enabled, and in the tree all the same.
        "triton_profiles": {"big": {"name": "triton-inference-big", "hardware_profile": "gpu-lage"}},
        "vllm_judge_variant": "judge-larg",
    }
    done = render(tmp_path, "-e", json.dumps(wrong), check=False)
    assert done.returncode
    assert "vllm_judge_variant is 'judge-larg': unknown, did you mean 'judge-large'?" in said(done)
    assert "triton_profiles.big.hardware_profile is 'gpu-lage': unknown" in said(done)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("", "must be a folder below the repository's root, such as infra/k8s"),
        ("infra/../../k8s", "must be a folder inside the repository, without / before it and .."),
    ],
)
def test_a_tree_outside_the_repository_is_refused(tmp_path, path, rule):
    done = render(tmp_path / "repository", "-e", json.dumps({"argocd_apps_path": path}), check=False)
    assert done.returncode
    assert rule in said(done)
    assert list(tmp_path.iterdir()) == []


def test_a_secret_or_a_file_of_somebody_else_stops_the_writer(tmp_path):
    """The action alone: what each of its refusals depends on is in tests/unit/test_tree.py."""
    fine = rendered(("irsa",), tree_repository=str(tmp_path))
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token"}, "stringData": {"key": "s3cr3t"}}
    with_secret = json.loads(json.dumps(fine))
    with_secret["parts"][0]["objects"].append(secret)
    wrong = {**fine, "problems": ["something is wrong"]}
    (tmp_path / "infra/k8s/shared").mkdir(parents=True)
    (tmp_path / "infra/k8s/shared/serviceaccount-workflow-sa.yaml").write_text("kind: ServiceAccount\n")
    (tmp_path / "infra/k8s/mine.yaml").write_text("{{ no YAML")
    before = files_of(tmp_path / "infra")
    tasks = [
        {"modelyard.core.tree": {"rendered": given, "paths": {}}, "ignore_errors": True}
        for given in (with_secret, wrong, fine)
    ]
    (tmp_path / "play.yml").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    done = playbook(str(tmp_path / "play.yml"), "localhost,", "-c", "local")
    assert "ignored=3" in done.stdout, done.stdout
    assert said(done).count("Nothing was written.") >= 3
    assert "Secret token is a Secret, and a Secret is never written to a file" in said(done)
    assert "s3cr3t" not in done.stdout + done.stderr
    assert "something is wrong" in said(done)
    assert "infra/k8s/shared/serviceaccount-workflow-sa.yaml is in the way" in said(done)
    assert "infra/k8s/mine.yaml was not rendered from the inventory" in said(done)
    assert files_of(tmp_path / "infra") == before


# --- A repository with an inventory alone ----------------------------------------------------------


def test_an_inventory_in_a_repository_of_its_own_has_its_tree_beside_it(tmp_path):
    """As docs/repositories.md says, with the variable that stands there."""
    inventory = tmp_path / "clusters" / "inventory"
    shutil.copytree(ROOT / "inventories/eks", inventory)
    text = (ROOT / "docs/repositories.md").read_text(encoding="utf-8")
    variable = text.partition("clusters/tree.yml`:\n\n```yaml\n")[2].partition("```")[0]
    (inventory / "group_vars/clusters/tree.yml").write_text(variable)
    for changed in ("changed=1", "changed=0"):
        done = playbook("render", str(inventory))
        assert done.returncode == 0, said(done)
        assert said(done).count(changed) == 2
    assert {path.name for path in (inventory.parent / "infra").iterdir()} == {"staging", "production"}
    assert "host staging of inventory\n" in (inventory.parent / "infra/staging/k8s/kustomization.yaml").read_text()
