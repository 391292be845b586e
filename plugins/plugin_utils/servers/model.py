"""Reads the config.json of a model: its layers, how many parameters each has and at how many bits; never guesses a size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import layers, quantization
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.layers import Part
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.quantization import Unknown

# A configuration that is no plain decoder names it so.
TEXT = ("text_config", "llm_config", "language_config")
# Of any model that was published so far 126 at most.
MOST_LAYERS = 1000
# With a given size the others only say how large the engine's steps are.
WITH_SIZE = layers.NEEDED[:3]
# What is read of a vision tower's configuration, and of the rest; tests/vllm/test_architectures.py holds that nothing else is.
TOWER = ("num_hidden_layers", "depth", "hidden_size", "embed_dim", "intermediate_size", "mlp_ratio", "hidden_act")
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length", "seq_len")  # fmt: skip
KEYS = (
    "model_type", "torch_dtype", "dtype", "quantization", "quantization_config", "compression_config", "weight_bytes",
    "hidden_size", "intermediate_size", "intermediate_size_mlp", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "kv_lora_rank", "q_lora_rank",
    "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_topk", "index_n_heads", "index_head_dim", "sliding_window", "attention_chunk_size", "layer_types",
    "full_attention_interval", "no_rope_layers", "sliding_window_pattern", "use_sliding_window", "max_window_layers",
    "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads",
    "linear_conv_kernel_dim", "attn_output_gate", *layers.EXPERTS, "mlp_only_layers", "moe_layers", "interleave_moe_layer_step",
    "first_k_dense_replace", "moe_layer_start_index", "decoder_sparse_step", "moe_intermediate_size",
    "shared_expert_intermediate_size", "shared_intermediate_size", "n_shared_experts", "moe_num_shared_experts", "mlp_gated", "encoder",
    *LENGTHS, "model_max_length", "rope_scaling", "rope_parameters",
)  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What is known of a model.

    Attributes:
        parts: its weights.
        given: their size in bytes as given; 0 for none.
        attention: the kind of each layer's attention: full, sliding, linear, or an encoder's.
        window: tokens that a sliding layer sees.
        heads: attention heads.
        kv_heads: heads of keys and values.
        kv_values: numbers that a layer keeps of a token for one head of keys and values (or of all, for latent attention).
        latent: whether the attention is latent (MLA).
        state: numbers that a linear layer keeps of a request.
        widths: ``hidden``, ``query``, ``key_value``, ``mlp`` and ``vocab``: sizes of the layers' inputs and outputs.
        positions: the longest request that it was made for; 0 for unknown.
        vision: whether it has a tower for pictures.
        quantized: the name of its quantization, ``none`` for none.
        capability: compute capability that its quantization needs, as 75 for 7.5; 0 for any.
        kind: its ``model_type``; ``""`` for unknown.
        dtype: the data type of its files; ``""`` for unknown.
        shares: what each GPU of a layer holds an equal part of: what, its size, of what each part must be a multiple.
        sparse: whether its attention chooses what it reads (DeepSeek V3.2).
    """

    parts: tuple[Part, ...]
    given: float
    attention: tuple[str, ...]
    window: int
    heads: int
    kv_heads: int
    kv_values: int
    latent: bool
    state: int
    widths: Mapping[str, int]
    positions: int
    vision: bool
    quantized: str
    capability: int = 0
    kind: str = ""
    dtype: str = ""
    shares: tuple[tuple[str, int, int], ...] = ()
    sparse: bool = False

    @property
    def weight_bytes(self) -> float:
        """Size of all weights in bytes; a given one wins."""
        return self.given or sum(part.size for part in self.parts)


def architectures() -> dict[str, dict]:
    """Give what a config.json leaves out, by ``model_type``."""
    return specs.catalogue("vllm", "architectures")


def read(config: Mapping, weight_bytes: float = 0, quantize: str = "", whole: int = 16, capable: int = 0) -> Model:
    """Read a model's configuration.

    Args:
        config: its config.json, or keys of it. ``quantization`` may name its quantization in one word, ``weight_bytes``
            the size of its weights. Without ``model_type`` it is taken for a decoder with gated MLP, as Llama's.
        weight_bytes: ``metadata.total_size`` of its ``model.safetensors.index.json``; 0 for unknown.
        quantize: what vLLM is told to quantize it to when it loads (``--quantization``); ``""`` for nothing.
        whole: bits of a weight that is not quantized.
        capable: compute capability of the GPU, as 75 for 7.5; 0 for unknown.

    Returns:
        the model. Norms and biases are left out: below 0.1 % of any model of the catalogue.

    Raises:
        Unknown: an architecture, a quantization or a key that can't be read, and is needed.
    """
    given = float(weight_bytes or config.get("weight_bytes") or 0)
    flat, vision = _flat(config, bool(given))
    needed = WITH_SIZE if given else layers.NEEDED
    missing = [key for key in needed if not flat.get(key)]
    if missing:
        raise Unknown(f"{', '.join(missing)} missing")
    if layers.whole(flat, "num_hidden_layers") > MOST_LAYERS:
        raise Unknown(f"num_hidden_layers is above {MOST_LAYERS}")
    if given:
        flat = {"vocab_size": 128256, "intermediate_size": 4 * layers.whole(flat, "hidden_size"), **flat}
    bits, shape = quantization.read(flat, quantize, bool(given), whole, capable), layers.Shape(flat)
    parts = _parts(shape, bits, vision)
    dtype = str(flat.get("torch_dtype") or flat.get("dtype") or "").removeprefix("torch.")
    filed = quantization.read(flat, "", bool(given), 32 if dtype == "float32" else 16)
    if given and (filed.name, filed.whole) != (bits.name, bits.whole):
        # Loaded at another size than its files have.
        given *= sum(part.size for part in parts) / sum(part.size for part in _parts(shape, filed, vision))
    return Model(
        parts=parts,
        given=given,
        attention=shape.attention,
        window=shape.window,
        heads=shape.heads,
        kv_heads=1 if shape.latent else shape.kv_heads,
        kv_values=shape.latent + shape.rope if shape.latent else 2 * shape.head,
        latent=bool(shape.latent),
        state=shape.state,
        widths=shape.widths,
        positions=_positions(flat),
        vision=bool(vision),
        quantized=bits.name,
        capability=bits.capability,
        kind=str(flat.get("model_type") or ""),
        dtype=dtype,
        shares=shape.shares(bits),
        sparse=bool(flat.get("index_topk")),
    )


def _parts(shape: layers.Shape, bits: quantization.Bits, vision: Mapping) -> tuple[Part, ...]:
    parts = [part for layer in range(shape.layers) for part in shape.layer(layer, bits)]
    embedding, head = shape.vocab * shape.hidden, bits.of("lm_head", "head")
    parts.append(Part(embedding, bits.whole, "tensor", -1))
    # Tied, the output reads the embedding; a pipeline's last stage has a copy.
    parts.append(Part(embedding, 0 if shape.tied else head, "tensor", -2))
    if shape.attention[0] == layers.BOTH_WAYS:
        # Learned positions, and the matrix behind the first token.
        learned = (layers.whole(shape.config, "max_position_embeddings", 0) + shape.hidden) * shape.hidden
        parts.append(Part(learned, bits.whole, "none", -1))
    if vision:
        parts.append(Part(layers.tower(vision), bits.of("visual.blocks.0.attn.qkv", "vision"), "tensor", -1))
    return tuple(parts)


def kept(config: Mapping) -> dict:
    """Give those keys of a config.json that are read here."""
    found = {key: config[key] for key in KEYS if key in config}
    for key in TEXT:
        if isinstance(config.get(key), Mapping):
            found[key] = kept(config[key])
    if isinstance(config.get("vision_config"), Mapping):
        found["vision_config"] = {key: config["vision_config"][key] for key in TOWER if key in config["vision_config"]}
    return found


def _positions(config: Mapping) -> int:
    """Tell the longest request that vLLM takes (config/model.py, _get_and_verify_max_len); 0 for unknown."""
    lengths = [config[key] for key in LENGTHS if isinstance(config.get(key), int)]
    longest = config.get("model_max_length") or min(lengths, default=0)
    rope = config.get("rope_parameters") or config.get("rope_scaling")
    if not isinstance(rope, Mapping) or "gemma3" in str(config.get("model_type")):
        return int(longest)
    for one in [value for value in rope.values() if isinstance(value, Mapping)] or [rope]:
        kind = one.get("rope_type") or one.get("type")
        if kind == "yarn":
            longest = one.get("original_max_position_embeddings") or longest
        if kind not in ("su", "longrope", "llama3"):
            longest *= one.get("factor") or 1
    return int(longest)


def _flat(config: Mapping, sized: bool) -> tuple[dict, Mapping]:
    """Bring a configuration to one level, with the defaults of its architecture; give the vision tower's beside it."""
    inner = next((config[key] for key in TEXT if isinstance(config.get(key), Mapping)), {})
    outer = {key: value for key, value in config.items() if key not in TEXT}
    kind = inner.get("model_type") or outer.get("model_type")
    known = architectures()
    if kind is not None and kind not in known and not sized:
        raise Unknown(f"the architecture {kind!r} is not known here; give its size too")
    vision = outer.get("vision_config")
    return {**known.get(kind or "llama", {}), **outer, **inner}, vision if isinstance(vision, Mapping) else {}
