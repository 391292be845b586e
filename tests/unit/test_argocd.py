"""Which Applications there are, and what is in them."""

import re

import pytest
from ansible_collections.modelyard.core.plugins.filter.argocd import applications

SELECTION = {
    "triton": ["cpu", "gpu"],
    "vllm": True,
    "judge": "judge",
    "shared": True,
    "triton_prefix": "triton-inference-",
    "vllm_name": "vllm-inference",
    "judge_prefix": "vllm-inference-",
    "shared_name": "ml-models-shared",
}
SETTINGS = {
    "repo_url": "https://example.com/repo",
    "target_revision": "main",
    "path": "infra/k8s",
    "project": "default",
    "destination_server": "https://kubernetes.default.svc",
    "destination_name": "",
    "destination_namespace": "ml-models",
    "create_namespace": True,
    "automated": True,
    "prune": True,
    "self_heal": True,
    "retry": {"limit": 5},
    "sync_options": ["ServerSideApply=true"],
    "ignore_differences": [],
    "finalizer": False,
    "labels": {},
    "annotations": {},
}


def compute(overrides=None, extra=None, settings=None, **selection):
    return applications(SELECTION | selection, SETTINGS | (settings or {}), overrides or {}, extra or {})


def paths(*layers, **arguments):
    return {app["name"]: app["path"] for app in compute(*layers, **arguments)["applications"]}


def test_the_contract():
    assert paths() == {
        "triton-inference-cpu": "infra/k8s/triton/overlays/cpu",
        "triton-inference-gpu": "infra/k8s/triton/overlays/gpu",
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-judge": "infra/k8s/vllm/judge",
        "ml-models-shared": "infra/k8s/shared",
    }


@pytest.mark.parametrize("judge", ["none", None, ""])
def test_what_is_off_has_none(judge):
    assert list(paths(triton=["cpu"], vllm=False, judge=judge, shared=False)) == ["triton-inference-cpu"]


def test_the_other_judge_and_profiles_of_ones_own():
    found = paths(triton=["l4"], judge="judge-large")
    assert found["vllm-inference-judge-large"] == "infra/k8s/vllm/judge-large"
    assert found["triton-inference-l4"] == "infra/k8s/triton/overlays/l4"
    assert "vllm-inference-judge" not in found


def test_the_manifests_settings():
    app = applications(SELECTION | {"triton": [], "vllm": False, "judge": "none"}, SETTINGS, {}, {})["applications"][0]
    assert app["policy"] == {
        "automated": {"prune": True, "selfHeal": True},
        "syncOptions": ["ServerSideApply=true", "CreateNamespace=true"],
        "retry": {"limit": 5},
    }
    assert app["destination"] == {"namespace": "ml-models", "server": "https://kubernetes.default.svc"}
    assert app["finalizers"] == []


def test_overrides_reach_one_application():
    own = {"sync_wave": 2, "finalizer": True, "automated": False, "destination_name": "prod", "target_revision": "v1"}
    first, *others = applications(SELECTION, SETTINGS, {"ml-models-shared": own}, {})["applications"]
    assert first["annotations"] == {"argocd.argoproj.io/sync-wave": "2"}
    assert first["finalizers"] == ["resources-finalizer.argocd.argoproj.io"]
    assert "automated" not in first["policy"]
    assert first["destination"] == {"namespace": "ml-models", "name": "prod"}
    assert all(app["target_revision"] == "main" and not app["finalizers"] for app in others)


def test_a_renamed_and_a_further_one():
    found = paths({"vllm-inference": {"name": "llm"}}, {"lab": {"path": "lab/k8s"}})
    assert found["llm"] == "infra/k8s/vllm/base"
    assert found["lab"] == "lab/k8s"


def test_settings_of_one_that_is_off_may_stay():
    assert "vllm-inference-judge-large" not in paths({"vllm-inference-judge-large": {"sync_wave": 1}})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"overrides": {"vllm-inferense": {}}}, "argocd_apps_overrides.vllm-inferense.*did you mean 'vllm-inference'"),
        ({"extra": {"lab": {}}}, "argocd_apps_extra.lab is {}: needs path"),
        ({"extra": {"vllm-inference": {"path": "x"}}}, "is there already"),
        ({"extra": {"Lab_1": {"path": "x"}}}, "up to 63 lower-case"),
        ({"extra": {"lab": {"path": "infra/k8s/shared"}}}, "is the path of Application ml-models-shared too"),
        ({"overrides": {"vllm-inference": {"name": "ml-models-shared"}}}, "is the name of Application"),
        ({"triton": ["cpu", "cpu"]}, "two Applications have this name"),
        ({"triton_prefix": "vllm-inference-", "triton": ["judge"]}, "two Applications have this name"),
    ],
)
def test_refusals(arguments, message):
    found = compute(**arguments)
    assert found["applications"] == []
    assert any(re.search(message, line) for line in found["problems"]), found
