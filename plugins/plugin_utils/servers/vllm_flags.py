"""Writes the flags of a vLLM server, and checks them as vLLM's own parser does; never reads a model."""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import arguments, expansion
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

FOLDER = specs.ROLES / "vllm" / "flags"
# The version of the role's own image.
LISTED = "0.14.1"
_VERSION = re.compile(r"[:-]v?(\d+\.\d+\.\d+)(?![\d.])")
_SHORT = re.compile(r"(-[A-Za-z]+\d?|O\d?)(\..+)?")
# What takes a list as JSON, and what takes one item each time.
JSON_LISTS = frozenset({"--allowed-headers", "--allowed-methods", "--allowed-origins"})
REPEATED = frozenset({"--middleware"})
# A file with more flags, in the pod.
CONFIG = "--config"
# Flags that would show a credential, to the setting that names its Secret.
CREDENTIALS = {"--hf-token": "hf_token_secret", "--api-key": "api_key_secret"}
# With these the server does not answer where the probes ask.
UNREACHABLE = frozenset({"--uds", "--headless", "--ssl-keyfile", "--ssl-certfile", "--grpc"})
ANY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 (vLLM's default, as text)
# Flags that the role writes, where it has a variable for them.
RESERVED = frozenset(
    {
        "--served-model-name", "--revision", "--port", "--tensor-parallel-size", "--max-model-len", "--gpu-memory-utilization",
        "--enable-lora", "--max-loras", "--max-lora-rank", "--lora-modules", "--model",
    }
)  # fmt: skip


def version_of(image: str) -> str:
    """Tell the version of vLLM from an image's name and tag (``vllm/vllm-openai:v0.14.1-cu129``), or ``''``."""
    found = _VERSION.search(image.rpartition("/")[2])
    return found[1] if found else ""


@functools.cache
def known(version: str) -> dict:
    """Give the options of a version, as its parser has them; ``{}`` for a version without a list."""
    file = FOLDER / f"{version}.json"
    return json.loads(file.read_text(encoding="utf-8")) if version and file.exists() else {}


@functools.cache
def _parser(version: str) -> argparse.ArgumentParser:
    return arguments.parser(known(version))


def flag_name(name: object) -> str:
    """Write a flag as vLLM's help does: ``max_model_len`` is ``--max-model-len``; a key after a dot keeps its spelling.

    A flag with one dash (``-tp``, ``-O3``, ``-cc.mode``) keeps it.
    """
    text = str(name)
    if _SHORT.fullmatch(text):
        return "-" + text.lstrip("-")
    flag, dot, key = text.lstrip("-").partition(".")
    return "--" + flag.replace("_", "-") + dot + key


def option_of(flag: str, version: str) -> dict:
    """Find the option that a flag of the command line means; ``{}`` for none, or for more than one.

    Args:
        flag: as ``flag_name`` writes it; a beginning that no other option has is enough, as for vLLM.
        version: of vLLM.
    """
    options = known(version).get("options", [])
    text = flag.partition(".")[0]
    exact = [option for option in options if text in option["strings"]]
    if exact or not text.startswith("--"):
        return exact[0] if exact else {}
    begun = [option for option in options if any(word.startswith(text) for word in option["strings"])]
    return begun[0] if len(begun) == 1 else {}


def flags(given: Mapping, version: str = "") -> list[str]:
    """Write arguments as a command line that vLLM's parser takes.

    Args:
        given: flag (with or without ``--``) to value. Null and true give the bare flag; false gives ``--no-FLAG`` where the
            version has it and is not off by itself, and leaves the flag out elsewhere, as an empty list does. A dictionary is
            written as JSON, a list as several words (JSON or a flag for each where vLLM wants that), anything else as
            ``--flag=value``. With a key (``compilation-config.mode``) every value is written as JSON, since vLLM reads it so
            and takes the next word where there is none.
        version: of vLLM; ``""`` for unknown.
    """
    words = []
    for name, value in given.items():
        option = flag_name(name)
        if "." in option:
            words.append(f"{option}={_text(value)}")
        elif option == CONFIG:
            # vLLM looks for the bare word before it parses.
            words += [option, str(value)]
        elif value is None or value is True:
            words.append(option)
        elif value is False:
            words += _negated(option, version)
        elif isinstance(value, Mapping) or option in JSON_LISTS:
            words.append(f"{option}={_json(value)}")
        elif isinstance(value, (list, tuple)):
            items = [str(item) for item in value]
            words += [f"{option}={item}" for item in items] if option in REPEATED else [option, *items] if items else []
        else:
            words.append(f"{option}={value}")
    return words


def _negated(flag: str, version: str) -> list[str]:
    option = option_of(flag, version)
    off = next((word for word in option.get("strings", ()) if word.startswith("--no-")), "")
    return [off] if off and option.get("default") is not False else []


def _text(value: Any) -> str:
    """Write what json.loads reads back; a word that is no JSON is taken as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return str(value)
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def check_extra(settings: Settings, extra: Mapping, version: str, environment: Mapping) -> list[str]:
    """Note what is wrong with the flags that the inventory adds, and give those that are right.

    Args:
        settings: of the server.
        extra: its ``extra_args``.
        version: of vLLM; of one without a list only names are looked at.
        environment: the container's variables, for ``$(NAME)``.

    Returns:
        the right ones as vLLM reads them.
    """
    right: dict[object, list[str]] = {}
    seen: dict[str, object] = {}
    for name, value in extra.items():
        flag = flag_name(name)
        option = option_of(flag, version if known(version) else LISTED)
        strings = {flag.partition(".")[0], *option.get("strings", ())}
        whole = "" if "." in flag else option.get("dest", flag)
        words = [expansion.expanded(word, environment) for word in flags({name: value}, version)]
        if reserved := sorted(strings & RESERVED):
            settings.wrong(value, f"{reserved[0]} has a variable of its own", "extra_args", name)
        elif (credential := sorted(strings & CREDENTIALS.keys())) and isinstance(value, (str, list)):
            secret = settings.path(CREDENTIALS[credential[0]])
            allowed = f"would be in the rendered files: name its Secret in {secret}"
            settings.wrong(HIDDEN, allowed, "extra_args", name)
        elif whole and whole in seen:
            settings.wrong(value, f"is the same flag as {seen[whole]}: vLLM takes one of them", "extra_args", name)
        elif words and _unreachable(strings, value):
            settings.foresee("flags", value, "no probe would reach the server", "extra_args", name)
        elif None in words:
            settings.notices.append(
                f"{settings['name']}: {settings.path('extra_args', name)} was not checked: only the cluster knows its variable"
            )
        elif (
            known(version)
            and "." not in flag
            # A misspelt flag is no better where its value leaves it out.
            and (said := refusal(words if words or option else [flag], version, True))
        ):
            settings.foresee("flags", value, _worded(flag, said, version), "extra_args", name)
        else:
            right[name] = words
        seen[whole] = name
    # Some go together: keys of one flag, and what one flag asks of another.
    together = [word for words in right.values() for word in words]
    if known(version) and len(right) == len(extra) and (said := refusal(together, version)):
        settings.foresee("flags", extra, f"vLLM {version} refuses it: {said}", "extra_args")
        return []
    return together


def _unreachable(strings: set[str], value: Any) -> bool:
    own = "--host" in strings and str(value) not in ANY_ADDRESS and "$(" not in str(value)
    return own or bool(strings & UNREACHABLE)


def _worded(flag: str, said: str, version: str) -> str:
    if "unrecognized arguments" not in said:
        return f"vLLM {version} refuses it: {said}"
    names = [word for option in known(version)["options"] for word in option["strings"]]
    return f"vLLM {version} has no flag {flag}: {nearest(flag, names).partition(' Known:')[0]}"


def parsed(words: list[str], version: str) -> argparse.Namespace | None:
    """Read a command line, its model and flags, as vLLM would, without what a configuration file adds.

    A version without a list is read by that of the role's own image: what decides about memory has the same name in all.

    Returns:
        the values; None where vLLM refuses it.
    """
    version = version if known(version) else LISTED
    if CONFIG in words:
        place = words.index(CONFIG)
        words = [*words[:place], *words[place + 2 :]]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit, Exception):
        return arguments.parse(["serve", *words], known(version), _parser(version))
    return None


def refusal(words: list[str], version: str, alone: bool = False) -> str:
    """Say why vLLM refuses flags, in its own words; ``''`` when it does not.

    Args:
        words: the flags.
        version: of vLLM.
        alone: whether others may come with them, so that only what the parser itself refuses counts.
    """
    output = io.StringIO()
    with contextlib.redirect_stderr(output):
        try:
            arguments.parse(["serve", "model", *words], known(version), _parser(version))
        except SystemExit:
            return output.getvalue().strip().rpartition(": error: ")[2]
        except (NotImplementedError, OSError):
            return ""  # A configuration file, which is the pod's.
        except Exception as error:
            return "" if alone else str(error)
    return ""
