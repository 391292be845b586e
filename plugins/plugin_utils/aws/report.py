"""Follows the chain from a ServiceAccount to its objects in S3, link by link; never writes, and never repairs one."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import (
    beyond,
    grants,
    iam,
    names,
    pods,
    policies,
    trust,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.accounts import Accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.associations import live_associations
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Chain, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import Observed
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import with_accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    Owner,
    cluster_tags,
    is_ours,
    own_tags,
    tags_of,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.reach import Reach, wanted

ROLE_ARN = "eks.amazonaws.com/role-arn"
IRSA = ("annotation", "account", "issuer", "provider", "role", "trust", "policy", "bucket", "pods")
POD_IDENTITY = ("annotation", "account", "association", "role", "trust", "policy", "bucket", "pods")
# Those that are read from the role's account.
IN_AWS = ("provider", "association", "role", "trust", "policy", "bucket")


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
        self.options = options = with_accounts(options)
        self.owner = Owner(options["cluster_account_id"], options["region"], options["cluster_name"])
        self.live = live
        self.live_issuer = issuer
        self.wanted_issuer = options["oidc_issuer"] or self._eks_issuer()
        self.issuer = issuer or self.wanted_issuer
        self.seen = seen
        links = POD_IDENTITY if options["pod_identity"] else IRSA
        self.links = links if seen else tuple(name for name in links if name != "pods")
        self.accounts = Accounts(account, options.get("profiles") or {})
        self.reach = Reach(self.accounts)
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
        return ((self._eks() or {}).get("identity") or {}).get("oidc", {}).get("issuer", "")

    @functools.cache  # noqa: B019 (a reporter lives as long as its report)
    def _eks(self) -> Mapping | None:
        """Ask EKS for the cluster; None where it has none of that name."""
        found = self.account.find("eks", "describe_cluster", name=self.options["eks_cluster_name"])
        return found["cluster"] if found else None

    def _no_eks(self) -> str:
        """Say that EKS does not know the cluster, where that is so."""
        if self.options["cluster_account_id"] != self.account.id or self._eks() is not None:
            return ""
        return (
            f"EKS has no cluster {self.options['eks_cluster_name']} in {self.options['region']} of account {self.account.id}: "
            "set irsa_eks_cluster_name to its name"
        )

    def _chain(self, item: Mapping) -> Chain:
        chain = Chain(f"{item['namespace']}/{item['name']}", item["role_arn"])
        there = self._in(names.account_of(item["role_arn"]))
        for name in self.links:
            look = functools.partial(getattr(there or self, f"_{name}"), item, chain)
            if there is None and name in IN_AWS:
                look = _without_credential
            if not chain.follow(name, look):
                break
        if there is not None:
            chain.notices += there._beyond(item["role_arn"])
        return chain

    @functools.cache  # noqa: B019
    def _in(self, account: str) -> Reporter | None:
        """Give the reporter of an account; None where no credential leads there."""
        try:
            found = self.accounts.of(account)
        except AwsError:
            return None
        if found is self.account:
            return self
        other = copy.copy(self)
        other.account = found
        return other

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
        if self.options["pod_identity"] and account != self.options["cluster_account_id"]:
            raise Broken(f"wrong account: EKS Pod Identity gives no role of the account {account}")
        try:
            self.accounts.of(account)
        except AwsError as error:
            if account == self.options["account_id"]:
                raise Broken(f"wrong account: the role is in {account}, and {error}") from None
            raise Unjudged(error) from None

    def _issuer(self, _item: Mapping, chain: Chain) -> None:
        if self.live_issuer and self.wanted_issuer and self.live_issuer != self.wanted_issuer:
            source = "irsa_oidc_issuer is" if self.options["oidc_issuer"] else "EKS says"
            raise Broken(f"mismatch: the cluster signs as {self.live_issuer}, {source} {self.wanted_issuer}")
        missing = "" if self.options["oidc_issuer"] else self._no_eks()
        if not self.issuer:
            raise Broken(
                f"unknown: the cluster does not tell it, irsa_oidc_issuer is empty, and {missing or 'EKS does not tell it'}"
            )
        if missing:
            chain.notices.append(f"{missing}, or irsa_oidc_issuer if it is none of EKS's")

    def _provider_arn(self) -> str:
        return names.provider_arn(self.issuer, self.account.id, self.account.partition)

    def _audience(self, chain: Chain) -> str:
        return (self.live.get(chain.service_account) or {}).get(pods.AUDIENCE) or policies.AUDIENCE

    def _provider(self, _item: Mapping, chain: Chain) -> None:
        arn = self._provider_arn()
        live = self.account.find("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if live is None:
            raise Broken(f"absent: the account has no {arn}")
        if self._audience(chain) not in (live.get("ClientIDList") or []):
            raise Broken(
                f"audience: {arn} does not list {self._audience(chain)}, but {', '.join(live.get('ClientIDList') or []) or 'none'}"
            )
        more = sorted({*live["ClientIDList"]} - {policies.AUDIENCE, self._audience(chain)})
        if more:
            chain.notices.append(f"{arn} lists audiences that the inventory does not: {', '.join(more)}")
        chain.notices += self._tags(arn, tags_of(live.get("Tags")))

    def _association(self, item: Mapping, chain: Chain) -> None:
        found = self._associated(item)
        if found is None:
            missing = self._no_eks() or f"EKS has no Pod Identity association of {chain.service_account}"
            raise Broken(f"absent: {missing}")
        if found["roleArn"] != item["role_arn"]:
            raise Broken(f"names {found['roleArn']}, the inventory {item['role_arn']}")
        if found.get("targetRoleArn"):
            raise Broken(
                f"leads on from {found['roleArn']} to {found['targetRoleArn']} (targetRoleArn), the inventory does not"
            )
        name = f"the Pod Identity association of {chain.service_account}"
        if found.get("disableSessionTags"):
            chain.notices.append(f"{name} sets no session tags (disableSessionTags), the inventory has it set them")
        if found.get("policy"):
            chain.notices.append(f"{name} has a policy of its own, the inventory none: it limits what the role allows")
        chain.notices += self._tags(name, found["tags"])

    def _associated(self, item: Mapping) -> Mapping | None:
        if self._associations is None:
            self._associations = live_associations(
                self.account, self.options["eks_cluster_name"], namespace=self.options["namespace"]
            )
        return self._associations.get((item["namespace"], item["name"]))

    @functools.cache  # noqa: B019
    def _live_role(self, arn: str) -> Mapping | None:
        found = self.account.find("iam", "get_role", RoleName=names.role_name_of(arn))
        return found["Role"] if found else None

    @functools.cache  # noqa: B019
    def _grants(self, arn: str) -> grants.Grants:
        return grants.read(self.account, self._live_role(arn))

    def _role(self, item: Mapping, _chain: Chain) -> None:
        live = self._live_role(item["role_arn"])
        if live is None:
            raise Broken(f"absent: the account has no {item['role_arn']}")
        if live["Arn"] != item["role_arn"]:
            raise Broken(f"absent: the account has {live['Arn']}, another path")

    def _cluster_arn(self) -> str:
        place = self.options["region"], self.account.id, self.account.partition
        return names.cluster_arn(self.options["eks_cluster_name"], *place)

    def _assumed(self, item: Mapping, chain: Chain) -> list[iam.Request]:
        """Give the requests by which a pod becomes its role."""
        if self.options["pod_identity"]:
            tagged = not (self._associated(item) or {}).get("disableSessionTags")
            actions = ["sts:AssumeRole", *(["sts:TagSession"] if tagged else [])]
            who = self._cluster_arn(), item["namespace"], item["name"]
            return [iam.pod_identity(*who, action, tagged=tagged) for action in actions]
        claims = {"sub": names.subject(item["namespace"], item["name"]), "aud": self._audience(chain)}
        region = self.options["region"]
        told = (self.live.get(chain.service_account) or {}).get(pods.REGIONAL) == "true"
        # EKS's webhook has the SDK ask in the region; without its word, some SDKs ask the endpoint in us-east-1.
        asked = region if told or self.account.partition != "aws" else iam.Some((region, "us-east-1"))
        return [iam.web_identity(self._provider_arn(), claims, asked, self.account.id)]

    def _trust(self, item: Mapping, chain: Chain) -> None:
        for request in self._assumed(item, chain):
            trust.judge(self._live_role(item["role_arn"])["AssumeRolePolicyDocument"], request)

    def _who(self, item: Mapping, chain: Chain) -> iam.Session:
        return iam.session(self._live_role(item["role_arn"]), self._assumed(item, chain)[0])

    def _policy(self, item: Mapping, chain: Chain) -> None:
        may, access = self._grants(item["role_arn"]), item["access"]
        place = self.account.id, self.account.partition, self.options["region"], self._who(item, chain)
        if not access:
            raise Broken(f"{item['variable']} names no bucket")
        # Another entry of its own may write there.
        said = policies.permissions(access, self.account.id, self.account.partition)
        for entry in access:
            for operation, request in policies.requests({**entry, "write": True}, *place):
                writes = operation in ("PutObject", "DeleteObject") and not iam.decide([said], request).allowed
                line = f"{chain.service_account} only reads {entry['bucket']}, and its role allows {request.action}"
                if writes and line not in chain.notices and grants.may(may, request):
                    chain.notices.append(line)
        own = (self._associated(item) or {}).get("policy") if self.options["pod_identity"] else None
        grants.judge(may, wanted(item, *place), json.loads(own) if own else None)

    def _bucket(self, item: Mapping, chain: Chain) -> None:
        may = self._grants(item["role_arn"])
        self._note(chain, *self.reach.judge(item, self.account, may, self._who(item, chain)))

    def _pods(self, item: Mapping, chain: Chain) -> None:
        self._note(chain, *pods.judge(self.seen, item, self.options["pod_identity"]))

    def _note(self, chain: Chain, notices: list[str], doubts: list[str]) -> None:
        chain.notices += notices
        if doubts:
            raise Unjudged("; ".join(doubts))

    # --- What there is beyond the inventory -----------------------------------------------------

    def _tags(self, what: str, tags: Mapping[str, str]) -> list[str]:
        wanted = own_tags(self.owner, self.options["tags"]).keys() | cluster_tags(tags)
        more = sorted(key for key in tags if key not in wanted and not key.startswith("aws:"))
        return [f"{what} has tags that the inventory does not: {', '.join(more)}"] if more and is_ours(tags) else []

    @functools.cache  # noqa: B019
    def _beyond(self, arn: str) -> list[str]:
        """Say what a role allows, and has, beyond the inventory, whether its chains close or not."""
        here = names.account_of(arn) == self.account.id and names.partition_of(arn) == self.account.partition
        name = f"role {names.role_name_of(arn)}"
        try:
            live = self._live_role(arn) if here else None
            if live is None or live["Arn"] != arn:
                return []
            may = self._grants(arn)
        except AwsError as error:
            if error.code not in DENIED:
                raise
            return [f"{name}: what it allows beyond the inventory is not known: {error}"]
        carriers = [item for item in self.options["service_accounts"] if item["role_arn"] == arn]
        tags = tags_of(live.get("Tags"))
        access = [entry for item in carriers for entry in item["access"]]
        wanted = policies.permissions(access, self.account.id, self.account.partition)
        found = [
            *beyond.in_trust(live["AssumeRolePolicyDocument"], self._statement(carriers), tags),
            *beyond.in_policies(may.documents, wanted, self.owner.policy, tags),
            *may.unreadable,
        ]
        return [*(f"{name}: {text}" for text in found), *self._tags(name, tags)]

    def _statement(self, carriers: list[Mapping]) -> dict | None:
        pod_identity = self.options["pod_identity"]
        if not pod_identity and not self.issuer:
            return None
        trusted = self._cluster_arn() if pod_identity else self._provider_arn()
        return policies.trust_statement(self.owner.sid, carriers, trusted, pod_identity)


def _without_credential() -> None:
    raise Unjudged("there is no credential for the role's account")
