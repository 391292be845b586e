"""Completes a hardware profile with what is known of its instance type; never asks AWS."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge, present

GPU = "nvidia.com/gpu"
# Each device has two; what Kubernetes counts is what the profile names.
NEURON, NEURON_CORE, CORES = "aws.amazon.com/neuron", "aws.amazon.com/neuroncore", 2
NEURON_TYPES = ("Inferentia2", "Trainium")
EFA = "vpc.amazonaws.com/efa"
# Of a machine's memory the hypervisor and the kernel take a part before the kubelet sees it: Karpenter's vmMemoryOverheadPercent.
OVERHEAD = 0.075


def known() -> dict[str, dict]:
    """Give the instance types that are known, by name."""
    return specs.catalogue("platform", "instance_types")


def allocatable(vcpus: int, memory: int, max_pods: int) -> dict[str, str]:
    """Compute what a node of EKS can give to pods.

    Source: the reservation of nodeadm (awslabs/amazon-eks-ami): of CPU 6 % of the first core, 1 % of the second, 0.5 % of the next two
    and 0.25 % of the others; of memory 255 MiB and 11 MiB for each pod; and the kubelet's eviction threshold of 100 MiB.

    Args:
        vcpus: of the instance type.
        memory: of the instance type, in MiB.
        max_pods: what the kubelet's reservation was made for.

    Returns:
        ``cpu`` and ``memory``, as quantities.
    """
    reserved = sum(60 if core == 0 else 10 if core == 1 else 5 if core < 4 else 2.5 for core in range(vcpus))
    left = memory * (1 - OVERHEAD) - (255 + 11 * max_pods) - 100
    return {"cpu": f"{math.floor(vcpus * 1000 - reserved)}m", "memory": f"{math.floor(left)}Mi"}


def completed(profile: Mapping) -> dict:
    """Complete a hardware profile; what it says itself wins.

    Args:
        profile: with ``instance_type``.

    Returns:
        the profile, with ``gpu_resource`` in any case, and for a known type with all that it leaves out: ``labels``, ``gpus``, ``gpu_type``,
        ``gpu_memory_gib``, ``max_pods``, ``allocatable`` and the ``price_per_hour`` on demand. Of a GPU that is shared by
        another name (MIG, time slices) only the profile can say how many there are and what memory one has.
    """
    profile = present(profile)
    kind = known().get(str(profile.get("instance_type")))
    if kind is None:
        return {**profile, "gpu_resource": profile.get("gpu_resource") or GPU}
    whole = _whole(kind)
    resource = profile.get("gpu_resource") or whole
    found = {
        "labels": {"node.kubernetes.io/instance-type": profile["instance_type"]},
        "gpu_resource": resource,
        "max_pods": kind["max_pods"],
        "allocatable": allocatable(kind["vcpus"], kind["memory"], profile.get("max_pods") or kind["max_pods"]),
    }
    if kind.get("efa"):
        found["allocatable"][EFA] = str(kind["efa"])
    if "price_per_hour" in kind and profile.get("capacity_type") != "spot":
        found["price_per_hour"] = kind["price_per_hour"]
    if not kind.get("gpus"):
        found["gpus"] = 0
    elif resource in (whole, NEURON_CORE):
        parts = CORES if resource == NEURON_CORE and whole == NEURON else 1
        count = kind["gpus"] * parts
        found |= {"gpus": count, "gpu_memory_gib": kind["gpu_memory_gib"] / parts}
    if kind.get("gpus"):
        found["gpu_type"] = kind["gpu_type"]
    merged = {**found, **profile}
    merged["allocatable"] = merge(found["allocatable"], present(profile.get("allocatable") or {}))
    merged["labels"] = profile.get("labels") or found["labels"]
    return merged


def sharing(profile: Mapping) -> str:
    """Say why the GPUs that a hardware profile counts are no whole ones; an empty text where they are."""
    resource = str(profile.get("gpu_resource") or GPU)
    if "/mig-" in resource:
        return f"{resource} is a slice of a GPU (MIG); slices have no peer-to-peer link, and vLLM's workers can't join over them"
    if resource.endswith(".shared"):
        return f"{resource} is a share of a GPU in time, and two shares may be of the same one"
    return ""


def surplus(profile: Mapping) -> str:
    """Say that a hardware profile counts more GPUs than its instance type has; an empty text where it does not."""
    kind = known().get(str(profile.get("instance_type"))) or {}
    if profile.get("gpu_resource", GPU) != _whole(kind) or int(profile.get("gpus") or 0) <= kind.get("gpus", math.inf):
        return ""
    return (
        f"a {profile['instance_type']} has {kind['gpus']} GPUs, and the hardware profile counts {profile['gpus']}. If they are shared "
        "in time, gpu_memory_gib must be one share's, and no model can be split over them; else correct instance_type"
    )


def _whole(kind: Mapping) -> str:
    """Name the resource that counts the GPUs of an instance type whole."""
    return NEURON if kind.get("gpu_type") in NEURON_TYPES else GPU
