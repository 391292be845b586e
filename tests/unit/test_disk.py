"""What is downloaded against the volumes that take it, and a pod against its node's disk."""

from __future__ import annotations

from typing import Any

import pytest
from rendering import computed, prefixed

SIZED = {"model": "org/own", "adapter_base_models": ["org/own"], "model_weight_bytes": 9.3 * 2**30}
OWN = {
    **SIZED,
    "model_config": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}
MOUNTED = {
    **OWN,
    "model": "/models/own",
    "extra_volumes": [{"name": "models", "persistentVolumeClaim": {"claimName": "models"}}],
    "extra_volume_mounts": [{"name": "models", "mountPath": "/models", "readOnly": True}],
}


def emptied(size: str, **more: str) -> dict:
    """The model's folder on an emptyDir, which an init container fills."""
    return {**MOUNTED, "extra_volumes": [{"name": "models", "emptyDir": {"sizeLimit": size, **more}}]}


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (OWN, "vllm_cache.size is '8Gi': does not hold the weights of org/own, 9.3 GiB: the pod would be evicted, and begin again for ever; set 11Gi"),
        ({**OWN, "cache": {"type": "claim", "size": "9Gi"}}, "9.3 GiB: the download would fail at each start; set 11Gi"),
        (emptied("9Gi"), "vllm_extra_volumes.0.emptyDir.sizeLimit is '9Gi': does not hold the model in /models/own, 9.3 GiB"),
        ({**OWN, "cache": {"size": "12Gi"}, "resources": {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": {"memory": "14Gi", "nvidia.com/gpu": 1, "ephemeral-storage": "9Gi"}}}, "vllm_resources.limits.ephemeral-storage is '9Gi': what is downloaded, 9.3 GiB, is more"),
        (emptied("13Gi", medium="Memory"), "with this 14.0 GiB, and must be below its memory limit"),
    ],
)  # fmt: skip
def test_what_does_not_hold_the_weights_is_refused(vllm: Any, given: dict, line: str) -> None:
    lines = vllm(**given)[1]
    assert any(line in one for one in lines), lines


@pytest.mark.parametrize(
    "given",
    [
        {**OWN, "cache": {"size": "11Gi"}},
        {**OWN, "cache": {"type": "claim", "size": "11Gi"}},
        # What exists has a size that only its cluster knows.
        {**OWN, "cache": {"type": "claim", "size": "1Gi", "create": False}},
        MOUNTED,
        emptied("10Gi"),
        # Filled before, by something else.
        {**OWN, "model": "/cache/own", "cache": {"type": "claim", "size": "1Gi", "create": False}},
    ],
)
def test_what_holds_them_is_taken_without_a_word(vllm: Any, given: dict) -> None:
    server, lines = vllm(**given)
    assert (lines, server["notices"]) == ([], [])


@pytest.mark.parametrize(
    ("more", "size"),
    [
        ({}, "15.0 GiB"),
        # What vLLM does to them when it loads them makes the files no smaller.
        ({"extra_args": {"quantization": "fp8"}}, "15.0 GiB"),
        ({"extra_args": {"dtype": "float16"}, "model_config": {**OWN["model_config"], "torch_dtype": "float32"}}, "29.9 GiB"),
        ({"model_config": {**OWN["model_config"], "quantization": "fp8"}}, "8.5 GiB"),
    ],
)  # fmt: skip
def test_it_is_the_files_that_are_downloaded(vllm: Any, more: dict, size: str) -> None:
    given = {**OWN, "model_weight_bytes": 0, **more}
    assert f"does not hold the weights of org/own, {size}" in str(vllm(**given)[1])


def test_little_room_for_compiled_kernels_is_a_warning(vllm: Any) -> None:
    server, lines = vllm(**OWN, cache={"size": "10Gi"})
    assert lines == []
    assert server["notices"] == [
        "vllm_cache.size is '10Gi': the weights of org/own, 9.3 GiB, leaves 0.7 GiB for compiled kernels, which take up to "
        "1.0 GiB; 11Gi is enough"
    ]


def test_a_claim_whose_class_may_ignore_sizes_is_a_warning(vllm: Any) -> None:
    server, lines = vllm(**OWN, cache={"type": "claim", "size": "5Gi", "access_mode": "ReadWriteMany"})
    assert lines == []
    assert (
        "vllm_cache.size is '5Gi': the weights of org/own, 9.3 GiB, is more: a class that keeps" in server["notices"][0]
    )


def test_of_a_claim_that_exists_the_plan_knows_the_size(vllm: Any) -> None:
    cache = {"type": "claim", "size": "1Gi", "create": False, "claim_name": "own"}
    assert vllm(**OWN, cache=cache)[0]["holds"] == {"own": OWN["model_weight_bytes"]}
    assert "holds" not in vllm(**OWN, cache=cache, skip_checks={"volumes": "filled by hand"})[0]
    assert "holds" not in vllm(**OWN, cache={**cache, "create": True, "size": "11Gi"})[0]


def test_the_check_can_be_turned_off(vllm: Any) -> None:
    server, lines = vllm(**OWN, skip_checks={"volumes": "a stand-in"})
    assert lines == []
    assert "Not refused: vllm_skip_checks.volumes says 'a stand-in'" in server["notices"][0]


def test_no_download_is_assumed_for_a_folder(vllm: Any) -> None:
    assert vllm(**MOUNTED)[0]["startup_allowance_seconds"] == 260
    assert vllm(**OWN, cache={"size": "11Gi"})[0]["startup_allowance_seconds"] > 260
    # Of which nothing else is known.
    more = {key: MOUNTED[key] for key in ("model", "extra_volumes", "extra_volume_mounts")}
    assert vllm(**more)[1] == []
    # Nor is the allowance too short for one.
    assert vllm(**MOUNTED, startup_seconds=30)[1] == []
    assert "of weights alone take" in vllm(**OWN, cache={"size": "11Gi"}, startup_seconds=30)[1][0]


def test_a_folder_without_a_volume_must_be_the_images(vllm: Any, triton: Any) -> None:
    assert (
        "vllm: vllm_model is '/opt/own', where no volume is mounted: the image must have it, or a volume of "
        "vllm_extra_volumes"
    ) in vllm(**{**MOUNTED, "model": "/opt/own"})[0]["notices"]
    # Not a part of the name.
    assert "no volume is mounted" in str(vllm(**{**MOUNTED, "model": "/models-2"})[0]["notices"])
    assert "no volume is mounted" in str(triton(["cpu"], model_repository="/models")[0][0]["notices"])


def test_a_node_s_disk_holds_the_request(vllm: Any, platform: dict) -> None:
    pool = platform["hardware_profiles"]["gpu-vllm"]
    # 8Gi of cache, 4Gi of adapters and 1Gi of /tmp.
    for known, room in ({"disk_gib": 15}, "12.5 GiB"), ({"allocatable": {"ephemeral-storage": "12Gi"}}, "12.0 GiB"):
        platform["hardware_profiles"]["gpu-vllm"] = {**pool, **known}
        (line,) = vllm(skip_checks={"volumes": "another check"})[0]["misfits"]
        assert "vllm_resources.requests.ephemeral-storage is '13Gi': a node of hardware profile 'gpu-vllm' has" in line
        assert f"{room} to give, the sum of its volumes' sizes" in line
    given = {"requests": {"cpu": 3, "memory": "12Gi", "ephemeral-storage": "13Gi"}, "limits": {"memory": "14Gi", "nvidia.com/gpu": 1}}  # fmt: skip
    assert len(vllm(resources=given)[0]["misfits"]) == 1
    platform["hardware_profiles"]["gpu-vllm"] = {**pool, "disk_gib": 20}
    assert vllm()[0]["misfits"] == []


def test_emptydirs_of_the_inventory_count_in_the_request(triton: Any) -> None:
    volumes = [{"name": "a", "emptyDir": {"sizeLimit": "20Gi"}}, {"name": "b", "emptyDir": {}}]
    memory = {"name": "c", "emptyDir": {"sizeLimit": "1Gi", "medium": "Memory"}}
    (server,), lines = triton(["cpu"], extra_volumes=[*volumes, memory])
    assert lines == []
    assert server["resources"]["requests"]["ephemeral-storage"] == "24Gi"


def test_a_node_s_disk_holds_the_image_beside_the_weights(vllm: Any, platform: dict) -> None:
    pool = platform["hardware_profiles"]["gpu-vllm"]
    platform["hardware_profiles"]["gpu-vllm"] = {**pool, "disk_gib": 25}
    assert (
        "vllm_hardware_profile is 'gpu-vllm': of a node's disk of 25.0 GiB (disk_gib) a tenth must stay free"
        in vllm()[1][0]
    )
    platform["hardware_profiles"]["gpu-vllm"] = {**pool, "disk_gib": 40}
    assert vllm()[1] == []


def test_triton_s_tmp_holds_what_it_copies(triton: Any) -> None:
    lines = triton(["cpu"], models_gib=5)[1]
    assert lines == [
        "triton_tmp_size is '4Gi': does not hold what Triton copies of its repository (models_gib), 5.0 GiB: the pod would be "
        "evicted, and begin again for ever; set 6Gi (this is the default: set it in the inventory)"
    ]
    for given in (
        {"tmp_size": "6Gi"},
        {"model_repository": "/models"},
        {"env": {"TRITON_AWS_MOUNT_DIRECTORY": "/scratch"}},
        {"extra_args": ["--model-repository=/more"]},
    ):
        assert triton(["cpu"], models_gib=5, **given)[1] == [], given
    assert triton(["cpu"], models_gib=5, model_repository="/models")[0][0]["startup_allowance_seconds"] == 120


def test_mlserver_s_volume_holds_its_models(platform: dict) -> None:
    def lines(**models: dict) -> list[str]:
        given = {"enabled_profiles": ["mlserver"], "models": models, "models_gib": 5}
        return computed("mlserver", **prefixed("platform", platform), **prefixed("mlserver", given))[1]

    bucket = {"uri": "s3://models/a", "implementation": "mlserver_sklearn.SKLearnModel"}
    assert "mlserver_models_size is '4Gi': does not hold what is downloaded (models_gib), 5.0 GiB" in lines(a=bucket)[0]
    # The size is of all models, and one of these is not downloaded.
    assert lines(a=bucket, b={**bucket, "uri": "/opt/b"}) == []


def test_a_size_that_yaml_takes_for_a_text_is_a_number(vllm: Any) -> None:
    for size in ("10e+9", "1e10", 10000000000):
        given = {**OWN, "model_weight_bytes": size, "model_facts": {}}
        assert "9.3 GiB" in vllm(**given)[1][0], size
    (line,) = vllm(**OWN | {"model_weight_bytes": "10e+9x"})[1]
    assert line.startswith("vllm_model_weight_bytes is '10e+9x': must be a number")
