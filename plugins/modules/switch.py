"""Documentation of the action modelyard.core.switch, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: switch
short_description: Let the judge's pods go before those of another variant come
description:
  - Makes the plan of a run that has the other variant. What is refused is refused now, and nothing is touched.
  - Then takes the lock, scales the Deployments whose pods would be replaced or pruned to zero, and waits until the last of their pods is
    gone, terminating ones included, whose GPUs are not free yet. A pod that does not go brings everything back as it was.
  - Applies nothing of the other variant. That is for the role C(apply), which keeps the lock and frees it.
  - The Deployment has the annotation C(modelyard/switch) until then.
  - With C(back), does the same with what was there before, once its successor has failed.
options:
  variant:
    description: The variant that C(rendered) has, or V(none).
    type: str
    default: ''
  inventory:
    description: The variant that the inventory has.
    type: str
    default: ''
  back:
    description: What an earlier call returned.
    type: dict
    default: {}
  cause:
    description: With C(back), why the new variant failed.
    type: str
    default: ''
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Let the old judge go first
  modelyard.core.switch:
    rendered: "{{ rendered }}"
    variant: judge-large
  register: switch
"""

RETURN = r"""
rendered:
  description: What the role C(apply) is to apply; with C(back), what was there before.
  returned: success
  type: dict
before:
  description: The server that was there before, with its model, or V(none).
  returned: without C(back)
  type: str
saved:
  description: Its objects, as they would be applied.
  returned: without C(back)
  type: list
  elements: dict
asked:
  description: Whether this credential may ask servers through the API server's proxy.
  returned: without C(back)
  type: bool
told:
  description: Which line of the inventory is to be changed, empty where it has the variant already; with C(back), why it failed and what runs.
  returned: success
  type: str
cause:
  description: Why the new variant failed.
  returned: with C(back)
  type: str
"""
