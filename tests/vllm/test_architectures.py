"""The parameters that are counted by a config.json are those of transformers' own classes."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import layers, model
from vllm.server import installed

# Kimi's and DeepSeek V3.2's classes are in their own repositories, and are DeepSeek V3's, one with an indexer; those with a tower have the text model under a name of its own.
ELSEWHERE = {"kimi_k2", "deepseek_v32", "gemma3", "qwen2_vl", "qwen2_5_vl"}
NAMES = sorted(model.architectures().keys() - ELSEWHERE)


def test_parameters():
    command = [installed(), Path(__file__).with_name("architectures.py"), *NAMES]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}
    )
    assert done.returncode == 0, done.stderr
    wrong = {}
    for name, (config, parameters, output) in json.loads(done.stdout).items():
        known = model.read(config)
        ours = sum(part.parameters for part in known.parts if part.bits and (output or part.layer != -2))
        # Norms and biases are left out, of which an encoder has more.
        share = 0.003 if known.attention[0] == layers.BOTH_WAYS else 0.001
        # What facts.yml shows says the same.
        if ours != pytest.approx(parameters, rel=share) or model.read(model.kept(config)) != known:
            wrong[name] = ours, parameters
    assert wrong == {}
