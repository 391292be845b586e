"""Options that the actions of modelyard.core share."""

from __future__ import annotations


class ModuleDocFragment:
    """The connection; which cluster is meant (IDENTITY); the lock (LOCK)."""

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
