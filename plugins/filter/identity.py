"""Compose what AWS calls things."""

from __future__ import annotations

from ansible.errors import AnsibleFilterError
from ansible_collections.modelyard.core.plugins.module_utils.identity import ACCOUNT, compose_arn, role_name_error
from ansible_collections.modelyard.core.plugins.module_utils.problems import problem


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
        AnsibleFilterError: a part is not what AWS takes.
    """
    if not role_name:
        return ""
    wrong = role_name_error(role_name)
    if wrong:
        raise AnsibleFilterError(problem("IAM role", role_name, wrong))
    if not str(role_name).startswith("arn:") and not ACCOUNT.fullmatch(str(account)):
        raise AnsibleFilterError(
            problem("platform_aws_account_id", account, "must be the 12 digits of the AWS account, in quotes")
        )
    return compose_arn(role_name, account, partition, path)


class FilterModule:
    """modelyard.core.role_arn"""

    def filters(self) -> dict:
        """Name the filters."""
        return {"role_arn": role_arn}
