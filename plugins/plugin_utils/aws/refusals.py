"""Words what AWS answers where it does not do what it was asked; never repeats what could hold a secret, and never asks AWS."""

from __future__ import annotations

import re

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import masked

EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
LATE = frozenset({"RequestExpired", "RequestTimeTooSkewed"})
# Their own texts may repeat the request's headers, with a session token among them.
UNKNOWN = frozenset(
    {
        "AuthFailure",
        "IncompleteSignature",
        "IncompleteSignatureException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSignatureException",
        "InvalidToken",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
THROTTLED = ("RequestLimitExceeded", "SlowDown", "Throttling", "ThrottlingException", "TooManyRequestsException")
ELSEWHERE = ("301", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")
NOT_ENABLED = ("InvalidLocationConstraint", "NotSignedUp", "OptInRequired", "RegionDisabledException")
# What to do about what AWS says of these.
HINTS = {
    **dict.fromkeys(THROTTLED, "AWS limits how often it may be asked: run again later"),
    **dict.fromkeys(
        ELSEWHERE, "the request went to another region than platform_aws_region: check AWS_ENDPOINT_URL too"
    ),
    **dict.fromkeys(NOT_ENABLED, "enable the region, or the service in it, for the account"),
}
# Where the action that an operation needs has another name (Service Authorization Reference).
ACTIONS = {
    "resourcegroupstaggingapi:GetResources": "tag:GetResources",
    "s3:DeleteBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:DeleteBucketLifecycle": "s3:PutLifecycleConfiguration",
    "s3:DeleteBucketTagging": "s3:PutBucketTagging",
    "s3:DeletePublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "s3:GetBucketLifecycleConfiguration": "s3:GetLifecycleConfiguration",
    "s3:GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "s3:ListObjectVersions": "s3:ListBucketVersions",
    "s3:PutBucketEncryption": "s3:PutEncryptionConfiguration",
    "s3:PutBucketLifecycleConfiguration": "s3:PutLifecycleConfiguration",
    "s3:PutPublicAccessBlock": "s3:PutBucketPublicAccessBlock",
    "service-quotas:GetAWSDefaultServiceQuota": "servicequotas:GetAWSDefaultServiceQuota",
    "service-quotas:GetServiceQuota": "servicequotas:GetServiceQuota",
}
# What an operation needs beside its own action, as our requests are: AWS need not say which of them is missing.
ALONG = {
    "eks:CreatePodIdentityAssociation": "iam:PassRole and eks:TagResource",
    "eks:UpdatePodIdentityAssociation": "iam:PassRole",
    "iam:CreateOpenIDConnectProvider": "iam:TagOpenIDConnectProvider",
    "iam:CreateRole": "iam:TagRole",
    "s3:CreateBucket": "s3:PutBucketOwnershipControls and s3:TagResource",
}
NAMES_ACTION = re.compile(r"not authorized to perform:? [\w-]+:\w", re.IGNORECASE)
# A missing right of who asks, or a sentence that does not say which policy it was.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
OTHER_POLICY = re.compile(r"explicit deny|because (?!no identity-based policy)", re.IGNORECASE)
# A policy that is none of who asks, whatever it is.
OF_OTHERS = re.compile(r"explicit deny in (?!an identity-based)|because (?!no identity-based policy)", re.IGNORECASE)
RIGHTS = "docs/aws-policy.json lists what a run needs"
LONGEST_TEXT = 300
ANSWER = re.compile(r":? b['\"]")


def failed(action: str, subject: str, region: str, code: str, message: str) -> str:
    """Word an error that AWS answered, other than a denial.

    Args:
        action: what it was, as policies name it.
        subject: what it was about; '' for nothing.
        region: where it was asked.
        code: AWS's code of the error.
        message: AWS's own text, '' for none.
    """
    if code in EXPIRED:
        return f"the AWS credentials have expired ({code} for {action}): renew them, and {job.aws_credential()}"
    if code in LATE or re.search(r"Signature (expired|not yet current)", message):
        return f"AWS takes the request as too old or too early ({code} for {action}): set this machine's clock"
    if code in UNKNOWN:
        return (
            f"AWS does not accept the credentials ({code} for {action}): key, secret or session token is wrong or revoked, "
            f"or the account has not enabled the region {region}"
        )
    text = f"{action}{_on(subject)} failed: {masked(message) or code}"
    if code == "400" and action == "s3:ListBucket":
        return f"{text}. S3 says no more here; most often the credentials have expired, or the region is not enabled"
    return f"{text} ({HINTS[code]})" if code in HINTS else text


def denied(action: str, subject: str, caller: str, message: str) -> str:
    """Word a denial: AWS's own sentence where it names the right and the policy, else what was asked and is known to need rights.

    Args:
        action: what it was, as policies name it.
        subject: what it was about; '' for nothing.
        caller: ARN of who asks; '' where it is not known yet.
        message: AWS's own text, '' for none.
    """
    text, rights = f"AWS denies it: {message.rstrip('. ')}", "" if OTHER_POLICY.search(message) else RIGHTS
    if "Encoded authorization failure message" in message:
        command = "aws sts decode-authorization-message --query DecodedMessage --output text --encoded-message TEXT"
        return f"{text} (`{command}` says why, with what follows the colon as TEXT)"
    if NAMES_ACTION.search(message):
        return f"{text}; {rights}" if rights else text
    along = f" (or {ALONG[action]}, which go with it)" if action in ALONG else ""
    # "Access Denied" alone, or nothing: HeadBucket's answers have no body.
    more = "" if message.lower().rstrip(".") in ("", "access denied", "forbidden") else f" ({message.rstrip('. ')})"
    return f"{action}{along}{_on(subject)} is denied to {caller or 'the credentials'}{more}{rights and f': {rights}'}"


def _on(subject: str) -> str:
    return f" on {subject}" if subject else ""


def unanswered(service: str, error: Exception) -> str:
    """Word that AWS was not asked, or that its answer did not come.

    Args:
        service: of AWS.
        error: botocore's.
    """
    text = " ".join(masked(str(error)).split())[:LONGEST_TEXT]
    kind = type(error).__name__
    if kind == "ResponseParserError":
        # Without the answer itself, which may be one of STS.
        return f"{service}: what answers is not AWS: {re.split(ANSWER, text)[0]}"
    if "SSO" in kind or kind == "TokenRetrievalError":
        return f"{service}: {text}; {'' if job.number() else 'run aws sso login, or '}{job.aws_credential()}"
    if "credential" in text.lower():
        return f"{service}: {text}; {job.aws_credential()}"
    if kind == "EndpointConnectionError":
        return f"{service}: {text}; check the network, the proxy and platform_aws_region"
    return f"{service}: {text}"
