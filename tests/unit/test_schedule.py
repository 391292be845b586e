"""When a server is parked and woken by itself: what is allowed, and what is made."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import parking
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import schedule
from rendering import rendered

TIMES = {"park": "0 20 * * 1-5", "wake": "0 7 * * mon-fri", "time_zone": "Europe/Berlin"}


def judge(**variables: Any) -> dict[tuple, dict]:
    """Give the judge's objects by kind and name; there must be no problem."""
    given = {f"vllm_judge_{key}": value for key, value in {"variant": "judge", "schedule": TIMES, **variables}.items()}
    found = rendered(**given)
    assert found["problems"] == []
    (part,) = (part for part in found["parts"] if part["name"] == "judge-vllm")
    return {(item["kind"], item["metadata"]["name"]): item for item in part["objects"]}


def problems(**variables: Any) -> list[str]:
    return rendered(vllm_judge_variant="judge", **variables)["problems"]


def test_two_cron_jobs_may_change_the_number_of_pods_and_nothing_else():
    found = judge(replicas=2, schedule_image="registry.example/kubectl:1")
    (rule,) = found["Role", "judge-vllm-schedule"]["rules"]
    assert rule == {
        "apiGroups": ["apps"],
        "resources": ["deployments/scale"],
        "resourceNames": ["judge-vllm"],
        "verbs": ["get", "patch"],
    }
    for verb, pods in (("park", 0), ("wake", 2)):
        spec = found["CronJob", f"judge-vllm-{verb}"]["spec"]
        assert (spec["schedule"], spec["timeZone"], spec["concurrencyPolicy"]) == (
            TIMES[verb],
            "Europe/Berlin",
            "Forbid",
        )
        pod = spec["jobTemplate"]["spec"]["template"]
        (container,) = pod["spec"]["containers"]
        assert container["image"] == "registry.example/kubectl:1"
        assert f'--patch={{"spec":{{"replicas":{pods}}}}}' in container["command"]
        assert f"--field-manager={parking.MANAGER}" in container["command"]
        assert pod["spec"]["serviceAccountName"] == "judge-vllm-schedule"
        assert "tolerations" not in pod["spec"]
    policy = found["NetworkPolicy", "judge-vllm-schedule"]["spec"]
    assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert "ingress" not in policy
    notes = found["Deployment", "judge-vllm"]["metadata"]["annotations"]
    assert notes[parking.SCHEDULE] == "park 0 20 * * 1-5, wake 0 7 * * mon-fri, Europe/Berlin"


def test_waking_gives_an_autoscaler_its_fewest_pods():
    found = judge(autoscaling={"minReplicas": 3, "maxReplicas": 4})
    command = found["CronJob", "judge-vllm-wake"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]
    assert '--patch={"spec":{"replicas":3}}' in command["command"]


def test_without_a_schedule_or_with_one_that_the_inventory_parks_there_is_none():
    for variables in ({"schedule": {}}, {"parked": True}):
        found = judge(**variables)
        assert not [key for key in found if "schedule" in key[1] or key[0] == "CronJob"]
        assert parking.SCHEDULE not in found["Deployment", "judge-vllm"]["metadata"]["annotations"]


@pytest.mark.parametrize(
    "text",
    ["0 20 * * 1-5", "*/15 0-23/2 1,15 JAN-mar Sun", "5 4 ? 12 0", "59 23 31 12 6", "0 7 * * mon,wed-fri"],
)
def test_the_schedules_of_a_cron_job(text: str):
    assert schedule.cron_error(text) is None


@pytest.mark.parametrize(
    ("text", "field"),
    [
        *((text, "five fields") for text in ("", "@daily", "0 20 * *", "0 20 * * 1-5 *", "TZ=UTC 0 20 * * *")),
        *((f"{text} 20 * * *", "minute") for text in ("60", "-1", "a", "1-", "5-1", "*/0", "1,", "0.5", "0020", "²")),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of the month"),
        ("0 0 * 13 *", "month"),
        # The controller's own grammar ends at Saturday.
        ("0 0 * * 7", "day of the week"),
        ("0 0 * * monday", "day of the week"),
    ],
)
def test_what_is_no_schedule_of_a_cron_job(text: str, field: str):
    assert field in str(schedule.cron_error(text))


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"park": "0 25 * * *"}, "vllm_judge_schedule.park is '0 25 * * *': its hour, 25,"),
        ({"wake": TIMES["park"]}, "vllm_judge_schedule.wake is '0 20 * * 1-5': is when the server is parked, too"),
        ({"time_zone": "Europe/Berln"}, "vllm_judge_schedule.time_zone is 'Europe/Berln': must be a time zone"),
    ],
)
def test_a_wrong_schedule_is_told(variables: dict, message: str):
    (problem,) = problems(vllm_judge_schedule={**TIMES, **variables})
    assert problem.startswith(message)


def test_a_schedule_needs_both_times_a_name_that_is_short_and_no_keda():
    (problem,) = problems(vllm_judge_schedule={"park": TIMES["park"]})
    assert "wake" in problem
    (problem,) = problems(vllm_schedule=TIMES, vllm_name="v" * 48)
    assert "at most 47 characters where the server has a schedule" in problem
    scaled = {"maxReplicaCount": 2, "triggers": [{"type": "cpu", "metadata": {"value": "80"}}]}
    (problem,) = problems(vllm_judge_schedule=TIMES, vllm_judge_scaled_object=scaled)
    assert problem.startswith("vllm_judge_schedule is ")
    assert "KEDA would start the server again" in problem
