"""Plans which role EKS Pod Identity gives to which ServiceAccount of a cluster; never sends a write."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ABSENT, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import EKS_NAME
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import cluster_tags, is_ours
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import DELETE_ASSOCIATION, Part


class Associations(Part):
    """The Pod Identity associations of a cluster."""

    def compare(self) -> None:
        """See Part."""
        if self.options["account_id"] != self.options["cluster_account_id"]:
            return
        wanted = {}
        if self.present and self.options["pod_identity"]:
            wanted = {(item["namespace"], item["name"]): item["role_arn"] for item in self.here()}
        cluster = {"clusterName": self.options["eks_cluster_name"]}
        live = live_associations(self.account, self.options["eks_cluster_name"])
        for (namespace, name), role in sorted(wanted.items()):
            found = live.get((namespace, name))
            if found is None:
                self._create(cluster, namespace, name, role)
                continue
            adopted = is_ours(found["tags"]) or f"{namespace}/{name}" in self.options["adopt"]
            if found["roleArn"] != role:
                if not self.may_touch("Pod Identity association", f"{namespace}/{name}", found["tags"]):
                    continue
                key = {**cluster, "associationId": found["associationId"]}
                self.write(
                    "eks",
                    "update_pod_identity_association",
                    {**key, "roleArn": role},
                    f"change Pod Identity association of {namespace}/{name}",
                    ("update_pod_identity_association", {**key, "roleArn": found["roleArn"]}),
                    before={"roleArn": found["roleArn"]},
                    after={"roleArn": role},
                )
            if adopted:
                self._tag(found, self.missing_tags(found["tags"]), {self.owner.old_tag})
        for key, found in sorted(live.items()):
            if key not in wanted and is_ours(found["tags"]):
                self._remove(cluster, *key, found)

    def _remove(self, cluster: Mapping, namespace: str, name: str, found: Mapping) -> None:
        # It is this cluster's EKS, so what 0.1.0 wrote means this cluster too.
        mine = {self.tag, self.owner.old_tag} & found["tags"].keys()
        if not mine:
            return
        if cluster_tags(found["tags"]) - mine:
            self._tag(found, {}, mine)
            return
        if self.present and namespace != self.options["namespace"] and not self.options["prune"]:
            self.plan.notices.append(
                f"Pod Identity association of {namespace}/{name}: the inventory no longer names its namespace: kept, because irsa_prune is false"
            )
            return
        again = {"namespace": namespace, "serviceAccount": name, "roleArn": found["roleArn"], "tags": found["tags"]}
        self.write(
            "eks",
            "delete_pod_identity_association",
            {**cluster, "associationId": found["associationId"]},
            f"delete Pod Identity association of {namespace}/{name}",
            ("create_pod_identity_association", {**cluster, **again}),
            before=again,
        )

    def _tag(self, found: Mapping, missing: Mapping[str, str], gone: set[str]) -> None:
        """Give an association tags, and take some away."""
        tags, key = found["tags"], {"resourceArn": found["associationArn"]}
        name = f"Pod Identity association of {found['namespace']}/{found['serviceAccount']}"
        new = [tag for tag in missing if tag not in tags]
        if missing:
            changed = {tag: tags[tag] for tag in missing if tag in tags}
            undo = (
                ("tag_resource", {**key, "tags": changed}) if changed else ("untag_resource", {**key, "tagKeys": new})
            )
            self.write(
                "eks", "tag_resource", {**key, "tags": dict(missing)}, f"tag {name}", undo, tags, {**tags, **missing}
            )
        gone = gone & tags.keys()
        if gone:
            undo = ("tag_resource", {**key, "tags": {tag: tags[tag] for tag in gone}})
            after = {tag: value for tag, value in {**tags, **missing}.items() if tag not in gone}
            arguments = {**key, "tagKeys": sorted(gone)}
            self.write("eks", "untag_resource", arguments, f"untag {name}", undo, {**tags, **missing}, after)

    def _create(self, cluster: Mapping, namespace: str, name: str, role: str) -> None:
        arguments = {"namespace": namespace, "serviceAccount": name, "roleArn": role, "tags": self.tags}
        self.write(
            "eks",
            "create_pod_identity_association",
            {**cluster, **arguments},
            f"create Pod Identity association of {namespace}/{name}",
            (DELETE_ASSOCIATION, {**cluster, "namespace": namespace, "serviceAccount": name}),
            after=arguments,
        )


def live_associations(account: Account, cluster: str, **only: str) -> dict[tuple[str, str], dict]:
    """Read the Pod Identity associations of a cluster, or ``only`` of one namespace, each with its tags, by namespace and ServiceAccount."""
    if not EKS_NAME.fullmatch(cluster):  # none of EKS's
        return {}
    try:
        found = account.pages("eks", "list_pod_identity_associations", "associations", clusterName=cluster, **only)
    except AwsError as error:
        if error.code in ABSENT:  # not an EKS cluster, or one that is gone
            return {}
        raise
    keys = [{"clusterName": cluster, "associationId": item["associationId"]} for item in found]
    whole = [account.call("eks", "describe_pod_identity_association", **key)["association"] for key in keys]
    return {(item["namespace"], item["serviceAccount"]): {**item, "tags": item.get("tags") or {}} for item in whole}
