"""Evaluates the Condition element of a statement; never reads the rest of a policy.

Rules: IAM User Guide, "IAM JSON policy elements: Condition operators", "Set operators for multi-valued context keys", and of "IAM policy
elements: Variables and tags" the part "Policy variables with no value".
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import patterns
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.context import PolicyError, Request, Some
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.patterns import Expander, Pattern


def _number(text: str) -> Decimal:
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite():
        raise PolicyError(f"{text!r} is not a number")
    return number


def _date(text: str) -> datetime:
    try:
        whole = re.fullmatch(r"\d+", text, re.ASCII)
        moment = datetime.fromtimestamp(int(text), UTC) if whole else datetime.fromisoformat(text)
    except (ValueError, OverflowError, OSError):
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


def _equal(one: Any, other: Any) -> bool:
    return one == other


def _compare(convert: Callable[[str], Any], holds: Callable[[Any, Any], bool]) -> Callable[[str, str], bool]:
    return lambda wanted, value: holds(convert(value), convert(wanted))


# Operators that compare texts: with wildcards in the policy's, without regard to case.
_TEXTS = {"StringEquals": (False, False), "StringEqualsIgnoreCase": (False, True), "StringLike": (True, False)}
# AWS: ArnEquals and ArnLike behave identically.
_ARNS = ("ArnEquals", "ArnLike")
# Operators that compare what a text means: how the policy's is held against the request's.
_MEANINGS: dict[str, Callable[[str, str], bool]] = {
    "NumericEquals": _compare(_number, _equal),
    "NumericLessThan": _compare(_number, lambda value, limit: value < limit),
    "NumericLessThanEquals": _compare(_number, lambda value, limit: value <= limit),
    "NumericGreaterThan": _compare(_number, lambda value, limit: value > limit),
    "NumericGreaterThanEquals": _compare(_number, lambda value, limit: value >= limit),
    "DateEquals": _compare(_date, _equal),
    "DateLessThan": _compare(_date, lambda value, limit: value < limit),
    "DateLessThanEquals": _compare(_date, lambda value, limit: value <= limit),
    "DateGreaterThan": _compare(_date, lambda value, limit: value > limit),
    "DateGreaterThanEquals": _compare(_date, lambda value, limit: value >= limit),
    "Bool": _bool,
    "BinaryEquals": _binary,
    "IpAddress": _address,
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


def parts(condition: Any) -> Iterator[tuple[str, str, list[str]]]:
    """Give each operator, key and the values for it.

    Raises:
        PolicyError: there is an operator, or something else, that is not known.
    """
    if not isinstance(condition, Mapping):
        raise PolicyError("Condition must be an object")
    for operator, keys in condition.items():
        _operator(operator)
        if not isinstance(keys, Mapping):
            raise PolicyError(f"Condition.{operator} must be an object")
        for key, values in keys.items():
            yield (
                operator,
                key,
                [_written(value) for value in (values if isinstance(values, (list, tuple)) else [values])],
            )


def _operator(operator: str) -> tuple[str | None, str, bool]:
    match = re.fullmatch(r"(?:(ForAllValues|ForAnyValue):)?(\w+?)(IfExists)?", operator)
    name = match[2] if match else ""
    plain = name == "Null" and operator == "Null"
    if not plain and _NEGATED.get(name, name) not in {*_TEXTS, *_ARNS, *_MEANINGS}:
        raise PolicyError(f"unknown condition operator {operator!r}")
    return match[1], name, bool(match[3])


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        return str(value)
    raise PolicyError(f"a condition's value must be a text, not {value!r}")


def evaluate(condition: Mapping, request: Request, variables: bool) -> tuple[bool | None, set[str]]:
    """Evaluate a Condition element: every operator and every key in it must hold.

    Args:
        condition: the element.
        request: what is asked.
        variables: whether the policy's version has policy variables.

    Returns:
        whether it holds, None where that depends on what is not known; and the keys on which it then depends.

    Raises:
        PolicyError: values can't be compared.
    """
    verdicts, keys = [], set()
    # All of them, not until the first that fails: a value that can't be compared must not hide behind it.
    for operator, key, wanted in parts(condition):
        expand = Expander(request, variables)
        given = request.values(key)
        verdict = _holds(operator, key, wanted, given, expand)
        verdicts.append(verdict)
        if verdict is None:
            keys |= expand.unknown | ({key} if isinstance(given, Some) else set())
    return patterns.every(verdicts), keys


def _holds(operator: str, key: str, wanted: list[str], given: list[str] | Some | None, expand: Expander) -> bool | None:
    quantifier, name, if_exists = _operator(operator)
    if name == "Null":
        gone = [True, False] if isinstance(given, Some) and given.absent else [given is None]
        return patterns.together(any([_bool(value, str(one).lower()) for value in wanted]) for one in gone)  # noqa: C419
    negated = name in _NEGATED
    positive = _NEGATED.get(name, name)
    found = _patterns(wanted, expand, name in ("StringLike", "StringNotLike") or positive in _ARNS)

    def one(value: Pattern) -> bool | None:
        # Each is tried, so that a value which can't be compared is an error wherever it stands.
        verdict = patterns.one_of([_compares(positive, pattern, value) for pattern in found])
        return verdict if verdict is None else verdict != negated

    missing = if_exists or quantifier == "ForAllValues" or (negated and not quantifier)
    if isinstance(given, Some):
        present = [one(patterns.glob(form)) for form in given.forms]
        return patterns.together([*present, *([missing] if given.absent else [])])
    if not given:
        return missing
    if quantifier is None and len(given) > 1:
        raise PolicyError(f"{key} has {len(given)} values: {operator} needs ForAllValues or ForAnyValue")
    verdicts = [one(list(value)) for value in given]
    return patterns.one_of(verdicts) if quantifier == "ForAnyValue" else patterns.every(verdicts)


def _patterns(wanted: list[str], expand: Expander, wildcards: bool) -> list[Pattern]:
    """Expand the policy's values; one whose variable has no value is like none."""
    found = []
    for value in wanted:
        with contextlib.suppress(patterns.Unset):
            found.append(expand(value, wildcards))
    return found


def _compares(name: str, pattern: Pattern, value: Pattern) -> bool | None:
    verdicts = [_compares_one(name, one, known, value) for one, known in patterns.alternatives(pattern)]
    return patterns.together([*verdicts, *([False] if patterns.may_be_unset(pattern) else [])])


def _compares_one(name: str, pattern: Pattern, known: bool, value: Pattern) -> bool | None:
    if name in _ARNS:
        return patterns.arn_matches(pattern, known, value)
    if name in _TEXTS:
        if _TEXTS[name][1]:
            pattern, value = (
                [part.casefold() if isinstance(part, str) else part for part in side] for side in (pattern, value)
            )
        return patterns.text_matches(pattern, known, value)
    if not (known and patterns.whole(value)):
        return None
    return _MEANINGS[name](patterns.text_of(pattern), "".join(value))
