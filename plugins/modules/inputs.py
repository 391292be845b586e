"""Documentation of the action modelyard.core.inputs, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: inputs
short_description: Check roles' variables before the first write
description:
  - Refuses variables that begin with a role's name, or nearly so, and that the role does not know, and names the nearest right one.
  - Validates every variable of the given roles against their argument specs, as deep as these go, after templating.
  - Checks the platform's variables against each other.
  - Collects all problems. Each names the variable, its value, what is allowed and where it is set.
options:
  roles:
    description:
      - Roles whose variables are checked. The role C(platform) is always among them.
      - All roles with an argument spec, when empty.
    type: list
    elements: str
    default: []
  roles_path:
    description: Folder of the roles. The one that holds the calling role, when left out.
    type: path
notes:
  - Registered as C(__platform_inputs), it checks a role only once for each host of a play.
author: modelyard
"""

EXAMPLES = r"""
- name: Check the variables of two roles
  modelyard.core.inputs:
    roles: [triton, vllm]
  register: __platform_inputs
"""

RETURN = r"""
roles:
  description: The roles that have passed on this host.
  returned: success
  type: list
  elements: str
"""
