"""Reads the command line of ``tritonserver`` as Triton does: the grammar is here, the options are in a file for each version; knows no setting.

The stand-in for Triton has a copy of this file in its image, so it imports nothing of the collection.
"""

from __future__ import annotations

import getopt
import re
from collections.abc import Callable, Iterator
from typing import Any

CATEGORIES = (
    "health",
    "metadata",
    "inference",
    "shared-memory",
    "model-config",
    "model-repository",
    "statistics",
    "trace",
    "logging",
)
_BITS = {"int": 31, "int64": 63}


class ParseError(Exception):
    """A command line that Triton refuses; ``index`` is the place of the word at fault, where that is known."""

    def __init__(self, message: str, index: int = 0) -> None:
        super().__init__(message)
        self.index = index


def number(kind: str, text: str) -> float:
    """Read the number that a word begins with, as C++ does: 12abc is 12, and 1.5 is 1 where whole numbers are meant."""
    pattern = r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?" if kind == "float" else r"\s*[+-]?\d+"
    match = re.match(pattern, text)
    if not match:
        raise ParseError(f"Invalid option value. Got {text}")
    value = float(match[0]) if kind == "float" else int(match[0])
    if kind in _BITS and not -(1 << _BITS[kind]) <= value < 1 << _BITS[kind]:
        raise ParseError(f"Provided option value is out of bound. Got {text}")
    return value


def boolean(text: str) -> bool:
    """Read true, on, 1, false, off or 0."""
    if text.lower() not in ("true", "on", "1", "false", "off", "0"):
        raise ParseError(f"invalid value for bool option: {text}")
    return text.lower() in ("true", "on", "1")


def setting(name: str, option: dict, text: str) -> str:
    """Check NAME,SETTING=VALUE, whose NAME is required, optional or not allowed."""
    first, comma, rest = text.partition(",")
    if "=" in first:
        first, comma, rest = "", "", text
    key, _equals, value = (rest if comma else text).partition("=")
    named = {"required": bool(comma and first), "none": not comma, "optional": bool(first) or not comma}[option["name"]]
    if not named or not key or not value:
        raise ParseError(f"--{name} option format is '<name>,<setting>=<value>'. Got {text}")
    if comma and "choices" in option and first.lower() not in option["choices"]:
        raise ParseError(f"invalid value for trace mode option: {first}")
    return text


def restricted(name: str, text: str) -> str:
    """Check APIS:KEY=VALUE."""
    apis, colon, rest = text.partition(":")
    key, equals, value = rest.partition("=")
    if not (apis and colon and key and equals and value):
        raise ParseError(f"--{name} option format is '<config name>:<setting>=<value>'. Got {text}")
    for api in apis.split(","):
        if api not in CATEGORIES:
            raise ParseError(f"unknown restricted {name.rsplit('-', 1)[1]} '{api}'")
    return text


def resource(text: str) -> str:
    """Check NAME:COUNT or NAME:COUNT:DEVICE."""
    parts = text.split(":")
    if len(parts) not in (2, 3):
        raise ParseError(f"--rate-limit-resource option format is '<resource_name>:<count>:<device>'. Got {text}")
    for part in parts[1:]:
        number("int", part)
    return text


def ranged(name: str, option: dict, text: str) -> float:
    """Read a number within an option's limits; log-verbose takes true and false too."""
    kind = option["type"]
    if kind == "int_or_bool":
        kind, text = "int", {"true": "1", "false": "0"}.get(text.lower(), text)
    value = number(kind, text)
    if not option.get("minimum", value) <= value <= option.get("maximum", value):
        raise ParseError(f"invalid argument for --{name}: {text} is out of range")
    return value


def choice(name: str, option: dict, text: str) -> str:
    """Check a word that is one of several."""
    text = text if option["type"] == "exact" else text.lower()
    if text not in option["choices"]:
        raise ParseError(f"invalid argument for --{name}")
    return text


def pair(option: dict, text: str) -> tuple[float, float]:
    """Read two numbers."""
    first, delimiter, second = text.partition(option["delimiter"])
    if not delimiter:
        raise ParseError(f"Cannot parse pair option due to incorrect number of inputs. Found: {text}")
    return number(option["types"][0], first), number(option["types"][1], second)


READ: dict[str, Callable[[str, dict, str], Any]] = {
    "none": lambda name, option, text: True,
    "str": lambda name, option, text: text,
    "bool": lambda name, option, text: boolean(text),
    **dict.fromkeys(("int", "int64", "float", "int_or_bool"), ranged),
    **dict.fromkeys(("choice", "exact"), choice),
    "pair": lambda name, option, text: pair(option, text),
    "setting": setting,
    "restricted": lambda name, option, text: restricted(name, text),
    "resource": lambda name, option, text: resource(text),
}


def given(words: list[str], options: dict) -> Iterator[tuple[int, str, str]]:
    """Split a command line into its options, as getopt_long does: ``--name=text``, ``--name text``, and beginnings of a name.

    Args:
        words: what follows ``tritonserver``.
        options: of a version's file.

    Yields:
        the place of the first word, the option's whole name, its text.

    Raises:
        ParseError: an option that there is not, or one without its text; ``index`` tells the word's place.
    """
    long = [name if option["type"] == "none" else f"{name}=" for name, option in options.items()]
    index = 0
    while index < len(words):
        try:
            try:
                found, rest = getopt.getopt(words[index : index + 1], "", long)
                taken = 1
            except getopt.GetoptError as error:
                if "requires argument" not in error.msg or index + 1 == len(words):
                    raise
                found, rest = getopt.getopt(words[index : index + 2], "", long)
                taken = 2
        except getopt.GetoptError as error:
            raise ParseError(f"tritonserver: {error}", index) from None
        if rest or not found:
            # Triton collects these, and says so at the end.
            raise ParseError(f"Unexpected argument: {words[index]}", index)
        yield index, found[0][0].removeprefix("--"), found[0][1]
        index += taken


def read(name: str, option: dict, text: str) -> Any:
    """Read the text of an option.

    Raises:
        ParseError: Triton would print this and its usage, and exit with 1.
    """
    try:
        return READ[option["type"]](name, option, text)
    except ParseError as error:
        raise ParseError(f'Bad option: "--{name}".\n{error}') from None
