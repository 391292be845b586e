"""Documentation of the action modelyard.core.adopt, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: adopt
short_description: Write the inventory of what runs in a namespace
description:
  - Reads Deployments of vLLM, Triton and MLServer, whoever made them, and what stands around them, and tells the variables that give the same
    objects with the roles of this project. Renders those, and tells what would still change.
  - Writes nothing to the cluster, and reads no Secret.
extends_documentation_fragment:
  - modelyard.core.reader.cluster
options:
  place:
    description: What names the cluster, as the variables of the role platform without their prefix.
    type: dict
    required: true
    options:
      cluster_name: {description: Name of the cluster., type: str, required: true}
      api_server: {description: URL of the API server., type: str, default: ''}
      kube_system_uid: {description: UID of its namespace kube-system., type: str, default: ''}
      require_tls: {description: Check its certificate in any case., type: bool, default: false}
  namespace:
    description: Where to look.
    type: str
    required: true
  file:
    description: File that the inventory is written to, an absolute path. One that is there is not overwritten.
    type: str
    default: ''
author: modelyard
"""

EXAMPLES = r"""
- name: Write the inventory of what runs
  modelyard.core.adopt:
    place: {cluster_name: staging, api_server: https://staging.example.com}
    namespace: llm
"""

RETURN = r"""
report:
  description: What was found.
  returned: success
  type: dict
  contains:
    cluster: {description: Its name., type: str}
    inventory: {description: 'The variables, as YAML.', type: str}
    told: {description: 'What is told beside it, a line each.', type: list, elements: str}
    servers:
      description: One for each server, with server, role, profile, lost, notes, changes, restarts and takeover.
      type: list
      elements: dict
"""
