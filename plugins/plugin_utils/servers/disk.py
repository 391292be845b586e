"""Checks what a server downloads against the volume that takes it, and its pod against the node's disk; knows no kind, and never asks a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import problem
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB, parse
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# Beside the weights: tokenizer, what torch.compile and FlashInfer write, and CUDA's own cache of kernels, which takes up to
# 1 GiB (CUDA C++ Programming Guide, CUDA_CACHE_MAXSIZE).
KERNELS_BYTES = GIB
# Of vLLM's image, unpacked: 22 to 29 GB are reported (vllm-project/vllm, issue 17163 and pull request 22377). The least of it.
VLLM_IMAGE_BYTES = 20 * GIB
# Network file systems may take any size for an answer: EFS has no quota for a claim (its CSI driver's README).
SHARED = "ReadWriteMany"
# Of a node's disk the kubelet reserves 1 GiB on EKS, and evicts pods where less than a tenth is free (Karpenter's model,
# which gives the 17 GiB of a disk of 20).
RESERVED_BYTES, USABLE = GIB, 0.9


def is_path(model: object) -> bool:
    """Tell whether a model is a folder of the pod, which nobody downloads."""
    return str(model).startswith("/")


def is_streamed(model: object) -> bool:
    """Tell whether the weights of a model go from a bucket to the GPU, and never to a disk."""
    return "://" in str(model)


def gib(size: float) -> str:
    """Write bytes for people."""
    return f"{size / GIB:.1f} GiB"


def enough(size: float, beside: float) -> str:
    """Give the size of a volume that holds so many bytes and those beside them, in whole GiB, with a twentieth to spare."""
    return f"{math.ceil((size * 1.05 + beside) / GIB)}Gi"


def check_room(
    settings: Settings, what: str, size: float, room: object, *keys: object, claim: str = "", beside: int = 0
) -> None:
    """Check a volume against what is downloaded into it.

    Args:
        settings: where what is wrong is noted.
        what: is downloaded, in words.
        size: of it, in bytes.
        room: the volume's size, a quantity; what is none is told elsewhere.
        keys: of the variable to change.
        claim: the access mode of a claim, which fills; ``""`` for an emptyDir, whose pod is evicted.
        beside: bytes that come beside it: below them is close, and no more than a notice.
    """
    try:
        there = float(parse(room))
    except ValueError:
        return
    ends = "the download would fail at each start" if claim else "the pod would be evicted, and begin again for ever"
    if there < size and claim == SHARED:
        settings.notices.append(
            f"{settings.path(*keys)} is {str(room)!r}: {what}, {gib(size)}, is more: a class that keeps to sizes (EFS does not) "
            f"would let the download fail at each start; {enough(size, beside)} is enough"
        )
    elif there < size:
        settings.foresee(
            "volumes", room, f"does not hold {what}, {gib(size)}: {ends}; set {enough(size, beside)}", *keys
        )
    elif there < size + beside:
        settings.notices.append(
            f"{settings.path(*keys)} is {str(room)!r}: {what}, {gib(size)}, leaves {gib(there - size)} for compiled kernels, "
            f"which take up to {gib(beside)}; {enough(size, beside)} is enough"
        )


def check_path(
    settings: Settings, path: str, mounts: Iterable[Mapping], volumes: Iterable[Mapping], size: float, key: str
) -> None:
    """Check that a model's folder lies on a volume of the pod, and one of a known size that holds it.

    Args:
        settings: where what is wrong is noted.
        path: the folder.
        mounts: of the container that reads it.
        volumes: of the pod.
        size: of the model in bytes; 0 for unknown.
        key: the variable that gives the path.
    """
    found = [mount for mount in mounts if f"{path}/".startswith(f"{str(mount['mountPath']).rstrip('/')}/")]
    if not found:
        settings.notices.append(
            f"{settings['name']}: {settings.path(key)} is {path!r}, where no volume is mounted: the image must have it, "
            f"or a volume of {settings.path('extra_volumes')}"
        )
        return
    name = max(found, key=lambda mount: len(str(mount["mountPath"])))["name"]
    own = settings["extra_volumes"] or []
    index = next((index for index, volume in enumerate(own) if volume.get("name") == name), None)
    limit = next((volume.get("emptyDir") for volume in volumes if volume.get("name") == name), None)
    if index is not None and isinstance(limit, Mapping) and limit.get("sizeLimit"):
        check_room(
            settings, f"the model in {path}", size, limit["sizeLimit"], "extra_volumes", index, "emptyDir", "sizeLimit"
        )


def sizes(settings: Settings) -> list[str]:
    """Give the sizes of the inventory's own emptyDirs on the node's disk."""
    sources = [volume.get("emptyDir") for volume in settings["extra_volumes"] or [] if isinstance(volume, Mapping)]
    sources = [source for source in sources if isinstance(source, Mapping) and source.get("medium") != "Memory"]
    return [source["sizeLimit"] for source in sources if source.get("sizeLimit")]


def check_memory(settings: Settings, limits: Mapping) -> None:
    """Check volumes in memory, ``/dev/shm`` and those of the inventory, against the container's memory limit."""
    limit, together = _bytes(limits["limits"].get("memory")), _bytes(settings["shm_size"])
    for index, volume in enumerate(settings["extra_volumes"] or []):
        source = volume.get("emptyDir") if isinstance(volume, Mapping) else None
        if not isinstance(source, Mapping) or source.get("medium") != "Memory":
            continue
        together += _bytes(source.get("sizeLimit"))
        if limit and together >= limit:
            allowed = (
                f"volumes in memory are the container's, with this {gib(together)}, and must be below its memory limit"
            )
            settings.wrong(source.get("sizeLimit"), allowed, "extra_volumes", index, "emptyDir", "sizeLimit")


def check_node(settings: Settings, pool: Mapping, resources: Mapping, written: float = 0, image: float = 0) -> None:
    """Check what a pod keeps on its node's disk: its request, its limit, and what it writes for certain beside its image.

    Args:
        settings: where what is wrong is noted.
        pool: the hardware profile: ``allocatable.ephemeral-storage``, or ``disk_gib``.
        resources: requests and limits of the main container.
        written: bytes that it downloads to the node's disk.
        image: bytes of its image, unpacked, at least.
    """
    limit = resources["limits"].get("ephemeral-storage")
    if limit and 0 < _bytes(limit) < written:
        allowed = f"what is downloaded, {gib(written)}, is more: the pod would be evicted, and begin again for ever"
        settings.foresee("volumes", limit, allowed, "resources", "limits", "ephemeral-storage")
    disk = float(pool.get("disk_gib") or 0) * GIB
    room = _bytes((pool.get("allocatable") or {}).get("ephemeral-storage")) or max(0, disk * USABLE - RESERVED_BYTES)
    request = resources["requests"].get("ephemeral-storage")
    given = settings.get("resources", "requests", "ephemeral-storage")
    if (
        room
        and request
        and _bytes(request) > room
        and not (given and "ephemeral-storage" in (pool.get("allocatable") or {}))
    ):
        what = "" if given else ", the sum of its volumes' sizes"
        allowed = f"a node of hardware profile {str(settings['hardware_profile'])!r} has {gib(room)} to give{what}"
        keys = ("resources", "requests", "ephemeral-storage")
        settings.misfits.append(problem(settings.path(*keys), request, allowed, settings.place(*keys)))
    if image and disk and written + image > disk * USABLE:
        allowed = (
            f"of a node's disk of {gib(disk)} (disk_gib) a tenth must stay free, and the image takes {gib(image)} or more and "
            f"what is downloaded {gib(written)}: its pods would be evicted"
        )
        settings.foresee("volumes", settings["hardware_profile"], allowed, "hardware_profile")


def _bytes(value: Any) -> float:
    """Read a quantity; 0 for none, and for what is told elsewhere."""
    try:
        return float(parse(value))
    except ValueError:
        return 0
