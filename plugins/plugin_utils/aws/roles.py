"""Plans the IAM roles of a cluster: trust, permissions, limits; never sends a write."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import drift, iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.oldroles import OldRoles
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    cluster_tags,
    named,
    owned_sid,
    owner_of,
    pairs_of,
    tags_of,
)

# Characters by default: of a trust policy, and of all inline policies of a role. AWS raises the first on request.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
QUOTAS = {"AssumeRolePolicySizeQuota": 2048, "RolePolicySizeQuota": 10240}
# Where AWS denies what docs/aws-policy-boundary.json allows with its boundary alone.
BOUNDED = (
    "With the rights of docs/aws-policy-boundary.json, irsa_permissions_boundary must be the ARN that they name; "
    "only an administrator can remove or change a role's boundary then"
)


def role_arns(options: Mapping, account: str) -> list[str]:
    """Name the roles of an account that the inventory names, whether somebody carries them or not."""
    found = {*options["role_arns"], *(item["role_arn"] for item in options["service_accounts"])}
    return sorted(arn for arn in found if names.account_of(arn) == account)


class Roles(OldRoles):
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
                    f"with {job.given('irsa_account_id', account)}"
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
                self._remove(live["Role"])
        named_here = {names.role_name_of(arn) for arn in known}
        if self.present:
            self._note_renamed(named_here)
        for role in self._left_over(named_here):
            if self.present and not self.options["prune"]:
                self.plan.notices.append(
                    f"role {role['RoleName']} still trusts this cluster, and the inventory no longer names it: kept, because irsa_prune is false"
                )
            else:
                self._looked_at(role, role["AssumeRolePolicyDocument"])
                self._remove(role)

    def _statement(self, carriers: list[Mapping]) -> dict:
        return policies.trust_statement(self.owner.sid, carriers, self._trusted(), self.options["pod_identity"])

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
            if self._is_free(name):
                self._create(arn, trust, policy)
            return
        if live["Arn"] != arn:
            self.plan.problems.append(
                f"role {name} is {live['Arn']}, but the ServiceAccounts name {arn}, and a role can't be moved: set "
                f"platform_irsa_role_path to {live['Path']!r}, or give the role another name along with the new path"
            )
            return
        ours_once = self.tag in tags or self.owner.sid in [item.get("Sid") for item in iam.listed(before["Statement"])]
        if not self.may_touch(
            "role", name, tags, " (it is of this cluster: somebody removed the tag)" if ours_once else ""
        ):
            return
        self._note_trust(name, before, foreign, tags)
        others, old, theirs = self._policies(name, before, tags)
        self._note_policies(name, others, old, theirs)
        self._note_other_names(name, trust, tags)
        if live.get("Description"):
            self.plan.kept.append(f"the description of role {name}")
        self.note_tags(f"role {name}", tags)
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

    def _is_free(self, name: str) -> bool:
        """Tell whether a role of the name can be made; IAM tells no names apart by case (IAM API reference, CreateRole)."""
        alike = [role["RoleName"] for role in self.plan.roles or [] if role["RoleName"].lower() == name.lower()]
        if alike:
            self.plan.problems.append(
                f"role {name} can't be made: there is {alike[0]}, and IAM does not tell names apart by case. Choose another name"
            )
        return not alike

    def _note_trust(self, name: str, trust: Mapping, foreign: list[Mapping], tags: Mapping[str, str]) -> None:
        """Say whom a role trusted that is no cluster of it, or is none by the form of its statement; the clusters' own runs mend that."""
        if foreign:
            said = [f"{item.get('Sid') or 'one without a Sid'} ({drift.said_statement(item)})" for item in foreign]
            lost = any(drift.has_form(str(item.get("Sid"))) for item in foreign)
            again = "A cluster that has lost its tag gets it back, and its statement, when this playbook is run for it"
            self.plan.notices.append(
                f"role {name}: its trust policy had statements of no cluster that its tags name, and loses them: "
                f"{', '.join(said)}{f'. {again}' if lost else ''}"
            )
        found = {str(item.get("Sid", "")): item for item in iam.listed(trust["Statement"])}
        for sid, item in sorted(found.items()):
            owner = self.owner if sid == self.owner.sid else owner_of(sid, tags)
            if not owner or drift.is_as_written(item, owner, self.account.id):
                continue
            what, way = (
                f"role {name}: the statement {sid} has a name of",
                "Run this playbook for that cluster, or remove the statement",
            )
            if owner == self.owner:
                what, way = f"role {name}: the statement {sid} is", "This run puts that right"
            self.plan.notices.append(
                f"{what} {owner}'s, and no run for that cluster writes it so: {drift.said_statement(item)}. {way}"
            )
        idle = {tag for tag in cluster_tags(tags) if not any(owned_sid(sid, [tag]) for sid in found)}
        idle -= self._my_tags(trust, tags)
        if idle:
            self.plan.notices.append(
                f"role {name} has the tag of {named(idle)}, and no statement of theirs: what has that name in it counts as theirs. "
                "Run this playbook for them, or remove the tag"
            )

    def _note_policies(self, name: str, others: list[str], own: set[str], theirs: set[str]) -> None:
        """Say what a role may do by policies that are of no cluster of it, or are none by what they allow."""
        if others:
            said = [
                item if item.startswith("arn:") else f"{item} ({drift.said_policy(self._document(name, item))})"
                for item in others
            ]
            self.plan.notices.append(
                f"role {name} has policies that are not ours, and are left: {', '.join(said)}. What they allow, it may do too"
            )
        for policy in sorted(own | theirs):
            wider = drift.not_of_a_run(self._document(name, policy))
            if not wider["Statement"]:
                continue
            what, way = "has a name of another cluster's", "Run this playbook for that cluster, or delete the policy"
            if policy in own:
                what, way = "is this cluster's", "This run puts that right"
            self.plan.notices.append(
                f"role {name}: the policy {policy} {what}, and no run writes it so: it {drift.said_policy(wider)}. {way}"
            )

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
        self.write("iam", "create_role", arguments, f"create role {arn}", undo, after=shown, hint=BOUNDED)
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
            hint=BOUNDED,
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
            hint=BOUNDED,
        )
