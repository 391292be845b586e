"""Documentation of the action modelyard.core.handover, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: handover
short_description: Wait until Argo CD has applied the objects, and let go of their fields
description:
  - Waits until Argo CD has synced the Applications of this cluster.
  - Then gives up the ownership of every field of the objects that Argo CD owns too, so that what Git drops later is removed.
    Nothing but C(metadata.managedFields) changes, and no pod restarts.
  - Fails, and keeps the ownership, for an object with fields that Git does not set.
options:
  connection:
    description: Connection options of the kubernetes.core modules. What is absent comes from C(K8S_AUTH_*).
    type: dict
    default: {}
  rendered:
    description: What C(modelyard.core.render) returned.
    type: dict
    required: true
author: modelyard
"""

EXAMPLES = r"""
- name: Let go of what Argo CD has
  modelyard.core.handover:
    rendered: "{{ rendered }}"
"""

RETURN = r"""
released:
  description: The objects that were let go of.
  returned: success
  type: list
  elements: str
"""
