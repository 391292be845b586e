"""Tells by its tags whose something in AWS is, and for which clusters it stands; never reads or writes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import camel

MANAGED_BY = ("managed-by", "modelyard")
PREFIX = "modelyard/cluster/"
# Of a role, a provider, an association or a bucket each.
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html
MOST_TAGS = 50


@dataclass(frozen=True)
class Owner:
    """A cluster, as tags, Sids and policy names know it: each is made of all three parts, so that no two clusters have the same.

    No part can hold the separators, and the longest tag key has 118 characters of IAM's 128, the longest policy name 110 of 128.
    IAM takes tag keys that differ in case alone for one, so a name with capitals has a digest behind it.

    Attributes:
        account: the cluster's own, 12 digits.
        region: the cluster's.
        name: up to 63 characters of a label's value.
    """

    account: str
    region: str
    name: str

    def __str__(self) -> str:
        """Word it as its tag does."""
        return f"{self.account}/{self.region}/{self.name}"

    @property
    def tag(self) -> str:
        """Name the tag that says that something stands for this cluster; what several share has one of each."""
        return f"{PREFIX}{self.account}/{self.region}/{self.name}{self._capitals('/')}"

    @property
    def policy(self) -> str:
        """Name the cluster's inline policy in a role."""
        return f"modelyard-{self.name}@{self.region}@{self.account}{self._capitals('@')}"

    @property
    def sid(self) -> str:
        """Name the cluster's statement in a trust policy, where letters and digits alone are allowed."""
        return f"Modelyard{camel(self.name)}{self._digest}"

    @property
    def _digest(self) -> str:
        return hashlib.sha256(f"{self.account}:{self.region}:{self.name}".encode()).hexdigest()[:8]

    def _capitals(self, separator: str) -> str:
        return "" if self.name == self.name.lower() else f"{separator}{self._digest}"

    # Until 0.1.0, tags and policies said no more than the name: clusters that had it in common had these in common.

    @property
    def old_tag(self) -> str:
        """Name the tag that 0.1.0 wrote."""
        return f"{PREFIX}{self.name}"

    @property
    def old_policy(self) -> str:
        """Name the policy that 0.1.0 wrote."""
        return f"modelyard-{self.name}"


def own_tags(owner: Owner, tags: Mapping[str, str]) -> dict[str, str]:
    """Give the tags of what is ours."""
    return {**{str(key): str(value) for key, value in tags.items()}, **dict([MANAGED_BY]), owner.tag: "true"}


def is_ours(tags: Mapping[str, str]) -> bool:
    """Tell by its tags whether something is ours."""
    return tags.get(MANAGED_BY[0]) == MANAGED_BY[1]


def cluster_tags(tags: Iterable[str]) -> set[str]:
    """Pick the tags that say for which clusters something stands."""
    return {key for key in tags if key.startswith(PREFIX)}


def named(tags: Iterable[str]) -> str:
    """Word the clusters of some tags."""
    return ", ".join(sorted(key.removeprefix(PREFIX) for key in tags))


def policies_of(tags: Iterable[str]) -> set[str]:
    """Name the inline policies of the clusters that a role stands for."""
    return {
        owner.policy if isinstance(owner, Owner) else f"modelyard-{owner}" for owner in map(_owner, cluster_tags(tags))
    }


def owned_sid(sid: str, tags: Iterable[str]) -> bool:
    """Tell whether a statement is of a cluster that its role stands for."""
    return owner_of(sid, tags) is not None


def owner_of(sid: str, tags: Iterable[str]) -> Owner | str | None:
    """Find the cluster that its role stands for and whose name a statement has; of what 0.1.0 wrote, no more than the name is known."""
    for owner in map(_owner, sorted(cluster_tags(tags))):
        if sid == owner.sid if isinstance(owner, Owner) else _old_sid(sid, owner):
            return owner
    return None


def shared_name(owner: Owner, sids: Iterable[str], tags: Iterable[str]) -> bool:
    """Tell whether another cluster of the same name still relies on the tag and the policy of 0.1.0.

    Args:
        owner: the cluster that asks.
        sids: of the statements in the role's trust policy.
        tags: the role's.
    """
    told = {key for key in cluster_tags(tags) if key != owner.old_tag}
    return any(_old_sid(sid, owner.name) and sid != owner.sid and not owned_sid(sid, told) for sid in sids)


def _owner(tag: str) -> Owner | str:
    """Give the cluster of a tag; what 0.1.0 wrote tells its name alone."""
    parts = tag.removeprefix(PREFIX).split("/")
    return Owner(*parts[:3]) if len(parts) in (3, 4) else parts[0]


def _old_sid(sid: str, name: str) -> bool:
    return bool(re.fullmatch(f"Modelyard{camel(name)}[0-9a-f]{{8}}", sid))


def tags_of(pairs: list[Mapping] | Mapping | None) -> dict[str, str]:
    """Give tags as a dictionary; IAM and S3 write them as pairs."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    return {pair["Key"]: pair["Value"] for pair in pairs or []}


def pairs_of(tags: Mapping[str, str]) -> list[dict]:
    """Give tags as IAM and S3 want them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
