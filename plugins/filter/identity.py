"""Compose what AWS calls things."""

from __future__ import annotations

from collections.abc import Mapping

from ansible.errors import AnsibleFilterError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import (
    ACCOUNT,
    compose_arn,
    role_annotations,
    role_name_error,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import problem


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


def service_accounts(servers: list[Mapping], component: str, namespace: str) -> list[dict]:
    """Keep of each server what its AWS side needs: the ServiceAccount, its role, the URLs that it reads."""
    return [
        {
            "component": component,
            "namespace": namespace,
            "name": item["service_account_name"],
            "role_arn": item["role_arn"],
            "reads": item.get("reads") or [],
        }
        for item in servers
        if item["role_arn"]
    ]


class FilterModule:
    """Filters of modelyard.core."""

    def filters(self) -> dict:
        """Name the filters."""
        return {"role_annotations": role_annotations, "role_arn": role_arn, "service_accounts": service_accounts}
