"""The parameters that are counted by a config.json are those of transformers' own classes."""

import json
import subprocess
from pathlib import Path

import pytest
import services
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import model

# Kimi's class is in its own repository, and is DeepSeek's; those with a tower have the text model under a name of its own.
ELSEWHERE = {"kimi_k2", "gemma3", "qwen2_vl", "qwen2_5_vl"}
NAMES = sorted(model.architectures().keys() - ELSEWHERE)


@pytest.fixture(scope="module")
def counted():
    command = [services.python_of("vllm"), Path(__file__).with_name("architectures.py"), *NAMES]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={"HF_HUB_OFFLINE": "1"})
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", NAMES)
def test_parameters(counted, name):
    config, parameters, output = counted[name]
    known = model.read(config)
    ours = sum(part.parameters for part in known.parts if part.bits and (output or part.layer != -2))
    # Norms and biases are left out: of four layers a little more than of a whole model.
    assert ours == pytest.approx(parameters, rel=0.001)
    # What facts.yml shows says the same.
    assert model.read(model.kept(config)) == known
