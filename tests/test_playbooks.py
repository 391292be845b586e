"""Every playbook as an operator starts it: its syntax, what a role's own playbook touches, and the requests of smoke.yml.

What a playbook's actions decide is tested in this process (tests/delivering.py), on the same cluster.
"""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import model_servers
import pytest
import services
import urllib3
from ansible.errors import AnsibleActionFail
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, forward, gating
from conftest import BIN
from delivering import ARTIFACTS, act, deliver, handed_on, local, rendering
from hugging_face import HuggingFace
from rendering import playbook

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


def called(playbook, *args, **more):
    """Run a playbook that needs no cluster: all of what it says to a person, and what to a program."""
    command = [
        BIN / "ansible-playbook",
        "-i",
        ROOT / "inventories/platform",
        ROOT / "playbooks" / f"{playbook}.yml",
        *args,
    ]
    more["env"] = {**os.environ, "ANSIBLE_NOCOLOR": "1", **more.get("env", {})}
    return subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, **more)


def test_it_runs_from_any_folder(tmp_path):
    done = called("render", "--check", cwd=tmp_path)
    assert (done.returncode, "63 files, 0 written" in done.stdout) == (0, True), text(done)


def test_words_of_a_value_whose_quotes_the_shell_took_are_refused(tmp_path):
    done = called("render", "--check", "-e", "tree_root=two words", cwd=tmp_path)
    assert done.returncode == 2
    assert "-e has words without a variable: words." in text(done)


JSON = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json", "ANSIBLE_SHOW_CUSTOM_STATS": "true"}


def test_a_programs_output_is_json_alone():
    done = called("render", "--check", cwd=ROOT, env=JSON)
    said = json.loads(done.stdout)
    assert said["stats"]["ml-platform"]["failures"] == 0
    assert "0 written" in done.stderr
    # In check mode, too, an action hands its result on.
    ARTIFACTS.validate(said["global_custom_stats"])
    tree = said["global_custom_stats"]["modelyard_results"]["ml-platform"]["tree"]
    assert (tree["check"], tree["files"], tree["changed"]) == (True, 63, 0)


def test_the_facts_of_a_model(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    files = {f"/{MISTRAL}/resolve/main/config.json": '{"hidden_size": 4096}'}
    with HuggingFace(files, token="hf_secret") as host:
        given = extra(facts_models=[MISTRAL, "org/none"], platform_hf_endpoint=host.url)
        done = called("facts", *given, "-vvv", cwd=tmp_path)
        found = act("facts", [], models=[MISTRAL], endpoint=host.url)
    assert done.returncode == 2
    assert "vllm_model_config: {hidden_size: 4096}" in text(done)
    assert "org/none: http" in text(done)
    assert "hf_secret" not in text(done)
    assert list(handed_on(found)["modelyard_results"].values()) == [
        {"facts": {"models": [{"model": MISTRAL, "weight_bytes": 0}]}}
    ]


HERE = {
    "ansible_connection": "local",
    "ansible_python_interpreter": "{{ ansible_playbook_python }}",
    "platform_api_server": "https://127.0.0.1:9",
    "platform_aws_account_id": "123456789012",
}
SMALL = {"requests": {"cpu": 9, "memory": "8Gi"}, "limits": {"cpu": 9, "memory": "8Gi", "nvidia.com/gpu": 1}}


def test_a_preflight_tells_of_every_host_before_it_stops(tmp_path):
    """Without a cluster and without AWS; what is wrong is told in the words of a run."""
    hosts = {
        "fitting": {},
        "close": {"vllm_gpu_memory_utilization": 0.3, "platform_hf_endpoint": "https://hub.example.com"},
        "misfit": {"vllm_gpu_memory_utilization": 0.2, "vllm_api_key": "not-to-be-shown"},
        "small": {"vllm_resources": SMALL},
    }
    inventory, report = tmp_path / "hosts.yml", tmp_path / "report.json"
    inventory.write_text(json.dumps({"clusters": {"hosts": hosts, "vars": HERE}}))
    told = {}
    plays = {
        "preflight": ["-e", "preflight_json=report.json"],
        "site": ["--limit", "misfit,small"],
        "teardown": ["-e", "teardown_confirm=close"],
    }
    for name, args in plays.items():
        environment = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "PWD": str(tmp_path)}
        done = playbook(name, inventory, *args, **environment)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "not-to-be-shown" not in done.stdout + done.stderr
        told[name] = done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert [host for host, one in found.items() if one["fits"]] == ["close", "fitting"], found["fitting"]["problems"]
    # With one name, and before anything of a cluster is asked.
    assert "Nothing was removed. a teardown is for one cluster, and the play has 4 hosts" in " ".join(
        told["teardown"].split()
    )
    verdicts = {
        host: next(row["verdict"] for row in one["servers"] if row["server"] == "vllm") for host, one in found.items()
    }
    assert verdicts == {
        "fitting": "fits", "close": "too close to tell", "misfit": "does not fit", "small": "does not fit"
    }  # fmt: skip
    for host in hosts:
        assert f"{host}: the servers\n" in told["preflight"]
        assert f"{host}: AWS quotas were not checked: sts: Unable to locate credentials" in told["preflight"]
    assert (
        "[WARNING]: close: vllm: whether TheBloke/Mistral-7B-v0.1-AWQ fits its GPUs is too close" in told["preflight"]
    )
    assert "close: values that are still an example's, and that a run refuses: " in told["preflight"]
    assert any("hub.example.com" in line for line in found["close"]["notices"])
    words = found["misfit"]["problems"]
    assert any(
        "vllm_gpu_memory_utilization is 0.2: TheBloke/Mistral-7B-v0.1-AWQ does not fit" in line for line in words
    )
    for line in words:
        assert line in told["preflight"]
        assert line in told["site"]
    # What the hardware profile is too small for is told without a cluster, which has the last word on it.
    assert "vllm_resources.requests.cpu is 9: a node of hardware profile 'gpu-vllm' has 3920m" in told["preflight"]


def test_an_upgrade_that_would_not_start_ends_with_status_2(tmp_path):
    inventory = tmp_path / "hosts.yml"
    hosts = {"swapping": {"vllm_extra_args": {"swap-space": 8}}, "plain": {}}
    inventory.write_text(json.dumps({"clusters": {"hosts": hosts, "vars": HERE}}))
    image = "upgrade_vllm_image=vllm/vllm-openai:v0.32.0"
    done = playbook("upgrade", inventory, "-e", image, ANSIBLE_SHOW_CUSTOM_STATS="1")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "vLLM 0.32.0 has no flag --swap-space" in done.stdout + done.stderr
    assert re.search(r"plain +: ok=3 .*failed=0", done.stdout)
    stats = " ".join(done.stdout.partition("CUSTOM STATS")[2].split())
    assert "swapping: upgrade:" in stats
    assert "starts: false" in stats


def test_a_tag_is_not_taken_for_a_part():
    done = called("site", "--tags", "vllm,triton", cwd=ROOT)
    assert done.returncode != 0
    assert (
        "--tags triton,vllm: these playbooks have no parts by tag. One role: playbooks/irsa.yml, playbooks/triton.yml, "
        in text(done)
    )
    assert called("render", "--check", "--tags", "whole", cwd=ROOT).returncode == 0
    done = called("render", "--check", "--skip-tags", "always,vllm", cwd=ROOT)
    assert done.returncode != 0
    assert "--skip-tags always: these playbooks have no parts by tag" in text(done)


@pytest.mark.parametrize(
    ("playbook", "task"),
    [
        ("render", "Write the tree"),
        ("site", "Plan the run"),
        ("vllm", "Prune, wait for the rollout, and say what runs where"),
        ("aws", "Make the AWS side"),
        ("preflight", "Look at every server"),
    ],
)
def test_a_start_in_the_middle_is_refused_in_words(playbook, task):
    done = called(playbook, "--start-at-task", task, cwd=ROOT)
    assert done.returncode != 0
    assert "nothing was rendered: a playbook can't start in its middle (--start-at-task)" in text(done)


def test_a_checkout_that_converts_lines_has_the_same_tree(tmp_path):
    clone = ["git", "clone", "--quiet", "--config", "core.autocrlf=true", ROOT, tmp_path / "clone"]
    subprocess.run(clone, check=True)
    files = [path for top in ("infra", "controlplane", "roles") for path in (tmp_path / "clone" / top).rglob("*.*")]
    assert [path for path in files if path.is_file() and b"\r\n" in path.read_bytes()] == []


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


def ask(cluster, asked: dict, keys: dict | None = None, **urls) -> tuple[bool, str]:
    """Do what smoke.yml does, without a play: whether all answers were right, and what was said."""
    said, connection = [], {"kubeconfig": str(cluster.kubeconfig)}
    try:
        result = act("smoke", said, connection=connection, rendered=asked, urls=urls, keys=keys or {})
    except AnsibleActionFail as error:
        return False, " ".join([*said, error.message])
    assert not result["changed"]
    return True, " ".join(said)


def test_simulated_nodes_are_said_to_answer_nothing(platform):
    before = platform.resource_versions()
    right, said = ask(platform, local(platform))
    assert right
    for server in SERVERS:
        assert f"{server}: its nodes are simulated: nothing answers there" in said
    assert said.endswith("no server was asked")
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
    assert "triton-inference-gpu: its nodes are simulated" in done.stdout
    assert "  3 of 3 servers answered right (6 questions), 1 not asked: triton-inference-gpu\n" in done.stdout
    assert "changed=0" in done.stdout


def test_wrong_answers_are_told_all_at_once(platform):
    answers = triton_answers("/cpu", ready=503) | triton_answers("/gpu", model="another_model")
    answers |= vllm_answers("/vllm", model="org/another", completion={"error": {"message": "no adapter"}})
    with StandIn(answers) as stand_in:
        url = f"http://127.0.0.1:{stand_in.server_port}"
        urls = {"triton-inference": f"{url}/cpu", "triton-inference-gpu": f"{url}/gpu", "vllm": f"{url}/vllm"}
        right, said = ask(platform, local(platform), **urls, **{"judge-vllm": "http://127.0.0.1:1"})
    assert not right
    assert "triton-inference: GET /v2/health/ready: failed: HTTP status 503" in said
    assert "triton-inference-gpu: GET /v2/models/resnet18_imagenette: resnet18_imagenette is not in the answer" in said
    assert f"vllm: GET /v1/models: {MISTRAL} is not in the answer" in said
    assert "no adapter" in said
    assert "judge-vllm: GET /v1/models: failed: http://127.0.0.1:1" in said
    assert "0 of 4 servers answered right (8 questions)" in said
    assert "6 of 8 questions got no right answer" in said
    # Each is told once.
    assert said.count("no adapter") == 1


def test_a_completion_without_text_is_no_answer(platform):
    with StandIn(vllm_answers(completion={"object": "text_completion", "choices": []})) as stand_in:
        right, said = ask(platform, local(platform), vllm=f"http://127.0.0.1:{stand_in.server_port}")
    assert not right
    assert "vllm: POST /v1/completions" in said


def test_a_server_with_a_key_is_asked_with_it_or_must_refuse(platform, tmp_path):
    asked = local(platform, ("vllm",), vllm_api_key_secret={"name": "vllm-key", "key": "api-key"})
    port = services.free_port()
    url = f"http://127.0.0.1:{port}"
    server = model_servers.StandIn("vllm", ["serve", MISTRAL, f"--port={port}"], {"VLLM_API_KEY": "hush"}, tmp_path)
    try:
        services.wait_for(f"{url}/health", server.process, server.file)
        right, said = ask(platform, asked, {"vllm": "hush"}, vllm=url)
        assert (right, said.count(": right, after ")) == (True, 3), said
        right, said = ask(platform, asked, vllm=url)
        assert (right, said.count("refused without the key, as it should be")) == (True, 2), said
        assert "vllm: GET /health: right, after" in said
        right, said = ask(platform, asked, {"vllm": "hush-not"}, vllm=url)
        assert not right
        assert "2 of 3 questions got no right answer" in said
        assert "hush" not in said + server.log
    finally:
        server.process.kill()
        server.ended()
    with StandIn({"/health": (200, None), **vllm_answers()}) as stand_in:
        right, said = ask(platform, asked, vllm=f"http://127.0.0.1:{stand_in.server_port}")
    assert not right
    assert said.count("answered without the key of its Secret: whoever reaches the port can ask") >= 2


def test_a_key_that_would_not_arrive_is_refused(platform):
    right, said = ask(platform, local(platform), {"vllm": "hush", "vlm": "hush"})
    assert not right
    assert "smoke_keys.vlm is (hidden): unknown, did you mean 'vllm'?" in said
    assert "smoke_keys.vllm is (hidden): can't be sent through the API server's proxy: set smoke_urls.vllm too" in said


def test_a_url_for_no_server_is_refused(platform):
    right, said = ask(platform, local(platform), vlm="http://127.0.0.1:1")
    assert not right
    assert "smoke_urls.vlm" in said
    assert "did you mean 'vllm'?" in said


# --- preflight.yml with a cluster -------------------------------------------------------------------


def looked(cluster, connection=None, **variables):
    """What preflight.yml finds with preflight_cluster, and what it says."""
    said = []
    connection = connection or {"kubeconfig": str(cluster.kubeconfig)}
    found = act(
        "preflight", said, connection=connection, rendered=local(cluster, **variables), cluster=True, quota=False
    )
    return found, " ".join(said)


def test_a_preflight_asks_the_cluster_as_a_plan_does_and_leaves_it_alone(platform):
    before = platform.resource_versions()
    found, said = looked(platform)
    assert (found["report"]["fits"], found["msg"], found["changed"]) == (True, "", False)
    assert "judge-vllm" in said
    # What only the cluster knows, and real nodes, which have the last word.
    cpus = {"requests": {"cpu": 9, "memory": "8Gi"}, "limits": {"cpu": 9, "memory": "8Gi"}}
    found, _ = looked(platform, vllm_priority_class_name="nobody-made-it")
    assert re.search("PriorityClass nobody-made-it, which .+ names, does not exist", found["msg"])
    found, _ = looked(platform, triton_profiles={"cpu": {"resources": cpus}})
    assert "fits on none of the" in found["report"]["problems"][0]
    assert len(found["report"]["problems"]) == 1
    found, _ = looked(
        platform, {"host": "https://127.0.0.1:9", "api_key": "none"}, platform_api_server="https://127.0.0.1:9"
    )
    assert "does not answer" in found["msg"]
    # Where no node is seen, the hardware profile has the word.
    found, _ = looked(platform, platform_api_server="https://127.0.0.1:9", triton_profiles={"cpu": {"resources": cpus}})
    assert "a node of hardware profile 'cpu-compute' has" in found["msg"]
    assert "but the connection (platform_connection or K8S_AUTH_*) leads to" in found["msg"]
    found, _ = looked(platform, platform_hf_endpoint="https://hub.example.com")
    assert "platform_accepted_placeholders" in found["msg"]
    # No lock either.
    assert platform.resource_versions() == before


# --- report.yml -------------------------------------------------------------------------------------


def test_a_report_says_how_a_deployed_platform_is_and_leaves_it_alone(platform):
    before = platform.resource_versions()
    connection, said = {"kubeconfig": str(platform.kubeconfig)}, []
    found = act("report", said, connection=connection, rendered=local(platform), identity=False)["report"]
    servers = {row["server"]: row for row in found["servers"]}
    assert servers.keys() == set(SERVERS)
    assert {(row["state"], row["ready"] == row["wanted"] > 0) for row in servers.values()} == {("ready", True)}
    vllm = servers["vllm"]
    assert (len(vllm["nodes"]), vllm["model"], vllm["restarts"]) == (1, MISTRAL, 0)
    assert (vllm["cost"]["now"], vllm["shares"]["gpu"], vllm["memory"]["total"]) == (1.006, 1, 22 * 2**30)
    assert 0 < vllm["age"] < 3600
    assert [(one["number"], one["result"]) for one in found["releases"]] == [(1, "succeeded")]
    # Simulated pods have no log.
    assert {one["state"] for one in vllm["adapters"]} == {"version not known"}
    assert [(one["kind"], one["server"]) for one in found["findings"]] == [("idle", "judge-vllm")]
    assert said == ["4 of 4 servers ready; 1 idle"]
    # An inventory that says something else than what lives.
    other = local(platform, triton_profiles={"cpu": {"replicas": 3}})
    found = act("report", said, connection=connection, rendered=other, identity=False)["report"]
    assert [
        (one["server"], one["text"].partition(" (")[0]) for one in found["findings"] if one["kind"] == "drifted"
    ] == [
        (
            "triton-inference",
            "Deployment triton-inference: changed spec.replicas: the inventory says 3, the cluster 2",
        )
    ]
    assert platform.resource_versions() == before
    # Another cluster than the one that is meant is not looked at.
    other = local(platform, platform_api_server="https://127.0.0.1:9")
    wrong = act("report", said, connection=connection, rendered=other, identity=False)["report"]
    assert (wrong["answers"], wrong["servers"], len(wrong["expected"])) == (False, [], 4)
    assert "but the connection (platform_connection or K8S_AUTH_*) leads to" in wrong["why"]


def test_a_page_has_every_host_whatever_becomes_of_it(tmp_path):
    hosts = {
        "away": {"platform_connection": {"host": "https://127.0.0.1:9", "api_key": "not-to-be-shown"}},
        "unreadable": {"platform_connection": "{{ 1 / 0 }}"},
        "refused": {"vllm_replica": 3, "platform_connection": {"host": "https://127.0.0.1:9", "api_key": "none"}},
    }
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"clusters": {"hosts": hosts, "vars": HERE}}))
    done = playbook("report", inventory, "-e", "report_json=report.json", PWD=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    html = (tmp_path / "modelyard-report.html").read_text()
    found = json.loads((tmp_path / "report.json").read_text())
    assert "127.0.0.1:9 does not answer" in found["away"]["why"]
    assert "division by zero" in found["unreadable"]["why"]
    assert "vllm_replica" in found["refused"]["problems"][0]
    for host in hosts:
        assert f'id="c-{host}"' in html
    assert "not-to-be-shown" not in html + done.stdout + json.dumps(found)
    nowhere = playbook("report", inventory, "-e", "report_html=/proc/page.html", "--limit", "away", PWD=str(tmp_path))
    assert "report_html is /proc/page.html: can't be written: " in text(nowhere)


# --- A role's own playbook -------------------------------------------------------------------------


# What controllers make of a Service, with its labels.
MADE = {"EndpointSlice", "Endpoints"}


def owners(cluster) -> dict[str, tuple[str, str]]:
    """{object: its component ('' for what is not ours), its resourceVersion}, without the records of releases."""
    untouched = cluster.resource_versions()
    return {
        key: (item["metadata"].get("labels", {}).get("modelyard/component", ""), untouched[key])
        for key, _, item in cluster.objects()
        if key in untouched and not key.partition("/")[2].partition("/")[2].startswith("modelyard-release-")
    }


def touched(cluster, before: dict) -> set[str]:
    """Components of which an object is new, changed or gone."""
    after = owners(cluster)
    keys = {key for key in before | after if before.get(key) != after.get(key)}
    return {(after.get(key) or before[key])[0] for key in keys}


TOLD = re.compile(r"^  (?:create|update|prune) (\w+) ([\w-]+)/([\w.-]+)", re.MULTILINE)


def test_a_roles_playbook_touches_its_own_component_only(platform):
    """One command runs them all, the Applications' too, which does nothing where delivery is direct."""
    before = owners(platform)
    roles = [*COMPONENTS, "argocd_apps"]
    others = [f"playbooks/{role}.yml" for role in roles[1:]]
    done = platform.playbook(roles[0], *others, *extra(platform_extra_labels={"asked-by": "a-person"}))
    plays = done.stdout.split("PLAY [")[1:]
    told = {role: {"/".join(words) for words in TOLD.findall(play)} for role, play in zip(roles, plays, strict=True)}
    of_component = {
        component: {key for key, (owner, _) in before.items() if owner == component and key.split("/")[0] not in MADE}
        for component in COMPONENTS.values()
    }
    assert told == {role: of_component.get(COMPONENTS.get(role), set()) for role in roles}
    assert all(of_component.values())
    # The recaps go on counting from playbook to playbook.
    *counts, last = (int(re.search(r"changed=(\d+)", play).group(1)) for play in plays)
    assert 0 < counts[0] < counts[1] < counts[2] < counts[3] == last
    after = owners(platform)
    changed = {key for key in before | after if before.get(key) != after.get(key)}
    assert {key for key in changed if key.split("/")[0] not in MADE} == set().union(*told.values())


def test_the_applications_playbook_touches_no_workload_where_argo_cd_delivers(platform):
    before = owners(platform)
    platform.playbook("argocd_apps", *extra(platform_delivery="gitops"))
    assert touched(platform, before) == {"argocd-apps"}
    applications = "/apis/argoproj.io/v1alpha1/namespaces/argocd/applications"
    names = {item["metadata"]["name"] for item in platform.api("GET", applications)["items"]}
    assert {"triton-inference-cpu", "triton-inference-gpu", "vllm-inference", "vllm-inference-judge"} <= names
    platform.api("DELETE", applications)


def test_a_role_alone_prunes_its_own_component_only(platform):
    before = owners(platform)
    # Not rendered here, so none of them may go: the judge and the workflows' account.
    off = {"triton_enabled_profiles": ["cpu"], "vllm_judge_variant": "none", "irsa_workflow_enabled": False}
    done = deliver(local(platform, ("triton",), **off), {"kubeconfig": str(platform.kubeconfig)})
    assert not done.failed
    after = owners(platform)
    gone = {key for key in before if key not in after}
    assert "Deployment/ml-models/triton-inference-gpu" in gone
    assert {before[key][0] for key in gone if key.split("/")[0] not in {"Pod", "ReplicaSet", *MADE}} == {"triton"}


# --- On an empty cluster ---------------------------------------------------------------------------


def test_a_server_without_pods_is_no_success(clean_platform):
    right, said = ask(clean_platform, local(clean_platform))
    assert not right
    for server in SERVERS:
        assert f"{server}: no pod runs" in said


def own_address() -> str:
    """An address of this machine that the API server takes for an endpoint: not a loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return "127.0.0.1"
        return probe.getsockname()[0]


# Asked until it is answered, and not among a play's questions.
READY = "/ready"


def serve_as_pod(cluster, name: str, address: str, port: int) -> None:
    """Make a Service whose only pod is on a node that is not simulated, at an address and port of this machine."""
    inside = "/api/v1/namespaces/default"
    cluster.api("POST", "/api/v1/nodes", {"metadata": {"name": "real"}})
    spec = {"nodeName": "real", "containers": [{"name": "c", "image": "registry.example/a:1"}]}
    cluster.api("POST", f"{inside}/pods", {"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
    spec = {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": port}]}
    cluster.api("POST", f"{inside}/services", {"metadata": {"name": name}, "spec": spec})
    ready = [{"type": "Ready", "status": "True"}]
    cluster.api("PATCH", "/api/v1/nodes/real/status", {"status": {"conditions": ready}})
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": ready}
    cluster.api("PATCH", f"{inside}/pods/{name}/status", {"status": status})
    # The proxy of the API server learns of an endpoint a moment after it is ready.
    ends = time.monotonic() + 30
    while (
        "no endpoints available"
        in cluster.kubectl("get", "--raw", f"{inside}/services/{name}:http/proxy{READY}", check=False).stderr
    ):
        assert time.monotonic() < ends, "its endpoint did not get ready in 30 s"
        time.sleep(0.1)


def test_a_real_node_is_asked_through_the_api_server(clean_platform):
    address = own_address()
    if address.startswith("127."):
        pytest.skip("this machine has no address that a pod may have")
    questions = [{"path": "/v1/models", "expect": MISTRAL}, {"path": "/v1/completions", "body": {"model": MISTRAL}}]
    asked = rendering(api_server=clean_platform.url, platform_namespace="default")
    asked["parts"][0] |= {"name": "stand-in", "service": "stand-in", "questions": questions}
    with StandIn(vllm_answers(), host=address) as stand_in:
        serve_as_pod(clean_platform, "stand-in", address, stand_in.server_port)
        right, said = ask(clean_platform, asked)
        # A program of this machine reaches it the same way, without a credential.
        api, path = (
            client.Cluster({"kubeconfig": str(clean_platform.kubeconfig)}),
            gating.path(asked, asked["parts"][0]),
        )
        with forward.forwarded(api, path, 10) as url:
            answer = urllib3.request("POST", f"{url}/v1/completions", json={"model": MISTRAL})
            assert (answer.status, answer.json()) == vllm_answers()["/v1/completions"]
            assert urllib3.request("GET", f"{url}/nothing").json() == {"error": "no such page"}
            # Others of this machine do not know the path.
            assert urllib3.request("GET", f"{url[:-1]}/v1/models").status == 404
    assert right, said
    assert [one[:2] for one in stand_in.asked[-2:]] == [("POST", "/v1/completions"), ("GET", "/nothing")]
    assert [(method, path) for method, path, _ in stand_in.asked[:-2] if path != READY] == [
        ("GET", "/v1/models"),
        ("POST", "/v1/completions"),
    ]
    assert said.count(": right, after ") == 2
