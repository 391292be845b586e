"""Documentation of the action modelyard.core.rollback, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollback
short_description: Read a release of a cluster, to be brought back
description:
  - Gives what the role apply takes in the place of the inventory's rendering, so that the objects of a release are planned, applied and
    waited for like those of any run. Writes nothing.
  - Refuses a release of another cluster or another way of delivery, and one whose record is damaged.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  release:
    description: Number of the release.
    type: str
    default: ''
author: modelyard
"""

EXAMPLES = r"""
- name: Read the release
  modelyard.core.rollback:
    rendered: "{{ rendered }}"
    release: 7
  register: rollback
"""

RETURN = r"""
rendered:
  description: What C(modelyard.core.render) returned, with the objects of the release.
  returned: success
  type: dict
"""
