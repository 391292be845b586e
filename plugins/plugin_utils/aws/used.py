"""Looks at the buckets that roles use and others made: whose they are, and where, against what the inventory says; never writes."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import ACCESS_POINT, KEY_ARN
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import with_accounts
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Part


class Used(Part):
    """The buckets of access entries that name a key, an access point or another account; of the others a role needs no more than the name.

    The run need not have rights on them: what S3 does not tell is left to the report.
    """

    def compare(self) -> None:
        """See Part."""
        for given, item in zip(self.here(), self._whole(), strict=True):
            for index, entry in enumerate(item["access"]):
                far = {entry["account_id"], self.options["cluster_account_id"]} != {self.account.id}
                unclear = far and not given["access"][index].get("account_id")
                if entry["bucket"] not in self.options["buckets"] and (
                    far or entry.get("kms_key_arn") or entry.get("access_point")
                ):
                    self._look(f"{item['variable']}[{index}]", entry, unclear)

    def _whole(self) -> list[Mapping]:
        arns = {item["role_arn"] for item in self.here()}
        return [item for item in with_accounts(self.options)["service_accounts"] if item["role_arn"] in arns]

    def _look(self, path: str, entry: Mapping, unclear: bool) -> None:
        bucket, account = entry["bucket"], entry["account_id"]
        try:
            live = self.account.find("s3", "head_bucket", Bucket=bucket, ExpectedBucketOwner=account)
            region = (live or {}).get("BucketRegion", "")
        except AwsError as error:
            region = error.bucket_region
            if error.code in DENIED and self._is_anothers(bucket):
                self.plan.problems.append(
                    f"{path}: the bucket {bucket} is not account {account}'s: set account_id to the account that owns it"
                )
            elif unclear:
                self.plan.notices.append(
                    f"{path}: whose bucket {bucket} is can't be read ({error}). The policy takes it for account {account}'s: set "
                    "account_id, also where that is right"
                )
        for key, pattern, what in (
            ("kms_key_arn", KEY_ARN, "a key"),
            ("access_point", ACCESS_POINT, "an access point"),
        ):
            match = pattern.fullmatch(str(entry.get(key) or ""))
            if match is None:
                continue
            other = f"{entry[key]} is {what} of {match[2]}: S3 uses those of its region"
            if region and match[2] != region:
                self.plan.problems.append(f"{path}.{key}: the bucket {bucket} is in {region}, and {other}")
            elif not region and match[2] != self.account.region:
                self.plan.notices.append(f"{path}.{key}: where the bucket {bucket} is can't be read, and {other}")

    def _is_anothers(self, bucket: str) -> bool:
        """Tell whether a bucket that is not the account's that was asked for lets us see that it is there."""
        try:
            return self.account.find("s3", "head_bucket", Bucket=bucket) is not None
        except AwsError:
            return False
