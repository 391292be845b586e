"""Documentation of the action modelyard.core.facts, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: facts
short_description: Fetch what decides about the size of models
description:
  - Fetches C(config.json), and C(model.safetensors.index.json) or the size of C(model.safetensors), of each model, and shows the variables to paste into an inventory.
  - Private and gated models need a token in the environment variable E(HF_TOKEN). It is sent to the endpoint alone, and shown nowhere.
options:
  rendered:
    description: What C(modelyard.core.render) returned; the models of its vLLM servers are fetched.
    type: dict
  models:
    description: Models to fetch instead, as C(org/name), each at its branch C(main).
    type: list
    elements: str
    default: []
  endpoint:
    description: URL of a mirror of Hugging Face; its own host when left out.
    type: str
    default: ''
  proxy:
    description: C(http_proxy), C(https_proxy) and C(no_proxy), for what the environment does not set.
    type: dict
    default: {}
  ca_path:
    description: A file with the certificates to trust; the system's when left out.
    type: str
    default: ''
author: modelyard
"""

EXAMPLES = r"""
- name: Fetch what decides about the size of the models
  modelyard.core.facts:
    rendered: "{{ rendered }}"
"""

RETURN = r"""
models:
  description: Name of a model to its C(model_config) and C(model_weight_bytes) (0 without safetensors).
  returned: success
  type: dict
"""
