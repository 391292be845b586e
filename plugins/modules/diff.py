"""Documentation of the action modelyard.core.diff, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: diff
short_description: Say what on a cluster is not as the inventory says, and who changed it
description:
  - Compares each object that the inventory renders with the live one, field by field, and looks for objects of ours that nobody wants.
  - Writes nothing, sends no dry run and takes no lock. A credential that may only read is enough (docs/rbac-read.yaml).
  - What is found, and a cluster that does not answer, is not an error of this task but in RV(report), so that all hosts are told of before a play stops.
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
options:
  aws:
    description:
      - Compare the AWS side as well, where the inventory has one.
      - Where there are no credentials, or a right is missing, that is told and is no error.
    type: bool
    default: true
author: modelyard
"""

EXAMPLES = r"""
- name: Compare the cluster with the inventory
  modelyard.core.diff:
    rendered: "{{ rendered }}"
  register: drift
"""

RETURN = r"""
msg:
  description: What differs, in a sentence for the operator; empty where nothing does and all was compared.
  returned: always
  type: str
report:
  description: What was found.
  returned: always
  type: dict
  contains:
    cluster: {description: Its name., type: str}
    compared: {description: Whether all of it was compared., type: bool}
    error: {description: Why not; empty where it was., type: str}
    objects: {description: How many objects were compared., type: int}
    drift: {description: How many differences there are., type: int}
    differences:
      description: >-
        One for each difference, with kind, namespace, name and component of the object, what (changed, added, removed, absent, unwanted, made,
        deleted, application, aws), field, inventory and cluster (what each says), by, operation, subresource and time (who wrote it, of
        metadata.managedFields; empty where that is not recorded), and note. Credentials are hidden.
      type: list
      elements: dict
    beside: {description: 'Fields that others set beside ours, and may: no drift. In the form of differences.', type: list, elements: dict}
    parked: {description: 'Name of a parked server to by, since, until, reason and replicas.', type: dict}
    lines: {description: The differences as they are shown., type: list, elements: str}
    notices: {description: What else an operator should know., type: list, elements: str}
"""
