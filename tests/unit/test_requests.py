"""What is known of a pod's requests: each condition key as AWS fills it, and none that nobody can know."""

from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, policies

ACCOUNT, REGION = "123456789012", "eu-central-1"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.eks.{REGION}.amazonaws.com/id/AAAA"
HOST = PROVIDER.partition("/")[2]
CLUSTER = f"arn:aws:eks:{REGION}:{ACCOUNT}:cluster/staging"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/k"
ROLE = {
    "Arn": f"arn:aws:iam::{ACCOUNT}:role/team/r",
    "RoleId": "AROAEXAMPLE",
    "Tags": [{"Key": "Team", "Value": "ml"}, {"Key": "kubernetes-namespace", "Value": "mine"}],
}
TOKEN = iam.web_identity(PROVIDER, {"sub": "system:serviceaccount:ml:a", "aud": "sts.amazonaws.com"}, REGION, ACCOUNT)
POD = iam.pod_identity(CLUSTER, "ml", "a")
ENTRY = {"bucket": "b", "prefixes": ["7/"], "kms_key_arn": KEY}


def asked(operation, assumed=TOKEN):
    return dict(policies.requests(ENTRY, ACCOUNT, "aws", REGION, iam.session(ROLE, assumed)))[operation]


def holds(request, condition):
    """Whether a condition holds: True, False, or None where that is not known, and then by which key."""
    statement = {"Effect": "Allow", "Action": "*", "Condition": condition}
    statement |= {"Principal": "*"} if request.principal else {"Resource": "*"}
    document = policies.document([statement])
    decision = iam.decide([document], request)
    always = {key: value for key, value in statement.items() if key != "Condition"}
    denial = iam.decide([policies.document([always, {**statement, "Effect": "Deny"}])], request)
    if decision.unknown:
        # A denial is in doubt just as much.
        assert denial.unknown == decision.unknown
        assert not denial.denied
        return None
    assert denial.denied is decision.allowed
    return decision.allowed


TOMORROW = (datetime.now(UTC) + timedelta(days=1)).isoformat(timespec="seconds")
FILLED = [
    ({"StringEquals": {"aws:RequestedRegion": REGION}}, True),
    ({"StringNotEquals": {"aws:RequestedRegion": REGION}}, False),
    ({"DateLessThan": {"aws:CurrentTime": TOMORROW}}, True),
    ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, True),
    ({"NumericGreaterThan": {"aws:EpochTime": "1577836800"}}, True),
    ({"Bool": {"aws:SecureTransport": "false"}}, False),
    ({"Bool": {"aws:SecureTransport": "true"}}, True),
    ({"StringEquals": {"aws:ResourceAccount": ACCOUNT}}, True),
    ({"StringLike": {"aws:UserAgent": "*"}}, True),
    ({"StringLike": {"aws:UserAgent": "Boto3/*"}}, None),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, None),
    ({"NotIpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, None),
    ({"NotIpAddressIfExists": {"aws:SourceIp": "10.0.0.0/8"}}, None),
    ({"Null": {"aws:SourceIp": "true"}}, None),
    ({"StringNotEquals": {"aws:SourceVpce": "vpce-1"}}, None),
    ({"StringEqualsIfExists": {"aws:SourceVpc": "vpc-1"}}, None),
    ({"StringEquals": {"aws:PrincipalOrgID": "o-1"}}, None),
    ({"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}}, None),
    ({"ForAllValues:StringLike": {"aws:PrincipalOrgPaths": "o-1/*"}}, None),
    ({"StringEquals": {"aws:ResourceOrgID": "${aws:PrincipalOrgID}"}}, None),
    ({"StringEquals": {"what:ever": "x"}}, None),
]


@pytest.mark.parametrize(("condition", "right"), FILLED)
@pytest.mark.parametrize("name", ["GetObject", "Decrypt", "trust", "pod"])
def test_what_every_request_has(name, condition, right):
    request = {"trust": TOKEN, "pod": POD}.get(name) or asked(name)
    assert holds(request, condition) is right


@pytest.mark.parametrize(
    ("condition", "right"),
    [
        ({"ArnEquals": {"aws:PrincipalArn": ROLE["Arn"]}}, True),
        ({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/team/*"}}, False),
        ({"StringEquals": {"aws:PrincipalAccount": ACCOUNT}}, True),
        ({"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}, True),
        ({"StringEquals": {"s3:ResourceAccount": ["${aws:PrincipalAccount}"]}}, True),
        ({"StringNotEquals": {"s3:ResourceAccount": ACCOUNT}}, False),
        ({"Bool": {"aws:PrincipalIsAWSService": "false"}}, True),
        ({"Bool": {"aws:ViaAWSService": "true"}}, False),
        ({"StringEquals": {"aws:PrincipalType": "AssumedRole"}}, True),
        ({"StringEquals": {"aws:PrincipalTag/team": "ml"}}, True),
        ({"StringNotEquals": {"aws:PrincipalTag/Team": "ml"}}, False),
        ({"Null": {"aws:PrincipalTag/other": "true"}}, True),
        ({"Null": {"aws:username": "false"}}, False),
        ({"StringLike": {"aws:userid": "AROAEXAMPLE:*"}}, True),
        ({"StringNotLike": {"aws:userid": ["AROAEXAMPLE:*", "111"]}}, False),
        ({"StringLike": {"aws:userid": "AROAOTHER:*"}}, False),
        ({"StringLike": {"aws:userid": "*:me"}}, None),
        ({"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}}, True),
        ({"Bool": {"aws:MultiFactorAuthPresent": "true"}}, False),
        ({"Bool": {"aws:MultiFactorAuthPresent": "false"}}, None),
        ({"NumericLessThan": {"aws:MultiFactorAuthAge": "300"}}, False),
        ({"DateLessThan": {"aws:TokenIssueTime": "2020-01-01T00:00:00Z"}}, None),
        ({"Null": {"aws:TokenIssueTime": "true"}}, False),
        ({"Null": {"aws:CalledVia": "false"}}, False),
        ({"ArnLike": {"aws:SourceArn": "arn:aws:s3:::*"}}, False),
        ({"StringEquals": {"aws:FederatedProvider": PROVIDER}}, True),
        ({"StringEquals": {f"{HOST}:sub": "system:serviceaccount:ml:b"}}, False),
        ({"StringEquals": {f"{HOST}:sub": "system:serviceaccount:ml:a"}}, None),
        ({"NumericLessThan": {"s3:TlsVersion": "1.2"}}, False),
        ({"NumericLessThan": {"s3:TlsVersion": "1.3"}}, None),
        ({"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}, False),
        ({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, True),
        ({"StringEquals": {"s3:ExistingObjectTag/x": "y"}}, None),
        ({"Null": {"s3:VersionId": "true"}}, True),
        ({"StringLike": {"s3:prefix": "7/*"}}, False),
    ],
)
def test_what_a_role_s_request_to_s3_has(condition, right):
    assert holds(asked("GetObject"), condition) is right


def test_who_asks_may_be_unknown():
    (_, request), *_ = policies.requests(ENTRY, ACCOUNT, "aws")
    for key in ("aws:PrincipalArn", "aws:PrincipalTag/x", "aws:username", "aws:RequestedRegion"):
        assert iam.decide(
            [
                policies.document(
                    [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Null": {key: "true"}}}]
                )
            ],
            request,
        ).unknown == (key,)


@pytest.mark.parametrize(
    ("condition", "right"),
    [
        ({"StringEquals": {"kms:CallerAccount": ACCOUNT}}, True),
        ({"StringEquals": {"kms:ViaService": f"s3.{REGION}.amazonaws.com"}}, True),
        ({"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::b*"}}, True),
        ({"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::c*"}}, False),
        ({"ArnLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::c/*"}}, False),
        # With a Bucket Key the bucket, without one the object.
        ({"StringEquals": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::b"}}, None),
        ({"StringLike": {"kms:EncryptionContext:aws:s3:arn": "arn:aws:s3:::b/*"}}, None),
        ({"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": "aws:s3:arn"}}, True),
        ({"Null": {"kms:EncryptionContext:other": "true"}}, True),
        ({"Bool": {"aws:ViaAWSService": "true"}}, True),
        ({"ArnEquals": {"aws:PrincipalArn": ROLE["Arn"]}}, True),
        ({"ForAnyValue:StringEquals": {"kms:ResourceAliases": "alias/x"}}, None),
    ],
)
def test_what_s3_s_request_to_kms_has(condition, right):
    assert holds(asked("Decrypt"), condition) is right


@pytest.mark.parametrize(
    ("condition", "right"),
    [
        ({"StringEquals": {"sts:RoleSessionName": "x"}}, False),  # two letters at least
        ({"StringEquals": {"sts:RoleSessionName": "botocore-session"}}, None),
        ({"StringLike": {"sts:RoleSessionName": "*"}}, True),
        ({"StringLike": {"sts:RoleSessionName": "${aws:username}"}}, False),
        ({"Null": {"sts:RoleSessionName": "true"}}, False),
        ({"Null": {"sts:ExternalId": "true"}}, True),
        ({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, None),
        ({"StringEquals": {"aws:PrincipalTag/team": "ml"}}, None),
        ({"Bool": {"aws:PrincipalIsAWSService": "true"}}, False),
        ({"Bool": {"aws:PrincipalIsAWSService": "false"}}, None),
        ({"BoolIfExists": {"aws:PrincipalIsAWSService": "false"}}, True),
        ({"Null": {"aws:RequestTag/x": "true"}}, True),
        ({"Null": {f"{HOST}:azp": "true"}}, True),
        ({"StringEquals": {f"{HOST}B:sub": "system:serviceaccount:ml:a"}}, False),
        ({"StringEquals": {f"https://{HOST}:sub": "system:serviceaccount:ml:a"}}, False),
        ({"NumericLessThan": {"sts:DurationSeconds": "900"}}, None),
    ],
)
def test_what_a_token_s_request_has(condition, right):
    assert holds(TOKEN, condition) is right


@pytest.mark.parametrize(
    ("condition", "right"),
    [
        ({"StringEquals": {"aws:SourceAccount": ACCOUNT}}, True),
        ({"ArnLike": {"aws:SourceArn": f"arn:aws:eks:*:{ACCOUNT}:cluster/*"}}, True),
        ({"StringLike": {"aws:RequestTag/kubernetes-pod-name": "*"}}, True),
        ({"StringLike": {"aws:RequestTag/kubernetes-pod-name": "a-*"}}, None),
        ({"Null": {"aws:RequestTag/kubernetes-pod-uid": "true"}}, False),
        ({"Null": {"aws:RequestTag/other": "true"}}, True),
        ({"ForAllValues:StringLike": {"aws:TagKeys": ["eks-*", "kubernetes-*"]}}, True),
        ({"Bool": {"aws:PrincipalIsAWSService": "true"}}, True),
        ({"StringLike": {"sts:RoleSessionName": "eks-*"}}, True),
        ({"StringLike": {"sts:RoleSessionName": "other-*"}}, False),
        ({"StringEquals": {"aws:SourceOrgId": "o-1"}}, None),
    ],
)
def test_what_eks_asks_for_a_pod(condition, right):
    assert holds(POD, condition) is right


def test_session_tags_go_before_the_role_s_own():
    condition = {"StringEquals": {"aws:PrincipalTag/kubernetes-namespace": "ml"}}
    assert holds(asked("GetObject", POD), condition) is True
    assert holds(asked("GetObject"), condition) is False
    untagged = iam.pod_identity(CLUSTER, "ml", "a", tagged=False)
    assert holds(asked("GetObject", untagged), condition) is False
    assert holds(untagged, {"Null": {"aws:RequestTag/kubernetes-namespace": "true"}}) is True
    assert holds(asked("GetObject", POD), {"StringLike": {"aws:PrincipalTag/kubernetes-pod-name": "x"}}) is None
    assert holds(asked("GetObject", POD), {"Null": {"aws:FederatedProvider": "true"}}) is True
