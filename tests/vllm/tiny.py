"""Tiny models, their tokenizer and LoRA adapters: made on the spot from a seed, with nothing but the standard library.

A token is a byte. Only printable ASCII is ever generated, and never an end: greedy answers are text of just the length asked for.
"""

import array
import json
import random
from dataclasses import dataclass
from pathlib import Path

from safetensors import serialize

BYTES = 256
START, END = "<s>", "</s>"
# transformers' names, and what each architecture has beside the common part.
ARCHITECTURES = {
    "llama": ("LlamaForCausalLM", {}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    # Shorter than what the tests let it write.
    "mistral": ("MistralForCausalLM", {"sliding_window": 128}),
}
BIASED = {"qwen2": ("q_proj", "k_proj", "v_proj")}
ATTENTION, MLP = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")
TEMPLATE = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class Model:
    """A model's architecture and size. vLLM's attention for CPUs takes head sizes of 32, 64, 80, 96, 112, 128, 192 and 256."""

    architecture: str = "llama"
    hidden: int = 128
    intermediate: int = 256
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    positions: int = 4096
    seed: int = 0

    def config(self) -> dict:
        """What transformers reads."""
        name, more = ARCHITECTURES[self.architecture]
        return {
            "architectures": [name],
            "model_type": self.architecture,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.positions,
            "vocab_size": BYTES + 2,
            "bos_token_id": BYTES,
            "eos_token_id": BYTES + 1,
            "hidden_act": "silu",
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
            "torch_dtype": "bfloat16",
            **more,
        }

    def linear(self, module: str) -> tuple[int, int]:
        """A linear module's outputs and inputs."""
        kv = self.hidden // self.heads * self.kv_heads
        inner = self.intermediate
        return {"k_proj": (kv, self.hidden), "v_proj": (kv, self.hidden), "gate_proj": (inner, self.hidden)}.get(
            module, {"up_proj": (inner, self.hidden), "down_proj": (self.hidden, inner)}.get(module, (self.hidden,) * 2)
        )

    def files(self) -> dict[str, bytes]:
        """Configuration, weights and tokenizer: name to content."""
        chance = random.Random(self.seed)
        hidden, vocabulary = self.hidden, BYTES + 2
        head = normal(chance, BYTES * hidden, hidden**-0.5)
        for token in range(BYTES):
            if not 32 <= token < 127:
                head[token * hidden : (token + 1) * hidden] = array.array("f", bytes(4 * hidden))
        tensors = {
            "model.embed_tokens.weight": tensor(normal(chance, vocabulary * hidden), vocabulary, hidden),
            "model.norm.weight": ones(hidden),
            "lm_head.weight": tensor(head + array.array("f", bytes(8 * hidden)), vocabulary, hidden),
        }
        for layer in range(self.layers):
            for name in ("input_layernorm", "post_attention_layernorm"):
                tensors[f"model.layers.{layer}.{name}.weight"] = ones(hidden)
            for module in (*ATTENTION, *MLP):
                rows, columns = self.linear(module)
                drawn = tensor(normal(chance, rows * columns, columns**-0.5), rows, columns)
                tensors[f"{place(layer, module)}.weight"] = drawn
                if module in BIASED.get(self.architecture, ()):
                    tensors[f"{place(layer, module)}.bias"] = tensor(normal(chance, rows), rows)
        return {
            "config.json": as_json(self.config()),
            "model.safetensors": serialize(tensors, {"format": "pt"}),
            **tokenizer(),
        }


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's shape. `config` goes into its configuration; `fill` is the seed of its weights."""

    rank: int = 8
    modules: tuple[str, ...] = ("q_proj", "v_proj")
    layers: tuple[int, ...] | None = None
    fill: int = 1
    base: str = "mistralai/Mistral-7B-v0.1"

    def files(self, model: Model, **config) -> dict[str, bytes]:
        """Configuration and weights for a model: name to content. The change is as large as the model's own weights."""
        chance = random.Random(self.fill)
        tensors = {}
        for layer in range(model.layers) if self.layers is None else self.layers:
            for module in self.modules:
                rows, columns = model.linear(module)
                name = f"base_model.model.{place(layer, module)}"
                down = normal(chance, self.rank * columns, columns**-0.5)
                tensors[f"{name}.lora_A.weight"] = tensor(down, self.rank, columns)
                up = normal(chance, rows * self.rank, self.rank**-0.5)
                tensors[f"{name}.lora_B.weight"] = tensor(up, rows, self.rank)
        described = {
            "peft_type": "LORA",
            "base_model_name_or_path": self.base,
            "r": self.rank,
            "lora_alpha": 2 * self.rank,
            "target_modules": list(self.modules),
            "bias": "none",
            **config,
        }
        return {
            "adapter_config.json": as_json(described),
            "adapter_model.safetensors": serialize(tensors, {"format": "pt"}),
        }


def write(files: dict[str, bytes], folder: Path) -> Path:
    """Write files into a folder, which is made."""
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def publish(files: dict[str, bytes], name: str, cache: Path) -> None:
    """Put a model where the Hugging Face Hub's client keeps what it has downloaded, so that it is found by its name, offline."""
    home, revision = cache / "hub" / f"models--{name.replace('/', '--')}", "0" * 40
    write({"main": revision.encode()}, home / "refs")
    write(files, home / "snapshots" / revision)


def tokenizer() -> dict[str, bytes]:
    """A tokenizer without merges: a byte is a token, and its number the byte."""
    # Byte-level BPE writes a byte that is not printable as a character from 256 on.
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(BYTES) if byte not in printable]
    letters = {byte: chr(byte) for byte in printable} | {byte: chr(BYTES + i) for i, byte in enumerate(others)}
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    described = {
        "version": "1.0",
        "added_tokens": [{"id": BYTES + i, "content": word, **special} for i, word in enumerate((START, END))],
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": {letters[byte]: byte for byte in range(BYTES)}, "merges": []},
    }
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": START,
        "eos_token": END,
        "chat_template": TEMPLATE,
        "clean_up_tokenization_spaces": False,
    }
    return {"tokenizer.json": as_json(described), "tokenizer_config.json": as_json(config)}


def place(layer: int, module: str) -> str:
    return f"model.layers.{layer}.{'self_attn' if module in ATTENTION else 'mlp'}.{module}"


def normal(chance: random.Random, count: int, deviation: float = 1.0) -> array.array:
    return array.array("f", (chance.gauss(0, deviation) for _ in range(count)))


def ones(count: int) -> dict:
    return tensor(array.array("f", [1.0]) * count, count)


def tensor(values: array.array, *shape: int) -> dict:
    """What safetensors writes, as bfloat16: the upper half of each float."""
    raw, half = values.tobytes(), bytearray(2 * len(values))
    half[0::2], half[1::2] = raw[2::4], raw[3::4]
    return {"dtype": "bfloat16", "shape": list(shape), "data": bytes(half)}


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()
