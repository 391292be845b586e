"""Documentation of the action modelyard.core.smoke, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: smoke
short_description: Ask each model server what its users will ask
description:
  - Asks through the API server's proxy to the server's Service, or at a given URL.
  - A parked server, and one whose nodes are simulated, is not asked; the answer says so.
options:
  namespace:
    description: Namespace of the servers.
    type: str
    required: true
  servers:
    description:
      - The servers, each with C(name) of its Deployment, C(service), and C(questions).
      - A question has C(path), C(body) (a dictionary makes it a POST), and C(expect), a text that the answer must hold.
    type: list
    elements: dict
    required: true
  urls:
    description: Name of a server to the URL at which it is asked instead.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelyard.core.cluster
  - modelyard.core.cluster.identity
author: modelyard
"""

EXAMPLES = r"""
- name: Ask Triton
  modelyard.core.smoke:
    connection: {}
    cluster_name: staging
    api_server: https://ABC.gr7.eu-central-1.eks.amazonaws.com
    namespace: ml-models
    servers:
      - name: triton-inference
        service: triton-inference
        questions:
          - {path: /v2/health/ready}
          - {path: /v2/models/resnet18_imagenette, expect: resnet18_imagenette}
"""

RETURN = r"""
answers:
  description: A row for each question, with server, question, ok and answer.
  returned: success
  type: list
  elements: dict
"""
