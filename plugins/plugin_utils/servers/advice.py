"""Says what would let a model start that does not fit; never judges whether it does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import instances, memory, vllm_limits
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.model import Model

# Of one node: no pod has more.
NODE_GPUS = 8


def of(found: Model, run: memory.Engine) -> str:
    """Say what would fit for certain.

    Args:
        found: the model.
        run: how vLLM runs it.

    Returns:
        a sentence: each way alone is enough.
    """

    def fits(**changes: Any) -> bool:
        return memory.fit(found, replace(run, **changes)).verdict == memory.FITS

    ways = []
    least, most = 0, run.length
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fits(length=middle) else (least, middle)
    if least >= 1024:
        ways.append(f"max_model_len up to {least // 256 * 256}")
    share = next((step / 100 for step in range(int(run.utilization * 100) + 1, 96) if fits(utilization=step / 100)), 0)
    if share:
        ways.append(f"gpu_memory_utilization from {share}")
    if run.cache_bits == 16 and fits(cache_bits=8):
        ways.append("an fp8 cache (kv-cache-dtype)")
    tensor = next(
        (
            run.tensor * times
            for times in (2, 4, 8)
            if run.tensor * times <= NODE_GPUS
            and found.heads % (run.tensor * times) == 0
            and fits(tensor=run.tensor * times)
        ),
        0,
    )
    if tensor:
        ways.append(f"{tensor * run.pipeline * run.data} GPUs")
    if node := _instance_type(found, run):
        ways.append(f"all GPUs of a {node}")
    return f"It would fit with {', or '.join(ways)}" if ways else "No instance type that is known is large enough"


def _instance_type(found: Model, run: memory.Engine) -> str:
    """Name the cheapest instance type whose GPUs together hold the model as it is to be run; an empty text for none."""
    tried: dict[tuple, bool] = {}
    priced = [item for item in instances.known().items() if item[1].get("price_per_hour")]
    for name, kind in sorted(priced, key=lambda item: item[1]["price_per_hour"]):
        count, card = kind.get("gpus", 0), kind.get("gpu_type")
        shared = count and found.heads % count == 0 and (found.kv_heads % count == 0 or count % found.kv_heads == 0)
        if not shared or vllm_limits.capability(kind) < max(found.capability, 1):
            continue
        key = (count, card)
        if key not in tried:
            size = kind["gpu_memory_gib"] * GIB
            changed = replace(run, gpu_bytes=size, tensor=count, pipeline=1, data=1, a100=card == "A100")
            tried[key] = memory.fit(found, changed).verdict == memory.FITS
        if tried[key]:
            return name
    return ""
