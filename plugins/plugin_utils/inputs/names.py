"""Tells what a name may be (Kubernetes objects, labels, images) and where a mirror has an image; never looks anything up."""

from __future__ import annotations

import re
from collections.abc import Mapping

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
SERVICE_NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", re.ASCII)
# A resource of Kubernetes that counts GPUs, or parts of them: nvidia.com/gpu, nvidia.com/gpu.shared, nvidia.com/mig-1g.10gb, amd.com/gpu,
# aws.amazon.com/neuroncore.
GPU = re.compile(r"/(gpu|mig-|neuron)")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?", re.ASCII)

# Grammar: github.com/distribution/reference, regexp.go
_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
IMAGE = re.compile(
    rf"(?:{_HOST}(?::\d+)?/)?{_PART}(?:/{_PART})*(?P<tag>:[A-Za-z0-9_][\w.-]{{0,127}})?(?P<digest>@sha256:[0-9a-f]{{64}})?",
    re.ASCII,
)


_PORT = r"(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d{2}|655[0-2]\d|6553[0-5])"
# Without user and password: what is rendered, or said in a message, would show them.
URL = re.compile(rf"https?://(?:\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::{_PORT})?(/[^\s?#]*)?", re.ASCII)


def ecr_registry(account: str, region: str, partition: str = "aws") -> str:
    """Name the ECR registry of an account in a region."""
    return f"{account}.dkr.ecr.{region}.amazonaws.com" + (".cn" if partition == "aws-cn" else "")


def mirrored(image: str, mirrors: Mapping[str, str]) -> str:
    """Point an image at the mirror of its registry.

    Args:
        image: an image reference; without a registry it is Docker Hub's.
        mirrors: registry, or prefix below it, to the prefix of the mirror; the longest match wins.

    Returns:
        the reference to pull; the same one where no mirror matches.
    """
    if not mirrors:
        return image
    first, slash, _rest = image.partition("/")
    if not slash:
        full = f"docker.io/library/{image}"
    elif "." in first or ":" in first or first == "localhost":
        full = image
    else:
        full = f"docker.io/{image}"
    for prefix in sorted(mirrors, key=len, reverse=True):
        if full.startswith(prefix.rstrip("/") + "/"):
            return mirrors[prefix].rstrip("/") + full[len(prefix.rstrip("/")) :]
    return image
