"""Tells what no run of ours writes into a role: statements and policies under a cluster's name, and what a policy allows; never asks AWS, and never mends."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import account_of
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner

# Names of namespaces and ServiceAccounts are DNS labels and subdomains (Kubernetes, "Object Names and IDs").
SUBJECT = re.compile(r"system:serviceaccount:[a-z0-9-]+:[a-z0-9.-]+")
ACTIONS = frozenset({"s3:ListBucket", *policies.READ, *policies.WRITE, "kms:Decrypt", "kms:GenerateDataKey"})
# One bucket, access point or key: wildcards come behind the first slash alone.
RESOURCE = re.compile(r"arn:aws(-cn|-us-gov)?:(s3|kms):[^*?/]+(/.*)?")
SHOWN = 3


def has_form(sid: str) -> bool:
    """Tell whether a statement has a name such as runs give."""
    return bool(re.fullmatch(r"Modelyard\w*[0-9a-f]{8}", sid))


def is_as_written(statement: Mapping, owner: Owner | str, account: str) -> bool:
    """Tell whether a run of a cluster may have written a statement of a trust policy: made anew from what it names, it is the same.

    Args:
        statement: it.
        owner: the cluster whose name its Sid has, or the cluster's name alone, as 0.1.0 told it.
        account: the role's.
    """
    sid, principal = str(statement.get("Sid")), statement.get("Principal")
    try:
        equals = statement["Condition"]["StringEquals"]
        if "Federated" in principal:
            provider = principal["Federated"]
            subjects = iam.listed(equals[f"{provider.partition('/')[2]}:sub"])
            again = policies.web_identity_statement(sid, provider, subjects)
            named = ":oidc-provider/" in provider and all(map(SUBJECT.fullmatch, subjects))
            return named and account_of(provider) == account and policies.same(statement, again)
        names = ("eks-cluster-arn", "kubernetes-namespace", "kubernetes-service-account")
        cluster, namespaces, accounts = (equals[f"aws:RequestTag/{name}"] for name in names)
        pairs = itertools.product(iam.listed(namespaces), iam.listed(accounts))
        again = policies.pod_identity_statement(sid, cluster, pairs)
        place = f":eks:{owner.region}:{owner.account}:cluster/" if isinstance(owner, Owner) else f":{account}:cluster/"
        return place in cluster and policies.same(statement, again)
    except (AttributeError, IndexError, KeyError, TypeError):
        return False


def beyond(document: Mapping) -> dict:
    """Give the part of a role's policy that no run writes: other actions, other services, several buckets at once, or no condition."""
    return policies.document(item for item in iam.listed(document.get("Statement") or []) if not _is_ours(item))


def _is_ours(statement: Mapping) -> bool:
    known = statement.keys() == {"Sid", "Effect", "Action", "Resource", "Condition"}
    return (
        known
        and statement["Effect"] == "Allow"
        and bool(statement["Condition"])
        and ACTIONS.issuperset(iam.listed(statement["Action"]))
        and all(RESOURCE.fullmatch(str(item)) for item in iam.listed(statement["Resource"]))
    )


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
