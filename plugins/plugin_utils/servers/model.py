"""Reads the config.json of a model: its layers, how many parameters each has and at how many bits; never guesses a size."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import quantization
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.quantization import Unknown

# A configuration that is no plain decoder names it so.
TEXT = ("text_config", "llm_config", "language_config")
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# Of any model that was published so far 126 at most.
MOST_LAYERS = 1000
# With a given size the others only say how large the engine's steps are.
WITH_SIZE = NEEDED[:3]
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# What is read of a vision tower's configuration, and of the rest; test_model.py holds that nothing else is.
TOWER = ("num_hidden_layers", "depth", "hidden_size", "embed_dim", "intermediate_size", "mlp_ratio", "hidden_act")
LENGTHS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length", "seq_len")  # fmt: skip
KEYS = (
    "model_type", "torch_dtype", "dtype", "quantization", "quantization_config", "compression_config", "weight_bytes",
    "hidden_size", "intermediate_size", "intermediate_size_mlp", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "tie_word_embeddings", "kv_lora_rank", "q_lora_rank",
    "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "index_topk", "sliding_window", "attention_chunk_size", "layer_types",
    "full_attention_interval", "no_rope_layers", "sliding_window_pattern", "use_sliding_window", "max_window_layers",
    "linear_num_value_heads", "linear_key_head_dim", "linear_value_head_dim", "linear_num_key_heads",
    "linear_conv_kernel_dim", "attn_output_gate", *EXPERTS, "mlp_only_layers", "moe_layers", "interleave_moe_layer_step",
    "first_k_dense_replace", "moe_layer_start_index", "decoder_sparse_step", "moe_intermediate_size",
    "shared_expert_intermediate_size", "shared_intermediate_size", "n_shared_experts", "moe_num_shared_experts", "mlp_gated",
    *LENGTHS, "model_max_length", "rope_scaling", "rope_parameters",
)  # fmt: skip
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"


@dataclass(frozen=True)
class Part:
    """Some of a model's weights.

    Attributes:
        parameters: their number.
        bits: of each, with what its quantization stores beside it.
        split: among what they are split: ``tensor`` parallel GPUs, ``key_value`` heads on them, ``experts``, or ``none``.
        layer: the layer they belong to; -1 for what the first stage of a pipeline holds, -2 for what the last one holds.
    """

    parameters: int
    bits: float
    split: str
    layer: int

    @property
    def size(self) -> float:
        """Bytes on all GPUs together, where nothing is copied."""
        return self.parameters * self.bits / 8


@dataclass(frozen=True)
class Model:
    """What is known of a model.

    Attributes:
        parts: its weights.
        given: their size in bytes as given; 0 for none.
        attention: the kind of each layer's attention: full, sliding or linear.
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


@functools.cache
def architectures() -> dict[str, dict]:
    """Give what a config.json leaves out, by ``model_type``."""
    text = (specs.ROLES / "vllm" / "architectures.yml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=specs.LOADER)  # noqa: S506 (a safe loader)


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
    needed = WITH_SIZE if given else NEEDED
    missing = [key for key in needed if not flat.get(key)]
    if missing:
        raise Unknown(f"{', '.join(missing)} missing")
    if _whole(flat, "num_hidden_layers") > MOST_LAYERS:
        raise Unknown(f"num_hidden_layers is above {MOST_LAYERS}")
    if given:
        flat = {"vocab_size": 128256, "intermediate_size": 4 * _whole(flat, "hidden_size"), **flat}
    bits, shape = quantization.read(flat, quantize, bool(given), whole, capable), _Shape(flat)
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


def _parts(shape: _Shape, bits: quantization.Bits, vision: Mapping) -> tuple[Part, ...]:
    parts = [part for layer in range(shape.layers) for part in shape.layer(layer, bits)]
    embedding, head = shape.vocab * shape.hidden, bits.of("lm_head", "head")
    parts.append(Part(embedding, bits.whole, "tensor", -1))
    # Tied, the output reads the embedding; a pipeline's last stage has a copy.
    parts.append(Part(embedding, 0 if shape.tied else head, "tensor", -2))
    if vision:
        parts.append(Part(_tower(vision), bits.of("visual.blocks.0.attn.qkv", "vision"), "tensor", -1))
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


def _whole(config: Mapping, key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unknown(f"{key} must be a whole number, and is {value!r}")
    return value


class _Shape:
    """The sizes of a decoder's layers."""

    def __init__(self, config: Mapping):
        self.config = config
        self.hidden, self.layers, self.heads, self.vocab = (_whole(config, key) for key in NEEDED)
        self.layers, self.heads = _whole(config, "num_hidden_layers"), _whole(config, "num_attention_heads")
        self.kv_heads = _whole(config, "num_key_value_heads", self.heads)
        self.head = _whole(config, "head_dim", 0) or self.hidden // self.heads
        self.tied = bool(config.get("tie_word_embeddings"))
        self.latent, self.rope = (_whole(config, key, 0) for key in ("kv_lora_rank", "qk_rope_head_dim"))
        self.window = _whole(config, "sliding_window", 0) or _whole(config, "attention_chunk_size", 0)
        self.attention = self._attention()
        self.experts = next((_whole(config, key) for key in EXPERTS if config.get(key)), 0)
        if not self.experts and not config.get("intermediate_size"):
            raise Unknown("intermediate_size missing")
        self.mlp = _whole(config, "intermediate_size", 0)
        self.state = 0
        if LINEAR in self.attention:
            key, value = self._linear_widths()
            heads, size = _whole(config, "linear_num_value_heads"), _whole(config, "linear_key_head_dim")
            self.state = heads * size * _whole(config, "linear_value_head_dim")
            self.state += (2 * key + value) * (_whole(config, "linear_conv_kernel_dim") - 1)
        self.widths = {
            "hidden": self.hidden,
            "query": self.heads * self.head,
            "key_value": self.kv_heads * self.head,
            "mlp": self.mlp,
            "vocab": self.vocab,
        }

    def _attention(self) -> tuple[str, ...]:
        config, layers = self.config, self.layers
        named = config.get("layer_types")
        if named:
            if len(named) != layers:
                raise Unknown(f"layer_types names {len(named)} layers, and there are {layers} (num_hidden_layers)")
            # Chunks are kept as windows are.
            kinds = tuple({"chunked_attention": SLIDING}.get(kind, kind) for kind in named)
        elif config.get("full_attention_interval"):
            every = _whole(config, "full_attention_interval")
            kinds = tuple(LINEAR if (layer + 1) % every else FULL for layer in range(layers))
        elif config.get("no_rope_layers"):
            kinds = tuple(SLIDING if rope else FULL for rope in config["no_rope_layers"])
        elif self.window and config.get("sliding_window_pattern"):
            every = _whole(config, "sliding_window_pattern")
            kinds = tuple(SLIDING if (layer + 1) % every else FULL for layer in range(layers))
        elif self.window and config.get("use_sliding_window", True):
            # Qwen's: the first max_window_layers see everything.
            first = _whole(config, "max_window_layers", 0) if config.get("use_sliding_window") else 0
            kinds = tuple(FULL if layer < first else SLIDING for layer in range(layers))
        else:
            kinds = (FULL,) * layers
        unknown = set(kinds) - {FULL, SLIDING, LINEAR}
        if unknown:
            raise Unknown(f"layers of a kind that is not known here: {', '.join(sorted(unknown))}")
        if SLIDING in kinds and not self.window:
            raise Unknown("sliding_window missing")
        return kinds

    def layer(self, layer: int, bits: quantization.Bits) -> list[Part]:
        """Give the weights of one layer."""
        found = self._latent() if self.latent else self._linear() if self.attention[layer] == LINEAR else self._full()
        found += self._mixture(bits) if self._is_mixture(layer) else self._dense()
        return [
            Part(count, bits.of(f"model.layers.{layer}.{name}", group), split, layer)
            for name, group, count, split in found
            if count
        ]

    def shares(self, bits: quantization.Bits) -> tuple[tuple[str, int, int], ...]:
        """Give what is split among the GPUs of a layer, see Model; of the first and the last layer, which have all kinds."""
        found = {("vocabulary", -(-self.vocab // 64) * 64, 1)}
        for layer in {0, self.layers - 1}:
            # AWQ's and GPTQ's kernels for experts take any; blocks of fp8 don't.
            experts = bits.multiple if bits.name == "fp8" else 1
            if self._is_mixture(layer):
                sizes = [
                    (
                        "width of experts",
                        _whole(self.config, "moe_intermediate_size", 0) or self.mlp,
                        "experts",
                        "mlp.experts.0.down_proj",
                    )
                ]
            else:
                sizes = [
                    (
                        "intermediate size",
                        _whole(self.config, "intermediate_size_mlp", 0) or self.mlp,
                        "linear",
                        "mlp.down_proj",
                    )
                ]
            if not self.latent and self.attention[layer] != LINEAR:
                sizes.append(("attention", self.widths["query"], "linear", "self_attn.o_proj"))
            for what, size, group, name in sizes:
                quantized = bits.of(f"model.layers.{layer}.{name}", group) < bits.whole
                found.add((what, size, (experts if group == "experts" else bits.multiple) if quantized else 1))
        return tuple(sorted(found))

    def _full(self) -> list[tuple]:
        query, kept = self.widths["query"], self.widths["key_value"]
        gated = 2 if self.config.get("attn_output_gate") else 1
        return [
            ("self_attn.q_proj", "linear", gated * self.hidden * query, "tensor"),
            ("self_attn.k_proj", "linear", self.hidden * kept, "key_value"),
            ("self_attn.v_proj", "linear", self.hidden * kept, "key_value"),
            ("self_attn.o_proj", "linear", query * self.hidden, "tensor"),
        ]

    def _latent(self) -> list[tuple]:
        nope, value = _whole(self.config, "qk_nope_head_dim"), _whole(self.config, "v_head_dim")
        low, query = _whole(self.config, "q_lora_rank", 0), self.heads * (nope + self.rope)
        first = [("self_attn.q_a_proj", "linear", self.hidden * low, "none")] if low else []
        return [
            *first,
            ("self_attn.q_b_proj" if low else "self_attn.q_proj", "linear", (low or self.hidden) * query, "tensor"),
            ("self_attn.kv_a_proj_with_mqa", "linear", self.hidden * (self.latent + self.rope), "none"),
            ("self_attn.kv_b_proj", "linear", self.latent * self.heads * (nope + value), "tensor"),
            ("self_attn.o_proj", "linear", self.heads * value * self.hidden, "tensor"),
        ]

    def _linear_widths(self) -> tuple[int, int]:
        names = ("linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim")
        key_heads, key, value_heads, value = (_whole(self.config, name) for name in names)
        return key_heads * key, value_heads * value

    def _linear(self) -> list[tuple]:
        # Gated delta net, as in Qwen3-Next.
        key, value = self._linear_widths()
        heads = _whole(self.config, "linear_num_value_heads")
        return [
            ("linear_attn.in_proj_qkvz", "linear", self.hidden * 2 * (key + value), "tensor"),
            ("linear_attn.in_proj_ba", "linear", self.hidden * 2 * heads, "tensor"),
            ("linear_attn.out_proj", "linear", value * self.hidden, "tensor"),
        ]

    def _is_mixture(self, layer: int) -> bool:
        config = self.config
        if not self.experts or layer in (config.get("mlp_only_layers") or []):
            return False
        if config.get("moe_layers"):
            return layer in config["moe_layers"]
        if config.get("interleave_moe_layer_step"):
            return (layer + 1) % config["interleave_moe_layer_step"] == 0
        first = _whole(config, "first_k_dense_replace", 0) or _whole(config, "moe_layer_start_index", 0)
        return layer >= first and (layer + 1) % (_whole(config, "decoder_sparse_step", 0) or 1) == 0

    def _matrices(self) -> int:
        """Two without a gate, three with one."""
        return 2 if self.config.get("mlp_gated") is False else 3

    def _dense(self) -> list[tuple]:
        width = _whole(self.config, "intermediate_size_mlp", 0) or self.mlp
        return [("mlp.down_proj", "linear", self._matrices() * self.hidden * width, "tensor")]

    def _mixture(self, bits: quantization.Bits) -> list[tuple]:
        config = self.config
        width = _whole(config, "moe_intermediate_size", 0) or self.mlp
        shared = _whole(config, "shared_expert_intermediate_size", 0) or _whole(config, "shared_intermediate_size", 0)
        shared = shared or width * (
            _whole(config, "n_shared_experts", 0) or _whole(config, "moe_num_shared_experts", 0)
        )
        padded = [-(-size // step) * step for size, step in zip((self.hidden, width), bits.steps, strict=True)]
        return [
            ("mlp.gate", "router", self.hidden * self.experts, "none"),
            ("mlp.experts.0.down_proj", "experts", self.experts * 3 * padded[0] * padded[1], "experts"),
            ("mlp.shared_experts.down_proj", "linear", 3 * self.hidden * shared, "tensor"),
        ]


def _tower(config: Mapping) -> int:
    """Count the parameters of a vision transformer: layers x (4 h x h + its MLP), without what joins it to the text."""
    names = {"layers": ("num_hidden_layers", "depth"), "hidden": ("hidden_size", "embed_dim")}
    found = {}
    for what, keys in names.items():
        found[what] = next((config[key] for key in keys if isinstance(config.get(key), int)), 0)
    hidden = found["hidden"]
    mlp = config.get("intermediate_size") or (config.get("mlp_ratio") or 0) * hidden
    if not (found["layers"] and hidden and mlp):
        raise Unknown(
            "the size of the vision tower (vision_config: num_hidden_layers, hidden_size, intermediate_size) missing: give weight_bytes"
        )
    matrices = 3 if config.get("hidden_act") in ("silu", "swiglu") else 2
    return int(found["layers"] * (4 * hidden * hidden + matrices * hidden * mlp))
