"""Plans the settings of the buckets that are ours, and their end; never a bucket's objects, and never sends a write."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.bucket_settings import (
    MULTIPART,
    NONCURRENT,
    encryption,
    merge_lifecycle,
    same_encryption,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.options import bucket_account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    MANAGED_BY,
    cluster_tags,
    is_ours,
    pairs_of,
    tags_of,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Part

PUBLIC_ACCESS_BLOCK = dict.fromkeys(
    ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"), True
)
# Takes nothing back by itself: what the write was about goes.
WITH_THE_BUCKET = ("", {})


class Buckets(Part):
    """The buckets that the inventory says are ours."""

    def compare(self) -> None:
        """See Part."""
        for name, settings in sorted(self.options["buckets"].items()):
            settings = settings or {}
            if bucket_account(name, self.options) != self.account.id:
                continue
            owner = {"Bucket": name, "ExpectedBucketOwner": self.account.id}
            try:
                live = self.account.find("s3", "head_bucket", **owner)
            except AwsError as error:
                if error.code not in DENIED:
                    raise
                self.plan.problems.append(f"bucket {name}: {error}; or the bucket is another account's")
                continue
            if not self.present:
                if live is not None:
                    self._remove(name, owner, live)
                continue
            region = self._region(live or {})
            if region != self.account.region:
                self.plan.problems.append(
                    f"irsa_buckets.{name}: the bucket is in {region}, and this run works in {self.account.region}: "
                    "manage it with a cluster of its region, or leave it out"
                )
                continue
            self._ensure(name, owner, live, settings)
        if not (self.present and self.options["prune"]):
            self._name_left_over()

    def _name_left_over(self) -> None:
        """Name the buckets that are this cluster's by their tags alone; taking one out of the inventory keeps it."""
        tagged = {"TagFilters": [{"Key": self.tag}], "ResourceTypeFilters": ["s3"]}
        try:
            found = self.account.pages("resourcegroupstaggingapi", "get_resources", "ResourceTagMappingList", **tagged)
        except AwsError as error:
            if error.code not in DENIED:
                raise
            self.plan.notices.append(f"{error}. Buckets that the inventory no longer names are not found")
            return
        for name in sorted({item["ResourceARN"].rpartition(":")[2] for item in found} - self.options["buckets"].keys()):
            self.plan.notices.append(
                f"bucket {name} is this cluster's by its tags, and irsa_buckets does not name it: kept"
            )

    def _ensure(self, name: str, owner: dict, live: Mapping | None, settings: Mapping) -> None:
        tags = self._tags(owner) if live is not None else {}
        if live is None:
            # With its tags, so that it is ours from the start. They are put once more below: some endpoints drop them here.
            configuration: dict[str, Any] = {"Tags": pairs_of(self.tags)}
            if self.account.region != "us-east-1":
                configuration["LocationConstraint"] = self.account.region
            arguments: dict[str, Any] = {
                "Bucket": name,
                "ObjectOwnership": "BucketOwnerEnforced",
                "CreateBucketConfiguration": configuration,
            }
            if name.endswith("-an"):
                arguments["BucketNamespace"] = "account-regional"
            self.write(
                "s3", "create_bucket", arguments, f"create bucket {name}", ("delete_bucket", owner), after=arguments
            )
        elif not self.may_touch("bucket", name, tags, "" if tags else self._cut_off(name, owner)):
            return
        self.note_tags(f"bucket {name}", tags)
        read = self.account.find if live is not None else (lambda *_args, **_more: None)
        self._public_access(name, owner, read, live is None)
        new = {**tags, **self.missing_tags(tags)}
        if live is not None:
            new = {key: value for key, value in new.items() if key not in self._old_tags(live)}
        self.check_tags(f"bucket {name}", new)
        if new != tags:
            undo = (
                ("put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(tags)}})
                if tags
                else ("delete_bucket_tagging", {})
            )
            self._change(
                name, owner, "put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(new)}}, "tags", undo, live, tags, new
            )
        self._encryption(name, owner, read, live, settings.get("kms_key_arn") or "")
        status = (read("s3", "get_bucket_versioning", **owner) or {}).get("Status")
        if status != "Enabled":
            off, on = ({"VersioningConfiguration": {"Status": value}} for value in ("Suspended", "Enabled"))
            undo = ("put_bucket_versioning", off)
            self._change(
                name,
                owner,
                "put_bucket_versioning",
                on,
                "versioning",
                undo,
                live,
                {"Status": status},
                {"Status": "Enabled"},
            )
        self._lifecycle(name, owner, read, live, settings)
        found = read("s3", "get_bucket_policy", **owner)
        before = json.loads(found["Policy"]) if found else None
        self.plan.kept += [
            f"the statement {item.get('Sid') or 'without a Sid'} in the policy of bucket {name}"
            for item in iam.listed((before or {}).get("Statement") or [])
            if item.get("Sid") != policies.TLS_ONLY
        ]
        policy = policies.merge_bucket_policy(before, policies.tls_only(name, self.account.partition))
        if before is None or not policies.same(before, policy):
            undo = ("put_bucket_policy", {"Policy": json.dumps(before)}) if before else ("delete_bucket_policy", {})
            self._change(
                name, owner, "put_bucket_policy", {"Policy": json.dumps(policy)}, "policy", undo, live, before, policy
            )

    def _cut_off(self, name: str, owner: Mapping) -> str:
        """Explain a bucket without tags that looks like what a run of 0.1.0 left when it was cut off: empty, and with no policy."""
        read = self.account.find
        held = read("s3", "list_object_versions", **owner) or {}
        if held.get("Versions") or held.get("DeleteMarkers") or read("s3", "get_bucket_policy", **owner):
            return ""
        return f". It is empty and has neither tags nor a policy, as after a run that was cut off: then take it over with irsa_adopt, or delete it (aws s3api delete-bucket --bucket {name})"

    def _region(self, live: Mapping) -> str:
        return live.get("BucketRegion") or self.account.region

    def _old_tags(self, live: Mapping) -> set[str]:
        """Give the tag of 0.1.0, where it means this cluster: it says no more than the name, and clusters manage buckets of their region."""
        here = (self.options["cluster_account_id"], self.options["region"])
        return {self.owner.old_tag} if here == (self.account.id, self._region(live)) else set()

    def _tags(self, owner: Mapping) -> dict[str, str]:
        return tags_of((self.account.find("s3", "get_bucket_tagging", **owner) or {}).get("TagSet"))

    def _change(
        self,
        name: str,
        owner: Mapping,
        operation: str,
        arguments: Mapping,
        what: str,
        undo: tuple[str, dict],
        live: Mapping | None,
        before: Any,
        after: Any,
    ) -> None:
        # A bucket that this run makes goes as a whole, closed as it is by then.
        back = (undo[0], {**owner, **undo[1]}) if live is not None else WITH_THE_BUCKET
        summary = f"{'change' if live is not None else 'set'} {what} of bucket {name}"
        self.write("s3", operation, {**owner, **arguments}, summary, back, before, after)

    def _public_access(self, name: str, owner: Mapping, read: Any, new: bool) -> None:
        found = (read("s3", "get_public_access_block", **owner) or {}).get("PublicAccessBlockConfiguration")
        if found == PUBLIC_ACCESS_BLOCK:
            return
        wanted = {"PublicAccessBlockConfiguration": PUBLIC_ACCESS_BLOCK}
        undo = (
            ("put_public_access_block", {"PublicAccessBlockConfiguration": found})
            if found
            else ("delete_public_access_block", {})
        )
        self._change(
            name,
            owner,
            "put_public_access_block",
            wanted,
            "public access block",
            undo,
            None if new else {},
            found,
            PUBLIC_ACCESS_BLOCK,
        )

    def _encryption(self, name: str, owner: Mapping, read: Any, live: Mapping | None, key: str) -> None:
        found = (read("s3", "get_bucket_encryption", **owner) or {}).get("ServerSideEncryptionConfiguration")
        wanted = encryption(key)
        if same_encryption(found, wanted):
            return
        undo = (
            ("put_bucket_encryption", {"ServerSideEncryptionConfiguration": found})
            if found
            else ("delete_bucket_encryption", {})
        )
        arguments = {"ServerSideEncryptionConfiguration": wanted}
        self._change(name, owner, "put_bucket_encryption", arguments, "encryption", undo, live, found, wanted)

    def _lifecycle(self, name: str, owner: Mapping, read: Any, live: Mapping | None, settings: Mapping) -> None:
        found = read("s3", "get_bucket_lifecycle_configuration", **owner) or {}
        rules = found.get("Rules") or []
        wanted = merge_lifecycle(
            rules, int(settings.get("noncurrent_days") or 30), int(settings.get("multipart_days") or 7)
        )
        self.plan.kept += [
            f"the lifecycle rule {rule.get('ID') or 'without a name'} of bucket {name}"
            for rule in rules
            if rule.get("ID") not in (NONCURRENT, MULTIPART)
        ]
        if policies.same(rules, wanted):
            return
        size = "TransitionDefaultMinimumObjectSize"
        extra = {size: found[size]} if found.get(size) else {}
        undo = (
            ("put_bucket_lifecycle_configuration", {"LifecycleConfiguration": {"Rules": rules}, **extra})
            if rules
            else ("delete_bucket_lifecycle", {})
        )
        arguments = {"LifecycleConfiguration": {"Rules": wanted}, **extra}
        operation = "put_bucket_lifecycle_configuration"
        self._change(name, owner, operation, arguments, "lifecycle", undo, live, rules, wanted)

    def _remove(self, name: str, owner: dict, live: Mapping) -> None:
        tags = self._tags(owner)
        mine = {self.tag, *self._old_tags(live)} & tags.keys()
        if not mine and (cluster_tags(tags) or not self.owned(name, tags)):
            return
        if not (mine and is_ours(tags)) and name not in self.options["adopt"]:
            self.note_untagged("bucket", name, self.tag if is_ours(tags) else "=".join(MANAGED_BY))
            return
        if cluster_tags(tags) - mine:
            rest = {key: value for key, value in tags.items() if key not in mine}
            undo = ("put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(tags)}})
            self._change(
                name, owner, "put_bucket_tagging", {"Tagging": {"TagSet": pairs_of(rest)}}, "tags", undo, {}, tags, rest
            )
            return
        found = self.account.find("s3", "get_bucket_policy", **owner)
        others = [
            str(item.get("Sid") or "one without a Sid")
            for item in iam.listed(json.loads(found["Policy"])["Statement"] if found else [])
            if item.get("Sid") != policies.TLS_ONLY
        ]
        if others:
            self.plan.problems.append(
                f"bucket {name} has statements of others in its policy, so it is not deleted: remove them first, or take it out of "
                f"irsa_buckets to keep it: {', '.join(others)}"
            )
            return
        # One page is enough to see that there is something.
        found = self.account.call("s3", "list_object_versions", **owner)
        held = {
            "versions": len(found.get("Versions") or []),
            "delete markers": len(found.get("DeleteMarkers") or []),
            "unfinished uploads": len(self.account.call("s3", "list_multipart_uploads", **owner).get("Uploads") or []),
        }
        if any(held.values()):
            more = "at least " if found.get("IsTruncated") else ""
            count = ", ".join(f"{number} {what}" for what, number in held.items() if number)
            self.plan.problems.append(
                f"bucket {name} holds {more}{count}: it is never emptied here. Empty it, or take it out of irsa_buckets to keep it"
            )
            return
        self.write("s3", "delete_bucket", owner, f"delete bucket {name}", before=tags)
