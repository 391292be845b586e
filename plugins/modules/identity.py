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
  profile:
    description: Profile of the AWS configuration.
    type: str
    default: ""
  cluster_account_id:
    description: Account of the cluster.
    type: str
    required: true
  region:
    description: Region of the cluster.
    type: str
    required: true
  namespace:
    description: Namespace of the ServiceAccounts.
    type: str
    required: true
  eks_cluster_name:
    description: Name of the cluster in EKS.
    type: str
    required: true
  oidc_issuer:
    description: Issuer of the cluster's tokens. Empty to ask EKS and the cluster.
    type: str
    default: ""
  pod_identity:
    description: The roles come from Pod Identity associations.
    type: bool
    default: false
  service_accounts:
    description: As of M(modelyard.core.aws).
    type: list
    elements: dict
    required: true
  access:
    description: As of M(modelyard.core.aws).
    type: dict
    required: true
  strict:
    description: Fail when a chain is open.
    type: bool
    default: true
extends_documentation_fragment:
  - modelyard.core.cluster
  - modelyard.core.cluster.identity
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
