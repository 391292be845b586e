"""What is said of whether a vLLM server starts: the model, the GPUs, and the flags that decide."""

from __future__ import annotations

import json
from typing import Any

import pytest

GPU = "nvidia.com/gpu"
QWEN = {"model": "Qwen/Qwen2.5-7B-Instruct"}
FACTS = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
LLAMA = {**FACTS, "model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 8192}
OWN = {"model": "org/own", "adapter_base_models": ["org/own"]}


@pytest.fixture
def vllm(vllm: Any) -> Any:
    """A server whose cache holds any model."""
    return lambda **given: vllm(**{"cache": {"size": "2Ti"}, **given})


def gpus(count: int) -> dict:
    """Resources with so many GPUs, on the pool that has them."""
    limits = {"cpu": 32, "memory": "100Gi", GPU: count}
    more = {"hardware_profile": "gpu-vllm-large", "shm_size": "2Gi"} if count > 1 else {}
    return {**more, "resources": {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": limits}}


def told(server: dict) -> str:
    """What could not be checked, or is close."""
    return " ".join(server["notices"])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        # Memory
        ({**QWEN, "max_model_len": 32768, "gpu_memory_utilization": 0.6}, "gpu_memory_utilization is 0.6: Qwen/Qwen2.5-7B-Instruct does not fit its GPUs: the weights need 14.23 GiB"),
        ({**QWEN, "max_model_len": 32768, "gpu_memory_utilization": 0.6}, "It would fit with gpu_memory_utilization from 0."),
        ({"model": "meta-llama/Llama-3.1-70B-Instruct"}, "vllm_model is 'meta-llama/Llama-3.1-70B-Instruct': does not fit its GPUs: the weights need 131."),
        ({"model": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 131072}, "It would fit with max_model_len up to"),
        ({"model": "meta-llama/Llama-3.1-70B-Instruct"}, "of 22.00 GiB on each GPU vLLM takes 19.36 GiB. It would fit with all GPUs of a "),
        ({"gpu_memory_utilization": 0.99}, "leaves 0.22 GiB of each GPU, and CUDA itself takes more: at most 0.97"),
        ({"model": "Qwen/Qwen3-30B-A3B"}, "is 'Qwen/Qwen3-30B-A3B': does not fit"),
        ({"max_loras": 64, "max_lora_rank": 512}, "LoRA buffers"),
        # What vLLM refuses by itself
        ({"max_model_len": 40000}, "TheBloke/Mistral-7B-v0.1-AWQ takes 32768 tokens (max_position_embeddings, with its rope scaling)"),
        ({**QWEN, **gpus(4), "tensor_parallel_size": 3}, "tensor_parallel_size is 3: must equal the number of GPUs, 4"),
        ({**QWEN, **gpus(3), "tensor_parallel_size": 3}, "has 28 attention heads, which 3 GPUs can't share"),
        ({**gpus(4), "tensor_parallel_size": 2, "extra_args": {"pipeline-parallel-size": 4}}, "must equal the number of GPUs, 4 (vllm_resources.limits.nvidia.com/gpu), is 8 with x 4 (pipeline-parallel-size)"),
        ({**gpus(4), "tensor_parallel_size": 1, "extra_args": {"-pp": 4}, "shm_size": "1Gi"}, "must be 2Gi or more where 4 GPUs share a model"),
        # The model's own file
        ({**OWN, "model_config": {**LLAMA, "model_type": "mamba"}}, "vllm_model_config is {'hidden_size': 4096"),
        ({**OWN, "model_config": "models/own.json"}, "vllm_model_config is 'models/own.json': must be a model's config.json, its content or its path: must be an absolute path"),
        ({**OWN, "model_config": "/nowhere/own.json"}, "No such file or directory"),
    ],
)  # fmt: skip
def test_refused(vllm: Any, given: dict, line: str) -> None:
    _server, lines = vllm(**given)
    assert any(line in one for one in lines), lines


@pytest.mark.parametrize(
    "given",
    [
        {"max_model_len": 40000, "env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}},
        {"max_model_len": 32768, "extra_args": {"hf-overrides": {"rope_scaling": {}}}},
        {**gpus(4), "tensor_parallel_size": 2, "extra_args": {"pipeline-parallel-size": 2}},
        {**gpus(4), "tensor_parallel_size": 1, "extra_args": {"data_parallel_size": 4}},
        {**OWN, "model_config": {"text_config": LLAMA, "quantization_config": {"quant_method": "fp8"}}},
        {**OWN, "model_facts": {**FACTS, "weight_bytes": 9e9}},
        {**OWN, "model_config": {**LLAMA, "model_type": "mamba9"}, "model_weight_bytes": 9e9},
        # Eight bits for the weights, or for the cache, make room.
        {"model": "meta-llama/Llama-3.1-8B-Instruct", "max_model_len": 32768, "extra_args": {"quantization": "fp8"}},
    ],
)
def test_accepted(vllm: Any, given: dict) -> None:
    server, lines = vllm(**given)
    assert lines == []
    assert "was not checked" not in told(server)


def test_the_file_of_a_model(vllm: Any, tmp_path: Any) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps({**LLAMA, "num_hidden_layers": 80, "hidden_size": 8192, "intermediate_size": 28672}))
    _server, lines = vllm(**OWN, model_config=str(file))
    assert any("is 'org/own': does not fit" in line for line in lines)
    file.write_text("[]")
    assert any("must hold a dictionary" in line for line in vllm(**OWN, model_config=str(file))[1])


def test_a_given_size_wins(vllm: Any) -> None:
    assert vllm(**OWN, model_config=LLAMA, model_weight_bytes=4e9)[1] == []
    assert any("the weights need 93" in line for line in vllm(**OWN, model_config=LLAMA, model_weight_bytes=1e11)[1])


def test_close_is_a_warning(vllm: Any) -> None:
    server, lines = vllm(**QWEN, max_model_len=32768, gpu_memory_utilization=0.8)
    assert lines == []
    assert "is too close to tell: the weights need 14.2" in told(server)
    assert "It would fit with gpu_memory_utilization from 0.9" in told(server)


def test_what_is_unknown_is_not_checked(vllm: Any) -> None:
    assert (
        "nothing is known of org/other: playbooks/facts.yml shows what to paste; or save its config.json beside the inventory, and set vllm_model_config"
        in told(vllm(model="org/other", startup_seconds=900)[0])
    )
    nightly = {"image": "vllm/vllm-openai:nightly"}
    assert "whether this vLLM takes its flags was not checked" in told(vllm(**nightly)[0])
    assert any("does not fit" in line for line in vllm(**nightly, gpu_memory_utilization=0.2)[1])


def test_a_check_that_is_off_is_a_warning_with_its_reason(vllm: Any) -> None:
    small = {"gpu_memory_utilization": 0.2, "extra_args": {"no-such": True}}
    server, lines = vllm(**small, skip_checks={"memory": "runs since May"})
    assert len(lines) == 1
    assert "vLLM 0.14.1 has no flag --no-such" in lines[0]
    assert "does not fit" in told(server)
    assert "Not refused: vllm_skip_checks.memory says 'runs since May'" in told(server)


def test_a_check_is_turned_off_by_its_name_and_with_a_reason(vllm: Any) -> None:
    _server, lines = vllm(skip_checks={"memroy": "x", "flags": True, "pool": " "})
    assert any("did you mean 'memory'?" in line for line in lines)
    assert sum("must be the reason, in words" in line for line in lines) == 2


def test_a_model_that_proposes_tokens(vllm: Any) -> None:
    def server(**config: Any) -> dict:
        return vllm(**QWEN, max_model_len=2048, extra_args={"speculative-config": config})[0]

    alone = vllm(**QWEN, max_model_len=2048)[0]["sizing"]
    drafted = server(model="Qwen/Qwen2.5-0.5B-Instruct", num_speculative_tokens=3)["sizing"]
    assert drafted["weights_bytes"] - alone["weights_bytes"] == pytest.approx(0.92 * 2**30, rel=0.01)
    assert server(method="ngram", num_speculative_tokens=3, prompt_lookup_max=4)["sizing"] == alone
    unknown = server(method="eagle3", model="org/eagle", num_speculative_tokens=3)
    assert unknown["sizing"]["verdict"] == "too close to tell"
    assert "org/eagle, is not counted: nothing is known of it" in told(unknown)


def test_a_model_for_pictures_that_gets_none(vllm: Any) -> None:
    facts = {**LLAMA, "num_hidden_layers": 24}
    tower = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
    close = {
        **OWN,
        "max_model_len": 4096,
        "model_config": {**facts, "vision_config": tower},
        "gpu_memory_utilization": 0.75,
    }
    assert vllm(**close)[0]["sizing"]["verdict"] == "too close to tell"
    none = {"extra_args": {"limit-mm-per-prompt": {"image": 0, "video": 0}}}
    assert vllm(**close, **none)[0]["sizing"]["verdict"] == "fits"


def test_no_graphs_without_room_for_them(vllm: Any) -> None:
    tight = {"gpu_memory_utilization": 0.96}
    assert "CUDA graphs take up to 1 GiB" in told(vllm(**tight)[0])
    assert "CUDA graphs" not in told(vllm(**tight, extra_args={"enforce-eager": True})[0])


def test_the_sizes_as_data(vllm: Any) -> None:
    sizing = vllm(**QWEN, max_model_len=4096)[0]["sizing"]
    assert (sizing["verdict"], sizing["why"], sizing["gpus"]) == ("fits", "", 1)
    taken = sum(sizing[key] for key in ("weights_bytes", "lora_bytes", "reserve_bytes", "kv_bytes"))
    assert taken == pytest.approx(22 * 2**30 * 0.88)
    assert sizing["requests"] == pytest.approx(sizing["tokens"] / 4096, abs=0.001)
    unknown = vllm(model="org/other", startup_seconds=900)[0]["sizing"]
    assert (unknown["verdict"], unknown["weights_bytes"]) == ("not checked", None)
    assert "nothing is known of org/other" in unknown["why"]
    off = vllm(gpu_memory_utilization=0.2, skip_checks={"memory": "runs since May"})[0]["sizing"]
    assert off["verdict"] == "does not fit"
    assert off["kv_bytes"] == 0


@pytest.mark.parametrize(
    ("given", "flag"),
    [(4096, "4096"), ("32k", "32000"), ("32K", "32768"), ("auto", "auto"), (-1, "auto"), ("0.5k", "500")],
)
def test_the_longest_request_as_vllm_reads_it(vllm: Any, given: object, flag: str) -> None:
    server, lines = vllm(max_model_len=given)
    assert lines == []
    assert f"--max-model-len={flag}" in server["arguments"]


@pytest.mark.parametrize("given", [0, -2, "2.5K", "many", True, None, 2**31])
def test_the_longest_request_is_a_number_of_tokens(vllm: Any, given: object) -> None:
    assert any(
        "must be a number of tokens from 1 to 2147483647 such as 8192 or 32k, or auto" in line
        for line in vllm(max_model_len=given)[1]
    )


def test_what_vllm_chooses_itself_is_no_length_to_count_by(vllm: Any) -> None:
    sizing = vllm(**QWEN, max_model_len="auto")[0]["sizing"]
    assert sizing["verdict"] == "fits"
    assert sizing["tokens"] > 50000
    assert sizing["requests"] is None


@pytest.mark.parametrize("model", ["s3://models/llama-3.1-8b/", "gs://models/llama"])
def test_a_model_in_a_bucket_is_streamed(vllm: Any, model: str) -> None:
    server, lines = vllm(model=model, model_config=LLAMA, adapter_base_models=["org/own"])
    assert lines == []
    assert server["arguments"][0] == model
    assert server["reads"] == [model]
    assert server["sizing"]["verdict"] == "fits"


def test_the_size_of_gguf_is_that_of_its_file(vllm: Any) -> None:
    quant = {**OWN, "model": "org/own-GGUF:Q4_K_M", "model_config": LLAMA, "startup_seconds": 900}
    server, lines = vllm(**quant)
    assert lines == []
    assert "is GGUF: its size is that of one file, to be set in vllm_model_weight_bytes" in told(server)
    assert vllm(**quant, model_weight_bytes=4.9e9)[0]["sizing"]["verdict"] == "fits"


@pytest.mark.parametrize("model", ["s3://", "http://models/llama", "org/own:", "org/own:Q4/x", "gs://Bucket/x"])
def test_no_model(vllm: Any, model: str) -> None:
    assert any("must be a Hugging Face repository such as org/model" in line for line in vllm(model=model)[1])
