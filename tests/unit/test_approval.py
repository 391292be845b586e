"""A run that was approved does what was approved or nothing: what its digest covers, and how a difference is told."""

import copy
import json

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import approval
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.change import Change
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from delivering import ARTIFACTS
from rendering import rendered as whole

MANAGED = [{"manager": "modelyard", "operation": "Apply", "time": "2026-11-29T14:00:00Z"}]


def item(name: str = "vllm", kind: str = "Deployment", **spec) -> dict:
    version = "apps/v1" if kind == "Deployment" else "v1"
    return {"apiVersion": version, "kind": kind, "metadata": {"namespace": "ml-models", "name": name}, "spec": spec}


def live(one: dict, **metadata) -> dict:
    found = copy.deepcopy(one)
    found["metadata"] |= {"uid": "1", "resourceVersion": "17", "managedFields": MANAGED, **metadata}
    return found | {"status": {"readyReplicas": 1}}


def update(before: dict | None = None, after: dict | None = None, **more) -> Change:
    before, after = before or item(image="a", replicas=1), after or item(image="b")
    return Change("update", after, live(before), live({**before, "spec": before["spec"] | after["spec"]}), **more)


def create(name: str = "new", **spec) -> Change:
    return Change("create", item(name, "ConfigMap", **spec), None, live(item(name, "ConfigMap", **spec)))


def prune(name: str = "old", **metadata) -> Change:
    there = live(item(name, "ConfigMap"), **metadata)
    return Change("prune", there, there, None)


CLUSTER = {"name": "eks-1", "host": "eks-1", "api_server": "https://one", "kube_system_uid": ""}
APPLY = {"approval_required": False, "rollback_on_failure": False}


def rendered(approved="", settings=APPLY, cluster=CLUSTER, **more) -> dict:
    return {"cluster": cluster, "settings": {"apply": {**settings, "approved": approved}}, **more}


def digest(*changes: Change, **more) -> str:
    return approval.of(rendered(**more), changes)["digest"]


def given(*changes: Change, **more) -> dict:
    """What a run in check mode has handed on, as the next one gets it."""
    run = rendered(**more)
    found = {run["cluster"]["host"]: approval.of(run, changes)}
    ARTIFACTS.validate({"apply_approved": found})
    return json.loads(json.dumps(found))


def refusal(approved, *changes: Change, **more) -> str:
    with pytest.raises(Refused) as error:
        approval.check(rendered(approved, **more), changes)
    # A check writes nothing, and only tells a difference; what is no approval it refuses, too.
    with pytest.raises(type(error.value)):
        approval.check(rendered(approved, **more), changes, check_mode=True)
    return " ".join(" ".join(error.value.problems).split())


# --- The digest --------------------------------------------------------------------------------------


def test_the_digest_knows_no_order():
    assert digest(update(), create(), prune()) == digest(prune(), update(), create())
    assert digest() == digest()


def again() -> Change:
    """The same change, found at another time."""
    found = update()
    for one in (found.before, found.after):
        one["metadata"] |= {"resourceVersion": "99", "generation": 4}
        one["metadata"]["managedFields"] = [MANAGED[0] | {"time": "2026-11-30T09:00:00Z"}]
        one["status"] = {}
    return found


def scaled() -> Change:
    """An autoscaler, to whom the number of pods belongs, has changed it."""
    found = update()
    for one in (found.before, found.after):
        one["spec"] = one["spec"] | {"replicas": 7}
    return found


def allocated() -> Change:
    """What the API server makes up in each dry run: a port of a node."""
    found = update()
    found.after["spec"] = found.after["spec"] | {"nodePort": 31234}
    return found


@pytest.mark.parametrize("same", [again, scaled])
def test_what_differs_from_run_to_run_does_not_count(same):
    assert digest(same()) == digest(update())


def test_what_the_api_server_makes_up_does_not_count():
    other = allocated()
    other.after["spec"]["nodePort"] = 30001
    assert digest(other) == digest(allocated())


CHANGES = {
    "another value": update(after=item(image="c")),
    "another value there": update(before=item(image="x", replicas=1)),
    "another field": update(after=item(image="b", paused=True)),
    "another object": update(before=item("vllm-2", image="a"), after=item("vllm-2", image="b")),
    "a takeover": update(takeover=True),
    "a creation": create("vllm"),
    "a creation with another value": create("vllm", a=1),
    "a deletion": prune("vllm"),
    "of another object of that name": prune("vllm", uid="2"),
    "that Argo CD carries on": Change("prune", live(item()), live(item()), cascade=True),
    "that it does not": Change("prune", live(item()), live(item()), cascade=False),
    "a release": Change("remove", live(item()), live(item()), cascade=False),
    "a namespace": Change("create", {"kind": "Namespace", "metadata": {"name": "ml-models", "labels": {}}}),
    "with other labels": Change(
        "create", {"kind": "Namespace", "metadata": {"name": "ml-models", "labels": {"a": "b"}}}
    ),
}


def test_every_kind_of_change_counts():
    digests = {name: digest(change) for name, change in CHANGES.items()} | {
        "as it is": digest(update()),
        "none": digest(),
    }
    assert len(set(digests.values())) == len(digests), digests
    assert digest(update(), create()) not in digests.values()


ELSEWHERE = [
    {"cluster": CLUSTER | {"api_server": "https://two"}},
    {"cluster": CLUSTER | {"kube_system_uid": "u"}},
    {"cluster": CLUSTER | {"host": "eks-2"}},
    {"settings": APPLY | {"rollback_on_failure": True}},
]


@pytest.mark.parametrize("other", ELSEWHERE)
def test_the_same_changes_of_another_cluster_or_with_a_way_back_are_others(other):
    assert digest(update(), **other) != digest(update())
    approved = {other.get("cluster", CLUSTER)["host"]: given(update())["eks-1"]}
    assert "other than approved: the cluster (the host, " in refusal(approved, update(), **other)
    # Nor is a part of what was approved for the one a part of it for the other.
    assert "other than approved: the cluster (the host, " in refusal(
        {next(iter(approved)): given(update(), create())["eks-1"]}, update(), **other
    )


def test_a_cluster_that_is_known_by_its_uid_may_be_reached_by_another_url():
    known = CLUSTER | {"kube_system_uid": "u"}
    assert digest(update(), cluster=known) == digest(update(), cluster=known | {"api_server": "https://proxy"})


def test_two_hosts_with_one_name_of_a_cluster_do_not_mix():
    """AWX and Ansible merge what the hosts of a run hand on, by its keys."""
    eu, us = ({**CLUSTER, "host": host, "api_server": f"https://{host}"} for host in ("eu", "us"))
    both = {**given(update(), cluster=eu), **given(create(), cluster=us)}
    assert approval.check(rendered(both, cluster=eu), [update()]) == "as approved: 1 change"
    assert approval.check(rendered(both, cluster=us), [create()]) == "as approved: 1 change"
    assert "has nothing of host us (it has: eu)" in refusal(given(update(), cluster=eu), update(), cluster=us)


# --- What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("none", ["", None])
def test_without_an_approval_nothing_is_held_against_one(none):
    assert approval.check(rendered(none), [update()]) == ""


@pytest.mark.parametrize("form", [dict, json.dumps])
def test_what_was_approved_is_done(form):
    assert approval.check(rendered(form(given(update(), prune()))), [prune(), update()]) == "as approved: 2 changes"


def test_what_differs_is_told():
    approved = given(update(), prune("old"))
    told = refusal(approved, update(after=item(image="c")), create("late"))
    assert "Run it in check mode again, and have that approved: " in told
    assert 'other than approved: update Deployment ml-models/vllm: spec.image "a" -> "c"' in told
    assert "new: create ConfigMap ml-models/late" in told
    assert "approved, and no longer to be done: prune ConfigMap ml-models/old" in told


def test_the_rest_of_what_was_approved_may_be_done():
    """A deploy that has stopped half-way is run again."""
    approved = given(update(), create("a"), create("b"))
    assert (
        approval.check(rendered(approved), [create("b")])
        == "as approved: 1 change of 3; no longer to be done: create ConfigMap ml-models/a, update Deployment ml-models/vllm"
    )
    # But only as it was approved, with nothing beside it, and where the approval names everything.
    assert "other than approved: create ConfigMap ml-models/b" in refusal(approved, create("b", x=1))
    assert "new: create ConfigMap ml-models/c" in refusal(approved, create("b"), create("c"))
    # Two groups of APIs have a kind of one name.
    twin = create("b")
    twin.item["apiVersion"] = "example.org/v1"
    assert "what this run would do is not" in refusal(approved, create("b"), twin)
    assert "what this run would do is not" in refusal(given(create("b")), create("b"), twin)
    approved["eks-1"] |= {"more": 1}
    assert "the approval names 3 of 4 changes" in refusal(approved, create("b"))


REQUIRED = APPLY | {"approval_required": True}


@pytest.mark.parametrize("none", ["", None, {}])
@pytest.mark.parametrize("run", [{}, {"rollback_to": 3}])
def test_where_an_approval_is_required_nothing_goes_without(none, run):
    def check(*changes, **more):
        return approval.check(rendered(none, REQUIRED, **run), changes, **more)

    with pytest.raises(Refused, match=r"it has: none.*, and apply_approval_required is true, and there"):
        check(update())
    assert (check() or NOTHING_LEFT) == NOTHING_LEFT
    if none != {}:
        assert check(update(), check_mode=True) == ""


NOTHING_LEFT = "nothing is left to do of what was approved"


def test_a_required_approval_is_one_of_the_same_kind():
    run = rendered(given(update(), settings=REQUIRED), REQUIRED)
    assert approval.check(run, [update()]) == "as approved: 1 change"
    with pytest.raises(Refused, match="approved is a deploy, and this run is a rollback to release 3"):
        approval.check(run | {"rollback_to": 3}, [update()])
    # The old pods have gone by now: whoever is back is better than nobody.
    assert approval.check(rendered("", REQUIRED, recovers=True), [update()]) == ""


@pytest.mark.parametrize("word", [True, "true", "yes"])
def test_awx_gives_the_word_as_a_text(word):
    assert whole(apply_approval_required=word)["settings"]["apply"]["approval_required"] is True
    assert whole(apply_approval_required="false")["settings"]["apply"]["approval_required"] is False


def test_there_is_something_to_do_where_nothing_was_approved():
    assert "new: create ConfigMap ml-models/late" in refusal(given(), create("late"))


@pytest.mark.parametrize("approved", [given(update()), given(), {}])
def test_nothing_to_do_needs_no_approval(approved):
    assert approval.check(rendered(approved), []) == "nothing is left to do of what was approved"


def test_a_cluster_that_is_missing_was_not_approved():
    other = {"eks-2": given(update())["eks-1"]}
    assert "apply_approved has nothing of host eks-1 (it has: eks-2), and there are changes" in refusal(other, update())
    assert "(it has: none)" in refusal({}, update())


@pytest.mark.parametrize(
    "wrong",
    [
        "sha256:abc",
        "{",
        [],
        "[]",
        {"eks-1": "sha256:abc"},
        {"eks-1": {}},
        {"eks-1": {"digest": 1}},
        {"eks-1": {"digest": "", "changes": []}},
        {"eks-1": {"digest": "", "where": 1}},
        {"eks-1": {"digest": "", "more": "1"}},
        {"eks-1": {"digest": "", "rollback_to": "last"}},
    ],
)
def test_what_is_no_approval_is_refused(wrong):
    assert "apply_approved is " in refusal(wrong, update())
    assert "must be what a run in check mode has handed on" in refusal(wrong, update())


def test_one_without_the_list_of_changes_decides_all_the_same():
    short = {"eks-1": {"digest": digest(update())}}
    assert approval.check(rendered(short), [update()]) == "as approved: 1 change"
    assert "new: create" in refusal(short, create())


@pytest.mark.parametrize("size", [100, 2000, 8000])
def test_a_long_one_is_cut_and_says_so(size):
    changes = [create(f"c{number:04}") for number in range(500)]
    cut = approval.small(approval.of(rendered(), changes), size)
    assert len(json.dumps(cut)) <= size
    ARTIFACTS.validate({"apply_approved": {"eks-1": cut}})
    if size < 200:
        # Not nothing: against that a deploy would not be held.
        assert cut == {"digest": ""}
        assert "the check had too many clusters for it" in refusal({"eks-1": cut}, *changes)
        back = approval.small(approval.of(rendered(rollback_to=3), changes), size)
        assert "the check had too many clusters for it" in refusal({"eks-1": back}, *changes, rollback_to=3)
        return
    assert len(cut["changes"]) + cut["more"] == 500
    assert approval.check(rendered({"eks-1": cut}), changes) == "as approved: 500 changes"
    told = refusal({"eks-1": cut}, *changes[1:])
    assert "approved, and no longer to be done: create ConfigMap ml-models/c0000" in told
    assert f"the approval names {len(cut['changes'])} of 500 changes" in told


# --- Rollback and switch -------------------------------------------------------------------------


def test_a_rollback_is_held_against_the_approval_of_one():
    approved = given(update(), rollback_to=3)
    assert approval.check(rendered(approved, rollback_to=3), [update()]) == "as approved: 1 change"
    assert "approved is a rollback to release 3, and this run is a rollback to release 4" in refusal(
        approved, update(), rollback_to=4
    )
    assert "approved is a rollback to release 3, and this run is a deploy" in refusal(approved, update())


@pytest.mark.parametrize("run", [{"rollback_to": 3}, {"recovers": True}])
def test_a_way_back_is_not_closed_by_the_approval_of_a_deploy(run):
    """Of a workflow that deploys and, if that fails, goes back: AWX hands the approval on to both."""
    assert "not held against a " in approval.check(rendered(given(create()), **run), [update()])
