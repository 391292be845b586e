"""Documentation of the action modelyard.core.report, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: report
short_description: Say how every server of a cluster is, and what needs a person
description:
  - Reads what the cluster and the inventory say of each server that is on. Writes nothing and takes no lock; a credential that only reads is enough.
  - A cluster that does not answer is no error of this task, but told in RV(report).
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  identity:
    description: Follow the chain of each ServiceAccount to S3, where there are AWS credentials in the environment or a profile in the inventory.
    type: bool
    default: true
author: modelyard
"""

EXAMPLES = r"""
- name: Look at every server
  modelyard.core.report:
    connection: "{{ platform_connection | default({}) }}"
    rendered: "{{ rendered }}"
  register: report
"""

RETURN = r"""
report:
  description: What was found. Sizes are in bytes, times RFC 3339, ages in seconds, money in US dollars; null is what is not known.
  returned: always
  type: dict
  contains:
    host: {description: Its name in the inventory., type: str}
    cluster: {description: Its name., type: str}
    at: {description: 'When that was so, by the clock of its API server.', type: str}
    answers: {description: 'Whether it could be looked at.', type: bool}
    why: {description: Why not., type: str}
    findings:
      description: What needs a person, each with kind (broken, drifted, limit or idle), server (empty for the cluster itself) and text.
      type: list
      elements: dict
    servers:
      description: >-
        One for each server that is on, with server, role, profile, instance_type, model, image, state, why, ready, wanted, parked, nodes, since, age, restarts,
        killed, gpus (of one pod), memory (of one GPU; total, weights, kv, lora, reserve, free), tokens, requests, verdict, verdict_why,
        shares (of its node; cpu, memory, gpu), cost (of an hour; now, parked, awake; and month, and saved since it is parked), adapters and account.
      type: list
      elements: dict
    expected: {description: 'The servers that the inventory has on, by name.', type: list, elements: str}
    applications: {description: 'Of each Application, application, sync, health, revision and why.', type: list, elements: dict}
    quotas: {description: 'Of each resource of a ResourceQuota, quota, resource, used, hard and share.', type: list, elements: dict}
    releases: {description: 'The last releases, the newest first.', type: list, elements: dict}
    drift:
      description: What differs from the inventory, as modelyard.core.diff gives it, each with its server and the first line of its text.
      type: list
      elements: dict
    chains: {description: 'The chains to S3, as modelyard.core.identity gives them.', type: list, elements: dict}
    identity: {description: 'Whose AWS was asked, or why none.', type: str}
    problems: {description: 'What a run would refuse of the inventory.', type: list, elements: str}
    unread: {description: 'What the credential may not read.', type: list, elements: str}
    cost_per_hour: {description: 'Of all nodes that the servers fill together.', type: float}
    unpriced: {description: 'Hardware profiles whose price is not known.', type: list, elements: str}
"""
