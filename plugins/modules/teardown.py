"""Documentation of the action modelyard.core.teardown, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: teardown
short_description: Remove what the project owns on one cluster
description:
  - Finds by labels all that runs made for the cluster, also what the inventory no longer has, and removes it in order, under the lock.
  - Applications go with what they deployed. Volume claims and namespaces stay unless they are asked for.
  - Tells what stays, and what of it still costs money. In check mode, and without O(confirm), only tells what would go.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  confirm:
    description: The cluster's name. Anything else is refused, except in check mode.
    type: str
    default: ''
  claims:
    description: Remove volume claims, too, with their data.
    type: bool
    default: false
  namespaces:
    description: Remove the servers' namespace, too, if a run made it and nothing of others is in it.
    type: bool
    default: false
  timeout:
    description: Seconds that the objects of one step may take to be gone.
    type: float
    default: 900
author: modelyard
"""

EXAMPLES = r"""
- name: Remove what the project owns
  modelyard.core.teardown:
    rendered: "{{ rendered }}"
    confirm: staging
"""

RETURN = r"""
report:
  description: What was done.
  returned: success
  type: dict
  contains:
    cluster: {description: Its name., type: str}
    removed: {description: 'What was removed, or would be.', type: list, elements: str}
    left: {description: 'What stays, each with what, why and cost_per_hour (US dollars; null where it is not known).', type: list, elements: dict}
"""
