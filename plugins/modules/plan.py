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
    fields of the managers in O(adopt_managers). C(modelyard.core.rollout) frees the lock.
  - Writes nothing when nothing differs.
options:
  objects:
    description: The objects that are wanted.
    type: list
    elements: dict
    required: true
  components:
    description: Components (label C(modelyard/component)) that this run rendered. Only their objects are pruned.
    type: list
    elements: str
    required: true
  misfits:
    description:
      - Name of a Deployment to what the inventory's hardware profile is too small for, in words.
      - A Deployment whose node selector finds nodes is held against these instead, where the credential may list them.
    type: dict
    default: {}
  namespaces:
    description: Namespaces that may be created, each with C(name), C(create) and C(labels).
    type: list
    elements: dict
    default: []
  prune:
    description:
      - Where to look for objects to prune, each with C(api_version), C(kind) and C(namespace).
      - With C(name), only that object is read; no kind is listed for it.
    type: list
    elements: dict
    default: []
  release:
    description:
      - Where to look, as in O(prune), for what GitOps delivery made and direct delivery is to replace.
      - It is removed before the apply; what Argo CD deployed stays.
    type: list
    elements: dict
    default: []
  parts:
    description:
      - Parts of the platform (annotation C(modelyard/part) of an Application) that stay wanted, whichever Application has them.
      - An Application that goes leaves what it deployed to those, before the apply.
    type: list
    elements: str
    default: []
  cascade:
    description: What an Application deployed that is pruned, and is of none of O(parts), is removed by Argo CD.
    type: bool
    default: false
  field_manager:
    description: Name under which the API server records our fields.
    type: str
    default: modelyard
  adopt_managers:
    description: Patterns of field managers whose fields are taken over, with a notice. A leading C(!) excludes.
    type: list
    elements: str
    default: []
  force:
    description: Take fields from every other manager too.
    type: bool
    default: false
  require_apis:
    description: Refuse objects whose API the cluster lacks, instead of leaving them out with a notice.
    type: bool
    default: false
  argocd_namespace:
    description: Where Argo CD's Applications are.
    type: str
    default: argocd
  lock_wait:
    description: Seconds to wait for another run.
    type: int
    default: 180
extends_documentation_fragment:
  - modelyard.core.cluster
  - modelyard.core.cluster.identity
  - modelyard.core.cluster.lock
author: modelyard
"""

EXAMPLES = r"""
- name: Plan the run
  modelyard.core.plan:
    connection: {kubeconfig: ~/.kube/config, context: staging}
    cluster_name: staging
    api_server: https://ABC.gr7.eu-central-1.eks.amazonaws.com
    objects: "{{ objects }}"
    components: [vllm]
    lock_namespace: ml-models
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
missing:
  description: Kinds whose API the cluster lacks.
  returned: success
  type: list
  elements: str
"""
