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
  root:
    description: Folder above the tree.
    type: path
    required: true
  tops:
    description: Folders below O(root) that belong to the tree as a whole.
    type: list
    elements: str
    required: true
  folders:
    description:
      - Folders of the tree, each with C(path) below O(root), C(variables) (names or patterns, for the header) and any of
        C(objects), C(base) (path of the folder that it is an overlay of; what differs becomes JSON patches), C(includes)
        (paths of folders that it is made of) and C(off) (objects that have a file, but are not in the kustomization).
    type: list
    elements: dict
    required: true
  cluster_name:
    description: The cluster that the objects are for. A folder that holds another one's is refused.
    type: str
    required: true
  source:
    description: Host and inventory, for the header.
    type: str
    required: true
  problems:
    description: What is wrong with the variables. When there is anything, nothing is written.
    type: list
    elements: str
    default: []
author: modelyard
"""

EXAMPLES = r"""
- name: Write the tree
  modelyard.core.tree:
    root: infra
    tops: [k8s]
    folders:
      - path: k8s/shared
        variables: irsa_*
        objects: "{{ objects }}"
    cluster_name: staging
    source: host staging of inventories/eks
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
