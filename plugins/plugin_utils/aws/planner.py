"""Plans a cluster's AWS side: reads everything, and finds every problem before the first write; never sends one."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import checks, iam, names
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.associations import Associations
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.buckets import Buckets
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Plan
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.roles import Provider, Roles, role_arns
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
        present = self.options["state"] == "present"
        issuer = self.options["oidc_issuer"] or (self._issuer() if present else self._issuer_of_old())
        options = {**self.options, "oidc_issuer": issuer}
        parts = [Buckets, Provider, Roles, Associations]
        # Access ends before what it leads to.
        for part in parts if present else reversed(parts):
            part(self.account, options, self.plan).compare()
        if self.plan.problems:
            raise Refused(self.plan.problems)
        return self.plan

    def _check_identity(self) -> list[str]:
        wanted = self.options["account_id"]
        if self.account.id != wanted:
            return [
                f"the AWS credentials lead to account {self.account.id} ({self.account.caller}), but irsa_account_id is {wanted}: "
                "give the job the credential of that account"
            ]
        if self.account.partition != self.options["partition"]:
            return [
                f"the AWS credentials lead to the partition {self.account.partition}, but platform_aws_partition is "
                f"{self.options['partition']}"
            ]
        return []

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
        found = self.account.find("eks", "describe_cluster", name=name)
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
        """Find the issuer for a teardown: the cluster may be gone, and then the roles still say it."""
        try:
            return self._issuer()
        except Refused:
            name = Owner(self.options["cluster_account_id"], self.options["region"], self.options["cluster_name"]).sid
            for arn in role_arns(self.options, self.account.id):
                live = self.account.find("iam", "get_role", RoleName=names.role_name_of(arn))
                for statement in iam.listed(live["Role"]["AssumeRolePolicyDocument"]["Statement"]) if live else []:
                    provider = statement.get("Principal", {}).get("Federated", "")
                    if statement.get("Sid") == name and provider:
                        return f"https://{provider.partition('/')[2]}"
        self.plan.notices.append(
            "the cluster's OIDC issuer is not known, so its provider stays: set irsa_oidc_issuer to remove it"
        )
        return ""
