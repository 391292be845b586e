"""Shared by the tests on kind."""

import json
import time
from urllib.parse import urlsplit

import pytest
import services as real

NAMESPACE = "ml-models"


class Platform:
    """The platform on the kind cluster, with helpers for the tests."""

    def __init__(self, kind):
        self.kind = kind

    def deploy(self, playbook: str = "site", check: bool = True, **variables):
        """Run a playbook with these extra variables."""
        return self.kind.playbook(playbook, "--extra-vars", json.dumps(variables), check=check)

    def kubectl(self, *args, **more):
        """kubectl ARGS in the platform's namespace."""
        return self.kind.kubectl("--namespace", NAMESPACE, *args, **more)

    def get(self, *args) -> dict:
        """kubectl get ARGS in the platform's namespace, decoded."""
        return self.kind.get("--namespace", NAMESPACE, *args)

    def pods(self, app: str) -> list[dict]:
        """A server's pods that are not terminating, oldest first."""
        items = self.kind.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app%3D{app}")["items"]
        staying = [pod for pod in items if not pod["metadata"].get("deletionTimestamp")]
        return sorted(staying, key=lambda pod: pod["metadata"]["creationTimestamp"])

    def pod(self, app: str) -> str:
        """The name of the newest of them."""
        return self.pods(app)[-1]["metadata"]["name"]

    def image(self, app: str) -> str:
        """The image of the server's main container."""
        return self.get("deployment", app)["spec"]["template"]["spec"]["containers"][0]["image"]

    def inside(self, app: str, script: str, check: bool = True):
        """Run a shell script in the server's main container."""
        return self.kubectl("exec", self.pod(app), "--", "sh", "-c", script, check=check)

    def expose_mlflow(self, url: str, port: int | None = None) -> None:
        """Let mlflow.ai-platform:80 lead to a server on this machine, or to another port there."""
        place = urlsplit(url)
        service = {"name": "mlflow", "namespace": "ai-platform"}
        slices = {**service, "labels": {"kubernetes.io/service-name": "mlflow"}}
        ports = [{"name": "http", "port": 80}]
        objects = [
            {"apiVersion": "v1", "kind": "Service", "metadata": service, "spec": {"ports": ports}},
            {
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": slices,
                "addressType": "IPv4",
                "ports": [{"name": "http", "port": port or place.port}],
                "endpoints": [{"addresses": [place.hostname]}],
            },
        ]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self.kind.kubectl("apply", "--filename", "-", input=json.dumps(listed))

    def until(self, condition, what: str, seconds: float = 120):
        """Poll until the condition holds and return its result; the deadline allows for slow machines."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
            time.sleep(0.5)
        return found


@pytest.fixture(scope="module")
def empty(kind):
    """The cluster with nothing on it."""
    kind.reset()
    return Platform(kind)


@pytest.fixture(scope="module")
def platform(empty):
    """The platform, freshly deployed with inventories/kind."""
    empty.deploy()
    return empty


@pytest.fixture(scope="session")
def services(kind, tmp_path_factory):
    """A real MLflow and a real S3 API, at an address of this machine that pods reach."""
    with real.running(tmp_path_factory.mktemp("services"), kind.control("gateway").stdout.strip()) as found:
        yield found
