"""Hides what has the form of a credential in objects, and fills it in again from what is there now; never asks a cluster.

The inventory's check refuses credentials under their names. This is for those that stand in the middle of a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import CREDENTIAL

MARK = "(hidden by modelyard)"
# What kubectl notes in an annotation: a whole object as one text, in which no environment variable is known by its form.
NOTED = "kubectl.kubernetes.io/last-applied-configuration"
SWITCHES = ("", "0", "1", "true", "false")
# Tokens by the beginnings that their issuers give them (Hugging Face, AWS, GitHub, GitLab, Slack, OpenAI, JSON web tokens), private
# keys, what stands before the @ of a URL, what follows an option with a telling name or curl's -u, and literals behind a telling name: with a digit and a letter, so that no variable's name.
WORDS = r"(?i:password|passwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key)"
FORM = re.compile(
    r"(?P<before>(?i:\bbearer\s+))(?P<bearer>[\w.~+/-]{16,})"
    r"|\bhf_\w{20,}|\b(?:AKIA|ASIA)\w{16}\b|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}|\bxox[abprs]-[\w-]{10,}"
    r"|\bsk-[\w-]{20,}|\beyJ[\w-]{10,4096}+\.[\w-]{10,4096}+\.[\w-]+"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|(?<=://)(?!git@)[^/?#@\s$(){}\[\]\"'\\]+(?=@)"
    rf"|(?P<option>(?<![\w-])(?i:--[\w-]{{0,40}}?|aws_\w{{0,40}}?){WORDS}\s+[\"']?)(?P<given>[^\s\"',;$(){{}}\[\]<>-][^\s\"',;]{{5,}})"
    r"|(?P<user>(?<![\w-])(?:-u|--user)[\s=]+[\"']?[\w.@-]+:)(?P<after>(?!\d+\b)[^\s\"'$(){}]{4,})"
    rf"|(?P<name>{WORDS}[\"']?\s*[:=]\s*[\"']?)"
    r"(?P<literal>(?=[^\s\"']{0,99}\d)(?=[^\s\"']{0,99}[A-Za-z])[^\s\"',;.$(){}\[\]<>]{6,}+(?![.(\[]))"
)
HEADER = re.compile(r"(?i)(proxy-)?authorization")
# Of these forms, what stands before the credential.
KEPT = ("before", "option", "user", "name")


class Lost(ValueError):
    """What was hidden is not known any more."""


def hide_text(text: str) -> str:
    """Hide what has the form of a credential in a text."""
    return FORM.sub(lambda found: f"{next(filter(None, map(found.group, KEPT)), '')}{MARK}", text)


def hide(value: Any) -> Any:
    """Give a copy of an object, or of a part of one, without what has the form of a credential."""
    if isinstance(value, str):
        return hide_text(value)
    if isinstance(value, Mapping):
        # An environment variable in Kubernetes' own form.
        named = {"value": value["name"]} if {"name", "value"} <= value.keys() else {}
        return {key: _hidden(named.get(key, key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(_flag(before), item) for before, item in zip(["", *value], value, strict=False)]
    return value


def _hidden(name: object, value: Any) -> Any:
    if name == NOTED:
        return MARK
    text = str(value).lower() if isinstance(value, str) else ""
    if text not in SWITCHES and not text.startswith(("$(", "-")) and _named(str(name)):
        return MARK
    if isinstance(value, str) and value.startswith("--") and CREDENTIAL.fullmatch(_flag(value.partition("=")[0])):
        flag, equals, given = value.partition("=")
        return f"{flag}={_hidden('token', given)}" if equals else value
    return hide(value)


def _named(name: str) -> bool:
    """Tell whether it is a credential's name; of an annotation (``auth-secret``) the value is the name of a Secret."""
    return bool(CREDENTIAL.fullmatch(name if "/" in name else name.replace("-", "_"))) or bool(HEADER.fullmatch(name))


def _flag(word: Any) -> str:
    """Give the name of an option of a command line as a variable is called: ``--api-key`` is ``api_key``."""
    return word.lstrip("-").replace("-", "_") if isinstance(word, str) and word.startswith("--") else ""


def fill(hidden: Any, *known: Any) -> Any:
    """Fill in what was hidden, from where it is known now.

    Args:
        hidden: what :func:`hide` gave, then.
        known: the same object as it is now, in the order in which they are asked; None where there is none.

    Raises:
        Lost: it stands in none of them.
    """
    return _filled(hidden, [(now, hide(now)) for now in known])


def _filled(hidden: Any, known: list[tuple[Any, Any]]) -> Any:
    """Do so with each of the known ones beside what hiding makes of it."""
    known = [pair for pair in known if type(pair[0]) is type(hidden)]
    if isinstance(hidden, str):
        return _text(hidden, known) if MARK in hidden else hidden
    if isinstance(hidden, dict):
        return {
            key: _filled(item, [(one.get(key), two.get(key)) for one, two in known]) for key, item in hidden.items()
        }
    if isinstance(hidden, list):
        return [_filled(item, [_same(item, place, *pair) for pair in known]) for place, item in enumerate(hidden)]
    return hidden


def _same(item: Any, place: int, now: list, then: list) -> tuple[Any, Any]:
    """Find an item in another list: by its name, or by its place where it has none."""
    if isinstance(item, dict) and "name" in item:
        names = [one.get("name") if isinstance(one, dict) else None for one in now]
        place = names.index(item["name"]) if item["name"] in names else len(now)
    return (now[place], then[place]) if place < len(now) else (None, None)


def _text(hidden: str, known: list[tuple[str, str]]) -> str:
    pieces = hidden.split(MARK)
    for now, without in known:
        around = without.split(MARK)
        found = re.fullmatch("([\\s\\S]*?)".join(map(re.escape, around)), now)
        if found and len(around) == len(pieces):
            return "".join(part for pair in zip(pieces, [*found.groups(), ""], strict=True) for part in pair)
    raise Lost(hidden)
