"""Real services for the tests of adapters: an MLflow server, an S3 API (moto), and what is registered in them.

`running(folder, host)` starts both on free ports of an address; pods reach them when it is the container network's.
"""

import contextlib
import fcntl
import http.client
import http.server
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, urlsplit

import urllib3
from safetensors import serialize
from serving import Served

ROOT = Path(__file__).resolve().parent.parent
BUCKET = "my-mlflow-artifacts"
MODEL = "mistral-7b-lora"
BASE = "mistralai/Mistral-7B-v0.1"
# The services take any; no test's log may hold one of them.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLEEXAMPLE00", "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI-example-key"}


def python_of(group: str) -> Path:
    """The Python of a dependency group's own environment below .cache, installed from uv.lock when it is not there."""
    home = ROOT / ".cache" / "env" / group
    home.parent.mkdir(parents=True, exist_ok=True)
    with home.with_suffix(".lock").open("w") as lock:
        # Workers side by side: one installs, the others wait.
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Bytecode is written at the first import and makes the next ones three times as fast.
        subprocess.run(
            [ROOT / "tools" / "uv", "sync", "--frozen", "--quiet", "--only-group", group],
            cwd=ROOT,
            env={**os.environ, "UV_PROJECT_ENVIRONMENT": str(home)},
            check=True,
        )
    return home / "bin" / "python"


def free_port(host: str = "127.0.0.1") -> int:
    with socket.create_server((host, 0)) as server:
        return server.getsockname()[1]


def adapter(rank: int = 8, fill: int = 0, **changes) -> dict[str, bytes]:
    """The files of a small LoRA adapter: name to content; `changes` go into its configuration (None removes)."""
    config = {
        "peft_type": "LORA",
        "base_model_name_or_path": BASE,
        "r": rank,
        "lora_alpha": 16,
        "target_modules": ["q_proj"],
        "bias": "none",
    }
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    return {"adapter_config.json": json.dumps(config).encode(), "adapter_model.safetensors": weights(rank, fill)}


def weights(rank: int = 8, fill: int = 0, width: int = 64) -> bytes:
    """A safetensors file with the two matrices of one layer, written by the library itself."""
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    data = bytes([fill]) * (rank * width * 2)
    return serialize(
        {
            f"{layer}.lora_A.weight": {"dtype": "float16", "shape": [rank, width], "data": data},
            f"{layer}.lora_B.weight": {"dtype": "float16", "shape": [width, rank], "data": data},
        },
        {"format": "pt"},
    )


class Services:
    """A running MLflow server and S3 API.

    Attributes:
        mlflow: URL of MLflow. s3: URL of the S3 API. env: what a client of both needs in its environment.
    """

    def __init__(self, mlflow: str, s3: str):
        self.mlflow, self.s3 = mlflow, s3
        self.env = {
            **CREDENTIALS,
            "MLFLOW_TRACKING_URI": mlflow,
            "MLFLOW_S3_ENDPOINT_URL": s3,
            "AWS_REGION": "eu-central-1",
        }
        self._http = urllib3.PoolManager()

    def api(self, path: str, method: str = "POST", **body) -> dict:
        """One call of MLflow's REST API."""
        answer = self._http.request(method, f"{self.mlflow}/api/2.0/mlflow/{path}", json=body)
        assert answer.status == 200, f"{path}: {answer.status} {answer.data.decode()}"
        return answer.json()

    def put(self, key: str, content: bytes = b"") -> None:
        """Store an object in the bucket, under exactly this key."""
        self._s3("PUT", f"/{BUCKET}/{quote(key)}", content)

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._s3("DELETE", f"/{BUCKET}/{quote(key)}")

    def _s3(self, method: str, path: str, content: bytes = b"") -> None:
        # Not through urllib3, which resolves .. in a path.
        url = urlsplit(self.s3)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, content)
            answer = connection.getresponse()
            assert answer.status < 300, f"{method} {path}: {answer.status} {answer.read().decode()}"

    def model(self, name: str = MODEL) -> None:
        """Make a registered model."""
        self.api("registered-models/create", name=name)

    def version(
        self,
        files: dict[str, bytes],
        aliases: tuple = (),
        model: str = MODEL,
        source: str = "{run}",
        experiment: str = "0",
        folder: str = "adapter",
    ) -> str:
        """Log a run whose artifacts are `files` below a folder, and register it.

        Args:
            files: name to content.
            aliases: aliases that point to the new version.
            model: the registered model.
            source: of the version; {run} is the run's artifact folder, {id} its ID.
            experiment: the run's.
            folder: the artifacts'.

        Returns:
            the version.
        """
        run = self.api("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]
        # A server that hands artifacts out itself keeps them below its own destination.
        place = run["artifact_uri"].replace("mlflow-artifacts:/", f"s3://{BUCKET}/proxied/")
        for name, content in files.items():
            self.put(f"{place.removeprefix(f's3://{BUCKET}/')}/{folder}/{name}", content)
        where = source.format(run=run["artifact_uri"], id=run["run_id"])
        made = self.api("model-versions/create", name=model, source=where, run_id=run["run_id"])["model_version"]
        for alias in aliases:
            self.alias(alias, made["version"], model)
        return made["version"]

    def alias(self, alias: str, version: str | None, model: str = MODEL) -> None:
        """Let an alias point to a version, or (None) remove it."""
        if version is None:
            self.api("registered-models/alias", "DELETE", name=model, alias=alias)
        else:
            self.api("registered-models/alias", name=model, alias=alias, version=version)

    def experiment(self, name: str, artifact_location: str) -> str:
        """Make an experiment whose runs keep their artifacts elsewhere; its ID."""
        return self.api("experiments/create", name=name, artifact_location=artifact_location)["experiment_id"]


def wait_for(url: str, process: subprocess.Popen, log: Path, seconds: int = 180) -> None:
    """Wait until a server answers."""
    deadline, pool = time.monotonic() + seconds, urllib3.PoolManager(retries=False, timeout=5)
    while True:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            if pool.request("GET", url).status == 200:
                return
        ended = process.poll() is not None or time.monotonic() > deadline
        assert not ended, f"{url} does not answer\n{log.read_text()[-4000:]}"
        time.sleep(0.2)


@contextlib.contextmanager
def running(folder: Path, host: str = "127.0.0.1"):
    """Start an MLflow server and an S3 API, yield Services; both are stopped at the end.

    Args:
        folder: for their state and logs.
        host: the address that they listen on.
    """
    python = python_of("services")
    ports = {"s3": free_port(host), "mlflow": free_port(host)}
    services = Services(*(f"http://{host}:{ports[name]}" for name in ("mlflow", "s3")))
    environment = {**os.environ, **services.env, "PYTHONDONTWRITEBYTECODE": ""}
    commands = {
        "s3": ["-m", "moto.server", "-H", host, "-p", str(ports["s3"])],
        "mlflow": [
            *("-m", "mlflow", "server", "--host", host, "--port", str(ports["mlflow"]), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--default-artifact-root", f"s3://{BUCKET}/mlflow", "--artifacts-destination", f"s3://{BUCKET}/proxied/"),
        ],
    }
    with contextlib.ExitStack() as stack:
        started = {}
        for name, command in commands.items():
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            process = subprocess.Popen(
                [python, *command], env=environment, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )
            stack.callback(stop, process)
            started[name] = process
        wait_for(f"{services.s3}/moto-api/data.json", started["s3"], folder / "s3.log")
        services._s3("PUT", f"/{BUCKET}")
        wait_for(f"{services.mlflow}/health", started["mlflow"], folder / "mlflow.log")
        yield services


def stop(process: subprocess.Popen) -> None:
    """End a server and its workers, which are its process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, 15)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()


class Proxy(Served):
    """Stands before a server and spoils its answers.

    Attributes:
        spoil: called with method, path, status, body (all that the server said), gives status and body to pass on; or
            raises ConnectionError to cut the answer in its middle.
        seen: "METHOD path" of each request, in order.
    """

    def __init__(self, upstream: str, spoil=None):
        super().__init__(Relay)
        self.upstream, self.spoil, self.seen = urlsplit(upstream), spoil, []


class Relay(http.server.BaseHTTPRequestHandler):
    """One request through a Proxy."""

    def relay(self):
        self.server.seen.append(f"{self.command} {self.path}")
        upstream = http.client.HTTPConnection(self.server.upstream.netloc, timeout=60)
        length = int(self.headers.get("Content-Length", 0))
        with contextlib.closing(upstream), contextlib.suppress(BrokenPipeError, ConnectionResetError):
            upstream.request(self.command, self.path, self.rfile.read(length) if length else None, dict(self.headers))
            answer = upstream.getresponse()
            status, body, cut = answer.status, answer.read(), False
            if self.server.spoil:
                try:
                    status, body = self.server.spoil(self.command, self.path, status, body)
                except ConnectionError:
                    cut = True
            self.send_response(status)
            for name, value in answer.getheaders():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "server", "date"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = True

    do_GET = do_POST = do_HEAD = do_PUT = do_DELETE = relay  # noqa: N815 (the names are http.server's)

    def log_message(self, *_):
        pass
