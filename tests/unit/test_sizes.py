"""Sizes of models and the time that they take, against the numbers of the field notes."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm

MODELS = vllm.known_models()
MISTRAL = MODELS["TheBloke/Mistral-7B-v0.1-AWQ"]
LLAMA = MODELS["hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4"]


@pytest.mark.parametrize(("facts", "gib", "kib"), [(MISTRAL, 3.87, 128), (LLAMA, 37.0, 320)])
def test_sizes(facts: dict, gib: float, kib: int) -> None:
    assert vllm.weight_bytes(facts) / GIB == pytest.approx(gib, abs=0.05)
    assert vllm.kv_bytes_per_token(facts) == kib * 1024


def test_weights_may_be_given() -> None:
    assert vllm.weight_bytes({"weight_bytes": 5}) == 5


def test_sixteen_bits() -> None:
    assert vllm.weight_bytes({**MISTRAL, "quantization": "none"}) / GIB == pytest.approx(13.49, abs=0.01)


@pytest.mark.parametrize(
    ("facts", "parallel", "gpu", "utilization", "length", "reason"),
    [
        (MISTRAL, 1, 22.0, 0.88, 4096, ""),
        (LLAMA, 4, 22.0, 0.80, 4096, ""),
        (LLAMA, 1, 22.0, 0.80, 4096, "the weights need 37.0"),
        (LLAMA, 4, 14.6, 0.70, 4096, "the weights need 9.26"),
        (MISTRAL, 1, 22.0, 0.88, 131072, "tokens 16.00"),
        (MISTRAL, 1, 22.0, 0.97, 4096, "CUDA graphs need 1"),
    ],
)
def test_fit(facts: dict, parallel: int, gpu: float, utilization: float, length: int, reason: str) -> None:
    weights, token = vllm.weight_bytes(facts), vllm.kv_bytes_per_token(facts)
    told = vllm.gpu_misfit(weights, token, parallel, gpu, utilization, length)
    assert (reason in told) if reason else not told


def test_flags() -> None:
    given = {
        "max_num_seqs": 16,
        "--async-scheduling": None,
        "enable-prefix-caching": True,
        "left-out": False,
        "compilation-config": {"level": 3},
        "served-model-name": ["a b", "c"],
    }
    assert vllm.flags(given) == [
        "--max-num-seqs=16",
        "--async-scheduling",
        "--enable-prefix-caching",
        '--compilation-config={"level":3}',
        "--served-model-name",
        "a b",
        "c",
    ]
