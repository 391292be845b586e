"""What one run applies and prunes of a rendering: one way of delivery, and no component that it did not render."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from rendering import DESCRIBED, rendered

OFF = {"triton_enabled_profiles": [], "vllm_enabled": False, "irsa_workflow_enabled": False}
SERVERS = ["irsa", "platform", "triton", "vllm", "vllm-judge", "mlserver"]


def options(*roles, **variables):
    found = rendered(roles, **variables)
    assert found["problems"] == []
    return delivery.options(found)


def kinds(objects):
    return {item["kind"] for item in objects}


def test_a_run_applies_the_objects_or_the_applications_and_never_both():
    assert "Deployment" in kinds(options()["objects"])
    assert "Application" not in kinds(options()["objects"])
    assert kinds(options(platform_delivery="gitops")["objects"]) == {"Application"}


@pytest.mark.parametrize("variables", [{}, OFF], ids=["on", "off"])
def test_what_is_off_is_pruned(variables):
    """A component without any object is one all the same: what it left on the cluster goes."""
    assert options(**variables)["components"] == SERVERS
    assert options(platform_delivery="gitops", **variables)["components"] == ["argocd-apps"]
    assert {kind["kind"] for kind in options(**variables)["prune"]} >= {"Deployment", "Service", "ServiceAccount"}


@pytest.mark.parametrize(("role", "component"), [("triton", "triton"), ("vllm_judge", "vllm-judge"), ("irsa", "irsa")])
def test_a_role_alone_prunes_no_others(role, component):
    assert options(role, **OFF)["components"] == [component]
    assert options(role, platform_delivery="gitops", **OFF)["components"] == []


def test_moving_back_takes_the_applications_of_a_run_of_everything():
    moved = options(apply_handover=True)
    assert [kind["kind"] for kind in moved["release"]] == ["ApplicationSet", "Application", "AppProject", "Secret"]
    assert options("vllm", apply_handover=True)["release"] == []
    assert options()["release"] == []
    assert options(platform_delivery="gitops", apply_handover=True)["release"] == []


def test_the_plan_knows_what_a_start_takes_and_which_pools_grow():
    pools = {"gpu-vllm": {"autoscaled": True}}
    found = options(vllm_judge_variant="judge-large", platform_hardware_profiles=pools)
    # Adapters and start; of the judge the start alone, which loads none.
    assert found["start_seconds"]["vllm"] == 120 + 300
    assert found["start_seconds"]["judge-vllm"] == 960
    assert found["autoscaled_pools"] == ["vllm"]


def test_a_secret_is_looked_for_by_its_name():
    def secrets(**variables):
        return [kind for kind in options(platform_delivery="gitops", **variables)["prune"] if kind["kind"] == "Secret"]

    (secret,) = secrets()
    assert secret["name"] == "modelyard-repository"
    assert secrets(argocd_apps_repository={"username": "git", "password": "hush"}) == []


def test_the_project_of_argocd_may_deploy_what_is_applied():
    applied = {(kind["api_version"].rpartition("/")[0], kind["kind"]) for kind in delivery.KINDS}
    allowed = DESCRIBED["argocd_apps"].options["project_kinds"]["default"]
    # A cache on a volume claim is applied, and never pruned.
    assert {(kind["group"], kind["kind"]) for kind in allowed} == applied | {("", "PersistentVolumeClaim")}
    found = kinds(options(vllm_judge_variant="judge", vllm_cache={"type": "claim", "size": "8Gi"})["objects"])
    assert found == {kind for _, kind in applied} | {"PersistentVolumeClaim"}
