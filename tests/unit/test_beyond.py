"""What a role allows beyond the inventory: whatever was widened, added, or hidden under a name of ours."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import beyond, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

ACCOUNT = "123456789012"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.eu-central-1.amazonaws.com/id/AAAA"
HOST = PROVIDER.partition("/")[2]
MINE, OTHER = Owner(ACCOUNT, "eu-central-1", "staging"), Owner(ACCOUNT, "eu-west-1", "prod")
WANTED = policies.web_identity_statement(
    MINE.sid, PROVIDER, ["system:serviceaccount:ml:a", "system:serviceaccount:ml:b"]
)
THEIRS = policies.web_identity_statement(OTHER.sid, f"{PROVIDER}B", ["system:serviceaccount:ml:a"])
CLUSTER = f"arn:aws:eks:eu-central-1:{ACCOUNT}:cluster/staging"
PODS = policies.pod_identity_statement(MINE.sid, CLUSTER, [("ml", "a")])


def trust(*statements, wanted=WANTED, tags=(MINE.tag, OTHER.tag)):
    return beyond.in_trust(policies.document(statements), wanted, tags)


def conditioned(statement=WANTED, **more):
    return {**statement, "Condition": {key.partition("_")[0]: value for key, value in more.items()}}


def test_what_a_run_writes_is_not_beyond():
    assert trust(WANTED, THEIRS) == []
    assert trust(PODS, wanted=PODS) == []
    # Nor is less, nor a denial, nor what lets nobody in.
    less = conditioned(StringEquals={f"{HOST}:sub": "system:serviceaccount:ml:a", f"{HOST}:aud": "sts.amazonaws.com"})
    assert trust(less, {**WANTED, "Effect": "Deny", "Principal": "*"}) == []
    assert trust({**THEIRS, "Sid": "x", "Action": "sts:TagSession", "Principal": "*"}) == []


SUB = {f"{HOST}:sub": "system:serviceaccount:ml:a"}
AUD = {f"{HOST}:aud": "sts.amazonaws.com"}


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (conditioned(StringLike={f"{HOST}:sub": "system:serviceaccount:*:*"}, StringEquals=AUD), "sub system:serviceaccount:*:* of"),
        (conditioned(StringEquals={f"{HOST}:SUB": ["system:serviceaccount:ml:a", "system:serviceaccount:x:y"], **AUD}), "sub system:serviceaccount:x:y of"),
        (conditioned(StringEquals=AUD), "any sub of"),
        (conditioned(StringNotEquals=SUB, StringEquals=AUD), "any sub of"),
        (conditioned(StringFoo=SUB), "any aud, any sub of"),
        (conditioned(StringEquals=SUB), "any aud of"),
        (conditioned(StringEquals={**SUB, f"{HOST}:aud": "mine"}), "aud mine of"),
        (conditioned(StringEquals={f"{HOST}:sub": f"${{{HOST}:sub}}", **AUD}), f"sub ${{{HOST}:sub}} of"),
        ({**WANTED, "Principal": {"AWS": "*"}}, "lets in AWS *"),
        ({**WANTED, "Principal": "*"}, "lets in AWS *"),
        ({"Effect": "Allow", "Principal": {"AWS": ["1", "2"]}, "Action": "sts:*"}, "the statement number 1 lets in AWS 1; AWS 2"),
        ({"Effect": "Allow", "Principal": "*", "NotAction": "iam:*"}, "AWS *"),
        ({**WANTED, "Principal": {"Federated": [PROVIDER, "cognito-identity.amazonaws.com"]}}, "Federated cognito-identity.amazonaws.com"),
        ({**THEIRS, "Sid": "Modelyard12345678"}, "sub system:serviceaccount:ml:a"),
        # The name of another cluster's statement makes none of it.
        ({**THEIRS, "Principal": {"AWS": "*"}}, f"the statement {OTHER.sid} lets in AWS *"),
        (conditioned(THEIRS, StringLike={f"{HOST}B:sub": "system:serviceaccount:*"}, StringEquals={f"{HOST}B:aud": "sts.amazonaws.com"}), "sub system:serviceaccount:*"),
        (PODS, "Service pods.eks.amazonaws.com (eks-cluster-arn"),
        # A variable that is always like itself limits nothing.
        (conditioned(THEIRS, StringEquals={f"{HOST}B:sub": f"${{{HOST}B:sub}}", f"{HOST}B:aud": "sts.amazonaws.com"}), "sub ${"),
        ({"Effect": "Allow", "Principal": {"Service": "pods.eks.amazonaws.com"}, "Action": "sts:AssumeRole"}, "any kubernetes-namespace"),
    ],
)  # fmt: skip
def test_who_is_let_in_beside(statement, told):
    if statement is PODS:
        statement = {**PODS, "Sid": "x"}
    (text,) = trust(statement)
    assert told in text


def test_a_service_account_more_in_our_own_form():
    more = policies.web_identity_statement(
        MINE.sid, PROVIDER, ["system:serviceaccount:ml:a", "system:serviceaccount:ml:c"]
    )
    assert "lets in sub system:serviceaccount:ml:c of" in trust(more)[0]


NAMESPACE = "aws:RequestTag/kubernetes-namespace"


def test_limits_count_together():
    assert trust(conditioned(StringLike={f"{HOST}:sub": "*"}, StringEquals=WANTED["Condition"]["StringEquals"])) == []
    # Whoever has no tags gets past ...IfExists; no token is without a subject.
    assert trust(conditioned(StringEqualsIfExists=SUB, StringEquals=AUD)) == []
    tags = {key: value for key, value in PODS["Condition"]["StringEquals"].items() if key != NAMESPACE}
    for operator in ("StringEqualsIfExists", "ForAllValues:StringEquals"):
        statement = {**PODS, "Condition": {operator: {NAMESPACE: "ml"}, "StringEquals": tags}}
        assert "any kubernetes-namespace" in trust(statement, wanted=PODS)[0]


@pytest.mark.parametrize("key", ["kubernetes-namespace", "kubernetes-service-account", "eks-cluster-arn"])
def test_a_session_tag_that_is_like_itself_limits_nothing(key):
    statement = policies.pod_identity_statement(OTHER.sid, CLUSTER, [("ml", "a")])
    assert beyond.is_trust_of_a_run(statement)
    statement["Condition"]["StringEquals"][f"aws:RequestTag/{key}"] = f"${{aws:RequestTag/{key}}}"
    assert not beyond.is_trust_of_a_run(statement)
    assert len(trust(statement)) == 1


@pytest.mark.parametrize(
    "access",
    [
        {"bucket": "a.b"},
        {"bucket": "b", "prefixes": ["x/y", "7"], "write": True, "head_bucket": True},
        {
            "bucket": "b",
            "account_id": "210987654321",
            "kms_key_arn": f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/k",
            "write": True,
        },
        {
            "bucket": "b",
            "access_point": f"arn:aws:s3:eu-west-1:{ACCOUNT}:accesspoint/p",
            "prefixes": ["7"],
            "write": True,
        },
    ],
)
def test_whatever_a_run_writes_is_known_as_its(access):
    statements = policies.permissions([access], ACCOUNT, "aws")["Statement"]
    assert all(beyond.is_grant_of_a_run(item) for item in statements)
    for change in (
        {"Action": "s3:*"},
        {"Resource": "*"},
        {"Condition": {}},
        {"Resource": "arn:aws:s3:::b/${aws:userid}*"},
    ):
        assert not any(beyond.is_grant_of_a_run({**item, **change}) for item in statements)
    for value in ("${aws:ResourceAccount}", "*"):
        bound = {"StringEquals": {"aws:ResourceAccount": [ACCOUNT, value]}}
        assert not any(beyond.is_grant_of_a_run({**item, "Condition": bound}) for item in statements)


def test_who_is_let_in_beside_with_pod_identity():
    tags = dict(PODS["Condition"]["StringEquals"])
    del tags["aws:RequestTag/kubernetes-service-account"]
    (text,) = trust(conditioned(PODS, StringEquals=tags), wanted=PODS)
    assert text == f"the statement {MINE.sid} lets in any kubernetes-service-account of pods.eks.amazonaws.com"
    # The statement from before, of the provider.
    assert "Federated" in trust({**WANTED, "Sid": "old"}, PODS, wanted=PODS)[0]


GRANTED = policies.permissions([{"bucket": "b", "prefixes": ["7/"]}], ACCOUNT, "aws")


def granted(statement, name="extra"):
    return beyond.in_policies(
        {MINE.policy: GRANTED, name: policies.document([statement])}, GRANTED, MINE.policy, [MINE.tag, OTHER.tag]
    )


def test_what_the_access_needs_is_not_beyond():
    assert beyond.in_policies({MINE.policy: GRANTED}, GRANTED, MINE.policy, [MINE.tag]) == []
    (read,) = (item for item in GRANTED["Statement"] if item["Sid"].startswith("Read"))
    assert granted({**read, "Resource": "arn:aws:s3:::b/7/x"}) == []
    assert granted({"Effect": "Deny", "Action": "*", "Resource": "*"}) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"Action": "*"}, "policy extra, statement ReadB, allows * on arn:aws:s3:::b/7/*"),
        ({"Action": ["s3:GetObject", "s3:PutObject"]}, "s3:GetObject, s3:PutObject"),
        ({"Resource": "*"}, "allows s3:GetObject on *"),
        ({"Resource": "arn:aws:s3:::b/*"}, "on arn:aws:s3:::b/*"),
        ({"Resource": "arn:aws:s3:::b/7/${aws:username}"}, "aws:username"),
        ({"Condition": {}}, "allows s3:GetObject on"),
        ({"Condition": {"StringEquals": {"aws:ResourceAccount": [ACCOUNT, "1"]}}}, "allows s3:GetObject on"),
    ],
)
def test_what_is_allowed_beside(change, told):
    (read,) = (item for item in GRANTED["Statement"] if item["Sid"].startswith("Read"))
    (text,) = granted({**read, **change})
    assert told in text
    # In our own policy just so.
    own = beyond.in_policies({MINE.policy: policies.document([{**read, **change}])}, GRANTED, MINE.policy, [MINE.tag])
    assert own == [text.replace("policy extra", f"policy {MINE.policy}")]


def test_negated_elements_are_beyond():
    (text,) = granted({"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:aws:s3:::c"})
    assert "allows all but iam:* on all but arn:aws:s3:::c" in text


def test_policies_of_other_clusters_are_named_as_theirs():
    theirs = policies.permissions(
        [{"bucket": "c", "write": True, "kms_key_arn": f"arn:aws:kms:eu-west-1:{ACCOUNT}:key/k"}], ACCOUNT, "aws"
    )
    documents = {MINE.policy: GRANTED, OTHER.policy: theirs}
    tags = [MINE.tag, OTHER.tag]
    assert beyond.in_policies(documents, GRANTED, MINE.policy, tags) == [
        f"policy {OTHER.policy} allows more, and is that of another cluster, which the role's tags name"
    ]
    assert beyond.in_policies({OTHER.policy: GRANTED}, GRANTED, MINE.policy, tags) == []
    # Without the tag it is foreign, and under its name no more than a run writes is theirs.
    assert len(beyond.in_policies(documents, GRANTED, MINE.policy, [MINE.tag])) == 4
    wide = policies.document([{"Sid": "All", "Effect": "Allow", "Action": "*", "Resource": "*"}])
    assert beyond.in_policies({OTHER.policy: wide}, GRANTED, MINE.policy, tags) == [
        f"policy {OTHER.policy}, statement All, allows * on *"
    ]
