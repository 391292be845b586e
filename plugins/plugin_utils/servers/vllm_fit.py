"""Reads from the settings of a vLLM server what decides whether it starts, and words the answer; never computes a size."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import (
    advice,
    hub,
    instances,
    memory,
    model,
    node,
    vllm_limits,
    workload,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.model import Model
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

SHM_TENSOR_PARALLEL_BYTES = 2 * GIB
# Of a GPU, outside what vLLM takes: CUDA's own part, without which vLLM ends at once, and the CUDA graphs (field notes, Sizes).
CONTEXT_BYTES, GRAPHS_BYTES, GRAPHS_INSIDE_SINCE = GIB / 4, GIB, (0, 21)
# Of a plain decoder.
SHORT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
UNCHECKED = "not checked"
# Of one server, as check() gives them.
SIZES = ("gpus", "weights_bytes", "lora_bytes", "reserve_bytes", "kv_bytes", "tokens", "requests")


def known_models() -> dict[str, dict]:
    """Give the facts of the models that the role knows, by name."""
    return specs.catalogue("vllm", "models")


def read_model(settings: Settings, values: argparse.Namespace | None, platform: Mapping, pool: Mapping) -> Model | None:
    """Read the model of a server; None for one of which nothing is known, and for facts that make no size, which are noted."""
    key, config = _described(settings, platform)
    # A GGUF repository has files of several sizes, and its config.json tells none.
    if not config or (_is_gguf(settings["model"]) and not settings["model_weight_bytes"]):
        return None
    quantize = str(getattr(values, "quantization", None) or "")
    overrides = getattr(values, "hf_overrides", None)
    if isinstance(overrides, Mapping):
        config = _merged(config, overrides)
    try:
        given = settings["model_weight_bytes"] or 0
        capable = vllm_limits.capability(pool)
        found = model.read(config, given, quantize, capable=capable)
        bits = vllm_limits.element_bits(found.dtype, found.kind, str(getattr(values, "dtype", "auto")), capable)
        # How a number is kept depends on the model, and on the GPU.
        if bits == 16 and found.dtype != "float32":
            return found
        return model.read(config, given, quantize, bits, capable)
    except model.Unknown as error:
        settings.foresee(
            "memory",
            settings[key] if isinstance(settings[key], str) else dict(config),
            f"can't compute sizes from it: {error}",
            key,
        )
        return None


def _is_gguf(name: object) -> bool:
    text = str(name)
    return text.endswith(".gguf") or (":" in text and "://" not in text)


def _described(settings: Settings, platform: Mapping) -> tuple[str, Any]:
    """Give what is known of a server's model, and the setting that says it; ``""`` where the role itself knows it."""
    key = next((key for key in ("model_config", "model_facts") if settings[key]), "")
    if key == "model_config":
        return key, _config(settings, platform)
    return key, settings[key] if key else known_models().get(settings["model"])


def stored_bytes(settings: Settings, platform: Mapping) -> float:
    """Give the size of a model's files, which is what is downloaded, whatever vLLM makes of them when it loads them.

    Args:
        settings: of a server whose model ``read_model`` has read.
        platform: the platform's variables without their prefix.
    """
    _key, config = _described(settings, platform)
    given = settings["model_weight_bytes"] or 0
    found = model.read(config, given)
    return (model.read(config, given, whole=32) if found.dtype == "float32" else found).weight_bytes


def unknown(settings: Settings) -> str:
    """Say how to describe a model that the role does not know."""
    if _is_gguf(settings["model"]):
        return f"{settings['model']} is GGUF: its size is that of one file, to be set in {settings.path('model_weight_bytes')}"
    keys = ", ".join(f"{key}: N" for key in SHORT)
    return (
        f"nothing is known of {settings['model']}: playbooks/facts.yml shows what to paste; or save its config.json beside the inventory, and set "
        f'{settings.path("model_config")}: "{{{{ inventory_dir }}}}/NAME.json"; '
        f"or give keys of that file, {settings.path('model_facts')}: {{{keys}, quantization: none}}"
    )


def _merged(config: Mapping, over: Mapping) -> dict:
    """Merge as vLLM does --hf-overrides, key by key; what is within text_config there may be meant of a model without."""
    return {
        **config,
        **{
            key: _merged(config[key], value)
            if isinstance(value, Mapping) and isinstance(config.get(key), Mapping)
            else value
            for key, value in over.items()
        },
    }


def _config(settings: Settings, platform: Mapping) -> Any:
    given = settings["model_config"]
    if isinstance(given, Mapping):
        return given
    if str(given).startswith(("https://", "http://")):
        try:
            return hub.fetched(str(given), str(platform["hf_endpoint"]), tuple(platform["proxy"].items()))
        except hub.Unavailable as error:
            if error.status:
                settings.wrong(given, f"can't be read: {error}", "model_config")
            else:
                # A mirror that is away now keeps nobody from deploying.
                settings.notices.append(f"{settings['name']}: {settings.path('model_config')} was not read: {error}")
            return None
    path = Path(str(given))
    try:
        if not path.is_absolute():
            raise ValueError("must be an absolute path, such as {{ inventory_dir }}/models/NAME.json")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("must hold a dictionary")
    except (OSError, ValueError, TypeError) as error:
        settings.wrong(given, f"must be a model's config.json, its content or its path: {error}", "model_config")
        return None
    return found


def _draft(values: argparse.Namespace) -> tuple[Model | None, str]:
    """Give the model that proposes tokens (--speculative-config), and its name where nothing is known of it."""
    given = values.speculative_config
    if not isinstance(given, Mapping) or given.get("method") in ("ngram", "suffix"):
        return None, ""
    name = str(given.get("model") or given.get("method") or "")
    try:
        return model.read(known_models()[name]), ""
    except (KeyError, model.Unknown):
        return None, name


def _pictures(values: argparse.Namespace) -> bool:
    """Tell whether a request may bring pictures or the like (--limit-mm-per-prompt)."""
    limits = values.limit_mm_per_prompt
    return not (isinstance(limits, Mapping) and limits and not any(limits.values()))


def engine(found: Model, pool: Mapping, values: argparse.Namespace, version: str) -> memory.Engine:
    """Say how vLLM runs the model, from its command line as vLLM reads it.

    Args:
        found: the model.
        pool: its hardware profile, with ``gpu_memory_gib``.
        values: its command line, parsed.
        version: of vLLM.
    """
    lora = bool(values.enable_lora)
    length = found.positions if values.max_model_len is None else int(values.max_model_len)
    bits = vllm_limits.element_bits(found.dtype, found.kind, str(values.dtype), vllm_limits.capability(pool))
    return memory.Engine(
        gpu_bytes=float(pool["gpu_memory_gib"]) * GIB,
        utilization=values.gpu_memory_utilization,
        # Without one it is the model's; what vLLM chooses itself (-1) is what there is room for.
        length=max(length, memory.BLOCK),
        tensor=values.tensor_parallel_size,
        pipeline=values.pipeline_parallel_size,
        data=values.data_parallel_size,
        sequences=values.max_num_seqs or 0,
        batched=values.max_num_batched_tokens or 0,
        cache_bits=8 if str(values.kv_cache_dtype).startswith("fp8") else bits,
        loras=values.max_loras if lora else 0,
        rank=values.max_lora_rank if lora else 0,
        sharded=bool(values.fully_sharded_loras),
        draft=_draft(values)[0],
        cache_bytes=values.kv_cache_memory_bytes or 0,
        offload_bytes=(values.cpu_offload_gb or 0) * GIB,
        version=tuple(int(part) for part in version.split(".")[:2] if part),
        a100="A100" in str(pool.get("gpu_type")),
    )


def check(
    settings: Settings, pool: Mapping, found: Model | None, values: argparse.Namespace | None, version: str
) -> dict:
    """Check the model against the GPUs.

    Args:
        settings: of the server; what is wrong, and what could not be checked, is noted there.
        pool: its hardware profile.
        found: its model; None for unknown.
        values: its command line as vLLM reads it; None where that is not known.
        version: of vLLM; ``""`` for unknown.

    Returns:
        what was found, also where the inventory turned the check off: ``verdict`` (``memory``'s, or ``UNCHECKED``), ``why`` in
        words (``""`` for what fits), ``gpus`` of one pod; bytes of each GPU, None for unknown: ``weights_bytes``, ``lora_bytes``,
        ``reserve_bytes`` and ``kv_bytes``, and of the KV cache the ``tokens`` and the ``requests`` of full length that it holds.
    """
    unchecked = f"{settings['name']}: whether the model fits its GPUs was not checked"
    if found is None or values is None or not pool.get("gpu_memory_gib"):
        why = (
            unknown(settings)
            if found is None
            else "its flags could not be read"
            if values is None
            else "the hardware profile gives no gpu_memory_gib"
        )
        settings.notices.append(f"{unchecked}: {why}")
        return {**dict.fromkeys(SIZES), "verdict": UNCHECKED, "why": why}
    if found.vision and not _pictures(values):
        found = replace(found, vision=False)
    run = engine(found, pool, values, version)
    vllm_limits.check(settings, found, pool, values, run.version)
    fit = memory.fit(found, run)
    eager, (_, unread) = bool(values.enforce_eager), _draft(values)
    verdict, why = _check_memory(settings, found, run, fit, eager)
    if unread and verdict == memory.FITS:
        verdict, why = memory.CLOSE, f"the model that proposes tokens, {unread}, is not counted: nothing is known of it"
        settings.notices.append(
            f"{settings['name']}: whether {settings['model']} fits its GPUs was not wholly checked: {why}"
        )
    # What it chooses itself is no full length to count by.
    requests = fit.requests if values.max_model_len != -1 else None
    sizes = (run.gpus, fit.weights, fit.loras, fit.reserve, max(0.0, fit.room), fit.tokens, requests)
    return {**dict(zip(SIZES, sizes, strict=True)), "verdict": verdict, "why": why}


def check_gpus(
    settings: Settings, pool: Mapping, resources: Mapping, parallel: int, values: argparse.Namespace | None
) -> None:
    """Check that the parallel sizes make the pod's GPUs, and that those share memory."""
    count = node.gpus(resources, pool)
    more = {name: getattr(values, f"{name}_parallel_size", None) or 1 for name in ("pipeline", "data")}
    whole = parallel * more["pipeline"] * more["data"]
    if whole != count:
        where = settings.path("resources", "limits", node.gpu_resource(resources, pool))
        others = "".join(f" x {size} ({name}-parallel-size)" for name, size in more.items() if size > 1)
        product = f", is {whole} with{others}" if others else ""
        settings.foresee(
            "parallel",
            settings["tensor_parallel_size"],
            f"must equal the number of GPUs, {count} ({where}){product}",
            "tensor_parallel_size",
        )
    surplus = instances.surplus(pool)
    if surplus:
        settings.notices.append(f"{settings['name']}: {surplus}")
    if whole > 1:
        why = instances.sharing(pool)
        if why:
            settings.foresee("parallel", parallel, f"a model can't be split here: {why}", "tensor_parallel_size")
        shm = workload.amount(settings, "shm_size")
        if shm is not None and shm < SHM_TENSOR_PARALLEL_BYTES:
            settings.wrong(settings["shm_size"], f"must be 2Gi or more where {whole} GPUs share a model", "shm_size")


def _check_memory(
    settings: Settings, found: Model, run: memory.Engine, fit: memory.Fit, eager: bool
) -> tuple[str, str]:
    """Note what does not fit, or may not; give the verdict and what it rests on."""
    outside = run.gpu_bytes * (1 - run.utilization)
    if outside < CONTEXT_BYTES:
        why = f"leaves {_gib(outside)} of each GPU, and CUDA itself takes more: at most {_below(1 - 2 * CONTEXT_BYTES / run.gpu_bytes)}"
        settings.foresee("memory", settings["gpu_memory_utilization"], why, "gpu_memory_utilization")
        return memory.MISFIT, f"{settings.path('gpu_memory_utilization')} {why}"
    if fit.verdict == memory.FITS:
        if not eager and outside < GRAPHS_BYTES and (not run.version or run.version < GRAPHS_INSIDE_SINCE):
            settings.notices.append(
                f"{settings['name']}: {settings.path('gpu_memory_utilization')} leaves {_gib(outside)} of each GPU, and CUDA graphs take up to 1 GiB"
            )
        return memory.FITS, ""
    figures = (
        f"the weights need {_gib(fit.weights)}, "
        + (f"LoRA buffers {_gib(fit.loras)}, " if fit.loras else "")
        + f"the engine about {_gib(fit.reserve)}, and one request of {run.length} tokens {_gib(fit.request)}; "
        + f"of {_gib(run.gpu_bytes)} on each GPU vLLM takes {_gib(run.gpu_bytes * run.utilization)}. {advice.of(found, run)}"
    )
    if fit.verdict == memory.CLOSE:
        settings.notices.append(
            f"{settings['name']}: whether {settings['model']} fits its GPUs is too close to tell: {figures}"
        )
    else:
        # The value that the message names first is one that the operator wrote.
        key = "gpu_memory_utilization" if settings.is_given("gpu_memory_utilization") else "model"
        subject = "" if key == "model" else f"{settings['model']} "
        settings.foresee("memory", settings[key], f"{subject}does not fit its GPUs: {figures}", key)
    return fit.verdict, figures


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def _below(share: float) -> float:
    return int(share * 100) / 100
