"""Packs a release into a record and reads it again; knows no cluster, and never keeps a Secret or what has the form of a credential."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import hiding
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import identity
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import masked

RUNNING, SUCCEEDED, FAILED, ROLLED_BACK, INTERRUPTED = (
    *("running", "succeeded", "failed"),
    *("rolled back", "interrupted"),
)
RESULTS = (RUNNING, SUCCEEDED, FAILED, ROLLED_BACK, INTERRUPTED)
NAME, OBJECTS = "modelyard-release-", "objects.json.gz"
FORM = re.compile(rf"{NAME}(\d{{4,}})(?:-\d+)?")
# Bytes. A ConfigMap may hold 1 MiB; what the objects leave of it is for the two long texts that people read.
CHUNK, LONGEST = 700 * 1024, 100 * 1024
TEXTS = ("time", "ended", "by", "process", "inventory", "commit", "clean", "delivery", "reason", "result")
COUNTS = ("number", "rollback_to", "parts")
KEYS = (*TEXTS, *COUNTS, "components", "versions", "images", "changes", "sha256", "digest")


class Damaged(ValueError):
    """A record that is not as a run wrote it."""


def name_of(number: int, part: int = 1) -> str:
    """Name the ConfigMap of a record; those that take what does not fit into the first have their place behind it."""
    return f"{NAME}{number:04}" + (f"-{part}" if part > 1 else "")


def pack(objects: Iterable[Mapping]) -> bytes:
    """Compress objects, without Secrets and credentials, as one ``v1 List`` that kubectl takes."""
    items = [hiding.hide(item) for item in objects if item["kind"] != "Secret"]
    return gzip.compress(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}).encode(), mtime=0)


def unpack(packed: bytes) -> list[dict]:
    """Give the objects that :func:`pack` has packed.

    Raises:
        Damaged: that is not what it packs.
    """
    try:
        items = json.loads(gzip.decompress(packed))["items"]
        for item in items:
            identity(item)
    except (OSError, EOFError, zlib.error, ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"its objects can't be read ({error})") from None
    return items


def chunks(packed: bytes) -> list[str]:
    """Cut packed objects into what one ConfigMap each can take, in base64."""
    return [b64encode(packed[start : start + CHUNK]).decode() for start in range(0, len(packed), CHUNK)]


def written(record: Mapping, packed: bytes) -> dict[str, str]:
    """Give the ``data`` of a record.

    Args:
        record: what :func:`read` gives of it.
        packed: its objects.
    """
    versions = {name: version for name, version in record["versions"].items() if name != "images"}
    data = {key: str(record.get(key) or "") for key in (*TEXTS, *COUNTS)} | {
        "parts": str(len(chunks(packed))),
        "components": ",".join(record["components"]),
        "versions": "\n".join(f"{name} {version}" for name, version in versions.items()),
        "images": "\n".join(record["versions"]["images"]),
        "changes": _cut("\n".join(record["changes"])),
        "reason": _cut(record.get("reason", "")),
        "sha256": hashlib.sha256(packed).hexdigest(),
    }
    return sealed(data)


def sealed(data: Mapping[str, str]) -> dict[str, str]:
    """Give the ``data`` of a record with the digest that tells whether anybody else has changed it."""
    return {**data, "digest": _digest(data)}


def ended(data: Mapping[str, str], result: str, time: str, reason: str) -> dict[str, str]:
    """Give the ``data`` of a record whose run has ended."""
    return sealed({**data, "result": result, "ended": time, "reason": _cut(reason)})


def read(number: int, data: Mapping[str, str], stored: Mapping[str, str]) -> tuple[dict, bytes]:
    """Read a record.

    Args:
        number: by the name of its ConfigMap.
        data: of that.
        stored: names of all ConfigMaps of records to what they hold of packed objects, in base64.

    Returns:
        the record, as ``releases.listed`` gives it, and its packed objects.

    Raises:
        Damaged: it is not as a run wrote it.
    """
    if missing := [key for key in KEYS if key not in data]:
        raise Damaged(f"{', '.join(missing)} is missing")
    if data["digest"] != _digest(data) or data["number"] != str(number) or data["result"] not in RESULTS:
        raise Damaged("somebody has edited it")
    names = [name_of(number, part) for part in range(1, int(data["parts"]) + 1)]
    try:
        packed = b"".join(b64decode(stored.get(name, ""), validate=True) for name in names)
    except ValueError as error:
        raise Damaged(f"its objects can't be read ({error})") from None
    if hashlib.sha256(packed).hexdigest() != data["sha256"]:
        raise Damaged("its objects are not those that the run wrote")
    unpack(packed)
    versions = dict(line.split(" ", 1) for line in data["versions"].splitlines())
    record = {key: data[key] for key in TEXTS} | {
        "number": number,
        "rollback_to": int(data["rollback_to"] or 0),
        "components": data["components"].split(","),
        "versions": {**versions, "images": data["images"].splitlines()},
        "changes": data["changes"].splitlines(),
    }
    return record, packed


def images(objects: Iterable[Mapping]) -> list[str]:
    """Name the images of Deployments, each once."""
    pods = [item["spec"]["template"]["spec"] for item in objects if item["kind"] == "Deployment"]
    parts = ("initContainers", "containers")
    return list(dict.fromkeys(one["image"] for pod in pods for part in parts for one in pod.get(part) or []))


def _digest(data: Mapping[str, str]) -> str:
    rest = {key: value for key, value in data.items() if key != "digest"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _cut(text: str) -> str:
    """Give a text without credentials, and of a length that fits."""
    text = hiding.hide_text(masked(text))
    cut = text.encode()[:LONGEST].decode(errors="ignore")
    return text if cut == text else f"{cut}\n... (cut)"
