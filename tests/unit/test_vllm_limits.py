"""What vLLM 0.14.1 refuses by itself, foreseen: each rule is that of its source."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm_limits

GPU = "nvidia.com/gpu"
FACTS = {
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}
OWN = {"model": "org/own", "adapter_base_models": ["org/own"], "max_model_len": 2048}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}


def tensors(**weights: Any) -> dict:
    """A quantization of compressed-tensors."""
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group": {"targets": ["Linear"], "weights": weights}},
    }


def refusals(vllm: Any, platform: dict, facts: dict, card: str = "H100", gpus: int = 1, **given: Any) -> str:
    """What is wrong with a server of so many GPUs, each large enough; without what is said of memory, node and pool."""
    pool = platform["hardware_profiles"]["gpu-vllm"]
    allocatable = {"cpu": "190", "memory": "1900Gi"}
    changed = {"gpu_type": card, "gpu_memory_gib": 1000, "gpus": gpus, "allocatable": allocatable}
    platform["hardware_profiles"]["gpu-vllm"] = {**pool, **changed}
    limits = {"cpu": 8, "memory": "32Gi", GPU: gpus}
    resources = {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": limits}
    more = {"shm_size": "2Gi", "tensor_parallel_size": gpus, "cache": {"type": "claim", "size": "1Ti"}}
    server, lines = vllm(**{**OWN, "model_config": {**FACTS, **facts}, "resources": resources, **more, **given})
    return " | ".join([*lines, *(line for line in server["notices"] if card in line)])


def flags(**given: Any) -> dict:
    return {"extra_args": {name.replace("_", "-"): value for name, value in given.items()}}


# --- Sharing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gpus", "facts", "given", "line"),
    [
        (3, {}, {}, "has 32 attention heads, which 3 GPUs can't share; 1, 2, 4, 8, 16 can"),
        (6, {"num_attention_heads": 48, "num_key_value_heads": 4}, {}, "4 heads of keys and values"),
        (8, {"num_attention_heads": 64, "num_key_value_heads": 4}, {}, ""),
        (16, {}, {}, ""),
        (8, {"intermediate_size": 14340}, {}, "an intermediate size of 14340"),
        # Qwen2.5-VL-72B-AWQ and InternVL3-78B-AWQ (vllm#21695): 231 groups.
        (2, {"intermediate_size": 29568, "quantization_config": AWQ}, {}, "intermediate size 29568, quantized in groups of 128 (awq), which 2 GPUs can't share; 1 can"),
        (2, {"intermediate_size": 29568}, {}, ""),
        (8, {"intermediate_size": 29696, "quantization_config": AWQ}, {}, ""),
        (2, {"intermediate_size": 29568, "quantization_config": {**AWQ, "modules_to_not_convert": ["mlp"]}}, {}, ""),
        (2, {"intermediate_size": 29568, "quantization_config": tensors(**INT4)}, {}, "groups of 128 (compressed-tensors)"),
        (2, {"intermediate_size": 29568, "quantization_config": tensors(num_bits=8, type="float")}, {}, ""),
        (2, {"intermediate_size": 14400, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, {}, "groups of 128 (fp8)"),
        (2, {"intermediate_size": 14400, "quantization_config": {"quant_method": "fp8"}}, {}, ""),
        (1, flags(enable_expert_parallel=True), {}, ""),
    ],
)  # fmt: skip
def test_sharing(vllm: Any, platform: dict, gpus: int, facts: dict, given: dict, line: str) -> None:
    found = refusals(vllm, platform, facts, gpus=gpus, **given)
    assert line in found if line else found == ""


def test_blocks_of_experts_can_be_spread_whole(vllm: Any, platform: dict) -> None:
    # 1536 / 8 is no multiple of 128.
    large = {"model": "Qwen/Qwen3-235B-A22B-FP8", "model_config": ""}
    told = refusals(vllm, platform, {}, gpus=8, **large)
    assert "width of experts 1536, quantized in groups of 128 (fp8), which 8 GPUs can't share; 1, 2, 4 can" in told
    assert refusals(vllm, platform, {}, gpus=8, **large, **flags(enable_expert_parallel=True)) == ""
    assert refusals(vllm, platform, {}, gpus=4, **large) == ""


def test_expert_parallel_needs_experts(vllm: Any, platform: dict) -> None:
    assert "has no experts" in refusals(vllm, platform, {}, gpus=2, **flags(enable_expert_parallel=True))


def test_adapters_in_the_hosts_memory(vllm: Any, platform: dict) -> None:
    told = refusals(vllm, platform, {}, max_loras=8, **flags(max_cpu_loras=4))
    assert "must be at least vllm_max_loras, 8" in told


# --- Length ------------------------------------------------------------------------------------------

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("length", "facts", "given", "line"),
    [
        (8192, {}, {}, ""),
        (8193, {}, {}, "takes 8192 tokens"),
        (32768, {"rope_scaling": YARN}, {}, ""),
        (32769, {"rope_scaling": YARN}, {}, "takes 32768 tokens"),
        (16384, {"rope_scaling": {"type": "linear", "factor": 2.0}}, {}, ""),
        # Its positions are those after scaling.
        (8193, {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, {}, "takes 8192 tokens"),
        (8193, {"rope_scaling": {"type": "longrope", "long_factor": [1.0]}}, {}, "takes 8192 tokens"),
        (8192, {"model_max_length": 131072, "max_position_embeddings": 4096}, {}, ""),
        (32768, {}, flags(hf_overrides={"rope_scaling": YARN}), ""),
        (32769, {}, flags(hf_overrides={"rope_scaling": YARN}), "takes 32768 tokens"),
        (8192, {"sliding_window": 4096}, flags(disable_sliding_window=True), "takes 4096 tokens (its sliding window"),
        (8192, {"sliding_window": 4096}, {}, ""),
        (9000, {}, {"env": {"VLLM_ALLOW_LONG_MAX_MODEL_LEN": "1"}}, ""),
        (9000, {"max_position_embeddings": None}, {}, ""),
    ],
)
def test_length(vllm: Any, platform: dict, length: int, facts: dict, given: dict, line: str) -> None:
    found = refusals(vllm, platform, facts, max_model_len=length, **given)
    assert line in found if line else found == ""


# --- GPUs ----------------------------------------------------------------------------------------------

GEMMA = {"model_type": "gemma3_text", "head_dim": 128, "sliding_window": 1024}


@pytest.mark.parametrize(
    ("card", "facts", "given", "line"),
    [
        ("T4", {}, {}, ""),
        ("T4", {"torch_dtype": "bfloat16"}, {}, ""),
        ("T4", {}, flags(dtype="bfloat16"), "a T4 has no bfloat16: leave it out, or set float16"),
        ("V100", {"quantization_config": AWQ}, {}, "awq needs compute capability 7.5, and a V100 has 7.0"),
        ("V100", {"quantization_config": {**AWQ, "quant_method": "gptq"}}, {}, ""),
        ("T4", {"quantization_config": AWQ}, {}, ""),
        ("T4", {"quantization_config": {"quant_method": "fp8"}}, {}, "a T4 runs fp8 since vLLM 0.14"),
        ("T4", {"quantization_config": {"quant_method": "fp8"}}, {"image": "vllm/vllm-openai:v0.11.0"}, "fp8 needs compute capability 8.0, and a T4 has 7.5"),
        ("T4", {"quantization_config": tensors(num_bits=8, type="float")}, {}, "compressed-tensors needs compute capability 8.0"),
        ("V100", {"quantization_config": {"quant_method": "fp8"}}, {}, "fp8 needs compute capability 7.5"),
        ("A10G", {"quantization_config": {"quant_method": "fp8"}}, {}, ""),
        ("A10G", {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, {}, "modelopt needs compute capability 8.9"),
        ("L4", {"quantization_config": {"quant_method": "modelopt", "quant_algo": "FP8"}}, {}, ""),
        ("A10G", {"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4"}}, {}, ""),
        ("T4", {"quantization": "mxfp4"}, {}, "mxfp4 needs compute capability 8.0"),
        ("A100", {"quantization": "mxfp4"}, {}, ""),
        ("A100", {"quantization": "mxfp4"}, flags(dtype="float16"), "vLLM runs mxfp4 in bfloat16 alone"),
        ("T4", {}, flags(kv_cache_dtype="fp8"), ""),
        ("A10G", GEMMA, flags(dtype="half"), "vLLM runs gemma3_text in bfloat16 or float32 alone"),
        ("A10G", GEMMA, {}, ""),
        ("A10G", {"torch_dtype": "bfloat16", "quantization_config": AWQ}, flags(quantization="awq"), "takes float16 alone, and the model is in bfloat16"),
        ("A10G", {"torch_dtype": "float16", "quantization_config": AWQ}, flags(quantization="awq"), ""),
        ("A10G", {"torch_dtype": "bfloat16", "quantization_config": AWQ}, {}, ""),
        ("A100", {"index_topk": 2048}, {}, "its sparse attention needs an H100 or newer, and an A100 is none"),
        ("H200", {"index_topk": 2048}, {}, ""),
        ("no-such-card", {"quantization_config": AWQ}, {}, ""),
    ],
)  # fmt: skip
def test_what_a_gpu_lacks(vllm: Any, platform: dict, card: str, facts: dict, given: dict, line: str) -> None:
    found = refusals(vllm, platform, facts, card=card, **given)
    assert line in found if line else found == ""


def test_a_model_that_takes_no_float16_is_twice_as_large_on_a_t4(vllm: Any, platform: dict) -> None:
    pool = platform["hardware_profiles"]["gpu-vllm"]

    def size(card: str, **given: Any) -> float:
        platform["hardware_profiles"]["gpu-vllm"] = {**pool, "gpu_type": card, "gpu_memory_gib": 1000}
        return vllm(**OWN, model_config={**FACTS, **GEMMA}, **given)[0]["sizing"]["weights_bytes"]

    assert size("T4") == size("L4", **flags(dtype="float32")) == pytest.approx(2 * size("L4"))


@pytest.mark.parametrize(
    ("card", "capability"),
    [("T4", 75), ("A100-80GB", 80), ("NVIDIA-A10G", 86), ("RTX-PRO-6000", 120), ("A1000", 0), ("MI300X", 0), (None, 0)],
)
def test_the_generation_of_a_gpu(card: str | None, capability: int) -> None:
    assert vllm_limits.capability({"gpu_type": card}) == capability
