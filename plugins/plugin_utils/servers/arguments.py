"""Reads the command line of ``vllm serve`` as vLLM does: the syntax is here, the options are in a file for each version; knows no setting.

tests/unit/test_arguments.py compares it with what the real parser said to some hundred command lines. Not here: the content
of a configuration file (``--config``), and what vLLM checks only once it knows the model. The stand-in for vLLM has a copy of
this file in its image, so it imports nothing of the collection.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_OTHER_COMMANDS = ("chat", "complete", "bench", "collect-env", "run-batch")
_TRUE = ("1", "true", "t", "yes", "y", "on")
_FALSE = ("0", "false", "f", "no", "n", "off")
_SUFFIX = {letter: 1000**power for power, letter in enumerate("kmgt", 1)}
_SUFFIX |= {letter.upper(): 1024**power for power, letter in enumerate("kmgt", 1)}


# --- Words become values -----------------------------------------------------------------------------


def human_readable_int(text: str) -> int:
    """Read 4096, 4k (4000), 4K (4096) or 2.5k; a decimal with a binary suffix is refused."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgGtT])", text.strip())
    if not match:
        return int(text)
    number, suffix = match.groups()
    if suffix.islower():
        return int(float(number) * _SUFFIX[suffix])
    if "." in number:
        raise argparse.ArgumentTypeError(
            f"Decimals are not allowed with binary suffixes like {suffix}. "
            f"Did you mean to use {number}{suffix.lower()} instead?"
        )
    return int(number) * _SUFFIX[suffix]


def human_readable_int_or_auto(text: str) -> int:
    """Read a number as human_readable_int does; auto and -1 are -1."""
    return -1 if text.strip() == "-1" or text.strip().lower() == "auto" else human_readable_int(text)


def loads(text: str) -> Any:
    """Read JSON."""
    return json.loads(text)


def union_dict_and_str(text: str) -> Any:
    """Read JSON where it looks like a dictionary; otherwise a word."""
    return _optional(loads)(text) if re.match(r"(?s)^\s*{.*}\s*$", text) else text


def _parsed(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def parsed(text: str) -> Any:
        try:
            return read(text)
        except ValueError:
            shown = f"<class '{read.__name__}'>" if isinstance(read, type) else f"<function {read.__name__}>"
            raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to {shown}.") from None

    return parsed


def _optional(read: Callable[[str], Any]) -> Callable[[str], Any]:
    parsed = _parsed(read)
    return lambda text: None if text in ("", "None") else parsed(text)


def lower_word(text: str) -> str:
    """Read a word in any case, with dashes or underscores."""
    return text.lower().replace("-", "_")


def several_ids(text: str) -> list:
    """Read numbers and names between commas."""
    return [int(one) if one.isdigit() else one for one in (part.strip() for part in text.split(","))]


def _readable(text: str) -> str:
    """Write numbers such as 80g outside of quotes as JSON does."""
    parts = re.split(r'("(?:[^"\\]|\\.)*")', text)
    number = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
    parts[::2] = [number.sub(lambda found: str(human_readable_int(found[0])), part) for part in parts[::2]]
    return "".join(parts)


def _of_schema(schema: dict, name: str, readable: bool) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            value = json.loads(_readable(text) if readable else text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"1 validation error for {name}: invalid JSON: {error}") from None
        if not isinstance(value, dict):
            raise argparse.ArgumentTypeError(f"1 validation error for {name}: must be a dictionary")
        if wrong := _misfit(schema, value, schema.get("$defs", {}), name) or _conflict(name, value):
            raise argparse.ArgumentTypeError(f"1 validation error for {name}: {wrong}")
        return value

    return read


def _misfit(schema: dict, value: Any, known: dict, path: str) -> str:
    """Tell what is wrong with a value, or '': as lenient with types as pydantic is where vLLM uses it."""
    if value is None and schema.get("nullable"):
        return ""
    if "$ref" in schema:
        return _misfit(known[schema["$ref"].rsplit("/", 1)[1]], value, known, path)
    if "anyOf" in schema:
        found = [_misfit(one, value, known, path) for one in schema["anyOf"]]
        return "" if "" in found else found[0]
    if "const" in schema or "enum" in schema:
        return _misfit_choice(schema, value, path)
    kind = schema.get("type")
    if kind == "object" and isinstance(value, dict):
        return _misfit_inside(schema, value, known, path)
    if kind == "array" and isinstance(value, list):
        return next(filter(None, (_misfit(schema.get("items", {}), one, known, path) for one in value)), "")
    if kind in _FITS and not _FITS[kind](value, schema):
        return f"{path} is {value!r}: must be of type {kind}"
    return f"{path} is {value!r}: must be of type {kind}" if kind in ("object", "array") else ""


def _misfit_choice(schema: dict, value: Any, path: str) -> str:
    allowed = schema.get("enum", [schema.get("const")])
    if value in allowed:
        return ""
    if isinstance(value, str) and value.upper() in schema.get("names", ()):
        return ""
    if isinstance(value, str) and path.endswith(".cudagraph_mode"):
        # vLLM looks the name up without a check.
        raise KeyError(value.upper())
    return f"{path} is {value!r}: must be one of {allowed}"


def _misfit_inside(schema: dict, value: dict, known: dict, path: str) -> str:
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    for key, item in value.items():
        if key not in properties and more is False:
            return f"{path}.{key}: unexpected keyword argument"
        inner = properties.get(key, more if isinstance(more, dict) else {})
        if wrong := _misfit(inner, item, known, f"{path}.{key}"):
            return wrong
    return next((f"{path}.{key}: missing" for key in schema.get("required", ()) if key not in value), "")


def _conflict(name: str, value: dict) -> str:
    """Tell which keys do not go together: what vLLM checks in code, not in its schemas."""
    for prefix in ("kv", "ec"):
        if value.get(f"{prefix}_connector") is not None and value.get(f"{prefix}_role") is None:
            return f"Please specify {prefix}_role when {prefix}_connector is set"
    if name == "StructuredOutputsConfig":
        backend = value.get("backend", "auto")
        if _on(value, "disable_any_whitespace") and backend not in ("xgrammar", "guidance"):
            return "disable_any_whitespace is only supported for xgrammar and guidance backends."
        if _on(value, "disable_additional_properties") and backend != "guidance":
            return "disable_additional_properties is only supported for the guidance backend."
    return ""


def _on(value: dict, key: str) -> bool:
    return str(value.get(key, "no")).lower() in _TRUE


def _number(value: Any, read: type) -> Any:
    try:
        return read(value) if isinstance(value, (bool, int, float, str)) else None
    except ValueError:
        return None


def _is_number(value: Any, schema: dict, read: type = float) -> bool:
    number = _number(value, read)
    if number is None or (read is int and isinstance(value, float) and value != number):
        return False
    return number >= schema.get("minimum", number) and number <= schema.get("maximum", number)


_FITS: dict[str, Callable[[Any, dict], bool]] = {
    "string": lambda value, schema: isinstance(value, str),
    "null": lambda value, schema: value is None,
    "boolean": lambda value, schema: isinstance(value, (bool, int, str)) and str(value).lower() in _TRUE + _FALSE,
    "integer": lambda value, schema: _is_number(value, schema, int),
    "number": _is_number,
}


@dataclass
class LoRAModulePath:
    """An adapter of the command line; named as in vLLM, since argparse prints the name."""

    name: str
    path: str
    base_model_name: str | None = None


class LoraModules(argparse.Action):
    """--lora-modules NAME=PATH or JSON, each a word of its own; a second flag replaces the first."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Read the words."""
        found = []
        for word in values or ():
            if word in (None, ""):
                continue
            if "=" in word and "," not in word:
                name, path = word.split("=", self.const)
                found.append(vars(LoRAModulePath(name, path)))
                continue
            try:
                found.append(vars(LoRAModulePath(**json.loads(word))))
            except json.JSONDecodeError:
                parser.error(f"Invalid JSON format for --lora-modules: {word}")
            except TypeError as error:
                parser.error(f"Invalid fields for --lora-modules: {word} - {error}")
        setattr(namespace, self.dest, found)


# --- Forms of writing --------------------------------------------------------------------------------


def _model_first(words: list[str]) -> list[str]:
    """--model X stands for the positional argument."""
    for index, word in enumerate(words):
        if word == "--model":
            return [words[0], words[index + 1], *words[1:index], *words[index + 2 :]]
        if word.startswith("--model="):
            return [words[0], word.removeprefix("--model="), *words[1:index], *words[index + 1 :]]
    return words


def _check_config(words: list[str]) -> None:
    if "--config" not in words:
        return
    if words.count("--config") > 1:
        raise AssertionError("More than one config file specified!")
    index = words.index("--config")
    if index == len(words) - 1:
        raise ValueError("No config file specified! Please check your command-line arguments.")
    extension = words[index + 1].split(".")[-1]
    if extension not in ("yaml", "yml"):
        raise ValueError(f"Config file must be of a yaml/yml type. {extension} supplied")
    Path(words[index + 1]).read_bytes()
    raise NotImplementedError("this stand-in does not read configuration files: write the options as arguments")


def _spelt(words: list[str]) -> list[str]:
    """Underscores in names become dashes, up to the first dot; -O has forms of its own."""
    found = []
    for index, word in enumerate(words):
        if word.startswith("--help="):
            found.append("--help")
        elif word.startswith("--"):
            name, equals, value = word.partition("=")
            flag, dot, key = name.partition(".")
            found.append(flag.replace("_", "-") + dot + key + equals + value)
        elif word.startswith("-O") and word != "-O":
            found += ["--optimization-level", word[2:].removeprefix("=")]
        elif word == "-O" and words[index + 1 : index + 2] in (["0"], ["1"], ["2"], ["3"]):
            found.append("--optimization-level")
        else:
            found.append(word)
    return found


def _merge(into: dict, new: dict) -> None:
    for key, value in new.items():
        old = into.get(key)
        if isinstance(value, dict) and isinstance(old, dict):
            _merge(old, value)
        elif isinstance(value, list) and isinstance(old, list):
            old += value
        else:
            into[key] = value


def _value(text: str, readable: bool) -> Any:
    """Read the value of a key: JSON, else a number such as 80g in newer versions, else a word."""
    with contextlib.suppress(ValueError):
        return json.loads(text)
    with contextlib.suppress(ValueError, argparse.ArgumentTypeError):
        return human_readable_int(text) if readable else text
    return text


def _undotted(words: list[str], readable: bool) -> list[str]:
    """--a.b.c=1 and --a.b.c 1 become --a {"b": {"c": 1}}, at the end; --a.b+=x,y is a list."""
    kept: list[str] = []
    trees: dict[str, dict] = {}
    rest = iter(words)
    for word in rest:
        name, equals, text = word.partition("=")
        if not word.startswith("-") or "." not in name:
            kept.append(word)
            continue
        if not equals:
            try:
                text = next(rest)
            except StopIteration:
                raise IndexError("list index out of range") from None
        if name.endswith("+"):
            name, text = name[:-1], json.dumps(text.split(","))
        value = _value(text, readable)
        flag, *keys = name.split(".")
        for key in reversed(keys):
            value = {key: value}
        _merge(trees.setdefault(flag, {}), value)
    for flag, tree in trees.items():
        kept += [flag, json.dumps(tree)]
    return kept


# --- The parser --------------------------------------------------------------------------------------

_READ: dict[str, Callable[[str], Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "json": loads,
    **{
        function.__name__: function
        for function in (
            human_readable_int,
            human_readable_int_or_auto,
            union_dict_and_str,
            lower_word,
            several_ids,
        )
    },
}


def _add(parser: argparse.ArgumentParser, option: dict, schemas: dict, readable: bool) -> None:
    if option["action"] == "help":
        return
    keywords: dict[str, Any] = {"default": option.get("default")}
    if option["strings"]:
        keywords["dest"] = option["dest"]
    if option["action"] in ("store_true", "boolean"):
        strings = option["strings"]
        if option["action"] == "boolean":
            # BooleanOptionalAction makes the --no- forms itself.
            strings = [word for word in strings if not word.startswith("--no-")]
            keywords["action"] = argparse.BooleanOptionalAction
        else:
            keywords["action"] = "store_true"
        parser.add_argument(*strings, **keywords)
        return
    schema = option.get("schema")
    read = _of_schema(schemas[schema], schema, readable) if schema else _READ[option["type"]]
    read = _parsed(read) if option.get("parsed") else read
    keywords["type"] = _optional(read) if option.get("optional") else read
    keywords |= {key: option[key] for key in ("nargs", "choices", "const") if key in option}
    if option["action"] == "lora_modules":
        # A path with = is one in newer versions.
        keywords["const"] = 1 if readable else -1
    if option["action"] != "store":
        keywords["action"] = {"append": "append", "lora_modules": LoraModules}[option["action"]]
    parser.add_argument(*(option["strings"] or [option["dest"]]), **keywords)


def parser(flags: dict) -> argparse.ArgumentParser:
    """Make the parser of ``vllm``.

    Args:
        flags: the file of a version.
    """
    top = argparse.ArgumentParser(prog="vllm", description="vLLM CLI (stand-in)")
    top.add_argument("-v", "--version", action="version", version=flags["version"])
    commands = top.add_subparsers(required=False, dest="subparser")
    for name in _OTHER_COMMANDS:
        commands.add_parser(name)
    serve = commands.add_parser("serve", usage="vllm serve [model_tag] [options]")
    for option in flags["options"]:
        _add(serve, option, flags["schemas"], flags.get("readable", False))
    return top


def check_files(args: argparse.Namespace) -> None:
    """Check what only the machine of the server knows.

    Raises:
        ValueError: a chat template that is a path, and does not exist.
    """
    template = args.chat_template
    if template is not None and not any(mark in template for mark in "{}\n") and not Path(template).exists():
        raise ValueError(f"The supplied chat template string ({template}) appears path-like, but doesn't exist! ")


def _validate(args: argparse.Namespace, flags: dict) -> None:
    if args.enable_auto_tool_choice and not args.tool_call_parser:
        raise TypeError("Error: --enable-auto-tool-choice requires --tool-call-parser")
    if args.enable_log_outputs and not args.enable_log_requests:
        raise TypeError("Error: --enable-log-outputs requires --enable-log-requests")
    if getattr(args, "enable_per_request_metrics", False) and args.disable_log_stats:
        raise ValueError("Error: --enable-per-request-metrics requires statistics: remove --disable-log-stats")
    if args.enable_auto_tool_choice and args.tool_call_parser not in flags["tool_parsers"]:
        known = ",".join(flags["tool_parsers"])
        raise KeyError(f"invalid tool call parser: {args.tool_call_parser} (chose from {{ {known} }})")
    reasoning = (args.structured_outputs_config or {}).get("reasoning_parser")
    if reasoning and reasoning not in flags["reasoning_parsers"]:
        known = ",".join(flags["reasoning_parsers"])
        raise KeyError(f"invalid reasoning parser: {reasoning} (chose from {{ {known} }})")


def parse(words: list[str], flags: dict, using: argparse.ArgumentParser | None = None) -> argparse.Namespace:
    """Read a command line.

    Args:
        words: what follows ``vllm``.
        flags: the file of a version.
        using: a parser made before, for many command lines.

    Returns:
        the values; ``model`` holds the positional argument where there is one.

    Raises:
        SystemExit: refused by the parser (status 2), as the real one does.
        Exception: refused by what the real program runs before and after its parser; it ends with status 1 there.
    """
    if words[:1] == ["serve"]:
        words = _model_first(words)
    _check_config(words)
    args = (using or parser(flags)).parse_args(_undotted(_spelt(words), flags.get("readable", False)))
    if args.subparser == "serve":
        _validate(args, flags)
        args.model = args.model_tag or args.model
    return args
