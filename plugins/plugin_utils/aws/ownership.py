"""Tells by its tags whose something in AWS is, and for which clusters it stands; never reads or writes them."""

from __future__ import annotations

from collections.abc import Mapping

MANAGED_BY = ("managed-by", "modelyard")


def cluster_tag(cluster_name: str) -> str:
    """Name the tag that says for which cluster something stands; what several share has one of each."""
    return f"modelyard/cluster/{cluster_name}"


def own_tags(cluster_name: str, tags: Mapping[str, str]) -> dict[str, str]:
    """Give the tags of what is ours."""
    return {
        **{str(key): str(value) for key, value in tags.items()},
        **dict([MANAGED_BY]),
        cluster_tag(cluster_name): "true",
    }


def is_ours(tags: Mapping[str, str]) -> bool:
    """Tell by its tags whether something is ours."""
    return tags.get(MANAGED_BY[0]) == MANAGED_BY[1]


def clusters_of(tags: Mapping[str, str]) -> set[str]:
    """Name the clusters that something stands for."""
    prefix = cluster_tag("")
    return {key.removeprefix(prefix) for key in tags if key.startswith(prefix)}


def tags_of(pairs: list[Mapping] | Mapping | None) -> dict[str, str]:
    """Give tags as a dictionary; IAM and S3 write them as pairs."""
    if isinstance(pairs, Mapping):
        return dict(pairs)
    return {pair["Key"]: pair["Value"] for pair in pairs or []}


def pairs_of(tags: Mapping[str, str]) -> list[dict]:
    """Give tags as IAM and S3 want them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]
