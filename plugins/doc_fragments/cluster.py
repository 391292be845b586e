"""Options that the actions of modelyard.core share."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection; which cluster is meant (IDENTITY); the lock (LOCK); a cluster's AWS side (AWS)."""

    DOCUMENTATION = r"""
options:
  connection:
    description: Connection options of the kubernetes.core modules. What is absent comes from C(K8S_AUTH_*).
    type: dict
    required: true
  cluster_name:
    description: The cluster's name in messages, and the value of the label C(modelyard/cluster) of its objects.
    type: str
    required: true
"""

    IDENTITY = r"""
options:
  api_server:
    description: URL of the API server that is meant. One of O(api_server) and O(kube_system_uid) must be given.
    type: str
    default: ""
  kube_system_uid:
    description: UID of the namespace kube-system of the cluster that is meant.
    type: str
    default: ""
  problems:
    description: What roles found wrong with their variables. Nothing is done when there is anything.
    type: list
    elements: str
    default: []
"""

    LOCK = r"""
options:
  lock_namespace:
    description: Namespace of the Lease.
    type: str
    required: true
  lock_name:
    description: Name of the Lease.
    type: str
    default: modelyard
"""

    AWS = r"""
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
    description: Region of the cluster and of the buckets.
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
    description: Issuer of the cluster's tokens. Empty to ask EKS.
    type: str
    default: ""
  pod_identity:
    description: The roles come from Pod Identity associations, and there is no OIDC provider.
    type: bool
    default: false
  service_accounts:
    description: Each with C(component), C(namespace), C(name), C(role_arn) and C(reads) (URLs).
    type: list
    elements: dict
    required: true
  access:
    description: Component to the entries of C(irsa_*_access).
    type: dict
    required: true
"""
