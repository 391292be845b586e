"""Options of the actions that read a rendering."""

from __future__ import annotations


class ModuleDocFragment:
    """What was rendered; and the connection (CLUSTER)."""

    DOCUMENTATION = r"""
options:
  rendered:
    description: What C(modelyard.core.render) returned.
    type: dict
    required: true
"""

    CLUSTER = r"""
options:
  connection:
    description: Connection options of the kubernetes.core modules. What is absent comes from C(K8S_AUTH_*).
    type: dict
    default: {}
"""
