"""Documentation of the action modelyard.core.aws, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: aws
short_description: Make the AWS side of a cluster, or take it away
description:
  - Makes the IAM OIDC provider of the cluster (or EKS Pod Identity associations), the IAM roles that ServiceAccounts name, with
    their trust and permission policies, and the buckets that the inventory says are ours.
  - Reads everything and finds every problem before the first write. Writes nothing when nothing differs. When a write fails, what
    came before it is taken back.
  - Credentials are boto3's (environment, profile, instance role), endpoints too (E(AWS_ENDPOINT_URL)).
options:
  state:
    description: V(absent) takes away what is ours by its tags and serves no other cluster.
    type: str
    choices: [present, absent]
    default: present
  problems:
    description: What roles found wrong with their variables. Nothing is done when there is anything.
    type: list
    elements: str
    default: []
  cluster_name:
    description: Name of the cluster in tags, statements and policies.
    type: str
    required: true
  account_id:
    description: Account to work in; the credentials must lead there.
    type: str
    required: true
  partition:
    description: Partition of the account.
    type: str
    default: aws
  api_server:
    description: URL of the API server that is meant; compared with EKS's where it is one of EKS's.
    type: str
    default: ""
  role_arns:
    description: Roles that the inventory names, carried by an account or not. What nobody carries trusts this cluster no more.
    type: list
    elements: str
    default: []
  buckets:
    description: C(irsa_buckets).
    type: dict
    default: {}
  permissions_boundary:
    description: ARN of the roles' permissions boundary.
    type: str
    default: ""
  max_session_seconds:
    description: Length of a session of the roles.
    type: int
    default: 3600
  tags:
    description: Tags of what is made.
    type: dict
    default: {}
  adopt:
    description: What may be taken over though it is not ours by its tags.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - modelyard.core.cluster.aws
author: modelyard
"""

EXAMPLES = r"""
- name: Make the AWS side
  modelyard.core.aws:
    cluster_name: staging
    cluster_account_id: "111122223333"
    account_id: "111122223333"
    region: eu-central-1
    namespace: ml-models
    eks_cluster_name: staging
    service_accounts:
      - component: vllm
        namespace: ml-models
        name: vllm-sa
        role_arn: arn:aws:iam::111122223333:role/my-vllm-s3-read
    access:
      vllm: [{bucket: my-mlflow-artifacts, prefixes: [7/]}]
"""

RETURN = r"""
changes:
  description: What was (or in check mode would be) written, a line each, in order.
  returned: success
  type: list
  elements: str
"""
