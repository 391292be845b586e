"""Says at how many bits each weight of a model is kept, from its quantization_config; knows no sizes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

# What is quantized where nothing else is said. The embedding, the output, routers and a vision tower stay as they are.
LINEAR = frozenset({"linear", "experts"})
# Below the name of a language model within a larger one.
PREFIXES = ("", "language_model.", "model.language_model.", "model.")


class Unknown(ValueError):
    """A size can't be computed; the message says what is missing or not known, for the operator."""


@dataclass(frozen=True)
class Bits:
    """The bits of a model's weights.

    Attributes:
        name: the quantization, ``none`` for none.
        least: bits of a quantized weight, with what is stored beside it.
        groups: what is quantized: ``linear``, ``experts``, ``head``, ``vision``, ``router``.
        left_out: tells of a layer's full name whether it stays at 16 bits.
        steps: to multiples of what the inputs and the width of experts are padded.
        multiple: of what each GPU's share of a matrix must be.
        capability: compute capability from which vLLM has a kernel, as 75 for 7.5 (its ``get_min_capability``).
        whole: bits of a weight that is not quantized.
    """

    name: str = "none"
    least: float = 16
    groups: frozenset = frozenset()
    left_out: Callable[[str], bool] = lambda _name: False
    steps: tuple[int, int] = (1, 1)
    multiple: int = 1
    capability: int = 0
    whole: int = 16

    def of(self, name: str, group: str) -> float:
        """Give the bits of a layer by its full name in the model, and the group it belongs to."""
        return self.least if group in self.groups and not self.left_out(name) else self.whole


def integer(bits: int, group: int, zero_point: int) -> float:
    """Bits of a weight in groups that share a scale of 16 bits and a zero point; a group of -1 is a whole row."""
    return bits + (16 + zero_point) / group if group and group > 0 else bits


# Bits of a weight by the one word for it: the usual groups of each (field notes, Sizes).
WORDS = {
    "none": 16.0,  # or as many as the data type has
    "awq": integer(4, 128, 4),
    "gptq": integer(4, 128, 4),
    "w4a16": integer(4, 128, 0),
    "fp8": 8.0,
    "int8": 8.0,
    "w8a8": 8.0,
    "mxfp4": 4 + 8 / 32,
    "nvfp4": 4 + 8 / 16,
    # QLoRA: one constant of 32 bits for 64 weights, itself kept at 8 bits in groups of 256.
    "bitsandbytes": 4 + 8 / 64 + 32 / (64 * 256),
}
# As vLLM 0.14.1 has kernels; in groups of 128.
CAPABILITY = {
    "awq": 75,
    "gptq": 60,
    "w4a16": 75,
    "fp8": 75,
    "int8": 75,
    "w8a8": 75,
    "mxfp4": 80,
    "nvfp4": 75,
    "bitsandbytes": 70,
}
GROUPED = ("awq", "gptq", "w4a16")
# vLLM's names of one kernel or another for the same files (--quantization).
SAME = {
    "awq_marlin": "awq", "gptq_marlin": "gptq", "gptq_marlin_24": "gptq", "fbgemm_fp8": "fp8", "ptpc_fp8": "fp8",
    "compressed-tensors": "compressed-tensors", "modelopt": "fp8", "modelopt_fp4": "nvfp4", "experts_int8": "int8",
}  # fmt: skip


def read(config: Mapping, quantize: str = "", sized: bool = False, whole: int = 16, capable: int = 0) -> Bits:
    """Read how a model is quantized.

    Args:
        config: its config.json on one level. ``quantization`` names one in a word; ``quantization_config`` is Hugging Face's.
        quantize: what vLLM is told to quantize a model of 16 bits to.
        sized: whether the size of the weights is given, so that one that is not known here does no harm.
        whole: bits of what is not quantized.
        capable: compute capability of the GPU, as 75 for 7.5; 0 for unknown.

    Raises:
        Unknown: of a quantization that is not known here.
    """
    try:
        found = replace(_read(config, quantize), whole=whole)
        # Hopper runs Triton's kernels, others Marlin's (model_executor/layers/quantization/mxfp4.py); what each pads to is
        # what they printed of gpt-oss.
        return replace(found, steps=(256, 1)) if found.steps != (1, 1) and 90 <= capable < 100 else found
    except Unknown:
        if not sized:
            raise
        return Bits("unknown", whole=whole)


def _read(config: Mapping, quantize: str) -> Bits:
    given = config.get("quantization_config") or config.get("compression_config")
    if isinstance(given, Mapping) and given:
        return _configured(given)
    word = re.split(r"[,\s]", str(config.get("quantization") or quantize or "none"))[0].lower()
    return _word(SAME.get(word, word))


def _word(word: str) -> Bits:
    if word not in WORDS:
        raise Unknown(f"the quantization {word!r} is not known here (known: {', '.join(WORDS)}); give its size too")
    if word == "mxfp4":
        # What Marlin's kernel takes.
        return Bits(word, WORDS[word], frozenset({"experts"}), steps=(256, 128), capability=CAPABILITY[word])
    groups, group = LINEAR if word != "none" else frozenset(), 128 if word in GROUPED else 1
    return Bits(word, WORDS[word], groups, multiple=group, capability=CAPABILITY.get(word, 0))


def _configured(given: Mapping) -> Bits:
    method = str(given.get("quant_method") or given.get("quantization_method") or "").lower()
    multiple, capability = 1, CAPABILITY.get(method, 0)
    if method in ("awq", "gptq", "autoround", "auto-round", "intel/auto-round"):
        # Both keep zero points, GPTQ also where it is symmetric.
        bits, group = _number(given, "bits", "w_bit"), _number(given, "group_size", "q_group_size")
        multiple = max(1, group)
        least, groups = integer(bits, group, bits), LINEAR | ({"head"} if given.get("lm_head") else set())
    elif method == "compressed-tensors":
        return _compressed(given)
    elif method in ("fp8", "fbgemm_fp8"):
        least, groups = WORDS["fp8"], LINEAR
        multiple = max(given.get("weight_block_size") or [1])
        capability = 75 if method == "fp8" else 80
    elif method == "mxfp4":
        return _word("mxfp4")
    elif method == "bitsandbytes":
        eight = given.get("load_in_8bit") or given.get("_load_in_8bit")
        double = given.get("bnb_4bit_use_double_quant")
        least, groups = (8.0 if eight else WORDS["bitsandbytes"] if double else 4 + 32 / 64), LINEAR
    elif method.startswith("modelopt"):
        word = str(given.get("quant_algo") or "").lower()
        if word not in ("fp8", "nvfp4"):
            raise Unknown(f"modelopt's quant_algo {word!r} is not known here; give its size too")
        least, groups = WORDS[word], LINEAR
        capability = 89 if word == "fp8" else CAPABILITY[word]
    else:
        raise Unknown(f"the quantization {method!r} is not known here; give its size too")
    keys = ("modules_to_not_convert", "ignored_layers", "ignore", "exclude_modules", "llm_int8_skip_modules")
    left = [str(name) for key in keys for name in given.get(key) or []]
    # GPTQModel's: "-:" and a regular expression of what is left out.
    left += [f"re:{name[2:]}" for name in given.get("dynamic") or {} if str(name).startswith("-:")]
    return Bits(method, least, frozenset(groups), _matcher(left, inside=True), multiple=multiple, capability=capability)


def _compressed(given: Mapping) -> Bits:
    schemes = list((given.get("config_groups") or {}).values())
    if not schemes:
        raise Unknown("compressed-tensors without config_groups; give its size too")
    widths, multiple, capability = set(), 1, 75
    for scheme in schemes:
        weights = scheme.get("weights") or {}
        bits, group = _number(weights, "num_bits"), max(0, weights.get("group_size") or 0)
        if weights.get("type") == "float":
            capability = 80
        elif group:
            multiple = group
        # A scale of 8 bits for each group of NVFP4; integers have one of 16, and a zero point where they are not symmetric.
        beside = 8 / group if weights.get("type") == "float" and group else 0
        zero = 0 if weights.get("symmetric", True) else bits
        widths.add(bits + beside if weights.get("type") == "float" else integer(bits, group, zero))
    if len(widths) > 1:
        raise Unknown("compressed-tensors with groups of different sizes; give its size too")
    targets = [str(one) for scheme in schemes for one in scheme.get("targets") or ["Linear"]]
    left, chosen = _matcher([str(one) for one in given.get("ignore") or []]), _matcher(targets)
    everything = "Linear" in targets
    return Bits(
        "compressed-tensors",
        widths.pop(),
        LINEAR,
        lambda name: left(name) or not (everything or chosen(name)),
        multiple=multiple,
        capability=capability,
    )


def _number(given: Mapping, *keys: str) -> int:
    value: Any = next((given[key] for key in keys if given.get(key) is not None), None)
    if isinstance(value, bool) or not isinstance(value, int):
        raise Unknown(
            f"{keys[0]} of the quantization_config must be a whole number, and is {value!r}; give its size too"
        )
    return value


def _matcher(patterns: list[str], inside: bool = False) -> Callable[[str], bool]:
    """Tell of a full name whether one of the patterns is it: a name, one above it, a glob, or ``re:`` and an expression.

    Args:
        patterns: the patterns.
        inside: whether a part of a name is enough, as for AWQ's and transformers' lists.
    """
    expressions = [re.compile(text[3:]) for text in patterns if text.startswith("re:")]
    globs = [
        re.compile(re.escape(text).replace(r"\*", "[^.]*"))
        for text in patterns
        if "*" in text and not text.startswith("re:")
    ]
    exact = {text for text in patterns if not text.startswith("re:") and "*" not in text}

    def matches(name: str) -> bool:
        steps = name.split(".")
        names = [prefix + ".".join(steps[start:]) for start in (0, 1) for prefix in PREFIXES]
        above = {".".join(full.split(".")[:end]) for full in names for end in range(1, len(full.split(".")) + 1)}
        return (
            bool(above & exact)
            or (inside and any(text in name for text in exact))
            or any(expression.match(full) for expression in expressions for full in names)
            or any(glob.match(full) for glob in globs for full in names)
        )

    return matches if patterns else lambda _name: False
