"""What templates place stays what it is: no text of an inventory becomes a key, a number or another line of a manifest."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.files.tree import document
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import ROLES, templates
from rendering import rendered

ROOT = Path(__file__).parents[2]
# Parts of scripts, which are placed as one text, and place words of a shell.
SCRIPTS = ("start.sh.j2",)
TEMPLATES = [*ROOT.glob("roles/*/templates/**/*"), *ROOT.glob("tests/made_up_kind/role/templates/*")]
TEMPLATES = sorted(file for file in TEMPLATES if file.is_file())
NO_TEXT = [1, 0, -1, True, False, None, [], {}, [1, "1"], {"a": {"b": [None, "null"]}}, 0.88, 1.5, 1024]
TEXTS = [
    *(
        "",
        " ",
        "no",
        "yes",
        "on",
        "y",
        "null",
        "~",
        "true",
        "0123",
        "0o17",
        "0x1F",
        "1e3",
        "1_000",
        "1:30",
        ".5",
        ".inf",
    ),
    *(
        "2026-11-28",
        "=",
        "<<",
        "- a",
        "a: b",
        "a #b",
        "#no",
        "*a",
        "&a",
        "!a",
        "@a",
        "`a",
        "%a",
        "|",
        ">",
        "?",
        "[",
        "{",
        ",",
    ),
    *("'", '"', "\\", "\\n", "\\u0000", "{{ nowhere }}", "{% raw %}", "${HOME}", "$(A)", "---", "...", "a\n---\nb: c"),
    *(
        "two\nlines\n",
        "\n  hostNetwork: true",
        "\r\n  a: b",
        "\t",
        "\ttab\n\tx",
        "  indented\nfirst",
        "trailing \nspace",
    ),
    *("\0", "\x07", "\x1b[31m", "\x7f", "\x85", "\xa0", "\u2028", "\u2029", "\ufeff", "\ufeffa", "\ufffe", "\uffff"),
    *("é", "ß", "日本語", "😀", "\U0010ffff", "a" * 5000, "word " * 400),
]


@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
@pytest.mark.parametrize("text", TEXTS, ids=ascii)
def test_text_stays_text(text, loader):
    for value in (text, [text], {"key": text}, {text[:1000]: "value"}, {"a": {"b": [text, {"c": text}]}}):
        written = templates.as_json(value)
        assert "\n" not in written
        assert json.loads(written) == value
        assert yaml.load(f"before: 1\nplaced: {written}\nafter: 2\n", Loader=loader) == {
            "before": 1,
            "placed": value,
            "after": 2,
        }


@pytest.mark.parametrize("value", NO_TEXT, ids=str)
def test_what_is_no_text_stays_what_it_is(value):
    found = yaml.safe_load(templates.as_json(value))
    assert (type(found), found) == (type(value), value)


def placed(tree, inside=False):
    """Find what a template writes from variables, where it is not collected into a variable, or for a macro, first."""
    for node in tree.iter_child_nodes():
        if isinstance(node, (jinja2.nodes.AssignBlock, jinja2.nodes.CallBlock)):
            continue
        if isinstance(node, jinja2.nodes.Output):
            yield from (child for child in node.nodes if not isinstance(child, jinja2.nodes.TemplateData))
        else:
            yield from placed(node)


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: str(file.relative_to(ROOT)))
def test_templates_place_values_as_json_only(file):
    parsed = jinja2.Environment(trim_blocks=True, autoescape=True).parse(file.read_text(encoding="utf-8"))
    written = "quote" if file.name in SCRIPTS else "to_json"
    bare = [
        node.lineno for node in placed(parsed) if not (isinstance(node, jinja2.nodes.Filter) and node.name == written)
    ]
    assert bare == [], f"{file.name}: lines that place something without | to_json"
    assert file.suffix == ".j2"


def test_the_rule_finds_what_it_is_for():
    def found(text):
        return [getattr(node, "name", None) for node in placed(jinja2.Environment(autoescape=True).parse(text))]

    assert found("a: {{ b }}\n{% if c %}d: {{ e | default('f') }}{% endif %}") == ["b", "default"]
    assert found("{% for a in b %}{% filter indent %}{{ a | to_json | trim }}{% endfilter %}{% endfor %}") == ["trim"]
    assert found("{% set a %}{{ b }}{% endset %}{{ a | to_json }}") == ["to_json"]


# --- Whole objects ---

INJECTION = '"}\n  hostNetwork: true\n  x: {"y": "'
# Variables that take any text, with their value for one.
ANYWHERE = {
    "platform_extra_annotations": lambda text: {"note": text},
    "triton_annotations": lambda text: {"note": text},
    "triton_pod_annotations": lambda text: {"note": text},
    "triton_env": lambda text: {"NOTE": text},
    "triton_extra_args": lambda text: ["--id", text],
    "triton_extra_env": lambda text: [{"name": "NOTE", "value": text}],
    "triton_network_policy_extra_ingress": lambda text: [{"from": [{"podSelector": {"matchLabels": {"a": text}}}]}],
    "vllm_served_model_name": lambda text: text,
    "vllm_extra_args": lambda text: {"chat-template": text},
    "vllm_init_args": lambda text: [text],
    "vllm_adapter_model": lambda text: text,
    "irsa_workflow_annotations": lambda text: {"note": text},
    "argocd_apps_annotations": lambda text: {"note": text},
}


def everything(**variables):
    found = rendered(vllm_judge_variant="judge", **variables)
    assert found["problems"] == []
    return [item for part in found["parts"] for item in part["objects"]]


def differences(one, other):
    """Find the pairs of values that differ; where keys or lengths do, the whole."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [pair for key in one for pair in differences(one[key], other[key])]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [pair for pair_ in zip(one, other, strict=True) for pair in differences(*pair_)]
    return [] if (type(one), one) == (type(other), other) else [(one, other)]


@pytest.fixture(scope="module")
def plain():
    """The objects with a harmless word for the text, by variable."""
    return {name: everything(**{name: value("plain-word")}) for name, value in ANYWHERE.items()}


@pytest.mark.parametrize("name", ANYWHERE)
@pytest.mark.parametrize(
    "text", [INJECTION, "\n  hostNetwork: true", "no", "0123", "a: b", "{{ nowhere }}", "\u2028x\ufeff"], ids=ascii
)
def test_a_text_of_the_inventory_is_one_text_in_the_objects(plain, name, text):
    found = differences(plain[name], everything(**{name: ANYWHERE[name](text)}))
    assert found
    # A checksum of it differs, too.
    assert {given for word, given in found if not re.fullmatch("[0-9a-f]{64}", given)} == {
        word.replace("plain-word", text) for word, _ in found if "plain-word" in word
    }


# Names that YAML takes for something else, and that Kubernetes takes for a name.
NAMES = ["123", "0123", "on", "null", "1e3", "0o17", "2026-11-28"]

TEXT_KEYS = {"name", "namespace", "claimName", "storageClassName", "serviceAccountName", "priorityClassName"}
TEXT_KEYS |= {"app", "key", "value", "image", "project"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_text_wherever_it_stands(name):
    named = {
        "platform_namespace": name,
        "platform_ai_namespace": name,
        "platform_cluster_name": name,
        "platform_image_pull_secrets": [name],
        "platform_ca_bundle_configmap": name,
        "platform_hf_token_secret": {"name": name, "key": name},
        "irsa_workflow_service_account": name,
        "irsa_workflow_role": name,
        "irsa_workflow_role_binding": name,
        "argocd_apps_project": name,
        "triton_enabled_profiles": [name],
        "triton_profiles": {name: {"name": name, "service_name": "triton", "service_account_name": name}},
        "triton_priority_class_name": name,
        "triton_container_name": name,
        "triton_node_selector": {name: name},
        "triton_labels": {name: name},
        "triton_pod_annotations": {name: name},
        "triton_tolerations": [{"key": name, "operator": "Equal", "value": name}],
        "vllm_enabled_profiles": [name],
        "vllm_profiles": {name: {}},
        "vllm_image": "[::1]:5000/x:1",
        "vllm_cache": {"type": "claim", "size": "8Gi", "storage_class": name, "claim_name": name},
        "vllm_strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
        "vllm_startup_configmap_name": name,
    }
    named |= {"vllm_judge_variants": {f"{name}-a": {"hardware_profile": "gpu-vllm"}}, "vllm_judge_variant": f"{name}-a"}
    found = rendered(**named)
    assert found["problems"] == []
    objects = [item for part in found["parts"] for item in part["objects"]]
    assert {item["metadata"]["name"] for item in objects} >= {name, f"vllm-{name}", f"vllm-inference-{name}"}
    assert all(isinstance(text, str) for item in objects for text in texts(item))
    # The files, too: read as Kubernetes and Argo CD do.
    for item in objects:
        assert yaml.load(document("", item), Loader=yaml.CSafeLoader) == item


def texts(value, key=""):
    """Find what stands under keys that take a text."""
    if isinstance(value, dict):
        for below, item in value.items():
            assert isinstance(below, str)
            yield from texts(
                item, below if key not in ("labels", "annotations", "matchLabels", "nodeSelector") else "name"
            )
    elif isinstance(value, list):
        for item in value:
            yield from texts(item, key)
    elif key in TEXT_KEYS:
        yield value


# --- Broken templates ---


@pytest.fixture
def role(tmp_path, monkeypatch):
    """Make a role with one template."""
    monkeypatch.setattr(templates, "ROLES", tmp_path)
    templates.environment.cache_clear()

    def write(text):
        (tmp_path / "mine/templates").mkdir(parents=True)
        (tmp_path / "mine/templates/a.yaml.j2").write_text(text, encoding="utf-8")

    yield write
    templates.environment.cache_clear()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {{ b }}", "role mine: template a.yaml.j2: 'b' is undefined"),
        ("a: {{ b", "role mine: template a.yaml.j2: unexpected end of template"),
        ("a: [", "role mine: template a.yaml.j2: "),
        ("a: {{ c.d.e | to_json }}", "role mine: template a.yaml.j2: .*has no attribute 'd'"),
        ("{% include 'nowhere.j2' %}", "role mine: template a.yaml.j2: .*nowhere.j2"),
    ],
)
def test_a_broken_template_is_told_with_its_name(role, text, message):
    role(text)
    with pytest.raises(Failure, match=message):
        templates.render(("mine",), ["a.yaml.j2"], c={})


def test_a_template_may_make_several_objects_or_none(role):
    role("{% for name in servers %}\n---\nname: {{ name | to_json }}\n{% endfor %}")
    assert templates.render(("mine",), ["a.yaml.j2"], servers=["a", "b"]) == [{"name": "a"}, {"name": "b"}]
    assert templates.render(("mine",), ["a.yaml.j2"], servers=[]) == []


def test_what_is_rendered_shares_nothing_with_its_settings(role):
    role("a: {{ values | to_json }}")
    values = {"list": [1]}
    before = copy.deepcopy(values)
    (found,) = templates.render(("mine",), ["a.yaml.j2"], values=values)
    found["a"]["list"].append(2)
    assert values == before


# --- One statement of each variable ---


def test_the_documentation_of_the_variables_is_made_from_their_statement():
    done = subprocess.run(
        [sys.executable, "tools/specs.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "argument_specs.yml of every role is up to date\n"), "run: make specs"


def test_the_servers_variables_are_stated_once():
    files = [ROOT / "roles" / role / "meta/inputs.yml" for role in ("model_server", "model_loader", *ROLES)]
    assert sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files) < 1250
    # Nothing states them a second time.
    assert [path.name for path in ROOT.glob("roles/*/*") if path.name in ("defaults", "vars")] == ["vars"]
    assert not [name for name in yaml.safe_load((ROOT / "roles/apply/vars/main.yml").read_text()) if name[:2] != "__"]


def test_a_switch_is_read_alike_wherever_it_is_read():
    # Ansible takes y for true: so does what checks it, what renders it and what tells Argo CD whose the replicas are.
    found = rendered(triton_autoscaled="y", vllm_enabled="n")
    assert found["problems"] == []
    parts = {part["name"]: part for part in found["parts"] if part["enabled"]}
    assert "vllm" not in parts
    deployment = next(item for item in parts["triton-inference"]["objects"] if item["kind"] == "Deployment")
    assert "replicas" not in deployment["spec"]
