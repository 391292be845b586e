"""Documentation of the action modelyard.core.render, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: render
short_description: Turn a host's variables into objects, and what else is known of them
description:
  - Checks the variables of the roles, computes their servers, renders their templates and labels the objects; connects to nothing.
  - What is wrong is not an error of this task but in RV(problems), so that the reader reports all of it at once. The actions that read
    the result refuse it then.
options:
  roles:
    description: The roles to render. None for all.
    type: list
    elements: str
    default: []
  include_disabled:
    description: Render also the servers and Applications that the inventory has off, as the tree needs them.
    type: bool
    default: false
author: modelyard
"""

EXAMPLES = r"""
- name: Render everything
  modelyard.core.render:
  register: rendered
"""

RETURN = r"""
cluster:
  description: Which cluster is meant, how it is delivered, and its AWS account.
  returned: always
  type: dict
settings:
  description: Variables of the roles apply, irsa, argocd_apps and tree, without prefix and without credentials.
  returned: always
  type: dict
parts:
  description: >-
    One for each server, for what the workflows share, and for the Applications, with role, component, profile, enabled, name, image and objects;
    and where it has such service, questions, needs, misfits, account, folder, base, bundle and off.
  returned: always
  type: list
  elements: dict
role_arns:
  description: Every IAM role that the inventory names.
  returned: always
  type: list
  elements: str
wanted:
  description: Parts that stay wanted, whichever Application has them.
  returned: always
  type: list
  elements: str
secrets:
  description: Secrets that the run keeps, without their data.
  returned: always
  type: list
  elements: dict
namespaces:
  description: Namespaces that must be there, each with name, create and labels.
  returned: always
  type: list
  elements: dict
problems:
  description: What is wrong with the variables.
  returned: always
  type: list
  elements: str
"""
