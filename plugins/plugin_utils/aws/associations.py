"""Plans which role EKS Pod Identity gives to which ServiceAccount of a cluster; never sends a write."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ABSENT, DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import EKS_NAME
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import MANAGED_BY, cluster_tags, is_ours
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import DELETE_ASSOCIATION, Part

# What ours have: the trust policy needs the session tags, and the pod is to get the role itself with all that it may.
# https://docs.aws.amazon.com/eks/latest/APIReference/API_PodIdentityAssociation.html
SETTINGS = {"disableSessionTags": False, "targetRoleArn": "", "policy": ""}


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
            if (namespace, name) in live:
                self._ensure(cluster, live[namespace, name], role)
            else:
                self._create(cluster, namespace, name, role, self.tags)
        for key, found in sorted(live.items()):
            if key not in wanted:
                self._remove(cluster, found)
        for name in sorted(self._old_clusters()):
            self._leave(name)

    def _ensure(self, cluster: Mapping, found: Mapping, role: str) -> None:
        kind, name, tags = "Pod Identity association", f"{found['namespace']}/{found['serviceAccount']}", found["tags"]
        before = {"roleArn": found["roleArn"], **{key: found.get(key) or none for key, none in SETTINGS.items()}}
        after = {"roleArn": role, **SETTINGS}
        differ = [key for key in after if before[key] != after[key]]
        if differ and not self.may_touch(kind, name, tags):
            return
        if "policy" in differ:
            # How a policy would be taken away EKS does not say (EKS API reference, UpdatePodIdentityAssociation).
            self._delete(cluster, found)
            new = {key: value for key, value in {**tags, **self.tags}.items() if key != self.owner.old_tag}
            self._create(cluster, found["namespace"], found["serviceAccount"], role, new)
            return
        if differ:
            self._change(cluster, found, {key: before[key] for key in differ}, {key: after[key] for key in differ})
        if self.owned(name, tags):
            self._tag(found, self.missing_tags(tags), {self.owner.old_tag})
            self.note_tags(f"{kind} {name}", tags)
        elif self.tag in tags:
            self.note_untagged(kind, name, "=".join(MANAGED_BY))

    def _old_clusters(self) -> set[str]:
        """Name the EKS clusters that this cluster's statements trusted before the run: it was made anew under another name, or uses none any more."""
        trust = [before for before, _ in self.plan.trust.values()]
        trust += [role["AssumeRolePolicyDocument"] for role in self.plan.roles or []]
        mine = [
            item
            for document in trust
            for item in iam.listed(document["Statement"])
            if item.get("Sid") == self.owner.sid
        ]
        here = names.cluster_arn("", self.options["region"], self.account.id, self.account.partition)
        found = set(re.findall(f'"{here}([\\w-]+)"', json.dumps(mine)))
        return found - {self.options["eks_cluster_name"]}

    def _leave(self, name: str) -> None:
        """Remove what this cluster has in an EKS cluster that it no longer is."""
        try:
            live = live_associations(self.account, name)
        except AwsError as error:
            if error.code not in DENIED:
                raise
            self.plan.notices.append(f"this cluster was the EKS cluster {name}, and {error}. What it has there stays")
            return
        for _, found in sorted(live.items()):
            if self.tag in found["tags"]:
                self._remove({"clusterName": name}, found)

    def _change(self, cluster: Mapping, found: Mapping, before: Mapping, after: Mapping) -> None:
        """Give an association what ours have; an empty target takes it away."""
        namespace, name = found["namespace"], found["serviceAccount"]
        key = {**cluster, "associationId": found["associationId"]}
        self.write(
            "eks",
            "update_pod_identity_association",
            {**key, **after},
            f"change Pod Identity association of {namespace}/{name}: {', '.join(after)}",
            ("update_pod_identity_association", {**key, **before}),
            before=dict(before),
            after=dict(after),
        )

    def _remove(self, cluster: Mapping, found: Mapping) -> None:
        namespace, name = found["namespace"], found["serviceAccount"]
        # It is this cluster's EKS, so what 0.1.0 wrote means this cluster too, and what names no cluster.
        tags = found["tags"]
        mine = {self.tag, self.owner.old_tag} & tags.keys()
        if not mine and (cluster_tags(tags) or not self._is_known(found)):
            return
        if not self.owned(f"{namespace}/{name}", tags):
            self.note_untagged("Pod Identity association", f"{namespace}/{name}", "=".join(MANAGED_BY))
            return
        if cluster_tags(tags) - mine:
            self._tag(found, {}, mine)
            return
        eks = cluster["clusterName"] if cluster["clusterName"] != self.options["eks_cluster_name"] else ""
        left = f"EKS cluster ({eks})" if eks else "namespace" if namespace != self.options["namespace"] else ""
        if self.present and left and not self.options["prune"]:
            self.plan.notices.append(
                f"Pod Identity association of {namespace}/{name}: the inventory no longer names its {left}: kept, because irsa_prune is false"
                + ("; no later run finds it" if eks else "")
            )
            return
        self._delete(cluster, found)

    def _is_known(self, found: Mapping) -> bool:
        """Tell whether an association that names no cluster is managed by us, or gives a ServiceAccount of the inventory its role."""
        named = {(item["namespace"], item["name"], item["role_arn"]) for item in self.here()}
        return is_ours(found["tags"]) or (found["namespace"], found["serviceAccount"], found["roleArn"]) in named

    def _delete(self, cluster: Mapping, found: Mapping) -> None:
        namespace, name = found["namespace"], found["serviceAccount"]
        again = {"namespace": namespace, "serviceAccount": name, "roleArn": found["roleArn"], "tags": found["tags"]}
        again |= {key: found[key] for key in SETTINGS if found.get(key)}
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

    def _create(self, cluster: Mapping, namespace: str, name: str, role: str, tags: Mapping[str, str]) -> None:
        arguments = {"namespace": namespace, "serviceAccount": name, "roleArn": role, "tags": dict(tags)}
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
