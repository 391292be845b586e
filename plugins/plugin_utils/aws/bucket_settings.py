"""Composes and compares the settings of a bucket: encryption and lifecycle; never asks AWS."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import MANAGED_KEY

NONCURRENT, MULTIPART = "modelyard-noncurrent-versions", "modelyard-multipart-uploads"


def encryption(kms_key_arn: str) -> dict:
    """Give a bucket's default encryption: S3's own keys, a key of KMS, or with ``aws/s3`` the one that AWS keeps in KMS for S3."""
    default = {"SSEAlgorithm": "aws:kms" if kms_key_arn else "AES256"}
    if kms_key_arn and kms_key_arn != MANAGED_KEY:
        default["KMSMasterKeyID"] = kms_key_arn
    return {"Rules": [{"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(kms_key_arn)}]}


def same_encryption(live: Mapping | None, wanted: Mapping) -> bool:
    """Tell whether a bucket's encryption is the wanted one. AWS may add keys of its own; a bucket key is none of AES256's."""
    one, other = ((item or {"Rules": [{}]})["Rules"][0] for item in (live, wanted))
    default = other["ApplyServerSideEncryptionByDefault"]
    found = dict(one.get("ApplyServerSideEncryptionByDefault") or {})
    # AWS's own key has no name, or that of its alias.
    if str(found.get("KMSMasterKeyID", "")).endswith(f"alias/{MANAGED_KEY}"):
        del found["KMSMasterKeyID"]
    return found == default and (default["SSEAlgorithm"] == "AES256" or bool(one.get("BucketKeyEnabled")))


def merge_lifecycle(live: Iterable[Mapping], noncurrent_days: int, multipart_days: int) -> list[dict]:
    """Put our two rules into a bucket's lifecycle; those of others stay.

    Args:
        live: the rules that there are.
        noncurrent_days: days after which a version that is no longer the newest goes, and a lone delete marker.
        multipart_days: days after which the parts of an upload that never ended go.
    """
    ours = [
        {
            "ID": MULTIPART,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": multipart_days},
        },
        {
            "ID": NONCURRENT,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "Expiration": {"ExpiredObjectDeleteMarker": True},
            "NoncurrentVersionExpiration": {"NoncurrentDays": noncurrent_days},
        },
    ]
    return [*(dict(rule) for rule in live if rule.get("ID") not in (NONCURRENT, MULTIPART)), *ours]
