"""A tag that somebody removed, a changed path, a renamed or recreated cluster, a role made anew: found, and told with the way out."""

import json
import re

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from aws_api import ACCOUNT, ISSUER, REGION, ROLES, everything, policy_name, run, service_account

ROLE, BUCKET = ROLES[1], "my-triton-models"
ONE = {
    "cluster": "prod", "service_accounts": [service_account("vllm", "vllm-sa", ROLE)], "role_arns": [],
}  # fmt: skip
POD = {**ONE, "oidc_issuer": "", "pod_identity": True, "buckets": {}}
PROVIDER = names.provider_arn(ISSUER, ACCOUNT, "aws")
OWN, OURS = Owner(ACCOUNT, REGION, "prod").tag, "managed-by"
NOTHING = {"associations": {}}


def untag(cloud, kind, *keys):
    """Remove tags of the role, the provider, the bucket or the association; gives its name as messages have it."""
    iam, s3 = cloud.client("iam"), cloud.client("s3")
    if kind == "role":
        iam.untag_role(RoleName=ROLE, TagKeys=keys)
        return ROLE
    if kind == "OIDC provider":
        iam.untag_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER, TagKeys=keys)
        return PROVIDER
    if kind == "bucket":
        live = s3.get_bucket_tagging(Bucket=BUCKET)["TagSet"]
        s3.put_bucket_tagging(Bucket=BUCKET, Tagging={"TagSet": [tag for tag in live if tag["Key"] not in keys]})
        return BUCKET
    (found,) = cloud.eks.associations.values()
    for key in keys:
        del found["tags"][key]
    return "ml-models/vllm-sa"


KINDS = ("role", "OIDC provider", "bucket", "Pod Identity association")


def prepared(cloud, kind):
    if kind == "Pod Identity association":
        cloud.eks.cluster("prod")
        run(**POD)
        return POD
    run(**ONE)
    return ONE


@pytest.mark.parametrize("kind", KINDS)
def test_a_clusters_tag_that_somebody_removed_comes_back(cloud, kind):
    given = prepared(cloud, kind)
    before = everything(cloud)
    untag(cloud, kind, OWN)
    changes = run(**given).changes
    assert len(changes) == 1
    assert re.match(r"tag |change tags of ", changes[0])
    assert everything(cloud) == before


@pytest.mark.parametrize(
    ("kind", "keys"),
    [*((kind, [OURS]) for kind in KINDS), ("role", [OURS, OWN]), (KINDS[3], [OURS, OWN]), ("bucket", [OWN])],
)
def test_a_teardown_names_what_lost_a_tag_and_how_to_have_it_removed(cloud, kind, keys):
    given = {**prepared(cloud, kind), "state": "absent"}
    name = untag(cloud, kind, *keys)
    told = run(**given, check=True).notices
    assert told[0].startswith(f"{kind} {name} is of this cluster, but somebody removed its tag ")
    assert f"To have it removed, add {name!r} to irsa_adopt" in told[0]
    # A role that stays keeps its provider.
    assert told[1:] == (
        [f"OIDC provider {PROVIDER}: kept, because other roles trust it: {ROLE}"] if kind == "role" else []
    )
    assert run(**given).notices == told
    assert everything(cloud) != NOTHING
    assert run(**given, adopt=[name]).notices == []
    assert everything(cloud) == NOTHING


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "bucket"])
def test_without_a_clusters_tag_its_statement_issuer_or_eks_cluster_still_say_whose_it_is(cloud, kind):
    given = {**prepared(cloud, kind), "state": "absent"}
    untag(cloud, kind, OWN)
    assert run(**given).notices == []
    assert everything(cloud) == NOTHING


@pytest.mark.parametrize("kind", ["OIDC provider", "bucket"])
def test_what_lost_all_tags_is_somebody_elses(cloud, kind):
    given = {**prepared(cloud, kind), "state": "absent"}
    name = untag(cloud, kind, OURS, OWN)
    run(**given)
    assert {*everything(cloud)} == {*NOTHING, name}


def test_a_role_in_use_that_lost_its_tag_is_refused_with_that_reason(cloud):
    run(**ONE)
    untag(cloud, "role", OURS)
    before = everything(cloud)
    with pytest.raises(Refused, match=f"add '{ROLE}' to irsa_adopt .*it is of this cluster: somebody removed the tag"):
        run(**ONE)
    assert everything(cloud) == before
    run(**ONE, adopt=[ROLE])
    assert run(**ONE).writes == []


@pytest.mark.parametrize("kind", ["OIDC provider", "Pod Identity association"])
def test_what_is_in_use_and_lost_its_tag_is_named(cloud, kind):
    given = prepared(cloud, kind)
    name = untag(cloud, kind, OURS)
    said = run(**given)
    assert said.writes == []
    assert said.notices[0].startswith(
        f"{kind} {name} is of this cluster, but somebody removed its tag managed-by=modelyard"
    )
    run(**given, adopt=[name])
    again = run(**given)
    assert (again.writes, again.notices) == ([], [])


def test_a_role_with_the_clusters_policy_alone_is_found(cloud):
    run(**ONE, buckets={})
    untag(cloud, "role", OWN)
    cloud.client("iam").update_assume_role_policy(
        RoleName=ROLE,
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "sts:AssumeRole"}]}',
    )
    with pytest.raises(Refused, match=f"role {ROLE} trusts others too, so it can't be deleted"):
        run(**ONE, buckets={}, state="absent")


# --- Paths and names --------------------------------------------------------------------------------


def at(path, name=ROLE):
    arn = f"arn:aws:iam::{ACCOUNT}:role{path}{name}"
    return {**ONE, "buckets": {}, "service_accounts": [service_account("vllm", "vllm-sa", arn)]}


def test_a_changed_path_is_refused_before_the_first_write_with_both_ways_out(cloud):
    run(**at("/"))
    before = everything(cloud)
    with pytest.raises(Refused) as error:
        run(**at("/team/"))
    assert f"role {ROLE} is arn:aws:iam::{ACCOUNT}:role/{ROLE}, but the ServiceAccounts name" in str(error.value)
    assert (
        "a role can't be moved: set platform_irsa_role_path to '/', or give the role another name along with the new path"
        in str(error.value)
    )
    assert everything(cloud) == before
    # The second way.
    run(**at("/team/", "vllm"))
    assert {*everything(cloud)} == {"associations", PROVIDER, "vllm"}


def test_a_teardown_finds_the_role_at_its_old_path(cloud):
    run(**at("/old/"))
    run(**at("/new/"), state="absent")
    assert everything(cloud) == NOTHING


def test_a_role_whose_name_differs_in_case_alone_is_told_before_the_first_write(cloud):
    run(**at("/"))
    before = everything(cloud)
    with pytest.raises(
        Refused, match=f"role {ROLE.upper()} can't be made: there is {ROLE}, and IAM does not tell names apart"
    ):
        run(**at("/", ROLE.upper()))
    assert everything(cloud) == before


def test_a_renamed_cluster_whose_roles_have_its_name_says_which_are_left(cloud):
    def cluster(name):
        return {**at("/", f"{name}-vllm"), "cluster": name}

    run(**cluster("prod"))
    said = " ".join(run(**cluster("new")).notices)
    assert f"role prod-vllm trusts this cluster as {ACCOUNT}/{REGION}/prod too: if that was its name, remove it" in said
    denied = " ".join(run(**cluster("new"), denied=["iam:GetRole prod-vllm"]).notices)
    assert "role prod-vllm trusts this cluster under another name, and iam:GetRole on prod-vllm is denied" in denied
    run(**cluster("prod"), state="absent")
    again = run(**cluster("new"))
    assert (again.writes, again.notices) == ([], [])
    assert {*everything(cloud)} == {"associations", PROVIDER, "new-vllm"}


def test_roles_of_others_are_not_taken_for_a_renamed_ones_and_not_even_read(cloud):
    """Another cluster's, and one of somebody else for pods of this cluster."""
    run(**at("/", "other-vllm"), oidc_issuer=f"{ISSUER}2")
    given = {**at("/"), "cluster": "second"}
    run(**given)
    theirs = policies.web_identity_statement("Theirs", PROVIDER, ["system:serviceaccount:dns:external-dns"])
    cloud.client("iam").create_role(
        RoleName="external-dns", AssumeRolePolicyDocument=json.dumps(policies.document([theirs]))
    )
    again = run(**given)
    assert again.notices == []
    assert again.calls.count("iam:GetRole") == 1


def test_an_eks_cluster_made_anew_under_another_name(cloud):
    for name in ("prod-1", "prod-2"):
        cloud.eks.cluster(name)
    run(**POD, eks_cluster_name="prod-1")
    kept = run(**POD, eks_cluster_name="prod-2", prune=False)
    assert (
        "the inventory no longer names its EKS cluster (prod-1): kept, because irsa_prune is false; no later run finds it"
        in " ".join(kept.notices)
    )
    # The role trusts the new one by now, so that nothing says the old one's name any more.
    cloud.reset()
    for name in ("prod-1", "prod-2"):
        cloud.eks.cluster(name)
    run(**POD, eks_cluster_name="prod-1")
    run(**POD, eks_cluster_name="prod-2")
    assert [item["clusterName"] for item in cloud.eks.associations.values()] == ["prod-2"]
    assert run(**POD, eks_cluster_name="prod-2").writes == []


# --- A role made anew -------------------------------------------------------------------------------


def test_a_teardown_that_is_taken_back_says_that_the_roles_id_is_new(cloud):
    run(**ONE, buckets={})
    before, old = everything(cloud), cloud.client("iam").get_role(RoleName=ROLE)["Role"]["RoleId"]
    with pytest.raises(AwsError) as error:
        run(**ONE, buckets={}, state="absent", denied=["iam:DeleteOpenIDConnectProvider"])
    assert everything(cloud) == before
    new = cloud.client("iam").get_role(RoleName=ROLE)["Role"]["RoleId"]
    assert new != old
    assert f"Role {ROLE} has a new id, {new}: policies that name it as a principal" in str(error.value)
    assert f"hold the old one, {old}, and must be written again" in str(error.value)


@pytest.mark.parametrize("fails", ["iam:DeleteRole", "iam:DeleteRolePolicy"])
def test_where_the_role_never_went_nothing_is_said_of_its_id(cloud, fails):
    run(**ONE, buckets={})
    with pytest.raises(AwsError) as error:
        run(**ONE, buckets={}, state="absent", denied=[fails])
    assert "new id" not in str(error.value)
    with pytest.raises(AwsError) as error:
        run(**ONE, buckets={}, state="absent", faults={fails: ["InternalFailure"] * 9})
    assert "new id" not in str(error.value)
    assert policy_name("prod") in everything(cloud)[ROLE]
