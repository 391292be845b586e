"""What is read from a model's config.json."""

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import layers, model, quantization

PLAIN = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}
INT4 = {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True}
TENSORS = {"quant_method": "compressed-tensors", "config_groups": {"group_0": {"targets": ["Linear"], "weights": INT4}}}


def bits(config: dict, name: str = "model.layers.0.self_attn.q_proj", group: str = "linear") -> float:
    return quantization.read({"quantization_config": config}).of(name, group)


@pytest.mark.parametrize(
    "key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size"]
)
def test_a_missing_key_is_named(key: str) -> None:
    with pytest.raises(model.Unknown, match=f"{key} missing"):
        model.read({name: value for name, value in PLAIN.items() if name != key})


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"model_type": "mamba2"}, "the architecture 'mamba2' is not known here"),
        ({"hidden_size": "64"}, "hidden_size must be a whole number, and is '64'"),
        ({"num_hidden_layers": True}, "num_hidden_layers must be a whole number"),
        ({"layer_types": ["full_attention"]}, "layer_types names 1 layers, and there are 4"),
        ({"layer_types": ["mamba"] * 4}, "layers of a kind that is not known here: mamba"),
        ({"layer_types": ["sliding_attention"] * 4}, "sliding_window missing"),
        ({"quantization": "aqlm"}, "the quantization 'aqlm' is not known here"),
        ({"quantization_config": {"quant_method": "hqq"}}, "the quantization 'hqq' is not known here"),
        ({"quantization_config": {"quant_method": "gptq"}}, "bits of the quantization_config must be a whole number"),
        ({"vision_config": {"hidden_size": 8}}, "the size of the vision tower"),
    ],
)
def test_what_is_not_known_is_no_size(given: dict, told: str) -> None:
    with pytest.raises(model.Unknown, match=told):
        model.read({**PLAIN, **given})


def test_a_text_model_within_another() -> None:
    inner = {"text_config": {**PLAIN, "model_type": "mistral"}, "model_type": "mistral3", "quantization_config": FP8}
    assert model.read(inner).quantized == "fp8"
    assert model.read(inner).weight_bytes == model.read({**PLAIN, "quantization": "fp8"}).weight_bytes


def test_what_the_file_leaves_out_is_the_architectures() -> None:
    # As published: google/gemma-3-4b-it.
    text = {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "sliding_window": 1024,
    }
    tower = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27}
    known = model.read({"model_type": "gemma3", "text_config": text, "vision_config": tower})
    # Its files' total_size.
    assert known.weight_bytes == pytest.approx(8600158944, rel=0.005)
    assert known.attention.count(layers.FULL) == 5
    assert known.vision


def test_an_explicit_null_wins_over_the_architecture() -> None:
    assert set(model.read({**PLAIN, "model_type": "gemma2", "sliding_window": None}).attention) == {layers.FULL}
    assert model.read({**PLAIN, "num_key_value_heads": None}).kv_heads == 4


@pytest.mark.parametrize(
    ("given", "full"),
    [
        ({"sliding_window": 16}, []),
        ({"sliding_window": 16, "use_sliding_window": False}, [0, 1, 2, 3]),
        ({"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 3}, [0, 1, 2]),
        ({"sliding_window": 16, "sliding_window_pattern": 2}, [1, 3]),
        ({"sliding_window": 16, "model_type": "qwen2"}, [0, 1, 2, 3]),
        ({"attention_chunk_size": 16, "no_rope_layers": [1, 1, 1, 0], "model_type": "llama4_text"}, [3]),
    ],
)
def test_which_layers_see_everything(given: dict, full: list[int]) -> None:
    kinds = model.read({**PLAIN, **given}).attention
    assert [layer for layer, kind in enumerate(kinds) if kind == layers.FULL] == full


def test_a_given_size_wins() -> None:
    assert model.read(PLAIN, weight_bytes=5).weight_bytes == 5
    assert model.read({**PLAIN, "weight_bytes": 7}).weight_bytes == 7


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (AWQ, 4 + 20 / 128),
        ({**AWQ, "group_size": 64}, 4 + 20 / 64),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, 8),
        (FP8, 8),
        (TENSORS, 4 + 16 / 128),
        (
            {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_use_double_quant": True},
            4 + 8 / 64 + 32 / (64 * 256),
        ),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4.5),
    ],
)
def test_bits(config: dict, expected: float) -> None:
    assert bits(config) == expected
    assert bits(config, "lm_head", "head") == 16


@pytest.mark.parametrize(
    ("config", "name", "left"),
    [
        ({**TENSORS, "ignore": ["lm_head", "re:.*self_attn.*"]}, "model.layers.3.self_attn.q_proj", True),
        ({**TENSORS, "ignore": ["re:.*self_attn.*"]}, "model.layers.3.mlp.down_proj", False),
        ({**TENSORS, "ignore": ["model.layers.1.mlp.down_proj"]}, "model.layers.1.mlp.down_proj", True),
        ({**TENSORS, "ignore": ["model.layers.1.mlp.down_proj"]}, "model.layers.11.mlp.down_proj", False),
        ({**TENSORS, "ignore": ["language_model.model.layers.1.self_attn"]}, "model.layers.1.self_attn.q_proj", True),
        ({**AWQ, "modules_to_not_convert": ["self_attn"]}, "model.layers.2.self_attn.q_proj", True),
        ({**FP8, "modules_to_not_convert": ["model.layers.*.self_attn"]}, "model.layers.2.self_attn.q_proj", True),
    ],
)
def test_what_is_left_out(config: dict, name: str, left: bool) -> None:
    assert (bits(config, name) == 16) is left
