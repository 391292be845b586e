"""Whether a model fits its GPUs, against published start-ups of vLLM; its weights against the published sizes of its files."""

import json
import re
from pathlib import Path
from statistics import median

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import memory, model, vllm_fit

CASES = json.loads((Path(__file__).parent / "gpu_memory_cases.json").read_text())
MODELS = vllm_fit.known_models()
# vLLM 0.7 kept MLA's projections multiplied with each other beside them (q_lora x kv_lora and kv_lora x hidden of each head, 8 bits).
ABSORBED = 61 * 128 / 8 * (1536 * 512 + 512 * 7168) / GIB
# It is not known which V1 this is; with the 256 requests of those before 0.9 it is as the others are.
UNLIKE = "Llama-3.3-70B-Instruct, FP8"
# Its Triton kernels are Hopper's.
HOPPER = ("openai/gpt-oss-120b, Triton",)


def fitted(case: dict, **changes: int) -> memory.Fit:
    """What is computed of a published case."""
    case = {**case, **changes}
    lora, version = case.get("lora", {}), case["engine"].partition(" .")[2].partition(" ")[0]
    engine = memory.Engine(
        gpu_bytes=case["gpu_gib"] * GIB,
        utilization=case["gpu_memory_utilization"],
        length=case["max_model_len"],
        tensor=case["gpus"],
        sequences=case.get("max_num_seqs", 0),
        batched=case.get("max_num_batched_tokens", 0),
        cache_bits=8 if case.get("kv_cache_dtype") == "fp8" else 16,
        loras=lora.get("max_loras", 0),
        rank=lora.get("max_lora_rank", 0),
        version=(0, int(version)) if version else (),
        a100=case.get("gpu") == "A100",
    )
    facts = case.get("facts") or MODELS[case["facts_of"]]
    if "quantization" in case:
        facts = {**facts, "quantization": case["quantization"]}
    return memory.fit(model.read(facts, capable=90 if case["model"] in HOPPER else 0), engine)


# 28 heads on 8 GPUs are refused elsewhere.
V1 = [case for case in CASES["cases"] if case["engine"].startswith("V1")]


PRINTED = [case for case in CASES["cases"] if "weights_gib_per_gpu" in case]


@pytest.mark.parametrize("case", PRINTED, ids=lambda case: case["model"])
def test_weights(case: dict) -> None:
    printed = case["weights_gib_per_gpu"]
    fit = fitted(case)
    computed = (fit.weights + fit.loras) / GIB + (ABSORBED if "MLA" in case["engine"] else 0)
    assert computed == pytest.approx(printed, rel=0.015)


@pytest.mark.parametrize("case", [case for case in V1 if case["starts"]], ids=lambda case: case["model"])
def test_what_starts_is_not_refused(case: dict) -> None:
    assert fitted(case).verdict != memory.MISFIT


@pytest.mark.parametrize("case", [case for case in V1 if not case["starts"]], ids=lambda case: case["model"])
def test_what_does_not_start_is_not_accepted(case: dict) -> None:
    assert fitted(case).verdict != memory.FITS


def test_tokens_of_text_models() -> None:
    text = [case for case in V1 if case.get("kv_tokens") and "vision_config" not in case.get("facts", {})]
    older = {"max_num_seqs": 256}
    off = [
        abs(fitted(case, **(older if case["model"] == UNLIKE else {})).tokens / case["kv_tokens"] - 1) for case in text
    ]
    assert len(off) > 20
    assert median(off) < 0.05
    assert max(off) < 0.25


@pytest.mark.parametrize("case", CASES["h100"], ids=lambda case: case["model"])
def test_the_reserve_of_an_h100(case: dict) -> None:
    engine = memory.Engine(79.18 * GIB, case["gpu_memory_utilization"], 16000, case["gpus"], version=(0, 11))
    fit = memory.fit(model.read(MODELS[case["model"]], capable=90), engine)
    assert fit.weights / GIB == pytest.approx(case["weights"], rel=0.015)
    assert fit.reserve / GIB == pytest.approx(case["activations"] + case["non_torch"], rel=0.03)
    assert fit.room / GIB == pytest.approx(case["kv_cache"], rel=0.06)


# metadata.total_size of their index files. DeepSeek's has a layer that vLLM leaves out, gpt-oss is padded when it is loaded.
PUBLISHED = {
    "meta-llama/Llama-3.1-8B-Instruct": 16060522496,
    "meta-llama/Llama-3.1-70B-Instruct": 141107412992,
    "Qwen/Qwen2.5-7B-Instruct": 15231233024,
    "Qwen/Qwen2.5-72B-Instruct": 145412407296,
    "Qwen/Qwen3-8B": 16381470720,
    "Qwen/Qwen3-30B-A3B": 61064245248,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 93405585408,
    "google/gemma-3-27b-it": 54864814432,
    "microsoft/phi-4": 29319014400,
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_of_the_catalogue(name: str) -> None:
    assert model.read(MODELS[name]).weight_bytes == pytest.approx(PUBLISHED[name], rel=0.001)


@pytest.mark.parametrize("name", MODELS)
def test_the_catalogue_can_be_read(name: str) -> None:
    known = model.read(MODELS[name])
    assert known.positions >= 4096
    for word in ("awq", "gptq"):
        assert (word in name.lower()) == (known.quantized == word)
    eight = "fp8" in name.lower() or known.kind == "deepseek_v3"
    assert eight == (known.quantized in ("fp8", "compressed-tensors"))


@pytest.mark.parametrize("name", [name for name in MODELS if re.search(r"[-_]\d+(\.\d+)?[bB]", name)])
def test_the_parameters_that_a_name_says(name: str) -> None:
    # Names round, and some leave the embedding out (Qwen 2.5 and 3, Llama 3.2, Gemma).
    said = float(re.search(r"[-_](\d+(?:\.\d+)?)[bB]", name)[1])
    known = model.read({**MODELS[name], "quantization": "none", "quantization_config": None})
    embedding = known.widths["hidden"] * known.widths["vocab"] / 1e9
    counted = sum(part.parameters for part in known.parts if part.bits) / 1e9
    assert counted - 2.2 * embedding - 0.1 < said < 1.1 * counted


def test_parallel() -> None:
    large = model.read(MODELS["Qwen/Qwen3-30B-A3B"])
    one = memory.Engine(80 * GIB, 0.9, 4096)
    whole = memory.weights(large, one)

    def share(**parallel: int) -> float:
        return memory.weights(large, memory.Engine(80 * GIB, 0.9, 4096, **parallel)) / whole

    assert share(tensor=4) == pytest.approx(0.25, abs=0.002)
    # Four heads of keys and values on eight GPUs are copied.
    assert share(tensor=8) > 0.125
    assert share(pipeline=2) == pytest.approx(0.5, abs=0.01)
    # The experts, 95 % of it, are spread over the copies.
    assert share(data=2) == pytest.approx(0.53, abs=0.01)
    assert memory.weights(large, memory.Engine(80 * GIB, 0.9, 4096, offload_bytes=whole)) == 0


@pytest.mark.parametrize(("layers", "count", "sizes"), [(61, 4, [15, 15, 16, 15]), (80, 1, [80]), (7, 3, [2, 3, 2])])
def test_stages(layers: int, count: int, sizes: list[int]) -> None:
    found = memory.stages(layers, count)
    assert [len(stage) for stage in found] == sizes
    assert [layer for stage in found for layer in stage] == list(range(layers))


def test_a_cache_of_eight_bits_holds_twice_as_much() -> None:
    known = model.read(MODELS["Qwen/Qwen3-8B"])
    sixteen, eight = (memory.fit(known, memory.Engine(22 * GIB, 0.9, 4096, cache_bits=bits)) for bits in (16, 8))
    assert eight.tokens == pytest.approx(2 * sixteen.tokens, rel=0.001)


def test_a_sliding_window_bounds_what_a_request_takes() -> None:
    facts = MODELS["google/gemma-3-27b-it"]
    engine = memory.Engine(79.2 * GIB, 0.9, 131072, batched=2048)
    windows = memory.fit(model.read(facts), engine)
    without = memory.fit(model.read({**facts, "sliding_window": None}), engine)
    assert windows.request < without.request / 4


def test_lora_buffers() -> None:
    engine = memory.Engine(80 * GIB, 0.9, 4096, loras=8, rank=512)
    # Field notes, Sizes: 20 GiB (its sum is 22; a vocabulary of adapters' own is counted).
    assert memory.lora_bytes(model.read(MODELS["meta-llama/Llama-3.1-8B-Instruct"]), engine) / GIB == pytest.approx(
        22, abs=1
    )


def test_a_draft_model_takes_its_weights_and_its_cache() -> None:
    large, small = (model.read(MODELS[name]) for name in ("Qwen/Qwen3-32B", "Qwen/Qwen3-4B"))
    alone = memory.Engine(80 * GIB, 0.9, 4096, tensor=2)
    both = memory.Engine(80 * GIB, 0.9, 4096, tensor=2, draft=small)
    assert memory.weights(large, both) - memory.weights(large, alone) == pytest.approx(memory.weights(small, alone))
    # 64 and 36 layers of the same heads.
    assert memory.fit(large, both).request == pytest.approx(memory.fit(large, alone).request * 100 / 64)


def test_a_cache_of_a_given_size_is_not_measured() -> None:
    known = model.read(MODELS["Qwen/Qwen3-8B"])

    def told(gib: float, length: int = 4096) -> memory.Fit:
        return memory.fit(known, memory.Engine(22 * GIB, 0.5, length, cache_bytes=gib * GIB))

    # 144 KiB a token.
    assert told(2).tokens == 2 * GIB // (144 * 1024)
    assert told(2).verdict == memory.FITS
    assert told(2, 16384).verdict == memory.MISFIT
    assert told(8).verdict == memory.MISFIT


def test_an_encoder_has_no_cache() -> None:
    # As published: BAAI/bge-m3, 567754752 parameters.
    large = {"model_type": "xlm-roberta", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    large |= {"num_attention_heads": 16, "vocab_size": 250002, "max_position_embeddings": 8194}
    known = model.read(large)
    assert sum(part.parameters for part in known.parts if part.bits) == pytest.approx(567754752, rel=0.003)
    fit = memory.fit(known, memory.Engine(14.6 * GIB, 0.9, 8192))
    assert (fit.verdict, fit.request, fit.tokens) == (memory.FITS, 0, 0)


def test_lora_buffers_that_are_sharded() -> None:
    known = model.read(MODELS["meta-llama/Llama-3.1-8B-Instruct"])
    half, whole = (
        memory.lora_bytes(known, memory.Engine(80 * GIB, 0.9, 4096, tensor=4, loras=4, rank=64, sharded=sharded))
        for sharded in (True, False)
    )
    assert half < 0.6 * whole
