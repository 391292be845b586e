"""The scripts in the servers' ConfigMaps, as the roles render them: start.sh in several shells, drain.py and started.py against a server.

`vllm` is replaced by a script that prints its arguments, since the real one needs a GPU.
"""

import contextlib
import http.server
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

SHELLS = {"sh": ["sh"], "dash": ["dash"], "bash": ["bash", "--posix"]}
LIVE, STAGED = "aws-rag-qa-live", "aws-rag-qa-candidate"
# What the role accepts: words that mean something to a shell or to YAML, too.
ODD_SLOTS = [
    "a.b-c_d",
    "a..b",
    "9.",
    "x--lora-modules",
    "true",
    "null",
    "first",
    "slot",
    "done",
    "EOF",
    "A" * 200,
    "7",
    "0.5",
]
# Whatever a shell could take apart, expand or swallow.
WORDS = [
    "", " ", "two words", "  ", "\t", "a\nb", "'", '"', "it's", '{"level": 3}', "$HOME", "${PATH}", "$(touch pwned)",
    "`touch pwned`", "*", "?", "[a-z]", "~", "{a,b}", "\\", "\\n", "a\\", "%s", "!", "#", ";", "&", "|", ">pwned", "-n",
    "-e", "--", "ä", "{{ no }}",
]  # fmt: skip
CASES = {
    "default": {
        "vllm_judge_variant": "judge",
        "mlserver_enabled_profiles": ["mlserver"],
        "mlserver_models": {name: {"uri": "/m", "implementation": "own.Model"} for name in ("a", "b")},
    },
    "one": {"vllm_adapter_slots": {"only": "live"}},
    "odd": {"vllm_adapter_slots": dict.fromkeys(ODD_SLOTS, "live")},
    "key": {"vllm_lora_enabled": False, "vllm_api_key_secret": {"name": "vllm", "key": "key"}},
    # Of a version whose flags are not known here.
    "none": {
        "vllm_adapter_slots": {},
        "vllm_image": "vllm/vllm-openai:v0.0.0",
        "vllm_extra_args": {f"flag-{i}": word for i, word in enumerate(WORDS)},
    },
}

STAND_IN = '#!/bin/sh\nfor word in vllm "$@"; do printf "%s\\0" "$word"; done\neval "${AFTER-}"\n'


@pytest.fixture(scope="module")
def folder():
    """A folder that other users can read, unlike pytest's own; adapters/CASE in it are the slots' parents."""
    with tempfile.TemporaryDirectory(prefix="start_script_") as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "bin").mkdir()
        (path / "bin" / "vllm").write_text(STAND_IN)
        (path / "bin" / "vllm").chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def rendered(render, folder) -> dict[tuple[str, str], dict]:
    """{(case, kind and name): object}."""
    cases = {
        case: {"vllm_judge_variant": "none", "vllm_adapters_path": str(folder / "adapters" / case), **variables}
        for case, variables in CASES.items()
    }
    return {
        (case, f"{item['kind']} {item['metadata']['name']}"): item
        for case, result in render(cases, ("vllm", "vllm_judge", "mlserver")).items()
        for item in result["objects"]
    }


@pytest.fixture(scope="module")
def start(rendered, folder):
    """Run a case's start.sh as a user who is not root: start(case, shell, arguments) gives what vllm was started with."""
    for (case, name), item in rendered.items():
        if name.endswith("-startup"):
            (folder / f"{case}-{item['metadata']['name']}.sh").write_text(item["data"]["start.sh"])
    # Root may read everything. (By a program, since Python itself would have to copy its own process for it.)
    other = [shutil.which("setpriv"), "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []

    def start_(case, shell, arguments=(), server="vllm", path=folder / "bin", after="", **env):
        done = subprocess.run(
            [
                *other,
                shutil.which(SHELLS[shell][0]),
                *SHELLS[shell][1:],
                folder / f"{case}-{server}-startup.sh",
                *arguments,
            ],
            cwd="/",
            # Nothing else is in PATH: the script needs no other program.
            env={"PATH": str(path), "AFTER": after, **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        done.words = done.stdout.split("\0")[:-1]
        return done

    return start_


@pytest.mark.parametrize("shell", SHELLS)
def test_a_key_that_is_empty_starts_no_server(start, shell):
    done = start("key", shell, ["org/model"], VLLM_API_KEY="hush")
    assert (done.words, done.stderr) == (["vllm", "serve", "org/model"], "")
    for empty in ({}, {"VLLM_API_KEY": ""}):
        done = start("key", shell, ["org/model"], **empty)
        assert (done.returncode != 0, done.words) == (True, [])
        assert "VLLM_API_KEY: the key in the Secret is empty" in done.stderr


# --- Slots -----------------------------------------------------------------------------------------


def filled(slot):
    slot.mkdir(parents=True)
    (slot / "adapter_config.json").write_text("{}")
    (slot / "adapter_model.safetensors").write_text("weights")


def empty_folder(slot):
    slot.mkdir(parents=True)


def only_weights(slot):
    filled(slot)
    (slot / "adapter_config.json").unlink()


def empty_configuration(slot):
    filled(slot)
    (slot / "adapter_config.json").write_text("")


def unreadable_configuration(slot):
    filled(slot)
    (slot / "adapter_config.json").chmod(0)


def folder_as_configuration(slot):
    (slot / "adapter_config.json").mkdir(parents=True)


def pipe_as_configuration(slot):
    slot.mkdir(parents=True)
    os.mkfifo(slot / "adapter_config.json")


def dangling_configuration(slot):
    slot.mkdir(parents=True)
    (slot / "adapter_config.json").symlink_to("nowhere")


def linked_configuration(slot):
    filled(slot)
    (slot / "adapter_config.json").rename(slot / "elsewhere")
    (slot / "adapter_config.json").symlink_to("elsewhere")


def linked_folder(slot):
    filled(slot.with_name(f"{slot.name}.1"))
    slot.symlink_to(f"{slot.name}.1")


def dangling_folder(slot):
    slot.parent.mkdir(parents=True, exist_ok=True)
    slot.symlink_to("nowhere")


def closed_folder(slot):
    filled(slot)
    slot.chmod(0)


def file_as_folder(slot):
    slot.parent.mkdir(parents=True, exist_ok=True)
    slot.write_text("{}")


def absent(slot):
    """Make nothing."""


FULL = [filled, linked_configuration, linked_folder]
NOT_FULL = [
    absent,
    empty_folder,
    only_weights,
    empty_configuration,
    unreadable_configuration,
    folder_as_configuration,
    pipe_as_configuration,
    dangling_configuration,
    dangling_folder,
    closed_folder,
    file_as_folder,
]


def make(folder, case, slots) -> Path:
    """Put a case's slots into these states, from nothing."""
    parent = folder / "adapters" / case
    shutil.rmtree(parent, ignore_errors=True)
    for slot, state in slots.items():
        state(parent / str(slot))
    return parent


@pytest.mark.parametrize("shell", SHELLS)
def test_just_the_slots_that_hold_an_adapter_are_named(start, folder, shell):
    for live, staged in itertools.product([*FULL, *NOT_FULL], repeat=2):
        slots = {LIVE: live, STAGED: staged}
        parent = make(folder, "default", slots)
        named = [f"{slot}={parent}/{slot}" for slot, state in slots.items() if state in FULL]
        done = start("default", shell, ["org/model", "--enable-lora"])
        what = (live.__name__, staged.__name__)
        expected = ["vllm", "serve", "org/model", "--enable-lora", *(["--lora-modules", *named] if named else [])]
        assert (what, done.returncode, done.words) == (what, 0, expected)
        left_out = [slot for slot, state in slots.items() if state not in FULL]
        assert done.stderr.splitlines() == [f"start.sh: no adapter in slot {slot}" for slot in left_out]


@pytest.mark.parametrize("shell", SHELLS)
def test_slots_with_odd_names(start, folder, shell):
    parent = make(folder, "odd", dict.fromkeys(ODD_SLOTS, filled))
    assert start("odd", shell).words == ["vllm", "serve", "--lora-modules", *(f"{s}={parent}/{s}" for s in ODD_SLOTS)]
    parent = make(folder, "odd", {**dict.fromkeys(ODD_SLOTS, filled), "done": only_weights})
    done = start("odd", shell)
    assert done.words[3:] == [f"{s}={parent}/{s}" for s in ODD_SLOTS if s != "done"]
    assert done.stderr == "start.sh: no adapter in slot done\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_what_lies_beside_the_slots_is_not_served(start, folder, shell):
    parent = make(folder, "one", {"only": filled, "other": filled, ".only.partial": filled})
    assert start("one", shell).words == ["vllm", "serve", "--lora-modules", f"only={parent}/only"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("case", "server"), [("none", "vllm"), ("default", "judge-vllm")])
def test_a_server_without_slots_has_no_adapters(start, folder, shell, case, server):
    make(folder, case, {LIVE: filled})
    done = start(case, shell, ["org/model"], server=server)
    assert (done.words, done.stderr) == (["vllm", "serve", "org/model"], "")


# --- Arguments, status, signals ----------------------------------------------------------------------


@pytest.mark.parametrize("shell", SHELLS)
def test_arguments_arrive_as_they_are(start, folder, shell):
    parent = make(folder, "one", {"only": filled})
    assert start("one", shell, WORDS).words == ["vllm", "serve", *WORDS, "--lora-modules", f"only={parent}/only"]
    assert start("one", shell, []).words == ["vllm", "serve", "--lora-modules", f"only={parent}/only"]


def test_arguments_of_the_inventory_arrive_as_they_are(start, rendered):
    (container,) = rendered["none", "Deployment vllm"]["spec"]["template"]["spec"]["containers"]
    given = [f"--flag-{i}={word}" for i, word in enumerate(WORDS)]
    assert container["command"][0] == "/bin/sh"
    assert container["args"][-len(WORDS) :] == given
    assert start("none", "sh", container["args"]).words[-len(WORDS) :] == given


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(("after", "status"), [("exit 0", 0), ("exit 1", 1), ("exit 42", 42), ("kill -KILL $$", -9)])
def test_the_status_is_vllms(start, shell, after, status):
    assert start("default", shell, after=after).returncode == status


@pytest.mark.parametrize("shell", SHELLS)
def test_an_image_without_vllm_says_so(start, folder, shell):
    done = start("default", shell, path=folder / "adapters")
    assert done.returncode == 127
    assert "vllm" in done.stderr


WAITING = """#!{python}
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print(os.getpid(), flush=True)
signal.pause()
"""


@pytest.mark.parametrize("shell", SHELLS)
def test_signals_reach_vllm(rendered, tmp_path, shell):
    program = tmp_path / "vllm"
    program.write_text(WAITING.format(python=sys.executable))
    program.chmod(0o755)
    (tmp_path / "start.sh").write_text(rendered["default", "ConfigMap vllm-startup"]["data"]["start.sh"])
    command = [shutil.which(SHELLS[shell][0]), *SHELLS[shell][1:], "start.sh"]
    started = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={"PATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        # The shell's own process: with a shell between them, the container's first process would not be vLLM.
        assert int(started.stdout.readline()) == started.pid
        started.terminate()
        assert started.wait(60) == 7
    finally:
        # All of it, should the shell have stayed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        started.communicate()


def test_the_scripts_are_clean_posix_shell(rendered):
    scripts = [item["data"]["start.sh"] for (_, name), item in rendered.items() if name.endswith("-startup")]
    assert len(set(scripts)) == len(CASES)  # the judge's is that of the case none
    for script in scripts:
        command = [Path(sys.executable).parent / "shellcheck", "--shell=sh", "--severity=style", "-"]
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "")


# --- drain.py ----------------------------------------------------------------------------------------

COUNTS = (
    "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
    "# TYPE vllm:num_requests_running gauge\n"
    'vllm:num_requests_running{{engine="0",model_name="org/model{{}}"}} {0}\n'
    'vllm:num_requests_waiting{{engine="0",model_name="org/model{{}}"}} {1}\n'
    'vllm:num_requests_running{{engine="1",model_name="org/model{{}}"}} {2}\n'
    'vllm:num_requests_waiting{{engine="1",model_name="org/model{{}}"}} 0.0\n'
    "vllm:num_preemptions_total 5.0\n"
)
IDLE = COUNTS.format("0.0", "0.0", "0.0")
RUNNING = COUNTS.format("2.0", "0.0", "0.0")
MLSERVER = (
    'rest_server_requests_in_progress{{app_name="mlserver",method="POST"}} {}\n'
    'grpc_server_started_total{{grpc_method="ModelInfer"}} {}.0\n'
    'grpc_server_handled_total{{code="OK",grpc_method="ModelInfer"}} {}.0\n'
)
LONG = 600  # seconds: whoever ends before ended because of an answer


class Vllm(http.server.ThreadingHTTPServer):
    """Stands in for vLLM's /metrics: a list of answers, one a request, the last one for ever."""

    daemon_threads = True

    def __init__(self, *answers):
        self.answers, self.asked = answers, 0
        super().__init__(("127.0.0.1", 0), _Answer)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked += 1
        answer = self.server.answers[min(self.server.asked, len(self.server.answers)) - 1]
        with contextlib.suppress(OSError):
            answer(self) if callable(answer) else self.say(200, answer)

    def say(self, status, text, length=None):
        self.send_response(status)
        self.send_header("Content-Length", str(length or len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def broken_off(handler):
    handler.say(200, RUNNING, length=2 * len(RUNNING))


def failing(handler):
    handler.say(500, IDLE)


def hung_up(handler):
    handler.connection.shutdown(socket.SHUT_RDWR)


def not_http(handler):
    handler.wfile.write(b"what?\r\n\r\n")


def not_text(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(b"\xff\xfe")


def never_ending(handler):
    handler.say(200, "#", length=1000000)
    while not threading.Event().wait(0.2):
        handler.wfile.write(b"#")


# name: answers (None: nobody listens), seconds, how often it asks (None: as often as it can)
DRAINS = {
    "idle": ([IDLE], LONG, 1),
    "running": ([RUNNING, RUNNING, IDLE, RUNNING], LONG, 3),
    "waiting": ([COUNTS.format("0.0", "1.0", "0.0"), IDLE], LONG, 2),
    "another engine": ([COUNTS.format("0.0", "0.0", "1e+00"), IDLE], LONG, 2),
    "no counts": (["vllm:num_preemptions_total 0.0\n", "", IDLE], LONG, 3),
    "broken off": ([broken_off, IDLE], LONG, 2),
    "hung up": ([hung_up, hung_up, hung_up, hung_up, IDLE], LONG, 5),
    "no HTTP": ([not_http, IDLE], LONG, 2),
    "no text": ([not_text, IDLE], LONG, 2),
    "status 500": ([failing, failing, failing, failing, RUNNING, IDLE], LONG, 6),
    "nobody listens": (None, LONG, 0),
    "always busy": ([RUNNING], 15, None),
    "never ending answer": ([never_ending], 15, 1),
    "no time": ([RUNNING], 0, 0),
    # MLServer's: what runs over gRPC is what began without what ended.
    "gRPC": ([MLSERVER.format("1.0", 7, 7), MLSERVER.format("0.0", 9, 7), MLSERVER.format("0.0", 9, 9)], LONG, 3),
    "no gRPC yet": ([MLSERVER.splitlines()[0].format("1.0"), MLSERVER.splitlines()[0].format("0.0")], LONG, 2),
}


def drain_command(deployment: dict) -> list[str]:
    return deployment["spec"]["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]


@pytest.fixture(scope="module", autouse=True)
def drains(rendered, tmp_path_factory):
    """All of DRAINS at once and from the start, since each takes seconds: {name: (process, server)}."""
    script = tmp_path_factory.mktemp("drain") / "drain.py"
    script.write_text(rendered["default", "ConfigMap vllm-startup"]["data"]["drain.py"])
    metrics = [
        metric
        for name in ("vllm", "mlserver")
        for metric in drain_command(rendered["default", f"Deployment {name}"])[4:]
    ]
    with socket.socket() as nobody, contextlib.ExitStack() as stack:
        # Bound and not listened on: refused, and nobody else's.
        nobody.bind(("127.0.0.1", 0))
        running = {}
        for name, (answers, seconds, _) in DRAINS.items():
            server = stack.enter_context(Vllm(*answers)) if answers else None
            port = server.server_port if server else nobody.getsockname()[1]
            process = subprocess.Popen(
                [sys.executable, script, str(port), str(seconds), *metrics],
                # A pod's proxy is not for itself.
                env={"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            stack.callback(process.kill)
            running[name] = (process, server)
        yield running
        for _, server in running.values():
            if server:
                server.shutdown()


@pytest.mark.parametrize("name", DRAINS)
def test_drain(drains, name):
    process, server = drains[name]
    asked = DRAINS[name][2]
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output) == (0, "")
    if asked is None:
        assert server.asked
    else:
        assert (server.asked if server else 0) == asked


@pytest.mark.parametrize(("missing", "said"), [(None, ""), ("/v2/models/b/ready", "b is not ready: HTTP Error 404")])
def test_an_mlserver_has_started_when_every_model_is_loaded(rendered, tmp_path, missing, said):
    class Models(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path == missing else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    container = rendered["default", "Deployment mlserver"]["spec"]["template"]["spec"]["containers"][0]
    _, path, _, *models = container["startupProbe"]["exec"]["command"]
    script = tmp_path / "started.py"
    script.write_text(rendered["default", "ConfigMap mlserver"]["data"][Path(path).name])
    with http.server.HTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [sys.executable, script, str(server.server_port), *models]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        server.shutdown()
    assert (done.returncode, done.stderr.strip()[: len(said)]) == (1 if missing else 0, said)
