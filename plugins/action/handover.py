"""Action ``modelyard.core.handover``: see plugins/modules/handover.py for its arguments."""

from __future__ import annotations

import json

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import handover
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import ApiError, Cluster, Unreachable


class ActionModule(ActionBase):
    """Wait until Argo CD has applied the objects, and let go of their fields."""

    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        """Run the action; see ActionBase."""
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(ARGUMENTS)
        options = json.loads(json.dumps(options))
        try:
            released, unclaimed = handover.run(Cluster(options["connection"]), options, self._tell)
        except (handover.Stuck, ApiError, Unreachable) as error:
            raise AnsibleActionFail(f"cluster {options['cluster_name']}: {error}") from None
        for name in released:
            self._tell(f"hand over {name}")
        warnings = [
            f"{name}: no Application delivers it, so it stays as it is and nothing updates it" for name in unclaimed
        ]
        return {"changed": bool(released), "released": released, "warnings": warnings}

    def _tell(self, line: str) -> None:
        self._display.display(f"  {line}")


ARGUMENTS = {
    "connection": {"type": "dict", "required": True},
    "cluster_name": {"type": "str", "required": True},
    "objects": {"type": "list", "elements": "dict", "required": True},
    "field_manager": {"type": "str", "default": "modelyard"},
    "argocd_namespace": {"type": "str", "default": "argocd"},
    "timeout": {"type": "int", "default": 900},
}
