"""Documentation of the action modelyard.core.smoke, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: smoke
short_description: Ask each model server what its users will ask
description:
  - Asks through the API server's proxy to the server's Service, or at a given URL.
  - A parked server, and one whose nodes are simulated, is not asked; the answer says so.
options:
  urls:
    description: Name of a server to the URL at which it is asked instead.
    type: dict
    default: {}
  keys:
    description:
      - Name of a server to its API key, for one that asks for one and has a URL in C(urls). Keep it in a vault.
      - Without its key such a server is asked whether it is healthy, and whether it refuses.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Ask the model servers
  modelyard.core.smoke:
    rendered: "{{ rendered }}"
    urls: {vllm: https://vllm.example.com}
    keys: {vllm: "{{ lookup('ansible.builtin.env', 'VLLM_KEY') }}"}
"""

RETURN = r"""
answers:
  description: A row for each question, with server, question, ok and answer.
  returned: success
  type: list
  elements: dict
"""
