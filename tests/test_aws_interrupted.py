"""A run that is cut off, loses answers, or meets an AWS that does not know yet what it was told: what is left, and what is said."""

import json
import os
import signal

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import names, policies, writes
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import ACCOUNT, ISSUER, REGION, ROLES, Killed, everything, replay, run, service_account

NOTHING = {"associations": {}}
ONE = {"cluster": "prod", "service_accounts": [service_account("vllm", "vllm-sa", ROLES[1])], "role_arns": []}
POD = {**ONE, "oidc_issuer": "", "pod_identity": True, "buckets": {}}
PROVIDER = names.provider_arn(ISSUER, ACCOUNT, "aws")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No test waits for an AWS that it is itself."""
    monkeypatch.setattr(writes, "PAUSES", (0,) * len(writes.PAUSES))


def nothing(_cloud):
    pass


def made(_cloud):
    run(**ONE)


def earlier(cloud):
    replay(cloud, "prod", about=lambda service, given: service == "iam" and given.get("RoleName", ROLES[1]) == ROLES[1])


def cluster(cloud):
    cloud.eks.cluster("prod")


def associated(cloud):
    cluster(cloud)
    run(**POD)


# Before, and the run.
SITUATIONS = {
    "first run": (nothing, ONE),
    "teardown": (made, {**ONE, "state": "absent"}),
    "taken over": (earlier, {**ONE, "buckets": {}}),
    "first association": (cluster, POD),
    "associations end": (associated, {**POD, "state": "absent"}),
}


def at(moment, act):
    """Faults that call a function before the write of this number."""
    count = iter(range(10**6))

    def perhaps(_params):
        if next(count) == moment:
            act()
        return ""

    return {name: [perhaps] * 99 for name in WRITES}


WRITES = [
    f"{service}:{operation}"
    for service, operations in {
        "s3": "CreateBucket DeleteBucket PutPublicAccessBlock PutBucketTagging PutBucketEncryption PutBucketVersioning "
        "PutBucketLifecycleConfiguration PutBucketPolicy",
        "iam": "CreateOpenIDConnectProvider DeleteOpenIDConnectProvider TagOpenIDConnectProvider UntagOpenIDConnectProvider CreateRole "
        "DeleteRole TagRole UntagRole PutRolePolicy DeleteRolePolicy UpdateAssumeRolePolicy",
        "eks": "CreatePodIdentityAssociation DeletePodIdentityAssociation TagResource UntagResource",
    }.items()
    for operation in operations.split()
]


def foretold(cloud, situation):
    """How many writes a situation's run has, and what is there before and after it, left there as before."""
    prepare, given = SITUATIONS[situation]
    prepare(cloud)
    before = everything(cloud)
    done = run(**given)
    assert set(done.writes) <= set(WRITES)
    return len(done.writes), without_ids(before), without_ids(everything(cloud))


def without_ids(found):
    """An association that was made again has another id."""
    kept = [{k: v for k, v in item.items() if not k.startswith("associat")} for item in found["associations"].values()]
    return {**found, "associations": sorted(kept, key=json.dumps)}


def again(cloud, situation):
    """Start the situation anew."""
    cloud.reset()
    SITUATIONS[situation][0](cloud)


def die():
    raise Killed


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_run_that_was_killed_between_any_two_writes_is_completed_by_the_next(cloud, situation):
    number, _, expected = foretold(cloud, situation)
    given = SITUATIONS[situation][1]
    for moment in range(1, number):
        again(cloud, situation)
        with pytest.raises(Killed):
            run(**given, faults=at(moment, die))
        run(**given)
        assert without_ids(everything(cloud)) == expected, moment
    assert run(**given).writes == []


@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_signal_takes_back_what_the_run_made(cloud, situation):
    number, before, _ = foretold(cloud, situation)
    given = SITUATIONS[situation][1]
    # A shell starts what runs in its background with SIGINT ignored.
    handlers = [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)]
    for moment in range(number - 1):
        kind = (signal.SIGINT, signal.SIGTERM)[moment % 2]
        again(cloud, situation)
        with pytest.raises(AwsError, match=f"{kind.name} ended the run before this") as error:
            run(**given, faults=at(moment, lambda kind=kind: os.kill(os.getpid(), kind)))
        # The request that was under way was ended and taken back too.
        assert "Nothing else has changed: the earlier writes were rolled back" in str(error.value)
        assert without_ids(everything(cloud)) == before, moment
    assert [signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_a_signal_during_the_last_write_ends_the_process_and_takes_nothing_back(cloud):
    number, _, expected = foretold(cloud, "first run")
    again(cloud, "first run")
    with pytest.raises(writes.Interrupted, match="everything is written, and stays"):
        run(**ONE, faults=at(number - 1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert everything(cloud) == {**expected, "associations": {}}


def test_a_second_signal_does_not_end_the_taking_back(cloud):
    def interrupt(_params=None):
        os.kill(os.getpid(), signal.SIGTERM)
        return ""

    with pytest.raises(AwsError, match="the earlier writes were rolled back"):
        run(**ONE, buckets={}, faults=at(1, interrupt) | {"iam:DeleteRole": [interrupt]})
    assert everything(cloud) == NOTHING


def test_a_bucket_that_an_earlier_version_left_half_made_is_explained(cloud):
    """It was tagged by a request of its own, and the run was cut off before it."""
    s3 = cloud.client("s3")
    s3.create_bucket(Bucket="my-triton-models", CreateBucketConfiguration={"LocationConstraint": REGION})
    with pytest.raises(
        Refused, match="as after a run that was cut off: then take it over with irsa_adopt, or delete it"
    ):
        run(**ONE)
    s3.put_object(Bucket="my-triton-models", Key="k", Body=b"x")
    with pytest.raises(Refused) as error:
        run(**ONE)
    assert "cut off" not in str(error.value)
    run(**ONE, adopt=["my-triton-models"])
    assert run(**ONE).writes == []


# --- Lost answers -----------------------------------------------------------------------------------

MADE = {
    "iam:CreateRole": "first run",
    "iam:CreateOpenIDConnectProvider": "first run",
    "s3:CreateBucket": "first run",
    "eks:CreatePodIdentityAssociation": "first association",
    "iam:DeleteRolePolicy": "teardown",
    "iam:DeleteRole": "teardown",
    "iam:DeleteOpenIDConnectProvider": "teardown",
    "s3:DeleteBucket": "teardown",
    "eks:DeletePodIdentityAssociation": "associations end",
}


@pytest.mark.parametrize("operation", MADE)
def test_a_request_that_boto3_repeats_has_done_its_work(cloud, operation):
    """Its answer was lost, and the repetition meets what the first made, or no longer what it deleted."""
    _, _, expected = foretold(cloud, MADE[operation])
    again(cloud, MADE[operation])
    done = run(**SITUATIONS[MADE[operation]][1], faults={operation: ["repeated"]})
    assert without_ids(everything(cloud)) == expected
    assert done.faults == {operation: []}


@pytest.mark.parametrize("operation", [name for name in MADE if ":Create" in name])
def test_what_was_made_by_a_request_whose_answer_was_lost_is_read_back(cloud, operation):
    _, _, expected = foretold(cloud, MADE[operation])
    again(cloud, MADE[operation])
    run(**SITUATIONS[MADE[operation]][1], faults={operation: ["lost"]})
    assert without_ids(everything(cloud)) == expected


@pytest.mark.parametrize(
    ("situation", "operation"),
    [
        ("first run", "iam:PutRolePolicy"),
        ("first run", "s3:PutBucketPolicy"),
        ("taken over", "iam:TagRole"),
        ("taken over", "iam:DeleteRolePolicy"),
        ("taken over", "iam:UntagRole"),
        ("teardown", "iam:DeleteRole"),
    ],
)
def test_another_write_whose_answer_was_lost_is_taken_back_with_the_rest(cloud, situation, operation):
    _, before, _ = foretold(cloud, situation)
    again(cloud, situation)
    with pytest.raises(AwsError, match="Nothing else has changed: the earlier writes were rolled back"):
        run(**SITUATIONS[situation][1], faults={operation: ["lost"]})
    assert without_ids(everything(cloud)) == before


@pytest.mark.parametrize("fault", ["lost", "InternalFailure"])
def test_it_is_said_where_it_is_not_known_what_aws_did(cloud, fault):
    faults = {"iam:CreateRole": [fault], "iam:GetRole": ["", "InternalFailure"]}
    with pytest.raises(AwsError) as error:
        run(**ONE, buckets={}, faults=faults)
    assert "Whether AWS did it is not known: run again, which finds out" in str(error.value)
    assert "Nothing has changed" not in str(error.value)
    run(**ONE, buckets={})
    assert run(**ONE, buckets={}).writes == []


def test_nothing_has_changed_is_said_only_where_aws_said_so(cloud):
    with pytest.raises(AwsError, match="Nothing has changed"):
        run(**ONE, buckets={}, denied=["iam:CreateOpenIDConnectProvider"])
    faults = {"iam:CreateOpenIDConnectProvider": ["InternalFailure"]}
    with pytest.raises(AwsError, match=r"not known: run again, which finds out\.$"):
        run(**ONE, buckets={}, faults=faults)
    assert everything(cloud) == NOTHING


def test_what_somebody_else_made_meanwhile_is_not_taken_for_ours(cloud):
    def theirs(_params):
        trust = policies.document([policies.web_identity_statement("Theirs", PROVIDER, ["system:serviceaccount:a:b"])])
        cloud.client("iam").create_role(RoleName=ROLES[1], AssumeRolePolicyDocument=json.dumps(trust))
        return ""

    with pytest.raises(AwsError, match=r"already exists.*the earlier writes were rolled back"):
        run(**ONE, buckets={}, faults={"iam:CreateRole": [theirs]})
    assert set(everything(cloud)) == {*NOTHING, ROLES[1]}


# --- What AWS does not know yet ---------------------------------------------------------------------

NO_ROLE = "InvalidParameterException: Role provided in the request does not exist."
NOT_YET = {
    "policy of a new role": ("first run", {"iam:PutRolePolicy": ["NoSuchEntity", "NoSuchEntity"]}),
    "trust in a new provider": ("first run", {"iam:CreateRole": ["MalformedPolicyDocument: Invalid principal in policy"]}),
    "settings of a new bucket": ("first run", {"s3:PutPublicAccessBlock": ["NoSuchBucket"], "s3:PutBucketPolicy": ["NoSuchBucket"]}),
    "bucket deleted a moment ago": ("first run", {"s3:CreateBucket": ["OperationAborted", "OperationAborted"]}),
    "bucket that is busy": ("first run", {"s3:PutBucketVersioning": ["OperationAborted"]}),
    "association of a new role": ("first association", {"eks:CreatePodIdentityAssociation": [NO_ROLE, NO_ROLE]}),
    "role changed a moment ago": ("taken over", {"iam:UpdateAssumeRolePolicy": ["ConcurrentModification"]}),
    "policy deleted a moment ago": ("teardown", {"iam:DeleteRole": ["DeleteConflict"]}),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_YET)
def test_what_aws_does_not_know_yet_is_tried_again(cloud, name):
    situation, faults = NOT_YET[name]
    _, _, expected = foretold(cloud, situation)
    again(cloud, situation)
    run(**SITUATIONS[situation][1], faults=faults)
    assert without_ids(everything(cloud)) == expected


def test_it_is_tried_again_within_a_bound(cloud):
    with pytest.raises(AwsError, match="the earlier writes were rolled back"):
        run(**ONE, faults={"iam:PutRolePolicy": ["NoSuchEntity"] * 99})
    assert everything(cloud) == NOTHING
    assert aws_api.account_of(REGION).watch.calls.count("iam:PutRolePolicy") == 1 + len(writes.PAUSES)


def test_what_no_run_made_is_not_waited_for(cloud):
    """Somebody deleted the role between the plan and the write."""
    run(**ONE)
    cloud.client("iam").delete_role_policy(RoleName=ROLES[1], PolicyName=aws_api.policy_name("prod"))
    with pytest.raises(AwsError):
        run(**ONE, faults={"iam:PutRolePolicy": ["NoSuchEntity"] * 99})
    assert aws_api.account_of(REGION).watch.calls.count("iam:PutRolePolicy") == 1


def test_what_is_taken_back_may_not_be_known_yet_either(cloud):
    """A role that IAM does not know for a moment is not gone."""
    faults = {"iam:DeleteRole": ["NoSuchEntity"], "iam:DeleteOpenIDConnectProvider": ["NoSuchEntity", "NoSuchEntity"]}
    with pytest.raises(AwsError, match="the earlier writes were rolled back"):
        run(**ONE, denied=["iam:PutRolePolicy"], faults=faults)
    assert everything(cloud) == NOTHING
