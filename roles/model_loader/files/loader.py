"""Fills folders with vLLM's adapters or MLServer's models, from MLflow's model registry or a bucket, before the server starts.

Runs in an init container, on the Python, mlflow (2 or 3) and boto3 of its image. A slot is a folder below ADAPTERS_PATH or
MODELS_PATH; it is filled in a hidden folder beside, checked, and renamed, so it holds a whole adapter or model, or none.
Variables, log events and exit codes: docs/adapters.md.
"""

import hashlib
import http.client
import io
import json
import math
import os
import random
import re
import shutil
import signal
import stat
import sys
import threading
import time
import warnings
from collections import namedtuple
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

OK, FAILED, MISCONFIGURED, UNAVAILABLE, REFUSED, DEADLINE = 0, 1, 2, 3, 4, 5
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
STAGING, RECORD = ".loader", ".loader.json"
# A pickle runs code when it is loaded.
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"}
SLOT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
MAX_FILES = 1000
MAX_CONFIG_BYTES = 1 << 20
# The format's own limit of a header, and what an element takes: github.com/huggingface/safetensors, tensor.rs.
MAX_HEADER_BYTES = 100_000_000
BITS = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8}
BITS |= {"I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32}
BITS |= {"F64": 64, "I64": 64, "U64": 64, "C64": 64}
DENIED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED", "401", "403", "AccessDenied", "ExpiredToken"}
DENIED |= {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidIdentityToken"}
ABSENT = {"404", "NoSuchKey", "NoSuchBucket"}
CHUNK = 1 << 20


class Refused(Exception):
    """What was found is not what the server may be given."""


class Missing(Exception):
    """The registry has no such model or alias."""


class Unavailable(Exception):
    """MLflow or its artifact store gives no answer, or a refusal that no retry heals."""


class Corrupt(Exception):
    """What arrived is not what the store says it has."""


File = namedtuple("File", "name size etag")
# Where a slot's content is: an alias of a registered model, or a folder of a bucket.
Source = namedtuple("Source", "model alias uri", defaults=("", "", ""))
Settings = namedtuple("Settings", "kind path artifact slots bases rank size required strict seconds retries")


# --- Log -----------------------------------------------------------------------------------------


def find_secrets(environment):
    """List the credentials in an environment: values of variables that are named like one, passwords within URLs."""
    found = set()
    for name, value in environment.items():
        named = re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY|API_KEY|CREDENTIAL", name.upper())
        if named and not name.upper().endswith(("_FILE", "_URI", "_URL", "_PATH")):
            found.add(value)
        for userinfo in re.findall(r"://(\S*)@", value):
            password = userinfo.partition(":")[2]
            found |= {password, unquote(password), *re.split(r"[:/?#@]", password)}
            # A token may stand in the user's place, without a password.
            found |= set() if password else {userinfo, unquote(userinfo)}
    return sorted((secret for secret in found if len(secret) >= 4), key=len, reverse=True)


SECRETS = find_secrets(os.environ)
PATTERNS = [
    (re.compile(r"://[^\s'\"]*@"), "://(hidden)@"),
    (re.compile(r"\?[\w.%-]+=[^\s'\")>]*"), "?(hidden)"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), r"\1 (hidden)"),
    (re.compile(r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{12,}|hf_\w{20,})"), "(hidden)"),
    (re.compile(r"(?i)((?:password|secret|token|credential|api_?key|access_?key|signature)[\w-]*['\"]?\s*[=:]\s*['\"]?)[^\s'\",}&]+"), r"\1(hidden)"),
]  # fmt: skip


def clean(text):
    """Hide what is, or looks like, a credential."""
    for secret in SECRETS:
        text = text.replace(secret, "(hidden)")
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _cleaned(value):
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, (list, tuple)):
        return [_cleaned(item) for item in value]
    return {clean(str(key)): _cleaned(item) for key, item in value.items()} if isinstance(value, dict) else value


def log(level, event, **fields):
    """Write one line of JSON: time, level, event, and what belongs to it."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    line = {"time": now, "level": level, "event": event, **_cleaned(fields)}
    # One write, past Python's buffers: whole lines from every thread, nothing lost at os._exit.
    os.write(1, json.dumps(line).encode() + b"\n")


class Foreign(io.TextIOBase):
    """What libraries print becomes lines of the log, without credentials."""

    def writable(self):
        """Tell that text can be written."""
        return True

    def write(self, text):
        """Log each line that is not empty."""
        for line in text.splitlines():
            if line.strip():
                log("info", "output", text=line)
        return len(text)


# --- Settings ------------------------------------------------------------------------------------


def _matching(pattern):
    return lambda text: re.fullmatch(pattern, text).group()


def _aliases(text):
    found = json.loads(text)
    if not all(SLOT.fullmatch(word) for pair in found.items() for word in pair):
        raise ValueError
    return found


def _sources(text):
    found = {slot: Source(**source) for slot, source in json.loads(text).items()}
    for slot, source in found.items():
        if not SLOT.fullmatch(slot) or bool(source.uri) == bool(source.model and source.alias):
            raise ValueError
    return found


# What each variable must be, in code and in words.
ABSOLUTE = (lambda text: Path(_matching(r"/.*")(text)), "an absolute path")
RELATIVE = (_matching(r"(?!(.*/)?\.\.?(/|$))[^/\\\0]+(/[^/\\\0]+)*"), "a relative folder without ..")
NUMBER = (lambda text: int(_matching(r"[0-9]+")(text)), "a whole number")
BOOLEAN = (lambda text: {"true": True, "false": False}[text], "true or false")
URL = (_matching(r"https?://\S+"), "a URL, http:// or https://")
NAME = (_matching(r".+"), "a registered model's name")
BASES = (lambda text: [item.rstrip("/").lower() for item in json.loads(text)], "a JSON list")
ALIASES = (_aliases, "JSON, folder to alias: letters, digits, ., _ and -")
SOURCES = (_sources, "JSON, folder to {model, alias} or {uri}")


def read_settings(environment):
    """Read the environment.

    Raises:
        ValueError: names the variable and what is allowed.
    """

    def read(name, parsed):
        try:
            return parsed[0](environment[name])
        except (KeyError, ValueError, TypeError, AttributeError):
            raise ValueError(f"{name} is {environment.get(name)!r}: must be {parsed[1]}") from None

    kind = "model" if "MODEL_SLOTS" in environment else "adapter"
    shared = {"PATH": ABSOLUTE, "SIZE": NUMBER, "SECONDS": NUMBER, "RETRIES": NUMBER}
    settings = {name.lower(): read(f"{kind.upper()}S_{name}", parsed) for name, parsed in shared.items()}
    if kind == "model":
        # A server without its model has nothing to serve: the pod before this one still does.
        settings |= {"slots": read("MODEL_SLOTS", SOURCES), "required": True, "strict": True}
        settings |= {"artifact": "", "bases": [], "rank": 0}
    else:
        model = read("ADAPTER_MODEL", NAME)
        aliases = read("ADAPTER_SLOTS", ALIASES)
        settings |= {
            "slots": {slot: Source(model, alias) for slot, alias in aliases.items()},
            "artifact": read("ADAPTER_ARTIFACT", RELATIVE),
            "bases": read("ADAPTER_BASE_MODELS", BASES),
            "rank": read("ADAPTER_MAX_RANK", NUMBER),
            "required": read("ADAPTERS_REQUIRED", BOOLEAN),
            "strict": read("ADAPTERS_STRICT", BOOLEAN),
        }
    if kind == "adapter" or any(source.model for source in settings["slots"].values()):
        read("MLFLOW_TRACKING_URI", URL)
    return Settings(kind=kind, **settings)


# --- What may be in a slot -----------------------------------------------------------------------


def check_listing(files, kind):
    """Refuse what must not be downloaded: names that leave the slot, too much, and of an adapter pickles and too little.

    Args:
        files: all that is in the artifact folder.
        kind: ``adapter`` or ``model``.

    Raises:
        Refused: with the name.
    """
    names, folders = [file.name for file in files], set()
    if len(files) > MAX_FILES:
        raise Refused(f"has more than {MAX_FILES} files")
    for name in names:
        parts = name.split("/")
        odd = [part for part in parts if part in ("", ".", "..", RECORD) or len(part.encode(errors="replace")) > 255]
        if odd or not name.isprintable() or "\\" in name:
            raise Refused(f"holds {name!r}: a name must stay in the slot, without .., /, \\ or control characters")
        if kind == "adapter" and PurePosixPath(name.lower()).suffix in PICKLES:
            raise Refused(f"holds {name!r}, a pickle, which runs code when it is loaded: save weights as .safetensors")
        folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    both = sorted({*folders} & {*names}) or sorted(name for name in names if names.count(name) > 1)
    if both:
        raise Refused(f"holds {both[0]!r} twice, or as a file and a folder")
    for needed in (CONFIG, WEIGHTS):
        if kind == "adapter" and needed not in names:
            raise Refused(f"lacks {needed}")


def check_content(folder, settings):
    """Check the files of an adapter or a model.

    Args:
        folder: where they are.
        settings: what they are, and what the server allows.

    Returns:
        of an adapter its ``rank`` and ``base_model``.

    Raises:
        Refused: with what is wrong.
    """
    files = [file for file in tree(folder) if file.name != RECORD]
    check_listing(files, settings.kind)
    tensors = {file.name: read_safetensors(folder / file.name) for file in files if file.name.endswith(".safetensors")}
    return check_adapter(folder, tensors, settings) if settings.kind == "adapter" else {}


def check_adapter(folder, tensors, settings):
    """Check what vLLM would refuse in an adapter: see check_content; tensors: of each weights' file, name to shape."""
    config = read_config(folder / CONFIG)
    rank = check_rank(config, settings.rank)
    base = config.get("base_model_name_or_path")
    if not isinstance(base, str) or base.rstrip("/").lower() not in settings.bases:
        allowed = ", ".join(settings.bases)
        raise Refused(f"is for the base model {base!r}, not for one of {allowed} (vllm_adapter_base_models)")
    for file, shapes in tensors.items():
        for name, shape in shapes.items():
            if ".lora_A." in name and shape and shape[0] > settings.rank:
                raise Refused(f"{file} has rank {shape[0]} ({name}), above --max-lora-rank={settings.rank}")
    return {"rank": rank, "base_model": base}


def read_config(path):
    """Read adapter_config.json."""
    if path.stat().st_size > MAX_CONFIG_BYTES:
        raise Refused(f"{CONFIG} has more than {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refused(f"{CONFIG} is no JSON: {error}") from None
    if not isinstance(config, dict):
        raise Refused(f"{CONFIG} is no JSON object")
    # What vLLM refuses at its start, which would keep the whole server down: vllm/lora/peft_helper.py.
    for key, allowed in (("peft_type", "LORA"), ("bias", "none"), ("use_dora", False), ("modules_to_save", None)):
        if config.get(key, allowed) not in (allowed, [], None):
            raise Refused(f"{CONFIG} has {key} {config[key]!r}: vLLM serves only {allowed!r}")
    for key in ("lora_alpha", "target_modules"):
        if not config.get(key):
            raise Refused(f"{CONFIG} lacks {key}")
    return config


def check_rank(config, highest):
    """Give the highest rank in the configuration, or refuse it."""
    pattern = config.get("rank_pattern") or {}
    ranks = [config.get("r"), *(pattern.values() if isinstance(pattern, dict) else [None])]
    if not all(type(rank) is int and rank > 0 for rank in ranks):
        raise Refused(f"{CONFIG} must have r, and in rank_pattern ranks: positive whole numbers")
    if max(ranks) > highest:
        raise Refused(f"{CONFIG} has rank {max(ranks)}, above --max-lora-rank={highest} (vllm_max_lora_rank)")
    return max(ranks)


def read_safetensors(path):
    """Check a safetensors file against its own header.

    The format: 8 bytes length (little-endian), a JSON header, and the tensors without a gap between or after them.

    Returns:
        name to shape of its tensors.

    Raises:
        Refused: it is truncated, or none.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise Refused(f"{path.name} is truncated or no safetensors file: {size} bytes")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: (item["dtype"], item["shape"], *item["data_offsets"]) for name, item in header.items()}
            spans = sorted((begin, end) for _, _, begin, end in tensors.values())
            wrong = [name for name, item in tensors.items() if not _fills(*item)]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise Refused(f"{path.name} has no safetensors header: {type(error).__name__}") from None
    if wrong or not tensors:
        raise Refused(f"{path.name} has no tensors" if not tensors else f"{path.name}: the size of {wrong[0]} is wrong")
    # Each begins where the one before ends; the last ends with the file.
    if [begin for begin, _ in spans] + [size - 8 - length] != [0, *(end for _, end in spans)]:
        expected = 8 + length + spans[-1][1]
        raise Refused(f"{path.name} is truncated or damaged: {size} bytes, its header tells {expected}")
    return {name: item[1] for name, item in tensors.items()}


def _fills(dtype, shape, begin, end):
    numbers = [*shape, begin, end]
    valid = all(type(number) is int and number >= 0 for number in numbers)
    return valid and (end - begin) * 8 == math.prod(shape) * BITS[dtype]


# --- Where artifacts are -------------------------------------------------------------------------


class S3:
    """A folder in S3, read with the pod's own credentials.

    Not with mlflow's own reader: that resolves .. in keys, and knows neither deadline nor checksum.
    """

    def __init__(self, uri):
        import boto3
        from botocore.config import Config

        bucket, _, prefix = uri[len("s3://") :].partition("/")
        self.bucket, self.prefix = bucket, prefix.rstrip("/") + "/"
        self.client = boto3.client(
            "s3",
            # boto3 itself reads only AWS_DEFAULT_REGION.
            region_name=os.environ.get("AWS_REGION"),
            endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None,
            config=Config(connect_timeout=10, read_timeout=20, retries={"total_max_attempts": 1}),
        )

    def files(self):
        """List all files below the folder."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self.prefix)
        found = []
        for page in pages:
            for item in page.get("Contents", []):
                # A key that ends in / is how consoles make an empty folder.
                if not item["Key"].endswith("/"):
                    file = File(item["Key"][len(self.prefix) :], item["Size"], item["ETag"])
                    found.append(file)
            if len(found) > MAX_FILES:
                break
        return found

    def fetch(self, file, target):
        """Download a file.

        The ETag is the content's MD5, unless the object came in parts or is encrypted with a key of KMS; botocore checks
        the checksums that S3 keeps beside it.
        """
        answer = self.client.get_object(
            Bucket=self.bucket, Key=self.prefix + file.name, IfMatch=file.etag, ChecksumMode="ENABLED"
        )
        digest, etag = hashlib.md5(usedforsecurity=False), file.etag.strip('"')
        with target.open("wb") as out:
            for chunk in answer["Body"].iter_chunks(CHUNK):
                digest.update(chunk)
                out.write(chunk)
        plain = re.fullmatch(r"[0-9a-f]{32}", etag) and "kms" not in answer.get("ServerSideEncryption", "")
        if plain and "SSECustomerAlgorithm" not in answer and digest.hexdigest() != etag:
            raise Corrupt(f"{file.name}: MD5 is {digest.hexdigest()}, the store says {etag}")


class Proxied:
    """A folder that the MLflow server hands out (mlflow-artifacts:)."""

    def __init__(self, uri):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        self.repository = get_artifact_repository(uri)

    def files(self):
        """List all files below the folder."""
        found, folders = [], [None]
        while folders and len(found) <= MAX_FILES:
            folder = folders.pop()
            for item in self.repository.list_artifacts(folder):
                if folder and not item.path.startswith(f"{folder}/"):
                    raise Refused(f"holds {item.path!r}: a name must stay in the slot")
                if item.is_dir and item.path.count("/") < 20:
                    folders.append(item.path)
                elif not item.is_dir:
                    found.append(File(item.path, item.file_size, None))
        return found

    def fetch(self, file, target):
        """Download a file."""
        root = target.parents[file.name.count("/")]
        self.repository.download_artifacts(file.name, str(root))


def open_folder(uri):
    """Choose the reader of an artifact location."""
    scheme = uri.partition(":")[0]
    if scheme not in ("s3", "mlflow-artifacts"):
        raise Refused(f"is stored at {uri}: only s3:// and mlflow-artifacts:/ are read")
    return S3(uri) if scheme == "s3" else Proxied(uri)


def locations(client, ask, artifact, version):
    """Give the places where a version's content can be, likeliest first.

    A model is the version's own folder. An adapter is inside, or is that folder (registered from runs:/ID/adapter), or was
    logged beside in the run.
    """

    def run_folder(run_id):
        return ask("run", client.get_run, run_id).info.artifact_uri.rstrip("/")

    source = ask("version", client.get_model_version_download_uri, version.name, version.version).rstrip("/")
    if source.startswith("runs:/"):
        run_id, _, path = source[len("runs:/") :].lstrip("/").partition("/")
        source = f"{run_folder(run_id)}/{path}".rstrip("/")
    if not artifact:
        yield source
        return
    yield f"{source}/{artifact}"
    if source.endswith(f"/{artifact}"):
        yield source
    if version.run_id:
        beside = f"{run_folder(version.run_id)}/{artifact}"
        if beside not in (source, f"{source}/{artifact}"):
            yield beside


# --- Patience ------------------------------------------------------------------------------------


def interpret(error):
    """Tell what an error of a library means.

    Returns:
        the exception to raise at once, or None where a retry may help.

    Raises:
        the error itself, where it is none of the network or the stores.
    """
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError
    from mlflow.exceptions import MlflowException, RestException
    from requests.exceptions import RequestException
    from urllib3.exceptions import HTTPError

    code, text = "", f"{type(error).__name__}: {error}"
    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
    elif isinstance(error, RequestException):
        code = str(getattr(error.response, "status_code", ""))
    elif isinstance(error, MlflowException):
        code = error.error_code
        # Only MLflow's own answer says that something is missing; a wrong address answers 404, too.
        if isinstance(error, RestException) and (
            code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "not found" in str(error))
        ):
            return Missing(text)
        # A download's error has that of its file inside.
        inner = re.search(r"\b(\d{3}) Client Error", text)
        code = inner[1] if inner else code
    elif isinstance(error, (NoCredentialsError, PartialCredentialsError)):
        code = "AccessDenied"
    elif isinstance(error, OSError) and not isinstance(error, (ConnectionError, TimeoutError)):
        return Refused(f"can't be written: {error.strerror or error}")
    elif not isinstance(error, (BotoCoreError, HTTPError, http.client.HTTPException, OSError, Corrupt)):
        raise error
    if code in ABSENT:
        return Refused(f"is not in the store: {text}")
    return Unavailable(text) if code in DENIED else None


def patiently(retries, what, call, *arguments):
    """Call, and call again with a longer and longer pause.

    Args:
        retries: how often, after the first time.
        what: what is tried, for the log.
        call: a function.
        arguments: its arguments.

    Raises:
        Missing, Refused, Unavailable: as the last error means.
    """
    attempt = 0
    while True:
        try:
            return call(*arguments)
        except (Missing, Refused, Unavailable):
            raise
        except Exception as error:  # whatever a library raises; interpret() lets our own mistakes through
            final, text = interpret(error), f"{type(error).__name__}: {error}"
            if final:
                raise final from None
            if attempt == retries:
                raise (Refused if isinstance(error, Corrupt) else Unavailable)(text) from None
        pause = min(2**attempt, 30) * random.uniform(0.5, 1)  # noqa: S311 (jitter, no secret)
        attempt += 1
        log("warning", "retry", what=what, attempt=attempt, seconds=round(pause, 1), reason=text)
        time.sleep(pause)


# --- Slots ---------------------------------------------------------------------------------------


def tree(folder):
    """Give the files below a folder, which must be files and folders and nothing else."""
    for path in sorted(folder.rglob("*")):
        mode, name = path.lstat().st_mode, path.relative_to(folder).as_posix()
        if stat.S_ISREG(mode):
            yield File(name, path.stat().st_size, None)
        elif not stat.S_ISDIR(mode):
            raise Refused(f"holds {name!r}, which is no file: a link could leave the slot")


class Loader:
    """Fills the slots.

    Attributes:
        settings: what the environment says.
        lock: held while a folder becomes a slot; whoever ends the program takes it first, for good.
    """

    def __init__(self, settings):
        self.settings = settings
        self.lock = threading.Lock()
        self.staging = settings.path / STAGING
        self.ask = partial(patiently, settings.retries)
        self.filled, self.refused, self.unavailable, self.count = set(), False, False, 0
        # By source: the version that its alias names; its place, reader and files.
        self.client, self.versions, self.found = None, {}, {}

    def end(self, code):
        """End the program, with all threads of libraries; call it with the lock held."""
        shutil.rmtree(self.staging, ignore_errors=True)
        empty = sorted({*self.settings.slots} - self.filled)
        log("info" if code == OK else "error", "end", exit_code=code, filled=sorted(self.filled), empty=empty)
        os._exit(code)

    def watch(self, signals):
        """Wait for the deadline or the order to stop. A thread's: the main one may hang in a system call."""
        got = signal.sigtimedwait(signals, self.settings.seconds)
        self.lock.acquire()
        if got:
            log("error", "terminated", signal=signal.Signals(got.si_signo).name)
            self.end(128 + got.si_signo)
        log("error", "deadline", seconds=self.settings.seconds)
        self.end(self.code(DEADLINE))

    def code(self, late=UNAVAILABLE):
        """Choose the exit code."""
        if self.settings.kind == "model" and self.filled >= {*self.settings.slots}:
            return OK  # a restarted pod has its volume: what it served before it can serve again
        if self.refused and self.settings.strict:
            return REFUSED
        return late if self.settings.required and (self.unavailable or late == DEADLINE) else OK

    def run(self):
        """Fill all slots.

        Returns:
            the exit code.
        """
        slots, kept = self.settings.slots, self.survey()
        found = self.resolve()
        contents = {}
        for source, content in found.items():
            if content:
                contents.setdefault(tuple(content.items()), []).append(source)
        for content, sources in contents.items():
            wanted = [slot for slot, source in slots.items() if source in sources]
            self.load(sources[0], dict(content), wanted, kept)
        for slot, source in slots.items():
            # MLflow says that the alias is gone: so is what it filled. What was copied by hand is not ours to remove.
            if source in found and not found[source] and kept.get(slot, {}).get("version"):
                self.outdate(slot, "its alias is gone")
        return self.code()

    def survey(self):
        """Look at the slots as they are: a restarted pod keeps its volume.

        Returns:
            slot to its record (``{}``: copied by hand), of those that are whole; anything else is removed.
        """
        if self.staging.exists() or self.staging.is_symlink():
            log("warning", "cleaned", reason="a run before this one did not end")
            self.remove(self.staging)
        self.staging.mkdir(parents=True)
        kept = {}
        for slot in self.settings.slots:
            path = self.settings.path / slot
            if not path.exists() and not path.is_symlink():
                continue
            try:
                if path.is_symlink() or not path.is_dir():
                    raise Refused("is no folder")
                check_content(path, self.settings)
            except (Refused, OSError) as error:
                self.discard(slot, str(error))
            else:
                kept[slot] = self.record(path)
                self.filled.add(slot)
        return kept

    def record(self, path):
        """Read what this program wrote into a slot; ``{}`` when someone else changed it since."""
        try:
            record = json.loads((path / RECORD).read_bytes())
            return record if record["files"] == self.marks(path) else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}

    def marks(self, path):
        """Give size and time of each file."""
        files = [file for file in tree(path) if file.name != RECORD]
        return {file.name: [file.size, (path / file.name).stat().st_mtime_ns] for file in files}

    def resolve(self):
        """Find out what each source leads to.

        Returns:
            source to what tells its content from another one: ``model`` and ``version``, or ``uri`` and ``listing``. None where
            there is no such alias, nothing where there was no answer or a refusal.
        """
        found = {}
        for source in dict.fromkeys(self.settings.slots.values()):
            what = {"uri": source.uri} if source.uri else {"model": source.model, "alias": source.alias}
            try:
                found[source] = self.identify(source)
            except Missing as error:
                # A slot for an adapter stays empty; a server of models needs each of them.
                needed = self.settings.kind == "model"
                self.refused |= needed
                log("error" if needed else "info", "alias_missing", **what, reason=str(error))
                found[source] = None
            except Refused as error:
                self.refused = True
                log("error", "refused", slots=self.slots_of(source), **what, reason=str(error))
            except Unavailable as error:
                self.unavailable = True
                log("error", "unavailable", what="artifacts" if source.uri else "MLflow", **what, reason=str(error))
                break
        return found

    def identify(self, source):
        """Ask for what a source leads to: see resolve."""
        if source.uri:
            _, _, files = self.found[source] = self.find(source)
            listing = hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest()
            return {"uri": source.uri, "listing": listing}
        from mlflow import MlflowClient

        self.client = self.client or MlflowClient()
        version = self.ask("alias", self.client.get_model_version_by_alias, source.model, source.alias)
        self.versions[source] = version
        return {"model": source.model, "version": str(version.version)}

    def slots_of(self, source):
        """Name the slots that a source fills."""
        return [slot for slot, other in self.settings.slots.items() if other == source]

    def load(self, source, content, slots, kept):
        """Fill the slots of one content, downloaded once."""
        wanted = []
        for slot in slots:
            if content.items() <= kept.get(slot, {}).items():
                log("info", "kept", slot=slot, **content)
            else:
                wanted.append(slot)
        if not wanted:
            return
        try:
            started = time.monotonic()
            folder, facts = self.download(source, content, len(wanted))
        except (Refused, Missing) as error:
            self.refused = True
            log("error", "refused", slots=wanted, **content, reason=str(error))
            for slot in wanted:
                if kept.get(slot, {}).get("version"):
                    self.outdate(slot, f"version {content.get('version')} is refused")
        except Unavailable as error:
            self.unavailable = True
            log("error", "unavailable", what="artifacts", slots=wanted, **content, reason=str(error))
        else:
            facts["seconds"] = round(time.monotonic() - started, 1)
            for slot in wanted:
                self.place(folder, slot, last=slot == wanted[-1])
                log("info", "loaded", slot=slot, alias=self.settings.slots[slot].alias, **content, **facts)

    def download(self, source, content, copies):
        """Download a content into a hidden folder and check it.

        Returns:
            the folder, and what is worth telling of it.
        """
        settings = self.settings
        uri, reader, files = self.found.get(source) or self.find(source)
        self.remove(self.staging)
        folder = self.new_folder()
        total = sum(file.size or 0 for file in files)
        left = settings.size - sum(path.lstat().st_size for path in settings.path.rglob("*") if not path.is_dir())
        if total * copies > left:
            variable = "vllm_adapters_size" if settings.kind == "adapter" else "mlserver_models_size"
            raise Refused(f"needs {total * copies} bytes; {left} of the volume are left ({variable})")
        log("info", "download", **content, location=uri, files=len(files), bytes=total)
        for file in files:
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            self.ask(file.name, self.fetch, reader, file, target)
        if {file.name for file in tree(folder)} != {file.name for file in files}:
            raise Refused("arrived with other files than were listed")
        facts = check_content(folder, settings)
        (folder / RECORD).write_text(json.dumps({**content, "files": self.marks(folder)}))
        return folder, {"files": len(files), "bytes": total, **facts}

    def find(self, source):
        """Find the place of a source's content, and list it.

        Returns:
            its URI, its reader, and its files.
        """
        tried, artifact = [], self.settings.artifact
        places = [source.uri] if source.uri else locations(self.client, self.ask, artifact, self.versions[source])
        for uri in places:
            reader = open_folder(uri)
            files = self.ask("listing", reader.files)
            if files:
                check_listing(files, self.settings.kind)
                return uri, reader, files
            tried.append(uri)
        missing = f"has no artifact folder {artifact!r}" if artifact else "holds no file"
        raise Refused(f"{missing}: looked at {', '.join(tried)}")

    def fetch(self, reader, file, target):
        """Download one file, whole."""
        reader.fetch(file, target)
        size = target.lstat().st_size
        if file.size is not None and size != file.size:
            raise Corrupt(f"{file.name}: {size} bytes arrived of {file.size}")

    def place(self, folder, slot, last):
        """Make a folder a slot, or a copy of it."""
        if not last:
            copy = self.new_folder()
            shutil.copytree(folder, copy, dirs_exist_ok=True)
            folder = copy
        with self.lock:
            self.remove(self.settings.path / slot)
            folder.rename(self.settings.path / slot)
            self.filled.add(slot)

    def new_folder(self):
        """Make a hidden folder."""
        self.count += 1
        folder = self.staging / str(self.count)
        folder.mkdir(parents=True)
        return folder

    def outdate(self, slot, reason):
        """Empty a slot whose content is not wanted any more. A model stays, since without it there is no server."""
        if self.settings.kind == "adapter":
            self.discard(slot, reason)

    def discard(self, slot, reason):
        """Empty a slot."""
        self.remove(self.settings.path / slot)
        self.filled.discard(slot)
        log("warning", "removed", slot=slot, reason=reason)

    def remove(self, path):
        """Remove a file, a link or a folder; a folder vanishes as a whole first."""
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path != self.staging and path.exists():
            self.count += 1
            path = path.rename(self.staging / f"old-{self.count}")
        if path.is_dir():
            shutil.rmtree(path)


def main():
    """Run the program."""
    signals = {signal.SIGTERM, signal.SIGINT}
    # Blocked before any thread starts, so that the watching one gets them; as process 1 it has no default action.
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.stdout = sys.stderr = Foreign()
    warnings.simplefilter("ignore")
    # Retries and time-outs are ours; no progress bars, no telemetry.
    defaults = {"HTTP_REQUEST_MAX_RETRIES": "0", "HTTP_REQUEST_TIMEOUT": "10", "DISABLE_TELEMETRY": "true"}
    for name, value in {**defaults, "ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
        os.environ.setdefault(f"MLFLOW_{name}", value)
    try:
        settings = read_settings(os.environ)
    except ValueError as error:
        log("error", "misconfigured", reason=str(error))
        return MISCONFIGURED
    loader = Loader(settings)
    threading.Thread(target=loader.watch, args=(signals,), daemon=True).start()
    slots = {slot: source.uri or f"{source.model}@{source.alias}" for slot, source in settings.slots.items()}
    log("info", "start", slots=slots, seconds=settings.seconds)
    try:
        code = loader.run()
    except Exception as error:
        trace, place = error.__traceback__, ""
        while trace:
            place, trace = f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}", trace.tb_next
        log("error", "failed", where=place, reason=f"{type(error).__name__}: {error}")
        code = FAILED
    loader.lock.acquire()
    return loader.end(code)


if __name__ == "__main__":
    sys.exit(main())
