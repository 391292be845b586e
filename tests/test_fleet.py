"""Many clusters in one run, each at a URL of its own: none holds up another, waves stop, and a table names them all.

Sixteen control planes would be too much for one machine: here one has sixteen URLs, and each cluster a namespace. Three real ones
are in the last test.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from conftest import Cluster, unused_cluster

SIXTEEN = [f"c{number:02}" for number in range(14)] + ["slow", "dead"]
SMALL = {
    "vllm_enabled": False,
    "vllm_judge_variant": "none",
    "triton_enabled_profiles": ["cpu"],
    "triton_replicas": 1,
    "triton_resources": {
        "requests": {"cpu": "100m", "memory": "256Mi", "ephemeral-storage": "100Mi"},
        "limits": {"cpu": 1, "memory": "2Gi", "ephemeral-storage": "1Gi"},
    },
}


class Gates:
    """URLs that lead to one API server; those that are silent take connections and never answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._servers: dict[int, asyncio.Server] = {}
        self._silent: dict[int, asyncio.Event] = {}
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def _do(self, work: Coroutine) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def open(self, port: int = 0) -> int:
        """Open one, at a port that is free; gives the port."""
        return self._do(self._listen(port))

    def silence(self, port: int) -> None:
        """Take connections, and answer none."""
        self._silent[port] = asyncio.Event()

    def shut(self, port: int) -> None:
        """Take no more connections, and end those that wait."""
        self._do(self._shut(port))

    async def _listen(self, port: int) -> int:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        port = server.sockets[0].getsockname()[1]
        self._servers[port] = server
        return port

    async def _shut(self, port: int) -> None:
        self._servers.pop(port).close()
        self._silent.pop(port).set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if waits := self._silent.get(writer.get_extra_info("sockname")[1]):
            await waits.wait()
            writer.close()
            return
        with contextlib.suppress(OSError):
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@pytest.fixture(scope="module")
def gates(cluster):
    """The ways to the cluster, and no platform on it."""
    cluster.reset()
    return Gates(cluster.port)


def written(folder, hosts: dict[str, dict]):
    """Write an inventory beside the cluster's own, which brings the variables."""
    file = folder / "fleet.json"
    hosts = {name: SMALL | variables for name, variables in hosts.items()}
    file.write_text(json.dumps({"clusters": {"hosts": hosts}}))
    return file


def reached(cluster, folder, port: int, name: str) -> dict:
    """The variables of a cluster that is reached through a port."""
    url, config = f"https://127.0.0.1:{port}", folder / f"{name}.kubeconfig"
    config.write_text(cluster.kubeconfig.read_text().replace(cluster.url, url))
    return {
        "platform_namespace": f"fleet-{name}",
        "platform_connection": {"kubeconfig": str(config)},
        "platform_api_server": url,
    }


def elsewhere(url: str) -> dict:
    """The variables of a cluster that is not there."""
    return {
        "platform_connection": {"host": url, "api_key": "none", "validate_certs": True},
        "platform_api_server": url,
        "platform_accepted_placeholders": ["000000000000", "your-org", ".invalid"],
    }


def rows(output: str) -> dict[str, list[str]]:
    """The table of a run: {cluster: [result, changes]}, and under "" its last line."""
    _, _, table = re.sub(r"(?s).*\nCLUSTER ", "\nCLUSTER ", output).partition("\n")
    lines = [line for line in table.splitlines()[1:] if line and not line.startswith(" ")]
    found = {name: more for name, *more in (re.split(r"  +", line)[:3] for line in lines if "  " in line)}
    return found | {"": next(line for line in lines if "clusters succeeded" in line)}


def read_until_done(run, hosts: set[str]) -> str:
    """Read what a run says until all these hosts are done; fails if it ends before that, or takes too long."""
    told: list[str] = []
    with ending(run, 180):
        for line in run.stdout:
            told.append(line)
            if found := re.match(r"  (\w+): \d+ changes$", line):
                hosts.discard(found[1])
            if not hosts:
                return "".join(told)
    raise AssertionError(f"not done: {hosts}\n{''.join(told)}")


@contextlib.contextmanager
def ending(run, seconds: float) -> Iterator[None]:
    """End a run that takes longer."""
    timer = threading.Timer(seconds, run.terminate)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def limited(*hosts: str) -> list[str]:
    """Leave out the host of the cluster's own inventory."""
    return ["--limit", ",".join(hosts)]


@pytest.fixture
def slow_node(cluster) -> Iterator[str]:
    """A node that gets the label fleet=slow in the test, and loses it."""
    (node, *_) = cluster.get("nodes", "-l", "workload=cpu-compute")["items"]
    yield node["metadata"]["name"]
    cluster.kubectl("label", "node", node["metadata"]["name"], "fleet-")


def test_a_slow_and_a_dead_cluster_hold_up_none_of_fourteen_others(cluster, gates, slow_node, tmp_path):
    ports = {name: gates.open() for name in SIXTEEN}
    hosts = {name: reached(cluster, tmp_path, port, name) for name, port in ports.items()}
    hosts["slow"]["triton_node_selector"] = {"fleet": "slow"}
    inventory = written(tmp_path, hosts)
    gates.silence(ports["dead"])
    arguments = ["-i", inventory, *limited(*SIXTEEN)]
    run = cluster.start_playbook("site", *arguments)
    output = read_until_done(run, set(SIXTEEN) - {"slow", "dead"})
    cluster.kubectl("label", "node", slow_node, "fleet=slow")
    gates.shut(ports["dead"])
    output += run.communicate(timeout=120)[0]
    assert run.returncode == 2, output
    found = rows(output)
    assert found.pop("") == "15 of 16 clusters succeeded; the others again: --limit dead"
    assert found.pop("dead") == ["unreachable", "-"]
    assert set(found) == set(SIXTEEN) - {"dead"}
    assert {tuple(row) for row in found.values()} == {("succeeded", "10")}
    # The next run changes what this one could not.
    gates.open(ports["dead"])
    again = cluster.playbook("site", *arguments)
    found = rows(again.stdout)
    assert found.pop("") == "16 of 16 clusters succeeded"
    assert found.pop("dead") == ["succeeded", "10"]
    assert {tuple(row) for row in found.values()} == {("succeeded", "0")}


def test_after_a_canary_that_fails_nothing_else_is_touched(cluster, gates, tmp_path):
    hosts = {name: reached(cluster, tmp_path, gates.open(), name) for name in ("left-1", "left-2")}
    inventory = written(tmp_path, {**hosts, "canary": elsewhere("https://127.0.0.1:9")})
    json_ = {"ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    run = ["-i", inventory, *limited(*hosts, "canary"), "-e", "fleet_canary=canary"]
    done = cluster.playbook("site", *run, env=json_, check=False)
    assert done.returncode == 2, done.stderr
    assert set(json.loads(done.stdout)["stats"]) == {"canary"}
    assert rows(done.stderr) == {
        "canary": ["unreachable", "-"],
        "left-1": ["not begun", "-"],
        "left-2": ["not begun", "-"],
        "": "0 of 3 clusters succeeded; the others again: --limit canary,left-1,left-2",
    }
    assert not {f"fleet-{name}" for name in hosts} & cluster.namespaces()


def test_waves_stop_at_the_share_and_name_who_was_left(cluster, gates, tmp_path):
    """Under Ansible's own output, which is AWX's, and in check mode."""
    hosts = {name: reached(cluster, tmp_path, gates.open(), name) for name in ("a", "b", "c")}
    hosts |= {"dns": elsewhere("https://no-such-name.invalid"), "tls": elsewhere(f"https://127.0.0.1:{gates.open()}")}
    order = ["a", "b", "dns", "tls", "c"]
    inventory = written(tmp_path, {name: hosts[name] for name in order})
    waves = {"fleet_serial": [1, 3, 1], "fleet_max_fail_percentage": 66}
    run = ["-i", inventory, *limited(*order), "--check", "-e", json.dumps(waves)]
    default = {"ANSIBLE_STDOUT_CALLBACK": "default"}
    done = cluster.playbook("site", "--forks", "3", *run, env=default, check=False)
    assert done.returncode == 2, done.stdout
    assert "WOULD CHANGE" in done.stdout
    assert "forks" not in done.stderr
    found = rows(done.stdout)
    assert found.pop("") == "2 of 5 clusters succeeded; the others again: --limit dns,tls,c"
    assert {name: row[0] for name, row in found.items()} == {
        "a": "succeeded",
        "b": "succeeded",
        "dns": "unreachable",
        "tls": "unreachable",
        "c": "not begun",
    }
    # With one failure less than the share allows, the last wave begins.
    waves["fleet_max_fail_percentage"] = 67
    done = cluster.playbook("site", "--forks", "2", *run[:-1], json.dumps(waves), check=False)
    assert (done.returncode, rows(done.stdout)["c"][0]) == (2, "succeeded")
    assert "3 clusters go at once, and there are 2 forks" in " ".join(done.stderr.split())


def test_waves_are_asked_for_by_extra_variables_alone(cluster, gates, tmp_path):
    hosts = {name: reached(cluster, tmp_path, gates.open(), name) | {"fleet_serial": 1} for name in ("x", "y")}
    share = {name: hosts[name] | {"fleet_serial": "", "fleet_max_fail_percentage": 50} for name in hosts}
    arguments = ["-i", written(tmp_path, share), *limited(*hosts)]
    done = cluster.playbook("site", *arguments, check=False)
    assert done.returncode not in (0, 2)
    assert "fleet_max_fail_percentage has no effect in the inventory" in " ".join(done.stderr.split())
    written(tmp_path, hosts)
    for more, told in (
        ([], "fleet_serial or fleet_canary has no effect in the inventory"),
        (["-e", "fleet_serial=1,none"], "fleet_serial is 'none': must be numbers of clusters"),
    ):
        done = cluster.playbook("site", *arguments, *more, check=False)
        assert done.returncode not in (0, 2)
        assert told in " ".join(done.stderr.split())
    assert not {"fleet-x", "fleet-y"} & cluster.namespaces()


@pytest.fixture(scope="module")
def three(cluster) -> Iterator[list[Cluster]]:
    """Three control planes."""
    with unused_cluster(16464) as two, two.running(), unused_cluster(16484) as three, three.running():
        yield [cluster, two, three]


def test_of_three_control_planes_one_hangs(three, tmp_path):
    names = ["one", "two", "three"]
    hosts = {name: reached(each, tmp_path, each.port, name) for name, each in zip(names, three, strict=True)}
    first, second, third = three
    server = third.processes()["kube-apiserver"]
    os.kill(server, signal.SIGSTOP)
    try:
        run = first.start_playbook("site", "-i", written(tmp_path, hosts), *limited(*names))
        output = read_until_done(run, {"one", "two"})
    finally:
        # Its kernel takes connections as long as it lives.
        os.kill(server, signal.SIGKILL)
    output += run.communicate(timeout=120)[0]
    assert (run.returncode, rows(output)) == (
        2,
        {
            "one": ["succeeded", "10"],
            "two": ["succeeded", "10"],
            "three": ["unreachable", "-"],
            "": "2 of 3 clusters succeeded; the others again: --limit three",
        },
    )
    assert "fleet-two" in second.namespaces()
    assert "fleet-two" not in first.namespaces()
