"""MLServer: its models, where they come from and their settings, as its objects have them."""

import json
import shlex
from typing import Any

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import summary
from ansible_collections.modelyard.core.plugins.plugin_utils.files import layout, tree
from rendering import computed, rendered

INPUT = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [1.5, 2]}]}
SKLEARN = "mlserver_sklearn.SKLearnModel"
MODELS: dict[str, dict[str, Any]] = {
    "iris": {"registered_model": "iris-classifier", "alias": "live", "input": INPUT},
    "prices": {
        "uri": "s3://my-models/prices/3",
        "implementation": SKLEARN,
        "parameters": {"version": "3", "extra": {"predict_fn": "predict_proba"}},
        "settings": {"max_batch_size": 8, "max_batch_time": 0.1},
    },
    "image.own": {"uri": "/opt/models/own", "implementation": "own.Model"},
}
ON = {"mlserver_enabled_profiles": ["mlserver"]}


def render(*roles: str, off: bool = False, **variables: Any) -> list[dict]:
    found = rendered(roles or ("mlserver",), off=off, **{"mlserver_models": MODELS, **ON, **variables})
    assert found["problems"] == []
    return found["parts"]


def thing(part: dict, kind: str) -> dict:
    (found,) = [item for item in part["objects"] if item["kind"] == kind]
    return found


def pod(part: dict) -> dict:
    return thing(part, "Deployment")["spec"]["template"]["spec"]


def wrong(**variables: Any) -> list[str]:
    return computed("mlserver", **{"mlserver_models": MODELS, **ON, **variables})[1]


# --- What there is -----------------------------------------------------------------------------------


def test_it_is_off_by_default_and_nothing_of_it_is_in_the_contracts_tree():
    found = rendered(off=True)
    assert found["problems"] == []
    assert [part for part in found["parts"] if part["role"] == "mlserver"] == []
    assert not [path for path in tree.compose(layout.folders(found), "here", "host here") if "mlserver" in path]


def test_one_that_is_off_and_has_models_is_in_the_tree_for_the_day_it_is_on():
    found = rendered(off=True, mlserver_models=MODELS)
    paths = tree.compose(layout.folders(found), "here", "host here")
    assert "argocd/mlserver/mlserver-mlserver.yaml" in paths
    assert "k8s/mlserver/mlserver/deployment-mlserver.yaml" in paths
    assert not [part for part in found["parts"] if part["role"] == "mlserver" and part["enabled"]]


def test_it_has_the_contracts_names_ports_and_size():
    (part,) = render(mlserver_replicas=2)
    kinds = ("ServiceAccount", "ConfigMap", "Service", "Deployment", "NetworkPolicy", "ServiceMonitor")
    for kind in (*kinds, "PrometheusRule", "PodDisruptionBudget"):
        assert thing(part, kind)["metadata"]["name"] == "mlserver"
        assert thing(part, kind)["metadata"]["labels"]["app"] == "mlserver"
    role = thing(part, "ServiceAccount")["metadata"]["annotations"]["eks.amazonaws.com/role-arn"]
    assert role.endswith(":role/my-mlserver-s3-read")
    ports = [("http", 8080), ("grpc", 8081), ("metrics", 8082)]
    assert [(port["name"], port["port"]) for port in thing(part, "Service")["spec"]["ports"]] == ports
    (container,) = pod(part)["containers"]
    assert container["name"] == "mlserver"
    assert container["image"] == "seldonio/mlserver:1.7.1"
    assert [(port["name"], port["containerPort"]) for port in container["ports"]] == ports
    assert container["livenessProbe"]["httpGet"] == {"path": "/v2/health/live", "port": "http"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/v2/health/ready", "port": "http"}
    # Ready for a moment after a model failed to load: see started.py.
    assert container["startupProbe"]["exec"]["command"] == ["python3", "/etc/mlserver/started.py", "8080", *MODELS]
    limits = {key: container["resources"]["limits"][key] for key in ("cpu", "memory")}
    requests = {key: container["resources"]["requests"][key] for key in ("cpu", "memory")}
    assert (requests, limits) == ({"cpu": "1", "memory": "2Gi"}, {"cpu": "2", "memory": "4Gi"})
    assert pod(part)["nodeSelector"] == {"workload": "cpu-compute"}


def test_its_ports_reach_the_server():
    (part,) = render(mlserver_http_port=9000, mlserver_grpc_port=9001, mlserver_metrics_port=9002)
    environment = {item["name"]: item["value"] for item in pod(part)["containers"][0]["env"]}
    names = ("MLSERVER_HTTP_PORT", "MLSERVER_GRPC_PORT", "MLSERVER_METRICS_PORT")
    assert [environment[name] for name in names] == ["9000", "9001", "9002"]


# --- Models ------------------------------------------------------------------------------------------


def test_each_model_has_its_settings_in_a_folder_of_its_name():
    (part,) = render()
    data = thing(part, "ConfigMap")["data"]
    assert json.loads(data["iris.json"]) == {
        "name": "iris",
        "implementation": "mlserver_mlflow.MLflowRuntime",
        "parameters": {"uri": "/mnt/models/iris"},
    }
    assert json.loads(data["prices.json"]) == {
        "name": "prices",
        "implementation": SKLEARN,
        "max_batch_size": 8,
        "max_batch_time": 0.1,
        "parameters": {"version": "3", "extra": {"predict_fn": "predict_proba"}, "uri": "/mnt/models/prices"},
    }
    assert json.loads(data["image.own.json"])["parameters"] == {"uri": "/opt/models/own"}
    volume = next(volume for volume in pod(part)["volumes"] if volume["name"] == "startup")["configMap"]
    assert volume["name"] == "mlserver"
    paths = {item["key"]: item["path"] for item in volume["items"]}
    scripts = {name: name for name in ("loader.py", "drain.py", "started.py")}
    assert paths == {f"{name}.json": f"models/{name}/model-settings.json" for name in MODELS} | scripts
    assert set(data) == set(paths)


def test_the_loader_is_told_what_is_not_in_the_image():
    (part,) = render()
    (loader,) = pod(part)["initContainers"]
    environment = {item["name"]: item["value"] for item in loader["env"]}
    assert json.loads(environment["MODEL_SLOTS"]) == {
        "iris": {"model": "iris-classifier", "alias": "live"},
        "prices": {"uri": "s3://my-models/prices/3"},
    }
    assert loader["name"] == "load-models"
    assert loader["command"] == ["python3", "/etc/mlserver/loader.py"]
    # What the bucket's policy is held against.
    assert part["account"]["reads"] == ["s3://my-models/prices/3"]


def test_without_anything_to_download_there_is_no_loader():
    (part,) = render(mlserver_models={"own": MODELS["image.own"]})
    assert "initContainers" not in pod(part)
    assert set(thing(part, "ConfigMap")["data"]) == {"own.json", "drain.py", "started.py"}
    assert [volume["name"] for volume in pod(part)["volumes"]] == ["startup", "tmp", "shm"]
    assert not [
        rule for rule in thing(part, "NetworkPolicy")["spec"]["egress"] if "namespaceSelector" in json.dumps(rule)
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"mlserver_models": {**MODELS, "iris": {**MODELS["iris"], "alias": "staged"}}},
        {"mlserver_models": {**MODELS, "prices": {**MODELS["prices"], "settings": {}}}},
        {"mlserver_models": {"iris": MODELS["iris"]}},
    ],
    ids=["alias", "settings", "fewer"],
)
def test_another_model_rolls_the_pods(change):
    before, after = (thing(part, "Deployment")["spec"]["template"] for (part,) in (render(), render(**change)))
    assert before != after


def test_smoke_asks_for_each_model_and_for_a_prediction_where_an_input_is_known():
    models = {**MODELS, "prices": {**MODELS["prices"], "input": INPUT, "expect": "42"}}
    (part,) = render(mlserver_models=models)
    assert part["questions"] == [
        {"path": "/v2/models/iris", "expect": "iris"},
        {"path": "/v2/models/iris/infer", "body": INPUT, "expect": '"outputs"'},
        {"path": "/v2/models/prices", "expect": "prices"},
        {"path": "/v2/models/prices/infer", "body": INPUT, "expect": "42"},
        {"path": "/v2/models/image.own", "expect": "image.own"},
    ]


def test_two_servers_share_no_object_and_each_has_its_models():
    profiles = {"fraud": {"models": {"fraud": MODELS["prices"]}}, "same": {"service_name": "other"}}
    first, fraud, same = render(mlserver_enabled_profiles=["mlserver", "fraud", "same"], mlserver_profiles=profiles)
    assert fraud["name"] == "mlserver-fraud"
    assert [key for key in thing(fraud, "ConfigMap")["data"] if key.endswith(".json")] == ["fraud.json"]
    assert thing(same, "ConfigMap")["data"] == thing(first, "ConfigMap")["data"]
    assert thing(same, "Service")["metadata"]["name"] == "other"
    names = [(item["kind"], item["metadata"]["name"]) for part in (first, fraud, same) for item in part["objects"]]
    assert len(names) == len(set(names))


# --- Wrong inputs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "path", "said"),
    [
        ({}, "mlserver_models", "must name a model"),
        ({"implementation": SKLEARN}, "mlserver_models.m", "either a registered_model with its alias, or a uri"),
        ({"uri": "/m", "registered_model": "m", "alias": "a"}, "mlserver_models.m", "either a registered_model"),
        ({"registered_model": "m"}, "mlserver_models.m.alias", "must be an alias"),
        ({"registered_model": "m", "alias": "a/b"}, "mlserver_models.m.alias", "must be an alias"),
        ({"uri": "s3://only-a-bucket", "implementation": SKLEARN}, "mlserver_models.m.uri", "must be a folder of a bucket"),
        ({"uri": 5, "implementation": SKLEARN}, "mlserver_models.m.uri", "must be a folder of a bucket"),
        ({"uri": "gs://b/m", "implementation": SKLEARN}, "mlserver_models.m.uri", "must be a folder of a bucket"),
        ({"uri": "/m", "implementation": SKLEARN, "alias": "a"}, "mlserver_models.m.alias", "belongs to a registered_model"),
        ({"uri": "/m"}, "mlserver_models.m.implementation", "must be the class of a runtime"),
        ({"uri": "/m", "implementation": "SKLearnModel"}, "mlserver_models.m.implementation", "must be the class"),
        ({"uri": "/m", "implementation": SKLEARN, "parameters": {"uri": "x"}}, "mlserver_models.m.parameters.uri", "is set by the role"),
        ({"uri": "/m", "implementation": SKLEARN, "settings": {"name": "x"}}, "mlserver_models.m.settings.name", "is set by the role"),
        ({"uri": "/m", "implementation": SKLEARN, "inputs": INPUT}, "mlserver_models.m.inputs", "did you mean"),
        ({"uri": "/m", "implementation": SKLEARN, "input": "text"}, "mlserver_models.m.input", "must be a dictionary"),
    ],
)  # fmt: skip
def test_a_model_that_can_not_be_served_is_refused(model, path, said):
    lines = wrong(mlserver_models={"m": model} if model else {})
    assert any(line.startswith(f"{path} ") and said in line for line in lines), lines


def test_a_name_that_is_no_folder_is_refused():
    (line,) = wrong(mlserver_models={"../up": MODELS["prices"]})
    assert "must be a model's name" in line


def test_wrong_numbers_are_refused():
    lines = wrong(mlserver_parallel_workers=-1, mlserver_models_size="much")
    for name in ("mlserver_parallel_workers", "mlserver_models_size"):
        assert [line for line in lines if name in line], lines
    assert "the ports must differ" in str(wrong(mlserver_grpc_port=8080))


# --- The closing table -------------------------------------------------------------------------------


def closing(answering: dict[str, bool], **variables: Any) -> list[str]:
    found = rendered(**{"mlserver_models": MODELS, **ON, **variables})
    keys = ("workload", "profile", "model", "ready", "node", "gpus")
    rows = [{**dict.fromkeys(keys, "-"), "workload": name, "answers": yes} for name, yes in answering.items()]
    return summary.closing(found, rows, {"kubeconfig": "/a b/config"})


def test_a_line_to_paste_asks_for_a_prediction():
    line = closing({"vllm": True, "mlserver": True})[-2]
    echo, kubectl = line.split(" | ")
    assert json.loads(shlex.split(echo)[1]) == INPUT
    path = "/api/v1/namespaces/ml-models/services/mlserver:http/proxy/v2/models/iris/infer"
    assert shlex.split(kubectl) == ["kubectl", "--kubeconfig", "/a b/config", "create", "--raw", path, "-f", "-"]


@pytest.mark.parametrize(
    ("answering", "variables", "asked"),
    [
        ({"vllm": True, "mlserver": False}, {}, "services/vllm-service:http/proxy/v1/completions"),
        ({"vllm": True}, {"vllm_api_key_secret": {"name": "vllm", "key": "key"}}, None),
        ({"vllm": False, "mlserver": False}, {}, None),
        ({"mlserver": True}, {"mlserver_models": {"own": MODELS["image.own"]}}, None),
        ({"mlserver": True}, {"mlserver_models": {"own": {**MODELS["image.own"], "input": {"inputs": ["x" * 999]}}}}, None),
        ({}, {}, None),
    ],
)  # fmt: skip
def test_only_one_that_answers_and_is_short_enough_is_asked(answering, variables, asked):
    lines = [line for line in closing(answering, **variables) if "--raw" in line]
    assert [line.partition("--raw ")[2].split()[0].partition("/ml-models/")[2] for line in lines] == (
        [asked] if asked else []
    )
