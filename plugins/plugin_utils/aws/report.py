"""Follows the chain from a ServiceAccount to its objects in S3, link by link; never writes, and never repairs one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.associations import live_associations
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import with_accounts

ROLE_ARN = "eks.amazonaws.com/role-arn"
TOKEN_AUDIENCE = "eks.amazonaws.com/audience"  # noqa: S105 (an annotation's key)
IRSA = ("annotation", "account", "issuer", "provider", "role", "trust", "policy")
POD_IDENTITY = ("annotation", "account", "association", "role", "trust", "policy")


class _Broken(Exception):
    """A link is broken; the text says how."""


@dataclass
class Chain:
    """One ServiceAccount's chain.

    Attributes:
        service_account: ``NAMESPACE/NAME``.
        role: the role's ARN by the inventory.
        links: each link that was reached, and ``ok`` or what is wrong. The first wrong one ends the chain.
        notices: what does not break it, and should be known.
    """

    service_account: str
    role: str
    links: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)

    @property
    def broken(self) -> str:
        """The broken link's name, or an empty text."""
        return next((name for name, state in self.links.items() if state != "ok"), "")

    def data(self) -> dict:
        """Give it as plain data."""
        return {
            "service_account": self.service_account,
            "role": self.role,
            "closed": not self.broken,
            "broken": self.broken,
            "reason": self.links[self.broken] if self.broken else "",
            "links": dict(self.links),
            "notices": list(self.notices),
        }


class Reporter:
    """Follows the chains of one cluster.

    Args:
        account: the AWS account.
        options: of :func:`options.of`.
        live: the cluster's ServiceAccounts, ``NAMESPACE/NAME`` to annotations; one that is absent has none.
        issuer: what the cluster's own discovery document says; None where it can't be read.
    """

    def __init__(
        self, account: Account, options: Mapping, live: Mapping[str, Mapping[str, str] | None], issuer: str | None
    ) -> None:
        self.account = account
        self.options = options = with_accounts(options)
        self.live = live
        self.live_issuer = issuer
        self.wanted_issuer = options["oidc_issuer"] or self._eks_issuer()
        self.issuer = issuer or self.wanted_issuer
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
        for name in POD_IDENTITY if self.options["pod_identity"] else IRSA:
            try:
                getattr(self, f"_{name}")(item, chain)
            except _Broken as error:
                chain.links[name] = str(error)
                break
            except iam.PolicyError as error:
                chain.links[name] = f"it can't be evaluated: {error}"
                break
            chain.links[name] = "ok"
        return chain

    # --- Links: each returns when it holds ------------------------------------------------------

    def _annotation(self, item: Mapping, chain: Chain) -> None:
        notes = self.live.get(chain.service_account)
        if notes is None:
            raise _Broken("the ServiceAccount is absent from the cluster: deploy it")
        found = notes.get(ROLE_ARN)
        if self.options["pod_identity"]:
            if found:
                raise _Broken(f"names {found}, and SDKs take it before EKS Pod Identity: remove {ROLE_ARN}")
            return
        if not found:
            raise _Broken(f"absent: the ServiceAccount has no {ROLE_ARN}")
        if found != item["role_arn"]:
            raise _Broken(f"names {found}, the inventory {item['role_arn']}")

    def _account(self, item: Mapping, _chain: Chain) -> None:
        partition, account = names.partition_of(item["role_arn"]), names.account_of(item["role_arn"])
        if partition != self.account.partition:
            raise _Broken(
                f"wrong partition: the role is in {partition}, the credentials lead to {self.account.partition}"
            )
        if account != self.account.id:
            raise _Broken(
                f"wrong account: the role is in {account}, the credentials lead to {self.account.id}; for a role in another "
                f"account run with its credential and -e irsa_account_id={account}"
            )

    def _issuer(self, _item: Mapping, _chain: Chain) -> None:
        if self.live_issuer and self.wanted_issuer and self.live_issuer != self.wanted_issuer:
            source = "irsa_oidc_issuer is" if self.options["oidc_issuer"] else "EKS says"
            raise _Broken(f"mismatch: the cluster signs as {self.live_issuer}, {source} {self.wanted_issuer}")
        if not self.issuer:
            raise _Broken("unknown: neither the cluster nor EKS tells it, and irsa_oidc_issuer is empty")

    def _provider_arn(self) -> str:
        return names.provider_arn(self.issuer, self.account.id, self.account.partition)

    def _audience(self, chain: Chain) -> str:
        return (self.live.get(chain.service_account) or {}).get(TOKEN_AUDIENCE) or policies.AUDIENCE

    def _provider(self, _item: Mapping, chain: Chain) -> None:
        arn = self._provider_arn()
        live = self.account.find("iam", "get_open_id_connect_provider", OpenIDConnectProviderArn=arn)
        if live is None:
            raise _Broken(f"absent: the account has no {arn}")
        if self._audience(chain) not in (live.get("ClientIDList") or []):
            raise _Broken(
                f"audience: {arn} does not list {self._audience(chain)}, but {', '.join(live['ClientIDList']) or 'none'}"
            )

    def _association(self, item: Mapping, chain: Chain) -> None:
        if self._associations is None:
            self._associations = live_associations(
                self.account, self.options["eks_cluster_name"], namespace=self.options["namespace"]
            )
        found = self._associations.get((item["namespace"], item["name"]))
        if found is None:
            raise _Broken(f"absent: EKS has no Pod Identity association of {chain.service_account}")
        if found["roleArn"] != item["role_arn"]:
            raise _Broken(f"names {found['roleArn']}, the inventory {item['role_arn']}")

    def _role(self, item: Mapping, _chain: Chain) -> None:
        live = self.account.find("iam", "get_role", RoleName=names.role_name_of(item["role_arn"]))
        if live is None:
            raise _Broken(f"absent: the account has no {item['role_arn']}")
        if live["Role"]["Arn"] != item["role_arn"]:
            raise _Broken(f"absent: the account has {live['Role']['Arn']}, another path")

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
                    raise _Broken(
                        f"{decision.reason} to {policies.POD_IDENTITY} for {chain.service_account} of {cluster}"
                    )
            return
        claims = {"sub": names.subject(item["namespace"], item["name"]), "aud": self._audience(chain)}
        decision = iam.decide([document], iam.web_identity(self._provider_arn(), claims))
        if not decision.allowed:
            raise _Broken(why_untrusted(document, self._provider_arn(), claims, decision))

    def _policy(self, item: Mapping, chain: Chain) -> None:
        name = names.role_name_of(item["role_arn"])
        documents, boundary = self._documents(name)
        access = item["access"]
        wanted = [
            pair for entry in access for pair in policies.requests(entry, self.account.id, self.account.partition)
        ]
        for bucket, prefix in (names.s3_location(url) for url in item.get("reads") or []):
            if bucket and not policies.entries_of(access, bucket):
                entry = {"bucket": bucket, "prefixes": [prefix] if prefix else [], "head_bucket": True}
                wanted += policies.requests(entry, self.account.id, self.account.partition)
        for operation, request in wanted:
            decision = iam.decide(documents, request, boundary)
            if not decision.allowed:
                raise _Broken(f"lacks {request.action} for {operation}: {decision.reason}")
        if not access:
            raise _Broken(f"{item['variable']} names no bucket")
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


def why_untrusted(document: Mapping, provider: str, claims: Mapping[str, str], decision: iam.Decision) -> str:
    """Say which part of a trust policy refuses a token.

    Args:
        document: the trust policy.
        provider: the OIDC provider of the token's issuer.
        claims: ``sub`` and ``aud``.
        decision: the refusal.
    """
    if decision.denied:
        return decision.reason
    host = provider.partition("/")[2]
    statements = [item for item in iam.statements(document) if item["Effect"] == "Allow"]
    about = [item for item in statements if provider in iam.listed(_federated(item))]
    if not about:
        others = sorted({str(name) for item in statements for name in iam.listed(_federated(item)) if name})
        return f"issuer: no statement names {provider}, but {', '.join(others) or 'none'}"
    for claim, word in (("sub", "subject"), ("aud", "audience")):
        without = [{**item, "Condition": _without(item, f"{host}:{claim}")} for item in about]
        if iam.decide([{**document, "Statement": without}], iam.web_identity(provider, claims)).allowed:
            trusted = sorted({str(value) for item in about for value in _values(item, f"{host}:{claim}")})
            return f"{word}: the role trusts {', '.join(trusted)}, not {claims[claim]}"
    return f"{decision.reason} to {claims['sub']} with the audience {claims['aud']}"


def _federated(statement: Mapping) -> object:
    principal = statement.get("Principal")
    return principal.get("Federated", "") if isinstance(principal, Mapping) else ""


def _without(statement: Mapping, key: str) -> dict:
    kept = {
        operator: {name: value for name, value in keys.items() if name.lower() != key.lower()}
        for operator, keys in (statement.get("Condition") or {}).items()
    }
    return {operator: keys for operator, keys in kept.items() if keys}


def _values(statement: Mapping, key: str) -> list:
    return [
        value
        for keys in (statement.get("Condition") or {}).values()
        for name, values in keys.items()
        if name.lower() == key.lower()
        for value in iam.listed(values)
    ]


def table(chains: list[Chain], pod_identity: bool) -> list[str]:
    """Lay the chains out: a row for each, a column for each link, and below what is broken."""
    links = POD_IDENTITY if pod_identity else IRSA
    rows = [["SERVICE ACCOUNT", "ROLE", *(name.upper() for name in links), "CHAIN"]]
    for chain in chains:
        states = ["-" if name not in chain.links else "ok" if chain.links[name] == "ok" else "BROKEN" for name in links]
        rows.append(
            [chain.service_account, names.role_name_of(chain.role), *states, "open" if chain.broken else "closed"]
        )
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    wrong = [
        f"{chain.service_account}: {chain.broken}: {chain.links[chain.broken]}" for chain in chains if chain.broken
    ]
    return [*lines, *(["", *wrong] if wrong else [])]
