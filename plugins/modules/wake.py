"""Documentation of the action modelyard.core.wake, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: wake
short_description: Start parked servers, and wait until they answer
description:
  - Gives each server its pods back, as many as before it was parked, or the fewest of its autoscaler, and removes the note.
  - Takes the lock, and waits until the server is rolled out and has answered what C(modelyard.core.smoke) asks.
options:
  servers:
    description: Names of the servers, which are those of their Deployments. By default the judge.
    type: list
    elements: str
    default: []
  urls:
    description: Name of a server to the URL at which it is asked, instead of through the API server's proxy.
    type: dict
    default: {}
  keys:
    description: Name of a server to its API key, for one that asks for one and has a URL in C(urls). Keep it in a vault.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Wake the judge
  modelyard.core.wake:
    rendered: "{{ rendered }}"
"""

RETURN = r"""
workloads:
  description: A row for each server as C(modelyard.core.rollout) gives it.
  returned: success
  type: list
  elements: dict
answers:
  description: A row for each question, with server, question, ok and answer.
  returned: success
  type: list
  elements: dict
"""
