"""What is computed for the servers, and what is refused."""

import json
from typing import Any

import pytest
from ansible._internal._datatag._tags import Origin

GPU = "nvidia.com/gpu"


def _env(server: dict) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in server["environment"]}


# --- Computed --------------------------------------------------------------------------------------


def test_defaults_have_no_problem(triton: Any, vllm: Any, judge: Any) -> None:
    assert triton()[1] == []
    assert vllm()[1] == []
    assert judge("judge")[1] == []
    assert judge("judge-large")[1] == []


def test_base_has_no_place(triton: Any) -> None:
    (server,), lines = triton(["plain"], {"plain": {}})
    assert not lines
    assert (server["replicas"], server["node_selector"], server["tolerations"]) == (2, {}, [])


def test_names_do_not_depend_on_what_is_enabled(triton: Any) -> None:
    assert [server["name"] for server in triton(["gpu"])[0]] == ["triton-inference-gpu"]
    assert [server["name"] for server in triton(["gpu", "cpu"])[0]] == ["triton-inference-gpu", "triton-inference"]


def test_a_profile_replaces_any_variable(triton: Any) -> None:
    (server,), _ = triton(["cpu"], {"cpu": {"models": ["a", "b"], "resources": {"limits": {"cpu": 6}}}})
    assert server["arguments"][-2:] == ["--load-model=a", "--load-model=b"]
    assert server["resources"]["limits"] == {"cpu": "6", "memory": "8Gi"}


def test_a_gpu_taint_is_tolerated_whatever_its_value(triton: Any, platform: dict) -> None:
    platform["hardware_profiles"]["gpu"]["taints"] = [{"key": GPU, "value": "present", "effect": "NoSchedule"}]
    servers, _ = triton()
    assert servers[0]["tolerations"] == [
        {"key": "workload", "operator": "Equal", "value": "cpu-compute", "effect": "NoSchedule"}
    ]
    assert servers[1]["tolerations"] == [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]


def test_no_surge_where_the_last_gpu_is_held(triton: Any, vllm: Any, judge: Any) -> None:
    cpu, gpu = (server["strategy"]["rollingUpdate"] for server in triton()[0])
    assert cpu == {"maxSurge": 1, "maxUnavailable": 0}
    assert gpu == {"maxSurge": 0, "maxUnavailable": 1}
    assert vllm()[0]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert judge("judge-large")[0][0]["strategy"]["rollingUpdate"]["maxSurge"] == 0
    spare = {"limits": {"cpu": 4, "memory": "14Gi", GPU: 2}, "requests": {"cpu": 3, "memory": "12Gi"}}
    roomy = vllm(hardware_profile="gpu-vllm-large", resources=spare, tensor_parallel_size=2, shm_size="2Gi")
    assert roomy[0]["strategy"]["rollingUpdate"]["maxSurge"] == 1


@pytest.mark.parametrize(
    ("pool", "surge"), [({}, 0), ({"spare_nodes": 0}, 0), ({"spare_nodes": 1}, 1), ({"autoscaled": True}, 1)], ids=str
)
def test_a_pool_with_a_node_to_spare_allows_a_surge(vllm: Any, platform: dict, pool: dict, surge: int) -> None:
    platform["hardware_profiles"]["gpu-vllm"] |= pool
    assert vllm()[0]["strategy"]["rollingUpdate"] == {"maxSurge": surge, "maxUnavailable": 1 - surge}
    # A claim of one node's is not mounted twice, wherever there is room.
    claimed = vllm(cache={"type": "claim", "size": "20Gi"})
    assert claimed[0]["strategy"]["rollingUpdate"]["maxSurge"] == 0


def test_replicas_are_left_to_an_autoscaler(triton: Any, vllm: Any) -> None:
    assert triton(["cpu"], autoscaled=True)[0][0]["replicas"] is None
    assert vllm(profiles={"vllm": {"replicas": None}})[0]["replicas"] is None


def test_optional_objects_by_name(triton: Any) -> None:
    cpu, gpu = triton()[0]
    assert "poddisruptionbudget.yaml.j2" in cpu["templates"]
    assert "poddisruptionbudget.yaml.j2" not in gpu["templates"]
    (bare,), _ = triton(["cpu"], monitoring_enabled=False, network_policy_enabled=False)
    assert not {"servicemonitor.yaml.j2", "networkpolicy.yaml.j2"} & set(bare["templates"])


def test_pods_are_spread_where_there_is_more_than_one(triton: Any) -> None:
    cpu, gpu = triton()[0]
    keys = [item["topologyKey"] for item in cpu["topology_spread_constraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    assert gpu["topology_spread_constraints"] == []


@pytest.mark.parametrize(
    ("variant", "probe", "deadline"),
    [
        ("judge", {"periodSeconds": 10, "failureThreshold": 30}, 600 + 600 + 300 + 120),
        (
            "judge-large",
            {"periodSeconds": 10, "failureThreshold": 90, "initialDelaySeconds": 60},
            600 + 600 + 960 + 120,
        ),
    ],
)
def test_startup_allowance_of_the_judges(judge: Any, variant: str, probe: dict, deadline: int) -> None:
    (server,), _ = judge(variant)
    assert server["startup_probe"] == probe
    assert server["progress_deadline_seconds"] == deadline


def test_startup_allowance_follows_the_model(vllm: Any, platform: dict) -> None:
    assert vllm()[0]["startup_probe"]["failureThreshold"] == 30
    platform["download_mib_per_second"] = 10  # 3958 MiB take 396 s, and loading 260 s
    server = vllm()[0]
    assert server["startup_probe"]["failureThreshold"] == 66
    assert server["progress_deadline_seconds"] == 600 + 600 + 120 + 660 + 120


def test_a_server_that_may_still_be_starting_is_not_called_down(vllm: Any, judge: Any) -> None:
    assert vllm()[0]["down_seconds"] == 120 + 300  # adapters, start
    assert judge("judge-large")[0][0]["down_seconds"] == 960
    assert judge("judge", startup_seconds=60)[0][0]["down_seconds"] == 300


def test_ephemeral_storage_is_what_the_volumes_may_hold(vllm: Any) -> None:
    assert vllm()[0]["resources"]["requests"]["ephemeral-storage"] == "13Gi"
    claim = {"type": "claim", "size": "20Gi"}
    assert vllm(cache=claim)[0]["resources"]["requests"]["ephemeral-storage"] == "5Gi"


def test_a_claim_of_ours_is_rendered_and_never_surged(judge: Any) -> None:
    (server,), lines = judge(cache={"type": "claim", "size": "20Gi"}, hardware_profile="gpu-vllm")
    assert not lines
    assert "cache-claim.yaml.j2" in server["templates"]
    assert server["strategy"]["rollingUpdate"]["maxSurge"] == 0
    assert {"name": "cache", "persistentVolumeClaim": {"claimName": "judge-vllm-cache"}} in server["volumes"]
    (server,), _ = judge(cache={"type": "claim", "size": "20Gi", "claim_name": "theirs", "create": False})
    assert "cache-claim.yaml.j2" not in server["templates"]


def test_caches_are_on_the_volume(vllm: Any) -> None:
    env = _env(vllm()[0])
    for name in ("HOME", "HF_HOME", "VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):
        assert env[name].startswith("/cache")
    assert env["USER"]
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"


def test_private_network(vllm: Any, platform: dict, vllm_image: str) -> None:
    platform.update(
        proxy={"https_proxy": "http://proxy.local:3128", "no_proxy": "10.0.0.0/8"},
        ca_bundle_configmap="ca",
        hf_endpoint="https://hf.local",
        image_registry_mirrors={"docker.io": "mirror.local"},
        image_pull_secrets=["pull"],
    )
    server, lines = vllm(hf_token_secret={"name": "hf", "key": "token"})
    env = _env(server)
    assert not lines
    assert env["HTTPS_PROXY"] == env["https_proxy"] == "http://proxy.local:3128"
    assert {"10.0.0.0/8", "mlflow.ai-platform", ".svc", "169.254.170.23", "[fd00:ec2::23]"} <= set(
        env["no_proxy"].split(",")
    )
    assert env["REQUESTS_CA_BUNDLE"] == "/etc/modelyard/ca/ca-bundle.crt"
    assert env["HF_ENDPOINT"] == "https://hf.local"
    assert env["HF_TOKEN"] == {"secretKeyRef": {"name": "hf", "key": "token"}}
    assert server["image"] == f"mirror.local/{vllm_image}"
    assert server["image_pull_secrets"] == [{"name": "pull"}]
    assert [3128] in [[port["port"] for port in rule["ports"]] for rule in server["network_policy"]["egress"]]


def test_environment_names_are_unique_and_removable(vllm: Any) -> None:
    raw = [{"name": "HOME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]
    server, lines = vllm(env={"USER": None, "DEBUG": True, "N": 1}, extra_env=raw)
    env = _env(server)
    assert not lines
    assert "USER" not in env
    assert (env["DEBUG"], env["N"]) == ("true", "1")
    assert "fieldRef" in env["HOME"]
    assert len(server["environment"]) == len(env)


def test_egress_of_vllm(vllm: Any) -> None:
    dns, https, mlflow, agent = vllm(network_policy_pod_identity=True)[0]["network_policy"]["egress"]
    assert [(port["protocol"], port["port"]) for port in dns["ports"]] == [("UDP", 53), ("TCP", 53)]
    assert https["to"] == [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"]}}]
    assert [port["port"] for port in mlflow["ports"]] == [80, 5000]
    assert [peer["ipBlock"]["cidr"] for peer in agent["to"]] == ["169.254.170.23/32", "fd00:ec2::23/128"]


def test_networks_are_written_as_kubernetes_reads_them(vllm: Any) -> None:
    server, lines = vllm(network_policy_https_cidrs=["10.1.2.3", "fd00:0ec2:0::/48"])
    (https,) = [rule for rule in server["network_policy"]["egress"] if rule["ports"][0]["port"] == 443]
    assert lines == []
    assert https["to"] == [
        {"ipBlock": {"cidr": "10.1.2.3/32"}},
        {"ipBlock": {"cidr": "fd00:ec2::/48", "except": ["fd00:ec2::254/128"]}},
    ]


def test_the_proxy_is_one_of_the_networks(vllm: Any, platform: dict) -> None:
    assert vllm(network_policy_https_cidrs=[])[1] == []
    platform["proxy"] = {"https_proxy": "http://proxy.local:3128"}
    assert vllm()[1] == []
    (line,) = vllm(network_policy_https_cidrs=[])[1]
    assert "network_policy_https_cidrs is []: must hold the network of the proxy (platform_proxy)" in line


def test_ingress_is_narrowed_by_pod_labels(vllm: Any) -> None:
    peers = [{"namespace": "ml-models", "pod_labels": {"role": "client"}}]
    (rule,) = vllm(network_policy_ingress_from=peers)[0]["network_policy"]["ingress"]
    assert rule["from"] == [
        {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ml-models"}},
            "podSelector": {"matchLabels": {"role": "client"}},
        }
    ]


def test_the_judge_reaches_no_mlflow(judge: Any) -> None:
    (server,), _ = judge()
    assert len(server["network_policy"]["egress"]) == 2
    assert "init" not in server


def told(server: dict) -> dict:
    return {item["name"]: item["value"] for item in server["init"]["environment"]}


def test_the_loader_is_told_what_vllm_takes(vllm: Any) -> None:
    server, lines = vllm(adapter_base_models=["org/own"], max_lora_rank=64, adapters_size="1Gi", adapters_strict=True)
    assert not lines
    assert server["init"]["command"] == ["python3", "/etc/vllm/loader.py"]
    assert {"name": "startup", "mountPath": "/etc/vllm", "readOnly": True} in server["init"]["volume_mounts"]
    env = told(server)
    bases = ["TheBloke/Mistral-7B-v0.1-AWQ", "mistralai/Mistral-7B-v0.1", "org/own"]
    assert json.loads(env["ADAPTER_BASE_MODELS"]) == bases
    assert {name: env[name] for name in env if name.startswith(("ADAPTERS_", "ADAPTER_MAX"))} == {
        "ADAPTERS_PATH": "/mnt/adapters",
        "ADAPTER_MAX_RANK": "64",
        "ADAPTERS_REQUIRED": "false",
        "ADAPTERS_STRICT": "true",
        "ADAPTERS_SECONDS": "120",
        "ADAPTERS_RETRIES": "4",
        "ADAPTERS_SIZE": str(1 << 30),
    }


def test_another_model_has_no_base_of_mistral_and_that_is_told(vllm: Any) -> None:
    unknown = {"model": "org/unknown", "startup_seconds": 300}
    server, _ = vllm(**unknown)
    assert json.loads(told(server)["ADAPTER_BASE_MODELS"]) == ["org/unknown"]
    (notice,) = [line for line in server["notices"] if "vllm_adapter_base_models" in line]
    assert notice.startswith("vllm: only adapters trained on org/unknown itself are loaded, all others are refused")
    for quiet in (
        {},
        {**unknown, "adapter_base_models": ["org/unknown"]},
        {**unknown, "lora_enabled": False},
        {**unknown, "adapter_slots": {}},
        {**unknown, "adapter_loader": "image"},
    ):
        assert "trained on" not in str(vllm(**quiet)[0]["notices"]), quiet


# What is left of adapters in a server whose LoRA is off: nothing.
LORA = ("lora", "LORA", "mlflow", "MLFLOW", "adapters")


def test_one_switch_turns_adapters_off(vllm: Any, judge: Any) -> None:
    server, lines = vllm(lora_enabled=False)
    assert (lines, server["notices"]) == ([], [])
    assert "init" not in server
    made = {key: server[key] for key in ("arguments", "environment", "volumes", "volume_mounts", "network_policy")}
    assert not [word for word in LORA if word in json.dumps(made)]
    assert server["resources"]["requests"]["ephemeral-storage"] == "9Gi"
    assert "5000" not in json.dumps(server["network_policy"])
    # As the judge is by default, whose switch nobody has touched.
    assert "init" not in judge("judge")[0][0]


def test_the_switch_drops_the_inventorys_slots_with_a_word(vllm: Any, servers: Any, judge: Any) -> None:
    mine = {"adapter_slots": {"mine": "live"}}
    server, lines = vllm(lora_enabled=False, **mine)
    assert not lines
    assert "init" not in server
    assert server["notices"] == [
        "vllm: vllm_adapter_slots is not used: vllm_lora_enabled is false, so no adapter is loaded"
    ]
    (server,), lines = servers(["fast"], {"fast": {**mine, "lora_enabled": False}})
    assert not lines
    assert "init" not in server
    assert (
        "vllm_profiles.fast.adapter_slots is not used: vllm_profiles.fast.lora_enabled is false" in server["notices"][0]
    )
    # Of the built-in server alone, where others have slots of their own.
    both, lines = servers(["vllm", "fast"], {"vllm": {"lora_enabled": False}, "fast": mine})
    assert not lines
    assert ["init" in server for server in both] == [False, True]
    # Nobody turned the judge's off: it never was on.
    assert any("adapters need vllm_judge_lora_enabled" in line for line in judge(**mine)[1])


def test_without_slots_there_is_a_place_for_adapters_and_no_image_to_load_them(vllm: Any) -> None:
    server, lines = vllm(adapter_slots={})
    assert not lines
    assert "init" not in server
    assert {"name": "adapters", "mountPath": "/mnt/adapters"} in server["volume_mounts"]
    assert _env(server)["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert "--enable-lora" in server["arguments"]
    # Nobody copies one in, either.
    fixed = vllm(adapter_slots={}, runtime_lora_updating=False)[0]
    assert "adapters" not in json.dumps(fixed["volume_mounts"])


def test_an_api_key_is_a_reference(vllm: Any, servers: Any, judge: Any) -> None:
    secret = {"name": "vllm-key", "key": "api-key"}
    own = {"secretKeyRef": secret}
    server, lines = vllm(api_key_secret=secret)
    assert not lines
    assert _env(server)["VLLM_API_KEY"] == own
    assert "api" not in " ".join(server["arguments"])
    # Health needs none; below /v1 smoke must know that it is asked for.
    assert [(item["path"], item.get("key", False)) for item in server["questions"]] == [
        ("/health", False),
        ("/v1/models", True),
        ("/v1/completions", True),
    ]
    assert all("key" not in item for item in vllm()[0]["questions"])
    assert _env(judge(api_key_secret=secret)[0][0])["VLLM_API_KEY"] == own
    two, _ = servers(
        ["vllm", "fast"], {"fast": {"api_key_secret": {"name": "fast", "key": "k"}}}, api_key_secret=secret
    )
    assert [_env(server)["VLLM_API_KEY"]["secretKeyRef"]["name"] for server in two] == ["vllm-key", "fast"]
    assert any("vllm_api_key_secret.key is None: must be set" in line for line in vllm(api_key_secret={"name": "a"})[1])


@pytest.mark.parametrize(
    "given",
    [{"adapter_loader": "image"}, {"init_command": ["load"]}, {"init_args": ["-v"]}],
    ids=["image", "command", "args"],
)
def test_the_image_s_own_loader_is_given_what_it_always_was(vllm: Any, given: dict) -> None:
    server, lines = vllm(**given)
    assert not lines
    init = server["init"]
    assert (init["command"], init["args"]) == (given.get("init_command", []), given.get("init_args", []))
    assert [mount["name"] for mount in init["volume_mounts"]] == ["adapters", "tmp"]
    names = {"AWS_REGION", "HOME", "MLFLOW_TRACKING_URI", "ADAPTERS_PATH"}
    assert set(told(server)) == names | {"ADAPTER_MODEL", "ADAPTER_SLOTS", "ADAPTER_ARTIFACT"}


def test_parked_and_none(judge: Any) -> None:
    (parked,), _ = judge(parked=True)
    assert parked["replicas"] == 0
    assert judge("none") == ([], [])


def test_own_variant(judge: Any) -> None:
    own = {"small": {"model": "org/tiny", "startup_seconds": 120, "hardware_profile": "gpu-vllm"}}
    (server,), lines = judge("small", own)
    assert not lines
    assert server["arguments"][0] == "org/tiny"
    assert "nothing is known of org/tiny" in server["notices"][0]


def test_described_model_needs_no_notice(vllm: Any) -> None:
    facts = {
        "weight_bytes": 15e9,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "hidden_size": 4096,
    }
    server, lines = vllm(model="org/own", model_facts=facts, adapter_base_models=["org/own"], cache={"size": "16Gi"})
    assert (lines, server["notices"]) == ([], [])


def test_account_names_its_role(triton: Any, judge: Any, platform: dict) -> None:
    key = "eks.amazonaws.com/role-arn"
    regional = {"eks.amazonaws.com/sts-regional-endpoints": "true"}
    assert triton()[0][1]["account_annotations"] == {
        key: "arn:aws:iam::123456789012:role/my-triton-s3-read",
        **regional,
    }
    assert judge()[0][0]["account_annotations"] == {}
    whole = "arn:aws:iam::210987654321:role/team/other"
    assert triton(["cpu"], role_name=whole)[0][0]["account_annotations"] == {key: whole, **regional}
    platform["sts_regional_endpoints"] = False
    assert triton(["cpu"], role_name=whole)[0][0]["account_annotations"] == {key: whole}
    platform["irsa_enabled"] = False
    assert triton()[0][0]["account_annotations"] == {}


def test_pod_identity_leaves_no_annotation_and_keeps_the_role(triton: Any, platform: dict) -> None:
    platform["pod_identity"] = True
    server = triton()[0][0]
    assert server["account_annotations"] == {}
    assert server["role_arn"] == "arn:aws:iam::123456789012:role/my-triton-s3-read"


def test_pod_identity_opens_the_way_to_its_agent(vllm: Any, platform: dict) -> None:
    def agents(**given: Any) -> list[str]:
        egress = vllm(**given)[0]["network_policy"]["egress"]
        peers = [item for rule in egress for item in rule.get("to", [])]
        return [peer["ipBlock"]["cidr"] for peer in peers if "169.254.170.23" in str(peer)]

    assert agents() == []
    platform["pod_identity"] = True
    assert agents() == agents(network_policy_pod_identity=True) == ["169.254.170.23/32"]
    assert agents(network_policy_pod_identity=False) == []


def test_only_what_differs_from_the_program_is_written(triton: Any, vllm: Any) -> None:
    (server,), _ = triton(["cpu"], http_port=8010, exit_timeout_seconds=20, extra_args=["--log-verbose=1"])
    assert server["arguments"][-3:] == ["--http-port=8010", "--exit-timeout-secs=20", "--log-verbose=1"]
    assert vllm()[0]["arguments"] == [
        "TheBloke/Mistral-7B-v0.1-AWQ",
        "--max-model-len=4096",
        "--gpu-memory-utilization=0.88",
        "--enable-lora",
        "--max-loras=2",
        "--max-lora-rank=32",
    ]


# --- Refused ---------------------------------------------------------------------------------------


def _limits(**changes: Any) -> dict:
    return {
        "requests": {"cpu": 3, "memory": "12Gi", **changes.get("requests", {})},
        "limits": {"cpu": 4, "memory": "14Gi", GPU: 1, **changes.get("limits", {})},
    }


EVERY_SERVER = [
    ({"env": {"SOME_API_KEY": "hush"}}, "env.SOME_API_KEY is (hidden): must come from a Secret"),
    ({"extra_env": [{"name": "A_TOKEN", "value": "hush"}]}, "extra_env.0 is (hidden): must come from a Secret"),
    ({"name": "Upper"}, "name is 'Upper': must be a DNS label"),
    ({"service_name": "1st"}, "service_name is '1st': must be a DNS label"),
    ({"service_account_name": "a_b"}, "service_account_name is 'a_b': must be a DNS label"),
    ({"container_name": "-x"}, "container_name is '-x': must be a DNS label"),
    ({"image": "Not An Image"}, "image is 'Not An Image': must be an image reference"),
    ({"image": "registry.local/x"}, "image is 'registry.local/x': must have a tag or a digest"),
    ({"role_name": "bad role"}, "role_name is 'bad role'"),
    ({"role_name": "arn:aws:iam::1:role/x"}, "role_name is 'arn:aws:iam::1:role/x'"),
    ({"replicas": "two"}, "replicas is 'two': must be a whole number"),
    ({"replicas": -1}, "replicas is -1: must be a whole number from 0 to 2147483647"),
    ({"autoscaled": "maybe"}, "autoscaled is 'maybe': must be true or false"),
    ({"hardware_profile": "gpu-vlm"}, "hardware_profile is 'gpu-vlm': unknown, did you mean 'gpu-vllm'?"),
    ({"resources": _limits(requests={"cpu": 5})}, "resources.requests.cpu is 5: must not be above the limit, 4"),
    ({"resources": _limits(requests={"memory": "15Gi"})}, "resources.requests.memory is '15Gi': must not be above"),
    ({"resources": _limits(requests={"memory": "12gi"})}, "resources.requests.memory is '12gi': must be a Kubernetes"),
    ({"resources": _limits(requests={"cpu": -1})}, "resources.requests.cpu is -1: must not be negative"),
    ({"resources": _limits(requests={GPU: 2})}, f"resources.requests.{GPU} is 2: must equal the limit, 1"),
    ({"resources": _limits(requests={GPU: 1}, limits={GPU: None})}, "GPUs are asked for by a limit"),
    ({"resources": _limits(limits={GPU: 0.5})}, f"resources.limits.{GPU} is 0.5: must be a whole number of GPUs"),
    ({"resources": _limits(limits={"memory": None})}, "resources.limits.memory is None: must be set"),
    ({"resources": {**_limits(), "limit": {}}}, "resources.limit is {}: no such key, did you mean limits?"),
    ({"shm_size": "100Gi"}, "shm_size is '100Gi': is memory of the container and must be below"),
    ({"shm_size": "big"}, "shm_size is 'big': must be a Kubernetes quantity"),
    ({"http_port": 70000}, "http_port is 70000: must be a whole number from 1 to 65535"),
    ({"startup_seconds": 60, "startup_delay_seconds": 60}, "startup_seconds is 60: must be more than the delay"),
    ({"progress_deadline_seconds": 30}, "progress_deadline_seconds is 30: must be more than the start"),
    ({"termination_grace_seconds": 5}, "termination_grace_seconds is 5: must be above the seconds before"),
    ({"labels": {"bad key": "x"}}, "labels.bad key is 'x': the key must be a name of up to 63 letters"),
    ({"labels": {"a": "no spaces"}}, "labels.a is 'no spaces': must be up to 63 letters, digits, -, _ and ."),
    ({"annotations": {"a": {}}}, "annotations.a is {}: must be a text"),
    ({"pod_labels": {"app": "other"}}, "pod_labels.app is 'other': is the selector"),
    ({"env": {"A": {"b": 1}}}, "env.A is {'b': 1}: must be text"),
    ({"extra_env": [{"value": "x"}]}, "extra_env.0 is (hidden): must have a name"),
    ({"extra_volumes": [{"name": "tmp"}]}, "extra_volumes.0.name is 'tmp': must be a name of its own"),
    ({"extra_volume_mounts": [{"name": "tpm"}]}, "extra_volume_mounts.0.name is 'tpm': unknown, did you mean 'tmp'?"),
    ({"patch": ["x"]}, "patch is ['x']: must be a dictionary"),
    ({"monitoring_interval": "30"}, "monitoring_interval is '30': must be a time such as 30s"),
    ({"pdb_max_unavailable": "half"}, "pdb_max_unavailable is 'half': must be a number of pods or a percentage"),
    ({"tolerations": "none"}, "tolerations is 'none': must be a list"),
]
# Each would be taken for something else by vLLM's NAME=PATH, by the shell or by the file system.
BAD_SLOTS = [
    "a=b",
    "a,b",
    "a b",
    "a\nb",
    "a\n",
    "-a",
    "--port",
    "/a",
    "a/b",
    ".",
    "..",
    ".a",
    "_a",
    "",
    "a*",
    "$a",
    "é",
    "a'b",
]
METADATA = "is the address of the instance's metadata, which pods must not reach"
NETWORK = "must be a network such as 10.0.0.0/8 or 2001:db8::/32"
BAD_CIDRS = [
    ("169.254.169.254/32", METADATA),
    ("169.254.169.254", METADATA),
    ("fd00:ec2::254/128", METADATA),
    ("fd00:0ec2:0::254/128", METADATA),
    ("169.254.169.254/16", NETWORK),
    ("10.0.0.1/8", NETWORK),
    ("10.0.0.0/33", NETWORK),
    ("::ffff:169.254.169.254/128", NETWORK),
    ("::ffff:0:0/96", NETWORK),
    ("s3.amazonaws.com", NETWORK),
    ("", NETWORK),
]
VLLM = [
    ({"tensor_parallel_size": 2}, "tensor_parallel_size is 2: must equal the number of GPUs, 1"),
    ({"tensor_parallel_size": 2}, "shm_size is '1Gi': must be 2Gi or more where 2 GPUs"),
    ({"gpu_memory_utilization": 1.2}, "gpu_memory_utilization is 1.2: must be a number from 0 to 1"),
    ({"gpu_memory_utilization": 0.2}, "TheBloke/Mistral-7B-v0.1-AWQ does not fit"),
    ({"max_model_len": 0}, "max_model_len is 0: must be a number of tokens from 1 to 2147483647"),
    ({"max_lora_rank": 33}, "max_lora_rank is 33: must be one of 1, 8, 16, 32, 64, 128, 256, 320, 512"),
    ({"model": "has space"}, "model is 'has space': must be a Hugging Face repository"),
    ({"model": "org/unknown"}, "startup_seconds is None: the model is not known"),
    (
        {"model_facts": {"hidden_size": 1}},
        "can't compute sizes from it: num_hidden_layers, num_attention_heads, vocab_size missing",
    ),
    ({"startup_seconds": 20}, "startup_seconds is 20: the 3.9 GiB of weights alone take 40 s at 100 MiB/s"),
    ({"metrics_port": 8000}, "metrics_port is 8000: the ports must differ"),
    ({"extra_args": {"max_model_len": 1}}, "extra_args.max_model_len is 1: --max-model-len has a variable of its own"),
    ({"extra_args": {"lora-modules": "x"}}, "--lora-modules has a variable of its own"),
    ({"adapter_slots": {"../up": "live"}}, "adapter_slots.../up is '../up': must be a folder's name"),
    *(({"adapter_slots": {name: "live"}}, f"is {name!r}: must be a folder's name") for name in BAD_SLOTS),
    ({"adapter_slots": {"a": ""}}, "adapter_slots.a is '': must be an alias"),
    ({"adapters_path": "mnt"}, "adapters_path is 'mnt': must be an absolute path"),
    ({"cache_path": "/a b"}, "cache_path is '/a b': must be an absolute path"),
    ({"mlflow_tracking_uri": "mlflow"}, "mlflow_tracking_uri is 'mlflow': must be a URL"),
    ({"adapter_loader": "builtins"}, "adapter_loader is 'builtins': must be builtin or image"),
    (
        {"adapter_loader": "builtin", "init_command": ["load"]},
        "init_command is ['load']: is not run by the builtin loader: set vllm_adapter_loader to image",
    ),
    ({"adapter_loader": "builtin", "init_args": ["-v"]}, "init_args is ['-v']: is not run by the builtin loader"),
    ({"adapter_artifact": "a/../b"}, "adapter_artifact is 'a/../b': must be a relative folder"),
    ({"adapter_artifact": "/adapter"}, "adapter_artifact is '/adapter': must be a relative folder"),
    ({"adapter_base_models": "one"}, "adapter_base_models is 'one': must be a list"),
    ({"adapters_required": "maybe"}, "adapters_required is 'maybe': must be true or false"),
    ({"adapters_strict": "maybe"}, "adapters_strict is 'maybe': must be true or false"),
    ({"adapters_seconds": 0}, "adapters_seconds is 0: must be a whole number from 1 to 604800"),
    ({"adapters_retries": -1}, "adapters_retries is -1: must be a whole number from 0 to 1000"),
    ({"adapters_size": "big"}, "adapters_size is 'big': must be a Kubernetes quantity"),
    ({"min_ready_seconds": -1}, "min_ready_seconds is -1: must be a whole number from 0 to 2147483647"),
    (
        {"min_ready_seconds": 400, "progress_deadline_seconds": 400},
        "min_ready_seconds is 400: must be below the seconds in which a pod must be ready, 400",
    ),
    ({"init_image_tag": ""}, "vllm-deployment-tools': must have a tag or a digest"),
    (
        {"init_resources": {"requests": {"cpu": 3}, "limits": {"cpu": 2}}},
        "init_resources.requests.cpu is 3: must not be above the limit, 2",
    ),
    ({"cache": {"type": "pvc", "size": "1Gi"}}, "cache.type is 'pvc': must be one of empty_dir, claim"),
    ({"cache": {"sise": "1Gi"}}, "cache.sise is '1Gi': no such key, did you mean size?"),
    ({"cache": {"size": "big"}}, "cache.size is 'big': must be a Kubernetes quantity"),
    ({"cache": {"size": "1Gi", "access_mode": "RWO"}}, "cache.access_mode is 'RWO': must be one of"),
    ({"cache": {"type": "claim", "size": "9Gi"}, "replicas": 2}, "has room for 1 of its pods, and there are 2"),
    ({"cache": {"type": "claim", "size": "9Gi"}, "autoscaled": True}, "as many as an autoscaler wants"),
    (
        {"cache": {"type": "claim", "size": "9Gi"}, "strategy": {"type": "RollingUpdate"}},
        "a surge can't mount the ReadWriteOnce claim",
    ),
    ({"hf_token_secret": {"name": "hf"}}, "hf_token_secret.key is None: must be set"),
    (
        {"extra_args": {"api_key": "hush"}},
        "extra_args.api_key is (hidden): would be in the rendered files: name its Secret in vllm_api_key_secret",
    ),
    (
        {"extra_args": {"hf-token": "hush"}},
        "extra_args.hf-token is (hidden): would be in the rendered files: name its Secret in vllm_hf_token_secret",
    ),
    (
        {"mlflow_tracking_uri": "http://me:hush@mlflow"},
        "mlflow_tracking_uri is 'http://(hidden)@mlflow': must be a URL",
    ),
    (
        {"init_env": {"MLFLOW_TRACKING_PASSWORD": "hush"}},
        "init_env.MLFLOW_TRACKING_PASSWORD is (hidden): must come from a Secret",
    ),
    *(({"network_policy_https_cidrs": ["10.0.0.0/8", cidr]}, f"cidrs.1 is {cidr!r}: {why}") for cidr, why in BAD_CIDRS),
]
TRITON = [
    ({"models": ["*", "a"]}, "models is ['*', 'a']: * must stand alone"),
    ({"models": ["a", "a"]}, "models is ['a', 'a']: names a model twice"),
    ({"models": ["a/b"]}, "models.0 is 'a/b': must be a model's name"),
    ({"models": "a"}, "models is 'a': must be a list"),
    ({"model_repository": "models"}, "model_repository is 'models': must be a path or a bucket's URL"),
    ({"model_control_mode": "explict"}, "model_control_mode is 'explict': must be one of explicit, poll, none"),
    ({"models_gib": "much"}, "models_gib is 'much': must be a number"),
    ({"metrics_port": 8000}, "metrics_port is 8000: the ports must differ"),
    ({"exit_timeout_seconds": 55}, "termination_grace_seconds is 60: must be above drain_seconds and exit_timeout"),
]


@pytest.mark.parametrize(("given", "told"), EVERY_SERVER + VLLM)
def test_vllm_refuses(vllm: Any, given: dict, told: str) -> None:
    _server, lines = vllm(**given)
    assert any(told in line for line in lines), lines
    assert all(line.startswith("vllm_") for line in lines)
    assert "hush" not in str(lines)


def test_credentials_come_from_secrets_and_switches_are_none(vllm: Any) -> None:
    reference = {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "vllm", "key": "api-key"}}}
    plain = {"HF_HUB_DISABLE_IMPLICIT_TOKEN": "1", "HF_TOKEN_PATH": "/run/token"}
    server, lines = vllm(extra_env=[reference], env=plain, extra_args={"hf-token": True})
    assert not lines
    assert _env(server).items() >= {"VLLM_API_KEY": reference["valueFrom"], **plain}.items()
    assert [item.get("key") for item in server["questions"]] == [None, True, True]


@pytest.mark.parametrize(("given", "told"), [row for row in EVERY_SERVER if "hardware_profile" not in row[0]] + TRITON)
def test_triton_refuses_in_a_profile(triton: Any, given: dict, told: str) -> None:
    _servers, lines = triton(["own"], {"own": {"hardware_profile": "gpu", **given}})
    assert any(told in line for line in lines), lines
    assert all(line.startswith(("triton_profiles.own.", "triton_")) for line in lines)


def test_the_variable_at_fault_is_named(triton: Any) -> None:
    assert triton(["cpu"], {"cpu": {"replicas": "x"}})[1][0].startswith("triton_profiles.cpu.replicas is 'x'")
    assert triton(["cpu"], http_port="x")[1][0].startswith("triton_http_port is 'x'")


@pytest.mark.parametrize("twin", [{"name": "triton-inference"}, {"replicas": 1}], ids=["given", "inherited"])
def test_two_profiles_with_one_name(triton: Any, twin: dict) -> None:
    told = "triton_profiles.twin.name is 'triton-inference': is the name that triton_profiles.cpu.name gives"
    assert triton(["cpu", "twin", "gpu"], {"twin": twin})[1] == [f"{told} to another server's Deployment"]


def test_unknown_profile(triton: Any) -> None:
    lines = triton(["cpu", "gup"])[1]
    assert lines == ["triton_enabled_profiles[1] is 'gup': unknown, did you mean 'gpu'? Known: cpu, gpu"]


def test_a_profile_listed_twice(triton: Any) -> None:
    assert triton(["cpu", "cpu"])[1] == ["triton_enabled_profiles[1] is 'cpu': is listed twice"]


def test_misspelt_key_of_a_profile_that_is_off(triton: Any) -> None:
    lines = triton(["cpu"], {"later": {"repilcas": 1}, "gpu": 5})[1]
    assert "triton_profiles.later.repilcas is 1: no such key, did you mean replicas?" in lines[0]
    assert "triton_profiles.gpu is 5: must be a dictionary" in lines[1]


def test_triton_gpu_needs_eight_cpus(triton: Any, platform: dict) -> None:
    platform["hardware_profiles"]["gpu"]["allocatable"] = {"cpu": "3920m", "memory": "14481Mi"}
    servers, lines = triton(["gpu"])
    assert lines == []
    assert servers[0]["misfits"] == [
        "triton_profiles.gpu.resources.requests.cpu is 4: a node of hardware profile 'gpu' has 3920m to give "
        "(this is the default: set it in the inventory)"
    ]


def test_what_the_inventory_sets_is_pointed_to_and_a_default_called_one(triton: Any, vllm: Any, platform: dict) -> None:
    room = {"cpu": Origin(path="/inventory/nodes.yml", line_num=7).tag("3920m"), "memory": "14481Mi"}
    platform["hardware_profiles"]["gpu"]["allocatable"] = room
    (misfit,) = triton(["gpu"])[0][0]["misfits"]
    assert "has 3920m to give (set at /inventory/nodes.yml:7) (this is the default" in misfit
    two = {"requests": {"cpu": 3, "memory": "12Gi"}, "limits": {"memory": "14Gi", GPU: 2}}
    wrong = "vllm_tensor_parallel_size is {}: must equal the number of GPUs, 2 (vllm_resources.limits.nvidia.com/gpu){}"
    default = " (this is the default: set it in the inventory)"
    assert wrong.format(1, default) in vllm(resources=two)[1]
    assert wrong.format(4, "") in vllm(resources=two, tensor_parallel_size=4, shm_size="2Gi")[1]


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (
            {"requests": {"memory": "14Gi"}},
            "vllm_resources.requests.memory is '14Gi': a node of hardware profile 'gpu-vllm' has 14162Mi to give",
        ),
        (
            {"limits": {GPU: 2}},
            "vllm_resources.limits.nvidia.com/gpu is 2: a node of hardware profile 'gpu-vllm' has 1 to give",
        ),
    ],
)
def test_what_the_table_is_too_small_for(vllm: Any, resources: dict, told: str) -> None:
    assert vllm(resources=_limits(**resources))[0]["misfits"] == [told]


def test_unknown_variant(judge: Any) -> None:
    assert "vllm_judge_variant is 'jugde': unknown, did you mean 'judge'?" in judge("jugde")[1][0]


@pytest.mark.parametrize("flag", ["enforce-eager", "enforce_eager", "--enforce-eager", "enforce"])
def test_the_judge_is_never_eager(judge: Any, vllm: Any, flag: str) -> None:
    assert "CUDA graphs are worth their memory" in judge(extra_args={flag: True})[1][0]
    assert judge(extra_args={flag: False})[1] == []
    assert vllm(extra_args={flag: None})[1] == []


@pytest.mark.parametrize(
    ("key", "name", "kind"),
    [
        ("name", "vllm", "Deployment"),
        ("service_name", "vllm-service", "Service"),
        ("service_account_name", "vllm-sa", "ServiceAccount"),
        ("startup_configmap_name", "vllm-startup", "ConfigMap"),
    ],
)
def test_the_judge_takes_no_name_of_vllm(judge: Any, key: str, name: str, kind: str) -> None:
    told = f"is {name!r}: is the name that vllm_{key} gives to another server's {kind}"
    assert judge(**{key: name})[1] == [f"vllm_judge_{key} {told}"]
    assert judge(variants={"judge": {key: name}})[1] == [f"vllm_judge_variants.judge.{key} {told}"]


def test_a_server_takes_no_name_of_another_kind(triton: Any) -> None:
    taken = "is the name that triton_profiles.cpu.service_name gives to another server's Service"
    assert triton(["cpu"], {"cpu": {"service_name": "vllm-service"}})[1] == [
        f"vllm_service_name is 'vllm-service': {taken}"
    ]


def test_what_is_off_takes_no_name(triton: Any, judge: Any) -> None:
    assert triton(["cpu"], {"gpu": {"name": "triton-inference"}})[1] == []
    assert judge("none", {"judge": {"name": "vllm"}})[1] == []


def test_all_problems_are_told_at_once(triton: Any) -> None:
    assert (
        len(triton(["cpu", "gpu"], {"cpu": {"monitoring_interval": "x"}, "gpu": {"image": "y", "grpc_port": 8000}})[1])
        == 3
    )
    assert len(triton(["cpu"], {"cpu": {"replicas": "x"}, "gpu": {"image": 5.5, "http_port": 0}})[1]) == 3


def test_account_is_needed_for_a_role(vllm: Any, platform: dict) -> None:
    platform["aws_account_id"] = ""
    assert "platform_aws_account_id is '': must be 12 digits" in "\n".join(vllm()[1])


def test_the_base_is_the_cpu_profiles_own(triton: Any) -> None:
    servers, lines = triton(["cpu", "gpu"], replicas=5)
    assert lines == []
    assert {server["name"]: server["replicas"] for server in servers} == {
        "triton-inference": 5,
        "triton-inference-gpu": 1,
    }


def test_triton_that_loads_all_asks_only_for_models_that_the_inventory_names(triton: Any) -> None:
    ready = {"path": "/v2/health/ready"}
    for mode in ("poll", "none"):
        (server,), lines = triton(["cpu"], model_control_mode=mode)
        assert lines == []
        assert server["questions"] == [ready]
        assert server["deployment_annotations"]["modelyard/model"] == "*"
        assert not [word for word in server["arguments"] if word.startswith("--load-model")]
        (server,), lines = triton(["cpu"], {"cpu": {"models": ["a"]}}, model_control_mode=mode)
        assert lines == []
        assert server["questions"] == [ready, {"path": "/v2/models/a", "expect": "a"}]
        assert server["deployment_annotations"]["modelyard/model"] == "a"
