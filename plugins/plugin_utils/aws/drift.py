"""Tells what no run of ours writes into a role: statements and policies under a cluster's name, and what a policy allows; never asks AWS, and never mends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import beyond, iam, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

SHOWN = 3


def has_form(sid: str) -> bool:
    """Tell whether a statement has a name such as runs give."""
    return bool(re.fullmatch(r"Modelyard\w*[0-9a-f]{8}", sid))


def is_as_written(statement: Mapping, owner: Owner | str, account: str) -> bool:
    """Tell whether a run of a cluster may have written a statement of a trust policy: in its form, and of that cluster's place.

    Args:
        statement: it.
        owner: the cluster whose name its Sid has, or the cluster's name alone, as 0.1.0 told it.
        account: the role's, where the clusters' providers are.
    """
    try:
        if not beyond.is_trust_of_a_run(statement):
            return False
        provider = statement["Principal"].get("Federated")
        if provider:
            return f":iam::{account}:oidc-provider/" in provider
        place = f":eks:{owner.region}:{owner.account}:cluster/" if isinstance(owner, Owner) else f":{account}:cluster/"
        return place in statement["Condition"]["StringEquals"]["aws:RequestTag/eks-cluster-arn"]
    except (AttributeError, IndexError, KeyError, TypeError):
        return False  # of another form altogether


def not_of_a_run(document: Mapping) -> dict:
    """Give the part of a role's policy that no run writes for any cluster."""
    found = iam.listed(document.get("Statement") or [])
    return policies.document(item for item in found if not beyond.is_grant_of_a_run(item))


def said_statement(statement: Mapping) -> str:
    """Word whom a statement of a trust policy trusts."""
    who = statement.get("Principal", {"NotPrincipal": statement.get("NotPrincipal")})
    condition = json.dumps(statement["Condition"], sort_keys=True) if statement.get("Condition") else "none"
    return f"it trusts {json.dumps(who, sort_keys=True)}, with the condition {condition}"


def said_policy(document: Mapping) -> str:
    """Word what a role's policy allows, the first few statements of it."""
    found = [item for item in iam.listed(document.get("Statement") or []) if item.get("Effect") == "Allow"]
    lines = [f"{_named(item, 'Action')} on {_named(item, 'Resource')}" for item in found[:SHOWN]]
    more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
    return f"allows {'; '.join(lines + more)}" if found else "allows nothing"


def _named(statement: Mapping, element: str) -> str:
    but = "" if element in statement else "all but "
    return but + ", ".join(str(item) for item in iam.listed(statement.get(element, statement.get(f"Not{element}"))))
