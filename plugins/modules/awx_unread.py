"""Documentation of the action modelyard.core.awx_unread, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: awx_unread
short_description: Fail if AWX has not read projects or the sources of inventories, with why
description:
  - The modules of awx.awx tell that it failed. AWX keeps the reason with the job, and this action reads it there.
options:
  awx:
    description: As C(awx_connection) of the role awx.
    type: dict
    required: true
  organization:
    description: Name of the organization.
    type: str
    required: true
  objects:
    description: The projects by C(name), or the sources by C(name) and C(inventory).
    type: list
    elements: dict
    required: true
  timeout:
    description: Seconds to wait for updates that have not ended.
    type: int
    default: 0
author: modelyard
"""

EXAMPLES = r"""
- name: Wait until AWX has fetched the project
  modelyard.core.awx_unread:
    awx: "{{ awx_connection }}"
    organization: modelyard
    objects: [{name: clusters}]
    timeout: 1800
"""

RETURN = r"""
"""
