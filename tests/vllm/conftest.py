"""vLLM itself, as the roles start it, on a tiny model.

`server` is the built-in server `vllm`, with adapters that the loader brought from MLflow; it serves all tests until
test_stopping.py stops it. `start` starts any other. `MODELYARD_TEST_MODEL` chooses the architecture.
"""

import contextlib
import time

import pytest
import services
from vllm.server import GOOD, MODEL, TOO_HIGH, cut_off, started, variables


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """Start a server, in a with statement: start(profile, python=..., wait=..., VARIABLE=...), see `started`."""
    running = []

    @contextlib.contextmanager
    def start_(profile: str = "vllm", **more):
        # One takes 3 GB, and both cores.
        assert not [one.url for one in running if one.pod.running()], "one at a time: stop the other one first"
        with started(tmp_path_factory.mktemp("pod") / profile, profile, **more) as found:
            running.append(found)
            yield found

    return start_


@pytest.fixture(scope="session")
def mlflow(tmp_path_factory):
    """MLflow and S3, with the adapters of SLOTS registered."""
    with services.running(tmp_path_factory.mktemp("services")) as found:
        found.model()
        for alias, adapter in GOOD.items():
            found.version(adapter.files(MODEL), (alias,))
        found.version(TOO_HIGH.files(MODEL), ("high",))
        found.version(cut_off(GOOD["live"].files(MODEL)), ("cut",))
        yield found


@pytest.fixture(scope="session")
def shared(start, mlflow):
    """The built-in server `vllm`, for the whole session; use `server`."""
    with start(**variables(mlflow)) as found:
        yield found


@pytest.fixture
def server(shared):
    """The running server `vllm`."""
    assert shared.pod.running(), shared.log[-4000:]
    return shared


@pytest.fixture
def until():
    """Poll until a condition holds, and give its result."""

    def until_(condition, what: str, seconds: float = 600):
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
            time.sleep(0.05)
        return found

    return until_
