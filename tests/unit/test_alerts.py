"""What an inventory says of the alerts, and what becomes of it; tests/test_alerts.py has promtool evaluate them."""

import json
import re

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import alerts
from rendering import rendered


def rules(name: str, *roles: str, **variables) -> dict[str, dict]:
    result = rendered(roles, **variables)
    assert result["problems"] == []
    (part,) = [one for one in result["parts"] if one["name"] == name and one["enabled"]]
    (rule,) = [item for item in part["objects"] if item["kind"] == "PrometheusRule"]
    return {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"]}


def test_a_threshold_that_is_left_out_is_the_roles() -> None:
    found = rules("vllm", "vllm", vllm_alert_thresholds={"waiting": 3, "kv_cache_usage": None})
    assert found["VLLMRequestsWaiting"]["expr"].endswith(" > 3")
    assert found["VLLMCacheFull"]["expr"].endswith(" > 0.95")
    assert found["VLLMSlowFirstToken"]["expr"].endswith(" > 10")


def test_a_profile_has_thresholds_of_its_own() -> None:
    profiles = {"fast": {"alert_thresholds": {"first_token_seconds": 0.5, "idle_hours": 0.5}}}
    found = rules("vllm-fast", "vllm", vllm_enabled_profiles=["fast"], vllm_profiles=profiles)
    assert found["VLLMSlowFirstToken"]["expr"].endswith(" > 0.5")
    assert found["VLLMRequestsWaiting"]["expr"].endswith(" > 10")
    assert found["VLLMIdle"]["for"] == "30m"
    assert "for 0.5 hours" in found["VLLMIdle"]["annotations"]["summary"]


def test_who_is_watched_for_idling() -> None:
    assert "VLLMIdle" not in rules("vllm", "vllm")
    assert rules("judge-vllm", "vllm_judge", vllm_judge_variant="judge-large")["VLLMIdle"]["for"] == "120m"
    never = {"vllm_judge_variant": "judge", "vllm_judge_alert_thresholds": {"idle_hours": 0}}
    assert "VLLMIdle" not in rules("judge-vllm", "vllm_judge", **never)


@pytest.mark.parametrize("switch", ["platform_monitoring_enabled", "triton_alerts_enabled"])
def test_they_can_be_turned_off(switch: str) -> None:
    result = rendered(("triton",), **{switch: False})
    kinds = {item["kind"] for part in result["parts"] for item in part["objects"]}
    assert "PrometheusRule" not in kinds
    assert ("ServiceMonitor" in kinds) == (switch == "triton_alerts_enabled")


def test_only_what_a_server_has_is_watched() -> None:
    with_adapters, without = rules("vllm", "vllm"), rules("judge-vllm", "vllm_judge", vllm_judge_variant="judge")
    assert "VLLMLoaderFails" in with_adapters
    assert not {"VLLMLoaderFails", "VLLMCertificateExpires"} & without.keys()


def test_names_and_times_are_the_servers_own() -> None:
    given = {
        "vllm_name": "llm-two",
        "vllm_ingress": {"tls": [{"secretName": "llm.tls"}, {"hosts": ["a.local"]}, {"secretName": "more"}]},
        "platform_namespace": "models",
        "platform_node_provisioning_seconds": 3600,
        "platform_image_pull_seconds": 1000,
        "platform_deadline_margin_seconds": 5,
        "platform_runbook_url": "https://wiki.local/runbooks",
        "vllm_startup_seconds": 200,
        "vllm_adapters_seconds": 20,
        "vllm_alert_thresholds": {"certificate_days": 3},
    }
    found = rules("llm-two", "vllm", **given)
    text = json.dumps(found)
    assert "ml-models" not in text
    assert {one["labels"]["namespace"] for one in found.values()} == {"models"}
    assert f'pod=~"{alerts.pods("llm-two")}"' in found["VLLMSlowStart"]["expr"]
    # A text in PromQL has the backslash of a regular expression twice.
    assert r'name=~"llm\\.tls|more"' in found["VLLMCertificateExpires"]["expr"]
    assert found["VLLMCertificateExpires"]["expr"].endswith(" < 3 * 86400")
    assert " > 1225\n" in found["VLLMSlowStart"]["expr"]
    assert found["VLLMDown"]["for"] == "300s"
    assert "[3300s]" in found["VLLMDown"]["expr"]
    assert found["VLLMDown"]["annotations"]["runbook_url"] == "https://wiki.local/runbooks#down"


@pytest.mark.parametrize(
    ("name", "pod", "is_one"),
    [
        ("vllm", "vllm-6d5f9b7c4-x2x4z", True),
        ("vllm", "vllm-slow-6d5f9b7c4-x2x4z", False),
        ("vllm", "vllm-redis-0", False),
        ("vllm", "vllm-warmup-x7k2p", False),
        ("a" * 47, "a" * 47 + "-6d5f9b7c4x" + "x2x4z", True),
        ("a" * 57, "a" * 57 + "-x2x4z", True),
        ("a" * 63, "a" * 58 + "x2x4z", True),
        ("a" * 63, "a" * 58, False),
    ],
)
def test_the_names_of_a_deployments_pods(name, pod, is_one) -> None:
    assert bool(re.fullmatch(alerts.pods(name), pod)) == is_one
