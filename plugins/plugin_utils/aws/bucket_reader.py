"""Reads what there is of a bucket: its region, policy, and the key of its encryption, each bucket once; never judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import names
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import ABSENT, DENIED, Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.accounts import Accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged

NO_KEY = "NotFoundException"
MANAGED_ALIAS = f"alias/{names.MANAGED_KEY}"


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


class Reader:
    """Reads buckets, each once.

    Args:
        accounts: the accounts that may be asked.
    """

    def __init__(self, accounts: Accounts) -> None:
        self.accounts = accounts
        self._read: dict[tuple[str, str], Bucket | Exception] = {}

    def bucket(self, name: str, owner: str, home: Account) -> Bucket:
        """Give what is known of a bucket.

        Args:
            name: the bucket's.
            owner: the account that it is to belong to.
            home: the account that is asked, where there is no credential for the owner.

        Raises:
            Broken: there is no such bucket, or its key is gone.
            Unjudged: it may not be read.
            AwsError: AWS can't be asked.
        """
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
            if not error.answered:
                raise
            if error.code in DENIED and _answers(account, name):
                raise Broken(
                    f"bucket {name} belongs to another account than {owner}: say which with account_id, or use another name"
                ) from None
            other = f"; or it belongs to another account than {owner}" if error.code in DENIED else ""
            raise Unjudged(f"{error}{other}") from None
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
            if error.code != NO_KEY:
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
        if error.code == NO_KEY or not error.answered:
            raise
        doubts.append(str(error))
        return None


def _resource(key: str) -> str:
    return key if key.startswith(("alias/", "key/")) else f"key/{key}"
