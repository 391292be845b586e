"""Documentation of the action modelyard.core.aws, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: aws
short_description: Make the AWS side of a cluster, or take it away
description:
  - Makes the IAM OIDC provider of the cluster (or EKS Pod Identity associations), the IAM roles that ServiceAccounts name, with
    their trust and permission policies, and the buckets that the inventory says are ours.
  - Reads everything and finds every problem before the first write. Writes nothing when nothing differs. When a write fails, the
    earlier ones are rolled back.
  - Credentials are boto3's (environment, profile, instance role), endpoints too (E(AWS_ENDPOINT_URL)).
extends_documentation_fragment:
  - modelyard.core.reader
author: modelyard
"""

EXAMPLES = r"""
- name: Make the AWS side
  modelyard.core.aws:
    rendered: "{{ rendered }}"
"""

RETURN = r"""
changes:
  description: What was (or in check mode would be) written, a line each, in order.
  returned: success
  type: list
  elements: str
"""
