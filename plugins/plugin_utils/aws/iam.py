"""Evaluates IAM policies as AWS does: trust policies, permission policies, a permissions boundary, with their conditions; never asks AWS.

Nothing is read or sent here. What this does not know (an operator, an element) is an error and never a pass. A condition key whose value
can't be known, and on which the answer depends, is an answer of its own. Rules: IAM User Guide, "Policy evaluation logic" and "IAM JSON
policy elements".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import conditions, patterns

# Who asks for a decision needs these too.
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.context import PolicyError, Request, Some  # noqa: F401
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.requests import (  # noqa: F401
    Session,
    kms,
    pod_identity,
    s3,
    session,
    web_identity,
)

ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
VERSIONS = ("2012-10-17", "2008-10-17")
# The principal that stands for everyone, and the kinds that a Principal element can name.
EVERYONE = "*"
# What decides where one session of a role is meant; no condition key has this name.
PRINCIPAL = "Principal"
PRINCIPALS = frozenset({"AWS", "Federated", "Service", "CanonicalUser"})


@dataclass(frozen=True)
class Decision:
    """The verdict.

    Attributes:
        allowed: whether AWS would go on.
        reason: why (not), in words, with the statement's Sid where it has one.
        denied: whether a statement says so, rather than none saying otherwise.
        unknown: the condition keys (or ``Principal``) that decide, where that can't be told; then it is neither allowed nor refused.
    """

    allowed: bool
    reason: str
    denied: bool = False
    unknown: tuple[str, ...] = ()


@dataclass
class _Effect:
    """What the statements of one effect say: the name of one that applies, and those that may, each with the keys that decide."""

    applies: str = ""
    may_apply: dict[str, set[str]] = field(default_factory=dict)


def decide(policies: Iterable[Mapping], request: Request, boundary: Mapping | None = None) -> Decision:
    """Evaluate a request by the policies that apply to it: those of who asks, or the one of what is asked for.

    Args:
        policies: the documents, all of one sort: without Principal for a request without ``principal``, with one (a trust
            policy, a bucket's policy) for a request that says who asks. One allowing statement among all is enough, one denying statement ends it.
        request: what is asked.
        boundary: the permissions boundary, which must allow it too.

    Raises:
        PolicyError: a document holds what can't be evaluated.
    """
    documents = list(policies)
    decision = _decide(documents, request, boundary)
    for key in decision.unknown:
        cases = request.cases(key) if key != PRINCIPAL else []
        if len(cases) < 2:
            continue
        # It does not decide after all, if the answer is the same whatever it be.
        settled = []
        for case in cases:
            settled.append(decide(documents, case, boundary))
            if settled[-1].unknown or settled[-1].allowed != settled[0].allowed:
                return decision
        return settled[0]
    return decision


def _decide(documents: list[Mapping], request: Request, boundary: Mapping | None) -> Decision:
    allowing, denying, limit = _Effect(), _Effect(), _Effect()
    for document in documents:
        _effects(document, request, allowing, denying)
    if boundary is not None:
        _effects(boundary, request, limit, denying)
    if denying.applies:
        return Decision(False, f"{request.action} is denied by the statement {denying.applies}", denied=True)
    on = f" on {request.resource}" if request.resource else ""
    if not allowing.applies and not allowing.may_apply:
        return Decision(False, f"no statement allows {request.action}{on}")
    if boundary is not None and not limit.applies and not limit.may_apply:
        return Decision(False, f"the permissions boundary does not allow {request.action}{on}")
    grants = [allowing] if boundary is None else [allowing, limit]
    open_ = [denying, *(effect for effect in grants if not effect.applies)]
    unknown = {name: keys for effect in open_ for name, keys in effect.may_apply.items()}
    if unknown:
        keys = tuple(sorted(set().union(*unknown.values())))
        named = f"{', '.join(keys)} ({', '.join(f'in the statement {name}' for name in unknown)})"
        return Decision(False, f"{named} decides whether {request.action} is allowed{on}", unknown=keys)
    return Decision(True, f"allowed by the statement {allowing.applies}")


def statements(document: Mapping) -> list[Mapping]:
    """Give a document's statements, checked for elements and values that this module does not know.

    Raises:
        PolicyError: there is one, or the document is none.
    """
    if not isinstance(document, Mapping):
        raise PolicyError(f"a policy is a JSON object, not {type(document).__name__}")
    unknown = set(document) - {"Version", "Id", "Statement"}
    if unknown:
        raise PolicyError(f"unknown element of a policy: {', '.join(sorted(unknown))}")
    if document.get("Version", VERSIONS[1]) not in VERSIONS:
        raise PolicyError(f"unknown policy version {document['Version']!r}")
    found = document.get("Statement")
    found = [found] if isinstance(found, Mapping) else found
    if not isinstance(found, (list, tuple)) or not all(isinstance(item, Mapping) for item in found):
        raise PolicyError("Statement must be a statement or a list of them")
    for item in found:
        _check(item)
    return list(found)


def listed(value: Any) -> list:
    """Give a value that JSON policies write alone or as a list, as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _check(statement: Mapping) -> None:
    unknown = set(statement) - ELEMENTS
    if unknown:
        raise PolicyError(f"unknown element of a statement: {', '.join(sorted(unknown))}")
    if statement.get("Effect") not in ("Allow", "Deny"):
        raise PolicyError(f"Effect is {statement.get('Effect')!r}, must be Allow or Deny")
    for one, other in (("Action", "NotAction"), ("Resource", "NotResource"), ("Principal", "NotPrincipal")):
        if one in statement and other in statement:
            raise PolicyError(f"{one} and {other} in one statement")
    if "Action" not in statement and "NotAction" not in statement:
        raise PolicyError("a statement without Action or NotAction")
    if "NotPrincipal" in statement and statement["Effect"] == "Allow":
        raise PolicyError("NotPrincipal with Effect Allow")
    _check_texts(statement)
    # Whatever the statement is about: what is not known must not hide behind it.
    list(conditions.parts(statement.get("Condition") or {}))
    for name in ("Principal", "NotPrincipal"):
        _check_principal(name, statement.get(name, EVERYONE))


def _check_texts(statement: Mapping) -> None:
    for name in ("Action", "NotAction", "Resource", "NotResource"):
        items = listed(statement[name]) if name in statement else []
        if name in statement and not (items and all(isinstance(item, str) and item for item in items)):
            raise PolicyError(f"{name} must be a text or a list of texts")
        for item in items if name.endswith("Action") else []:
            if item != EVERYONE and not re.fullmatch(r"[\w-]+:[\w*?]+", item, re.ASCII):
                raise PolicyError(f"{name} {item!r} is not SERVICE:ACTION")


def _check_principal(name: str, value: Any) -> None:
    if value == EVERYONE:
        return
    if not isinstance(value, Mapping) or not value:
        raise PolicyError(f"{name} must be * or name who is meant")
    if set(value) - PRINCIPALS:
        raise PolicyError(f"unknown kind of {name}: {', '.join(sorted(set(value) - PRINCIPALS))}")


def _effects(document: Mapping, request: Request, allow: _Effect, deny: _Effect) -> None:
    """Note which effects a document has on a request."""
    found_statements = statements(document)
    variables = document.get("Version", VERSIONS[1]) == VERSIONS[0]
    for number, statement in enumerate(found_statements, 1):
        matches, keys = _matches(statement, request, variables)
        effect = allow if statement["Effect"] == "Allow" else deny
        name = str(statement.get("Sid") or f"number {number}")
        if matches:
            effect.applies = effect.applies or name
        elif matches is None:
            effect.may_apply.setdefault(name, set()).update(keys)


def _matches(statement: Mapping, request: Request, variables: bool) -> tuple[bool | None, set[str]]:
    """Tell whether a statement is about a request, or on which keys that depends."""
    principal = names_principal(statement, request)
    expand = patterns.Expander(request, variables)
    resource = _resource_matches(statement, request, expand)
    if principal is False or not names_action(statement, request) or resource is False:
        return False, set()
    conditions_hold, keys = conditions.evaluate(statement.get("Condition") or {}, request, variables)
    if principal is None:
        keys.add(PRINCIPAL)
    if resource is None:
        keys |= expand.unknown
    return patterns.every([principal, resource, conditions_hold]), keys


def names_principal(statement: Mapping, request: Request) -> bool | None:
    """Tell whether a statement is about who asks; None where only one session of a role is meant.

    Raises:
        PolicyError: the policy is of the other sort than the request.
    """
    if request.principal is None:
        if "Principal" in statement or "NotPrincipal" in statement:
            raise PolicyError("a policy of a role or user has no Principal")
        return True
    if "Principal" not in statement and "NotPrincipal" not in statement:
        raise PolicyError("a policy of a resource needs a Principal")
    kind, name = request.principal
    inside = statement.get("Principal", statement.get("NotPrincipal"))
    if inside == EVERYONE:
        inside = {"AWS": EVERYONE}
    named = patterns.one_of(
        True if other == "AWS" and EVERYONE in names else other == kind and _is_named(kind, name, names)
        for other, names in ((other, listed(value)) for other, value in inside.items())
    )
    return named if "Principal" in statement or named is None else not named


def _is_named(kind: str, name: str, names: list) -> bool | None:
    if name in names or EVERYONE in names:
        return True
    if kind != "AWS" or name.count(":") < patterns.ARN_PARTS - 1:
        return False
    # An account stands for all of its principals that their own policies let.
    partition, account = name.split(":")[1], name.split(":")[4]
    if account in names or f"arn:{partition}:iam::{account}:root" in names:
        return True
    # One session of a role can be meant; which one asks is not known.
    sessions = f"arn:{partition}:sts::{account}:assumed-role/{name.rpartition('/')[2]}/"
    return None if any(str(other).startswith(sessions) for other in names) else False


def names_action(statement: Mapping, request: Request) -> bool:
    """Tell whether a statement is about what is asked."""
    found = any(
        patterns.matches(patterns.glob(pattern.lower()), request.action.lower())
        for pattern in listed(statement.get("Action", statement.get("NotAction")))
    )
    return found if "Action" in statement else not found


def _resource_matches(statement: Mapping, request: Request, expand: patterns.Expander) -> bool | None:
    if "Resource" not in statement and "NotResource" not in statement:
        if request.principal is None:
            raise PolicyError("a statement without Resource or NotResource")
        return True
    value, verdicts = list(request.resource), []
    # Without a value for its variable, a text "will not match any resource" ("Policy variables with no value"). Whether a NotResource
    # then leaves everything in, or the statement has no effect, is read both ways.
    unset = False if "Resource" in statement else None
    for text in listed(statement.get("Resource", statement.get("NotResource"))):
        try:
            pattern = expand(text)
        except patterns.Unset as error:
            verdicts.append(unset)
            expand.unknown.add(str(error))
            continue
        found = [patterns.arn_matches(one, known, value) for one, known in patterns.alternatives(pattern)]
        verdicts.append(patterns.together([*found, *([unset] if patterns.may_be_unset(pattern) else [])]))
    matches = patterns.one_of(verdicts)
    return matches if "Resource" in statement or matches is None else not matches
