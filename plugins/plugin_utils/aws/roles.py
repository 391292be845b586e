"""Plans the IAM roles of a cluster: trust, permissions, limits; never sends a write."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    MANAGED_BY,
    cluster_tags,
    is_ours,
    named,
    owned_sid,
    pairs_of,
    policies_of,
    shared_name,
    tags_of,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Tagged

# Characters by default: of a trust policy, and of all inline policies of a role. AWS raises the first on request.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
QUOTAS = {"AssumeRolePolicySizeQuota": 2048, "RolePolicySizeQuota": 10240}


def role_arns(options: Mapping, account: str) -> list[str]:
    """Name the roles of an account that the inventory names, whether somebody carries them or not."""
    named = {*options["role_arns"], *(item["role_arn"] for item in options["service_accounts"])}
    return sorted(arn for arn in named if names.account_of(arn) == account)


class Roles(Tagged):
    """The roles that ServiceAccounts name, each with a cluster's statement in its trust policy, its policy, and its tag."""

    def compare(self) -> None:
        """See Part."""
        wanted: dict[str, list[Mapping]] = {}
        for item in self.options["service_accounts"]:
            if names.account_of(item["role_arn"]) == self.account.id:
                wanted.setdefault(item["role_arn"], []).append(item)
            else:
                account = names.account_of(item["role_arn"])
                self.plan.notices.append(
                    f"{item['role_arn']} is in account {account}: run this playbook with the credential of that account too, "
                    f"with -e irsa_account_id={account}"
                )
        known = role_arns(self.options, self.account.id)
        for arn in known:
            carriers = wanted.get(arn, []) if self.present else []
            live = self.account.find("iam", "get_role", RoleName=names.role_name_of(arn))
            if live:
                self._looked_at(live["Role"], live["Role"]["AssumeRolePolicyDocument"])
            if carriers:
                self._ensure(arn, carriers, live["Role"] if live else None)
            elif live:
                # Nobody carries it any more.
                self._remove(arn, live["Role"])
        for role in self._left_over({names.role_name_of(arn) for arn in known}):
            if self.present and not self.options["prune"]:
                self.plan.notices.append(
                    f"role {role['RoleName']} still trusts this cluster, and the inventory no longer names it: kept, because irsa_prune is false"
                )
            else:
                self._looked_at(role, role["AssumeRolePolicyDocument"])
                self._remove(role["Arn"], role)

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
            if live and is_ours(tags_of(live["Role"].get("Tags"))):
                yield live["Role"]
            elif live:
                self.plan.notices.append(
                    f"role {role['RoleName']} trusts this cluster, the inventory does not name it, and it is not ours "
                    f"(no tag {MANAGED_BY[0]}={MANAGED_BY[1]}): kept"
                )

    def _statement(self, carriers: list[Mapping]) -> dict:
        if self.options["pod_identity"]:
            accounts = [(item["namespace"], item["name"]) for item in carriers]
            return policies.pod_identity_statement(self.owner.sid, self._cluster_arn(), accounts)
        subjects = [names.subject(item["namespace"], item["name"]) for item in carriers]
        return policies.web_identity_statement(self.owner.sid, self._provider_arn(), subjects)

    def _ensure(self, arn: str, carriers: list[Mapping], live: Mapping | None) -> None:
        name = names.role_name_of(arn)
        access = [entry for item in carriers for entry in item["access"]]
        policy = policies.permissions(access, self.account.id, self.account.partition)
        tags = tags_of((live or {}).get("Tags"))
        before = live and live["AssumeRolePolicyDocument"]
        trust, foreign = policies.merge_trust(
            before, self.owner.sid, self._statement(carriers), lambda sid: owned_sid(sid, tags)
        )
        self._check_size(arn, "trust policy", [trust], "AssumeRolePolicySizeQuota")
        if live is None:
            self._check_size(arn, f"policy {self.owner.policy}", [policy], "RolePolicySizeQuota")
            self._create(arn, trust, policy)
            return
        if live["Arn"] != arn:
            self.plan.problems.append(
                f"role {name} is {live['Arn']}, but the ServiceAccounts name {arn}: set platform_irsa_role_path to its path"
            )
            return
        if not self.may_touch("role", name, tags):
            return
        if foreign:
            sids = ", ".join(str(item.get("Sid") or "one without a Sid") for item in foreign)
            self.plan.notices.append(
                f"role {name}: its trust policy had statements of no cluster that its tags name, and loses them: {sids}"
            )
        self._note_other_names(name, trust, tags)
        others, old = self._policies(name, before, tags)
        if others:
            self.plan.notices.append(
                f"role {name} has policies that are not ours, and are left: {', '.join(others)}. What they allow, it may do too"
            )
        missing = self.missing_tags(tags)
        self._tag("role", {"RoleName": name}, f"role {name}", tags, missing)
        self._limits(name, live)
        # The policy before the trust: who comes to be trusted finds the right one.
        self._put_policy(arn, name, policy)
        if not policies.same(before, trust):
            self._put_trust(live, trust)
        # What 0.1.0 wrote goes last, when all that it was for is there under the new names.
        self._delete_policies(name, old - {self.owner.policy})
        self._untag(
            "role", {"RoleName": name}, f"role {name}", {**tags, **missing}, self._my_tags(before, tags) - {self.tag}
        )

    def _note_other_names(self, name: str, trust: Mapping, tags: Mapping[str, str]) -> None:
        """Say under which other names a role trusts this very cluster: it was renamed, or two hosts of the inventory mean one cluster."""
        here = self._cluster_arn() if self.options["pod_identity"] else self._provider_arn()
        sids = [item["Sid"] for item in trust["Statement"] if f'"{here}"' in json.dumps(item)]
        other = {tag for tag in cluster_tags(tags) - {self.tag} if any(owned_sid(sid, [tag]) for sid in sids)}
        other -= self._my_tags(trust, tags)
        if other:
            self.plan.notices.append(
                f"role {name} trusts this cluster as {named(other)} too: if that was its name, remove it with "
                "-e platform_cluster_name=NAME -e irsa_state=absent"
            )

    def _provider_arn(self) -> str:
        return names.provider_arn(self.options["oidc_issuer"], self.account.id, self.account.partition)

    def _check_size(self, arn: str, what: str, documents: list[Mapping], quota: str, more: str = "") -> None:
        """Compare the size of documents without whitespace with IAM's quota; an account's own is asked for what exceeds the default."""
        size = sum(len(json.dumps(document, separators=(",", ":"))) for document in documents)
        if size <= QUOTAS[quota]:
            return
        limit = self.account.call("iam", "get_account_summary")["SummaryMap"][quota]
        if size > limit:
            hint = "give each cluster a role of its own ({{ platform_cluster_name }} in the role's name)"
            self.plan.problems.append(f"the {what} of {arn} has {size} characters, and IAM takes {limit}: {hint}{more}")

    def _create(self, arn: str, trust: Mapping, policy: Mapping) -> None:
        name = names.role_name_of(arn)
        arguments = {
            "RoleName": name,
            "Path": names.role_path_of(arn),
            "AssumeRolePolicyDocument": json.dumps(trust),
            "MaxSessionDuration": self.options["max_session_seconds"],
            "Tags": pairs_of(self.tags),
        }
        if self.options["permissions_boundary"]:
            arguments["PermissionsBoundary"] = self.options["permissions_boundary"]
        # It has no rights until its policy is there.
        shown = {**arguments, "AssumeRolePolicyDocument": trust, "Tags": self.tags}
        undo = ("delete_role", {"RoleName": name})
        self.write("iam", "create_role", arguments, f"create role {arn}", undo, after=shown)
        self._write_policy(name, None, policy)

    def _limits(self, name: str, live: Mapping) -> None:
        wanted, found = self.options["max_session_seconds"], live.get("MaxSessionDuration", 3600)
        if wanted != found:
            keep = {"RoleName": name, "Description": live.get("Description", "")}
            self.write(
                "iam",
                "update_role",
                {**keep, "MaxSessionDuration": wanted},
                f"change role {name}: sessions of {wanted} s",
                ("update_role", {**keep, "MaxSessionDuration": found}),
                before={"MaxSessionDuration": found},
                after={"MaxSessionDuration": wanted},
            )
        boundary = self.options["permissions_boundary"]
        before = (live.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
        if boundary == before:
            return
        put = ("put_role_permissions_boundary", {"RoleName": name, "PermissionsBoundary": boundary})
        back = ("put_role_permissions_boundary", {"RoleName": name, "PermissionsBoundary": before})
        gone = ("delete_role_permissions_boundary", {"RoleName": name})
        operation, arguments = put if boundary else gone
        self.write(
            "iam",
            operation,
            arguments,
            f"change role {name}: permissions boundary {boundary or 'none'}",
            back if before else gone,
            before={"PermissionsBoundary": before},
            after={"PermissionsBoundary": boundary},
        )

    def _put_policy(self, arn: str, name: str, policy: Mapping) -> None:
        live = self.account.find("iam", "get_role_policy", RoleName=name, PolicyName=self.owner.policy)
        before = live["PolicyDocument"] if live else None
        if before is not None and policies.same(before, policy):
            return
        # All of a role's inline policies share the quota, and those of 0.1.0 go only after this.
        inline = self.account.pages("iam", "list_role_policies", "PolicyNames", RoleName=name)
        others = sorted({*inline} - {self.owner.policy})
        documents = [self._document(name, other) for other in others]
        together = f"policy {self.owner.policy} (with {', '.join(others)})" if others else f"policy {self.owner.policy}"
        old = self.owner.old_policy
        way_out = f"; or delete {old}, which this run replaces, first: pods lose access until it ends"
        self._check_size(arn, together, [policy, *documents], "RolePolicySizeQuota", way_out if old in others else "")
        self._write_policy(name, before, policy)

    def _document(self, name: str, policy: str) -> dict:
        return self.account.call("iam", "get_role_policy", RoleName=name, PolicyName=policy)["PolicyDocument"]

    def _write_policy(self, name: str, before: Mapping | None, policy: Mapping) -> None:
        key = {"RoleName": name, "PolicyName": self.owner.policy}
        undo = (
            ("put_role_policy", {**key, "PolicyDocument": json.dumps(before)})
            if before
            else ("delete_role_policy", key)
        )
        self.write(
            "iam",
            "put_role_policy",
            {**key, "PolicyDocument": json.dumps(policy)},
            f"{'change' if before else 'create'} policy {self.owner.policy} of role {name}",
            undo,
            before=before,
            after=policy,
        )

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

    def _policies(self, name: str, trust: Mapping, tags: Mapping[str, str]) -> tuple[list[str], set[str]]:
        """Name the policies of a role that are of no cluster that it stands for, and those of this cluster alone."""
        inline = self.account.pages("iam", "list_role_policies", "PolicyNames", RoleName=name)
        attached = self.account.pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        mine = policies_of(self._my_tags(trust, tags)) | {self.owner.policy}
        ours = policies_of(cluster_tags(tags)) | mine
        others = [item for item in inline if item not in ours] + [item["PolicyArn"] for item in attached]
        return others, mine & set(inline)

    def _remove(self, arn: str, live: Mapping) -> None:
        name = names.role_name_of(arn)
        tags = tags_of(live.get("Tags"))
        trust = live["AssumeRolePolicyDocument"]
        trusted = any(item.get("Sid") == self.owner.sid for item in iam.listed(trust["Statement"]))
        if not is_ours(tags) or live["Arn"] != arn:
            return
        # The statement's name alone tells the cluster too, should somebody have removed the tag.
        if self.tag not in tags and not trusted:
            if self.owner.old_tag in tags:
                self.plan.notices.append(
                    f"role {name} has the tag {self.owner.old_tag}, but no statement of this cluster, and is left: "
                    "the tag may be of another cluster of this name"
                )
            return
        mine = self._my_tags(trust, tags)
        sharing = cluster_tags(tags) - mine
        others, own = self._policies(name, trust, tags)
        kept = [item for item in iam.listed(trust["Statement"]) if item.get("Sid") != self.owner.sid]
        if sharing:
            rest = policies.document(kept)
            if not kept:
                self.plan.problems.append(
                    f"role {name} is shared with {named(sharing)}, but its trust policy has no statement of theirs: "
                    "run this playbook for them first"
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
        self.write("iam", "delete_role", {"RoleName": name}, f"delete role {arn}", ("create_role", again), before=trust)

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

    def _cluster_arn(self) -> str:
        options = self.options
        return names.cluster_arn(
            options["eks_cluster_name"], options["region"], options["cluster_account_id"], options["partition"]
        )
