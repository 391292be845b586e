"""Finds the roles that trust a cluster, whatever the inventory says, and plans their end; never sends a write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import drift, iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    MANAGED_BY,
    cluster_tags,
    named,
    owned_sid,
    pairs_of,
    policies_of,
    shared_name,
    tags_of,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Tagged


class OldRoles(Tagged):
    """What a cluster has in roles, and how it goes: its statement, its policy, its tag, and the role if that was all."""

    def _looked_at(self, live: Mapping, trust: Mapping) -> None:
        """Note what a role's trust policy is to be."""
        self.plan.trust[live["Arn"]] = (live["AssumeRolePolicyDocument"], trust)

    def _left_over(self, known: set[str]) -> Iterator[Mapping]:
        """Read the roles that are ours and trust this cluster, whatever the inventory says; a trust policy tells it, and its tags whose it is."""
        for role in self.plan.roles or []:
            sids = [item.get("Sid") for item in iam.listed(role["AssumeRolePolicyDocument"]["Statement"])]
            if role["RoleName"] in known or self.owner.sid not in sids:
                continue
            try:
                live = self.account.find("iam", "get_role", RoleName=role["RoleName"])
            except AwsError as error:
                if error.code not in DENIED:
                    raise
                self.plan.notices.append(
                    f"role {role['RoleName']} trusts this cluster, the inventory does not name it, and {error}"
                )
                continue
            if live and self.owned(role["RoleName"], tags_of(live["Role"].get("Tags"))):
                yield live["Role"]
            elif live:
                self.plan.notices.append(
                    f"role {role['RoleName']} trusts this cluster, the inventory does not name it, and it is not ours "
                    f"(no tag {MANAGED_BY[0]}={MANAGED_BY[1]}): kept. To have it removed, add {role['RoleName']!r} to irsa_adopt"
                )

    def _note_renamed(self, known: set[str]) -> None:
        """Say which roles that the inventory does not name trust this very cluster under another name: their names had the cluster's in them."""
        for role in self.plan.roles or []:
            name, trust = role["RoleName"], role["AssumeRolePolicyDocument"]
            if name in known or not any(map(drift.has_form, self._other_sids(trust))):
                continue
            try:
                live = self.account.find("iam", "get_role", RoleName=name)
            except AwsError as error:
                if error.code not in DENIED:
                    raise
                self.plan.notices.append(f"role {name} trusts this cluster under another name, and {error}")
                continue
            if live:
                self._note_other_names(name, trust, tags_of(live["Role"].get("Tags")))

    def _note_other_names(self, name: str, trust: Mapping, tags: Mapping[str, str]) -> None:
        """Say under which other names a role trusts this very cluster: it was renamed, or two hosts of the inventory mean one cluster."""
        sids = self._other_sids(trust)
        other = {tag for tag in cluster_tags(tags) - {self.tag} if any(owned_sid(sid, [tag]) for sid in sids)}
        other -= self._my_tags(trust, tags)
        if other:
            self.plan.notices.append(
                f"role {name} trusts this cluster as {named(other)} too: if that was its name, remove it with "
                "-e platform_cluster_name=NAME -e irsa_state=absent"
            )

    def _other_sids(self, trust: Mapping) -> list[str]:
        """Name the statements that trust this very cluster, by its provider or its ARN, and are not its own by name."""
        here = self._trusted()
        found = [item for item in iam.listed(trust["Statement"]) if f'"{here}"' in json.dumps(item)]
        return [str(item.get("Sid", "")) for item in found if item.get("Sid") != self.owner.sid]

    def _put_trust(self, live: Mapping, trust: Mapping) -> None:
        name, before = live["RoleName"], live["AssumeRolePolicyDocument"]
        self._looked_at(live, trust)
        self.write(
            "iam",
            "update_assume_role_policy",
            {"RoleName": name, "PolicyDocument": json.dumps(trust)},
            f"change trust policy of role {name}",
            ("update_assume_role_policy", {"RoleName": name, "PolicyDocument": json.dumps(before)}),
            before=before,
            after=trust,
        )

    def _my_tags(self, trust: Mapping, tags: Mapping[str, str]) -> set[str]:
        """Give the tags of a role that stand for this cluster alone: 0.1.0's is that of all clusters of the name."""
        sids = [str(item.get("Sid", "")) for item in iam.listed(trust["Statement"])]
        old = set() if shared_name(self.owner, sids, tags) else {self.owner.old_tag}
        return ({self.tag} | old) & tags.keys()

    def _policies(self, name: str, trust: Mapping, tags: Mapping[str, str]) -> tuple[list[str], set[str], set[str]]:
        """Name the policies of a role: of no cluster that it stands for, of this cluster alone, and of the others that it stands for."""
        inline = self.account.pages("iam", "list_role_policies", "PolicyNames", RoleName=name)
        attached = self.account.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        mine = policies_of(self._my_tags(trust, tags)) | {self.owner.policy}
        ours = policies_of(cluster_tags(tags)) | mine
        others = [item for item in inline if item not in ours] + [item["PolicyArn"] for item in attached]
        return others, mine & set(inline), (ours - mine) & set(inline)

    def _stands_for_it(self, live: Mapping) -> bool:
        """Tell whether a role is ours and has a part of this cluster's, by its tag, its statement or its policy; note it where that is not clear."""
        name, trust, tags = live["RoleName"], live["AssumeRolePolicyDocument"], tags_of(live.get("Tags"))
        trusted = any(item.get("Sid") == self.owner.sid for item in iam.listed(trust["Statement"]))
        if not self.owned(name, tags):
            if trusted or self.tag in tags:
                self.note_untagged("role", name, "=".join(MANAGED_BY))
            return False
        if self.tag in tags or trusted or self.owner.policy in self._policies(name, trust, tags)[1]:
            return True
        if self.owner.old_tag in tags:
            self.plan.notices.append(
                f"role {name} has the tag {self.owner.old_tag}, but no statement of this cluster, and is left: "
                "the tag may be of another cluster of this name"
            )
        return False

    def _remove(self, live: Mapping) -> None:
        if not self._stands_for_it(live):
            return
        name, trust, tags = live["RoleName"], live["AssumeRolePolicyDocument"], tags_of(live.get("Tags"))
        mine = self._my_tags(trust, tags)
        sharing = cluster_tags(tags) - mine
        others, own, _ = self._policies(name, trust, tags)
        kept = [item for item in iam.listed(trust["Statement"]) if item.get("Sid") != self.owner.sid]
        if sharing:
            rest = policies.document(kept)
            if not kept:
                self.plan.problems.append(
                    f"role {name} is shared with {named(sharing)}, but its trust policy has no statement of theirs: "
                    "run this playbook for them first, or remove their tag"
                )
                return
            if not policies.same(trust, rest):
                self._put_trust(live, rest)
            self._delete_policies(name, own)
            self._untag("role", {"RoleName": name}, f"role {name}", tags, mine)
            return
        in_the_way = {
            "has policies that are not ours, so it can't be deleted: detach them first": others,
            "trusts others too, so it can't be deleted: remove these statements of its trust policy first": [
                str(item.get("Sid") or "one without a Sid") for item in kept
            ],
        }
        for what, found in in_the_way.items():
            if found:
                way_out = " (or keep the role, with irsa_prune: false)" if self.present else ""
                self.plan.problems.append(f"role {name} {what}: {', '.join(found)}{way_out}")
        if others or kept:
            return
        self._delete_policies(name, own)
        again = {
            "RoleName": name,
            "Path": live["Path"],
            "AssumeRolePolicyDocument": json.dumps(trust),
            "MaxSessionDuration": live.get("MaxSessionDuration", 3600),
            "Tags": pairs_of(tags),
        }
        boundary = (live.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        more = {"PermissionsBoundary": boundary, "Description": live.get("Description")}
        again |= {key: value for key, value in more.items() if value}
        self._looked_at(live, policies.document([]))
        undo = ("create_role", again)
        self.write(
            "iam",
            "delete_role",
            {"RoleName": name},
            f"delete role {live['Arn']}",
            undo,
            before=trust,
            role_id=live["RoleId"],
        )

    def _delete_policies(self, name: str, gone: set[str]) -> None:
        for policy in sorted(gone):
            key = {"RoleName": name, "PolicyName": policy}
            document = self._document(name, policy)
            self.write(
                "iam",
                "delete_role_policy",
                key,
                f"delete policy {policy} of role {name}",
                ("put_role_policy", {**key, "PolicyDocument": json.dumps(document)}),
                before=document,
            )

    def _document(self, name: str, policy: str) -> dict:
        return self.account.call("iam", "get_role_policy", RoleName=name, PolicyName=policy)["PolicyDocument"]

    def _trusted(self) -> str:
        """Give the ARN by which a role trusts this cluster."""
        return self._cluster_arn() if self.options["pod_identity"] else self._provider_arn()

    def _provider_arn(self) -> str:
        return names.provider_arn(self.options["oidc_issuer"], self.account.id, self.account.partition)

    def _cluster_arn(self) -> str:
        options = self.options
        return names.cluster_arn(
            options["eks_cluster_name"], options["region"], options["cluster_account_id"], options["partition"]
        )
