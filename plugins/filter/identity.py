"""Compose what AWS calls things."""

from __future__ import annotations

import re

from ansible.errors import AnsibleFilterError
from ansible_collections.modelyard.core.plugins.module_utils.problems import problem

ROLE_ARN = re.compile(r"arn:aws(-cn|-us-gov)?:iam::\d{12}:role(/[!-~]+)*/[\w+=,.@-]{1,64}", re.ASCII)
ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
ACCOUNT = re.compile(r"\d{12}", re.ASCII)


def role_arn(role_name: str, account: str, partition: str = "aws", path: str = "/") -> str:
    """Compose the ARN of an IAM role.

    Args:
        role_name: its name; or a whole ARN, which stays as it is (a role in another account).
        account: the 12 digits of the account.
        partition: the partition of the region.
        path: the role's path, with a slash at both ends.

    Returns:
        the ARN; an empty text for an empty name.

    Raises:
        AnsibleFilterError: a part is not what AWS takes (IAM API reference, CreateRole).
    """
    if not role_name:
        return ""
    if str(role_name).startswith("arn:"):
        if not ROLE_ARN.fullmatch(str(role_name)):
            raise AnsibleFilterError(
                problem("IAM role", role_name, "must be its name, or an ARN like arn:aws:iam::123456789012:role/NAME")
            )
        return str(role_name)
    if not ROLE_NAME.fullmatch(str(role_name)):
        raise AnsibleFilterError(
            problem("IAM role", role_name, "must be up to 64 letters, digits and +=,.@_-, or a whole ARN")
        )
    if not ACCOUNT.fullmatch(str(account)):
        raise AnsibleFilterError(problem("platform_aws_account_id", account, "must be the 12 digits of the AWS account"))
    return f"arn:{partition}:iam::{account}:role{path}{role_name}"


class FilterModule:
    """modelyard.core.role_arn"""

    def filters(self) -> dict:
        """Name the filters."""
        return {"role_arn": role_arn}
