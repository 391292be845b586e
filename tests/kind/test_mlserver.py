"""The real MLServer: models that a test trains and registers in a real MLflow, loaded from a real S3 API with a token for its role."""

import json
import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import promql_parser
import pytest
import services as real
from kind import identity
from kind.client import Client
from test_rendering import selectors

IMAGE = "seldonio/mlserver:1.7.1"
ROLE = "arn:aws:iam::000000000000:role/my-mlserver-s3-read"
# The rest of the platform is other files' matter.
ALONE = {"triton_enabled_profiles": [], "vllm_enabled": False, "vllm_judge_variant": "none"}
PROXY = "/api/v1/namespaces/ml-models/services/mlserver:http/proxy"
SKLEARN = "mlserver_sklearn.SKLearnModel"
MODELS = {
    # The one of inventories/kind, from MLflow instead.
    "iris": {"uri": None, "registered_model": "iris", "alias": "live", "implementation": SKLEARN},
    "diabetes": {"registered_model": "diabetes", "alias": "live"},
    "doubler": {"uri": f"s3://{real.BUCKET}/models/doubler", "implementation": "doubler.Doubler"},
}
# A runtime of one's own, which reads a file that lies beside it, and takes as long as it is told.
DOUBLER = """
import asyncio, json, pathlib
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse

class Doubler(MLModel):
    async def load(self):
        self.factor = json.loads(pathlib.Path(self.settings.parameters.uri, "factor.json").read_text())
        return True

    async def predict(self, payload):
        await asyncio.sleep(getattr(payload.parameters, "seconds", 0))
        doubled = NumpyCodec.decode_input(payload.inputs[0]) * self.factor
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("doubled", doubled)])
"""

# Two requests of twelve seconds from within the pod, one over HTTP and one over gRPC: prints what they bring.
LONG = """
import json, sys, threading, urllib.request
import grpc
from mlserver.grpc import dataplane_pb2 as pb, dataplane_pb2_grpc as api

def say(protocol, data):
    sys.stdout.write(f"{protocol} {data}\\n")  # at once: print() writes each word by itself, and two threads mix them

def http():
    body = {"parameters": {"seconds": 12}, "inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [21]}]}
    url, kind = "http://127.0.0.1:8080/v2/models/doubler/infer", {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), kind)) as answer:
        say("http", json.load(answer)["outputs"][0]["data"])

def rpc():
    numbers = pb.InferTensorContents(fp64_contents=[21])
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", shape=[1], datatype="FP64", contents=numbers)
    seconds = {"seconds": pb.InferParameter(int64_param=12)}
    with grpc.insecure_channel("127.0.0.1:8081") as channel:
        asked = pb.ModelInferRequest(model_name="doubler", parameters=seconds, inputs=[tensor])
        answer = api.GRPCInferenceServiceStub(channel).ModelInfer(asked)
        say("grpc", list(answer.outputs[0].contents.fp64_contents))

for thread in [threading.Thread(target=http), threading.Thread(target=rpc)]:
    thread.start()
"""
METRICS = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8082/metrics').read().decode())"
RUNNING = (
    r'^rest_server_requests_in_progress\{.*method="POST"\} 1',
    r'^grpc_server_started_total\{.*"ModelInfer".*\} 1',
)


def question(rows, *outputs) -> dict:
    """A request of the V2 protocol."""
    inputs = [{"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP64", "data": rows}]
    return {"inputs": inputs, **({"outputs": [{"name": name} for name in outputs]} if outputs else {})}


class Served:
    """MLServer on the cluster, what it may load, and what tests do to it."""

    def __init__(self, platform, services, trained: Path):
        self.platform, self.services, self.trained = platform, services, trained
        self.told = json.loads((trained / "told.json").read_text())

    def files(self, folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.trained / folder).iterdir()}

    def register(self, model: str, files: dict[str, bytes], *aliases: str) -> str:
        """Make a version of a registered model."""
        return self.services.version(files, aliases, model, source="{run}/model", folder="model")

    def deploy(self, playbook: str = "site", check: bool = True, models: dict | None = None, **variables):
        """Run a playbook with these models, of which MODELS tells the rest."""
        found = {name: {**model, **(models or {}).get(name, {})} for name, model in MODELS.items()}
        path = {"PYTHONPATH": "/mnt/models/doubler"}
        return self.platform.deploy(
            playbook, check=check, **ALONE, mlserver_models=found, mlserver_env=path, **variables
        )

    def ask(self, model: str, asked: dict) -> dict[str, list]:
        """Ask for a prediction: the outputs by name."""
        answer = self.platform.kind.api("POST", f"{PROXY}/v2/models/{model}/infer", asked)
        return {output["name"]: output["data"] for output in answer["outputs"]}

    def flowers(self) -> dict[str, list]:
        return self.ask("iris", question(self.told["flowers"], "predict", "predict_proba"))

    def restart(self) -> None:
        """Roll the pods, as one does after an alias moved."""
        self.platform.kubectl("rollout", "restart", "deployment/mlserver")
        self.platform.kubectl("rollout", "status", "deployment/mlserver", "--timeout=180s")


@pytest.fixture(scope="module")
def newcomer(empty):
    """What the deploy says that has just what inventories/kind has."""
    return empty.deploy(**ALONE).stdout


@pytest.fixture(scope="module")
def served(empty, newcomer, services, tmp_path_factory):
    trained = tmp_path_factory.mktemp("trained")
    run = ["docker", "run", "--rm", "--interactive", "--user", str(os.getuid()), "--volume", f"{trained}:/out"]
    program = (Path(__file__).parent / "train.py").read_bytes()
    subprocess.run([*run, "--workdir", "/tmp", IMAGE, "python3", "-"], input=program, check=True)
    found = Served(empty, services, trained)
    for model, folder in {"iris": "first", "diabetes": "regression"}.items():
        services.model(model)
        found.register(model, found.files(folder), "live")
    for name, content in {"doubler.py": DOUBLER, "factor.json": "2"}.items():
        services.put(f"models/doubler/{name}", content.encode())
    empty.expose_mlflow(services.mlflow)
    # It has no role before it has something to read.
    account = {"metadata": {"name": "mlserver", "annotations": {identity.ROLE: ROLE}}}
    identity.give(empty, "mlserver", account, services.s3)
    found.deploy()
    return found


def test_a_first_deploy_ends_with_a_line_that_brings_a_prediction(newcomer, kind):
    """As it stands, in a shell that has kubectl."""
    line = next(line.strip() for line in newcomer.splitlines() if "/v2/models/iris/infer" in line)
    done = kind.run("bash", "-c", line, env={"PATH": f"{kind.bin}{os.pathsep}{kind.env['PATH']}"})
    assert json.loads(done.stdout)["outputs"][0]["data"] == [0, 2]


def test_a_prediction_is_the_models_own(served):
    """scikit-learn from MLflow, MLflow's own runtime, and a class that came with the model from a bucket."""
    assert served.flowers() == {name: pytest.approx(data) for name, data in served.told["first"].items()}
    (prediction,) = served.ask("diabetes", question(served.told["patients"])).values()
    assert prediction == pytest.approx(served.told["regression"])
    assert served.ask("doubler", question([[1.5, 2.0]])) == {"doubled": [3.0, 4.0]}


def test_smoke_asks_for_a_prediction(served):
    asked = {
        "iris": {"input": question(served.told["flowers"]), "expect": json.dumps(served.told["first"]["predict"])},
        "doubler": {"input": question([[1.5, 2.0]]), "expect": "[3.0, 4.0]"},
    }
    said = served.deploy("smoke", models=asked).stdout
    assert "POST /v2/models/iris/infer" in said
    asked["doubler"]["expect"] = "[3.0, 5.0]"
    done = served.deploy("smoke", models=asked, check=False)
    assert done.returncode != 0
    assert "POST /v2/models/doubler/infer: [3.0, 5.0] is not in the answer" in done.stdout


def test_the_alerts_and_the_drain_ask_for_what_it_counts(served):
    with pytest.raises(RuntimeError, match="500"):
        served.ask("iris", question([[1.0]]))
    kind = served.platform.kind
    path = f"{kind.url}{PROXY.replace(':http/', ':metrics/')}/metrics"
    samples = kind.http().request("GET", path).data.decode().splitlines()
    (group,) = served.platform.get("prometheusrule", "mlserver")["spec"]["groups"]
    asked = [one for rule in group["rules"] for one in selectors(promql_parser.parse(rule["expr"]))]
    pod = served.platform.get("deployment", "mlserver")["spec"]["template"]["spec"]
    drain = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    for name in [*(one.name for one in asked if one.name.startswith(("model_", "rest_"))), drain[4]]:
        assert [line for line in samples if line.startswith(f"{name}{{")], name
    assert [line for line in samples if re.match(r'model_infer_request_failure_total\{model="iris",.*\} 1', line)]
    assert [line for line in samples if re.match(r'rest_server_requests_total\{.*status_code="500"\} 1', line)]


def test_no_credential_is_in_the_cluster(served):
    pods = served.platform.kubectl("get", "pods", "--selector", "app=mlserver", "--output", "yaml").stdout
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in pods
    assert "ACCESS_KEY" not in pods
    assert served.platform.get("secrets")["items"] == []
    assert served.platform.get("serviceaccount", "mlserver")["metadata"]["annotations"][identity.ROLE] == ROLE


def test_running_requests_outlive_their_pod(served):
    """Which MLServer itself would drop."""
    platform = served.platform
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(platform.inside, "mlserver", f"python3 -c '{LONG}'", check=False)

        def both():
            text = platform.inside("mlserver", f'python3 -c "{METRICS}"').stdout
            return all(re.search(pattern, text, re.MULTILINE) for pattern in RUNNING)

        platform.until(both, "both requests are running")
        platform.kubectl("delete", "pod", platform.pod("mlserver"), "--wait=false")
        done = asked.result()
    # Also when it fails: the tests after this one need a pod that stays.
    platform.kubectl("rollout", "status", "deployment/mlserver", "--timeout=180s")
    assert sorted(done.stdout.splitlines()) == ["grpc [42.0]", "http [42.0]"], done.stderr


def test_an_alias_that_moves_is_followed_by_a_rollout_that_loses_no_request(served):
    """Fifty requests a second for a minute; both versions answer, in their order."""
    first, second = (json.dumps(served.told[name]["predict"]) for name in ("first", "second"))
    asked = json.dumps(question(served.told["flowers"]))
    client = Client(served.platform, "mlserver", 8080, "/v2/models/iris/infer", asked, workers=10, total=3000)
    served.register("iris", served.files("second"), "live")
    served.restart()
    assert served.flowers() == {name: pytest.approx(data) for name, data in served.told["second"].items()}
    served.platform.until(lambda: sum(client.counts()[key] for key in ("answered", "failed")) == 3000, "all are sent")
    counts, said = client.stop()
    assert (counts["answered"], counts["failed"]) == (3000, 0), said
    assert set(counts["answers"]) == {first, second}


def test_a_version_that_mlserver_cannot_load_leaves_the_old_one_serving(served):
    before, truncated = served.flowers(), served.files("first")
    truncated["model.pkl"] = truncated["model.pkl"][:300]
    served.register("iris", truncated, "broken")
    done = served.deploy(models={"iris": {"alias": "broken"}}, check=False)
    assert done.returncode != 0
    told = [
        "container mlserver: ",
        "(code 0)",
        "Couldn't load model 'iris'",
        "UnpicklingError",
        "1 replica(s) still serve.",
    ]
    assert [text for text in told if text not in done.stdout] == [], done.stdout
    assert served.flowers() == before


def test_a_version_that_is_not_in_the_store_leaves_the_old_one_serving(served):
    before = served.flowers()
    served.services.alias("nowhere", served.register("iris", {}), "iris")
    done = served.deploy(models={"iris": {"alias": "nowhere"}}, check=False)
    assert done.returncode != 0
    told = ["container load-models: ", "refused", "holds no file", "1 replica(s) still serve."]
    assert [text for text in told if text not in done.stdout] == [], done.stdout
    assert served.flowers() == before
    served.deploy()
    assert served.flowers() == before
