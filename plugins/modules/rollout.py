"""Documentation of the action modelyard.core.rollout, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollout
short_description: Prune, wait until Deployments are rolled out, and explain one that won't be
description:
  - Deletes the objects that C(modelyard.core.plan) found to be no longer wanted.
  - Waits for the Deployments as C(kubectl rollout status) does, and shows how far they are.
  - Waits for a node as long as C(apply_capacity_timeout) allows, and fails at once on what does not heal by itself
    (configuration errors, repeated image-pull failures, crash loops, pods that are refused). The message names the pod, the
    container, the reason, the last events and the last log lines, without what looks like a credential.
  - Renews the lock meanwhile, and frees it at the end.
  - Closes with how much has changed and what runs where. In check mode it does only this.
  - With C(apply_handover) on a cluster that is delivered by GitOps, waits until Argo CD has synced its Applications, and gives up the
    ownership of every field of the objects that Argo CD owns too, so that what Git drops later is removed. Nothing but
    C(metadata.managedFields) changes then, and no pod restarts. Fails, and keeps the ownership, for fields that Git does not set.
options:
  plan:
    description: What C(modelyard.core.plan) returned. Where there is something to apply or to prune, this run holds the lock.
    type: dict
    required: true
  cause:
    description: Why the apply stopped. Then nothing is pruned or waited for; what was written by then is told, and the lock is freed.
    type: str
    default: ''
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Wait for the rollout
  modelyard.core.rollout:
    rendered: "{{ rendered }}"
    plan: "{{ plan }}"
"""

RETURN = r"""
workloads:
  description: A row for each Deployment, with workload, profile, model, ready, node, gpus, whether it answers, and by whom it is parked.
  returned: success
  type: list
  elements: dict
applications:
  description: A row for each Application, with application, sync, health and revision.
  returned: on a cluster that is delivered by GitOps
  type: list
  elements: dict
released:
  description: The objects that were handed over to Argo CD.
  returned: after a handover
  type: list
  elements: str
"""
