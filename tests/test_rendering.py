"""Every role, profile and variant, rendered by Ansible: valid for each Kubernetes version, and as the contract demands."""

import hashlib
import json
import re
from pathlib import Path

import kubernetes_validate
import promql_parser
import pytest
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import alerts

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = ["1.33", "1.34", "1.35", "1.36", "1.37"]

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
    # Of the vLLM servers one says nothing, and one has what a server can have of its own.
    "several": {
        "platform_delivery": "gitops",
        "vllm_enabled_profiles": ["vllm", "fast", "tuned"],
        "vllm_profiles": {
            "fast": {},
            "tuned": {
                "name": "llm",
                "service_name": "llm-api",
                "model": "TheBloke/Mistral-7B-Instruct-v0.2-AWQ",
                "adapter_model": "tuned-lora",
                "adapter_slots": {"summaries": "live"},
                "role_name": "my-tuned-s3-read",
                "cache": {"type": "claim", "size": "20Gi"},
                "schedule": {"park": "0 20 * * 1-5", "wake": "0 7 * * 1-5", "time_zone": "Europe/Berlin"},
            },
        },
        "argocd_apps_project": "models",
        "argocd_apps_project_create": True,
    },
    # What leads to the servers and scales them, and objects of the user's own.
    "ways": {
        "platform_delivery": "gitops",
        "platform_extra_objects": [
            {
                "apiVersion": "v1",
                "kind": "ResourceQuota",
                "metadata": {"name": "team"},
                "spec": {"hard": {"pods": "40"}},
            }
        ],
        "vllm_ingress": {
            "className": "nginx",
            "hosts": ["llm.example.com"],
            "tls": [{"secretName": "llm-tls"}],
            "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "600"},
            "from": [{"namespace": "ingress-nginx"}],
        },
        "vllm_autoscaling": {"maxReplicas": 4, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}}},
        "vllm_judge_variant": "judge",
        "vllm_judge_http_route": {
            "parentRefs": [{"name": "models", "namespace": "infra"}],
            "hostnames": ["judge.example.com"],
            "timeouts": {"request": "600s"},
            "from": [{"namespace": "infra"}],
        },
        "vllm_judge_scaled_object": {"maxReplicaCount": 2, "serverAddress": "http://prometheus.example:9090"},
        "triton_enabled_profiles": ["gpu"],
        "triton_scaled_object": {
            "minReplicaCount": 0,
            "maxReplicaCount": 3,
            "cooldownPeriod": 600,
            "triggers": [{"type": "cron", "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *"}}],
        },
        "argocd_apps_project": "models",
        "argocd_apps_project_create": True,
    },
    "sets": {"argocd_apps_generator": "clusters", "platform_delivery": "gitops", "vllm_judge_variant": "judge"},
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


@pytest.fixture(scope="module")
def objects(rendered) -> list[dict]:
    """Every object of the cases and of the committed tree, once: that another case has it for another cluster is no other object."""
    tree = [yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in ROOT.glob("infra/**/*.yaml")]
    found = [
        item for item in tree if isinstance(item, dict) and item["kind"] != "Kustomization" and "$patch" not in item
    ]
    assert len(found) > 30
    once = {}
    for item in [item for result in rendered.values() for item in result["objects"]] + found:
        text = json.dumps(item, sort_keys=True)
        once[re.sub(f'"modelyard/cluster": "({"|".join([*CASES, "ml-platform"])})"', "", text)] = item
    return list(once.values())


CUSTOM = ("coreos.com", "argoproj.io", "gateway.networking.k8s.io", "keda.sh")


@pytest.mark.parametrize("version", VERSIONS)
def test_objects_are_valid(objects, version: str) -> None:
    kinds = set()
    for item in objects:
        if item["apiVersion"].split("/")[0].endswith(CUSTOM):
            continue
        kinds.add(item["kind"])
        try:
            kubernetes_validate.validate(item, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            pytest.fail(f"{item['kind']} {item['metadata']['name']} in {version}: {error.message}")
    assert kinds >= {"Deployment", "RoleBinding", "PersistentVolumeClaim", "Ingress", "HorizontalPodAutoscaler"}
    assert not kinds & {"Secret", "Namespace"}


def test_custom_resources_are_valid(objects, custom_resources) -> None:
    seen = set()
    for item in objects:
        if schema := custom_resources.get((item["apiVersion"], item["kind"])):
            schema.validate(item)
            seen.add(item["kind"])
    ours = {"ServiceMonitor", "PrometheusRule", "HTTPRoute", "ScaledObject"}
    assert seen == ours | {"Application", "ApplicationSet", "AppProject"}


# --- Several servers -------------------------------------------------------------------------------


def selectors(expression) -> list:
    """The vector selectors in a parsed PromQL expression."""
    if isinstance(expression, promql_parser.VectorSelector):
        return [expression]
    parts = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    return [found for part in [*parts, *getattr(expression, "args", [])] if part for found in selectors(part)]


@pytest.mark.parametrize(
    ("case", "name", "job"),
    [
        ("contract", "vllm", "vllm-service"),
        ("contract", "judge-vllm", "judge-vllm-service"),
        ("several", "vllm-fast", "vllm-fast"),
        ("several", "llm", "llm-api"),
    ],
)
def test_alerts_ask_for_their_own_server(find, case: str, name: str, job: str) -> None:
    rules = find(case, "PrometheusRule", name)["spec"]["groups"][0]["rules"]
    assert len(rules) >= 6
    for rule in rules:
        asked = selectors(promql_parser.parse(rule["expr"]))
        assert asked, rule
        for selector in asked:
            matchers = {(m.name, m.value) for m in selector.matchers.matchers}
            pods = ("pod", alerts.pods(name))
            assert matchers & {("job", job), ("deployment", name), pods}, selector.name


def test_nothing_of_vllm_changes_with_the_judge_or_another_server(rendered) -> None:
    texts = set()
    for case in ("contract", "large", "parked", "several"):
        mine = [item for item in rendered[case]["objects"] if item["metadata"]["labels"].get("app") == "vllm"]
        assert len(mine) == 7
        texts.add(json.dumps(mine, sort_keys=True).replace(f'"modelyard/cluster": "{case}"', ""))
    assert len(texts) == 1


def test_several_servers_share_no_object(rendered) -> None:
    for case, result in rendered.items():
        names = [(item["kind"], item["metadata"]["name"]) for item in result["objects"]]
        assert len(set(names)) == len(names), case
    found = {item["metadata"]["name"] for item in rendered["several"]["objects"] if item["kind"] == "Deployment"}
    assert found == {"triton-inference", "triton-inference-gpu", "vllm", "vllm-fast", "llm"}


def test_each_server_has_its_questions_account_and_application(rendered) -> None:
    parts = {part["profile"]: part for part in rendered["several"]["parts"] if part["role"] == "vllm"}
    asked = {profile: (part["service"], part["questions"][0]["expect"]) for profile, part in parts.items()}
    assert asked == {
        "vllm": ("vllm-service", "TheBloke/Mistral-7B-v0.1-AWQ"),
        "fast": ("vllm-fast", "TheBloke/Mistral-7B-v0.1-AWQ"),
        "tuned": ("llm-api", "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"),
    }
    arns = {profile: part["account"] and part["account"]["role_arn"] for profile, part in parts.items()}
    arn = "arn:aws:iam::123456789012:role/"
    assert arns == {"vllm": f"{arn}my-vllm-s3-read", "fast": None, "tuned": f"{arn}my-tuned-s3-read"}
    paths = {
        item["metadata"]["name"]: item["spec"]["source"]["path"]
        for item in rendered["several"]["objects"]
        if item["kind"] == "Application"
    }
    assert {part["folder"] for part in parts.values()} == {"vllm/base", "vllm/fast", "vllm/tuned"}
    assert {name: path for name, path in paths.items() if name.startswith("vllm")} == {
        "vllm-inference": "infra/k8s/vllm/base",
        "vllm-inference-fast": "infra/k8s/vllm/fast",
        "vllm-inference-tuned": "infra/k8s/vllm/tuned",
    }


def test_what_is_off_is_one_of_the_roles_that_were_rendered(rendered) -> None:
    """So what it left on a cluster is pruned: tests/unit/test_delivery.py."""
    assert {"triton", "vllm", "vllm_judge"} <= set(rendered["bare"]["roles"])
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
    ("several", "vllm-fast"),
    ("several", "llm"),
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
    program = (ROOT / "roles" / "model_loader" / "files" / "loader.py").read_text()
    assert find("contract", "ConfigMap", "vllm-startup")["data"]["loader.py"].strip() == program.strip()
    for case, name in (("everything", "vllm-startup"), ("contract", "judge-vllm-startup")):
        assert "loader.py" not in find(case, "ConfigMap", name)["data"]


@pytest.mark.parametrize("name", ["triton-inference", "vllm", "judge-vllm"])
def test_a_pod_must_stay_ready(find, name: str) -> None:
    assert find("contract", "Deployment", name)["spec"]["minReadySeconds"] == 5


def test_templates_hold_no_contract_values() -> None:
    """Everything is a variable; nothing is hard-coded in a template."""
    fixed = re.compile(r"my-|mlflow|TheBloke|ml-models|ai-platform|workload:|arn:|eu-central|:v?\d+\.\d+")
    for template in ROOT.glob("roles/*/templates/*"):
        assert not fixed.search(template.read_text()), template
