"""The command that builds the loader's image, with a program in the engine's place: what it refuses, fetches and passes on.

What it builds runs on kind (tests/kind), where the same Dockerfile is built.
"""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "images/vllm-deployment-tools/build"
IMAGE = "208374650911.dkr.ecr.eu-central-1.amazonaws.com/vllm-deployment-tools:1.2"
# Answers, writes down what it was asked and which packages it was given, and pushes where PUSHES says so.
ENGINE = """#!/bin/sh
echo "${0##*/} $*" >>"$ASKED"
for last; do :; done
case $1 in
  info) [ -z "$SILENT" ] ;;
  build) find "$last" -name '*.so' | sed 's|.*/||' >>"$ASKED"; ls -l "$last/packages/mlflow/version.py" >>"$ASKED" ;;
  push) ${PUSHES:-true} ;;
esac
"""


@pytest.fixture
def build(tmp_path):
    """Build: build(image, engines, VARIABLE=...); `asked` is what the engines were asked."""
    folder, asked = tmp_path / "bin", tmp_path / "asked"
    folder.mkdir()
    asked.touch()
    # No engine of this machine's.
    for program in (
        "bash",
        "cat",
        "cp",
        "dirname",
        "find",
        "ls",
        "mkdir",
        "mktemp",
        "rm",
        "sed",
        "sh",
        "uname",
        "chmod",
        "env",
        "python3",
    ):
        found = next(
            Path(path) / program for path in ("/usr/bin", "/bin", "/usr/local/bin") if (Path(path) / program).exists()
        )
        (folder / program).symlink_to(found)

    def build_(image=IMAGE, engines=("docker",), **env):
        for engine in engines:
            (folder / engine).write_text(ENGINE)
            (folder / engine).chmod(0o755)
        known = {key: value for key, value in os.environ.items() if key not in ("ENGINE", "PLATFORM", "BASE", "PUSH")}
        done = subprocess.run(
            [BUILD, image],
            env={**known, "PATH": str(folder), "ASKED": str(asked), **env},
            capture_output=True,
            text=True,
            check=False,
        )
        done.asked = asked.read_text()
        return done

    return build_


@pytest.mark.parametrize(
    ("image", "env", "engines", "told"),
    [
        ("", {}, ["docker"], "where does it go? make image IMAGE=ACCOUNT.dkr.ecr.REGION.amazonaws.com/vllm-deployment-tools:TAG"),
        ("ACCOUNT.dkr.ecr.REGION.amazonaws.com/loader:1", {}, ["docker"], "must be REGISTRY/NAME:TAG, in lower case"),
        ("registry.internal/loader", {}, ["docker"], "IMAGE=registry.internal/loader: must be REGISTRY/NAME:TAG"),
        (IMAGE, {"PLATFORM": "linux/riscv64"}, ["docker"], "PLATFORM=linux/riscv64: must be linux/amd64 or linux/arm64"),
        (IMAGE, {}, [], "needs docker, podman, finch or nerdctl, and finds none"),
        (IMAGE, {"ENGINE": "podman"}, ["docker"], "needs podman, and finds none"),
        (IMAGE, {"SILENT": "yes"}, ["docker", "podman"], "docker podman: does not answer; start it, or name another in ENGINE"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_before_anything_is_built(build, image, env, engines, told):
    done = build(image, engines, **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"image: {told}" in done.stderr or told in done.stderr
    assert "build" not in done.asked


def test_it_builds_for_the_nodes_pushes_and_says_what_to_set(build):
    done = build()
    assert done.returncode == 0, done.stderr
    assert f"docker build --platform linux/amd64 --tag {IMAGE} " in done.asked
    assert "x86_64-linux-gnu.so" in done.asked
    # Any user of a container can read it.
    assert "-rw-r--r--" in done.asked
    assert done.asked.endswith(f"docker push {IMAGE}\n")
    assert done.stdout == (f"model_loader_init_image: {IMAGE.rpartition(':')[0]}\nmodel_loader_init_image_tag: '1.2'\n")


def test_another_engine_platform_and_base_and_no_push(build):
    done = build(engines=["podman"], PLATFORM="linux/arm64", BASE="registry.internal/python@sha256:0", PUSH="no")
    assert done.returncode == 0, done.stderr
    assert "podman build --platform linux/arm64 --build-arg BASE=registry.internal/python@sha256:0 --tag" in done.asked
    assert "aarch64-linux-gnu.so" in done.asked
    assert "x86_64-linux-gnu.so" not in done.asked
    assert "push" not in done.asked


def test_a_push_that_fails_says_what_ecr_needs(build):
    done = build(PUSHES="false")
    assert (done.returncode, done.stdout) == (1, "")
    assert "aws ecr create-repository --region eu-central-1 --repository-name vllm-deployment-tools\n" in done.stderr
    login = "aws ecr get-login-password --region eu-central-1 | docker login --username AWS --password-stdin"
    assert f"{login} 208374650911.dkr.ecr.eu-central-1.amazonaws.com\n" in done.stderr
