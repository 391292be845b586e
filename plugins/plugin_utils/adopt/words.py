"""Sorts the words of a server's command line into options and values, as its parser would; never checks a value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm_flags

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SWITCHES = ("store_true", "boolean")


def vllm(words: Iterable[str], version: str) -> tuple[dict[str, Any], list[str]]:
    """Sort the words of ``vllm serve``.

    Args:
        words: what follows the program.
        version: of vLLM; one without a list is read by that of the role's own image.

    Returns:
        option as ``flag_name`` writes it, by its first name, to its value (True for a bare one, a list for several words); and the
        words that belong to none: the model is the first of them.
    """
    left, found, single = list(words), {}, []
    version = version if vllm_flags.known(version) else vllm_flags.LISTED
    while left:
        word = left.pop(0)
        if not _is_option(word):
            single.append(word)
            continue
        text, equals, value = word.partition("=")
        flag = vllm_flags.flag_name(text)
        option = vllm_flags.option_of(flag, version)
        name = flag if "." in flag or not option else _first_name(option, flag)
        if equals:
            given: Any = typed(value)
        else:
            most = _takes(option, name)
            taken: list[str] = []
            while left and len(taken) < most and not _is_option(left[0]):
                taken.append(left.pop(0))
            given = [typed(item) for item in taken] if len(taken) > 1 else typed(taken[0]) if taken else True
        if name in vllm_flags.JSON_LISTS:
            given = _listed(given)
        if name in found:
            earlier = found[name] if isinstance(found[name], list) else [found[name]]
            given = [*earlier, given] if name in vllm_flags.REPEATED else given
        found[name] = given
    return found, single


def _listed(given: Any) -> Any:
    """Read a list that vLLM takes as JSON."""
    try:
        read = json.loads(given) if isinstance(given, str) else given
    except ValueError:
        return given
    return read if isinstance(read, list) else given


def _is_option(word: str) -> bool:
    return word.startswith("-") and len(word) > 1 and not _NUMBER.fullmatch(word)


def _first_name(option: dict, flag: str) -> str:
    """Give an option's own name: ``--no-x`` is one of ``--x``, and keeps its."""
    if flag in option["strings"] and flag.startswith("--no-"):
        return flag
    return next((text for text in option["strings"] if text.startswith("--")), flag)


def _takes(option: dict, name: str) -> float:
    """Say how many words an option takes; of one that is not known, one."""
    if option.get("action") in _SWITCHES:
        return 0
    return float("inf") if option.get("nargs") in ("+", "*") or name == "--lora-modules" else 1


def triton(words: Iterable[str]) -> list[tuple[str, str | None, list[str]]]:
    """Sort the words of ``tritonserver``: name without dashes, value (None for none), and the words themselves."""
    left, found = list(words), []
    while left:
        word = left.pop(0)
        text, equals, value = word.partition("=")
        if not word.startswith("--"):
            found.append(("", None, [word]))
        elif equals:
            found.append((text.lstrip("-"), value, [word]))
        elif left and not left[0].startswith("-"):
            value = left.pop(0)
            found.append((text.lstrip("-"), value, [word, value]))
        else:
            found.append((text.lstrip("-"), None, [word]))
    return found


def typed(text: str) -> Any:
    """Give a word as YAML shows it best: a number, a structure, or the text; never another than it was written as."""
    if re.fullmatch(r"0|[1-9]\d{0,15}", text):
        return int(text)
    if re.fullmatch(r"0?\.\d{1,6}|\d{1,6}\.\d{1,6}", text) and str(float(text)) == text:
        return float(text)
    if text[:1] == "{":
        try:
            return json.loads(text)
        except ValueError:
            return text
    return text
