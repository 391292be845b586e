"""Evaluates IAM policies as AWS does: trust policies, permission policies, a permissions boundary, with their conditions; never asks AWS.

Nothing is read or sent here. What this does not know (an operator, an element, a policy variable that it can't place) is an
error and never a pass. Rules: IAM User Guide, "Policy evaluation logic" and "IAM JSON policy elements".
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

ELEMENTS = frozenset(
    {"Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
VERSIONS = ("2012-10-17", "2008-10-17")
# The principal that stands for everyone, and the kinds that a Principal element can name.
EVERYONE = "*"
PRINCIPALS = frozenset({"AWS", "Federated", "Service", "CanonicalUser"})
ARN_PARTS = 6


class PolicyError(ValueError):
    """A policy, or a request, that can't be evaluated; the text says what is wrong with it."""


@dataclass(frozen=True)
class Request:
    """What is asked of AWS.

    Attributes:
        action: e.g. ``s3:GetObject``; its case does not matter.
        resource: the ARN; empty for a trust policy, where the role itself is the resource.
        context: condition keys and their values, a text or a list of texts for a key with several. Keys' case does not matter.
        principal: kind and name of who asks, e.g. ``("Federated", "arn:aws:iam::123456789012:oidc-provider/...")``; None where
            the policy is attached to who asks.
    """

    action: str
    resource: str = ""
    context: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    principal: tuple[str, str] | None = None

    def values(self, key: str) -> list[str] | None:
        """Give the values of a condition key, or None when the request has it not."""
        for name, value in self.context.items():
            if name.lower() == key.lower():
                return [value] if isinstance(value, str) else [str(item) for item in value]
        return None


@dataclass(frozen=True)
class Decision:
    """The verdict.

    Attributes:
        allowed: whether AWS would go on.
        reason: why (not), in words, with the statement's Sid where it has one.
        denied: whether a statement says so, rather than none saying otherwise.
    """

    allowed: bool
    reason: str
    denied: bool = False


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
    found = [_effects(document, request) for document in documents]
    limit = _effects(boundary, request) if boundary is not None else None
    for effects in [*found, *([limit] if limit is not None else [])]:
        if "Deny" in effects:
            return Decision(False, f"{request.action} is denied by the statement {effects['Deny']}", denied=True)
    allowing = next((effects["Allow"] for effects in found if "Allow" in effects), None)
    if allowing is None:
        on = f" on {request.resource}" if request.resource else ""
        return Decision(False, f"no statement allows {request.action}{on}")
    if limit is not None and "Allow" not in limit:
        return Decision(False, f"the permissions boundary does not allow {request.action} on {request.resource}")
    return Decision(True, f"allowed by the statement {allowing}")


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


def _effects(document: Mapping, request: Request) -> dict[str, str]:
    """Find which effects a document has on a request, each with the name of a statement that has it."""
    found_statements = statements(document)
    version = document.get("Version", VERSIONS[1])
    found: dict[str, str] = {}
    for number, statement in enumerate(found_statements, 1):
        try:
            matches = _matches(statement, request, variables=version == VERSIONS[0])
        except _Unset:
            # A policy variable that the request has no value for: the statement has no effect.
            matches = False
        if matches:
            found.setdefault(statement["Effect"], str(statement.get("Sid") or f"number {number}"))
    return found


def _matches(statement: Mapping, request: Request, variables: bool) -> bool:
    expand = _Expander(request, variables)
    # The conditions first: one that can't be evaluated must be an error whatever else the statement says.
    conditions = _conditions(statement.get("Condition") or {}, request, expand)
    return (
        _principal_matches(statement, request)
        and _action_matches(statement, request)
        and _resource_matches(statement, request, expand)
        and conditions
    )


def _principal_matches(statement: Mapping, request: Request) -> bool:
    if request.principal is None:
        if "Principal" in statement or "NotPrincipal" in statement:
            raise PolicyError("a policy of a role or user has no Principal")
        return True
    if "Principal" not in statement and "NotPrincipal" not in statement:
        raise PolicyError("a policy of a resource needs a Principal")
    kind, name = request.principal
    inside = statement.get("Principal", statement.get("NotPrincipal"))
    named = inside == EVERYONE or any(
        (other == "AWS" and EVERYONE in names) or (other == kind and _is_named(kind, name, names))
        for other, names in ((other, listed(value)) for other, value in inside.items())
    )
    return named if "Principal" in statement else not named


def _is_named(kind: str, name: str, names: list) -> bool:
    if name in names or EVERYONE in names:
        return True
    # An account stands for all of its principals that their own policies let.
    account = name.split(":")[4] if kind == "AWS" and name.count(":") >= ARN_PARTS - 1 else ""
    partition = name.split(":")[1] if account else ""
    return bool(account) and (account in names or f"arn:{partition}:iam::{account}:root" in names)


def _action_matches(statement: Mapping, request: Request) -> bool:
    patterns = listed(statement.get("Action", statement.get("NotAction")))
    found = any(_glob(pattern.lower()).fullmatch(request.action.lower()) for pattern in patterns)
    return found if "Action" in statement else not found


def _resource_matches(statement: Mapping, request: Request, expand: _Expander) -> bool:
    if "Resource" not in statement and "NotResource" not in statement:
        if request.principal is None:
            raise PolicyError("a statement without Resource or NotResource")
        return True
    found = any(
        _arn_matches(expand(pattern), request.resource)
        for pattern in listed(statement.get("Resource", statement.get("NotResource")))
    )
    return found if "Resource" in statement else not found


# --- Patterns ---------------------------------------------------------------------------------------

# A pattern is a list of parts: text that stands for itself, and the wildcards.
_ANY, _ONE = object(), object()
Pattern = list


class _Unset(Exception):
    """A policy variable has no value in this request."""


class _Expander:
    """Turns a text of a policy into a pattern, its variables replaced by the request's values."""

    def __init__(self, request: Request, variables: bool) -> None:
        self.request = request
        self.variables = variables

    def __call__(self, text: str, wildcards: bool = True) -> Pattern:
        parts: Pattern = []
        position = 0
        while position < len(text):
            if self.variables and text.startswith("${", position):
                end = text.find("}", position)
                if end < 0:
                    raise PolicyError(f"a policy variable without an end: {text}")
                parts.append(self._value(text[position + 2 : end]))
                position = end + 1
                continue
            char = text[position]
            parts.append({"*": _ANY, "?": _ONE}.get(char, char) if wildcards else char)
            position += 1
        return parts

    def _value(self, variable: str) -> str:
        if variable in ("*", "?", "$"):
            return variable
        match = re.fullmatch(r"\s*([\w:/.+=@-]+)\s*(?:,\s*'([^']*)'\s*)?", variable)
        if not match:
            raise PolicyError(f"a policy variable that can't be read: ${{{variable}}}")
        values = self.request.values(match[1])
        if values is not None and len(values) > 1:
            raise PolicyError(f"a policy variable with several values: ${{{variable}}}")
        if values:
            return values[0]
        if match[2] is None:
            raise _Unset(variable)
        return match[2]


def _regex(parts: Pattern) -> re.Pattern:
    text = "".join(".*" if part is _ANY else "." if part is _ONE else re.escape(part) for part in parts)
    return re.compile(text, re.DOTALL)


def _glob(text: str) -> re.Pattern:
    return _regex([{"*": _ANY, "?": _ONE}.get(char, char) for char in text])


def _text(parts: Pattern) -> str:
    return "".join("*" if part is _ANY else "?" if part is _ONE else part for part in parts)


def _arn_matches(pattern: Pattern, arn: str) -> bool:
    """Match an ARN part by part: no wildcard reaches over a colon but in the last part."""
    if pattern == [_ANY]:
        return True
    parts: list[Pattern] = [[]]
    for part in pattern:
        if part == ":" and len(parts) < ARN_PARTS:
            parts.append([])
        else:
            parts[-1].append(part)
    given = arn.split(":", ARN_PARTS - 1)
    if len(parts) < ARN_PARTS:
        raise PolicyError(f"{_text(pattern)} is not an ARN of {ARN_PARTS} parts")
    return len(given) == ARN_PARTS and all(
        _regex(one).fullmatch(other) for one, other in zip(parts, given, strict=True)
    )


# --- Conditions -------------------------------------------------------------------------------------


def _number(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise PolicyError(f"{text!r} is not a number") from None


def _date(text: str) -> datetime:
    if re.fullmatch(r"\d+", text):
        return datetime.fromtimestamp(int(text), UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PolicyError(f"{text!r} is not a date") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _address(pattern: str, value: str) -> bool:
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(pattern, strict=False)
    except ValueError as error:
        raise PolicyError(str(error)) from None


def _bool(pattern: str, value: str) -> bool:
    if pattern.lower() not in ("true", "false"):
        raise PolicyError(f"{pattern!r} is not true or false")
    return pattern.lower() == value.lower()


def _binary(pattern: str, value: str) -> bool:
    try:
        return base64.b64decode(pattern, validate=True) == base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise PolicyError(f"{pattern!r} is not base64") from None


def _compare(convert: Callable[[str], Any], holds: Callable[[Any, Any], bool]) -> Callable[[Pattern, str], bool]:
    return lambda pattern, value: holds(convert(value), convert(_text(pattern)))


def _equal(one: Any, other: Any) -> bool:
    return one == other


# Operator: how one value of the policy is held against one of the request; wildcards in the policy's value or not.
_POSITIVE: dict[str, tuple[Callable[[Pattern, str], bool], bool]] = {
    "StringEquals": (lambda pattern, value: _text(pattern) == value, False),
    "StringEqualsIgnoreCase": (lambda pattern, value: _text(pattern).casefold() == value.casefold(), False),
    "StringLike": (lambda pattern, value: _regex(pattern).fullmatch(value) is not None, True),
    "NumericEquals": (_compare(_number, _equal), False),
    "NumericLessThan": (_compare(_number, lambda value, limit: value < limit), False),
    "NumericLessThanEquals": (_compare(_number, lambda value, limit: value <= limit), False),
    "NumericGreaterThan": (_compare(_number, lambda value, limit: value > limit), False),
    "NumericGreaterThanEquals": (_compare(_number, lambda value, limit: value >= limit), False),
    "DateEquals": (_compare(_date, _equal), False),
    "DateLessThan": (_compare(_date, lambda value, limit: value < limit), False),
    "DateLessThanEquals": (_compare(_date, lambda value, limit: value <= limit), False),
    "DateGreaterThan": (_compare(_date, lambda value, limit: value > limit), False),
    "DateGreaterThanEquals": (_compare(_date, lambda value, limit: value >= limit), False),
    "Bool": (lambda pattern, value: _bool(_text(pattern), value), False),
    "BinaryEquals": (lambda pattern, value: _binary(_text(pattern), value), False),
    "IpAddress": (lambda pattern, value: _address(_text(pattern), value), False),
    # AWS: ArnEquals and ArnLike behave identically.
    "ArnEquals": (_arn_matches, True),
    "ArnLike": (_arn_matches, True),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _conditions(condition: Mapping, request: Request, expand: _Expander) -> bool:
    """Evaluate a Condition element: every operator and every key in it must hold."""
    if not isinstance(condition, Mapping):
        raise PolicyError("Condition must be an object")
    # All of them, not until the first that fails: an unknown operator must not hide behind it.
    verdicts = [
        _condition(operator, key, [_written(value) for value in listed(values)], request, expand)
        for operator, keys in condition.items()
        for key, values in _keys(operator, keys)
    ]
    return all(verdicts)


def _keys(operator: str, keys: Any) -> list:
    if not isinstance(keys, Mapping):
        raise PolicyError(f"Condition.{operator} must be an object")
    return list(keys.items())


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise PolicyError(f"a condition's value must be a text, not {value!r}")


def _condition(operator: str, key: str, wanted: list[str], request: Request, expand: _Expander) -> bool:
    match = re.fullmatch(r"(?:(ForAllValues|ForAnyValue):)?(\w+?)(IfExists)?", operator)
    if not match:
        raise PolicyError(f"unknown condition operator {operator!r}")
    quantifier, name, if_exists = match[1], match[2], bool(match[3])
    given = request.values(key)
    if name == "Null" and not quantifier and not if_exists:
        return any(_bool(value, str(given is None).lower()) for value in wanted)
    negated = name in _NEGATED
    positive = _NEGATED.get(name, name)
    if positive not in _POSITIVE:
        raise PolicyError(f"unknown condition operator {operator!r}")
    holds, wildcards = _POSITIVE[positive]
    patterns = _patterns(wanted, expand, wildcards, negated)

    def one(value: str) -> bool:
        # Each is tried, so that a value which can't be compared is an error wherever it stands.
        return any([holds(pattern, value) for pattern in patterns]) != negated  # noqa: C419

    if not given:
        return if_exists or quantifier == "ForAllValues" or (negated and not quantifier)
    if quantifier is None and len(given) > 1:
        raise PolicyError(f"{key} has {len(given)} values: {operator} needs ForAllValues or ForAnyValue")
    verdicts = [one(value) for value in given]
    return any(verdicts) if quantifier == "ForAnyValue" else all(verdicts)


def _patterns(wanted: list[str], expand: _Expander, wildcards: bool, negated: bool) -> list[Pattern]:
    """Expand the policy's values. One whose variable has no value matches nothing; whether it then differs, AWS does not say."""
    found = []
    for value in wanted:
        try:
            found.append(expand(value, wildcards))
        except _Unset as error:
            if negated:
                raise PolicyError(f"the policy variable ${{{error}}} has no value, in a negated condition") from None
    return found


# --- Requests ---------------------------------------------------------------------------------------


def web_identity(provider_arn: str, claims: Mapping[str, Any]) -> Request:
    """Put the claims of an OIDC token as STS puts them to a role's trust policy (AssumeRoleWithWebIdentity).

    Args:
        provider_arn: the IAM OIDC provider of the token's issuer.
        claims: the token's claims; ``aud`` as a list of one is that one.
    """
    host = provider_arn.partition("/")[2]
    context: dict[str, str | list[str]] = {}
    for name in ("sub", "aud", "amr"):
        value = claims.get(name)
        if isinstance(value, (list, tuple)):
            value = value[0] if len(value) == 1 else [str(item) for item in value]
        if value is not None:
            context[f"{host}:{name}"] = value
    context["aws:FederatedProvider"] = provider_arn
    return Request("sts:AssumeRoleWithWebIdentity", context=context, principal=("Federated", provider_arn))


def pod_identity(cluster_arn: str, namespace: str, service_account: str, action: str = "sts:AssumeRole") -> Request:
    """Put what EKS Pod Identity puts to a role's trust policy: itself, and the session tags of the pod.

    Source: EKS User Guide, "Grant Pods access to AWS resources based on tags". The pod's name and UID are left out.
    """
    tags = {
        "eks-cluster-arn": cluster_arn,
        "eks-cluster-name": cluster_arn.rpartition("/")[2],
        "kubernetes-namespace": namespace,
        "kubernetes-service-account": service_account,
    }
    context: dict[str, str | list[str]] = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
    context["aws:TagKeys"] = [*tags, "kubernetes-pod-name", "kubernetes-pod-uid"]
    return Request(action, context=context, principal=("Service", "pods.eks.amazonaws.com"))


# S3's operations, and the action that each is authorized by (Service Authorization Reference, Amazon S3).
_S3_OBJECT = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
}
_S3_BUCKET = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
    "GetBucketLocation": "s3:GetBucketLocation",
}


def s3(
    operation: str,
    bucket: str,
    key: str = "",
    *,
    partition: str = "aws",
    account: str = "",
    prefix: str | None = None,
    tls: bool = True,
) -> Request:
    """Put an S3 operation as S3 puts it to the policies.

    Args:
        operation: name in S3's API, e.g. ``HeadBucket``.
        bucket: its name.
        key: the object, for operations on one.
        partition: of the bucket's ARN.
        account: the account that owns the bucket.
        prefix: the ``prefix`` of a list; None for a list without one, and for HeadBucket, which has none.
        tls: whether the connection is encrypted.

    Raises:
        PolicyError: the operation is not one of those known here.
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    context = {"aws:SecureTransport": str(tls).lower()}
    if account:
        context["aws:ResourceAccount"] = account
    if operation in _S3_OBJECT:
        return Request(_S3_OBJECT[operation], f"{arn}/{key}", context)
    if operation not in _S3_BUCKET:
        raise PolicyError(f"unknown S3 operation {operation!r}")
    if prefix is not None and operation != "HeadBucket":
        context["s3:prefix"] = prefix
    return Request(_S3_BUCKET[operation], arn, context)
