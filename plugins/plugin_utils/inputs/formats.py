"""Tells what a text, a number or a free structure of an inventory may be, by the word that ``inputs.yml`` has for it; knows no variable."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import names, quantity

# k8s.io/api: replicas, ports, the figures of a probe and most other numbers are int32. What is larger is not refused
# everywhere: the API server converts an applied object, and keeps the low 32 bits.
INT32 = 2**31 - 1
INT64 = 2**63 - 1
# The fields of a pod and its volumes that are int64, or quantities.
_INT64_FIELDS = frozenset(
    (
        *("runAsUser", "runAsGroup", "fsGroup", "supplementalGroups", "terminationGracePeriodSeconds"),
        *(
            "activeDeadlineSeconds",
            "tolerationSeconds",
            "expirationSeconds",
            "sizeLimit",
            "divisor",
            "requests",
            "limits",
        ),
    )
)
# What neither a container's environment nor a JSON document of the API server holds as it is; tab and line ends are text.
_CONTROL = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

_LABEL = "must be a DNS label: at most 63 lower-case letters, digits and -, with a letter or digit at both ends"
# Word: the pattern, and what it allows. The rules are Kubernetes' own: k8s.io/apimachinery/pkg/util/validation.
_TEXTS: dict[str, tuple[re.Pattern, str]] = {
    "label": (names.DNS_LABEL, _LABEL),
    "service": (names.SERVICE_NAME, f"{_LABEL}, beginning with a letter"),
    "namespace": (names.DNS_LABEL, "must be a name of up to 63 lower-case letters, digits and -"),
    "cluster": (
        names.LABEL_NAME,
        "becomes a label, so up to 63 letters, digits, -, _ and ., with a letter or digit at both ends",
    ),
    "subdomain": (
        names.DNS_SUBDOMAIN,
        "must be a name of up to 253 lower-case letters, digits, - and ., with a letter or digit at both ends",
    ),
    # IsValidPathSegmentName, which RBAC has, without what nobody reads well.
    "rbac": (
        re.compile(r"(?!\.\.?$)[A-Za-z0-9:._-]{1,253}", re.ASCII),
        "must be a name of letters, digits, -, ., _ and :",
    ),
    "host": (re.compile(rf"(\*\.)?{names.DNS_SUBDOMAIN.pattern}"), "must be a host's name such as models.example.com"),
    # IsConfigMapKey
    "key": (re.compile(r"(?!\.\.)[-._a-zA-Z0-9]{1,253}", re.ASCII), "must be a key of letters, digits, -, _ and ."),
    # IsEnvVarName
    "environment": (
        re.compile(r"(?!\.\.)[-._a-zA-Z][-._a-zA-Z0-9]*", re.ASCII),
        "must be a variable's name: letters, digits, _, - and ., not beginning with a digit",
    ),
    "flag": (
        re.compile(r"-{0,2}[A-Za-z0-9][\w-]*(\.[\w-]+)*", re.ASCII),
        "must be a flag's name: letters, digits, - and _, with a key after a dot",
    ),
    # The API server's ValidateFieldManager
    "manager": (re.compile(r"[ -~]{1,128}"), "must be a name of up to 128 printable characters"),
    "label_key": (names.LABEL_KEY, "must be NAME or DOMAIN/NAME, a name of up to 63 letters, digits, -, _ and ."),
    "label_value": (
        names.LABEL_VALUE,
        "must be up to 63 letters, digits, -, _ and ., with a letter or digit at both ends",
    ),
    "kind": (re.compile(r"[A-Z][A-Za-z0-9]{0,62}"), "must be a kind such as PersistentVolumeClaim"),
    "api_version": (re.compile(r"([a-z0-9][-a-z0-9.]*/)?v[0-9a-z]+"), "must be an API's version such as v1 or apps/v1"),
    "peer": (re.compile(rf"\*|{names.DNS_LABEL.pattern}"), "must be a namespace's name, or *"),
    "repository": (re.compile(r"(?!-)\S*[:/]\S*"), "must be the URL of a Git repository"),
    "url": (names.URL, "must be a URL, http:// or https://, without user and password"),
    # Empty where the cluster is named instead.
    "server": (
        re.compile(f"({names.URL.pattern})?", re.ASCII),
        "must be a URL, http:// or https://, without user and password",
    ),
    "line": (re.compile("[^\t\n\r\x85\u2028\u2029]*"), "must be one line"),
    "argument": (re.compile(r".+", re.DOTALL), "must not be empty"),
    "not_empty": (re.compile(r".*\S.*", re.DOTALL), "must not be empty"),
}


def range_error(number: float, allowed: list | tuple, what: str = "whole number") -> str | None:
    """Tell that a number is outside its range, both ends allowed, or None."""
    least, most = allowed
    # NaN is not in it either.
    return None if least <= number <= most else f"must be a {what} from {least} to {most}"


def format_error(value: object, word: str) -> str | None:
    """Tell what is wrong with a value whose ``format`` is given, or None.

    Args:
        value: the value; a text, or for ``quantity``, ``size`` (a quantity of bytes) and ``pods`` a number too.
        word: a word of this module.
    """
    if word in ("quantity", "size"):
        return _quantity_error(value, quantity.MIB if word == "size" else 0)
    if word == "pods":
        # intstr.IntOrString: a number of pods, or a share of them.
        right = not isinstance(value, bool) and re.fullmatch(r"\d{1,9}|(100|\d{1,2})%", str(value), re.ASCII)
        return None if right else "must be a number of pods or a percentage"
    if not isinstance(value, str):
        # 0123 has become 83 by then.
        return "must be a text: put it in quotes"
    pattern, allowed = _TEXTS[word]
    return None if pattern.fullmatch(value) else allowed


def _quantity_error(value: object, least: int) -> str | None:
    try:
        number = quantity.parse(value)
    except ValueError:
        return "must be a Kubernetes quantity such as 500m, 4 or 14Gi"
    if number < 0:
        return "must not be negative"
    # 14 is 14 bytes, and 500m half a byte.
    return f"must be 1Mi or more, and is {number} bytes" if number < least else None


def text_error(value: str) -> str | None:
    """Tell that a text holds what no object of Kubernetes can, or None."""
    found = _CONTROL.search(value)
    return f"must not hold the character U+{ord(found[0]):04X}" if found else None


def tree_errors(path: str, value: object, kubernetes: bool = False) -> Iterator[tuple[str, object, str]]:
    """Find what is wrong in a structure of which nothing else is known.

    Args:
        path: how it is called.
        value: it.
        kubernetes: it becomes part of an object, so its whole numbers are int32 but for some fields.

    Yields:
        path, value and what is allowed there.
    """
    if isinstance(value, Mapping):
        for key, item in value.items():
            if wrong := key_error(key):
                yield f"{path}.{key}", key, wrong
            else:
                yield from tree_errors(f"{path}.{key}", item, kubernetes and key not in _INT64_FIELDS)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from tree_errors(f"{path}[{index}]", item, kubernetes)
    elif wrong := _scalar_error(value, kubernetes):
        yield path, value, wrong


def _scalar_error(value: object, kubernetes: bool) -> str | None:
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, str):
        return text_error(value)
    if not isinstance(value, (int, float)):
        # A date, mostly.
        return "must be a text: put it in quotes"
    most = INT32 if kubernetes else INT64
    return range_error(value, (-most - 1, most), "number" if isinstance(value, float) else "whole number")


def key_error(key: object, word: str = "") -> str | None:
    """Tell that a dictionary's key is no text, or not what its format allows, or None."""
    if not isinstance(key, str):
        return "the key must be a text: put it in quotes"
    wrong = text_error(key) or (word and format_error(key, word))
    return f"the key {wrong}" if wrong else None
