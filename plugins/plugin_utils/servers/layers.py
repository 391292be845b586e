"""The layers of a decoder or encoder by its configuration: how many parameters each part has; knows no quantization but by name.

How a model is read, and what its file leaves out, is in ``model.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import quantization
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.quantization import Unknown

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
FULL, SLIDING, LINEAR = "full_attention", "sliding_attention", "linear_attention"
# Attention of an encoder, which leaves nothing in a cache.
BOTH_WAYS = "encoder"


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


def whole(config: Mapping, key: str, default: int | None = None) -> int:
    """Read a whole number.

    Args:
        config: a configuration.
        key: of the number.
        default: what stands for none; None to refuse that.

    Raises:
        Unknown: it is none, or negative.
    """
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unknown(f"{key} must be a whole number, and is {value!r}")
    return value


class Shape:
    """The sizes of a decoder's layers."""

    def __init__(self, config: Mapping):
        self.config = config
        self.hidden, self.layers, self.heads, self.vocab = (whole(config, key) for key in NEEDED)
        self.layers, self.heads = whole(config, "num_hidden_layers"), whole(config, "num_attention_heads")
        self.kv_heads = whole(config, "num_key_value_heads", self.heads)
        self.head = whole(config, "head_dim", 0) or self.hidden // self.heads
        self.tied = bool(config.get("tie_word_embeddings"))
        self.latent, self.rope = (whole(config, key, 0) for key in ("kv_lora_rank", "qk_rope_head_dim"))
        self.window = whole(config, "sliding_window", 0) or whole(config, "attention_chunk_size", 0)
        self.attention = self._attention()
        self.experts = next((whole(config, key) for key in EXPERTS if config.get(key)), 0)
        if not self.experts and not config.get("intermediate_size"):
            raise Unknown("intermediate_size missing")
        self.mlp = whole(config, "intermediate_size", 0)
        self.state = 0
        if LINEAR in self.attention:
            key, value = self._linear_widths()
            heads, size = whole(config, "linear_num_value_heads"), whole(config, "linear_key_head_dim")
            self.state = heads * size * whole(config, "linear_value_head_dim")
            self.state += (2 * key + value) * (whole(config, "linear_conv_kernel_dim") - 1)
        self.widths = {
            "hidden": self.hidden,
            "query": self.heads * self.head,
            "key_value": self.kv_heads * self.head,
            "mlp": self.mlp,
            "vocab": self.vocab,
        }

    def _attention(self) -> tuple[str, ...]:
        config, layers = self.config, self.layers
        if config.get("encoder"):
            return (BOTH_WAYS,) * layers
        named = config.get("layer_types")
        if named:
            if len(named) != layers:
                raise Unknown(f"layer_types names {len(named)} layers, and there are {layers} (num_hidden_layers)")
            # Chunks are kept as windows are.
            kinds = tuple({"chunked_attention": SLIDING}.get(kind, kind) for kind in named)
        elif config.get("full_attention_interval"):
            every = whole(config, "full_attention_interval")
            kinds = tuple(LINEAR if (layer + 1) % every else FULL for layer in range(layers))
        elif config.get("no_rope_layers"):
            kinds = tuple(SLIDING if rope else FULL for rope in config["no_rope_layers"])
        elif self.window and config.get("sliding_window_pattern"):
            every = whole(config, "sliding_window_pattern")
            kinds = tuple(SLIDING if (layer + 1) % every else FULL for layer in range(layers))
        elif self.window and config.get("use_sliding_window", True):
            # Qwen's: the first max_window_layers see everything.
            first = whole(config, "max_window_layers", 0) if config.get("use_sliding_window") else 0
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
                        whole(self.config, "moe_intermediate_size", 0) or self.mlp,
                        "experts",
                        "mlp.experts.0.down_proj",
                    )
                ]
            else:
                sizes = [
                    (
                        "intermediate size",
                        whole(self.config, "intermediate_size_mlp", 0) or self.mlp,
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
        nope, value = whole(self.config, "qk_nope_head_dim"), whole(self.config, "v_head_dim")
        low, query = whole(self.config, "q_lora_rank", 0), self.heads * (nope + self.rope)
        first = [("self_attn.q_a_proj", "linear", self.hidden * low, "none")] if low else []
        return [
            *first,
            ("self_attn.q_b_proj" if low else "self_attn.q_proj", "linear", (low or self.hidden) * query, "tensor"),
            ("self_attn.kv_a_proj_with_mqa", "linear", self.hidden * (self.latent + self.rope), "none"),
            ("self_attn.kv_b_proj", "linear", self.latent * self.heads * (nope + value), "tensor"),
            ("self_attn.o_proj", "linear", self.heads * value * self.hidden, "tensor"),
            *self._indexer(low),
        ]

    def _indexer(self, low: int) -> list[tuple]:
        """What chooses the tokens that sparse attention reads (DeepSeek V3.2), the same on every GPU."""
        if not self.config.get("index_topk"):
            return []
        heads, size = whole(self.config, "index_n_heads"), whole(self.config, "index_head_dim")
        return [("self_attn.indexer.wq_b", "linear", low * heads * size + self.hidden * (size + heads), "none")]

    def _linear_widths(self) -> tuple[int, int]:
        names = ("linear_num_key_heads", "linear_key_head_dim", "linear_num_value_heads", "linear_value_head_dim")
        key_heads, key, value_heads, value = (whole(self.config, name) for name in names)
        return key_heads * key, value_heads * value

    def _linear(self) -> list[tuple]:
        # Gated delta net, as in Qwen3-Next.
        key, value = self._linear_widths()
        heads = whole(self.config, "linear_num_value_heads")
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
        first = whole(config, "first_k_dense_replace", 0) or whole(config, "moe_layer_start_index", 0)
        return layer >= first and (layer + 1) % (whole(config, "decoder_sparse_step", 0) or 1) == 0

    def _matrices(self) -> int:
        """Two without a gate, three with one."""
        return 2 if self.config.get("mlp_gated") is False else 3

    def _dense(self) -> list[tuple]:
        width = whole(self.config, "intermediate_size_mlp", 0) or self.mlp
        return [("mlp.down_proj", "linear", self._matrices() * self.hidden * width, "tensor")]

    def _mixture(self, bits: quantization.Bits) -> list[tuple]:
        config = self.config
        width = whole(config, "moe_intermediate_size", 0) or self.mlp
        shared = whole(config, "shared_expert_intermediate_size", 0) or whole(config, "shared_intermediate_size", 0)
        shared = shared or width * (whole(config, "n_shared_experts", 0) or whole(config, "moe_num_shared_experts", 0))
        padded = [-(-size // step) * step for size, step in zip((self.hidden, width), bits.steps, strict=True)]
        return [
            ("mlp.gate", "router", self.hidden * self.experts, "none"),
            ("mlp.experts.0.down_proj", "experts", self.experts * 3 * padded[0] * padded[1], "experts"),
            ("mlp.shared_experts.down_proj", "linear", 3 * self.hidden * shared, "tensor"),
        ]


def tower(config: Mapping) -> int:
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
