"""Composes, checks and takes apart the names that things have in AWS; never asks whether there are such."""

from __future__ import annotations

import re

ROLE_ARN = re.compile(r"arn:aws(-cn|-us-gov)?:iam::\d{12}:role/([!-.0-~]+/)*[\w+=,.@-]{1,64}", re.ASCII)
LONGEST_PATH = 512
ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
ACCOUNT = re.compile(r"\d{12}", re.ASCII)
# https://docs.aws.amazon.com/eks/latest/APIReference/API_CreateCluster.html
EKS_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}", re.ASCII)
# AWS's own key for S3 in an account; buckets without a key of ours name it so.
MANAGED_KEY = "aws/s3"
ACCESS_POINT = re.compile(
    r"arn:(aws(?:-cn|-us-gov)?):s3:([a-z0-9-]+):(\d{12}):accesspoint/([a-z0-9](?!\S*-s3alias$)[a-z0-9-]{1,48}[a-z0-9])",
    re.ASCII,
)
BUCKET = re.compile(r"(?=.{3,63}$)[a-z0-9]([a-z0-9-]|\.(?!\.))*[a-z0-9]", re.ASCII)
RESERVED = ("xn--", "sthree-", "amzn-s3-demo-")
# Names with these ends are of something else than a bucket.
ALIAS = "-s3alias"
SUFFIXES = {
    ALIAS: "the alias of an access point, which no policy can name: name its bucket, and its ARN in access_point",
    "--ol-s3": "the alias of an Object Lambda access point: name its bucket",
    ".mrap": "the alias of a multi-region access point: name its bucket",
    "--x-s3": "a directory bucket, and the permissions that S3 Express needs are not supported",
    "--table-s3": "a table bucket, which has no objects of one's own",
}
KEY_ARN = re.compile(r"arn:(aws(?:-cn|-us-gov)?):kms:([a-z0-9-]+):\d{12}:key/[\w-]+", re.ASCII)


def role_name_error(role_name: object) -> str | None:
    """Tell what is wrong with the name of an IAM role, or None (IAM API reference, CreateRole)."""
    text = str(role_name)
    if text.startswith("arn:"):
        right = ROLE_ARN.fullmatch(text) and len(role_path_of(text)) <= LONGEST_PATH
        allowed = "must be an ARN like arn:aws:iam::123456789012:role/NAME, or just the role's name"
    else:
        right, allowed = ROLE_NAME.fullmatch(text), "must be up to 64 letters, digits and +=,.@_-, or a whole ARN"
    return None if right else allowed


def bucket_error(name: object) -> str | None:
    """Tell what is wrong with the name of a bucket, or None.

    Rules: https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
    """
    text = str(name)
    if not BUCKET.fullmatch(text):
        return "must be the name of a bucket, without s3://: 3 to 63 lower-case letters, digits, - and ."
    if re.fullmatch(r"\d+(\.\d+){3}", text):
        return "must not look like an IP address: S3 has no such bucket"
    if text.startswith(RESERVED):
        return f"must not begin with {', '.join(RESERVED)}: S3 reserves them"
    return next((f"is {what}" for end, what in SUFFIXES.items() if text.endswith(end)), None)


def compose_arn(role: object, account: object, partition: str, path: str) -> str:
    """Compose the ARN of an IAM role from its name; a whole ARN stays as it is (a role in another account)."""
    return str(role) if str(role).startswith("arn:") else f"arn:{partition}:iam::{account}:role{path}{role}"


def role_annotations(arn: str, pod_identity: bool, regional: bool) -> dict[str, str]:
    """Name an IAM role on a ServiceAccount.

    Args:
        arn: the role; empty for none.
        pod_identity: EKS Pod Identity gives the role instead, and nothing stands on the account.
        regional: whether EKS's webhook tells the pod's SDK to ask STS in its own region.
    """
    if not arn or pod_identity:
        return {}
    return {
        "eks.amazonaws.com/role-arn": arn,
        **({"eks.amazonaws.com/sts-regional-endpoints": "true"} if regional else {}),
    }


# --- ARNs -------------------------------------------------------------------------------------------


def issuer_host(issuer: str) -> str:
    """Give an issuer as IAM writes it: without the scheme."""
    return issuer.removeprefix("https://")


def provider_arn(issuer: str, account: str, partition: str) -> str:
    """Name the IAM OIDC provider of an issuer in an account."""
    return f"arn:{partition}:iam::{account}:oidc-provider/{issuer_host(issuer)}"


def cluster_arn(name: str, region: str, account: str, partition: str) -> str:
    """Name an EKS cluster."""
    return f"arn:{partition}:eks:{region}:{account}:cluster/{name}"


def subject(namespace: str, service_account: str) -> str:
    """Name a ServiceAccount as its tokens do."""
    return f"system:serviceaccount:{namespace}:{service_account}"


def account_of(arn: str) -> str:
    """Give the account in an ARN."""
    return arn.split(":")[4]


def partition_of(arn: str) -> str:
    """Give the partition in an ARN."""
    return arn.split(":")[1]


def role_name_of(arn: str) -> str:
    """Give the name in a role's ARN, without its path."""
    return arn.rpartition("/")[2]


def role_path_of(arn: str) -> str:
    """Give the path in a role's ARN."""
    inside = arn.partition(":role")[2]
    return inside[: inside.rindex("/") + 1]


def camel(text: str) -> str:
    """Join the words of a name, so that what is left are letters and digits: those alone are allowed in a Sid."""
    return "".join(part.capitalize() for part in re.split(r"[^A-Za-z0-9]+", text))


def s3_location(url: str) -> tuple[str, str]:
    """Split ``s3://bucket/folder`` into both; two empty texts for what is not in AWS's S3 (a path, or an endpoint of one's own)."""
    match = re.fullmatch(r"s3://([^/:]+)(?:/(.*?))?/*", url)
    return (match[1], match[2] or "") if match else ("", "")
