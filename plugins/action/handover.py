"""Action ``modelyard.core.handover``: see plugins/modules/handover.py for its arguments."""

from __future__ import annotations

from ansible_collections.modelyard.core.plugins.plugin_utils.actions import Action
from ansible_collections.modelyard.core.plugins.plugin_utils.argocd import handover
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import delivery
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.client import Cluster


class ActionModule(Action):
    """Wait until Argo CD has applied the objects, and let go of their fields."""

    def perform(self, options: dict, task_vars: dict) -> dict:
        """See Action."""
        rendered = options["rendered"]
        settings = {
            "cluster_name": rendered["cluster"]["name"],
            "argocd_namespace": rendered["cluster"]["argocd_namespace"],
            "objects": delivery.objects(rendered, gitops=False),
            "field_manager": rendered["settings"]["apply"]["field_manager"],
            "timeout": rendered["settings"]["apply"]["handover_timeout"],
        }
        released, unclaimed = handover.run(Cluster(options["connection"]), settings, self.tell)
        for name in released:
            self.tell(f"hand over {name}")
        warnings = [
            f"{name}: no Application delivers it, so it stays as it is and nothing updates it" for name in unclaimed
        ]
        return {"changed": bool(released), "released": released, "warnings": warnings}
