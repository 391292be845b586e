"""Several vLLM servers on one cluster: each has all its own, and none changes another."""

import json
from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from rendering import rendered

# A server that says nothing, one with adapters, a role and a claim of its own, and one with names of its own.
PROFILES: dict[str, dict[str, Any]] = {
    "fast": {},
    "tuned": {
        "model": "TheBloke/Mistral-7B-Instruct-v0.2-AWQ",
        "adapter_model": "tuned-lora",
        "adapter_slots": {"summaries": "live"},
        "role_name": "my-tuned-s3-read",
        "access": [{"bucket": "tuned"}],
        "cache": {"type": "claim", "size": "20Gi"},
    },
    "third": {"name": "llm", "service_name": "llm-api", "served_model_name": "third"},
}
MORE = {"vllm_enabled_profiles": ["vllm", *PROFILES], "vllm_profiles": PROFILES}
KINDS = ("ServiceAccount", "ConfigMap", "Service", "Deployment", "NetworkPolicy", "ServiceMonitor", "PrometheusRule")
# The contract's vLLM server, and what the others are called.
NAMES = {
    "vllm": ("vllm-sa", "vllm-startup", "vllm-service", "vllm", "vllm", "vllm", "vllm"),
    "fast": ("vllm-fast",) * 7,
    "tuned": ("vllm-tuned",) * 7,
    "third": ("llm", "llm", "llm-api", "llm", "llm", "llm", "llm"),
}


def parts(*roles: str, **variables: Any) -> dict[str, dict]:
    """Render, by profile; nothing may be wrong."""
    found = rendered(roles or ("vllm",), **variables)
    assert found["problems"] == []
    return {part["profile"]: part for part in found["parts"]}


@pytest.fixture(scope="module")
def several() -> dict[str, dict]:
    return parts(**MORE)


def thing(part: dict, kind: str) -> dict:
    (found,) = [item for item in part["objects"] if item["kind"] == kind]
    return found


def pod(part: dict) -> dict:
    return thing(part, "Deployment")["spec"]["template"]["spec"]


def text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


# --- Names -----------------------------------------------------------------------------------------


def test_the_contracts_server_is_the_only_one_unless_others_are_named():
    assert list(parts()) == ["vllm"]
    assert list(parts(vllm_profiles=PROFILES)) == ["vllm"]
    assert list(parts(vllm_enabled_profiles=["fast"], vllm_profiles=PROFILES)) == ["fast"]


@pytest.mark.parametrize("profile", NAMES)
def test_names(several, profile):
    part = several[profile]
    assert tuple(thing(part, kind)["metadata"]["name"] for kind in KINDS) == NAMES[profile]
    name = part["name"]
    deployment = thing(part, "Deployment")
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": name}}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": name}
    assert {item["metadata"]["labels"]["app"] for item in part["objects"]} == {name}
    assert thing(part, "Service")["spec"]["selector"] == {"app": name}
    ports = [(port["name"], port["port"]) for port in thing(part, "Service")["spec"]["ports"]]
    assert ports == [("http", 8000), ("metrics", 9090)]
    assert pod(part)["serviceAccountName"] == thing(part, "ServiceAccount")["metadata"]["name"]
    assert pod(part)["containers"][0]["name"] == "vllm"
    startup = thing(part, "ConfigMap")["metadata"]["name"]
    assert {"name": "startup", "configMap": {"name": startup}} in pod(part)["volumes"]


def test_alerts_and_monitors_are_of_their_own_server(several):
    for part in several.values():
        assert f'job=\\"{part["service"]}\\"' in text(thing(part, "PrometheusRule"))
        labels = thing(part, "ServiceMonitor")["spec"]["selector"]["matchLabels"]
        matched = [
            other
            for other in several.values()
            if labels.items() <= thing(other, "Service")["metadata"]["labels"].items()
        ]
        assert matched == [part]


def test_no_two_servers_share_an_object(several):
    found = parts("vllm", "vllm_judge", "triton", vllm_judge_variant="judge", **MORE)
    ours = [(item["kind"], item["metadata"]["name"]) for part in found.values() for item in part["objects"]]
    assert len(set(ours)) == len(ours)
    assert len(found) == 7


@pytest.mark.parametrize("delivery", ["direct", "gitops"])
def test_nothing_of_the_contracts_server_changes_with_the_others(delivery):
    def of(profile, **variables):
        return text(parts(platform_delivery=delivery, **variables)[profile])

    alone = of("vllm")
    assert of("vllm", **MORE) == alone
    assert of("vllm", vllm_enabled_profiles=["tuned", "vllm"], vllm_profiles=PROFILES) == alone
    # Nor does any other with one more.
    assert of("fast", **MORE) == of("fast", vllm_enabled_profiles=["fast"], vllm_profiles={"fast": {}})


# --- What is each server's own ---------------------------------------------------------------------


def test_adapters_are_a_servers_own(several):
    slots = {name: part for name, part in several.items() if "initContainers" in pod(part)}
    assert set(slots) == {"vllm", "tuned"}
    (loader,) = pod(several["tuned"])["initContainers"]
    told = {item["name"]: item.get("value") for item in loader["env"]}
    assert (told["ADAPTER_MODEL"], json.loads(told["ADAPTER_SLOTS"])) == ("tuned-lora", {"summaries": "live"})
    assert "slots=summaries" in thing(several["tuned"], "ConfigMap")["data"]["start.sh"]
    assert "aws-rag-qa" not in text(several["tuned"])
    for profile, words in (("fast", []), ("tuned", ["--enable-lora", "--max-loras=2", "--max-lora-rank=32"])):
        arguments = pod(several[profile])["containers"][0]["args"]
        assert [word for word in arguments if "lora" in word] == words
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" in text(pod(several["tuned"]))
    for word in ("lora", "LORA", "mlflow", "adapters", "load_adapters"):
        assert word not in text(pod(several["fast"])), word
    assert "5000" not in text(thing(several["fast"], "NetworkPolicy"))
    assert "5000" in text(thing(several["tuned"], "NetworkPolicy"))


def test_a_role_and_its_access_are_a_servers_own(several):
    key = "eks.amazonaws.com/role-arn"
    roles = {
        name: thing(part, "ServiceAccount")["metadata"].get("annotations", {}).get(key)
        for name, part in several.items()
    }
    arn = "arn:aws:iam::123456789012:role/"
    assert roles == {"vllm": f"{arn}my-vllm-s3-read", "fast": None, "tuned": f"{arn}my-tuned-s3-read", "third": None}
    accounts = {name: part["account"] for name, part in several.items() if part["account"]}
    assert {name: (account["name"], account["access"]) for name, account in accounts.items()} == {
        "vllm": ("vllm-sa", [{"bucket": "my-mlflow-artifacts"}]),
        "tuned": ("vllm-tuned", [{"bucket": "tuned"}]),
    }
    assert f"{arn}my-tuned-s3-read" in rendered(("vllm",), **MORE)["role_arns"]
    # A role that the base names is not the others'.
    assert parts(vllm_role_name="other", **MORE)["fast"]["account"] is None


def test_a_claim_is_named_after_its_server(several):
    assert thing(several["tuned"], "PersistentVolumeClaim")["metadata"]["name"] == "vllm-tuned-cache"
    shared = parts(vllm_cache={"type": "claim", "size": "9Gi"}, **MORE)
    claims = {thing(part, "PersistentVolumeClaim")["metadata"]["name"] for part in shared.values()}
    assert claims == {"vllm-cache", "vllm-fast-cache", "vllm-tuned-cache", "llm-cache"}
    assert not [item for item in several["fast"]["objects"] if item["kind"] == "PersistentVolumeClaim"]


def test_other_settings_come_from_the_base():
    found = parts(vllm_max_model_len=2048, vllm_env={"A": "1"}, vllm_replicas=1, **MORE)
    for part in found.values():
        assert "--max-model-len=2048" in pod(part)["containers"][0]["args"]
        assert {"name": "A", "value": "1"} in pod(part)["containers"][0]["env"]
    own = parts(model_server_priority_class_name="high", **MORE)
    assert {pod(part)["priorityClassName"] for part in own.values()} == {"high"}


def test_smoke_asks_each_at_its_service_for_its_model(several):
    asked = {name: (part["service"], part["questions"][0]["expect"]) for name, part in several.items()}
    assert asked == {
        "vllm": ("vllm-service", "TheBloke/Mistral-7B-v0.1-AWQ"),
        "fast": ("vllm-fast", "TheBloke/Mistral-7B-v0.1-AWQ"),
        "tuned": ("vllm-tuned", "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"),
        "third": ("llm-api", "third"),
    }
    assert several["third"]["questions"][1]["body"]["model"] == "third"


# --- Off -------------------------------------------------------------------------------------------


def test_vllm_off_has_no_server_whatever_is_named():
    assert parts(vllm_enabled=False, **MORE) == {}
    found = rendered(("vllm",), True, vllm_enabled=False, **MORE)
    assert {part["profile"]: part["enabled"] for part in found["parts"]} == dict.fromkeys(NAMES, False)


def test_what_is_off_is_rendered_for_the_tree_and_not_deployed():
    found = rendered(("vllm",), True, vllm_profiles=PROFILES)
    assert {part["profile"]: part["enabled"] for part in found["parts"]} == {
        **dict.fromkeys(NAMES, False),
        "vllm": True,
    }
    assert [thing(part, "Deployment")["metadata"]["name"] for part in found["parts"]] == [
        "vllm",
        "vllm-fast",
        "vllm-tuned",
        "llm",
    ]


# --- Delivery --------------------------------------------------------------------------------------

FOLDERS = {"vllm": "vllm/base", "fast": "vllm/fast", "tuned": "vllm/tuned", "third": "vllm/third"}


@pytest.mark.parametrize("delivery", ["direct", "gitops"])
def test_each_has_an_application_and_its_folder_in_every_mode(delivery):
    found = rendered(vllm_judge_variant="judge", platform_delivery=delivery, **MORE)
    assert found["problems"] == []
    (applications,) = [part["objects"] for part in found["parts"] if part["role"] == "argocd_apps"]
    paths = {item["metadata"]["name"]: item["spec"]["source"]["path"] for item in applications}
    assert {name: path for name, path in paths.items() if name.startswith("vllm")} == {
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
        **{f"vllm-inference-{name}": f"infra/k8s/{FOLDERS[name]}" for name in PROFILES},
    }
    assert {part["profile"]: part["folder"] for part in found["parts"] if part["role"] == "vllm"} == FOLDERS


def files(**variables: Any) -> dict[str, str]:
    """Write the tree of one host, in memory."""
    found = rendered((), True, **variables)
    assert found["problems"] == []
    assert layout.problems(found, {}) == []
    return tree.compose(layout.folders(found), "here", "host here")


def test_the_tree_has_a_folder_for_each_and_builds_what_is_on():
    written = files(vllm_judge_variant="judge", vllm_enabled_profiles=["vllm", "fast"], vllm_profiles=PROFILES)
    for folder in FOLDERS.values():
        assert f"k8s/{folder}/kustomization.yaml" in written
    assert "  - base\n  - fast\n  - judge\n" in written["k8s/vllm/kustomization.yaml"]
    assert "tuned" not in written["k8s/vllm/kustomization.yaml"]
    assert tree.OFF in written["argocd/vllm/vllm-inference-tuned.yaml"]
    assert tree.OFF not in written["argocd/vllm/vllm-inference-fast.yaml"]
    assert "vllm_enabled_profiles" in written["k8s/vllm/kustomization.yaml"].split("apiVersion")[0]
    assert written["k8s/vllm/fast/deployment-vllm-fast.yaml"].splitlines()[2] == (
        "# Variables: vllm_profiles.fast, vllm_*, model_server_*, platform_*"
    )


def test_the_tree_of_the_contract_is_the_same_with_others():
    def contract(**variables):
        found = files(vllm_judge_variant="judge", **variables)
        return {
            path: content
            for path, content in found.items()
            if path.startswith(("k8s/vllm/base/", "k8s/vllm/judge", "k8s/vllm/overlays", "argocd/vllm/vllm-inference"))
            and path.removeprefix("argocd/vllm/vllm-inference-").partition(".")[0] not in PROFILES
        }

    assert contract(**MORE) == contract()


# --- Refused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        (
            {"fast": {"name": "vllm"}},
            "vllm_profiles.fast.name is 'vllm': is the name that vllm_name gives to another server's Deployment",
        ),
        (
            {"fast": {"service_name": "vllm-service"}},
            "vllm_profiles.fast.service_name is 'vllm-service': is the name that vllm_service_name gives",
        ),
        (
            {"fast": {"name": "judge-vllm"}},
            "vllm_judge_name is 'judge-vllm': is the name that vllm_profiles.fast.name gives",
        ),
        (
            {"fast": {"name": "triton-inference"}},
            "vllm_profiles.fast.name is 'triton-inference': is the name that triton_profiles.cpu.name gives",
        ),
        (
            {"fast": {"service_account_name": "vllm-sa"}},
            "is the name that vllm_service_account_name gives to another server's ServiceAccount",
        ),
        (
            {"fast": {"startup_configmap_name": "judge-vllm-startup"}},
            "is the name that vllm_profiles.fast.startup_configmap_name gives",
        ),
        (
            {"fast": {"name": "x"}, "slow": {"name": "x"}},
            "vllm_profiles.slow.name is 'x': is the name that vllm_profiles.fast.name gives",
        ),
        ({"Fast_1": {}}, "vllm_profiles.Fast_1 is 'Fast_1': the key must be a DNS label"),
        ({"a" * 60: {}}, "must be a DNS label: at most 63"),
        ({"fast": {"modle": "x"}}, "vllm_profiles.fast.modle is 'x': no such key, did you mean model?"),
        ({"judge": {}}, "two Applications have this name"),
        ({"base": {}}, "is the path of Application vllm-inference too"),
    ],
    ids=str,
)
def test_a_profile_that_would_share_something_is_refused(variables, told):
    enabled = ["vllm", *variables]
    lines = rendered(vllm_judge_variant="judge", vllm_enabled_profiles=enabled, vllm_profiles=variables)["problems"]
    assert any(told in line for line in lines), lines
    # A name that others follow is told once.
    assert len([line for line in lines if "is the name that" in line]) == ("is the name that" in told)


def test_a_profile_that_nobody_describes_is_refused():
    lines = rendered(("vllm",), vllm_enabled_profiles=["vllm", "fsat"], vllm_profiles={"fast": {}})["problems"]
    assert lines == ["vllm_enabled_profiles[1] is 'fsat': unknown, did you mean 'fast'? Known: fast, vllm"]


@pytest.mark.parametrize("profile", ["judge", "judge-large", "mine", "base", "overlays"])
def test_a_folder_is_never_two_things_in_the_tree(profile):
    """Also where both are off."""
    with pytest.raises(Refused, match=f"the folder k8s/vllm/{profile} would be two things at once"):
        files(vllm_profiles={profile: {}}, vllm_judge_variants={"mine": {"name": "mine"}})
