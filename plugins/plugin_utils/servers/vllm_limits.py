"""Foresees what vLLM refuses by itself: lengths, ways of sharing a model, GPUs without a kernel; never computes a size.

What it refuses is read from vLLM 0.14.1; where a rule stands there is beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers.layers import SLIDING
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.model import Model
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# Compute capabilities, as 75 for 7.5.
CAPABILITY = {
    "V100": 70,
    "T4": 75,
    "T4G": 75,
    "A100": 80,
    "A10G": 86,
    "A10": 86,
    "L4": 89,
    "L40S": 89,
    "H100": 90,
    "H200": 90,
    "B200": 100,
    "B300": 103,
    "RTX PRO 6000": 120,
    "RTX PRO 4500": 120,
}
# config/model.py, _FLOAT16_NOT_SUPPORTED_MODELS
NO_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "plamo2", "glm4")
HALF = ("half", "float16")
LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
# Kernels for Turing (Marlin) came with it; before, fp8 needed 8.0.
TURING_FP8_SINCE = (0, 14)


def capability(pool: Mapping) -> int:
    """Tell the compute capability of a hardware profile's GPUs; 0 for unknown."""
    kind = str(pool.get("gpu_type") or "").upper().replace("-", " ").removeprefix("NVIDIA ")
    return next((found for name, found in CAPABILITY.items() if f"{kind} ".startswith(f"{name} ")), 0)


def element_bits(found_dtype: str, kind: str, dtype: str, capable: int) -> int:
    """Tell the bits of a number at the data type that vLLM takes (config/model.py, _resolve_auto_dtype).

    Args:
        found_dtype: of the model's files.
        kind: the model's ``model_type``.
        dtype: what vLLM is told (``--dtype``).
        capable: the GPU's compute capability; 0 for unknown.
    """
    # Without bfloat16, a model that takes no float16 either is left at 32 bits.
    alone = dtype == "auto" and 0 < capable < 80 and kind in NO_FLOAT16 and found_dtype != "float16"
    return 32 if alone or dtype in ("float", "float32") else 16


def check(settings: Settings, found: Model, pool: Mapping, values: argparse.Namespace, version: tuple) -> None:
    """Note what vLLM refuses.

    Args:
        settings: of the server.
        found: its model.
        pool: its hardware profile.
        values: its command line as vLLM reads it.
        version: of vLLM, as ``(0, 14)``; empty for unknown.
    """
    if isinstance(values.max_model_len, int) and values.max_model_len > 0:
        _check_positions(settings, found, values)
    _check_shares(settings, found, values)
    _check_parallel(settings, found, values)
    _check_loras(settings, values)
    if capable := capability(pool):
        _check_generation(settings, found, pool, values, capable, version)


def _check_positions(settings: Settings, found: Model, values: argparse.Namespace) -> None:
    """See config/model.py, _get_and_verify_max_len."""
    environment = {**settings["env"], **{item.get("name"): item.get("value") for item in settings["extra_env"]}}
    allowed = str(environment.get(LONG, "0")).lower() in ("1", "true")
    longest, why = found.positions, "max_position_embeddings, with its rope scaling"
    if values.disable_sliding_window and SLIDING in found.attention and 0 < found.window < longest:
        longest, why = found.window, "its sliding window, which --disable-sliding-window makes the limit"
    if longest and values.max_model_len > longest and not allowed:
        settings.foresee(
            "length",
            settings["max_model_len"],
            f"{settings['model']} takes {longest} tokens ({why}); for more give rope parameters in --hf-overrides, "
            f"or set {LONG} in {settings.path('env')}",
            "max_model_len",
        )


def _check_shares(settings: Settings, found: Model, values: argparse.Namespace) -> None:
    """See ModelConfig.verify_with_parallel_config, the models' attention, and the quantizations' create_weights."""
    tensor = values.tensor_parallel_size

    def hinders(count: int) -> str:
        if found.heads % count:
            return f"{found.heads} attention heads"
        if found.kv_heads % count and count % found.kv_heads:
            return f"{found.kv_heads} heads of keys and values"
        for what, size, multiple in found.shares:
            if count == 1 or (what == "width of experts" and values.enable_expert_parallel):
                continue
            if size % count:
                return f"an {what} of {size}" if what[0] in "aeiou" else f"a {what} of {size}"
            if size // count % multiple:
                return f"{what} {size}, quantized in groups of {multiple} ({found.quantized})"
        return ""

    if what := hinders(tensor):
        fitting = [str(count) for count in (1, 2, 4, 8, 16) if not hinders(count)]
        settings.foresee(
            "parallel",
            settings["tensor_parallel_size"],
            f"{settings['model']} has {what}, which {tensor} GPUs can't share; {', '.join(fitting)} can",
            "tensor_parallel_size",
        )


def _check_parallel(settings: Settings, found: Model, values: argparse.Namespace) -> None:
    if values.pipeline_parallel_size > len(found.attention):
        settings.foresee(
            "parallel",
            values.pipeline_parallel_size,
            f"{settings['model']} has {len(found.attention)} layers",
            "extra_args",
            "pipeline-parallel-size",
        )
    if values.enable_expert_parallel and not any(part.split == "experts" for part in found.parts):
        settings.foresee(
            "parallel", True, f"{settings['model']} has no experts", "extra_args", "enable-expert-parallel"
        )


def _check_loras(settings: Settings, values: argparse.Namespace) -> None:
    """See config/lora.py."""
    if values.enable_lora and values.max_cpu_loras is not None and values.max_cpu_loras < values.max_loras:
        settings.foresee(
            "memory",
            values.max_cpu_loras,
            f"must be at least {settings.path('max_loras')}, {values.max_loras}",
            "extra_args",
            "max-cpu-loras",
        )


def _check_generation(
    settings: Settings, found: Model, pool: Mapping, values: argparse.Namespace, capable: int, version: tuple
) -> None:
    kind = str(pool["gpu_type"])
    card = f"{'an' if kind[0] in 'AHLR' else 'a'} {kind}"
    least = found.capability
    if found.quantized == "fp8" and version < TURING_FP8_SINCE:
        least = max(least, 80)
    if capable < least:
        needs = f"{found.quantized} needs compute capability {least / 10}, and {card} has {capable / 10}"
        settings.foresee(
            "generation", settings["model"], f"{needs}: choose another quantization, or another GPU", "model"
        )
    elif found.quantized == "fp8" and capable < 80:
        settings.notices.append(
            f"{settings['name']}: {card} runs fp8 since vLLM 0.14, with weights that are expanded for each step"
        )
    if found.sparse and capable // 10 not in (9, 10):
        # v1/attention/backends/mla/flashmla_sparse.py
        settings.foresee(
            "generation", settings["model"], f"its sparse attention needs an H100 or newer, and {card} is none", "model"
        )
    dtype = str(values.dtype)
    if capable < 80 and dtype == "bfloat16":
        # platforms/cuda.py, check_if_supports_dtype; with auto it falls back to float16.
        settings.foresee(
            "generation", dtype, f"{card} has no bfloat16: leave it out, or set float16", "extra_args", "dtype"
        )
    if dtype in HALF and found.kind in NO_FLOAT16:
        settings.foresee(
            "generation", dtype, f"vLLM runs {found.kind} in bfloat16 or float32 alone", "extra_args", "dtype"
        )
    if found.quantized == "mxfp4" and dtype not in ("auto", "bfloat16"):
        settings.foresee("generation", dtype, "vLLM runs mxfp4 in bfloat16 alone", "extra_args", "dtype")
    _check_plain(settings, found, values, capable)


def _check_plain(settings: Settings, found: Model, values: argparse.Namespace, capable: int) -> None:
    """Refuse a kernel for float16 alone where the model is in bfloat16 (awq.py, gptq.py, get_supported_act_dtypes)."""
    dtype = found.dtype if values.dtype == "auto" else values.dtype
    if values.quantization in ("awq", "gptq") and dtype == "bfloat16" and capable >= 80:
        allowed = f"takes float16 alone, and the model is in bfloat16: leave it out (then it is {values.quantization}_marlin), or set --dtype=float16"
        settings.foresee("generation", values.quantization, allowed, "extra_args", "quantization")
