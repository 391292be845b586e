"""Documentation of the action modelyard.core.awx_plan, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: awx_plan
short_description: Find out what is to be done so that AWX is as the inventory says
description:
  - >-
    Checks the variables of the role awx, computes from them and from the clusters of the inventory what AWX is to have, reads what it has,
    and shows what is missing and what differs. For that alone the modules of awx.awx are called. Writes nothing.
  - >-
    So check mode needs no module. Theirs fails where an object that another refers to is missing.
author: modelyard
"""

EXAMPLES = r"""
- name: Compare AWX with the inventory
  modelyard.core.awx_plan:
  register: awx_plan
"""

RETURN = r"""
organization:
  description: Name of the organization.
  returned: success
  type: str
calls:
  description: Kind of object to what its module is called for. Nothing in it is secret.
  returned: success
  type: dict
dropped:
  description: Kind of object to what the role once made and the inventory no longer has.
  returned: success
  type: dict
removed:
  description: The same with C(awx_prune), otherwise nothing.
  returned: success
  type: dict
nothing:
  description: Whether AWX is as the inventory says.
  returned: success
  type: bool
ca_path:
  description: The file with the certificates to trust, or an empty text.
  returned: success
  type: str
"""
