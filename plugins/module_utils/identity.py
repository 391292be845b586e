"""What AWS calls things."""

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
