"""Every playbook as an operator starts it: its syntax, what a role's own playbook touches, and the requests of smoke.yml."""

import json
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
COMPONENTS = {"irsa": "irsa", "triton": "triton", "vllm": "vllm", "vllm_judge": "vllm-judge"}
SERVERS = ("triton-inference", "triton-inference-gpu", "vllm", "judge-vllm")
MISTRAL = "TheBloke/Mistral-7B-v0.1-AWQ"
INSTRUCT = "TheBloke/Mistral-7B-Instruct-v0.2-AWQ"


def extra(**variables) -> list[str]:
    """Give variables on the command line."""
    return ["-e", json.dumps(variables)]


def text(done) -> str:
    """A run's whole output, as one line."""
    return " ".join((done.stdout + done.stderr).split())


# --- Every playbook --------------------------------------------------------------------------------


def test_there_is_a_playbook_for_each_role_that_deploys():
    assert set(PLAYBOOKS) >= {f"{role}.yml" for role in (*COMPONENTS, "argocd_apps", "site", "smoke")}


def test_syntax(cluster):
    done = cluster.run(
        "ansible-playbook", "-i", "inventories/local", "--syntax-check", *(f"playbooks/{name}" for name in PLAYBOOKS)
    )
    assert [line.split("/")[-1] for line in done.stdout.splitlines() if line.startswith("playbook:")] == PLAYBOOKS


def test_what_templates_need_is_loaded_once_and_not_for_every_task(cluster, tmp_path):
    task = {"name": "Use a filter", "ansible.builtin.set_fact": {"found": "{{ [1] | map('string') | list }}"}}
    play = tmp_path / "play.json"
    play.write_text(
        json.dumps([{"name": "Three forks", "hosts": "clusters", "gather_facts": False, "tasks": [task] * 3}])
    )
    # A fork goes on telling what it imports; this module is imported by ansible-core's filters, which have unstable names.
    program = (
        sys.executable,
        "-X",
        "importtime",
        Path(sys.executable).with_name("ansible-playbook"),
        "-i",
        "inventories/local",
        play,
    )
    imports = [line.split("|")[-1].strip() for line in cluster.run(*program).stderr.splitlines()]
    assert imports.count("ansible.utils.encrypt") == 1


# --- Smoke -----------------------------------------------------------------------------------------


class StandIn(ThreadingHTTPServer):
    """A stand-in for model servers: answers each path with what it was given, and keeps what it was asked."""

    def __init__(self, answers: dict, host: str = "127.0.0.1"):
        super().__init__((host, 0), Asked)
        self.answers = answers
        self.asked: list[tuple[str, str, dict | None]] = []

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return super().__enter__()

    def __exit__(self, *args):
        self.shutdown()
        super().__exit__(*args)


class Asked(BaseHTTPRequestHandler):
    """One question."""

    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body):
        self.server.asked.append((self.command, self.path, body))
        status, content = self.server.answers.get(self.path, (404, {"error": "no such page"}))
        payload = json.dumps(content).encode() if content is not None else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args):
        """Say nothing."""


def triton_answers(prefix: str = "", model: str = "resnet18_imagenette", ready: int = 200) -> dict:
    metadata = {"name": model, "versions": ["1"], "platform": "onnxruntime_onnx", "inputs": [], "outputs": []}
    return {f"{prefix}/v2/health/ready": (ready, None), f"{prefix}/v2/models/resnet18_imagenette": (200, metadata)}


def vllm_answers(prefix: str = "", model: str = MISTRAL, completion: dict | None = None) -> dict:
    completion = completion or {"object": "text_completion", "choices": [{"index": 0, "text": " yes"}]}
    return {
        f"{prefix}/v1/models": (200, {"object": "list", "data": [{"id": model, "object": "model"}]}),
        f"{prefix}/v1/completions": (200, completion),
    }


@pytest.fixture(scope="module")
def platform(cluster):
    """The whole platform, deployed."""
    cluster.reset()
    cluster.playbook("site")
    return cluster


def test_simulated_nodes_are_said_to_answer_nothing(platform):
    before = platform.resource_versions()
    done = platform.playbook("smoke")
    for server in SERVERS:
        assert f"{server}: -: its nodes are simulated: nothing answers there" in done.stdout
    assert "changed=0" in done.stdout
    assert platform.resource_versions() == before


def test_right_answers(platform):
    answers = triton_answers("/triton") | vllm_answers("/vllm") | vllm_answers("/judge", INSTRUCT)
    with StandIn(answers) as stand_in:
        url = f"http://127.0.0.1:{stand_in.server_port}"
        urls = {"triton-inference": f"{url}/triton", "vllm": f"{url}/vllm/", "judge-vllm": f"{url}/judge"}
        done = platform.playbook("smoke", *extra(smoke_urls=urls))
    asked = {(method, path) for method, path, _ in stand_in.asked}
    assert asked == {
        ("GET", "/triton/v2/health/ready"),
        ("GET", "/triton/v2/models/resnet18_imagenette"),
        ("GET", "/vllm/v1/models"),
        ("POST", "/vllm/v1/completions"),
        ("GET", "/judge/v1/models"),
        ("POST", "/judge/v1/completions"),
    }
    bodies = {path: body for _, path, body in stand_in.asked if body}
    assert bodies["/vllm/v1/completions"]["model"] == MISTRAL
    assert bodies["/judge/v1/completions"]["model"] == INSTRUCT
    assert all(0 < body["max_tokens"] <= 16 and body["prompt"] for body in bodies.values())
    assert done.stdout.count(": right, after ") == len(asked)
    assert "triton-inference-gpu: -: its nodes are simulated" in done.stdout


def test_wrong_answers_are_told_all_at_once(platform):
    answers = triton_answers("/cpu", ready=503) | triton_answers("/gpu", model="another_model")
    answers |= vllm_answers("/vllm", model="org/another", completion={"error": {"message": "no adapter"}})
    with StandIn(answers) as stand_in:
        url = f"http://127.0.0.1:{stand_in.server_port}"
        urls = {"triton-inference": f"{url}/cpu", "triton-inference-gpu": f"{url}/gpu", "vllm": f"{url}/vllm"}
        done = platform.playbook("smoke", *extra(smoke_urls=urls | {"judge-vllm": "http://127.0.0.1:1"}), check=False)
    said = text(done)
    assert done.returncode
    assert "triton-inference: GET /v2/health/ready: failed: HTTP status 503" in said
    assert "triton-inference-gpu: GET /v2/models/resnet18_imagenette: resnet18_imagenette is not in the answer" in said
    assert f"vllm: GET /v1/models: {MISTRAL} is not in the answer" in said
    assert "no adapter" in said
    assert "judge-vllm: GET /v1/models: failed: http://127.0.0.1:1" in said
    assert "6 of 8 questions got no right answer" in said


def test_a_completion_without_text_is_no_answer(platform):
    with StandIn(vllm_answers(completion={"object": "text_completion", "choices": []})) as stand_in:
        urls = {"vllm": f"http://127.0.0.1:{stand_in.server_port}"}
        done = platform.playbook("smoke", *extra(smoke_urls=urls), check=False)
    assert done.returncode
    assert "vllm: POST /v1/completions" in text(done)


def test_a_url_for_no_server_is_refused(platform):
    done = platform.playbook("smoke", *extra(smoke_urls={"vlm": "http://127.0.0.1:1"}), check=False)
    assert done.returncode
    assert "vlm" in text(done)


# --- A role's own playbook -------------------------------------------------------------------------


def owners(cluster) -> dict[str, tuple[str, str]]:
    """{object: its component ('' for what is not ours), its resourceVersion}."""
    untouched = cluster.resource_versions()
    return {
        key: (item["metadata"].get("labels", {}).get("modelyard/component", ""), untouched[key])
        for key, _, item in cluster.objects()
        if key in untouched
    }


def touched(cluster, before: dict) -> set[str]:
    """Components of which an object is new, changed or gone."""
    after = owners(cluster)
    keys = {key for key in before | after if before.get(key) != after.get(key)}
    return {(after.get(key) or before[key])[0] for key in keys}


@pytest.mark.parametrize("role", COMPONENTS)
def test_a_roles_playbook_touches_its_own_component_only(platform, role):
    before = owners(platform)
    done = platform.playbook(role, *extra(platform_extra_labels={"asked-by": role.replace("_", "-")}))
    assert "changed=0" not in done.stdout
    assert touched(platform, before) == {COMPONENTS[role]}


def test_the_applications_playbook_does_nothing_where_delivery_is_direct(platform):
    before = owners(platform)
    assert "changed=0" in platform.playbook("argocd_apps").stdout
    assert touched(platform, before) == set()


def test_the_applications_playbook_touches_no_workload_where_argo_cd_delivers(platform):
    before = owners(platform)
    platform.playbook("argocd_apps", *extra(platform_delivery="gitops"))
    assert touched(platform, before) == {"argocd-apps"}
    names = {item["metadata"]["name"] for item in platform.get("applications", "-n", "argocd")["items"]}
    assert {"triton-inference-cpu", "triton-inference-gpu", "vllm-inference", "vllm-inference-judge"} <= names


def test_a_roles_playbook_prunes_its_own_component_only(platform):
    platform.kubectl("delete", "applications", "--all", "-n", "argocd")
    before = owners(platform)
    # Not rendered here, so none of them may go: the judge and the workflows' account.
    platform.playbook(
        "triton", *extra(triton_enabled_profiles=["cpu"], vllm_judge_variant="none", irsa_workflow_enabled=False)
    )
    after = owners(platform)
    gone = {key for key in before if key not in after}
    assert "Deployment/ml-models/triton-inference-gpu" in gone
    assert {
        before[key][0] for key in gone if key.split("/")[0] not in {"Pod", "ReplicaSet", "EndpointSlice", "Endpoints"}
    } == {"triton"}


# --- On an empty cluster ---------------------------------------------------------------------------


def test_a_server_without_pods_is_no_success(clean_platform):
    done = clean_platform.playbook("smoke", check=False)
    assert done.returncode
    for server in SERVERS:
        assert f"{server}: -: no pod runs" in text(done)


def own_address() -> str:
    """An address of this machine that the API server takes for an endpoint: not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


def serve_as_pod(cluster, name: str, address: str, port: int) -> None:
    """Make a Service whose only pod is on a node that is not simulated, at an address and port of this machine."""
    objects = [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "real"}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"app": name}},
            "spec": {"nodeName": "real", "containers": [{"name": "c", "image": "registry.example/a:1"}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": port}]},
        },
    ]
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    cluster.kubectl("apply", "-n", "default", "-f", "-", input=content)
    ready = [{"type": "Ready", "status": "True"}]
    cluster.api("PATCH", "/api/v1/nodes/real/status", {"status": {"conditions": ready}})
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
    cluster.api("PATCH", f"/api/v1/namespaces/default/pods/{name}/status", {"status": status})
    slices = ("endpointslices", "-n", "default", "-l", f"kubernetes.io/service-name={name}")
    cluster.kubectl("wait", *slices, "--for=jsonpath={.endpoints[0].conditions.ready}=true", "--timeout=30s")


def test_a_real_node_is_asked_through_the_api_server(clean_platform, tmp_path):
    address = own_address()
    if address.startswith("127."):
        pytest.skip("this machine has no address that a pod may have")
    questions = [{"path": "/v1/models", "expect": MISTRAL}, {"path": "/v1/completions", "body": {"model": MISTRAL}}]
    arguments = {
        "connection": "{{ platform_connection }}",
        "cluster_name": "test",
        "api_server": "{{ platform_api_server }}",
        "namespace": "default",
        "servers": [{"name": "stand-in", "service": "stand-in", "questions": questions}],
    }
    play = [{"hosts": "clusters", "gather_facts": False, "tasks": [{"modelyard.core.smoke": arguments}]}]
    file = tmp_path / "ask.yml"
    file.write_text(json.dumps(play))
    with StandIn(vllm_answers(), host=address) as stand_in:
        serve_as_pod(clean_platform, "stand-in", address, stand_in.server_port)
        done = clean_platform.playbook(str(file))
    asked = [(method, path) for method, path, _ in stand_in.asked]
    assert asked == [("GET", "/v1/models"), ("POST", "/v1/completions")]
    assert done.stdout.count(": right, after ") == 2
