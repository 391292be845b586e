"""Documentation of the action modelyard.core.report_page, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: report_page
short_description: Write the reports of all clusters as one HTML page
description:
  - The page needs nothing beside itself, neither a network nor another file.
  - It is written in check mode, too, since no cluster is concerned, and replaced as a whole.
options:
  reports:
    description: What C(modelyard.core.report) returned as RV(modelyard.core.report#module:report), one for each cluster.
    type: list
    elements: dict
    required: true
  path:
    description: The file.
    type: path
    required: true
author: modelyard
"""

EXAMPLES = r"""
- name: Write the page
  modelyard.core.report_page:
    reports: "{{ ansible_play_hosts | map('extract', hostvars, ['report', 'report']) }}"
    path: /tmp/report.html
  run_once: true
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
"""
