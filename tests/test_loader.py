"""The loader of adapters and models against a real MLflow server and a real S3 API.

Each run is a process forked from one that has already imported the client, since the import takes longer than the run.
`test_a_plain_process` starts the loader as the container does, with both clients.
"""

import contextlib
import importlib.util
import json
import os
import random
import re
import signal
import struct
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import services
from safetensors import SafetensorError, deserialize

PROGRAM = services.ROOT / "roles" / "model_loader" / "files" / "loader.py"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
EXIT = {"ok": 0, "failed": 1, "misconfigured": 2, "unavailable": 3, "refused": 4, "deadline": 5}
FORK = """
import json, os, runpy, sys
import boto3
from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

def kill_at(number):
    # Before its so-manyth change of a file system.
    def hook(event, args):
        nonlocal number
        opened = event == "open" and str(args[0]).startswith(os.environ["ADAPTERS_PATH"])
        if opened or event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir"):
            number -= 1
            if number == 0:
                os.kill(os.getpid(), 9)
    sys.addaudithook(hook)

print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    pid = os.fork()
    if pid == 0:
        log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1), os.dup2(log, 2)
        os.environ.clear(), os.environ.update(job["env"])
        if "KILL_AT" in os.environ:
            kill_at(int(os.environ["KILL_AT"]))
        try:
            runpy.run_path(job["program"], run_name="__main__")
        except SystemExit as end:
            os._exit(end.code)
        finally:
            os._exit(1)
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
spec = importlib.util.spec_from_file_location("loader", PROGRAM)
program = importlib.util.module_from_spec(spec)
spec.loader.exec_module(program)


class Run:
    """One run: its exit code, the lines of its log, the folder of its slots."""

    def __init__(self, code: int, text: str, folder: Path):
        self.code, self.text, self.folder = code, text, folder
        self.events = [json.loads(line) for line in text.splitlines()]

    def of(self, event: str, **fields) -> list[dict]:
        return [item for item in self.events if item["event"] == event and fields.items() <= item.items()]

    def slots(self) -> set[str]:
        """What vLLM would be given: start.sh looks for this file."""
        return {path.parent.name for path in self.folder.glob(f"*/{CONFIG}")}

    def files(self, slot: str) -> dict[str, bytes]:
        root = self.folder / slot
        found = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        return {name: content for name, content in found.items() if name != program.RECORD}


class Runner:
    """Runs the loader."""

    def __init__(self, running: services.Services, folder: Path):
        self.services, self.folder, self.count = running, folder, 0
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.fork = subprocess.Popen(
            [services.python_of("mlflow2"), "-c", FORK],
            env=environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.fork.stdout.readline() == "ready\n"

    def environment(self, folder: Path, slots: dict, **changes) -> dict:
        """The environment that the role gives the container, with short patience; null removes."""
        given = {
            **self.services.env,
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "ADAPTERS_PATH": str(folder),
            "ADAPTER_MODEL": services.MODEL,
            "ADAPTER_SLOTS": json.dumps(slots),
            "ADAPTER_ARTIFACT": "adapter",
            "ADAPTER_BASE_MODELS": json.dumps(["TheBloke/Mistral-7B-v0.1-AWQ", services.BASE]),
            "ADAPTER_MAX_RANK": "32",
            "ADAPTERS_REQUIRED": "false",
            "ADAPTERS_STRICT": "false",
            "ADAPTERS_SECONDS": "120",
            "ADAPTERS_RETRIES": "1",
            "ADAPTERS_SIZE": str(1 << 20),
            **changes,
        }
        return {name: value for name, value in given.items() if value is not None}

    def new_folder(self) -> Path:
        self.count += 1
        (folder := self.folder / f"slots-{self.count}").mkdir()
        return folder

    @contextlib.contextmanager
    def started(self, slots: dict, folder: Path | None = None, **changes):
        """Start a run; inside, `pid` and `log` are known, after it `run` too."""
        folder = folder or self.new_folder()
        self.count += 1
        log = self.folder / f"log-{self.count}"
        log.touch()
        job = {"log": str(log), "env": self.environment(folder, slots, **changes), "program": str(PROGRAM)}
        self.fork.stdin.write(json.dumps(job) + "\n")
        self.fork.stdin.flush()
        found = SimpleNamespace(pid=int(self.fork.stdout.readline()), log=log)
        try:
            yield found
        finally:
            code = int(self.fork.stdout.readline())
        found.run = Run(code, log.read_text(), folder)

    def __call__(self, slots: dict, folder: Path | None = None, **changes) -> Run:
        with self.started(slots, folder, **changes) as found:
            pass
        return found.run


def wait_for_text(log: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while text not in log.read_text():
        assert time.monotonic() < deadline, f"no {text} in\n{log.read_text()}"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory):
    with services.running(tmp_path_factory.mktemp("services")) as found:
        found.model()
        found.first = services.adapter(fill=1)
        found.second = {**services.adapter(fill=2, rank=16), "nested/README.md": b"second", "a name with spaces": b"x"}
        found.version(found.first, ("live",))
        found.version(found.second, ("staged",))
        yield found


@pytest.fixture(scope="module")
def load(mlflow, tmp_path_factory):
    runner = Runner(mlflow, tmp_path_factory.mktemp("loader"))
    yield runner
    runner.fork.stdin.close()
    runner.fork.wait(60)
    runner.fork.stdout.close()


# --- Filling ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("client", "endpoint"), [("mlflow2", "MLFLOW_S3_ENDPOINT_URL"), ("mlflow3", "AWS_ENDPOINT_URL_S3")]
)
def test_a_plain_process(load, mlflow, client, endpoint, tmp_path):
    (folder := tmp_path / "slots").mkdir()
    (home := tmp_path / "home").mkdir()
    # Python tells of each file that is opened to write, made, renamed or removed.
    (hook := tmp_path / "hook").mkdir()
    hook.joinpath("sitecustomize.py").write_text(AUDIT)
    written = tmp_path / "written"
    more = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(hook), "AUDIT": str(written)}
    more |= {"MLFLOW_S3_ENDPOINT_URL": "", endpoint: mlflow.s3}
    environment = load.environment(folder, {"one": "live", "two": "staged", "none": "nobody"}, **more)
    done = subprocess.run(
        [services.python_of(client), PROGRAM],
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    run = Run(done.returncode, done.stdout, folder)
    assert (run.code, done.stderr, run.slots()) == (EXIT["ok"], "", {"one", "two"}), run.text
    assert run.files("one") == mlflow.first
    assert run.files("two") == mlflow.second
    assert [item["slot"] for item in run.of("loaded")] == ["one", "two"]
    assert run.of("loaded", slot="two")[0].items() >= {"version": "2", "rank": 16, "base_model": services.BASE}.items()
    assert run.of("alias_missing", alias="nobody")
    assert run.events[-1].items() >= {"event": "end", "filled": ["one", "two"], "empty": ["none"]}.items()
    assert not (folder / program.STAGING).exists()
    paths = {Path(line) for line in written.read_text().splitlines()}
    assert folder / "one" in paths
    # A read-only root: nothing but the volume and /tmp can be written.
    allowed = (folder, home, Path("/dev/null"), Path("/dev/shm"))
    assert {path for path in paths if not any(path.is_relative_to(root) for root in allowed)} == set()


AUDIT = """
import os, sys
def hook(event, args):
    paths = []
    if event == "open":
        path, mode, flags = args
        if isinstance(path, (str, bytes)) and (flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or set(mode or "") & set("wax+")):
            paths = [path]
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod"):
        paths = [item for item in args if isinstance(item, (str, bytes)) and os.fsdecode(item).startswith("/")]
    for path in paths:
        os.write(out, os.fsencode(path) + b"\\n")
out = os.open(os.environ["AUDIT"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.addaudithook(hook)
"""


def test_two_aliases_of_one_version_are_downloaded_once(load, mlflow):
    with services.Proxy(mlflow.s3) as s3:
        run = load({"one": "live", "two": "live"}, MLFLOW_S3_ENDPOINT_URL=s3.url)
    assert run.files("one") == run.files("two") == mlflow.first
    assert sorted(path.rpartition("/")[2] for path in s3.seen if "list-type" not in path) == [CONFIG, WEIGHTS]
    # A workflow that writes into one does not write into the other.
    assert not (run.folder / "one" / WEIGHTS).samefile(run.folder / "two" / WEIGHTS)


def test_wherever_a_version_keeps_its_adapter(load, mlflow):
    mlflow.model("places")
    proxied = mlflow.experiment("proxied", "mlflow-artifacts:/there")
    places = {
        "inside": {},
        "itself": {"source": "{run}/adapter"},
        "beside": {"source": "{run}/model"},
        "runs": {"source": "runs:/{id}/adapter"},
        "server": {"experiment": proxied},
    }
    wanted = {name: services.adapter(fill=index) for index, name in enumerate(places)}
    wanted["server"]["nested/odd name"] = b"x"
    for name, more in places.items():
        mlflow.version(wanted[name], (name,), "places", **more)
    run = load({name: name for name in places}, ADAPTER_MODEL="places")
    assert {name: run.files(name) for name in places} == wanted, run.text


def test_without_a_registered_model_all_slots_are_empty(load):
    run = load({"one": "live"}, ADAPTER_MODEL="nobody", ADAPTERS_REQUIRED="true", ADAPTERS_STRICT="true")
    assert (run.code, run.slots()) == (EXIT["ok"], set())
    assert run.of("alias_missing", model="nobody")


# --- What is refused -------------------------------------------------------------------------------


def weights(header, data=b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def with_(name, content):
    return lambda files: {**files, name: content}


def without(name):
    return lambda files: {key: content for key, content in files.items() if key != name}


def config(**changes):
    return lambda files: {**files, CONFIG: services.adapter(**changes)[CONFIG]}


TENSOR = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
# What is wrong to the reason in the log.
ODD = {
    "truncated weights": (with_(WEIGHTS, services.weights()[:-1]), "truncated or damaged"),
    "half of the header": (with_(WEIGHTS, services.weights()[:40]), "truncated or no safetensors"),
    "empty weights": (with_(WEIGHTS, b""), "truncated or no safetensors"),
    "more than the header tells": (with_(WEIGHTS, services.weights() + b"x"), "truncated or damaged"),
    "no header": (with_(WEIGHTS, struct.pack("<Q", 4) + b"nope"), "no safetensors header"),
    "no tensors": (with_(WEIGHTS, weights({})), "has no tensors"),
    "a tensor of the wrong size": (with_(WEIGHTS, weights({"a": {**TENSOR, "shape": [3]}}, b"8" * 8)), "size of a is"),
    "an unknown type": (with_(WEIGHTS, weights({"a": {**TENSOR, "dtype": "F7"}}, b"8" * 8)), "no safetensors header"),
    "a gap": (with_(WEIGHTS, weights({"a": {**TENSOR, "data_offsets": [8, 16]}}, b"8" * 16)), "truncated or damaged"),
    "damaged other weights": (with_("more.safetensors", b"x" * 30), "more.safetensors is truncated"),
    "without a configuration": (without(CONFIG), f"lacks {CONFIG}"),
    "without weights": (without(WEIGHTS), f"lacks {WEIGHTS}"),
    "weights deeper": (lambda files: {CONFIG: files[CONFIG], f"a/{WEIGHTS}": files[WEIGHTS]}, f"lacks {WEIGHTS}"),
    "pickled weights": (
        lambda files: {CONFIG: files[CONFIG], "adapter_model.bin": b"x"},
        "'adapter_model.bin', a pickle",
    ),
    "a pickle beside": (with_("training_args.BIN", b"x"), "'training_args.BIN', a pickle"),
    "a pickle below": (with_("checkpoint-1/optimizer.pt", b"x"), "optimizer.pt', a pickle"),
    "pickle": (with_("scaler.pkl", b"x"), "'scaler.pkl', a pickle"),
    "a name that leaves": (with_("../../evil", b"x"), "must stay in the slot"),
    "a name with a backslash": (with_("a\\b", b"x"), "must stay in the slot"),
    "an absolute name": (with_("/etc/evil", b"x"), "must stay in the slot"),
    "a file and a folder": (lambda files: {**files, "a": b"x", "a/b": b"x"}, "'a' twice"),
    "no JSON": (with_(CONFIG, b"{"), "is no JSON"),
    "deep JSON": (with_(CONFIG, b"[" * 100_000), "is no JSON"),
    "a list": (with_(CONFIG, b"[]"), "is no JSON object"),
    "a rank too high": (config(r=64), "rank 64, above --max-lora-rank=32"),
    "a pattern too high": (config(rank_pattern={"q_proj": 33}), "rank 33, above --max-lora-rank=32"),
    "a rank in words": (config(r="8"), "must have r"),
    "no rank": (config(r=None), "must have r"),
    "weights of a rank too high": (with_(WEIGHTS, services.weights(rank=64)), "has rank 64"),
    "another base": (
        config(base_model_name_or_path="meta-llama/Llama-2-7b-hf"),
        "base model 'meta-llama/Llama-2-7b-hf'",
    ),
    "no base": (config(base_model_name_or_path=None), "base model None"),
    "DoRA": (config(use_dora=True), "use_dora True"),
    "whole modules": (config(modules_to_save=["lm_head"]), "modules_to_save"),
    "another method": (config(peft_type="IA3"), "peft_type 'IA3'"),
    "no targets": (config(target_modules=None), "lacks target_modules"),
    "nothing at all": (lambda files: {}, "has no artifact folder 'adapter'"),
    "too large": (with_("large", b"x" * (1 << 20)), "of the volume are left"),
}
FINE = {
    "plain": lambda files: files,
    "a rank pattern": config(rank_pattern={"q_proj": 32}),
    "the served model": config(base_model_name_or_path="thebloke/mistral-7b-v0.1-awq/"),
    "documents": with_("README.md", b"x"),
    "odd characters": with_("ein Ä/é %41 + &=.txt", b"x"),
    "an empty file": with_("tokenizer/added.json", b""),
    "empty modules to save": config(modules_to_save=[]),
}


@pytest.fixture(scope="module")
def odd(load, mlflow):
    """All kinds of adapters in one run: the slot of each is its place in the two tables."""
    mlflow.model("odd")
    kinds = {**{name: change for name, (change, _) in ODD.items()}, **FINE}
    slots = {name: f"kind-{index}" for index, name in enumerate(kinds)}
    made = {name: change(services.adapter()) for name, change in kinds.items()}
    for name, files in made.items():
        # Without a run, too.
        for file, content in files.items():
            mlflow.put(f"odd/{slots[name]}/adapter/{file}", content)
        where = f"s3://{services.BUCKET}/odd/{slots[name]}"
        version = mlflow.api("model-versions/create", name="odd", source=where)["model_version"]["version"]
        mlflow.alias(slots[name], version, "odd")
    return load({slot: slot for slot in slots.values()}, ADAPTER_MODEL="odd"), slots, made


@pytest.mark.parametrize("kind", ODD)
def test_a_bad_adapter_leaves_its_slot_empty(odd, kind):
    run, slots, _ = odd
    (line,) = [item for item in run.of("refused") if slots[kind] in item["slots"]]
    assert ODD[kind][1] in line["reason"]
    assert not (run.folder / slots[kind]).exists()
    assert run.code == EXIT["ok"]


@pytest.mark.parametrize("kind", FINE)
def test_a_good_adapter_fills_its_slot(odd, kind):
    run, slots, made = odd
    assert run.files(slots[kind]) == made[kind], run.of("refused", slots=[slots[kind]])


def test_nothing_is_written_outside_the_slots(odd):
    run, slots, _ = odd
    assert {path.name for path in run.folder.iterdir()} == {slots[kind] for kind in FINE}
    assert not list(run.folder.parent.rglob("evil"))


def test_strict_fails_the_start_and_still_fills_the_others(load, mlflow):
    mlflow.version(services.adapter(rank=64), ("high",))
    run = load({"bad": "high", "good": "live"}, ADAPTERS_STRICT="true")
    assert (run.code, run.slots()) == (EXIT["refused"], {"good"})


@pytest.mark.parametrize("seed", range(3))
def test_weights_that_are_accepted_can_be_read_by_the_library(tmp_path, seed):
    """Damage in random places: what we accept, the library reads."""
    chance, good = random.Random(seed), services.weights(2, width=4)
    path, accepted = tmp_path / WEIGHTS, 0
    for _ in range(500):
        content = bytearray(good)
        for _ in range(chance.randint(0, 2)):
            content[chance.randrange(len(content))] = chance.choice(b'0123456789[]{}",:FI\x00\xff')
        content = bytes(content)[: chance.choice([len(content), chance.randrange(len(content))])]
        path.write_bytes(content)
        try:
            program.read_safetensors(path)
        except program.Refused:
            continue
        accepted += 1
        try:
            deserialize(content)
        except SafetensorError as error:
            pytest.fail(f"accepted, but {error}: {content!r}")
    assert accepted


def test_a_link_is_refused(tmp_path):
    for name, content in services.adapter().items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "passwd").symlink_to("/etc/passwd")
    with pytest.raises(program.Refused, match="passwd"):
        list(program.tree(tmp_path))


# --- MLflow and the store fail ----------------------------------------------------------------------


def failing(times, status=500):
    """Answer a request with a failure, so many times."""
    left = [times]

    def spoil(_method, path, given, body):
        if "alias" in path and left[0]:
            left[0] -= 1
            return status, b"broken"
        return given, body

    return spoil


@pytest.mark.parametrize(("required", "code"), [("false", "ok"), ("true", "unavailable")])
def test_mlflow_is_down(load, required, code):
    down = f"http://127.0.0.1:{services.free_port()}"
    run = load({"one": "live"}, MLFLOW_TRACKING_URI=down, ADAPTERS_REQUIRED=required)
    assert (run.code, run.slots()) == (EXIT[code], set())
    assert run.of("retry", what="alias")
    assert run.of("unavailable", what="MLflow")


def test_mlflow_fails_for_a_while(load, mlflow):
    with services.Proxy(mlflow.mlflow, failing(2)) as proxy:
        run = load({"one": "live"}, MLFLOW_TRACKING_URI=proxy.url, ADAPTERS_RETRIES="2", ADAPTERS_REQUIRED="true")
    assert (run.code, run.slots(), len(run.of("retry"))) == (EXIT["ok"], {"one"}, 2), run.text


@pytest.mark.parametrize("status", [500, 404, 403])
def test_an_error_is_no_missing_alias(load, mlflow, status):
    """Not even a 404: a wrong address answers everything with it."""
    with services.Proxy(mlflow.mlflow, failing(99, status)) as proxy:
        run = load({"one": "live"}, MLFLOW_TRACKING_URI=proxy.url, ADAPTERS_REQUIRED="true")
    assert (run.code, run.slots()) == (EXIT["unavailable"], set())
    assert not run.of("alias_missing")


@pytest.mark.parametrize(("required", "code"), [("false", "ok"), ("true", "deadline")])
def test_the_deadline_ends_a_silent_mlflow(load, required, code):
    # Accepts and says nothing.
    with services.socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        run = load({"one": "live"}, MLFLOW_TRACKING_URI=uri, ADAPTERS_SECONDS="1", ADAPTERS_REQUIRED=required)
    assert (run.code, run.slots()) == (EXIT[code], set())
    assert run.of("deadline")
    assert list(run.folder.iterdir()) == []


def cut(_method, path, status, body):
    if path.endswith(WEIGHTS):
        raise ConnectionError
    return status, body


def flip(_method, path, status, body):
    return status, (body[:-1] + bytes([body[-1] ^ 1]) if path.endswith(WEIGHTS) else body)


def once(spoil):
    left = [spoil]

    def first(method, path, status, body):
        return left.pop()(method, path, status, body) if left and path.endswith(WEIGHTS) else (status, body)

    return first


def answer(code, text):
    error = f"<Error><Code>{text}</Code><Message>no</Message></Error>".encode()
    return lambda _method, path, status, body: (code, error) if path.endswith(WEIGHTS) else (status, body)


@pytest.mark.parametrize("spoil", [cut, flip, answer(503, "SlowDown")], ids=["cut", "damaged", "busy"])
def test_a_download_that_fails_once_is_tried_again(load, mlflow, spoil):
    with services.Proxy(mlflow.s3, once(spoil)) as s3:
        run = load({"one": "live"}, MLFLOW_S3_ENDPOINT_URL=s3.url, ADAPTERS_STRICT="true", ADAPTERS_REQUIRED="true")
    assert (run.code, run.files("one")) == (EXIT["ok"], mlflow.first), run.text
    assert run.of("retry", what=WEIGHTS)


@pytest.mark.parametrize(
    ("spoil", "code", "event"),
    [
        (flip, "refused", "refused"),
        (answer(404, "NoSuchKey"), "refused", "refused"),
        (cut, "unavailable", "unavailable"),
        (answer(403, "AccessDenied"), "unavailable", "unavailable"),
        (answer(503, "SlowDown"), "unavailable", "unavailable"),
    ],
    ids=["damaged", "missing", "cut", "denied", "busy"],
)
def test_a_download_that_always_fails(load, mlflow, spoil, code, event):
    with services.Proxy(mlflow.s3, spoil) as s3:
        run = load({"one": "live"}, MLFLOW_S3_ENDPOINT_URL=s3.url, ADAPTERS_STRICT="true", ADAPTERS_REQUIRED="true")
    assert (run.code, run.slots()) == (EXIT[code], set()), run.text
    assert run.of(event, slots=["one"], version="1")
    assert list(run.folder.iterdir()) == []


# --- A restarted pod keeps its volume ---------------------------------------------------------------


def test_a_second_run_changes_nothing(load, mlflow):
    first = load({"one": "live", "two": "staged"})

    def state():
        found = {path: path.stat() for path in first.folder.rglob("*")}
        return {path: (one.st_ino, one.st_mtime_ns, one.st_ctime_ns) for path, one in found.items()}

    before = state()
    with services.Proxy(mlflow.s3) as s3:
        run = load({"one": "live", "two": "staged"}, first.folder, MLFLOW_S3_ENDPOINT_URL=s3.url)
    assert state() == before
    assert ([item["slot"] for item in run.of("kept")], s3.seen) == (["one", "two"], [])


def test_a_slot_follows_its_alias(load, mlflow):
    mlflow.alias("moving", "1")
    run = load({"one": "moving"})
    assert run.files("one") == mlflow.first
    mlflow.alias("moving", "2")
    assert load({"one": "moving"}, run.folder).files("one") == mlflow.second
    mlflow.alias("moving", None)
    again = load({"one": "moving"}, run.folder)
    assert (again.slots(), len(again.of("removed", slot="one"))) == (set(), 1)


def test_what_a_killed_run_left_is_cleaned(load, mlflow, tmp_path):
    (left := tmp_path / program.STAGING / "1").mkdir(parents=True)
    (left / CONFIG).write_text("{}")
    run = load({"one": "live"}, tmp_path)
    assert run.of("cleaned")
    assert {path.name for path in tmp_path.iterdir()} == {"one"}


def fill(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def test_an_adapter_copied_by_hand_stays_where_mlflow_says_nothing(load, mlflow, tmp_path):
    fill(tmp_path / "one", services.adapter(fill=9))
    fill(tmp_path / "two", services.adapter(fill=9))
    run = load({"one": "nobody", "two": "live"}, tmp_path)
    assert run.files("one") == services.adapter(fill=9)
    assert run.files("two") == mlflow.first


def test_an_adapter_that_was_overwritten_by_hand_is_not_taken_for_the_loader_s(load, mlflow):
    run = load({"one": "live"})
    fill(run.folder / "one", services.adapter(fill=9))
    assert load({"one": "live"}, run.folder).files("one") == mlflow.first


@pytest.mark.parametrize(
    "half", [{CONFIG: b"{}"}, {**services.adapter(), WEIGHTS: services.weights()[:-5]}, {"x": b""}]
)
def test_half_an_adapter_copied_by_hand_is_removed(load, tmp_path, half):
    down = f"http://127.0.0.1:{services.free_port()}"
    fill(tmp_path / "one", half)
    run = load({"one": "live"}, tmp_path, MLFLOW_TRACKING_URI=down, ADAPTERS_RETRIES="0")
    assert (run.code, run.slots(), len(run.of("removed", slot="one"))) == (EXIT["ok"], set(), 1)


def test_a_slot_that_is_a_link_is_replaced_and_its_target_left(load, mlflow, tmp_path):
    fill(tmp_path / "target", services.adapter(fill=9))
    (folder := tmp_path / "slots").mkdir()
    (folder / "one").symlink_to(tmp_path / "target")
    run = load({"one": "live"}, folder)
    assert (run.files("one"), (folder / "one").is_symlink()) == (mlflow.first, False)
    assert (tmp_path / "target" / WEIGHTS).read_bytes() == services.weights(fill=9)


def test_without_mlflow_a_restarted_pod_keeps_its_adapters(load, mlflow):
    run = load({"one": "live"})
    down = f"http://127.0.0.1:{services.free_port()}"
    again = load({"one": "live"}, run.folder, MLFLOW_TRACKING_URI=down, ADAPTERS_RETRIES="0")
    assert (again.code, again.files("one")) == (EXIT["ok"], mlflow.first)


# --- Stopped and killed -----------------------------------------------------------------------------


def slow(_method, _path, status, body):
    time.sleep(0.02)
    return status, body


def stuck(_method, path, status, body):
    time.sleep(20 if path.endswith(WEIGHTS) else 0)
    return status, body


def test_sigterm_leaves_nothing_behind(load, mlflow):
    with (
        services.Proxy(mlflow.s3, stuck) as s3,
        load.started({"one": "live"}, MLFLOW_S3_ENDPOINT_URL=s3.url) as started,
    ):
        wait_for_text(started.log, '"download"')
        os.kill(started.pid, signal.SIGTERM)
    assert (started.run.code, started.run.slots()) == (128 + signal.SIGTERM, set())
    assert started.run.of("terminated", signal="SIGTERM")
    assert list(started.run.folder.iterdir()) == []


def test_killed_at_any_moment_a_slot_is_whole_or_empty(load, mlflow):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 (to repeat a failure)
    chance, folder, slots = random.Random(seed), load.new_folder(), {"one": "jumping", "two": "jumping"}
    # Before a change of the file system, which a clock would seldom hit, and at times.
    moments = [*chance.sample(range(1, 70), 20), *(chance.uniform(0, 0.3) for _ in range(6))]
    chance.shuffle(moments)
    killed = 0
    with services.Proxy(mlflow.s3, slow) as s3:
        for turn, moment in enumerate(moments):
            mlflow.alias("jumping", str(turn % 2 + 1))
            change = {"KILL_AT": str(moment)} if isinstance(moment, int) else {}
            with load.started(slots, folder, MLFLOW_S3_ENDPOINT_URL=s3.url, **change) as started:
                if not change:
                    wait_for_text(started.log, '"start"')
                    time.sleep(moment)
                    with contextlib.suppress(ProcessLookupError):  # It may have finished by then.
                        os.kill(started.pid, signal.SIGKILL)
            killed += started.run.code == -signal.SIGKILL
            for slot in started.run.slots():
                found = started.run.files(slot)
                whole = found in (mlflow.first, mlflow.second)
                assert whole, f"seed {seed}, turn {turn}: {slot} holds {sorted(found)} after\n{started.run.text}"
    mlflow.alias("jumping", "2")
    run = load(slots, folder)
    assert run.files("one") == run.files("two") == mlflow.second
    assert {path.name for path in folder.iterdir()} == {"one", "two"}
    assert killed >= 10


# --- Log and settings -------------------------------------------------------------------------------

PASSWORDS = ["pa$s-w0rd", "with/slash?and#more", "with@at"]


@pytest.mark.parametrize("password", [*PASSWORDS, "%70ercent%2Fencoded"])
def test_the_log_holds_no_password_of_a_url(load, password):
    uri = f"http://someone:{password}@127.0.0.1:{services.free_port()}/base"
    run = load({"one": "live"}, MLFLOW_TRACKING_URI=uri, ADAPTERS_RETRIES="0")
    assert run.of("unavailable")
    assert password not in run.text
    for part in re.split(r"[/?#@]", password):
        assert len(part) < 4 or part not in run.text


def test_the_log_holds_no_credential_that_a_server_tells(load, mlflow):
    secrets = {
        "AWS_SESSION_TOKEN": "FwoGZXIvYXdzEXAMPLE+/=token",
        "MLFLOW_TRACKING_USERNAME": "someone",
        "MLFLOW_TRACKING_PASSWORD": "hunter2-hunter2",
    }
    told = "; ".join(
        [
            *secrets.values(),
            *services.CREDENTIALS.values(),
            "GET /b/k?X-Amz-Credential=AKIAIOSFODNN7EXAMPLE&X-Amz-Signature=deadbeefdeadbeef failed",
            "https://u:in-the-url@host/x",
            "Authorization: Bearer abcdef.0123456789",
            '{"password": "in-json"}',
        ]
    )
    body = json.dumps({"error_code": "INTERNAL_ERROR", "message": told}).encode()
    with services.Proxy(mlflow.mlflow, lambda *_: (400, body)) as proxy:
        run = load({"one": "live"}, MLFLOW_TRACKING_URI=proxy.url, **secrets)
    assert run.of("unavailable")
    wrong = ["hunter2-hunter2", "FwoGZXIvYXdz", "deadbeef", "AKIA", "in-the-url", "abcdef.0123456789", "in-json"]
    assert [text for text in [*wrong, *services.CREDENTIALS.values()] if text in run.text] == []


def test_the_log_holds_no_credential_of_an_artifact_s_address(load, mlflow):
    mlflow.model("addresses")
    source = "https://u:topsecret@bucket.example/x?X-Amz-Signature=deadbeefdeadbeef"
    mlflow.version({}, ("live",), "addresses", source=source)
    run = load({"one": "live"}, ADAPTER_MODEL="addresses")
    assert "only s3:// and mlflow-artifacts:/" in run.of("refused")[0]["reason"]
    assert "topsecret" not in run.text
    assert "deadbeef" not in run.text


def test_a_local_path_is_not_read(load, mlflow, tmp_path):
    fill(tmp_path / "adapter", services.adapter())
    mlflow.model("local")
    # The server refuses such a source itself, so it is told afterwards what it never accepted.
    mlflow.version({}, ("live",), "local")
    body = json.dumps({"artifact_uri": f"file://{tmp_path}"}).encode()

    def lie(_method, path, status, given):
        return (status, body) if "get-download-uri" in path else (status, given)

    with services.Proxy(mlflow.mlflow, lie) as proxy:
        run = load({"one": "live"}, ADAPTER_MODEL="local", MLFLOW_TRACKING_URI=proxy.url)
    assert run.slots() == set()
    assert "only s3:// and mlflow-artifacts:/" in run.of("refused")[0]["reason"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ADAPTERS_PATH", "relative"),
        ("ADAPTER_MODEL", ""),
        ("ADAPTER_SLOTS", '{"../up": "live"}'),
        ("ADAPTER_SLOTS", '{"one": 1}'),
        ("ADAPTER_SLOTS", "[]"),
        ("ADAPTER_SLOTS", "no"),
        ("ADAPTER_ARTIFACT", "../adapter"),
        ("ADAPTER_ARTIFACT", "/adapter"),
        ("ADAPTER_BASE_MODELS", "one"),
        ("ADAPTER_MAX_RANK", "many"),
        ("ADAPTERS_REQUIRED", "maybe"),
        ("ADAPTERS_SECONDS", None),
        ("ADAPTERS_SIZE", "4Gi"),
        ("MLFLOW_TRACKING_URI", "file:///mlruns"),
    ],
)
def test_wrong_settings_are_named(load, tmp_path, name, value):
    environment = load.environment(tmp_path / "slots", {"one": "live"}, **{name: value})
    with pytest.raises(ValueError, match=f"{name} is .*: must be "):
        program.read_settings(environment)


def test_wrong_settings_end_the_program(load):
    run = load({"one": "live"}, ADAPTER_MAX_RANK="many")
    assert (run.code, [item["event"] for item in run.events]) == (EXIT["misconfigured"], ["misconfigured"])


def test_a_volume_that_cannot_be_written(load, tmp_path):
    (tmp_path / "file").write_text("")
    run = load({"one": "live"}, tmp_path / "file")
    assert run.code == EXIT["failed"]
    assert run.of("failed")


def test_every_line_says_when_how_grave_and_what(odd):
    for line in odd[0].events:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", line["time"])
        assert line["level"] in ("info", "warning", "error")
        assert line["event"]


# --- Models ------------------------------------------------------------------------------------------


PICKLED = {"MLmodel": b"flavors: {}", "model.pkl": b"\x80\x04N.", "code/own.py": b"x = 1"}


def models(slots: dict, **changes) -> dict:
    """The environment of MLServer's loader."""
    adapters = {name: None for name in os.environ if name.startswith("ADAPTER")}
    patience = {"MODELS_SECONDS": "120", "MODELS_RETRIES": "1", "MODELS_SIZE": str(1 << 20)}
    return {**adapters, "MODEL_SLOTS": json.dumps(slots), **patience, **changes}


def load_models(load, slots: dict, folder: Path | None = None, **changes) -> Run:
    folder = folder or load.new_folder()
    return load({}, folder, **models(slots, MODELS_PATH=str(folder), **changes))


@pytest.fixture(scope="module")
def registered(mlflow):
    """Registered models: whole, and with a truncated weights' file; the same in a folder of the bucket."""
    mlflow.model("prices")
    mlflow.version(PICKLED, ("live",), "prices", "{run}/adapter")
    broken = {"model.safetensors": services.weights()[:-9]}
    mlflow.version(broken, ("broken",), "prices", "{run}/adapter")
    for name, content in PICKLED.items():
        mlflow.put(f"models/prices/{name}", content)
    return {"model": "prices", "alias": "live"}


def test_models_come_from_an_alias_or_a_bucket(load, registered):
    bucket = {"uri": f"s3://{services.BUCKET}/models/prices"}
    run = load_models(load, {"registry": registered, "bucket": bucket})
    assert run.code == EXIT["ok"], run.text
    # A pickle is what a model is.
    assert run.files("registry") == run.files("bucket") == PICKLED
    assert run.of("loaded", slot="registry", version="1", alias="live")
    assert run.of("loaded", slot="bucket", uri=bucket["uri"])
    # A restarted container has its volume still.
    again = load_models(load, {"registry": registered, "bucket": bucket}, run.folder)
    assert [item["slot"] for item in again.of("kept")] == ["registry", "bucket"]
    assert not again.of("download")


def test_a_bucket_needs_no_mlflow(load, registered):
    slots = {"bucket": {"uri": f"s3://{services.BUCKET}/models/prices/"}}
    run = load_models(load, slots, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (run.code, run.files("bucket")) == (EXIT["ok"], PICKLED), run.text


def test_what_changed_in_a_bucket_is_loaded_anew(load, mlflow, registered):
    for name, content in PICKLED.items():
        mlflow.put(f"models/changing/{name}", content)
    slots = {"bucket": {"uri": f"s3://{services.BUCKET}/models/changing"}}
    run = load_models(load, slots)
    mlflow.put("models/changing/more", b"1")
    assert load_models(load, slots, run.folder).files("bucket") == {**PICKLED, "more": b"1"}


@pytest.mark.parametrize(
    ("source", "code", "event"),
    [
        ({"model": "prices", "alias": "nobody"}, "refused", "alias_missing"),
        ({"model": "nothing", "alias": "live"}, "refused", "alias_missing"),
        ({"model": "prices", "alias": "broken"}, "refused", "refused"),
        ({"uri": f"s3://{services.BUCKET}/models/nothing"}, "refused", "refused"),
        ({"uri": "s3://no-such-bucket/models"}, "refused", "refused"),
        ({"uri": "file:///etc"}, "refused", "refused"),
    ],
)
def test_without_one_of_its_models_the_server_does_not_start(load, registered, source, code, event):
    run = load_models(load, {"good": registered, "bad": source})
    assert run.code == EXIT[code], run.text
    assert run.of(event)
    assert run.events[-1]["empty"] == ["bad"]


@pytest.mark.parametrize("change", ["no answer", "alias gone", "broken"])
def test_a_restarted_pod_serves_again_what_it_has(load, mlflow, registered, change):
    name = f"restarted, {change}"
    mlflow.model(name)
    mlflow.version(PICKLED, ("live",), name, "{run}/adapter")
    slots = {"one": {"model": name, "alias": "live"}}
    run = load_models(load, slots)
    more = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "MODELS_RETRIES": "0"} if change == "no answer" else {}
    if change == "alias gone":
        mlflow.alias("live", None, name)
    elif change == "broken":
        mlflow.version({"model.safetensors": b"x"}, ("live",), name, "{run}/adapter")
    again = load_models(load, slots, run.folder, **more)
    assert (again.code, again.files("one")) == (EXIT["ok"], PICKLED), again.text
    # A pod without the volume does not start.
    assert load_models(load, slots, **more).code != EXIT["ok"]


def test_without_an_answer_the_server_does_not_start(load, registered):
    run = load_models(load, {"one": registered}, MLFLOW_TRACKING_URI="http://127.0.0.1:9", MODELS_RETRIES="0")
    assert (run.code, run.of("unavailable")[0]["what"]) == (EXIT["unavailable"], "MLflow"), run.text


@pytest.mark.parametrize(
    "slots",
    [
        "[]",
        "{",
        '{"../up": {"uri": "s3://b/m"}}',
        '{"a": {}}',
        '{"a": {"uri": "s3://b/m", "model": "m", "alias": "a"}}',
        '{"a": {"model": "m"}}',
        '{"a": {"url": "s3://b/m"}}',
    ],
)
def test_wrong_slots_of_models_are_told(load, slots):
    run = load_models(load, {}, MODEL_SLOTS=slots)
    assert run.code == EXIT["misconfigured"], run.text
    assert "MODEL_SLOTS" in run.of("misconfigured")[0]["reason"]


# --- docs/adapters.md -------------------------------------------------------------------------------


def table(first: str) -> list[str]:
    """The first cells of the table that begins so."""
    lines = (
        (services.ROOT / "docs" / "adapters.md").read_text().split(f"| {first} |", 1)[1].split("\n\n")[0].splitlines()
    )
    return [line.split("|")[1] for line in lines[2:]]


def test_every_event_is_documented():
    documented = re.findall(r"`(\w+)`", " ".join(table("event")))
    written = set(re.findall(r'log\(\s*(?:"\w+"|"\w+" if .*? "\w+"), "(\w+)"', PROGRAM.read_text()))
    assert (len(documented), set(documented)) == (len(set(documented)), written)


def test_every_exit_code_is_documented():
    documented = [int(code) for code in re.findall(r"\d+", " ".join(table("exit code")))]
    assert documented == [*EXIT.values(), 128 + signal.SIGTERM, 128 + signal.SIGINT]
    assert list(EXIT.values()) == [getattr(program, name.upper()) for name in EXIT]
