"""Two hosts of one run that would write to the same place are refused, and both are named."""

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import twins
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

ROOT = Path(__file__).parents[2]
URL = {"platform_api_server": "https://api"}
HUB = {**URL, "platform_delivery": "gitops"}


class Broken(dict):
    """Variables of which one can't be read."""

    def __getitem__(self, name):
        if name == "platform_namespace":
            raise AnsibleError("undefined")
        return super().__getitem__(name)


def check(one: dict, other: dict, hosts: tuple[str, ...] = ("beta", "alpha")) -> None:
    twins.check(
        {
            "inventory_hostname": "beta",
            "ansible_play_hosts_all": list(hosts),
            "hostvars": {"beta": one, "alpha": other},
        }
    )


@pytest.mark.parametrize(
    ("one", "other", "why"),
    [
        (URL, {"platform_api_server": "HTTPS://API:443/"}, "platform_api_server is https://api"),
        ({"platform_kube_system_uid": "u"}, {"platform_kube_system_uid": "u", **URL}, "platform_kube_system_uid is u"),
        # Each by what the other does not have: what leads there tells.
        ({"platform_kube_system_uid": "u"}, URL, "the same platform_connection"),
        (HUB, HUB, "platform_api_server is https://api"),
        (Broken(URL), URL, "platform_api_server is https://api"),
    ],
)  # fmt: skip
def test_two_hosts_that_are_one_place_are_refused_and_named(one, other, why):
    with pytest.raises(Refused) as refused:
        check(one, other)
    assert f"the hosts alpha and beta of this run are one cluster ({why}), and work in one namespace of it" in str(
        refused.value
    )


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (URL, {"platform_api_server": "https://other"}),
        # Several teams, or a measurement, in one cluster.
        (URL, {**URL, "platform_namespace": "of-its-own"}),
        ({"platform_kube_system_uid": "u"}, {"platform_kube_system_uid": "v"}),
        ({"platform_kube_system_uid": "u"}, {**URL, "platform_connection": {"context": "c"}}),
        # One Argo CD that delivers to two clusters.
        (HUB, {**HUB, "argocd_apps_destination_name": "second"}),
        (URL, {"platform_api_server": "https://["}),
    ],
)
def test_hosts_that_keep_out_of_each_others_way_are_not(one, other):
    check(one, other)


def test_a_run_over_one_host_looks_at_no_other():
    check(URL, URL, ("beta",))
    twins.check({})


def test_every_action_that_takes_the_lock_looks_for_twins_first():
    """But the rollout, which comes after the plan, and the teardown, which is for one host."""
    found = {path.stem: path.read_text() for path in (ROOT / "plugins/action").glob("*.py")}
    writing = {name for name, text in found.items() if " Lock(" in text or "Teardown(" in text}
    assert writing >= {"plan", "switch", "park", "wake", "gate"}
    assert {name for name in writing if "twins.check(task_vars)" not in found[name]} == {"rollout", "teardown"}
