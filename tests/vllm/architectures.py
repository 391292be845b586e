"""Counts the parameters of transformers' own classes, without weights: architectures.py NAME... prints their configurations and counts as JSON.

Runs in vLLM's environment. Each is as its configuration class makes it, with few layers and experts, so that it takes a moment.
"""

import contextlib
import json
import sys

import torch
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM

LAYERS, EXPERTS = 4, 16
# What the class does not fill in.
ROPE = {"rope_scaling": {"rope_type": "default", "mrope_section": [24, 20, 20]}}
MORE = {"qwen3_vl_text": ROPE, "qwen3_vl_moe_text": ROPE, "deepseek_v3": {"n_group": 1, "topk_group": 1}}


def counted(name: str) -> tuple[dict, int, bool]:
    """Give an architecture's configuration, the parameters of its text model, and whether the output is among them."""
    made = CONFIG_MAPPING[name]
    whole = made()
    experts = [
        key
        for key in ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
        if hasattr(whole, key)
    ]
    few = {key: EXPERTS for key in experts if getattr(whole, key)}
    config = made(num_hidden_layers=LAYERS, **few, **MORE.get(name, {}))
    with torch.device("meta"):
        for kind in (AutoModelForCausalLM, AutoModel):
            with contextlib.suppress(ValueError):
                found = kind.from_config(config)
                break
    parameters = sum(one.numel() for one in found.parameters())
    return config.to_dict(), parameters, kind is AutoModelForCausalLM


if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: counted(name) for name in sys.argv[1:]}, default=str))
