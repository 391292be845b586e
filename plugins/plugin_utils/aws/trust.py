"""Says why a role's trust policy refuses a ServiceAccount; never asks AWS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import conditions, iam
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged

CLAIMS = {"sub": "subject", "aud": "audience"}
TAG = "aws:requesttag/"


def judge(document: Mapping, request: iam.Request) -> None:
    """Put a request to become a role to the role's trust policy.

    Raises:
        Broken: the policy refuses it; the text names the conditions that fail.
        Unjudged: that depends on what is not known.
    """
    decision = iam.decide([document], request)
    if decision.unknown:
        raise Unjudged(decision.reason)
    if not decision.allowed:
        raise Broken(decision.reason if decision.denied else _why(document, request))


def _why(document: Mapping, request: iam.Request) -> str:
    """Name what of a policy that allows nothing fails, in the statement that comes nearest."""
    kind, name = request.principal
    statements = [item for item in iam.statements(document) if item["Effect"] == "Allow"]
    about = [item for item in statements if iam.names_principal(item, request) is not False]
    if not about:
        others = sorted({who for item in statements for who in _principals(item)})
        word = "issuer" if kind == "Federated" else "principal"
        return f"{word}: no statement names {name}, but {', '.join(others) or 'none'}"
    acting = [item for item in about if iam.names_action(item, request)]
    if not acting:
        actions = sorted({str(value) for item in about for value in iam.listed(item.get("Action", []))})
        return f"action: the statements for {name} allow {', '.join(actions) or 'others'}, not {request.action}"
    variables = document.get("Version") == iam.VERSIONS[0]
    failures = [(list(_failures(item, request, variables)), item) for item in acting]
    nearest, statement = min(failures, key=lambda pair: len(pair[0]))
    sid = f" (statement {statement['Sid']})" if statement.get("Sid") else ""
    return f"{'; '.join(nearest) or f'no statement allows {request.action}'}{sid}"


def _principals(statement: Mapping) -> Iterator[str]:
    principal = statement.get("Principal", "")
    for value in principal.values() if isinstance(principal, Mapping) else [principal]:
        yield from map(str, iam.listed(value))


def _failures(statement: Mapping, request: iam.Request, variables: bool) -> Iterator[str]:
    for operator, key, values in conditions.parts(statement.get("Condition") or {}):
        if conditions.evaluate({operator: {key: values}}, request, variables)[0] is False:
            yield _failure(operator, key, values, request)


def _failure(operator: str, key: str, values: list[str], request: iam.Request) -> str:
    given = request.values(key)
    host = request.principal[1].partition("/")[2]
    issuer, _, claim = key.rpartition(":")
    has = "none" if given is None else ", ".join(given.forms if isinstance(given, iam.Some) else given)
    trusted = ", ".join(sorted(values))
    if operator == "Null":
        wants = "absent" if "true" in [value.lower() for value in values] else "there"
        return f"{_word(key, host)}: Null demands that {key} be {wants}, and the request has {has}"
    if issuer.lower().startswith(("https://", "http://")):
        return f"{_word(claim)}: {key} is none of AWS's keys, which have no https://: {host}:{claim}"
    if claim in CLAIMS and issuer.lower() != host.lower():
        return f"{_word(claim)}: {key} is of another issuer than this cluster's, {host}: was the cluster created anew?"
    if operator in ("StringEquals", "StringLike"):
        return f"{_word(key, host)}: the role trusts {trusted}, not {has}"
    return f"{_word(key, host)}: the role demands {operator} {trusted}, and the request has {has}"


def _word(key: str, host: str = "") -> str:
    if key.lower().startswith(TAG):
        return f"session tag {key[len(TAG) :]}"
    claim = key.removeprefix(f"{host}:") if host else key
    return CLAIMS.get(claim.lower(), claim)
