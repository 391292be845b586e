"""Runs over several clusters: their waves, what stops between two of them, and the table at their end; without a cluster."""

from types import SimpleNamespace

import pytest
from ansible import context
from ansible.errors import AnsibleLookupError
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.collections import ImmutableDict
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play import Play
from ansible.plugins.loader import callback_loader, lookup_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from ansible_collections.modelyard.core.plugins.plugin_utils import closing
from ansible_collections.modelyard.core.plugins.plugin_utils.fleet import Fleet, cut
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

SIXTEEN = [f"c{number}" for number in range(16)]


def fleet(run=SIXTEEN, **variables):
    """A run over some of sixteen clusters; one further host is none."""
    groups = {"clusters": SIXTEEN, "all": [*SIXTEEN, "other"]}
    return Fleet({"groups": groups, "ansible_play_hosts_all": run, **variables})


def waves(asked):
    return cut(asked.hosts, asked.sizes)


# --- Waves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("serial", "canary", "lengths"),
    [
        ([], [], [16]),
        ("", "", [16]),
        ([1, "25%", "100%"], [], [1, 4, 11]),
        ("1, 25%, 100%", [], [1, 4, 11]),
        (5, [], [5, 5, 5, 1]),
        ("5", [], [5, 5, 5, 1]),
        ([], ["c3"], [1, 15]),
        ([], "c3,c2", [2, 14]),
        (["50%"], ["c3"], [1, 8, 7]),
    ],
)
def test_waves(serial, canary, lengths):
    asked = fleet(fleet_serial=serial, fleet_canary=canary)
    assert [len(wave) for wave in waves(asked)] == lengths
    assert sorted(name for wave in waves(asked) for name in wave) == sorted(SIXTEEN)


def test_canaries_come_first_in_their_own_order():
    asked = fleet(fleet_canary=["c3", "c2"])
    assert asked.pattern == ["c3", "c2", "clusters"]
    assert waves(asked)[0] == ["c3", "c2"]


def test_a_limit_without_the_canary_has_no_wave_for_it():
    assert fleet(["c0", "c1"], fleet_canary=["c3"]).sizes == []
    assert fleet(["c0", "c3", "other"], fleet_canary=["c3"]).hosts == ["c3", "c0"]


def test_one_cluster_runs_as_ever():
    assert (fleet(["c0"]).strategy, fleet(["c0"]).sizes) == ("ansible.builtin.linear", [])
    assert fleet().strategy == "ansible.builtin.host_pinned"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"fleet_serial": 0}, "fleet_serial is 0: must be numbers of clusters (1 or more) or shares"),
        ({"fleet_serial": [1, "0%"]}, "fleet_serial is '0%': must be"),
        ({"fleet_serial": "101%"}, "fleet_serial is '101%': must be"),
        ({"fleet_serial": [True]}, "fleet_serial is True: must be"),
        ({"fleet_serial": {"a": 1}}, "fleet_serial is {'a': 1}: must be"),
        ({"fleet_serial": "some"}, "fleet_serial is 'some': must be"),
        ({"fleet_canary": "other"}, "fleet_canary is 'other': no host of the group clusters has this name"),
        ({"fleet_max_fail_percentage": 101}, "fleet_max_fail_percentage is 101: must be a number from 0 to 100"),
        ({"fleet_max_fail_percentage": "x"}, "fleet_max_fail_percentage is 'x': must be"),
        ({"fleet_max_fail_percentage": True}, "fleet_max_fail_percentage is True: must be"),
        ({"fleet_seral": 1}, "did you mean 'fleet_serial'"),
    ],
)
def test_a_wrong_value_is_refused_by_name(variables, told):
    with pytest.raises(Refused) as caught:
        fleet(**variables)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("percentage", "failed", "stopped"),
    [
        (0, [], False),
        ("", ["c1"], True),
        (0, ["c1"], True),
        (25, ["c1"], False),  # one of four: exactly the share
        ("24.9", ["c1"], True),
        (25, ["c1", "c4"], True),
        (100, ["c1", "c2", "c3", "c4"], False),
        # Of the wave before alone.
        (0, ["c0"], False),
        (0, ["c7"], False),
    ],
)
def test_a_wave_begins_unless_more_than_the_share_of_the_one_before_failed(percentage, failed, stopped):
    asked = fleet(fleet_serial=[1, 4, 5], fleet_max_fail_percentage=percentage)
    alive = [name for name in SIXTEEN if name not in failed]
    batch = [name for name in ("c5", "c6", "c7", "c8", "c9") if name in alive]
    assert asked.stopped("c6", batch, alive, asked.percentage) is stopped


def test_the_first_wave_always_begins():
    assert fleet(fleet_serial=1).stopped("c0", ["c0"], [], 0) is False
    assert fleet().stopped("c9", SIXTEEN, SIXTEEN, 0) is False


def test_waves_that_the_inventory_asks_for_are_refused():
    """It is too late for them: Ansible has made the waves without."""
    for variables in ({"fleet_serial": 4}, {"fleet_canary": "c9"}):
        with pytest.raises(Refused, match="has no effect in the inventory"):
            fleet(**variables).stopped("c0", SIXTEEN, SIXTEEN, 0)


def test_a_share_that_the_inventory_asks_for_is_refused_too():
    asked = fleet(fleet_max_fail_percentage=50)
    with pytest.raises(Refused, match="fleet_max_fail_percentage has no effect in the inventory"):
        asked.stopped("c0", SIXTEEN, SIXTEEN, 0)
    assert fleet(["c0"], fleet_max_fail_percentage=50).stopped("c0", ["c0"], ["c0"], 0) is False


def test_the_share_of_the_play_is_that_of_its_keywords():
    known = {"groups": {"clusters": SIXTEEN}, "ansible_play_hosts_all": SIXTEEN}
    here = {"inventory_hostname": "c0", "ansible_play_batch": SIXTEEN, "ansible_play_hosts": SIXTEEN}
    found = lookup_loader.get("modelyard.core.fleet", loader=None, templar=Templar(loader=DataLoader()))
    share = {"fleet_max_fail_percentage": 50}
    assert found.run(["strategy"], known | share) == ["ansible.builtin.host_pinned"]
    assert found.run(["stopped"], known | here | share) == [False]
    found.run(["strategy"], known)
    with pytest.raises(AnsibleLookupError, match="fleet_max_fail_percentage has no effect in the inventory"):
        found.run(["stopped"], known | here | share)


@pytest.mark.parametrize(
    ("serial", "strategy", "told"),
    [
        ([], "host_pinned", "20 clusters go at once, and there are 8 forks: while 8 wait"),
        ([5], "host_pinned", ""),
        (["10%", 9], "host_pinned", "9 clusters go at once"),
        ([], "linear", ""),
    ],
)
def test_too_few_forks_for_the_largest_wave_are_told(serial, strategy, told, monkeypatch):
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(forks=8))
    loader = DataLoader()
    inventory = InventoryManager(loader, [",".join(f"c{number}" for number in range(20)) + ","])
    words = {"hosts": "all", "serial": serial, "strategy": f"ansible.builtin.{strategy}", "tags": ["whole"]}
    play = Play.load(words, variable_manager=VariableManager(loader, inventory), loader=loader)
    said = []
    callback = callback_loader.get("modelyard.core.fleet")
    callback._display = SimpleNamespace(warning=said.append)
    callback.v2_playbook_on_play_start(play)
    assert "".join(said).startswith(told)
    assert bool(said) == bool(told)


# --- The table -------------------------------------------------------------------------------------


def cluster(name, seconds=0.0, failure=None, changes=None, **more):
    """What the callback knows of a cluster at the end."""
    made = closing.Cluster(name, begun=1, ended=1 + seconds, failed=failure is not None, **more)
    for count in changes or []:
        made.add({"changes": ["update Deployment a/b"] * count})
    if failure is not None:
        made.fail(failure if isinstance(failure, dict) else {"msg": failure})
    return made


def told(clusters, width=0, check=False):
    return [line for line, _ in closing.lines(clusters, check, width)]


GONE = {"msg": "cluster eu-2: https://10.0.0.1 does not answer: timed out", "answers": False}
RUN = [
    cluster("eu-1", 4.4, changes=[0]),
    cluster("eu-2", 63, GONE),
    cluster("us-1", 2405, "cluster us-1: Deployment ml-models/vllm is not ready\nIts pods: ...", changes=[12]),
    cluster("us-2", 3, changed=2),
    closing.Cluster("us-3"),
]


def test_a_row_for_every_cluster_and_what_to_run_again():
    assert told(RUN) == [
        "CLUSTER  RESULT       CHANGES  TIME",
        "eu-1     succeeded    0        4 s",
        "eu-2     unreachable  -        1 min 3 s   https://10.0.0.1 does not answer: timed out",
        "us-1     failed       12       40 min 5 s  Deployment ml-models/vllm is not ready",
        "us-2     succeeded    2        3 s",
        "us-3     not begun    -        -",
        "2 of 5 clusters succeeded; the others again: --limit eu-2,us-1,us-3",
    ]


def test_what_failed_is_below_its_cluster_where_it_does_not_fit():
    lines = told(RUN, 79)
    assert lines[2:4] == [
        "eu-2     unreachable  -        1 min 3 s",
        "    https://10.0.0.1 does not answer: timed out",
    ]
    assert max(map(len, lines)) <= 79


def test_a_line_has_the_result_that_it_is_about():
    results = [result for _, result in closing.lines(RUN, check=False, width=0)]
    assert results == ["", "succeeded", "unreachable", "failed", "succeeded", "not begun", ""]


def test_check_mode_says_what_would_change():
    assert told([cluster("a", 1, changes=[3]), cluster("b", 1, changes=[0])], check=True) == [
        "CLUSTER  RESULT     WOULD CHANGE  TIME",
        "a        succeeded  3             1 s",
        "b        succeeded  0             1 s",
        "2 of 2 clusters succeeded",
    ]


@pytest.mark.parametrize(
    ("result", "line"),
    [
        ({"msg": "cluster a: Nothing was applied. 2 problems:\n  1. x is 1\n  2. y is 2"}, "Nothing was applied. 2 problems: 1. x is 1"),
        ({"censored": "the output has been hidden"}, "the output has been hidden"),
        ({}, "the task failed"),
        ({"msg": "x" * 400}, "x" * 299 + "…"),
    ],
)  # fmt: skip
def test_what_failed_is_one_line(result, line):
    assert told([cluster("a", 1, result)])[1].split("  ")[-1].strip() == line


def test_a_cluster_that_went_away_stays_unreachable_whatever_fails_after_that():
    """As a rescue's last task, which repeats the words of a module."""
    found = cluster("a", 1, GONE)
    found.fail({"msg": "connection refused"})
    assert told([found])[1] == "a        unreachable  -        1 s  connection refused"
    # Those of models, in playbooks/smoke.yml.
    assert cluster("b", 1, {"msg": "wrong", "answers": []}).result == closing.FAILED


def test_what_was_recovered_from_is_no_failure():
    found = cluster("a", 1, "tried")
    found.failed = False
    assert told([found])[1] == "a        succeeded  0        1 s"
