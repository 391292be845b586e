"""Says which kinds a run applies, prunes and leaves, and how it notes them for the next run; never asks a cluster.

The note is what an ApplySet calls ``contains-group-kinds`` (KEP-3659), with versions, since a list needs one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

# The annotation of the lock's Lease that holds the note.
NOTE = "modelyard/kinds"
# Volumes go with their data: only where apply_prune_kinds names the kind.
LEFT = {("", "PersistentVolumeClaim")}


def group_of(api_version: str) -> str:
    """Give the API group of an API version; that of the core is empty."""
    return api_version.rpartition("/")[0]


def key(kind: Mapping) -> tuple[str, str]:
    """Identify a kind, whatever its version."""
    return group_of(kind["api_version"]), kind["kind"]


def of(objects: Iterable[Mapping]) -> list[dict]:
    """Give the kinds of objects, each once."""
    return union({"api_version": item["apiVersion"], "kind": item["kind"]} for item in objects)


def union(*several: Iterable[Mapping]) -> list[dict]:
    """Give the kinds of several lists, each once and in order; the last one that has a kind says its version."""
    found = {key(kind): kind for kinds in several for kind in kinds}
    return [{name: found[place][name] for name in ("api_version", "kind")} for place in sorted(found)]


def without(kinds: Iterable[Mapping], others: Iterable[Mapping]) -> list[dict]:
    """Give the kinds that are not among others."""
    known = {key(kind) for kind in others}
    return [dict(kind) for kind in kinds if key(kind) not in known]


def write(kinds: Iterable[Mapping]) -> str:
    """Write kinds as kubectl names them: ``ConfigMap.v1,Deployment.v1.apps``."""
    texts = []
    for kind in union(kinds):
        group, _, version = kind["api_version"].rpartition("/")
        texts.append(".".join(part for part in (kind["kind"], version, group) if part))
    return ",".join(texts)


def read(text: str) -> list[dict]:
    """Read what :func:`write` wrote; what it can't have written is left out."""
    found = []
    for name in text.split(","):
        kind, _, rest = name.partition(".")
        version, _, group = rest.partition(".")
        if kind and version:
            found.append({"api_version": f"{group}/{version}" if group else version, "kind": kind})
    return found
