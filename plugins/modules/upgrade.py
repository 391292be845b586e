"""Documentation of the action modelyard.core.upgrade, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: upgrade
short_description: Say what another version of vLLM changes for the servers of a host
description:
  - Compares two renderings of the same inventory, today's and one with another image. Connects to nothing, writes nothing.
  - Flags and defaults are those of the lists in C(roles/vllm/flags), metrics and behaviours those of C(roles/vllm/versions.json); a version
    without a list is told as such.
extends_documentation_fragment:
  - modelyard.core.reader
options:
  upgraded:
    description: The rendering with the other image.
    type: dict
    required: true
author: modelyard
"""

EXAMPLES = r"""
- name: Compare the two
  modelyard.core.upgrade:
    rendered: "{{ rendered }}"
    upgraded: "{{ upgraded }}"
  register: upgrade
"""

RETURN = r"""
msg:
  description: What the new version would refuse, for the operator; empty where it refuses nothing.
  returned: always
  type: str
problems:
  description: The same, one by one.
  returned: always
  type: list
  elements: str
servers:
  description: For each vLLM server that is on, server, from, to, and lines of what, name and change.
  returned: always
  type: list
  elements: dict
"""
