"""Knows whether a run is a job of AWX, and words what a person does there instead of at a shell; never asks AWX."""

from __future__ import annotations

import os
from pathlib import Path


def number() -> str:
    """Give the number of the AWX job that this run is; '' at a shell."""
    # JOB_ID alone is that of Grid Engine, or of a CI's runner.
    theirs = os.environ.get("JOB_ID") if os.environ.get("AWX_PRIVATE_DATA_DIR") else ""
    return os.environ.get("AWX_JOB_ID") or theirs or ""


def given(name: str, value: object) -> str:
    """Say how a variable is given to a run: ``-e NAME=VALUE``, or, in AWX, in the survey or a prompt."""
    return f"{name}={value} at launch" if number() else f"-e {name}={value}"


def playbook(name: str, variable: str, value: object) -> str:
    """Say how a playbook is run with one variable: ``playbooks/NAME.yml -e VARIABLE=VALUE``, or, in AWX, its job template."""
    path = f"playbooks/{name}.yml"
    return (
        f"the job template of {path}, with {given(variable, value)}" if number() else f"{path} {given(variable, value)}"
    )


def folder() -> str:
    """Give the folder that is thrown away with the AWX job that this run is; '' at a shell."""
    # AWX_PRIVATE_DATA_DIR is where AWX has it, outside the container. The runner says where the artifacts are that go with it.
    artifacts = os.environ.get("AWX_ISOLATED_DATA_DIR", "")
    return str(Path(artifacts).parents[1]) if artifacts and number() else ""


def cluster_credential() -> str:
    """Say what leads a run to a cluster."""
    if number():
        return "give the job template this cluster's Kubernetes credential, or set platform_connection in the inventory"
    return "set platform_connection in the inventory, or K8S_AUTH_HOST and K8S_AUTH_API_KEY, or K8S_AUTH_KUBECONFIG"


def aws_credential() -> str:
    """Say what leads a run to an AWS account."""
    if number():
        return "give the job an AWS credential, or set irsa_aws_profile"
    return "set irsa_aws_profile, AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
