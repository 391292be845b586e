"""Documentation of the action modelyard.core.gate, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
---
module: gate
short_description: Wake a server for an evaluation, and park it whatever happens
description:
  - Wakes the server, waits until it answers its questions, runs a command, and parks the server again, also when the command fails or takes
    too long, and when the run is ended by SIGINT or SIGTERM, or its C(ansible-playbook) by SIGKILL.
  - Before it wakes the server it makes a CronJob that parks it at a deadline, whatever becomes of the run. Parking removes it.
  - A server that was awake before stays awake, unless C(park) is V(always).
  - While one evaluation uses a server, another is refused. The annotation C(modelyard/gate) of the Deployment says whose it is and until when.
options:
  server:
    description: Name of the server; the judge by default.
    type: str
    default: ''
  command:
    description:
      - 'A command of the shell, on the controller, with C(JUDGE_URL), C(JUDGE_MODEL), C(JUDGE_NAME) and C(JUDGE_CLUSTER) in its environment.'
      - Without one the server stays awake until the deadline, for whoever is given its URL.
    type: str
    default: ''
  timeout:
    description: Seconds that the evaluation may take once the server answers; 1 to 2592000 (30 days).
    type: int
    default: 7200
  park:
    description: Which server is parked at the end, one that the run has woken, or V(always).
    type: str
    choices: [woken, always]
    default: woken
  image:
    description: An image with C(kubectl), for the CronJob; by default that of the server's schedule (C(vllm_judge_schedule_image)).
    type: str
    default: ''
  url:
    description: URL of the server; by default one of this machine that leads through the API server's proxy.
    type: str
    default: ''
  key:
    description: Its API key, for the question that this run asks. Keep it in a vault.
    type: str
    default: ''
extends_documentation_fragment:
  - modelyard.core.reader
  - modelyard.core.reader.cluster
author: modelyard
"""

EXAMPLES = r"""
- name: Evaluate with the judge
  modelyard.core.gate:
    rendered: "{{ rendered }}"
    command: ./evaluate.sh
"""

RETURN = r"""
url:
  description: The server's URL, the given one, or that inside the cluster.
  returned: success
  type: str
model:
  description: The name by which its model is asked.
  returned: success
  type: str
until:
  description: When the cluster parks it; empty where it was awake before.
  returned: success
  type: str
"""
