"""Shared by the tests on kind."""

import json
import time

import pytest

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

    def until(self, condition, what: str, seconds: float = 120):
        """Poll until the condition holds and return its result; the deadline allows for slow machines."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
            time.sleep(0.5)
        return found


@pytest.fixture(scope="module")
def platform(kind):
    """The platform, freshly deployed with inventories/kind."""
    kind.reset()
    platform = Platform(kind)
    platform.deploy()
    return platform
