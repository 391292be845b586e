"""Follows the chain from a ServiceAccount to its objects in S3, link by link; never writes, and never repairs one."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, pods, policies, trust
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.associations import live_associations
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Chain, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import Observed

ROLE_ARN = "eks.amazonaws.com/role-arn"
TOKEN_AUDIENCE = "eks.amazonaws.com/audience"  # noqa: S105 (an annotation's key)
IRSA = ("annotation", "account", "issuer", "provider", "role", "trust", "policy", "pods")
POD_IDENTITY = ("annotation", "account", "association", "role", "trust", "policy", "pods")


class Reporter:
    """Follows the chains of one cluster.

    Args:
        account: the AWS account.
        options: of :func:`options.of`.
        live: the cluster's ServiceAccounts, ``NAMESPACE/NAME`` to annotations; one that is absent has none.
        issuer: what the cluster's own discovery document says; None where it can't be read.
        seen: what else there is in the cluster; None leaves the link ``pods`` out.
    """

    def __init__(
        self,
        account: Account,
        options: Mapping,
        live: Mapping[str, Mapping[str, str] | None],
        issuer: str | None,
        seen: Observed | None = None,
    ) -> None:
        self.account = account
        self.options = options
        self.live = live
        self.live_issuer = issuer
        self.wanted_issuer = options["oidc_issuer"] or self._eks_issuer()
        self.issuer = issuer or self.wanted_issuer
        self.seen = seen
        links = POD_IDENTITY if options["pod_identity"] else IRSA
        self.links = links if seen else tuple(name for name in links if name != "pods")
        self._associations: dict | None = None

    def chains(self) -> list[Chain]:
        """Follow all chains.

        Raises:
            AwsError: AWS can't be asked.
        """
        return [self._chain(item) for item in self.options["service_accounts"]]

    def _eks_issuer(self) -> str:
        if self.options["cluster_account_id"] != self.account.id:
            return ""
        found = self.account.find("eks", "describe_cluster", name=self.options["eks_cluster_name"])
        return ((found or {}).get("cluster", {}).get("identity") or {}).get("oidc", {}).get("issuer", "")

    def _chain(self, item: Mapping) -> Chain:
        chain = Chain(f"{item['namespace']}/{item['name']}", item["role_arn"])
        for name in self.links:
            if not chain.follow(name, functools.partial(getattr(self, f"_{name}"), item, chain)):
                break
        return chain

    # --- Links: each returns when it holds ------------------------------------------------------

    def _annotation(self, item: Mapping, chain: Chain) -> None:
        notes = self.live.get(chain.service_account)
        if notes is None:
            raise Broken("the ServiceAccount is absent from the cluster: deploy it")
        found = notes.get(ROLE_ARN)
        if self.options["pod_identity"]:
            if found:
                raise Broken(f"names {found}, and SDKs take it before EKS Pod Identity: remove {ROLE_ARN}")
            return
        if not found:
            raise Broken(f"absent: the ServiceAccount has no {ROLE_ARN}")
        if found != item["role_arn"]:
            raise Broken(f"names {found}, the inventory {item['role_arn']}")

    def _account(self, item: Mapping, _chain: Chain) -> None:
        partition, account = names.partition_of(item["role_arn"]), names.account_of(item["role_arn"])
        if partition != self.account.partition:
            raise Broken(
                f"wrong partition: the role is in {partition}, the credentials lead to {self.account.partition}"
            )
        if account != self.account.id:
            raise Broken(
                f"wrong account: the role is in {account}, the credentials lead to {self.account.id}; for a role in another "
                f"account run with its credential and -e irsa_account_id={account}"
            )

    def _issuer(self, _item: Mapping, _chain: Chain) -> None:
        if self.live_issuer and self.wanted_issuer and self.live_issuer != self.wanted_issuer:
            source = "irsa_oidc_issuer is" if self.options["oidc_issuer"] else "EKS says"
            raise Broken(f"mismatch: the cluster signs as {self.live_issuer}, {source} {self.wanted_issuer}")
        if not self.issuer:
            raise Broken("unknown: neither the cluster nor EKS tells it, and irsa_oidc_issuer is empty")

    def _provider_arn(self) -> str:
        return names.provider_arn(self.issuer, self.account.id, self.account.partition)

    def _audience(self, chain: Chain) -> str:
        return (self.live.get(chain.service_account) or {}).get(TOKEN_AUDIENCE) or policies.AUDIENCE

    def _provider(self, _item: Mapping, chain: Chain) -> None:
        arn = self._provider_arn()
        live = self.account.find("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if live is None:
            raise Broken(f"absent: the account has no {arn}")
        if self._audience(chain) not in (live.get("ClientIDList") or []):
            raise Broken(
                f"audience: {arn} does not list {self._audience(chain)}, but {', '.join(live['ClientIDList']) or 'none'}"
            )

    def _association(self, item: Mapping, chain: Chain) -> None:
        if self._associations is None:
            self._associations = live_associations(
                self.account, self.options["eks_cluster_name"], namespace=self.options["namespace"]
            )
        found = self._associations.get((item["namespace"], item["name"]))
        if found is None:
            raise Broken(f"absent: EKS has no Pod Identity association of {chain.service_account}")
        if found["roleArn"] != item["role_arn"]:
            raise Broken(f"names {found['roleArn']}, the inventory {item['role_arn']}")

    def _role(self, item: Mapping, _chain: Chain) -> None:
        live = self.account.find("iam", "get_role", RoleName=names.role_name_of(item["role_arn"]))
        if live is None:
            raise Broken(f"absent: the account has no {item['role_arn']}")
        if live["Role"]["Arn"] != item["role_arn"]:
            raise Broken(f"absent: the account has {live['Role']['Arn']}, another path")

    def _trust(self, item: Mapping, chain: Chain) -> None:
        role = self.account.call("iam", "get_role", RoleName=names.role_name_of(item["role_arn"]))["Role"]
        document = role["AssumeRolePolicyDocument"]
        if self.options["pod_identity"]:
            cluster = names.cluster_arn(
                self.options["eks_cluster_name"], self.options["region"], self.account.id, self.account.partition
            )
            for action in ("sts:AssumeRole", "sts:TagSession"):
                decision = iam.decide([document], iam.pod_identity(cluster, item["namespace"], item["name"], action))
                if not decision.allowed:
                    raise Broken(
                        f"{decision.reason} to {policies.POD_IDENTITY} for {chain.service_account} of {cluster}"
                    )
            return
        claims = {"sub": names.subject(item["namespace"], item["name"]), "aud": self._audience(chain)}
        decision = iam.decide([document], iam.web_identity(self._provider_arn(), claims))
        if not decision.allowed:
            raise Broken(trust.why_untrusted(document, self._provider_arn(), claims, decision))

    def _policy(self, item: Mapping, chain: Chain) -> None:
        name = names.role_name_of(item["role_arn"])
        documents, boundary = self._documents(name)
        access = item["access"]
        wanted = [
            pair for entry in access for pair in policies.requests(entry, self.account.id, self.account.partition)
        ]
        named = {entry["bucket"] for entry in access}
        for bucket, prefix in (names.s3_location(url) for url in item.get("reads") or []):
            if bucket and bucket not in named:
                entry = {"bucket": bucket, "prefixes": [prefix] if prefix else [], "head_bucket": True}
                wanted += policies.requests(entry, self.account.id, self.account.partition)
        for operation, request in wanted:
            decision = iam.decide(documents, request, boundary)
            if not decision.allowed:
                raise Broken(f"lacks {request.action} for {operation}: {decision.reason}")
        if not access:
            raise Broken(f"{item['variable']} names no bucket")
        for entry in access:
            if not entry.get("write"):
                for operation, request in policies.requests(
                    {**entry, "write": True}, self.account.id, self.account.partition
                ):
                    if operation in ("PutObject", "DeleteObject") and iam.decide(documents, request, boundary).allowed:
                        chain.notices.append(
                            f"{chain.service_account} only reads {entry['bucket']}, and its role allows {request.action}"
                        )

    def _documents(self, name: str) -> tuple[list[dict], dict | None]:
        """Read every policy of a role, and its boundary."""
        call, pages = self.account.call, self.account.pages
        documents = [
            call("iam", "get_role_policy", RoleName=name, PolicyName=policy)["PolicyDocument"]
            for policy in pages("iam", "list_role_policies", "PolicyNames", RoleName=name)
        ]
        attached = pages("iam", "list_attached_role_policies", "AttachedPolicies", RoleName=name)
        documents += [self._managed(policy["PolicyArn"]) for policy in attached]
        role = call("iam", "get_role", RoleName=name)["Role"]
        boundary = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn")
        return documents, self._managed(boundary) if boundary else None

    def _managed(self, arn: str) -> dict:
        version = self.account.call("iam", "get_policy", PolicyArn=arn)["Policy"]["DefaultVersionId"]
        found = self.account.call("iam", "get_policy_version", PolicyArn=arn, VersionId=version)
        return found["PolicyVersion"]["Document"]

    def _pods(self, item: Mapping, chain: Chain) -> None:
        notices, doubts = pods.judge(self.seen, item, self.options["pod_identity"])
        chain.notices += notices
        if doubts:
            raise Unjudged("; ".join(doubts))
