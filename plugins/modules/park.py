"""Documentation of the action modelyard.core.park, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: park
short_description: Scale servers to zero until they are woken
description:
  - Notes on each server's Deployment who parked it, when, why and until when, and scales it to zero, in one write. All else of it stays.
  - Takes the lock, so that no run is under way meanwhile, and waits until the pods are gone.
  - A server that is parked already keeps since when it is, and how many pods it had.
options:
  servers:
    description: Names of the servers, which are those of their Deployments. By default the judge.
    type: list
    elements: str
    default: []
  reason:
    description: Why, for those who find it parked.
    type: str
    default: ''
  end:
    description:
      - 'Until when: a time with its zone (V(2026-12-01T07:00:00Z)), or how long from now (V(12h), V(3d)).'
      - It is a note. A run says when that time is over, and nothing wakes the server by itself.
    type: str
    default: ''
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Park the judge
  modelyard.core.park:
    rendered: "{{ rendered }}"
    reason: no evaluation before Monday
    end: 3d
"""

RETURN = r"""
servers:
  description: For each server its name (server), and of what is noted by, since, until, reason and replicas.
  returned: success
  type: list
  elements: dict
"""
