"""Judges whether a role reaches its buckets: that they are there, their region, encryption and policy; never writes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import grants, iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ABSENT, DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.accounts import Accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.checks import TRITON

ANYTHING = policies.document([{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}])
MANAGED_ALIAS = f"alias/{names.MANAGED_KEY}"


def entries(item: Mapping) -> list[dict]:
    """List what a ServiceAccount's clients use: its access, and what a server reads at its start."""
    found = [dict(entry) for entry in item["access"]]
    for url in item.get("reads") or []:
        bucket, prefix = names.s3_location(url)
        if bucket:
            # By its name, or by the alias of an access point to it.
            named = next(iter(policies.entries_of(item["access"], bucket)), {"bucket": bucket})
            kept = {
                key: named[key] for key in ("bucket", "kms_key_arn", "account_id", "access_point") if named.get(key)
            }
            prefixes = [prefix] if prefix else []
            found.append({**kept, "prefixes": prefixes, "head_bucket": item["component"] == TRITON})
    return found


def wanted(
    item: Mapping, account: str, partition: str, region: str = "", who: iam.Session | None = None
) -> list[tuple[str, iam.Request]]:
    """List what a ServiceAccount's clients ask of S3 and KMS, each with its name; the arguments are those of :func:`policies.requests`."""
    found = [pair for entry in entries(item) for pair in policies.requests(entry, account, partition, region, who)]
    why = f"HeadBucket (Triton's client calls it: set head_bucket: true in {item['variable']})"
    return [(why if name == "HeadBucket" and item["component"] == TRITON else name, request) for name, request in found]


@dataclass(frozen=True)
class Bucket:
    """What is known of a bucket.

    Attributes:
        region: where it is.
        key: ARN of the KMS key of its default encryption; empty for S3's own keys.
        managed: whether that is the account's key ``aws/s3``, which AWS manages.
        key_policy: the key's policy.
        policy: its own policy.
        doubts: what could not be read.
    """

    region: str
    key: str = ""
    managed: bool = False
    key_policy: Mapping | None = None
    policy: Mapping | None = None
    doubts: tuple[str, ...] = ()


class Reach:
    """Judges whether roles reach their buckets; each bucket is read once.

    Args:
        accounts: the accounts that may be asked.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._read: dict[tuple[str, str], Bucket | Exception] = {}

    def judge(
        self, item: Mapping, home: Account, may: grants.Grants, who: iam.Session | None
    ) -> tuple[list[str], list[str]]:
        """Judge the buckets of a ServiceAccount.

        Args:
            item: the ServiceAccount, as :func:`options.of` has it.
            home: the role's account.
            may: what the role's policies let it do.
            who: the session that a pod gets.

        Returns:
            what does not break the link and should be known; and what would have to be known to judge it.

        Raises:
            Broken: a bucket can't be reached.
            AwsError: AWS can't be asked.
        """
        notices: list[str] = []
        doubts: list[str] = []
        for name in dict.fromkeys(entry["bucket"] for entry in entries(item)):
            found = [entry for entry in entries(item) if entry["bucket"] == name]
            owner = next((entry["account_id"] for entry in found if entry.get("account_id")), home.id)
            try:
                bucket = self._bucket(name, owner, home)
            except Unjudged as error:
                doubts.append(f"bucket {name}: {error}")
                continue
            doubts += [f"bucket {name}: {text}" for text in bucket.doubts]
            notices += _region(item, name, bucket)
            for judge in (_encryption, _policy):
                try:
                    judge(item, name, bucket, owner, home, may, who)
                except (Unjudged, iam.PolicyError) as error:
                    doubts.append(f"bucket {name}: {error}")
        return notices, doubts

    # --- Reading ------------------------------------------------------------------------------------

    def _bucket(self, name: str, owner: str, home: Account) -> Bucket:
        if (name, owner) not in self._read:
            try:
                self._read[name, owner] = self._ask(name, owner, home)
            except (Broken, Unjudged) as error:
                self._read[name, owner] = error
        found = self._read[name, owner]
        if isinstance(found, Exception):
            raise found
        return found

    def _ask(self, name: str, owner: str, home: Account) -> Bucket:
        account = self.accounts.nearest(owner, home)
        asked = {"Bucket": name, "ExpectedBucketOwner": owner}
        try:
            live = account.call("s3", "head_bucket", **asked)
        except AwsError as error:
            if error.code in ABSENT:
                raise Broken(f"bucket {name} does not exist") from None
            if error.code not in DENIED:
                raise
            if _answers(account, name):
                raise Broken(
                    f"bucket {name} belongs to another account than {owner}: say which with account_id, or use another name"
                ) from None
            raise Unjudged(f"{error}; or it belongs to another account than {owner}") from None
        doubts: list[str] = []
        region = live.get("BucketRegion") or account.region
        policy = _quietly(doubts, lambda: account.find("s3", "get_bucket_policy", **asked))
        key, managed, key_policy = "", False, None
        encryption = _quietly(doubts, lambda: account.find("s3", "get_bucket_encryption", **asked))
        for rule in ((encryption or {}).get("ServerSideEncryptionConfiguration") or {}).get("Rules") or []:
            default = rule.get("ApplyServerSideEncryptionByDefault") or {}
            if default.get("SSEAlgorithm", "").startswith("aws:kms"):
                given = default.get("KMSMasterKeyID") or MANAGED_ALIAS
                key, managed, key_policy = self._key(given, region, owner, account, doubts)
        document = json.loads(policy["Policy"]) if policy else None
        return Bucket(region, key, managed, key_policy, document, tuple(doubts))

    def _key(
        self, given: str, region: str, owner: str, account: Account, doubts: list[str]
    ) -> tuple[str, bool, Mapping | None]:
        """Give a key's ARN, whether AWS manages it, and its policy."""
        if given.endswith(MANAGED_ALIAS):
            return "", True, None
        arn = given if given.startswith("arn:") else f"arn:{account.partition}:kms:{region}:{owner}:{_resource(given)}"
        there = self.accounts.nearest(names.account_of(arn), account)
        if arn.split(":")[3] != there.region:
            doubts.append(f"its key {arn} is in another region than this report reads")
            return arn if names.KEY_ARN.fullmatch(arn) else "", False, None
        try:
            live = _quietly(doubts, lambda: there.call("kms", "describe_key", KeyId=arn))
        except AwsError as error:
            if error.code != "NotFoundException":
                raise
            raise Broken(f"its key {arn} does not exist") from None
        if live:
            if live["KeyMetadata"]["KeyState"] != "Enabled":
                raise Broken(f"its key {arn} is {live['KeyMetadata']['KeyState']}")
            if live["KeyMetadata"].get("KeyManager") == "AWS":
                return "", True, None
            arn = live["KeyMetadata"]["Arn"]
        elif not names.KEY_ARN.fullmatch(arn):
            return "", False, None
        found = _quietly(doubts, lambda: there.call("kms", "get_key_policy", KeyId=arn, PolicyName="default"))
        return arn, False, json.loads(found["Policy"]) if found else None


def _answers(account: Account, name: str) -> bool:
    try:
        account.call("s3", "head_bucket", Bucket=name)
    except AwsError as error:
        if error.code not in DENIED:
            raise
        return False
    return True


def _quietly(doubts: list[str], read: Callable[[], Any]) -> Any:
    try:
        return read()
    except AwsError as error:
        if error.code not in DENIED:
            raise
        doubts.append(str(error))
        return None


def _resource(key: str) -> str:
    return key if key.startswith(("alias/", "key/")) else f"key/{key}"


# --- Judging ------------------------------------------------------------------------------------------


def _region(item: Mapping, name: str, bucket: Bucket) -> list[str]:
    """Say where a bucket is in another region than its clients ask in.

    AWS's SDK for C++, Triton's, follows a redirect only out of no region (AWSClient::AttemptExhaustively); boto3 does (S3RegionRedirectorv2).
    """
    asked = item.get("region") or bucket.region
    if asked == bucket.region:
        return []
    if item["component"] == TRITON:
        raise Broken(
            f"bucket {name} is in {bucket.region}, and Triton asks in {asked} and follows no redirect: set triton_aws_region"
        )
    return [
        f"{item['namespace']}/{item['name']}: bucket {name} is in {bucket.region}, its pods ask in {asked}: boto3 asks again there, other clients may not"
    ]


def _encryption(
    item: Mapping,
    name: str,
    bucket: Bucket,
    owner: str,
    home: Account,
    may: grants.Grants,
    who: iam.Session | None,
) -> None:
    """See that the role may use the key of new objects, by its own policies and by the key's.

    The key aws/s3 lets whoever may use S3 in its account, and nobody else (KMS Developer Guide, "AWS managed keys").
    """
    if bucket.managed and owner != home.id:
        raise Broken(
            f"bucket {name} is encrypted with the key aws/s3, which no role of another account than {owner} may use"
        )
    if not bucket.key:
        return
    found = [{**entry, "kms_key_arn": bucket.key} for entry in entries(item) if entry["bucket"] == name]
    asked = [pair for pair in _requests(found, bucket, home, who) if pair[1].action.startswith("kms:")]
    try:
        grants.judge(may, asked)
    except Broken as error:
        raise Broken(
            f"bucket {name} is encrypted with {bucket.key}: the role {error}; set kms_key_arn in {item['variable']}"
        ) from None
    for operation, request in asked if bucket.key_policy else []:
        decision = iam.decide([bucket.key_policy], replace(request, principal=("AWS", item["role_arn"])))
        if decision.denied:
            raise Broken(f"bucket {name}: the policy of its key {bucket.key} refuses {operation}: {decision.reason}")
        if not decision.allowed:
            more = "" if decision.unknown else ", unless a grant of the key does (grants are not read)"
            raise Unjudged(f"the policy of its key {bucket.key}: {decision.reason}{more}")


def _policy(
    item: Mapping,
    name: str,
    bucket: Bucket,
    owner: str,
    home: Account,
    _may: grants.Grants,
    who: iam.Session | None,
) -> None:
    """See that the bucket's policy does not refuse the role; a bucket of another account must let it in."""
    found = [entry for entry in entries(item) if entry["bucket"] == name]
    # What comes through an access point is asked of the bucket too.
    asked = [pair for pair in _requests(found, bucket, home, who) if f":::{name}" in pair[1].resource]
    if bucket.policy is None:
        unread = any("s3:GetBucketPolicy" in text for text in bucket.doubts)
        if owner != home.id and not unread:
            raise Broken(f"bucket {name} has no policy, so it lets no role of another account than {owner} in")
        return
    # In one account the role's own policies are enough: only what this one refuses counts.
    allowed = [ANYTHING] if owner == home.id else []
    doubts = []
    for operation, request in asked:
        request = replace(request, principal=("AWS", item["role_arn"]))
        decision = iam.decide([bucket.policy, *allowed], request)
        if decision.denied:
            raise Broken(f"the policy of bucket {name} refuses {operation}: {decision.reason}")
        if decision.unknown:
            doubts.append(f"its policy: {decision.reason}")
        elif iam.decide([_all_principals(bucket.policy)], request).denied:
            # AWS compares the session too, whose name is not known (IAM User Guide, "NotPrincipal").
            doubts.append(
                f"its policy refuses {operation} to all but some (NotPrincipal), and sessions of the role count as others"
            )
        elif not decision.allowed and owner != home.id:
            raise Broken(
                f"bucket {name} is {owner}'s, and its policy does not let {item['role_arn']} in: {decision.reason}"
            )
    if doubts:
        raise Unjudged(doubts[0])


def _all_principals(policy: Mapping) -> dict:
    """Give what a policy refuses with NotPrincipal, as if to everyone."""
    found = [item for item in iam.statements(policy) if item["Effect"] == "Deny" and "NotPrincipal" in item]
    return {
        **policy,
        "Statement": [{**{k: v for k, v in item.items() if k != "NotPrincipal"}, "Principal": "*"} for item in found],
    }


def _requests(
    found: list[dict], bucket: Bucket, home: Account, who: iam.Session | None
) -> Iterator[tuple[str, iam.Request]]:
    for entry in found:
        yield from policies.requests(entry, home.id, home.partition, bucket.region, who)
