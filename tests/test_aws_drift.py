"""What somebody changes by hand: a dry run tells it, a run mends or names it, and a second run has nothing to do."""

import json

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from aws_api import ACCOUNT, ISSUER, OTHER, REGION, ROLES, everything, policy_name, replay, run, service_account

ROLE = ROLES[1]
PROD = {
    "cluster": "prod", "buckets": {}, "service_accounts": [service_account("vllm", "vllm-sa", ROLE)], "role_arns": [],
}  # fmt: skip
SECOND = {**PROD, "cluster": "second", "oidc_issuer": f"{ISSUER}2"}
POD = {**PROD, "oidc_issuer": "", "pod_identity": True}
PROVIDER = names.provider_arn(ISSUER, ACCOUNT, "aws")
HOST = ISSUER.removeprefix("https://")
ANYONE = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
ALL = policies.document([{"Effect": "Allow", "Action": "*", "Resource": "*"}])


def told(**given):
    """What a dry run says, and that the run says the same and leaves nothing for a second one."""
    foretold = run(**given, check=True)
    done = run(**given)
    assert (done.changes, done.notices) == (foretold.changes, foretold.notices)
    again = run(**given)
    assert again.writes == []
    return done


def trust_of(cloud, role=ROLE):
    return cloud.client("iam").get_role(RoleName=role)["Role"]["AssumeRolePolicyDocument"]


def put_trust(cloud, trust, role=ROLE):
    cloud.client("iam").update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))


def put_policy(cloud, name, document, role=ROLE):
    cloud.client("iam").put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))


# --- Trust policies ---------------------------------------------------------------------------------


def widened(statement, host):
    del statement["Condition"]["StringEquals"][f"{host}:sub"]
    statement["Condition"]["StringLike"] = {f"{host}:sub": "system:serviceaccount:*:*"}


def anyone(statement, host):
    statement["Principal"] = {"AWS": "*"}


def unconditional(statement, host):
    del statement["Condition"]


def without_audience(statement, host):
    del statement["Condition"]["StringEquals"][f"{host}:aud"]


def other_account(statement, host):
    statement["Principal"] = {"Federated": names.provider_arn(ISSUER, OTHER, "aws")}


def more_actions(statement, host):
    statement["Action"] = ["sts:AssumeRoleWithWebIdentity", "sts:AssumeRole"]


def service(statement, host):
    statement.update(Principal={"Service": "ec2.amazonaws.com"}, Action="sts:AssumeRole")


EDITS = (widened, anyone, unconditional, without_audience, other_account, more_actions, service)


@pytest.mark.parametrize("edit", EDITS)
def test_the_clusters_own_statement_is_restored(cloud, edit):
    run(**PROD)
    before = everything(cloud)
    trust = trust_of(cloud)
    edit(trust["Statement"][0], HOST)
    put_trust(cloud, trust)
    said = told(**PROD)
    assert said.changes == [f"change trust policy of role {ROLE}"]
    own = Owner(ACCOUNT, REGION, "prod")
    assert (
        f"role {ROLE}: the statement {own.sid} is {own}'s, and no run for that cluster writes it so: it trusts"
        in said.notices[0]
    )
    assert everything(cloud) == before


@pytest.mark.parametrize("sid", [None, "Anyone", Owner(ACCOUNT, REGION, "no-such").sid])
def test_a_statement_of_no_cluster_that_the_role_stands_for_goes(cloud, sid):
    run(**PROD)
    before = everything(cloud)
    trust = trust_of(cloud)
    trust["Statement"].append({**ANYONE, **({"Sid": sid} if sid else {})})
    put_trust(cloud, trust)
    said = told(**PROD)
    assert said.changes == [f"change trust policy of role {ROLE}"]
    assert (
        f'loses them: {sid or "one without a Sid"} (it trusts {{"AWS": "*"}}, with the condition none)'
        in said.notices[0]
    )
    assert ("A cluster that has lost its tag gets it back" in said.notices[0]) is bool(
        sid and sid.startswith("Modelyard")
    )
    assert everything(cloud) == before


@pytest.mark.parametrize("edit", EDITS)
def test_a_statement_with_another_clusters_name_that_its_run_would_not_write_is_named(cloud, edit):
    """It is that cluster's to mend, whose pods may live by it."""
    run(**SECOND)
    run(**PROD)
    before = everything(cloud)
    trust = trust_of(cloud)
    sid = Owner(ACCOUNT, REGION, "second").sid
    (statement,) = (item for item in trust["Statement"] if item["Sid"] == sid)
    edit(statement, f"{HOST}2")
    put_trust(cloud, trust)
    said = told(**PROD)
    assert said.changes == []
    (line,) = said.notices
    assert f"role {ROLE}: the statement {sid} has a name of {ACCOUNT}/{REGION}/second's, and no run" in line
    assert "Run this playbook for that cluster, or remove the statement" in line
    run(**SECOND)
    assert everything(cloud) == before
    assert run(**PROD, check=True).notices == []


def test_a_statement_that_only_a_cluster_of_an_earlier_version_could_have_written_is_named(cloud):
    """Its tag told the name alone, so any digest may be its own."""
    replay(cloud, "prod", "west")
    run(cluster="prod")
    trust = trust_of(cloud)
    trust["Statement"].append({**ANYONE, "Sid": "ModelyardProd00000000"})
    put_trust(cloud, trust)
    said = " ".join(run(cluster="prod", check=True).notices)
    assert "the statement ModelyardProd00000000 has a name of prod's, and no run for that cluster writes it so" in said
    assert said.count("no run") == 1


def test_other_clusters_statements_are_as_their_runs_write_them(cloud):
    """Of another region, another account, and with Pod Identity."""
    cloud.eks.cluster("pods")
    for given in (
        {"cluster": "west", "region": "eu-west-1", "oidc_issuer": f"{ISSUER}W"},
        {"cluster": "guest", "cluster_account_id": OTHER, "oidc_issuer": f"{ISSUER}G"},
        {"cluster": "pods", "oidc_issuer": "", "pod_identity": True},
    ):
        run(**given, buckets={})
        assert run(**PROD).notices == []


# --- Policies ---------------------------------------------------------------------------------------


def test_the_clusters_own_policy_is_restored(cloud):
    run(**PROD)
    before = everything(cloud)
    put_policy(cloud, policy_name("prod"), ALL)
    said = told(**PROD)
    assert said.changes == [f"change policy {policy_name('prod')} of role {ROLE}"]
    assert "this cluster's, and no run writes it so: it allows * on *. This run puts that right" in said.notices[0]
    assert everything(cloud) == before


@pytest.mark.parametrize("name", ["modelyard-other", "modelyard-prod", policy_name("no-such"), "theirs"])
def test_a_policy_of_no_cluster_that_the_role_stands_for_is_named_with_what_it_allows(cloud, name):
    run(**PROD)
    put_policy(cloud, name, ALL)
    said = told(**PROD)
    assert said.changes == []
    assert said.notices == [
        f"role {ROLE} has policies that are not ours, and are left: {name} (allows * on *). What they allow, it may do too"
    ]


WIDER = {
    "everything": ({"Action": "*", "Resource": "*"}, "allows * on *"),
    "a wildcard in the bucket": (
        {"Action": "s3:GetObject", "Resource": "arn:aws:s3:::my-*/*"}, "allows s3:GetObject on arn:aws:s3:::my-*/*",
    ),
    "another action": (
        {"Action": "s3:PutBucketPolicy", "Resource": "arn:aws:s3:::b"}, "allows s3:PutBucketPolicy on arn:aws:s3:::b",
    ),
    "all but": ({"NotAction": "iam:*", "NotResource": "arn:aws:s3:::b"}, "allows all but iam:* on all but arn:aws:s3:::b"),
    "no condition": ({"Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}, "allows s3:GetObject on arn:aws:s3:::b/*"),
}  # fmt: skip


@pytest.mark.parametrize("case", WIDER)
def test_a_policy_with_another_clusters_name_that_its_run_would_not_write_is_named(cloud, case):
    run(**SECOND)
    run(**PROD)
    before = everything(cloud)
    more, words = WIDER[case]
    wide = {"Sid": "More", "Effect": "Allow", **more}
    if case != "no condition":
        wide["Condition"] = {"StringEquals": {"aws:ResourceAccount": ACCOUNT}}
    live = cloud.client("iam").get_role_policy(RoleName=ROLE, PolicyName=policy_name("second"))["PolicyDocument"]
    put_policy(cloud, policy_name("second"), policies.document([*live["Statement"], wide]))
    said = told(**PROD)
    assert said.changes == []
    assert said.notices == [
        f"role {ROLE}: the policy {policy_name('second')} has a name of another cluster's, and no run writes it so: it {words}. "
        "Run this playbook for that cluster, or delete the policy"
    ]
    run(**SECOND)
    assert everything(cloud) == before


def test_the_tag_of_a_cluster_that_has_no_statement_is_named(cloud):
    """Whoever sets one makes the policies of that name look like a cluster's."""
    run(**PROD)
    cloud.client("iam").tag_role(RoleName=ROLE, Tags=[{"Key": "modelyard/cluster/other", "Value": "true"}])
    put_policy(cloud, "modelyard-other", ALL)
    said = told(**PROD)
    assert said.changes == []
    assert f"role {ROLE} has the tag of other, and no statement of theirs" in said.notices[0]
    assert (
        "the policy modelyard-other has a name of another cluster's, and no run writes it so: it allows * on *"
        in said.notices[1]
    )


# --- Associations -----------------------------------------------------------------------------------

TARGET = f"arn:aws:iam::{OTHER}:role/elsewhere"
SETTINGS = {
    "no session tags": {"disableSessionTags": True},
    "another role at the end": {"targetRoleArn": TARGET},
    "both": {"disableSessionTags": True, "targetRoleArn": TARGET},
    "another role": {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/other"},
}


@pytest.mark.parametrize("case", SETTINGS)
def test_an_association_is_set_back(cloud, case):
    cloud.eks.cluster("prod")
    run(**POD)
    before = everything(cloud)
    found = cloud.eks.associations[cloud.eks.association("prod", "ml-models", "vllm-sa")]
    found.update(SETTINGS[case])
    words = ", ".join(key for key in ("roleArn", "disableSessionTags", "targetRoleArn") if key in SETTINGS[case])
    assert told(**POD).changes == [f"change Pod Identity association of ml-models/vllm-sa: {words}"]
    after = everything(cloud)
    one = after["associations"][cloud.eks.association("prod", "ml-models", "vllm-sa")]
    assert (one.pop("disableSessionTags", False), one.pop("targetRoleArn", "")) == (False, "")
    assert after == before


@pytest.fixture
def restricted(cloud):
    """An association whose sessions have a policy; EKS asks for them to have no tags then."""
    cloud.eks.cluster("prod")
    run(**POD)
    found = cloud.eks.associations[cloud.eks.association("prod", "ml-models", "vllm-sa")]
    found.update(disableSessionTags=True, policy=json.dumps(ALL))
    return cloud


def test_an_association_with_a_policy_is_made_anew(restricted):
    name = "Pod Identity association of ml-models/vllm-sa"
    assert told(**POD).changes == [f"delete {name}", f"create {name}"]
    found = restricted.eks.associations[restricted.eks.association("prod", "ml-models", "vllm-sa")]
    assert found["roleArn"].endswith(f"/{ROLE}")
    assert Owner(ACCOUNT, REGION, "prod").tag in found["tags"]
    assert not {"policy", "disableSessionTags"} & found.keys()
    run(**POD, state="absent")
    assert everything(restricted) == {"associations": {}}


def test_it_comes_back_with_all_that_it_had_where_that_fails(restricted):
    before = dict(restricted.eks.associations[restricted.eks.association("prod", "ml-models", "vllm-sa")])
    with pytest.raises(AwsError, match="Nothing else has changed"):
        run(**POD, faults={"eks:CreatePodIdentityAssociation": ["ServerException: no"]})
    after = restricted.eks.associations[restricted.eks.association("prod", "ml-models", "vllm-sa")]
    new = ("associationId", "associationArn")
    assert {k: v for k, v in after.items() if k not in new} == {k: v for k, v in before.items() if k not in new}


# --- Providers and settings -------------------------------------------------------------------------


def test_an_audience_that_somebody_added_is_named(cloud):
    run(**PROD)
    client = cloud.client("iam")
    live = client.get_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER)
    client.delete_open_id_connect_provider(OpenIDConnectProviderArn=PROVIDER)
    client.create_open_id_connect_provider(
        Url=ISSUER,
        ClientIDList=[*live["ClientIDList"], "vault"],
        Tags=live["Tags"],
        ThumbprintList=["a" * 40, "b" * 40],
    )
    said = told(**PROD)
    assert said.changes == []
    audiences, thumbprints = said.notices
    assert f"OIDC provider {PROVIDER} lists audiences that no run adds: vault: kept" in audiences
    assert (
        f"OIDC provider {PROVIDER} has 2 thumbprints, and IAM takes one when it is made: {'a' * 40}, {'b' * 40}"
        in thumbprints
    )
    # One of others is theirs.
    client.untag_open_id_connect_provider(
        OpenIDConnectProviderArn=PROVIDER, TagKeys=[tag["Key"] for tag in live["Tags"]]
    )
    assert run(**PROD, check=True).notices == []


def test_tags_that_the_inventory_no_longer_sets_and_a_description_are_named_in_one_line(cloud):
    cloud.eks.cluster("prod")
    given = {**POD, "buckets": {"my-triton-models": {}}}
    run(**given, tags={"team": "ml", "stage": "test"})
    cloud.client("iam").update_role(RoleName=ROLE, Description="by hand")
    said = told(**given)
    assert said.changes == []
    (line,) = said.notices
    assert "not from this inventory, and kept" in line
    for what in (
        f"the tag stage of role {ROLE}",
        "the tag stage of Pod Identity association ml-models/vllm-sa",
        "the tag stage of bucket my-triton-models",
        f"the description of role {ROLE}",
    ):
        assert what in line
    assert "team" not in line


def test_what_others_set_on_a_bucket_is_named(cloud):
    given = {**PROD, "buckets": {"my-triton-models": {}}}
    run(**given)
    s3, name = cloud.client("s3"), "my-triton-models"
    policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
    policy["Statement"].append({**policy["Statement"][0], "Sid": "Audit", "Effect": "Allow"})
    s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))
    rules = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
    rules.append({"ID": "old", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}})
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
    said = told(**given)
    assert said.changes == []
    assert said.notices[0].endswith(
        f"the lifecycle rule old of bucket {name}, the statement Audit in the policy of bucket {name}"
    )


def test_a_tag_of_the_provider_is_named_too(cloud):
    run(**PROD, tags={"stage": "test"})
    assert f"the tag stage of OIDC provider {PROVIDER}" in told(**PROD, tags={}).notices[0]


def test_sessions_tags_and_boundary_are_set_back(cloud):
    client = cloud.client("iam")
    limit, other = (
        client.create_policy(PolicyName=name, PolicyDocument=json.dumps(ALL))["Policy"]["Arn"]
        for name in ("limit", "other")
    )
    given = {**PROD, "permissions_boundary": limit}
    run(**given)
    before = everything(cloud)
    client.update_role(RoleName=ROLE, MaxSessionDuration=43200)
    client.put_role_permissions_boundary(RoleName=ROLE, PermissionsBoundary=other)
    client.tag_role(RoleName=ROLE, Tags=[{"Key": "team", "Value": "other"}])
    assert told(**given).changes == [
        f"tag role {ROLE}",
        f"change role {ROLE}: sessions of 3600 s",
        f"change role {ROLE}: permissions boundary {limit}",
    ]
    assert everything(cloud) == before


def test_what_is_foreign_can_take_the_role_and_what_a_run_leaves_can_not(cloud):
    """By the evaluator, for each edit: the run ends it."""
    request = iam.web_identity(PROVIDER, {"sub": names.subject("kube-system", "default"), "aud": ["sts.amazonaws.com"]})
    run(**PROD)
    trust = trust_of(cloud)
    widened(trust["Statement"][0], HOST)
    put_trust(cloud, trust)
    assert iam.decide([trust_of(cloud)], request).allowed
    run(**PROD)
    assert not iam.decide([trust_of(cloud)], request).allowed
