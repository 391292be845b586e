"""Why a role does not trust a pod: the reason names the condition that fails, as it stands in the policy."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, policies, trust
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged

ACCOUNT = "123456789012"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/AAAA"
HOST = PROVIDER.partition("/")[2]
SUB = "system:serviceaccount:ml:a"
CLUSTER = f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/staging"
TOKEN = iam.web_identity(PROVIDER, {"sub": SUB, "aud": "sts.amazonaws.com"}, "eu-central-1", ACCOUNT)
OURS = policies.web_identity_statement("Ours", PROVIDER, [SUB])


def why(*statements, request=TOKEN, kind=Broken):
    with pytest.raises(kind) as error:
        trust.judge(policies.document(statements), request)
    return str(error.value)


def when(statement=OURS, **condition):
    return {**statement, "Condition": condition}


def equals(**claims):
    return {f"{HOST}:{claim}": value for claim, value in claims.items()}


def test_a_pod_that_is_trusted():
    trust.judge(policies.document([OURS]), TOKEN)


AUD = equals(aud="sts.amazonaws.com")
OLD = f"{HOST[:-4]}BBBB"


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (when(StringEquals=equals(sub="x", aud="sts.amazonaws.com")), f"subject: the role trusts x, not {SUB} (statement Ours)"),
        (when(StringEquals=equals(sub=SUB, aud="x")), "audience: the role trusts x, not sts.amazonaws.com"),
        (when(StringEquals=equals(sub="x", aud="y")), f"subject: the role trusts x, not {SUB}; audience: the role trusts y, not sts.amazonaws.com"),
        (when(StringLike=equals(sub="system:serviceaccount:other:*")), f"subject: the role trusts system:serviceaccount:other:*, not {SUB}"),
        (when(StringNotEquals=equals(sub=SUB)), f"subject: the role demands StringNotEquals {SUB}, and the request has {SUB}"),
        # The principal is of the new issuer, and the keys are the old one's.
        (when(StringEquals={f"{OLD}:sub": SUB, **AUD}), f"subject: {OLD}:sub is of another issuer than this cluster's, {HOST}: was the cluster created anew?"),
        (when(StringEquals={f"{OLD}:sub": SUB, f"{OLD}:aud": "sts.amazonaws.com"}), f"; audience: {OLD}:aud is of another issuer"),
        (when(StringEquals={f"https://{HOST}:sub": SUB, **AUD}), f"subject: https://{HOST}:sub is none of AWS's keys, which have no https://: {HOST}:sub"),
        (when(Null=equals(sub="true")), f"subject: Null demands that {HOST}:sub be absent, and the request has {SUB}"),
        (when(Null={"sts:ExternalId": False}), "sts:ExternalId: Null demands that sts:ExternalId be there, and the request has none"),
        (when(StringEquals={**AUD, "aws:RequestedRegion": "us-east-1"}), "aws:RequestedRegion: the role trusts us-east-1, not eu-central-1"),
        (when(Bool={"aws:SecureTransport": "false"}), "aws:SecureTransport: the role demands Bool false, and the request has true"),
        (when({**OURS, "Principal": "*"}, StringEquals=equals(sub="x")), f"subject: the role trusts x, not {SUB}"),
        (when({**OURS, "Principal": {"AWS": "*"}}, StringEquals=equals(sub="x")), f"subject: the role trusts x, not {SUB}"),
        ({**OURS, "Action": "sts:AssumeRole"}, f"action: the statements for {PROVIDER} allow sts:AssumeRole, not sts:AssumeRoleWithWebIdentity"),
        ({**OURS, "Principal": {"Federated": "p"}}, f"issuer: no statement names {PROVIDER}, but p"),
        ({**OURS, "Principal": {"Service": "ec2.amazonaws.com"}}, f"issuer: no statement names {PROVIDER}, but ec2.amazonaws.com"),
        ({**OURS, "Effect": "Deny"}, "is denied by the statement Ours"),
    ],
)  # fmt: skip
def test_the_condition_that_fails(statement, told):
    assert told in why(statement)


def test_of_several_statements_the_nearest_is_told():
    far = when({**OURS, "Sid": "Far"}, StringEquals=equals(sub="x", aud="y"))
    near = when(StringEquals=equals(sub="z", aud="sts.amazonaws.com"))
    assert why(far, near) == f"subject: the role trusts z, not {SUB} (statement Ours)"


@pytest.mark.parametrize(
    ("tag", "value"),
    [("kubernetes-namespace", "ml"), ("eks-cluster-arn", CLUSTER), ("kubernetes-service-account", "a")],
)
def test_the_session_tag_that_fails(tag, value):
    statement = policies.pod_identity_statement("Ours", CLUSTER, [("ml", "a")])
    statement["Condition"]["StringEquals"][f"aws:RequestTag/{tag}"] = "x"
    request = iam.pod_identity(CLUSTER, "ml", "a")
    assert why(statement, request=request) == f"session tag {tag}: the role trusts x, not {value} (statement Ours)"
    assert f"session tag {tag}: the role trusts x, not none" in why(
        statement, request=iam.pod_identity(CLUSTER, "ml", "a", tagged=False)
    )


def test_a_principal_and_an_action_that_are_missing():
    pod = iam.pod_identity(CLUSTER, "ml", "a", "sts:TagSession")
    assert why(OURS, request=pod) == f"principal: no statement names pods.eks.amazonaws.com, but {PROVIDER}"
    statement = {**policies.pod_identity_statement("Ours", CLUSTER, [("ml", "a")]), "Action": "sts:AssumeRole"}
    assert "allow sts:AssumeRole, not sts:TagSession" in why(statement, request=pod)


def test_what_depends_on_a_key_is_not_judged():
    conditions = {**OURS["Condition"], "IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    told = why(when(**conditions), kind=Unjudged)
    assert told == "aws:SourceIp (in the statement Ours) decides whether sts:AssumeRoleWithWebIdentity is allowed"
    assert "subject" in why(when(**{**conditions, "StringLike": equals(sub="x")}))
