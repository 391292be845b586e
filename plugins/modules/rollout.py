"""Documentation of the action modelyard.core.rollout, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollout
short_description: Prune, wait until Deployments are rolled out, and explain one that won't be
description:
  - Deletes the objects that C(modelyard.core.plan) found to be no longer wanted.
  - Waits for the Deployments as C(kubectl rollout status) does, and shows how far they are.
  - Waits for a node as long as O(capacity_timeout) allows, and fails at once on what does not heal by itself
    (configuration errors, repeated image-pull failures, crash loops, pods that are refused). The message names the pod, the
    container, the reason, the last events and the last log lines, without what looks like a credential.
  - Renews the lock meanwhile, and frees it at the end.
options:
  workloads:
    description: The Deployments to wait for.
    type: list
    elements: dict
    required: true
  prune:
    description: Objects to delete, as C(modelyard.core.plan) returns them.
    type: list
    elements: dict
    default: []
  wait:
    description: Whether to wait.
    type: bool
    default: true
  capacity_timeout:
    description: Seconds that a pod may wait for a node.
    type: int
    default: 900
  margin:
    description: Seconds that a rollout may take beyond its Deployment's own deadline.
    type: int
    default: 120
  locked:
    description: Whether this run holds the lock.
    type: bool
    default: false
extends_documentation_fragment:
  - modelyard.core.cluster
  - modelyard.core.cluster.lock
author: modelyard
"""

EXAMPLES = r"""
- name: Wait for the rollout
  modelyard.core.rollout:
    connection: {kubeconfig: ~/.kube/config}
    cluster_name: staging
    workloads: "{{ objects | selectattr('kind', 'eq', 'Deployment') }}"
    lock_namespace: ml-models
"""

RETURN = r"""
workloads:
  description: A row for each Deployment, with workload, profile, model, ready, node and gpus.
  returned: success
  type: list
  elements: dict
"""
