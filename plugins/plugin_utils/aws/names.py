"""Composes and checks names of IAM roles; never asks AWS."""

from __future__ import annotations

import re

ROLE_ARN = re.compile(r"arn:aws(-cn|-us-gov)?:iam::\d{12}:role/([!-.0-~]+/)*[\w+=,.@-]{1,64}", re.ASCII)
ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
ACCOUNT = re.compile(r"\d{12}", re.ASCII)


def role_name_error(role_name: object) -> str | None:
    """Tell what is wrong with the name of an IAM role, or None (IAM API reference, CreateRole)."""
    if str(role_name).startswith("arn:"):
        right, allowed = ROLE_ARN, "must be an ARN like arn:aws:iam::123456789012:role/NAME, or just the role's name"
    else:
        right, allowed = ROLE_NAME, "must be up to 64 letters, digits and +=,.@_-, or a whole ARN"
    return None if right.fullmatch(str(role_name)) else allowed


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
