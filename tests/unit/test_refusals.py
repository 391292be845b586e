"""What AWS answers to what it refuses, in words for the operator."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import refusals
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED
from botocore.exceptions import (
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
    UnauthorizedSSOTokenError,
)
from botocore.parsers import ResponseParserError

WHO = "arn:aws:iam::123456789012:user/run"
RIGHTS = "docs/aws-policy.json"


def said(action, code, message, subject="r"):
    if code in DENIED:
        return refusals.denied(action, subject, WHO, message)
    return refusals.failed(action, subject, "eu-central-1", code, message)


def sentence(action, on, why):
    return f"User: {WHO} is not authorized to perform: {action} on resource: {on} {why}".strip()


@pytest.mark.parametrize(
    ("asked", "missing", "on"),
    [
        ("eks:CreatePodIdentityAssociation", "iam:PassRole", "arn:aws:iam::123456789012:role/r"),
        ("eks:CreatePodIdentityAssociation", "eks:TagResource", "arn:aws:eks:eu-central-1:123456789012:cluster/c"),
        ("iam:CreateRole", "iam:TagRole", "arn:aws:iam::123456789012:role/r"),
        ("s3:CreateBucket", "s3:TagResource", '"arn:aws:s3:::b"'),
        ("s3:PutEncryptionConfiguration", "s3:PutEncryptionConfiguration", '"arn:aws:s3:::b"'),
    ],
)
@pytest.mark.parametrize("code", ["AccessDenied", "AccessDeniedException"])
def test_the_missing_right_is_the_one_that_aws_names(asked, missing, on, code):
    for why in (f"because no identity-based policy allows the {missing} action", ""):
        text = sentence(missing, on, why)
        found = said(asked, code, text)
        assert text in found
        assert RIGHTS in found
        assert asked == missing or asked not in found


@pytest.mark.parametrize(
    "why",
    [
        "with an explicit deny in a service control policy",
        "with an explicit deny in a service control policy: arn:aws:organizations::1:policy/o-1/service_control_policy/p-1",
        "with an explicit deny in a resource control policy",
        "with an explicit deny in an identity-based policy",
        "with an explicit deny in a permissions boundary",
        "because no service control policy allows the iam:CreateRole action",
        "because no permissions boundary allows the iam:CreateRole action",
        "because no session policy allows the iam:CreateRole action",
        "because no VPC endpoint policy allows the iam:CreateRole action",
        "because no resource-based policy allows the iam:CreateRole action",
        "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.",
    ],
)
def test_another_policy_is_not_blamed_on_the_rights_of_the_run(why):
    found = said("iam:CreateRole", "AccessDenied", sentence("iam:CreateRole", "arn:aws:iam::1:role/r", why))
    assert why.rstrip(".") in found
    assert RIGHTS not in found


@pytest.mark.parametrize(
    ("code", "message"), [("AccessDenied", "Access Denied"), ("AccessDenied", "Access Denied."), ("403", "Forbidden")]
)
def test_where_s3_says_no_more_the_action_is_named(code, message):
    found = said("s3:PutEncryptionConfiguration", code, message, "b")
    assert found == f"s3:PutEncryptionConfiguration on b is denied to {WHO}: {RIGHTS} lists what a run needs"


def test_what_goes_with_an_action_is_named_with_it():
    found = said("s3:CreateBucket", "AccessDenied", "Access Denied", "b")
    assert "s3:CreateBucket (or s3:PutBucketOwnershipControls and s3:TagResource, which go with it) on b" in found


def test_more_that_aws_says_is_shown():
    assert f"(Bucket is frozen): {RIGHTS}" in said("s3:DeleteBucket", "AccessDenied", "Bucket is frozen.")
    denial = "Access Denied with an explicit deny in a service control policy"
    assert said("s3:DeleteBucket", "AccessDenied", denial, "b") == f"s3:DeleteBucket on b is denied to {WHO} ({denial})"


def test_an_encoded_message_comes_with_the_command_that_decodes_it():
    text = "You are not authorized to perform this operation. Encoded authorization failure message: 4a5b6c"
    found = said("eks:CreatePodIdentityAssociation", "UnauthorizedOperation", text)
    assert text in found
    assert "aws sts decode-authorization-message" in found
    assert RIGHTS not in found


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"])
def test_expired_credentials(code):
    assert "the AWS credentials have expired" in said("iam:GetRole", code, "The security token is expired")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("RequestExpired", "Request has expired."),
        ("RequestTimeTooSkewed", "The difference between the request time and the current time is too large."),
        ("SignatureDoesNotMatch", "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"),
        ("InvalidSignatureException", "Signature not yet current: 20260101T001000Z is still later than ..."),
    ],
)
def test_a_clock_that_is_wrong(code, message):
    assert "set this machine's clock" in said("iam:GetRole", code, message)


@pytest.mark.parametrize("code", sorted(refusals.UNKNOWN))
def test_credentials_that_aws_does_not_know_are_never_repeated(code):
    found = said("sts:GetCallerIdentity", code, "x-amz-security-token:SECRET", "")
    assert "does not accept the credentials" in found
    assert "has not enabled the region eu-central-1" in found
    assert "SECRET" not in found


def test_throttling():
    found = said("iam:GetRole", "Throttling", "Rate exceeded")
    assert found == "iam:GetRole on r failed: Rate exceeded (AWS limits how often it may be asked: run again later)"


@pytest.mark.parametrize(
    ("code", "message", "hint"),
    [
        (
            "IllegalLocationConstraintException",
            "The unspecified location constraint is incompatible",
            "platform_aws_region",
        ),
        (
            "AuthorizationHeaderMalformed",
            "the region 'eu-central-1' is wrong; expecting 'us-east-1'",
            "AWS_ENDPOINT_URL",
        ),
        ("OptInRequired", "You are not subscribed to this service", "enable the region"),
        ("InvalidLocationConstraint", "The specified location-constraint is not valid", "enable the region"),
    ],
)
def test_what_aws_says_of_regions_comes_with_a_hint(code, message, hint):
    found = said("s3:CreateBucket", code, message, "b")
    assert found.startswith(f"s3:CreateBucket on b failed: {message} (")
    assert hint in found


def test_any_other_error_is_in_the_words_of_aws():
    text = "Cannot exceed quota for RolesPerAccount: 1000"
    assert said("iam:CreateRole", "LimitExceeded", text) == f"iam:CreateRole on r failed: {text}"
    assert "most often the credentials have expired" in said("s3:ListBucket", "400", "Bad Request")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (NoCredentialsError(), "set irsa_aws_profile"),
        (
            PartialCredentialsError(provider="env", cred_var="aws_secret_access_key"),
            "set irsa_aws_profile, AWS_PROFILE, or AWS_ACCESS_KEY_ID",
        ),
        (UnauthorizedSSOTokenError(), "run aws sso login"),
        (EndpointConnectionError(endpoint_url="https://sts.eu-x-1.amazonaws.com/"), "and platform_aws_region"),
    ],
)
def test_what_never_reached_aws_says_what_to_do(error, words, monkeypatch):
    assert words in refusals.unanswered("sts", error)
    if "set irsa_aws_profile" in words:
        monkeypatch.setenv("AWX_JOB_ID", "7")
        assert "give the job an AWS credential, or set irsa_aws_profile" in refusals.unanswered("sts", error)


def test_nothing_secret_is_shown():
    error = ResponseParserError("Unable to parse response (no element found), invalid XML received:\nb'<Token>SECRET'")
    assert refusals.unanswered("sts", error).endswith("invalid XML received")
    shown = refusals.unanswered("s3", EndpointConnectionError(endpoint_url="https://me:SECRET@minio:9000/"))
    assert "SECRET" not in shown
