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
  objects:
    description: The objects, as direct delivery applies them.
    type: list
    elements: dict
    required: true
  field_manager:
    description: Name under which the API server records our fields.
    type: str
    default: modelyard
  argocd_namespace:
    description: Where Argo CD's Applications are.
    type: str
    default: argocd
  timeout:
    description: Seconds that Argo CD may take.
    type: int
    default: 900
extends_documentation_fragment:
  - modelyard.core.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Let go of what Argo CD has
  modelyard.core.handover:
    connection: {kubeconfig: ~/.kube/config}
    cluster_name: staging
    objects: "{{ objects }}"
"""

RETURN = r"""
released:
  description: The objects that were let go of.
  returned: success
  type: list
  elements: str
"""
