"""The servers' command lines, against the recorded answers of vLLM's own parser and the parsers of the stand-ins."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import itertools
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import arguments, expansion, triton_flags, vllm
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm_flags as generator
from model_servers import program

ROOT = Path(__file__).parents[2]
STANDINS = ROOT / "standins"
FLAGS = json.loads((ROOT / "roles/vllm/flags/0.14.1.json").read_text())
VERDICTS = json.loads((ROOT / "tests/vllm_flags/verdicts/0.14.1.json").read_text())
GPU = "nvidia.com/gpu"


def load(name: str) -> ModuleType:
    """Import a stand-in's program beside all that its image holds."""
    path = program(name)
    sys.path.insert(0, str(path.parent))
    try:
        return importlib.import_module(path.stem)
    finally:
        sys.path.remove(str(path.parent))


tritonserver = load("tritonserver")
PARSER = arguments.parser(FLAGS)
# The newest that runs without a GPU.
NEWEST = "0.32.0"
LAX = {
    "--data-parallel-multi-port-external-lb", "--grpc-po", "--grpc-port", "--ir-op-priority", "--kernel-config", "--log-config-file",
    "--logging-config", "--profiler-config",
}  # fmt: skip


def vllm_says(line: list[str], flags: dict = FLAGS, parser: Any = PARSER) -> tuple[int, str]:
    """What the stand-in's parser says: the exit status and the error."""
    output = io.StringIO()
    with contextlib.redirect_stderr(output), contextlib.redirect_stdout(output):
        try:
            found = arguments.parse(["serve", *line], flags, parser)
            arguments.check_files(found)
        except SystemExit as exit_:
            status = int(exit_.code or 0)
            return status, next((row for row in output.getvalue().splitlines() if ": error: " in row and status), "")
        except Exception as error:
            return 1, f"{type(error).__name__}: {error}"
    return 0, ""


def alike(message: str) -> str:
    """Without what differs between versions of Python, and pydantic's own words."""
    message = re.sub(r"\(cho[so]*e from.*| Tried: .*", "", message).rstrip()
    message = re.sub(r"\S+\.(LoRAModulePath\(\))", r"\1", message)
    return re.sub(r"(argument [^:]+:) \d+ validation errors?.*", r"\1", message)


# --- The stand-in for vLLM against the real parser ---------------------------------------------------


def test_the_options_are_those_of_the_version_that_the_role_deploys(vllm_image) -> None:
    assert re.fullmatch(rf".*:v{re.escape(FLAGS['version'])}(-.*)?", vllm_image)


def test_every_verdict_is_the_real_parsers() -> None:
    said = {json.dumps(known["line"]): vllm_says(known["line"]) for known in VERDICTS}
    wrong = [
        (known["line"], "vLLM", known["status"], known["message"], "stand-in", *said[json.dumps(known["line"])])
        for known in VERDICTS
        if (known["status"], alike(known["message"]))
        != (said[json.dumps(known["line"])][0], alike(said[json.dumps(known["line"])][1]))
    ]
    assert wrong == []


def test_the_newest_versions_verdicts_are_its_parsers() -> None:
    """What is refused and what is not; the words of a refusal are those of 0.14.1."""
    flags = json.loads((ROOT / f"roles/vllm/flags/{NEWEST}.json").read_text())
    verdicts = json.loads((ROOT / f"tests/vllm_flags/verdicts/{NEWEST}.json").read_text())
    parser = arguments.parser(flags)
    wrong = [known for known in verdicts if bool(known["status"]) != bool(vllm_says(known["line"], flags, parser)[0])]
    assert [known["line"] for known in wrong if known["status"] == 0] == []
    # What it checks in code of its own, of options that few give.
    assert {re.split(r"[=.]", known["line"][1])[0] for known in wrong} <= LAX
    for known in verdicts:
        found = vars(arguments.parse(["serve", *known["line"]], flags, parser)) if known.get("values") else {}
        assert {name: found[name] for name in known.get("values", {})} == known.get("values", {}), known["line"]


def test_the_values_are_the_real_parsers() -> None:
    asked = [known for known in VERDICTS if known.get("values")]
    assert len(asked) > 80
    for known in asked:
        found = vars(arguments.parse(["serve", *known["line"]], FLAGS, PARSER))
        assert {name: found[name] for name in known["values"]} == known["values"], known["line"]


def test_the_verdicts_cover_every_option() -> None:
    accepted = {re.split("[=.]", word)[0] for known in VERDICTS for word in known["line"] if known["status"] == 0}
    refused = " ".join(known["message"] for known in VERDICTS if known["status"])
    for option in FLAGS["options"]:
        if (
            option["strings"]
            and option["action"] != "help"
            and option["dest"] not in ("config", "model", "chat_template")
        ):
            assert accepted.intersection(option["strings"]), option["strings"]
    assert len([known for known in VERDICTS if known["status"]]) > 300
    assert "unrecognized arguments" in refused
    assert "invalid choice" in refused
    assert "expected one argument" in refused
    assert "ambiguous option" in refused


@pytest.mark.parametrize("file", sorted(STANDINS.glob("*/*.py"), key=str), ids=lambda file: file.name)
def test_the_images_python_can_read_it(file: Path) -> None:
    ast.parse(file.read_text(), feature_version=(3, 11))


# --- What the generator writes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"compilation-config.mode": 3}, ["--compilation-config.mode=3"]),
        ({"compilation_config.cudagraph_mode": "FULL"}, ["--compilation-config.cudagraph_mode=FULL"]),
        ({"--compilation-config.pass_config.enable_sp": True}, ["--compilation-config.pass_config.enable_sp=true"]),
        ({"compilation-config.pass_config.enable_sp": False}, ["--compilation-config.pass_config.enable_sp=false"]),
        ({"compilation-config.mode": None}, ["--compilation-config.mode=null"]),
        ({"compilation-config.compile_sizes": [1, 2]}, ["--compilation-config.compile_sizes=[1,2]"]),
        (
            {"kv-transfer-config.kv_connector_extra_config": {"a": "b"}},
            ['--kv-transfer-config.kv_connector_extra_config={"a":"b"}'],
        ),
        ({"kv-transfer-config.engine_id": "7"}, ['--kv-transfer-config.engine_id="7"']),
        ({"compilation-config": {"mode": 3}}, ['--compilation-config={"mode":3}']),
        (
            {"max_num_seqs": 16, "async_scheduling": None, "enforce-eager": False},
            ["--max-num-seqs=16", "--async-scheduling"],
        ),
        ({"cudagraph-capture-sizes": [1, 2]}, ["--cudagraph-capture-sizes", "1", "2"]),
        ({"cudagraph-capture-sizes": []}, []),
        ({"allowed-origins": ["https://a"]}, ['--allowed-origins=["https://a"]']),
        ({"middleware": ["a.b", "c.d"]}, ["--middleware=a.b", "--middleware=c.d"]),
    ],
)
def test_extra_arguments_as_vllm_reads_them(given: dict, words: list[str]) -> None:
    assert generator.flags(given) == words
    assert vllm_says(["org/model", "--kv-transfer-config.kv_role=kv_both", *words]) == (0, "")


def test_lists_that_are_no_words() -> None:
    options = {text: option for option in FLAGS["options"] for text in option["strings"]}
    json_lists = {
        text
        for text, option in options.items()
        if option.get("type") == "json" and isinstance(option.get("default"), list)
    }
    assert json_lists == generator.JSON_LISTS
    assert {text for text, option in options.items() if option["action"] == "append"} == generator.REPEATED
    assert next(option["choices"] for option in FLAGS["options"] if "--max-lora-rank" in option["strings"]) == list(
        vllm.LORA_RANKS
    )


# --- What the roles generate -------------------------------------------------------------------------

EXTRA_ARGS = [
    {},
    {"max-num-seqs": 16, "compilation-config": {"level": 3}, "async-scheduling": None},
    {"compilation-config": {"mode": 3, "cudagraph_mode": "PIECEWISE", "pass_config": {"enable_sp": True}}},
    {
        "compilation_config.mode": 3,
        "compilation_config.cudagraph_mode": "FULL",
        "compilation-config.splitting_ops": None,
    },
    {"compilation-config.pass_config.enable_sp": True, "compilation-config.compile_sizes": [1, 2]},
    {"compilation-config.cudagraph_capture_sizes": [1, 2, 4]},
    {"cudagraph_capture_sizes": [1, 2, 4], "enable_prefix_caching": True},
    {"no-enable-prefix-caching": True, "enable_chunked_prefill": None, "enforce-eager": False},
    {"kv-transfer-config": {"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}},
    {"kv-transfer-config.kv_connector": "LMCacheConnectorV1", "kv-transfer-config.kv_role": "kv_both"},
    {"kv-transfer-config.kv_role": "kv_both", "kv-transfer-config.engine_id": "7"},
    {"speculative-config": {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}},
    {"allowed-origins": ["https://a", "https://b"], "allowed_methods": [], "middleware": ["a.b", "c.d"]},
    {"quantization": "awq_marlin", "dtype": "half", "kv-cache-dtype": "fp8", "block_size": 16, "seed": 7},
    {"swap-space": 0.5, "max-num-batched-tokens": "2k", "cpu-offload-gb": 1.5, "max-log-len": "None"},
    {"enable-auto-tool-choice": True, "tool-call-parser": "hermes", "reasoning-parser": "deepseek_r1"},
    {"limit-mm-per-prompt": {"image": 2}, "limit-mm-per-prompt.video": 0, "hf-overrides": {"rope_theta": 1e6}},
    {"chat-template": "{% for m in messages %}{{ m.content }}{% endfor %}", "response-role": "assistant"},
    {"generation-config": "vllm", "override-generation-config": {"temperature": 0.5}, "disable-log-stats": True},
    {"load-format": "runai_streamer", "model-loader-extra-config": {"concurrency": 16}, "ignore-patterns": ["*.pth"]},
    {"attention-config.backend": "FLASHINFER", "structured-outputs-config.backend": "xgrammar"},
    {"uvicorn-log-level": "warning", "enable-log-requests": True, "enable-log-outputs": True, "max-logprobs": 5},
    {"tokenizer-mode": "mistral", "trust-remote-code": True, "max-cpu-loras": 4, "fully-sharded-loras": None},
    {"additional-config": {"a": [1, {"b": None}]}, "additional-config.c.d": "yes"},
]
SERVERS: list[dict[str, Any]] = [
    {"served_model_name": "mistral", "model_revision": "0123abc", "http_port": 8080},
    {"model": "/models/mistral", "startup_seconds": 60},
    {"lora_enabled": False, "adapter_slots": {}},
    {"max_model_len": 32768, "gpu_memory_utilization": "0.95", "max_loras": 8},
    *({"max_lora_rank": rank} for rank in vllm.LORA_RANKS),
    *(
        {
            "tensor_parallel_size": count,
            "shm_size": "4Gi",
            "resources": {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": {"cpu": 4, "memory": "24Gi", GPU: count}},
        }
        for count in (2, 4, 8)
    ),
]


def inventories() -> list[dict[str, Any]]:
    """The variables of each inventory's files, all of one inventory together."""
    found = []
    for inventory in sorted((ROOT / "inventories").iterdir()):
        for kind in ("group_vars", "host_vars"):
            known: dict[str, Any] = {}
            for file in sorted((inventory / kind).rglob("*.yml")):
                known |= yaml.safe_load(file.read_text()) or {}
            found.append(known)
    return found


def _own(known: dict, prefix: str, but: tuple[str, ...]) -> dict:
    return {
        name.removeprefix(prefix): value
        for name, value in known.items()
        if name.startswith(prefix) and name.removeprefix(prefix) not in but and "{{" not in str(value)
    }


@pytest.fixture
def vllm_lines(vllm, judge) -> list[list[str]]:
    """The arguments of vLLM and the judge, over inventories and variables, with and without adapters."""
    found = []
    for given in [*SERVERS, *({"extra_args": extra} for extra in EXTRA_ARGS)]:
        server, lines = vllm(**given)
        assert [line for line in lines if "does not fit" not in line] == []
        found.append(server["arguments"])
    for known in inventories():
        judge_given = _own(known, "vllm_judge_", ("variant", "variants", "parked"))
        if known.get("vllm_judge_variant", "none") != "none":
            found.append(
                judge(known["vllm_judge_variant"], known.get("vllm_judge_variants"), **judge_given)[0][0]["arguments"]
            )
        own = {key: value for key, value in _own(known, "vllm_", ("enabled",)).items() if not key.startswith("judge_")}
        found.append(vllm(**own)[0]["arguments"])
    for variant, extra in itertools.product(("judge", "judge-large"), EXTRA_ARGS[:3]):
        found.append(judge(variant, extra_args=extra)[0][0]["arguments"])
    # start.sh adds these at the end.
    path = "/mnt/adapters"
    modules = [f"{slot}={path}/{slot}" for slot in ("aws-rag-qa-live", "aws-rag-qa-candidate")]
    with_adapters = [[*line, "--lora-modules", *modules[:count]] for line in found for count in (1, 2)]
    return [list(line) for line in dict.fromkeys(map(tuple, found + with_adapters))]


def test_vllm_itself_accepts_what_the_roles_generate(vllm_lines) -> None:
    known = {json.dumps(one["line"]): one["status"] for one in VERDICTS}
    said = {json.dumps(line): known.get(json.dumps([str(word) for word in line])) for line in vllm_lines}
    missing = [json.loads(line) for line, status in said.items() if status is None]
    if missing:
        file = ROOT / ".local/vllm-lines.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(missing))
    ask = "vLLM was not asked about yet: tests/vllm_flags/ask .local/vllm-lines.json"
    assert not missing, f"{len(missing)} command lines that {ask}"
    assert [line for line, status in said.items() if status != 0] == []
    assert [line for line in vllm_lines if vllm_says(line) != (0, "")] == []


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        (
            {"max-num-sequences": 1},
            "vLLM 0.14.1 has no flag --max-num-sequences: unknown, did you mean '--max-num-seqs'?",
        ),
        ({"gpu-memory-utilisation": 0.9}, "did you mean '--gpu-memory-utilization'?"),
        ({"gpu-memory": 0.99}, "--gpu-memory-utilization has a variable of its own"),
        ({"-tp": 2}, "--tensor-parallel-size has a variable of its own"),
        ({"api-k": "abc"}, "vllm_extra_args.api-k is (hidden): would be in the rendered files"),
        ({"kv-cache-dtype": "fp9"}, "argument --kv-cache-dtype: invalid choice: 'fp9'"),
        ({"max-num-seqs": "many"}, "argument --max-num-seqs: invalid int value: 'many'"),
        (
            {"trust-remote-code": "true"},
            "argument --trust-remote-code/--no-trust-remote-code: ignored explicit argument 'true'",
        ),
        ({"tokenizer": None}, "argument --tokenizer: expected one argument"),
        ({"compilation-config.mod": 3}, "argument --compilation-config/-cc: 1 validation error"),
        (
            {"compilation-config": {"pass_config": {"enable": 1}}},
            "argument --compilation-config/-cc: 1 validation error",
        ),
        ({"max-num-seqs": True}, "argument --max-num-seqs: expected one argument"),
        ({"enable-auto-tool-choice": True}, "requires --tool-call-parser"),
        ({"enable-prefix-cachin": False, "max-num-sequence": []}, "did you mean '--max-num-seqs'?"),
        ({"max-num-seqs": 8, "max_num_seqs": 16}, "max_num_seqs is 16: is the same flag as max-num-seqs"),
        ({"enable-dbo": True, "no-enable-dbo": None}, "no-enable-dbo is None: is the same flag as enable-dbo"),
        ({"host": "127.0.0.1"}, "no probe would reach the server"),
        ({"uds": "/tmp/socket"}, "no probe would reach the server"),
        ({"ssl-certfile": "/tls/tls.crt"}, "no probe would reach the server"),
        ({"shutdown-timeout": 5}, "vLLM 0.14.1 has no flag --shutdown-timeout"),
    ],
)
def test_a_wrong_extra_argument_is_refused(vllm, extra: dict, told: str) -> None:
    _server, lines = vllm(extra_args=extra)
    assert len(lines) == 1
    assert told in lines[0]


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"enable-prefix-caching": False}, ["--no-enable-prefix-caching"]),
        ({"enforce-eager": False}, []),
        ({"enable-log-deltas": False}, ["--no-enable-log-deltas"]),
        ({"-O": 3}, ["-O=3"]),
        ({"-O3": None}, ["-O3"]),
        ({"O2": True}, ["-O2"]),
        ({"-O.mode": 3, "-cc.cudagraph_mode": "FULL"}, ["-O.mode=3", "-cc.cudagraph_mode=FULL"]),
        ({"host": "0.0.0.0"}, ["--host=0.0.0.0"]),
        ({"headless": False}, []),
        ({"-cc": {"mode": 3}}, ['-cc={"mode":3}']),
        ({"max-num-seq": 16}, ["--max-num-seq=16"]),
        ({"config": "/etc/vllm/more.yaml"}, ["--config", "/etc/vllm/more.yaml"]),
    ],
)
def test_forms_that_vllm_takes(vllm, extra: dict, words: list[str]) -> None:
    server, lines = vllm(extra_args=extra)
    assert lines == []
    assert server["arguments"][6:] == words
    status, said = vllm_says(server["arguments"])
    assert (status, said) == (0, "") or "more.yaml" in said


def test_a_version_without_a_list_is_told(vllm) -> None:
    server, lines = vllm(image="vllm/vllm-openai:v0.99.0", extra_args={"nosuch": 1, "gpu-memory": 0.9, "-tp": 2})
    assert lines == [
        "vllm_extra_args.gpu-memory is 0.9: --gpu-memory-utilization has a variable of its own",
        "vllm_extra_args.-tp is 2: --tensor-parallel-size has a variable of its own",
    ]
    assert any("there is no list for vllm/vllm-openai:v0.99.0" in notice for notice in server["notices"])


# --- What Kubernetes does with $ ---------------------------------------------------------------------


def kubernetes_expands(word: str, known: dict[str, str]) -> str:
    """k8s.io/kubernetes/third_party/forked/golang/expansion, Expand(), letter by letter."""
    out, at = "", 0
    while at < len(word):
        if word[at] != "$" or at + 1 == len(word):
            out, at = out + word[at], at + 1
        elif word[at + 1] == "$":
            out, at = out + "$", at + 2
        elif word[at + 1] == "(" and ")" in word[at:]:
            end = word.index(")", at)
            name = word[at + 2 : end]
            out, at = out + known.get(name, f"$({name})"), end + 1
        else:
            out, at = out + word[at : at + 2], at + 2
    return out


@pytest.mark.parametrize(
    ("word", "arrives"),
    [
        ("a$b $HOME ${X} $", "a$b $HOME ${X} $"),
        ("$$", "$$"),
        ("$$$", "$$$"),
        ("^a$$|b$", "^a$$|b$"),
        ("$(NAME)", "value"),
        ("$$$(NAME)", "$$value"),
        ("$$(NAME)", "$(NAME)"),
        ("$(OTHER) $( $() $(a b)", "$(OTHER) $( $() $(a b)"),
        ("$$(a b)", "$$(a b)"),
    ],
)
def test_a_word_arrives_as_it_was_written(vllm, triton, word: str, arrives: str) -> None:
    known = {"NAME": "value"}
    assert kubernetes_expands(expansion.kept(word), known) == arrives
    assert expansion.expanded(word, known) == arrives
    server, lines = vllm(extra_args={"chat-template": f"{{{{ {word} }}}}"}, env=known)
    assert lines == []
    assert kubernetes_expands(server["arguments"][-1], known) == f"--chat-template={{{{ {arrives} }}}}"
    (server,), lines = triton(["cpu"], extra_args=[f"--id={word}"], env=known)
    assert lines == []
    assert kubernetes_expands(server["arguments"][-1], known) == f"--id={arrives}"


def test_a_variable_in_a_flag_is_checked_as_far_as_it_is_known(vllm) -> None:
    secret = {"name": "SEQS", "valueFrom": {"configMapKeyRef": {"name": "a", "key": "b"}}}
    assert vllm(extra_args={"max-num-seqs": "$(SEQS)"}, env={"SEQS": "8"})[1] == []
    told = vllm(extra_args={"max-num-seqs": "$(SEQS)"}, env={"SEQS": "many"})[1]
    assert ["invalid int value: 'many'" in line for line in told] == [True]
    told = vllm(extra_args={"max-num-seqs": "$(SEQS)"})[1]
    assert ["invalid int value: '$(SEQS)'" in line for line in told] == [True]
    server, lines = vllm(extra_args={"max-num-seqs": "$(SEQS)", "seed": 1}, extra_env=[secret])
    assert lines == []
    assert "--max-num-seqs=$(SEQS)" in server["arguments"]
    assert any("vllm_extra_args.max-num-seqs was not checked" in notice for notice in server["notices"])


# --- Triton ------------------------------------------------------------------------------------------


def test_tritons_parser_accepts_what_the_role_generates(triton) -> None:
    found = []
    for known in inventories():
        given = _own(known, "triton_", ("enabled_profiles", "profiles"))
        servers, lines = triton(
            known.get("triton_enabled_profiles", ["cpu", "gpu"]), known.get("triton_profiles"), **given
        )
        assert [line for line in lines if "hardware_profile" not in line] == []
        found += servers
    for given in (
        {"model_control_mode": "none"},
        {"model_control_mode": "poll", "extra_args": ["--repository-poll-secs=30"]},
        {"models": ["*"], "model_repository": "/models"},
        {"models": ["a", "b-c", "d.e"], "model_repository": "gs://models/x"},
        {"http_port": 8010, "grpc_port": 8011, "metrics_port": 8012, "exit_timeout_seconds": 5},
        {"extra_args": ["--log-verbose=1", "--backend-config=python,stub = $(A) 'b'", "--strict-readiness", "false"]},
        {"extra_args": ["--model-load-retry-count=3", "--cuda-memory-pool-byte-size=0:67108864"]},
        {"extra_args": ["--http-restricted-api=model-repository:admin-key=x", "--rate-limit=execution_count"]},
    ):
        servers, lines = triton(["cpu"], **given)
        assert lines == []
        found += servers
    for server in found:
        assert server["arguments"][0] == "tritonserver"
        parsed = tritonserver.parse(server["arguments"][1:])
        assert parsed.http[1] == server["http_port"]
        assert parsed.grpc[1] == server["grpc_port"]
        assert parsed.metrics[1] == server["metrics_port"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model-repositry=/m"], "not recognized"),
        (["--http-port"], "requires argument"),
        (["--http-port=http"], 'Bad option: "--http-port".\nInvalid option value. Got http'),
        (["--http-port=99999999999"], "out of bound"),
        (["--strict-readiness=yes"], "invalid value for bool option: yes"),
        (["--model-control-mode=explict"], "invalid argument for --model-control-mode"),
        (["--disable-auto-complete-config=true"], "must not have an argument"),
        (["--grpc"], "not a unique prefix"),
        (["--backend-config=python"], "option format is"),
        (["--cuda-memory-pool-byte-size=1"], "incorrect number of inputs"),
        (["--http-restricted-api=nosuch:a=b"], "unknown restricted api 'nosuch'"),
        (["--rate-limit-resource=a"], "option format is"),
        (["extra"], "Unexpected argument: extra"),
        (["--http-port=8001"], "address and port 0.0.0.0:8001"),
        (["--grpc-infer-thread-count=1"], "out of range"),
    ],
)
def test_tritons_parser_refuses(words: list[str], told: str) -> None:
    with pytest.raises(tritonserver.ParseError) as refused:
        tritonserver.parse(["--model-repository=/models", *words])
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--http-port=9000"], "args.0 is '--http-port=9000': --http-port has a variable of its own, triton_http_port"),
        (["--id=a", "--http-po", "9000"], "args.1 is '--http-po': --http-port has a variable of its own"),
        (["--model-control-mode=none"], "triton_model_control_mode"),
        (["--load-model=x"], "triton_models"),
        (["--exit-timeout-secs=3"], "triton_exit_timeout_seconds"),
        (
            ["--log-verbos=1", "--log-verbosity=1"],
            "args.1 is '--log-verbosity=1': Triton 25.11 has no option --log-verbosity: unknown, did you mean '--log-verbose'?",
        ),
        (["--no-such-flag"], "Triton 25.11 has no option --no-such-flag"),
        (["--log-verbose 1"], "is one word for Triton: write --log-verbose=1"),
        (["--log-verbose"], "Triton 25.11 refuses it: option --log-verbose requires argument"),
        (["--strict-readiness=yes"], 'Bad option: "--strict-readiness". invalid value for bool option: yes'),
        (["serve"], "Unexpected argument: serve"),
        (["--allow-http=false"], "no probe would reach the server"),
        (["--http-address=127.0.0.1"], "no probe would reach the server"),
        (["--http-restricted-api=metadata,health:key=x"], "no probe would reach the server"),
        (["--help"], "Triton would print its options and end"),
    ],
)
def test_a_wrong_argument_of_tritons_is_refused(triton, words: list[str], told: str) -> None:
    _servers, lines = triton(["cpu"], extra_args=words)
    assert len(lines) == 1
    assert lines[0].startswith("triton_extra_args.")
    assert told in lines[0]


def test_every_wrong_argument_of_tritons_is_named(triton) -> None:
    _servers, lines = triton(
        ["cpu"], extra_args=["--nosuch=1", "--http-port=1", "--strict-readiness=yes", "--more", "7", "x"]
    )
    assert [line.partition(" is ")[0] for line in lines] == [f"triton_extra_args.{index}" for index in (0, 1, 2, 3, 5)]


def test_another_repository_of_tritons_is_one_that_it_reads(triton) -> None:
    (server,), lines = triton(["cpu"], extra_args=["--model-repository=s3://more/a", "--model-store", "/models"])
    assert lines == []
    assert server["reads"] == ["s3://my-triton-models", "s3://more/a", "/models"]


def test_a_triton_without_a_list_is_told(triton) -> None:
    own = {"image": "nvcr.io/nvidia/tritonserver:24.08-py3"}
    (server,), lines = triton(["cpu"], **own, extra_args=["--no-such-flag=1", "--log-verbose=x"])
    assert lines == []
    assert any("there is no list for nvcr.io/nvidia/tritonserver:24.08-py3" in notice for notice in server["notices"])
    lines = triton(["cpu"], **own, extra_args=["--no-such-flag", "--metrics-port", "9000"])[1]
    assert ["triton_metrics_port" in line for line in lines] == [True]
    assert not any("no list" in notice for notice in triton(["cpu"], **own)[0][0]["notices"])


def test_the_list_is_that_of_the_triton_that_the_role_deploys(triton) -> None:
    (server,), _lines = triton(["cpu"])
    assert triton_flags.version_of(server["image"]) == triton_flags.LISTED
    assert triton_flags.known(triton_flags.LISTED) == tritonserver.FLAGS["options"]


def test_tritons_forms_of_writing() -> None:
    parsed = tritonserver.parse(
        [
            "--model-rep",
            "/a",
            "--model-store=/b",
            "--load-model=x",
            "--load-model",
            "y",
            "--http-port=8010x",
            "--exit-t=5",
        ]
    )
    assert (parsed.repositories, parsed.models, parsed.http[1], parsed.exit_timeout) == (
        ["/a", "/b"],
        ["x", "y"],
        8010,
        5,
    )
