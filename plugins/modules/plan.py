"""Documentation of the action modelyard.core.plan, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: plan
short_description: Work out what a run would do to a cluster, before its first write
description:
  - Checks which cluster the connection leads to, what the credential may do, that namespaces and APIs exist.
  - Reads every object and server-side applies it as a dry run, so that the API server says what would change, what is
    invalid and whose field is in the way. Everything that is wrong is reported at once, and nothing is written.
  - When something is to be written, outside check mode, creates absent namespaces, takes the lock (a Lease) and takes over the
    fields of the managers in C(apply_adopt_managers). C(modelyard.core.rollout) frees the lock.
  - Writes nothing when nothing differs.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Plan the run
  modelyard.core.plan:
    connection: {kubeconfig: ~/.kube/config, context: staging}
    rendered: "{{ rendered }}"
  register: plan
"""

RETURN = r"""
apply:
  description: The objects to apply, in install order.
  returned: success
  type: list
  elements: dict
prune:
  description: The objects to delete, with their UIDs.
  returned: success
  type: list
  elements: dict
changes:
  description: One line for each object that would change.
  returned: success
  type: list
  elements: str
rows:
  description: The same as rows of the table that check mode ends with, each with would, kind, object and effect.
  returned: success
  type: list
  elements: dict
deployments:
  description: Where nothing is written and all Deployments are rolled out, what C(modelyard.core.rollout) shows of them.
  returned: success
  type: list
  elements: dict
missing:
  description: Kinds whose API the cluster lacks.
  returned: success
  type: list
  elements: str
"""
