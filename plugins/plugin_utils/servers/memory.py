"""Tells whether a model fits the GPUs that vLLM gets: weights, KV cache, LoRA buffers, reserve; never reads a setting.

Where no source stands beside a formula, it is read from vLLM 0.14.1 (v1/core/kv_cache_utils.py, v1/worker/gpu_model_runner.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.layers import FULL, LINEAR, SLIDING
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.model import Model

FITS, CLOSE, MISFIT = "fits", "too close to tell", "does not fit"
# What the sampler's trial keeps of each logit, until 0.18: as 32 bits, sorted, with its place in 64, as a probability, and what
# sorting takes. The published activations of four models on an H100 are 39.0 (0.11; gpu-memory-cases.yml). From 0.19 on
# it no longer sorts: two copies.
SORTED_BYTES, UNSORTED_BYTES, UNSORTED_SINCE = 39, 8, (0, 19)
# Not torch's: CUDA's and NCCL's contexts and buffers, in GiB by the number of GPUs (field notes, Sizes).
OUTSIDE_GIB = {1: (0.13, 0.2, 0.5), 2: (0.3, 0.55, 0.8), 4: (0.5, 2.4, 2.9)}
BLOCK = 16
MANY_SINCE = (0, 9)
# What vLLM prints for the weights is above their sum, by what its allocator rounds up (median of the published cases), and
# how far it may be off either way.
ROUNDED, WEIGHTS_SPREAD = 1.003, 0.015


@dataclass(frozen=True)
class Engine:
    """How vLLM runs a model.

    Attributes:
        gpu_bytes: usable memory of one GPU.
        utilization: the share of it that vLLM takes, 0 to 1.
        length: tokens of the longest request.
        tensor, pipeline, data: GPUs that share each layer, stages of layers, copies of the model.
        experts: whether experts are spread whole over the GPUs (expert parallel); the memory is the same.
        sequences, batched: requests and tokens of one step; 0 for vLLM's default for the GPU.
        cache_bits: of a number in the KV cache.
        loras, rank: LoRA adapters in memory at a time, and their largest rank; 0 for none.
        sharded: whether both sides of LoRA's buffers are split among the GPUs.
        draft: a smaller model that proposes tokens, in the same GPUs; None for none.
        cache_bytes: of each GPU for the KV cache, if vLLM is told, so that it does not measure; 0 for what is left.
        offload_bytes: weights of each GPU that stay in the memory of the host.
        version: of vLLM, as ``(0, 14)``; empty for unknown.
        a100: whether the GPU is one: vLLM's defaults differ.
    """

    gpu_bytes: float
    utilization: float
    length: int
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    experts: bool = False
    sequences: int = 0
    batched: int = 0
    cache_bits: int = 16
    loras: int = 0
    rank: int = 0
    sharded: bool = False
    draft: Model | None = None
    cache_bytes: float = 0
    offload_bytes: float = 0
    version: tuple = ()
    a100: bool = False

    @property
    def gpus(self) -> int:
        """All GPUs of the server."""
        return self.tensor * self.pipeline * self.data

    @property
    def limits(self) -> tuple[int, int]:
        """Requests and tokens of one step; vLLM's defaults are larger from 70 GiB on, but for A100 (arg_utils.py).

        What 0.7 printed on an H100 is 256 requests, what 0.9 did is 1024.
        """
        large = self.gpu_bytes >= 70 * GIB and not self.a100
        many = large and (not self.version or self.version >= MANY_SINCE)
        return self.sequences or (1024 if many else 256), self.batched or (8192 if large else 2048)


@dataclass(frozen=True)
class Fit:
    """Whether it fits; sizes in bytes per GPU.

    Attributes:
        verdict: one of ``FITS``, ``CLOSE``, ``MISFIT``.
        weights, loras, reserve: what is taken before the KV cache gets the rest.
        room: what is left for the KV cache, as expected.
        request: what one request of the full length needs of it.
        tokens: what it holds of them.
        requests: how many requests of the full length fit at a time.
    """

    verdict: str
    weights: float
    loras: float
    reserve: float
    room: float
    request: float
    tokens: int
    requests: float


def stages(layers: int, pipeline: int) -> list[range]:
    """Split layers into the stages of a pipeline: what remains goes to the last but one, and further to the front."""
    sizes = [layers // pipeline] * pipeline
    for place in range(2, layers % pipeline + 2):
        sizes[-place] += 1
    starts = [sum(sizes[:stage]) for stage in range(pipeline)]
    return [range(start, start + size) for start, size in zip(starts, sizes, strict=True)]


def weights(model: Model, engine: Engine) -> float:
    """Compute the weights on the fullest GPU, in bytes.

    Heads of keys and values that are fewer than the GPUs are copied; experts are spread over the copies of the model, too
    (``FusedMoEParallelConfig``).
    """
    shares = {
        "tensor": engine.tensor,
        "key_value": min(engine.tensor, model.kv_heads),
        "experts": engine.tensor * engine.data,
        "none": 1,
    }
    last = engine.pipeline - 1
    scale = model.weight_bytes / sum(part.size for part in model.parts)
    sizes = []
    for stage, layers in enumerate(stages(len(model.attention), engine.pipeline)):
        held = [
            part
            for part in model.parts
            if part.layer in layers or (part.layer == -1 and stage == 0) or (part.layer == -2 and stage == last)
        ]
        sizes.append(sum(part.size / shares[part.split] for part in held) * scale)
    # A draft model is split among the same GPUs, and has no stages.
    draft = weights(engine.draft, replace(engine, pipeline=1, draft=None, offload_bytes=0)) if engine.draft else 0.0
    return max(0.0, max(sizes) * ROUNDED - engine.offload_bytes) + draft


def lora_bytes(model: Model, engine: Engine) -> float:
    """Compute the buffers of LoRA adapters on one GPU: for each of seven matrices of a layer a row in and one out, of every rank.

    Of what is split among GPUs the outer side is, too, and the inner one with ``sharded`` (lora/layers; field notes, Sizes, at one GPU).
    """
    width = model.widths
    split = 2 * width["query"] + 2 * width["key_value"] + 3 * width["mlp"]
    layer = 7 * width["hidden"] / (engine.tensor if engine.sharded else 1) + split / engine.tensor
    layers = len(model.attention) / engine.pipeline
    return engine.loras * engine.rank * 2 * (layers * layer + 2 * width["vocab"] / engine.tensor + 2 * width["hidden"])


def reserve(model: Model, engine: Engine) -> tuple[float, float, float]:
    """Estimate what the engine needs beside the weights, in bytes per GPU: at least, likely, and at most.

    vLLM tries one step of the largest size, and the larger of its two peaks is kept free: that of a layer (its inputs and
    the gated MLP, at 16 bits) or that of the sampler (bytes of each logit of each request).
    """
    sequences, batched = engine.limits
    width = model.widths
    sequences = min(sequences, batched)
    step = batched * (3 * width["hidden"] + 3 * width["mlp"] / engine.tensor) * 2
    logits = sequences * width["vocab"]
    old = not engine.version or engine.version < UNSORTED_SINCE
    count = max(number for number in OUTSIDE_GIB if number <= engine.gpus)
    least, likely, most = (amount * GIB for amount in OUTSIDE_GIB[count])
    least += max(step / 2, logits * UNSORTED_BYTES)
    likely += max(step, logits * (SORTED_BYTES if old else UNSORTED_BYTES))
    most += max(step, logits * SORTED_BYTES) * 1.3 + (GIB if engine.loras else 0) + (3 * GIB if model.vision else 0)
    return min(least, likely), likely, most


def cache(model: Model, engine: Engine) -> tuple[float, float]:
    """Compute what the KV cache holds.

    Layers of one kind form groups of equal size, which share their blocks; a request takes blocks for each group.

    Returns:
        bytes of one token in one group, and how many tokens in all groups together one request of the full length takes.
    """
    heads = 1 if model.latent else max(1, model.kv_heads / engine.tensor)
    token = heads * model.kv_values * engine.cache_bits / 8
    layers = max(stages(len(model.attention), engine.pipeline), key=len)
    kinds = [model.attention[layer] for layer in layers]
    counts = {kind: kinds.count(kind) for kind in (FULL, SLIDING) if kind in kinds}
    if not counts:
        return 0.0, 0.0
    least, most = min(counts.values()), max(counts.values())
    size = most if most < 1.25 * least else least
    groups = {kind: -(-count // size) for kind, count in counts.items()}
    kept = {FULL: engine.length, SLIDING: min(engine.length, model.window - 1 + engine.limits[1]) + BLOCK}
    request = sum(number * kept[kind] for kind, number in groups.items())
    # The state of a linear layer is as large as a block, which is made larger for it; counted as it is.
    state = kinds.count(LINEAR) * model.state / engine.tensor * 2
    return token * size, request + state / (token * size)


def fit(model: Model, engine: Engine) -> Fit:
    """Work out whether a model starts.

    Refused is only what is certain: what does not fit with the smallest reserve and the lightest weights. What fits with
    the largest, too, fits; what is between is too close to tell.
    """
    taken, loras, (least, likely, most) = weights(model, engine), lora_bytes(model, engine), reserve(model, engine)
    spread = 0.0 if model.given else taken * WEIGHTS_SPREAD
    share = engine.gpu_bytes * engine.utilization
    token, request = cache(model, engine)
    needed = token * request
    if engine.draft:
        other, tokens = cache(engine.draft, replace(engine, pipeline=1))
        needed += other * tokens
    if engine.cache_bytes:
        # Whatever its share is, this is taken of the whole GPU.
        share, room = engine.gpu_bytes, engine.cache_bytes
        short, needs = room < needed, room
    else:
        room, short, needs = share - taken - loras - likely, False, needed
    if short or share - (taken - spread) - loras - least < needs:
        verdict = MISFIT
    elif share - (taken + spread) - loras - most < needs:
        verdict = CLOSE
    else:
        verdict = FITS
    # A model without a cache (an encoder) holds no request between steps.
    requests = max(0.0, room) / needed if needed else 0.0
    return Fit(verdict, taken, loras, likely, room, needed, int(requests * engine.length), requests)
