"""Several clusters in one account's AWS: each has its own, whatever they have in common, and what 0.1.0 wrote is taken over."""

import json

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from aws_api import ACCOUNT, ISSUER, OTHER, REGION, ROLES, everything, options, replay, run

WEST = "eu-west-1"
PROD = {"cluster": "prod", "oidc_issuer": ISSUER}
# What tells a second cluster from the first.
SECONDS = {
    "name": {"cluster": "prod-2", "oidc_issuer": f"{ISSUER}B"},
    "region": {"cluster": "prod", "region": WEST, "oidc_issuer": f"{ISSUER}B", "buckets": {"my-west-models": {}}},
    "account": {"cluster": "prod", "cluster_account_id": OTHER, "oidc_issuer": f"{ISSUER}B", "buckets": {}},
    "region and account": {
        "cluster": "prod", "region": WEST, "cluster_account_id": OTHER, "oidc_issuer": f"{ISSUER}B", "buckets": {},
    },
}  # fmt: skip
# The same servers; vLLM's may read another folder.
OTHER_ACCESS = [
    {**item, "access": [{"bucket": "my-mlflow-artifacts", "prefixes": ["8/"]}]} if item["component"] == "vllm" else item
    for item in options()["service_accounts"]
]


def alone(cloud, given):
    """What there is of a cluster that has the account to itself."""
    run(**given)
    found = everything(cloud)
    cloud.reset()
    return found


@pytest.mark.parametrize("access", ["equal", "different"])
@pytest.mark.parametrize("differs", SECONDS)
def test_neither_of_two_clusters_touches_the_other(cloud, differs, access):
    two = {**SECONDS[differs], **({"service_accounts": OTHER_ACCESS} if access == "different" else {})}
    expected = {"first": alone(cloud, PROD), "second": alone(cloud, two)}
    for goes, stays in (("first", "second"), ("second", "first")):
        cloud.reset()
        for given in (PROD, two):
            run(**given)
        both = everything(cloud)
        assert [run(**given).writes for given in (PROD, two)] == [[], []]
        run(**{"first": PROD, "second": two}[goes], state="absent")
        assert everything(cloud) == expected[stays]
        # It comes back beside the other.
        run(**{"first": PROD, "second": two}[goes])
        assert everything(cloud) == both


def test_names_are_within_iams_limits_and_of_its_characters():
    owner = Owner(ACCOUNT, "ap-southeast-99", "x" * 61 + "_.")
    assert len(owner.tag) <= 128
    assert len(owner.policy) <= 128
    assert set(owner.policy) <= set("abcdefghijklmnopqrstuvwxyz0123456789+=,.@-_")
    assert set(owner.tag) <= set("abcdefghijklmnopqrstuvwxyz0123456789+=.@-_:/ ")
    assert owner.sid.isalnum()


def test_no_two_clusters_have_a_name_in_common():
    owners = [
        Owner(account, region, name)
        for name in ("prod", "prod-1", "1-prod", f"prod@{WEST}"[:4], "Prod", "pr.od", "pr_od")
        for region in (REGION, WEST, f"{REGION}-1"[:-2], "us-east-1")
        for account in (ACCOUNT, OTHER)
    ]
    different = set(owners)
    for kind in ("tag", "policy", "sid"):
        assert len({getattr(owner, kind) for owner in different}) == len(different)


# --- What 0.1.0 wrote -------------------------------------------------------------------------------

# Two clusters of 0.1.0 of one name, with what each wants.
WEST_PROD = {**SECONDS["region"], "service_accounts": OTHER_ACCESS, "role_arns": []}
GUEST_PROD = {**PROD, "cluster_account_id": OTHER, "oidc_issuer": f"{ISSUER}C", "buckets": {}}


def reads(cloud, issuer, key, name="vllm-sa", role=ROLES[1]):
    """Whether a pod of a cluster gets the role, and an object with it."""
    live = cloud.client("iam").get_role(RoleName=role)["Role"]
    request = iam.web_identity(
        names.provider_arn(issuer, ACCOUNT, "aws"),
        {"sub": names.subject("ml-models", name), "aud": ["sts.amazonaws.com"]},
    )
    client = cloud.client("iam")
    documents = [
        client.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        for policy in client.list_role_policies(RoleName=role)["PolicyNames"]
    ]
    get = iam.s3("GetObject", "my-mlflow-artifacts", key, account=ACCOUNT)
    return iam.decide([live["AssumeRolePolicyDocument"]], request).allowed and iam.decide(documents, get).allowed


def always(cloud, watch_reads, **given):
    """Run, and see before each request that its cluster's pods and the others' still read."""
    wanted = options(**given)
    account = aws_api.account_of(wanted["region"])
    plan = aws_api.Planner(account, wanted).make()
    for write in plan.writes:
        account.call(write.service, write.operation, **write.arguments)
        assert watch_reads(), write.summary
    return plan


def test_what_an_earlier_version_wrote_is_taken_over_and_no_pod_loses_access(cloud):
    expected = alone(cloud, PROD)
    replay(cloud, "prod")
    assert reads(cloud, ISSUER, "7/a")
    plan = always(cloud, lambda: reads(cloud, ISSUER, "7/a"), **PROD)
    assert plan.notices == []
    assert everything(cloud) == expected
    assert run(**PROD).writes == []


def test_clusters_of_one_name_are_told_apart_when_they_are_taken_over(cloud):
    expected = {}
    for first, second in ((PROD, WEST_PROD), (WEST_PROD, PROD)):
        cloud.reset()
        for given in (first, second):
            run(**given)
        expected[first["oidc_issuer"]] = everything(cloud)
        cloud.reset()
        replay(cloud, "prod", "west")
        # The one to write last had overwritten the other's policy.
        assert reads(cloud, f"{ISSUER}B", "8/a")
        run(**first)
        assert reads(cloud, f"{ISSUER}B", "8/a")
        assert run(**first).writes == []
        always(cloud, lambda: reads(cloud, f"{ISSUER}B", "8/a"), **second)
        assert everything(cloud) == expected[first["oidc_issuer"]]
        assert [run(**given).writes for given in (first, second)] == [[], []]


@pytest.mark.parametrize("goes", ["west", "guest"])
@pytest.mark.parametrize("taken_over", [[], ["prod"], ["west", "guest"], ["guest", "prod", "west"]])
def test_a_cluster_of_an_earlier_version_goes_and_those_of_its_name_stay(cloud, goes, taken_over):
    given = {"prod": PROD, "west": WEST_PROD, "guest": GUEST_PROD}
    replay(cloud, *given)
    for name in taken_over:
        run(**given[name])
    run(**given[goes], state="absent")
    issuer = given[goes]["oidc_issuer"].removeprefix("https://")
    left = everything(cloud)
    assert not any(name.endswith(issuer) for name in left)
    assert f"{issuer}:sub" not in json.dumps(left)
    stay = [name for name in given if name != goes]
    for name in stay:
        assert reads(cloud, given[name]["oidc_issuer"], "7/a")
    for name in stay:
        run(**given[name])
    assert [run(**given[name]).writes for name in stay] == [[], []]
    for name in stay:
        run(**given[name], state="absent")
    assert everything(cloud) == {"associations": {}}


def test_an_earlier_versions_cluster_is_torn_down_whole(cloud):
    replay(cloud, "prod")
    run(**PROD, state="absent")
    assert everything(cloud) == {"associations": {}}


def test_a_tag_of_an_earlier_version_that_means_another_cluster_is_left_and_named(cloud):
    """This cluster never ran with 0.1.0; one of its name in another region did."""
    replay(cloud, "prod")
    before = everything(cloud)
    gone = run(cluster="prod", region=WEST, oidc_issuer=f"{ISSUER}B", state="absent")
    assert everything(cloud) == before
    assert f"role {ROLES[0]} has the tag modelyard/cluster/prod, but no statement of this cluster" in " ".join(
        gone.notices
    )


def test_associations_of_an_earlier_version_are_taken_over(cloud):
    cloud.eks.cluster("prod")
    replay(cloud, "pods")
    given = {"cluster": "prod", "oidc_issuer": "", "pod_identity": True, "buckets": {}}
    ids = set(cloud.eks.associations)
    run(**given)
    assert set(cloud.eks.associations) == ids
    tags = {tag for item in cloud.eks.associations.values() for tag in item["tags"]}
    assert tags == {"managed-by", "team", Owner(ACCOUNT, REGION, "prod").tag}
    assert run(**given).writes == []
    run(**given, state="absent")
    assert everything(cloud) == {"associations": {}}


def test_two_names_of_one_eks_cluster_leave_each_others_associations(cloud):
    """Such as a cluster that is renamed: first the new name, then the old one's end."""
    cloud.eks.cluster("prod")
    old = {"cluster": "old", "eks_cluster_name": "prod", "oidc_issuer": "", "pod_identity": True, "buckets": {}}
    new = {**old, "cluster": "new"}
    run(**old)
    run(**new)
    run(**old, state="absent")
    assert len(cloud.eks.associations) == 4
    assert run(**new).writes == []
    run(**new, state="absent")
    assert everything(cloud) == {"associations": {}}


# --- A renamed cluster ------------------------------------------------------------------------------


def test_a_cluster_is_renamed_without_a_moment_without_access(cloud):
    expected = alone(cloud, {**PROD, "cluster": "new"})
    run(**PROD)
    said = run(**{**PROD, "cluster": "new"})
    assert f"trusts this cluster as {ACCOUNT}/{REGION}/prod too" in " ".join(said.notices)
    plan = always(cloud, lambda: reads(cloud, ISSUER, "7/a"), **PROD, state="absent")
    assert plan.notices == []
    assert everything(cloud) == expected
    assert run(**{**PROD, "cluster": "new"}).notices == []
