"""Documentation of the action modelyard.core.preflight, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: preflight
short_description: Say whether the servers will start, on which nodes, and at which price
description:
  - Tells as a table what was computed of each server that is on. Writes nothing, takes no lock, and connects to no cluster unless it is asked to.
  - What is wrong is not an error of this task but in RV(report), so that all hosts are told of before a play stops.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  cluster:
    description: Make the plan of a run as well, with the reads and dry runs of that.
    type: bool
    default: false
  quota:
    description:
      - Compare the GPU nodes that the hosts of the play need with the quotas of their AWS account, where there are AWS credentials for it.
      - Where there are none, or a right is missing, that is told and is no error.
    type: bool
    default: true
author: modelyard
"""

EXAMPLES = r"""
- name: Look at every server
  modelyard.core.preflight:
    rendered: "{{ rendered }}"
  register: preflight
"""

RETURN = r"""
msg:
  description: All that is wrong, for the operator; empty where nothing is.
  returned: always
  type: str
report:
  description: What was found.
  returned: always
  type: dict
  contains:
    cluster: {description: Its name., type: str}
    fits: {description: Whether nothing is wrong., type: bool}
    servers:
      description: >-
        One for each server that is on, with server, role, pods, gpus (of all pods), of each GPU weights_bytes, lora_bytes, reserve_bytes and
        kv_bytes, the tokens and full-length requests that the KV cache holds, profile, instance_type, nodes, disk, claims, start_seconds,
        cost_per_hour (US dollars), verdict and why. Null is what is not known.
      type: list
      elements: dict
    pools:
      description: Of each hardware profile that is used, profile, instance_type, capacity_type, nodes and cost_per_hour for all its servers together.
      type: list
      elements: dict
    quotas:
      description: Of each quota that counts one of the pools, code, name, in vCPUs limit, running and more, the nodes that need those, and fits.
      type: list
      elements: dict
    problems: {description: 'What a run would refuse, in its words.', type: list, elements: str}
    notices: {description: 'What was not checked, or is too close to tell.', type: list, elements: str}
"""
