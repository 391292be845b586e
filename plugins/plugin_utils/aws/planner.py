"""Plans a cluster's AWS side: reads everything, and finds every problem before the first write; never sends one."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import checks
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.associations import Associations
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.buckets import Buckets
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import EKS_NAME, account_of, role_name_of
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import with_accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.providers import OldProviders, Provider
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.roles import Roles
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.used import Used
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused


class Planner:
    """Compares what is wanted with what is there.

    Args:
        account: where.
        options: of :func:`options.of`.
    """

    def __init__(self, account: Account, options: Mapping) -> None:
        self.account, self.options = account, options
        self.plan = Plan()

    def make(self) -> Plan:
        """Read everything and work out the writes; sends no write.

        Raises:
            Refused: the inputs are wrong, or AWS holds what is in the way.
            AwsError: a read fails.
        """
        problems = checks.check(self.options) + self._check_identity()
        if problems:
            raise Refused(problems)
        self.plan.notices += checks.notices(self.options)
        present = self.options["state"] == "present"
        needed = present and self.options["service_accounts"]
        issuer = self.options["oidc_issuer"] or (self._issuer() if needed else self._issuer_of_old())
        options = {**with_accounts(self.options), "oidc_issuer": issuer}
        self.plan.roles = self._roles()
        # Access begins after what it needs, and ends before.
        made, left = (
            [Buckets, Provider, Roles, Associations, OldProviders],
            [Associations, Roles, OldProviders, Buckets],
        )
        if present:
            self._check_boundary()
            self._check_names()
            Used(self.account, self.options, self.plan).compare()
        for part in made if present else left:
            part(self.account, options, self.plan).compare()
        if self.plan.kept:
            self.plan.notices.append(
                "not from this inventory, and kept, since whether somebody else needs it is not known (what was in irsa_tags once can be "
                f"removed by hand): {', '.join(sorted(self.plan.kept))}"
            )
        if self.plan.problems:
            raise Refused(self.plan.problems)
        return self.plan

    def _check_identity(self) -> list[str]:
        wanted = self.options["account_id"]
        empty = [name for name in ("account_id", "cluster_account_id") if not self.options[name]]
        if empty:
            return [
                f"{'irsa_account_id' if empty[0] == 'account_id' else 'platform_aws_account_id'} is empty (the credentials lead to "
                f"{self.account.id}): set platform_aws_account_id to the cluster's account, also where it has no roles any more"
            ]
        if self.account.id != wanted:
            return [
                f"the AWS credentials lead to account {self.account.id} ({self.account.caller}), but irsa_account_id is {wanted}: "
                f"use that account's: {job.aws_credential()}"
            ]
        if self.account.partition != self.options["partition"]:
            return [
                f"the AWS credentials lead to the partition {self.account.partition}, but platform_aws_partition is "
                f"{self.options['partition']}"
            ]
        return []

    def _check_boundary(self) -> None:
        """Note a permissions boundary that the account has not; a run that may not read it leaves that to IAM."""
        arn = self.options["permissions_boundary"]
        if not arn or not self.options["service_accounts"]:
            return
        try:
            found = self.account.find("iam", "get_policy", PolicyArn=arn)
        except AwsError as error:
            if error.code not in DENIED:
                raise
            return
        if found is None:
            self.plan.problems.append(f"irsa_permissions_boundary: the account has no policy {arn}: make it first")

    def _check_names(self) -> None:
        """Note roles whose names differ from those of existing ones in case alone: IAM would refuse to create them."""
        live = {role["RoleName"].lower(): role["RoleName"] for role in self.plan.roles or []}
        for arn in sorted({item["role_arn"] for item in self.options["service_accounts"]}):
            name = role_name_of(arn)
            found = live.get(name.lower(), name)
            if account_of(arn) == self.account.id and found != name:
                self.plan.problems.append(f"role {name}: the account has {found}, and IAM takes both names for one")

    # --- The cluster ----------------------------------------------------------------------------

    def _issuer(self) -> str:
        if self.options["account_id"] != self.options["cluster_account_id"]:
            raise Refused(
                [
                    f"irsa_oidc_issuer is empty: account {self.options['account_id']} can't ask EKS for the issuer of a cluster in "
                    f"account {self.options['cluster_account_id']}; set it (aws eks describe-cluster --query cluster.identity.oidc.issuer)"
                ]
            )
        name = self.options["eks_cluster_name"]
        found = self.account.find("eks", "describe_cluster", name=name) if EKS_NAME.fullmatch(name) else None
        if found is None:
            hint = "set irsa_eks_cluster_name, or irsa_oidc_issuer"
            raise Refused(
                [f"EKS has no cluster {name!r} in {self.options['region']} of account {self.account.id}: {hint}"]
            )
        cluster = found["cluster"]
        server = self.options["api_server"].rstrip("/").lower()
        if ".eks.amazonaws.com" in server and server != str(cluster.get("endpoint", "")).rstrip("/").lower():
            allowed = "the roles would trust another cluster than the one that the inventory means"
            raise Refused(
                [
                    f"platform_api_server is {server}, but the EKS cluster {name!r} has {cluster.get('endpoint')}: {allowed}"
                ]
            )
        issuer = cluster.get("identity", {}).get("oidc", {}).get("issuer", "")
        if not issuer:
            raise Refused([f"the EKS cluster {name!r} has no OIDC issuer: set irsa_oidc_issuer"])
        return issuer

    def _issuer_of_old(self) -> str:
        """Ask for the issuer where nothing needs it: the cluster may be gone, and then the roles still say it."""
        try:
            return self._issuer()
        except Refused:
            return ""

    def _roles(self) -> list[dict] | None:
        """Read whom the account's roles trust; those that may not list them go on with the roles that the inventory names."""
        try:
            return self.account.pages("iam", "list_roles", "Roles")
        except AwsError as error:
            if error.code not in DENIED:
                raise
            self.plan.notices.append(f"{error}. Roles that the inventory no longer names are not found")
            return None
