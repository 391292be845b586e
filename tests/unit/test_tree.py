"""The rendered tree: file names, contents, and what happens to existing files."""

import os
import posixpath
import stat

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from rendering import rendered

CLUSTER, SOURCE = "staging", "host staging of inventories/eks"


def thing(kind="ConfigMap", name="one", namespace="ml-models", api="v1", **more):
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "namespace": namespace}, **more}


def folder(path="k8s/a", *objects, **more):
    return {"path": path, "variables": "a_*", "objects": list(objects), **more}


def compose(*folders):
    return tree.compose(list(folders), CLUSTER, SOURCE)


@pytest.fixture
def write(tmp_path):
    """Write folders below tmp_path as the action does: returns the paths written and those removed."""

    def write_(*folders, cluster=CLUSTER, root=tmp_path):
        write, remove = tree.plan(root, ["k8s"], tree.compose(list(folders), cluster, SOURCE), cluster)
        tree.carry_out(root, write, remove)
        return sorted(write), sorted(remove)

    return write_


def standing(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())


# --- Texts ------------------------------------------------------------------------------------------


def test_a_file_says_whence_it_came_and_not_to_edit_it():
    lines = compose(folder("k8s/a", thing()))["k8s/a/configmap-one.yaml"].splitlines()
    assert lines[0] == tree.MARK
    assert "do not edit" in lines[0]
    assert lines[1:3] == ["# Cluster staging, host staging of inventories/eks", "# Variables: a_*"]
    assert lines[3] == "apiVersion: v1"


def test_the_order_of_keys_and_folders_changes_nothing():
    one = thing(data={"b": "1", "a": {"z": 1, "name": "n", "y": 2}})
    other = dict(reversed(one.items())) | {"data": {"a": {"y": 2, "name": "n", "z": 1}, "b": "1"}}
    assert compose(folder("k8s/a", one, thing(name="two"))) == compose(folder("k8s/a", thing(name="two"), other))


NUMBERS = ("1e3", "12e4567", "0x1F", "0o17", "017", "1_000", "1:30", "1.0", ".5", "-1", "+1", ".inf", "2026-01-01")
WORDS = ("y", "N", "no", "on", "true", "null", "~", "", "a: b", "- a", "#no", "a #b", "{{ a }}", "=", "<<", "'", '"')
LINES = (
    "two\nlines\n",
    "trailing \nspace",
    "\ttab\n\tx",
    "  indented\nfirst",
    "é\u2028x",
    "a\r\nb",
    "\\n",
    "*",
    "&a",
    "!a",
    "@a",
)


@pytest.mark.parametrize("text", [*NUMBERS, *WORDS, *LINES])
def test_text_stays_text(text):
    written = compose(folder("k8s/a", thing(data={"key": text})))["k8s/a/configmap-one.yaml"]
    assert yaml.safe_load(written)["data"] == {"key": text}
    # Parsers of YAML 1.2, and Go's of both, take more for a number or a boolean than PyYAML does.
    if text in ("1e3", "12e4567", "0o17", "y", "N"):
        assert f"'{text}'" in written


def test_a_script_stays_readable_and_nothing_is_folded():
    data = {"start.sh": "#!/bin/sh\nexec a\n", "long": "word " * 100 + "end"}
    written = compose(folder("k8s/a", thing(data=data)))["k8s/a/configmap-one.yaml"]
    assert "start.sh: |\n    #!/bin/sh\n    exec a\n" in written
    assert "long: " + data["long"] in written
    assert "&id" not in compose(folder("k8s/a", thing(data=data, more=data)))["k8s/a/configmap-one.yaml"]


# --- Names ------------------------------------------------------------------------------------------


def test_an_objects_file_is_named_after_it():
    names = tree.stems([thing("Deployment", "vllm"), thing("Service", "vllm"), thing("Application", "vllm-inference")])
    assert names == ["deployment-vllm", "service-vllm", "vllm-inference"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (thing("Role", "a"), thing("Role", "A")),
        (thing("Role", "a:b"), thing("Role", "a-b")),
        (thing(namespace="a"), thing(namespace="b")),
        (thing(api="a/v1"), thing(api="b/v1")),
        (thing("Application", "role-a"), thing("Role", "a")),
        (thing("Role", "../../x"), thing("Role", "..-..-x")),
        (thing(name="x" * 253), thing(name="x" * 252)),
    ],
)
def test_no_two_objects_share_a_file(one, other):
    names = tree.stems([one, other])
    assert len({name.lower() for name in names}) == 2
    assert names == list(reversed(tree.stems([other, one])))
    for name in names:
        assert "/" not in name
        assert len(f"{name}.yaml") < 255 - len(tree.TEMPORARY)


def test_an_object_can_not_take_the_kustomizations_place():
    assert tree.stems([thing("Application", "kustomization")])[0].startswith("kustomization-")


@pytest.mark.parametrize("path", ["k8s/../x", "/k8s", "k8s/", "", "k8s/a b", "k8s//a", "k8s/.git"])
def test_a_folder_that_is_no_safe_name_is_refused(path):
    with pytest.raises(tree.Refused, match="can't be a folder of the tree"):
        compose(folder(path, thing()))


def test_a_profile_that_would_share_a_folder_is_refused():
    with pytest.raises(tree.Refused, match="k8s/vllm/base would be two things at once"):
        compose(folder("k8s/vllm/base", thing()), folder("k8s/vllm/base", thing(name="two")))


def test_two_things_that_are_on_with_one_object_are_refused():
    parts = [folder("k8s/cpu", thing()), folder("k8s/twin", thing())]
    assert compose(*parts, folder("k8s", includes=["cpu"]))
    with pytest.raises(
        tree.Refused, match="k8s/cpu and k8s/twin are both on and have the same objects: ConfigMap ml-models/one"
    ):
        compose(*parts, folder("k8s", includes=["cpu", "twin"]))


@pytest.mark.parametrize("key", ["objects", "off"])
def test_a_secret_is_refused_by_name_without_its_value(key):
    secret = thing("Secret", "token", stringData={"key": "s3cr3t"})
    with pytest.raises(tree.Refused, match="Secret ml-models/token is a Secret") as refused:
        compose(folder("k8s/a", thing()) | {key: [secret]})
    assert "s3cr3t" not in str(refused.value)


# --- Kustomizations ---------------------------------------------------------------------------------


def kustomization(files, path):
    return yaml.safe_load(files[f"{path}/kustomization.yaml"])


def test_a_kustomization_names_what_is_on():
    files = compose(folder("k8s/a", thing(name="on"), off=[thing(name="off")]), folder("k8s", includes=["a"]))
    assert kustomization(files, "k8s/a")["resources"] == ["configmap-on.yaml"]
    assert kustomization(files, "k8s")["resources"] == ["a"]
    assert tree.OFF in files["k8s/a/configmap-off.yaml"]
    assert tree.OFF not in files["k8s/a/configmap-on.yaml"]


def test_a_folder_with_nothing_in_it_has_no_kustomization():
    assert compose(folder("k8s/a")) == {}


def test_an_overlay_holds_what_differs_from_its_base():
    base = [thing("Deployment", spec={"replicas": 2}), thing("Service", spec={"a": 1})]
    wanted = [thing("Deployment", spec={"replicas": 3}), thing("Service", spec={"a": 1})]
    files = compose(folder("k8s/base", *base), folder("k8s/o/x", *wanted, base="k8s/base"))
    found = kustomization(files, "k8s/o/x")
    assert found["resources"] == ["../../base"]
    assert found["namespace"] == "ml-models"
    assert found["patches"] == [{"path": "patch-deployment-one.yaml", "target": {"kind": "Deployment", "name": "one"}}]
    assert "nameSuffix" not in found
    patch = yaml.safe_load(files["k8s/o/x/patch-deployment-one.yaml"])
    assert patch == [{"op": "replace", "path": "/spec/replicas", "value": 3}]


def test_another_name_is_a_suffix_where_it_can_be():
    base = [thing("Deployment"), thing("Service")]
    renamed = [thing("Deployment", "one-gpu"), thing("Service", "one-gpu")]
    files = compose(folder("k8s/base", *base), folder("k8s/x", *renamed, base="k8s/base"))
    assert kustomization(files, "k8s/x")["nameSuffix"] == "-gpu"
    assert "patches" not in kustomization(files, "k8s/x")


@pytest.mark.parametrize(
    "names", [("other", "other"), ("one-gpu", "one"), ("one-gpu", "one-cpu"), ("other", "one"), ("one", "other")]
)
def test_other_names_are_objects_of_their_own(names):
    wanted = [thing("Deployment", names[0]), thing("Service", names[1])]
    files = compose(
        folder("k8s/base", thing("Deployment"), thing("Service")), folder("k8s/x", *wanted, base="k8s/base")
    )
    resources = [f"deployment-{names[0]}.yaml", f"service-{names[1]}.yaml"]
    assert kustomization(files, "k8s/x")["resources"] == resources


@pytest.mark.parametrize(
    ("base", "wanted", "patch"),
    [
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": True}, [{"op": "replace", "path": "/a", "value": True}]),
        ({"a": "1"}, {"a": 1}, [{"op": "replace", "path": "/a", "value": 1}]),
        ({"a": 1}, {}, [{"op": "remove", "path": "/a"}]),
        ({}, {"a/b~c": 1}, [{"op": "add", "path": "/a~1b~0c", "value": 1}]),
        ({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, [{"op": "replace", "path": "/a/1/b", "value": 3}]),
        ({"a": [1, 2]}, {"a": [2]}, [{"op": "replace", "path": "/a", "value": [2]}]),
        ({"a": {"b": 1}}, {"a": None}, [{"op": "replace", "path": "/a", "value": None}]),
    ],
)
def test_a_patch_says_what_differs(base, wanted, patch):
    assert tree.difference(base, wanted) == patch


# --- Applications -----------------------------------------------------------------------------------


def application(name, path):
    return thing("Application", name, "argocd", "argoproj.io/v1alpha1", spec={"source": {"path": path}})


def test_an_application_stands_in_the_folder_of_what_it_leads_to():
    on = [
        application("vllm-inference", "infra/k8s/vllm/base"),
        application("mine", "apps/mine"),
        thing("AppProject", "modelyard", "argocd", "argoproj.io/v1alpha1", spec={}),
    ]
    off = [application("vllm-inference-judge", "infra/k8s/vllm/judge"), application("shared", "infra/k8s/shared")]
    files = compose(*tree.application_folders(on, off, "infra/k8s", "argocd_apps_*"))
    assert kustomization(files, "argocd")["resources"] == ["vllm", "appproject-modelyard.yaml", "mine.yaml"]
    assert kustomization(files, "argocd/vllm")["resources"] == ["vllm-inference.yaml"]
    assert "argocd/vllm/vllm-inference-judge.yaml" in files
    assert "argocd/shared/kustomization.yaml" not in files


# --- What is off ------------------------------------------------------------------------------------


def whole_tree(**variables):
    found = rendered(off=True, **variables)
    assert found["problems"] == []
    return compose(*layout.folders(found))


def folders_of(files):
    return {posixpath.dirname(path) for path in files}


def test_a_tree_of_what_is_on_alone_builds_the_same():
    chosen = {"triton_enabled_profiles": ["gpu"], "vllm_enabled": False, "vllm_judge_variant": "judge"}
    full, lean = whole_tree(**chosen), whole_tree(**chosen, tree_include_disabled=False)
    # A base is of no use by itself, but an overlay needs it.
    assert folders_of(lean) == {
        *("k8s", "k8s/shared", "k8s/triton", "k8s/triton/base", "k8s/triton/overlays", "k8s/triton/overlays/gpu"),
        *("k8s/vllm", "k8s/vllm/judge"),
        *("argocd", "argocd/shared", "argocd/triton", "argocd/vllm"),
    }
    assert {path: full[path] for path in lean} == lean
    for path, text in lean.items():
        for name in yaml.safe_load(text).get("resources", []) if path.endswith(tree.KUSTOMIZATION) else []:
            there = posixpath.normpath(f"{posixpath.dirname(path)}/{name}")
            assert there in lean or f"{there}/{tree.KUSTOMIZATION}" in lean, f"{path}: {name}"
    assert [path for path in lean if "judge-large" in path or "cpu" in path or tree.OFF in lean[path]] == []


def test_an_inventory_with_nothing_on_has_no_tree():
    off = {"triton_enabled_profiles": [], "vllm_enabled": False, "vllm_judge_variant": "none"}
    lean = whole_tree(**off, irsa_workflow_enabled=False, tree_include_disabled=False)
    assert lean == {}


# --- The disk ---------------------------------------------------------------------------------------


def test_a_second_run_writes_nothing(write, tmp_path):
    assert write(folder("k8s/a", thing())) == (["k8s/a/configmap-one.yaml", "k8s/a/kustomization.yaml"], [])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write(folder("k8s/a", thing())) == ([], [])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_is_no_longer_wanted_goes_with_its_folder(write, tmp_path):
    write(folder("k8s/a", thing()), folder("k8s/b/c", thing()))
    _, removed = write(folder("k8s/a", thing(name="two")))
    assert removed == ["k8s/a/configmap-one.yaml", "k8s/b/c/configmap-one.yaml", "k8s/b/c/kustomization.yaml"]
    assert standing(tmp_path) == ["k8s/a/configmap-two.yaml", "k8s/a/kustomization.yaml"]
    assert not (tmp_path / "k8s" / "b").exists()


def test_everything_may_go(write, tmp_path):
    write(folder("k8s/a", thing()))
    write(folder("k8s/a"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("edit", ["changed: by hand", "{{ not yaml", "\0\xff"])
def test_an_edit_is_taken_back(write, tmp_path, edit):
    write(folder("k8s/a", thing()))
    file = tmp_path / "k8s/a/configmap-one.yaml"
    right = file.read_text()
    file.write_bytes(f"{tree.MARK}\n{edit}".encode("latin-1"))
    assert write(folder("k8s/a", thing())) == (["k8s/a/configmap-one.yaml"], [])
    assert file.read_text() == right


def test_a_missing_file_comes_back_and_an_added_copy_goes(write, tmp_path):
    write(folder("k8s/a", thing()))
    (tmp_path / "k8s/a/configmap-one.yaml").rename(tmp_path / "k8s/a/copy.yaml")
    assert write(folder("k8s/a", thing())) == (["k8s/a/configmap-one.yaml"], ["k8s/a/copy.yaml"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("k8s/a/configmap-one.yaml", "is in the way"),
        ("k8s/a/kustomization.yaml", "is in the way"),
        ("k8s/a", "is in the way"),
        ("k8s/a/mine.yaml", "could take it for a manifest"),
        ("k8s/mine/x.yml", "could take it for a manifest"),
        ("k8s/a/x.json", "could take it for a manifest"),
        ("k8s/a/Kustomization", "could take it for a manifest"),
    ],
)
@pytest.mark.parametrize("content", ["kind: A\n", "", "{{ bad"])
def test_a_file_of_somebody_else_is_refused_and_left(write, tmp_path, name, said, content):
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)
    with pytest.raises(tree.Refused, match=said) as refused:
        write(folder("k8s/a", thing()))
    assert str(file) in str(refused.value)
    assert standing(tmp_path) == [name]
    assert file.read_text() == content


def test_what_no_one_takes_for_a_manifest_stays(write, tmp_path):
    write(folder("k8s/a", thing()), folder("k8s/b", thing()))
    for name in ("README.md", "OWNERS"):
        (tmp_path / "k8s/b" / name).write_text("ours")
    write(folder("k8s/a", thing()))
    assert {"k8s/b/README.md", "k8s/b/OWNERS"} <= set(standing(tmp_path))


def test_a_link_is_not_followed(write, tmp_path):
    write(folder("k8s/a", thing()), root=tmp_path / "elsewhere")
    (tmp_path / "k8s").mkdir()
    (tmp_path / "k8s" / "a").symlink_to(tmp_path / "elsewhere" / "k8s" / "a")
    before = standing(tmp_path / "elsewhere")
    with pytest.raises(tree.Refused, match="is in the way"):
        write(folder("k8s/a", thing(name="two")))
    assert standing(tmp_path / "elsewhere") == before


def test_a_folder_where_a_file_must_be_is_refused(write, tmp_path):
    (tmp_path / "k8s/a/configmap-one.yaml").mkdir(parents=True)
    with pytest.raises(tree.Refused, match="is a folder"):
        write(folder("k8s/a", thing()))


def test_another_clusters_folder_is_refused(write, tmp_path):
    write(folder("k8s/a", thing()))
    before = standing(tmp_path)
    with pytest.raises(tree.Refused, match="rendered for the cluster staging, and this is production"):
        write(folder("k8s/a", thing(name="two")), cluster="production")
    assert standing(tmp_path) == before


def test_files_can_be_read_by_all(write, tmp_path):
    umask = os.umask(0o077)
    try:
        write(folder("k8s/a", thing()))
    finally:
        os.umask(umask)
    assert stat.S_IMODE((tmp_path / "k8s/a/configmap-one.yaml").stat().st_mode) == 0o644


def test_a_run_that_is_killed_leaves_no_broken_kustomization(write, tmp_path, monkeypatch):
    write(folder("k8s/a", thing(name="old")))
    missing, moments = [], []

    def watched(method):
        def wrapped(self, *args):
            resources = yaml.safe_load((tmp_path / "k8s/a/kustomization.yaml").read_text())["resources"]
            missing.extend(name for name in resources if not (tmp_path / "k8s/a" / name).exists())
            moments.append(method.__name__)
            return method(self, *args)

        return wrapped

    for name in ("replace", "unlink"):
        monkeypatch.setattr(tree.Path, name, watched(getattr(tree.Path, name)))
    write(folder("k8s/a", thing(name="new")))
    assert (missing, moments) == ([], ["replace", "replace", "unlink"])


def test_what_a_killed_run_left_goes(write, tmp_path):
    write(folder("k8s/a", thing()))
    (tmp_path / "k8s/a" / f"{tree.TEMPORARY}abc").write_text("half")
    assert write(folder("k8s/a", thing())) == ([], [f"k8s/a/{tree.TEMPORARY}abc"])
