"""Documentation of the action modelyard.core.identity, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: identity
short_description: Say whether the chain from each ServiceAccount to S3 closes
description:
  - Reads the ServiceAccounts and the issuer from the cluster; provider, roles and policies, or Pod Identity associations, from AWS.
  - Judges trust and permission policies with their conditions, and the permissions boundary. Writes nothing.
options:
  strict:
    description: Fail when a chain is open.
    type: bool
    default: true
extends_documentation_fragment:
  - modelyard.core.cluster
  - modelyard.core.cluster.identity
  - modelyard.core.cluster.aws
author: modelyard
"""

EXAMPLES = r"""
- name: Follow the chains
  modelyard.core.identity:
    connection: {context: staging}
    api_server: https://ABC.gr7.eu-central-1.eks.amazonaws.com
    cluster_name: staging
    cluster_account_id: "111122223333"
    region: eu-central-1
    namespace: ml-models
    eks_cluster_name: staging
    service_accounts: "{{ service_accounts }}"
    access: {vllm: [{bucket: my-mlflow-artifacts, prefixes: [7/]}]}
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
    reason: {description: What is wrong with it., type: str}
    links: {description: Each link that was reached, and C(ok) or what is wrong., type: dict}
    notices: {description: What does not break it., type: list}
"""
