"""Documentation of the action modelyard.core.identity, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: identity
short_description: Say whether the chain from each ServiceAccount to S3 closes
description:
  - Reads the ServiceAccounts, their pods, what injects into those, and the issuer from the cluster; provider, roles, policies, buckets and keys, or Pod Identity associations, from AWS.
  - Evaluates trust and permission policies with their conditions, and the permissions boundary. Writes nothing.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Follow the chains
  modelyard.core.identity:
    connection: {context: staging}
    rendered: "{{ rendered }}"
  register: report
"""

RETURN = r"""
chains:
  description: One for each ServiceAccount.
  returned: always
  type: list
  elements: dict
  contains:
    service_account: {description: NAMESPACE/NAME., type: str}
    role: {description: ARN of the role by the inventory., type: str}
    closed: {description: Whether the chain closes., type: bool}
    broken: {description: The broken link., type: str}
    unjudged: {description: The first link that can't be judged., type: str}
    reason: {description: What is wrong with the broken link or can't be judged of the other., type: str}
    links: {description: Each link that was reached, and C(ok) or what is wrong., type: dict}
    notices: {description: What does not break it., type: list}
"""
