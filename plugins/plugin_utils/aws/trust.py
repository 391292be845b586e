"""Says why a role's trust policy refuses a ServiceAccount; never asks AWS."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam


def why_untrusted(document: Mapping, provider: str, claims: Mapping[str, str], decision: iam.Decision) -> str:
    """Say which part of a trust policy refuses a token.

    Args:
        document: the trust policy.
        provider: the OIDC provider of the token's issuer.
        claims: ``sub`` and ``aud``.
        decision: the refusal.
    """
    if decision.denied:
        return decision.reason
    host = provider.partition("/")[2]
    statements = [item for item in iam.statements(document) if item["Effect"] == "Allow"]
    about = [item for item in statements if provider in iam.listed(_federated(item))]
    if not about:
        others = sorted({str(name) for item in statements for name in iam.listed(_federated(item)) if name})
        return f"issuer: no statement names {provider}, but {', '.join(others) or 'none'}"
    for claim, word in (("sub", "subject"), ("aud", "audience")):
        without = [{**item, "Condition": _without(item, f"{host}:{claim}")} for item in about]
        if iam.decide([{**document, "Statement": without}], iam.web_identity(provider, claims)).allowed:
            trusted = sorted({str(value) for item in about for value in _values(item, f"{host}:{claim}")})
            return f"{word}: the role trusts {', '.join(trusted)}, not {claims[claim]}"
    return f"{decision.reason} to {claims['sub']} with the audience {claims['aud']}"


def _federated(statement: Mapping) -> object:
    principal = statement.get("Principal")
    return principal.get("Federated", "") if isinstance(principal, Mapping) else ""


def _without(statement: Mapping, key: str) -> dict:
    kept = {
        operator: {name: value for name, value in keys.items() if name.lower() != key.lower()}
        for operator, keys in (statement.get("Condition") or {}).items()
    }
    return {operator: keys for operator, keys in kept.items() if keys}


def _values(statement: Mapping, key: str) -> list:
    return [
        value
        for keys in (statement.get("Condition") or {}).values()
        for name, values in keys.items()
        if name.lower() == key.lower()
        for value in iam.listed(values)
    ]
