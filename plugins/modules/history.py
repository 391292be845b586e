"""Documentation of the action modelyard.core.history, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: history
short_description: Show what runs have changed on a cluster
description:
  - Tells as a table, newest first, which releases a cluster keeps a record of. Writes nothing, takes no lock.
  - A record that somebody has edited, or that can't be read, is a warning, and left out.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  number:
    description: Show all that is known of this release instead of the table.
    type: int
    default: 0
author: modelyard
"""

EXAMPLES = r"""
- name: Show the releases
  modelyard.core.history:
    rendered: "{{ rendered }}"
  register: history
"""

RETURN = r"""
report:
  description: What was found.
  returned: success
  type: dict
  contains:
    cluster: {description: Its name., type: str}
    releases:
      description: >-
        One for each release, newest first, with number, time, ended, by, process, inventory, commit, clean (yes, no, unknown), versions (images
        among them), changes, result (running, succeeded, failed, rolled back, interrupted), reason, rollback_to (0 for none), delivery
        and components.
      type: list
      elements: dict
    damaged: {description: A line for each record that is damaged., type: list, elements: str}
"""
