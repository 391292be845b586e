"""Documentation of the action modelyard.core.tree, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: tree
short_description: Write objects as the files that kustomize and Argo CD read
description:
  - Writes one object a file, named after it, with sorted keys and a header that says where it comes from, and a
    C(kustomization.yaml) in each folder. Two runs with one input write the same bytes.
  - Removes files that it wrote before and that nothing wants any more. Files that it did not write are never changed or
    removed; one that is in the way, or that could be taken for a manifest, is an error.
  - Looks at everything before it writes anything, and replaces each file as a whole.
  - Refuses a Secret.
options:
  paths:
    description: C(argocd_apps_path) of each host of the play. Two that would write to one folder are refused.
    type: dict
    default: {}
extends_documentation_fragment:
  - modelyard.core.reader
author: modelyard
"""

EXAMPLES = r"""
- name: Render what is on and what is off
  modelyard.core.render:
    include_disabled: true
  register: rendered
- name: Write the tree
  modelyard.core.tree:
    rendered: "{{ rendered }}"
"""

RETURN = r"""
files:
  description: How many files the tree has.
  returned: success
  type: int
written:
  description: Files that were written, or would be.
  returned: success
  type: list
  elements: str
removed:
  description: Files that were removed, or would be.
  returned: success
  type: list
  elements: str
"""
