"""Every role, profile and variant, rendered by Ansible: valid for each Kubernetes version, and as the contract demands."""

import hashlib
import json
import re
from pathlib import Path

import kubernetes_validate
import promql_parser
import pytest

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ["1.33", "1.34", "1.35", "1.36", "1.37"]
GPU = "nvidia.com/gpu"
GPU_TAINT = [{"key": GPU, "operator": "Exists", "effect": "NoSchedule"}]

# Each case is one host of an inventory, so that one run renders them all.
CASES = {
    "contract": {"vllm_judge_variant": "judge"},
    "large": {"vllm_judge_variant": "judge-large", "triton_enabled_profiles": ["gpu"]},
    "bare": {"vllm_judge_variant": "none", "triton_enabled_profiles": [], "vllm_enabled": False},
    "parked": {"vllm_judge_variant": "judge", "vllm_judge_parked": True, "triton_enabled_profiles": ["cpu"]},
    "own": {
        "triton_enabled_profiles": ["cpu", "base", "arm"],
        "triton_profiles": {
            "base": {"name": "triton-base"},
            "arm": {"name": "triton-arm", "hardware_profile": "arm", "replicas": 5, "autoscaled": True},
        },
        "platform_hardware_profiles": {
            "arm": {
                "instance_type": "m7g.2xlarge",
                "labels": {"kubernetes.io/arch": "arm64"},
                "gpus": 0,
                "allocatable": {"cpu": 8, "memory": "30Gi"},
            }
        },
        "vllm_judge_variant": "tiny",
        "vllm_judge_variants": {
            "tiny": {"model": "org/tiny-model", "startup_seconds": 120, "hardware_profile": "gpu-vllm"}
        },
    },
    "image-loader": {"vllm_adapter_loader": "image"},
    "everything": {
        "platform_proxy": {"https_proxy": "http://proxy.local:3128", "no_proxy": "10.0.0.0/8"},
        "platform_ca_bundle_configmap": "corporate-ca",
        "platform_hf_endpoint": "https://hf.local",
        "platform_hf_token_secret": {"name": "hf", "key": "token"},
        "platform_image_registry_mirrors": {"nvcr.io": "mirror.local/nv", "docker.io": "mirror.local/hub"},
        "platform_image_pull_secrets": ["pull"],
        "platform_monitoring_labels": {"release": "kube-prometheus-stack"},
        "platform_do_not_disrupt": True,
        "platform_extra_labels": {"team": "ml"},
        "platform_extra_annotations": {"contact": "ml@example.com"},
        "vllm_judge_variant": "judge",
        "vllm_judge_cache": {"type": "claim", "size": "20Gi", "storage_class": "gp3"},
        "vllm_network_policy_pod_identity": True,
        "vllm_model_revision": "abc",
        "vllm_extra_args": {"max-num-seqs": 16, "compilation-config": {"level": 3}, "async-scheduling": None},
        "vllm_adapter_slots": {"one": "live"},
        "vllm_init_command": ["python3", "-m", "loader"],
        "triton_priority_class_name": "high",
        "triton_labels": {"tier": "serving"},
        "triton_annotations": {"note": 'says "yes": {{no}} # really'},
        "triton_pod_labels": {"mesh": "on"},
        "triton_pod_annotations": {"sidecar.istio.io/inject": "false"},
        "triton_env": {"DEBUG": "1", "AWS_REGION": "eu-west-1"},
        "triton_extra_env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "triton_extra_args": ["--log-verbose=1", "--backend-config=python,stub = $(A) 'b'"],
        "triton_extra_volumes": [{"name": "scratch", "emptyDir": {}}],
        "triton_extra_volume_mounts": [{"name": "scratch", "mountPath": "/scratch"}],
        "triton_patch": {
            "spec": {
                "minReadySeconds": 7,
                "revisionHistoryLimit": None,
                "template": {
                    "spec": {"containers": [{"name": "triton", "stdin": True}, {"name": "side", "image": "a:1"}]}
                },
            }
        },
    },
}


@pytest.fixture(scope="module")
def rendered(render) -> dict[str, dict]:
    return render(CASES)


@pytest.fixture
def find(rendered):
    """Find an object: find(case, kind, name); None where there is none."""

    def find_(case: str, kind: str, name: str) -> dict | None:
        found = [
            item for item in rendered[case]["objects"] if item["kind"] == kind and item["metadata"]["name"] == name
        ]
        assert len(found) < 2, f"{kind} {name} is there twice"
        return found[0] if found else None

    return find_


def container(deployment: dict) -> dict:
    return deployment["spec"]["template"]["spec"]["containers"][0]


def environment(container_: dict) -> dict:
    return {item["name"]: item.get("value") for item in container_["env"]}


# --- Schemas ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(rendered, version: str) -> None:
    for case, result in rendered.items():
        for item in result["objects"]:
            if item["apiVersion"].split("/")[0].endswith(("coreos.com", "argoproj.io")):
                continue
            try:
                kubernetes_validate.validate(item, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{case}: {item['kind']} {item['metadata']['name']} in {version}: {error.message}")


def test_custom_resources_are_valid(rendered, custom_resources) -> None:
    seen = set()
    for result in rendered.values():
        for item in result["objects"]:
            if schema := custom_resources.get((item["apiVersion"], item["kind"])):
                schema.validate(item)
                seen.add(item["kind"])
    assert seen == {"ServiceMonitor", "PrometheusRule", "Application"}


# --- The contract ----------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/"
# name: case, cpu request and limit, memory request and limit, GPUs, replicas, node selector, tolerations
WORKLOADS = {
    "triton-inference": ("contract", "2", "4", "4Gi", "8Gi", None, 2, "cpu-compute"),
    "triton-inference-gpu": ("contract", "4", "8", "8Gi", "16Gi", "1", 1, "gpu"),
    "vllm": ("contract", "3", "4", "12Gi", "14Gi", "1", 1, "gpu-vllm"),
    "judge-vllm": ("contract", "3", "4", "12Gi", "14Gi", "1", 1, "gpu-vllm"),
    "judge-vllm/large": ("large", "12", "16", "80Gi", "100Gi", "4", 1, "gpu-vllm-large"),
}


@pytest.mark.parametrize("key", WORKLOADS)
def test_workloads(find, key: str) -> None:
    case, cpu, cpu_limit, memory, memory_limit, gpus, replicas, place = WORKLOADS[key]
    name = key.split("/")[0]
    deployment = find(case, "Deployment", name)
    pod = deployment["spec"]["template"]["spec"]
    resources = container(deployment)["resources"]
    assert deployment["metadata"]["namespace"] == "ml-models"
    assert deployment["metadata"]["labels"]["app"] == name
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": name}}
    assert deployment["spec"]["template"]["metadata"]["labels"] == {"app": name}
    assert deployment["spec"]["replicas"] == replicas
    assert (resources["requests"]["cpu"], resources["limits"]["cpu"]) == (cpu, cpu_limit)
    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == (memory, memory_limit)
    assert resources["limits"].get(GPU) == gpus
    assert pod["nodeSelector"] == {"workload": place}
    cpu_taint = [{"key": "workload", "operator": "Equal", "value": "cpu-compute", "effect": "NoSchedule"}]
    assert pod["tolerations"] == (GPU_TAINT if gpus else cpu_taint)


SERVICES = {
    "triton-inference": ("triton-inference", [("http", 8000), ("grpc", 8001), ("metrics", 8002)]),
    "triton-inference-gpu": ("triton-inference-gpu", [("http", 8000), ("grpc", 8001), ("metrics", 8002)]),
    "vllm-service": ("vllm", [("http", 8000), ("metrics", 9090)]),
    "judge-vllm-service": ("judge-vllm", [("http", 8000), ("metrics", 9090)]),
}


@pytest.mark.parametrize("name", SERVICES)
def test_services_and_monitors(find, name: str) -> None:
    app, ports = SERVICES[name]
    service = find("contract", "Service", name)
    assert service["spec"]["type"] == "ClusterIP"
    assert service["spec"]["selector"] == {"app": app}
    assert [(port["name"], port["port"]) for port in service["spec"]["ports"]] == ports
    targets = {port["name"]: port["containerPort"] for port in container(find("contract", "Deployment", app))["ports"]}
    metrics = service["spec"]["ports"][-1]
    assert targets[metrics["targetPort"]] == (8002 if "triton" in name else 8000)
    monitor = find("contract", "ServiceMonitor", app)
    assert "jobLabel" not in monitor["spec"]
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "30s"}]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()


# From vllm/v1/metrics/loggers.py, and the HTTP metrics of prometheus-fastapi-instrumentator.
METRICS = {
    "up",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:num_preemptions_total",
    "vllm:request_success_total",
    "http_requests_total",
}


def selectors(expression) -> list:
    """The vector selectors in a parsed PromQL expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        return [expression]
    parts = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    return [found for part in [*parts, *getattr(expression, "args", [])] if part for found in selectors(part)]


@pytest.mark.parametrize(("name", "job"), [("vllm", "vllm-service"), ("judge-vllm", "judge-vllm-service")])
def test_alerts_ask_for_metrics_that_exist(find, name: str, job: str) -> None:
    rules = find("contract", "PrometheusRule", name)["spec"]["groups"][0]["rules"]
    assert len(rules) >= 6
    for rule in rules:
        asked = selectors(promql_parser.parse(rule["expr"]))
        assert asked, rule
        assert {selector.name for selector in asked} <= METRICS
        assert all(("job", job) in {(m.name, m.value) for m in selector.matchers.matchers} for selector in asked)


ACCOUNTS = {
    "triton-inference": "my-triton-s3-read",
    "triton-inference-gpu": "my-triton-s3-read",
    "vllm": "my-vllm-s3-read",
    "judge-vllm": None,
}


@pytest.mark.parametrize("name", ACCOUNTS)
def test_accounts(find, name: str) -> None:
    pod = find("contract", "Deployment", name)["spec"]["template"]["spec"]
    expected = {"vllm": "vllm-sa", "judge-vllm": "judge-vllm-sa"}.get(name, name)
    assert pod["serviceAccountName"] == expected
    account = find("contract", "ServiceAccount", expected)
    role = account["metadata"].get("annotations", {}).get("eks.amazonaws.com/role-arn")
    assert role == (ROLE + ACCOUNTS[name] if ACCOUNTS[name] else None)


def test_triton(find) -> None:
    for name in ("triton-inference", "triton-inference-gpu"):
        server = container(find("contract", "Deployment", name))
        assert server["name"] == "triton"
        assert server["image"] == "nvcr.io/nvidia/tritonserver:25.11-py3"
        assert server["args"] == [
            "tritonserver",
            "--model-repository=s3://my-triton-models",
            "--model-control-mode=explicit",
            "--load-model=resnet18_imagenette",
        ]
        assert environment(server)["AWS_REGION"] == "eu-central-1"
        assert server["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}
        assert server["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
        (rule,) = find("contract", "NetworkPolicy", name)["spec"]["ingress"]
        assert rule["from"] == [{"namespaceSelector": {}}]


def test_vllm(find, vllm_image) -> None:
    deployment = find("contract", "Deployment", "vllm")
    server = container(deployment)
    (loader,) = deployment["spec"]["template"]["spec"]["initContainers"]
    assert server["name"] == "vllm"
    assert server["image"] == vllm_image
    assert server["args"][0] == "TheBloke/Mistral-7B-v0.1-AWQ"
    assert set(server["args"][1:]) == {
        "--max-model-len=4096",
        "--gpu-memory-utilization=0.88",
        "--enable-lora",
        "--max-loras=2",
        "--max-lora-rank=32",
    }
    env = environment(server)
    assert env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "True"
    assert env["HF_HOME"]
    assert loader["name"] == "load-adapters"
    assert loader["image"].startswith("123456789012.dkr.ecr.eu-central-1.amazonaws.com/vllm-deployment-tools:")
    told = environment(loader)
    assert told["MLFLOW_TRACKING_URI"] == "http://mlflow.ai-platform:80"
    assert told["ADAPTER_MODEL"] == "mistral-7b-lora"
    assert loader["command"] == ["python3", "/etc/vllm/load_adapters.py"]
    assert json.loads(told["ADAPTER_SLOTS"]) == {"aws-rag-qa-live": "live", "aws-rag-qa-candidate": "staged"}
    for each in (server, loader):
        (mount,) = [mount for mount in each["volumeMounts"] if mount["mountPath"] == "/mnt/adapters"]
        assert not mount.get("readOnly")
        assert "runAsUser" not in each["securityContext"]


JUDGES = {
    "contract": ("TheBloke/Mistral-7B-Instruct-v0.2-AWQ", None, 0.88, 30, 0),
    "large": ("hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4", 4, 0.80, 90, 60),
}


@pytest.mark.parametrize("case", JUDGES)
def test_judges(find, case: str) -> None:
    model, parallel, utilization, probes, delay = JUDGES[case]
    server = container(find(case, "Deployment", "judge-vllm"))
    assert server["name"] == "judge-vllm"
    assert server["args"][0] == model
    assert ("--tensor-parallel-size=4" in server["args"]) == (parallel == 4)
    assert {f"--gpu-memory-utilization={utilization}", "--max-model-len=4096"} <= set(server["args"])
    assert not [word for word in server["args"] if "eager" in word]
    probe = server["startupProbe"]
    assert (probe["failureThreshold"], probe["periodSeconds"]) == (probes, 10)
    assert probe.get("initialDelaySeconds", 0) == delay


def test_nothing_of_vllm_changes_with_the_judge(rendered) -> None:
    cases = [json.loads(json.dumps(rendered[case])) for case in ("contract", "large", "parked")]
    texts = set()
    for case in cases:
        mine = [i for i in case["objects"] if i["metadata"]["labels"]["modelyard/component"] == "vllm"]
        for item in mine:
            item["metadata"]["labels"].pop("modelyard/cluster")
        texts.add(json.dumps(mine, sort_keys=True))
    assert len(texts) == 1


def test_parked_judge(find) -> None:
    assert find("parked", "Deployment", "judge-vllm")["spec"]["replicas"] == 0
    assert find("parked", "Service", "judge-vllm-service")
    assert find("parked", "Deployment", "vllm")["spec"]["replicas"] == 1


def test_components_without_objects_are_registered(rendered) -> None:
    assert {"triton", "vllm", "vllm-judge"} <= set(rendered["bare"]["components"])
    assert {item["metadata"]["labels"]["modelyard/component"] for item in rendered["bare"]["objects"]} <= {
        "irsa",
        "argocd-apps",
    }


# --- Field notes -----------------------------------------------------------------------------------

EVERY = [
    ("contract", "triton-inference"),
    ("contract", "triton-inference-gpu"),
    ("contract", "vllm"),
    ("contract", "judge-vllm"),
    ("large", "judge-vllm"),
    ("own", "triton-base"),
    ("everything", "triton-inference"),
]


@pytest.mark.parametrize(("case", "name"), EVERY)
def test_every_pod_is_hardened(find, case: str, name: str) -> None:
    deployment = find(case, "Deployment", name)
    pod = deployment["spec"]["template"]["spec"]
    server = container(deployment)
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert {pod["securityContext"][key] for key in ("runAsUser", "runAsGroup", "fsGroup")} == {10001}
    for each in [server, *pod.get("initContainers", [])]:
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
    for probe in ("livenessProbe", "readinessProbe"):
        assert "initialDelaySeconds" not in server[probe]
    start = server["startupProbe"]
    allowance = start.get("initialDelaySeconds", 0) + start["periodSeconds"] * start["failureThreshold"]
    assert deployment["spec"]["progressDeadlineSeconds"] >= allowance + 600 + 600
    mounts = {mount["mountPath"]: mount["name"] for mount in server["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert volumes[mounts["/dev/shm"]]["emptyDir"]["sizeLimit"]
    assert "/tmp" in mounts
    assert deployment["spec"]["template"]["metadata"]["annotations"]
    assert "ephemeral-storage" in server["resources"]["requests"]
    assert server["lifecycle"]["preStop"]
    assert pod["terminationGracePeriodSeconds"] > 30


def test_shared_memory_of_four_gpus(find) -> None:
    pod = find("large", "Deployment", "judge-vllm")["spec"]["template"]["spec"]
    (shm,) = [volume for volume in pod["volumes"] if volume["name"] == "shm"]
    assert int(shm["emptyDir"]["sizeLimit"].removesuffix("Gi")) >= 2


def test_disruption_budget_where_there_is_more_than_one(find) -> None:
    budget = find("contract", "PodDisruptionBudget", "triton-inference")
    assert budget["spec"]["selector"] == {"matchLabels": {"app": "triton-inference"}}
    assert find("contract", "PodDisruptionBudget", "triton-inference-gpu") is None
    assert find("own", "PodDisruptionBudget", "triton-arm")


def test_own_profiles(find) -> None:
    base = find("own", "Deployment", "triton-base")["spec"]
    assert base["replicas"] == 2
    assert "nodeSelector" not in base["template"]["spec"]
    assert "tolerations" not in base["template"]["spec"]
    arm = find("own", "Deployment", "triton-arm")["spec"]
    assert "replicas" not in arm
    assert arm["template"]["spec"]["nodeSelector"] == {"kubernetes.io/arch": "arm64"}
    assert container(find("own", "Deployment", "judge-vllm"))["args"][0] == "org/tiny-model"


def test_everything_of_a_users(find) -> None:
    deployment = find("everything", "Deployment", "triton-inference")
    template = deployment["spec"]["template"]
    server, side = template["spec"]["containers"]
    assert deployment["metadata"]["labels"]["tier"] == "serving"
    assert deployment["metadata"]["labels"]["team"] == "ml"
    assert deployment["metadata"]["annotations"]["note"] == 'says "yes": {{no}} # really'
    assert deployment["metadata"]["annotations"]["contact"] == "ml@example.com"
    assert template["metadata"]["labels"] == {"app": "triton-inference", "mesh": "on"}
    assert template["metadata"]["annotations"]["sidecar.istio.io/inject"] == "false"
    assert template["metadata"]["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert deployment["spec"]["selector"] == {"matchLabels": {"app": "triton-inference"}}
    assert environment(server)["AWS_REGION"] == "eu-west-1"
    assert environment(server)["HTTPS_PROXY"] == "http://proxy.local:3128"
    assert next(item for item in server["env"] if item["name"] == "NODE")["valueFrom"]
    assert server["args"][-2:] == ["--log-verbose=1", "--backend-config=python,stub = $(A) 'b'"]
    assert {"name": "scratch", "mountPath": "/scratch"} in server["volumeMounts"]
    assert server["image"] == "mirror.local/nv/nvidia/tritonserver:25.11-py3"
    assert server["stdin"] is True
    assert side["name"] == "side"
    assert deployment["spec"]["minReadySeconds"] == 7
    assert "revisionHistoryLimit" not in deployment["spec"]
    assert template["spec"]["imagePullSecrets"] == [{"name": "pull"}]
    assert template["spec"]["priorityClassName"] == "high"
    assert find("everything", "ServiceMonitor", "vllm")["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_everything_of_vllm(find, vllm_image) -> None:
    deployment = find("everything", "Deployment", "vllm")
    server = container(deployment)
    assert server["image"] == f"mirror.local/hub/{vllm_image}"
    assert {"--revision=abc", "--max-num-seqs=16", '--compilation-config={"level":3}', "--async-scheduling"} <= set(
        server["args"]
    )
    assert environment(server)["HF_ENDPOINT"] == "https://hf.local"
    assert deployment["spec"]["template"]["spec"]["initContainers"][0]["command"] == ["python3", "-m", "loader"]
    claim = find("everything", "PersistentVolumeClaim", "judge-vllm-cache")
    assert claim["spec"]["storageClassName"] == "gp3"
    assert claim["metadata"]["annotations"]["argocd.argoproj.io/sync-options"] == "Prune=false,Delete=false"
    assert claim["spec"]["resources"]["requests"]["storage"] == "20Gi"


def test_another_list_of_models_rolls_triton(find) -> None:
    key = "modelyard/checksum-models"
    mark = find("contract", "Deployment", "triton-inference")["spec"]["template"]["metadata"]["annotations"][key]
    expected = json.dumps(["s3://my-triton-models", ["resnet18_imagenette"]], sort_keys=True)
    assert mark == hashlib.sha256(expected.encode()).hexdigest()


def test_another_start_script_rolls_vllm(find) -> None:
    def mark(case: str) -> str:
        annotations = find(case, "Deployment", "vllm")["spec"]["template"]["metadata"]["annotations"]
        return annotations["modelyard/checksum-startup"]

    assert mark("contract") == mark("large")
    assert mark("contract") != mark("everything")
    # Without the loader, whose image brings another.
    assert mark("everything") != mark("image-loader")
    assert mark("contract") != mark("image-loader")


def test_the_loader_is_in_the_configmap_as_it_is(find) -> None:
    program = (ROOT / "roles" / "vllm" / "files" / "load_adapters.py").read_text()
    assert find("contract", "ConfigMap", "vllm-startup")["data"]["load_adapters.py"].strip() == program.strip()
    for case, name in (("everything", "vllm-startup"), ("contract", "judge-vllm-startup")):
        assert "load_adapters.py" not in find(case, "ConfigMap", name)["data"]


@pytest.mark.parametrize("name", ["triton-inference", "vllm", "judge-vllm"])
def test_a_pod_must_stay_ready(find, name: str) -> None:
    assert find("contract", "Deployment", name)["spec"]["minReadySeconds"] == 5


def test_templates_hold_no_contract_values() -> None:
    """Everything is a variable; nothing is hard-coded in a template."""
    fixed = re.compile(r"my-|mlflow|TheBloke|ml-models|ai-platform|workload:|arn:|eu-central|:v?\d+\.\d+")
    for template in ROOT.glob("roles/*/templates/*"):
        assert not fixed.search(template.read_text()), template
