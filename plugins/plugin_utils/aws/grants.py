"""Reads what a role may do, and holds against it what a client needs; never writes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged


@dataclass(frozen=True)
class Grants:
    """What a role may do.

    Attributes:
        documents: its policies, by name (inline) or ARN (managed).
        boundary: its permissions boundary.
        unreadable: why some of these are not here.
    """

    documents: Mapping[str, Mapping]
    boundary: Mapping | None
    unreadable: tuple[str, ...]


def read(account: Account, role: Mapping) -> Grants:
    """Read every policy of a role, and its boundary.

    Args:
        account: where the role is.
        role: as GetRole describes it.

    Raises:
        AwsError: AWS can't be asked; a policy that must not be read is no error.
    """
    name = role["RoleName"]
    documents: dict[str, Mapping] = {}
    unreadable = []
    for policy in account.pages("iam", "list_role_policies", "PolicyNames", RoleName=name):
        documents[policy] = account.call("iam", "get_role_policy", RoleName=name, PolicyName=policy)["PolicyDocument"]
    attached = account.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
    boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
    managed = {policy["PolicyArn"] for policy in attached}
    for arn in sorted(managed | ({boundary} - {""})):
        try:
            documents[arn] = _managed(account, arn)
        except AwsError as error:
            if error.code not in DENIED:
                raise
            unreadable.append(f"the policy {arn} can't be read: {error}")
    limit = documents.get(boundary)
    return Grants(
        {key: value for key, value in documents.items() if key != boundary or boundary in managed},
        limit,
        tuple(unreadable),
    )


def _managed(account: Account, arn: str) -> Mapping:
    version = account.call("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
    found = account.call("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
    return found["PolicyVersion"]["Document"]


def judge(grants: Grants, wanted: Iterable[tuple[str, iam.Request]], limit: Mapping | None = None) -> None:
    """Hold what a client does against what a role may do.

    Args:
        grants: the role's.
        wanted: each request, with the name of the operation.
        limit: the session's own policy, which must allow it too.

    Raises:
        Broken: something is refused.
        Unjudged: nothing is known to be refused, and something depends on what is not known.
    """
    doubts = []
    for operation, request in wanted:
        role = iam.decide(grants.documents.values(), request, grants.boundary)
        session = iam.decide([limit], request) if limit is not None else role
        lacks = f"lacks {request.action} for {operation}"
        if role.denied or not (role.allowed or role.unknown or grants.unreadable):
            raise Broken(f"{lacks}: {role.reason}")
        if limit is not None and not (session.allowed or session.unknown):
            raise Broken(f"{lacks}: the policy of the Pod Identity association: {session.reason}")
        doubts += [decision.reason for decision in (role, session) if decision.unknown]
    if grants.unreadable or doubts:
        raise Unjudged((*grants.unreadable, *doubts)[0])


def may(grants: Grants, request: iam.Request) -> bool:
    """Tell whether something is allowed, or may be."""
    decision = iam.decide(grants.documents.values(), request, grants.boundary)
    return decision.allowed or bool(decision.unknown)
