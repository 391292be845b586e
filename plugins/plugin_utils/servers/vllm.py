"""vLLM: command line, adapters, cache, computed from the settings of one server; never asks a cluster."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import (
    alerts,
    arguments,
    disk,
    kinds,
    loader,
    node,
    vllm_fit,
    vllm_flags,
    workload,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

NAMES = {**kinds.NAMES, "ConfigMap": "startup_configmap_name"}
BUILTIN = "vllm"
_ARTIFACT = re.compile(r"(?!(.*/)?\.\.?(/|$))[^/\\\0]+(/[^/\\\0]+)*")
# Also a bucket's URL, whose weights vLLM streams to the GPU, and a file of a GGUF repository (org/model:Q4_K_M).
_MODEL = re.compile(
    r"/?[A-Za-z0-9][\w.-]*(/[\w.-]+)*|(s3|gs)://[a-z0-9][\w.-]+(/[\w.=+-]+)*/?|[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*:[\w+-]+",
    re.ASCII,
)
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
# vllm/config/lora.py
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
MOST_TOKENS = 2**31 - 1
STARTUP_FOLDER = "/etc/vllm"
# Environment variables that take a credential, to the setting that names its Secret.
API_KEY = "VLLM_API_KEY"
SECRETS = {"HF_TOKEN": "hf_token_secret", API_KEY: "api_key_secret"}


# --- Servers -------------------------------------------------------------------------------------


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute one vLLM server.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.

    Returns:
        what the templates place, and what else the project reads of a server.
    """
    pool = node.hardware(settings, platform)
    workload.folder(settings, "cache_path")
    adapters = _adapters(settings)
    cache = _cache(settings, str(settings["name"]))
    version = vllm_flags.version_of(str(settings["image"]))
    parallel = workload.whole(settings, "tensor_parallel_size", least=1)
    environment = _environment(settings, platform)
    words, right = _arguments(settings, parallel, version, _variables(settings, environment))
    values = vllm_flags.parsed(right, version)
    model = vllm_fit.read_model(settings, values, platform, pool)
    weights = vllm_fit.stored_bytes(settings, platform) if model else None
    ephemeral = [] if cache["claim"] else [cache["size"]]
    if adapters["path"]:
        workload.amount(settings, "adapters_size")
        ephemeral.append(settings["adapters_size"])
    mlflow_ports = loader.mlflow_ports(settings) if adapters["slots"] else []
    server = workload.compute(
        settings,
        platform,
        names=NAMES.values(),
        ports=("http", "metrics"),
        model=str(settings["model"]),
        # What lies on a volume is read, and counts as a part of the load.
        size_bytes=0 if disk.is_path(settings["model"]) else weights,
        arguments=words,
        questions=_questions(settings),
        own_environment=environment,
        own_volumes=_volumes(settings, cache, adapters),
        ephemeral=ephemeral,
        own_templates=_templates(settings, cache),
        inside=loader.inside(settings),
        init_seconds=workload.whole(settings, "adapters_seconds", least=1) if adapters["slots"] else 0,
        claim_mode=cache["access_mode"] if cache["claim"] and cache["access_mode"] != "ReadWriteMany" else "",
        waiting="vllm:num_requests_waiting",
    )
    # The metrics have a port of their own at the Service alone.
    server["network_policy"] = workload.network_policy(settings, platform, [server["http_port"]], mlflow_ports)
    server.update(adapters=adapters, cache=cache)
    if disk.is_streamed(settings["model"]):
        server["reads"] = [str(settings["model"])]
    if adapters["slots"]:
        known = vllm_fit.known_models().get(settings["model"])
        server["init"] = _init(settings, platform, adapters, (known or {}).get("base_models", []))
        if adapters["builtin"] and known is None and not settings["adapter_base_models"]:
            settings.notices.append(_only_base(settings))
    server["alerts"] = alerts.compute(settings, platform, server, "VLLM")
    server["hugging_face"] = _hugging_face(settings)
    vllm_fit.check_gpus(settings, pool, server["resources"], parallel, values)
    server["sizing"] = vllm_fit.check(settings, pool, model, values, version)
    _check_download(settings, platform, server, weights)
    _check_volumes(settings, pool, server, weights or 0)
    return server


def _hugging_face(settings: Settings) -> dict | None:
    """Say which model of Hugging Face it serves, and which variables describe one; None for a model from elsewhere."""
    name = str(settings["model"])
    if not _REPOSITORY.fullmatch(name):
        return None
    # A profile that has a model, or a revision, of its own describes it too.
    prefix = max((settings.path(key).removesuffix(key) for key in ("model", "model_revision")), key=len)
    return {"model": name, "revision": str(settings["model_revision"] or ""), "prefix": prefix}


def _check_volumes(settings: Settings, pool: Mapping, server: dict, weights: float) -> None:
    """Check what the weights are downloaded into, or where they lie; of a claim that exists, the plan knows the size."""
    model, cache = str(settings["model"]), server["cache"]
    downloaded = 0.0
    if disk.is_path(model):
        disk.check_path(settings, model, server["volume_mounts"], server["volumes"], weights, "model")
    elif not disk.is_streamed(model) and weights:
        if cache["claim"] is None or cache["create"]:
            what, claim = f"the weights of {model}", cache["access_mode"] if cache["claim"] else ""
            disk.check_room(
                settings, what, weights, cache["size"], "cache", "size", claim=claim, beside=disk.KERNELS_BYTES
            )
        elif "volumes" not in (settings["skip_checks"] or {}):
            server["holds"] = {cache["claim"]: weights}
        downloaded = 0.0 if cache["claim"] else weights
    disk.check_node(settings, pool, server["resources"], downloaded, disk.VLLM_IMAGE_BYTES)


def _only_base(settings: Settings) -> str:
    """Say which adapters the loader takes of a model that the role does not know: it refuses all others, and the rollout succeeds."""
    return (
        f"{settings['name']}: only adapters trained on {settings['model']} itself are loaded, all others are refused; "
        f"list what yours were trained on in {settings.path('adapter_base_models')}"
    )


def _templates(settings: Settings, cache: Mapping) -> list[str]:
    own = ["startup-configmap.yaml.j2"]
    if cache["create"]:
        own.append("cache-claim.yaml.j2")
    return [*own, *alerts.templates(settings)]


def _check_download(settings: Settings, platform: Mapping, server: Mapping, weights: float | None) -> None:
    """Refuse an allowance for the start that the download of the weights alone would use up."""
    kept = server["cache"]["claim"] is not None or disk.is_path(settings["model"])
    if not weights or kept or settings["startup_seconds"] is None:
        return
    download = workload.download_seconds(weights, platform)
    if server["startup_allowance_seconds"] < download:
        allowed = f"the {weights / GIB:.1f} GiB of weights alone take {download:.0f} s at {platform['download_mib_per_second']} MiB/s"
        settings.wrong(settings["startup_seconds"], allowed, "startup_seconds")


def _questions(settings: Settings) -> list[dict]:
    """What a user of the server asks: which models there are, and one short completion; with its key, where it has one."""
    name = [*_names(settings), str(settings["model"])][0]
    completion = {"model": name, "prompt": "One word:", "max_tokens": 1, "temperature": 0}
    questions = [
        {"path": "/v1/models", "expect": name},
        {"path": "/v1/completions", "body": completion, "expect": '"text"'},
    ]
    if not settings["api_key_secret"] and API_KEY not in [item.get("name") for item in settings["extra_env"]]:
        return questions
    return [{"path": "/health"}, *({**question, "key": True} for question in questions)]


def _names(settings: Settings) -> list[str]:
    """Give the names of the model in the API; none for its own."""
    given = settings["served_model_name"] or []
    names = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(name, str) and name and not name.startswith("-") for name in names):
        settings.wrong(given, "must be a name, or a list of names", "served_model_name")
        return []
    if len(set(names)) < len(names):
        settings.wrong(given, "names one twice", "served_model_name")
    return [str(name) for name in names]


def _utilization(settings: Settings) -> float:
    value = settings["gpu_memory_utilization"]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(value, bool) or not 0 < number < 1:
        settings.wrong(value, "must be a number between 0 and 1", "gpu_memory_utilization")
        return 0.9
    return number


def _length(settings: Settings) -> int | str:
    """Read the tokens of the longest request as vLLM does (32k is 32000, 32K is 32768); auto for as many as there is room for."""
    value = settings["max_model_len"]
    try:
        number = arguments.human_readable_int_or_auto("" if isinstance(value, bool) else str(value))
    except (ValueError, argparse.ArgumentTypeError):
        number = 0
    if number == -1:
        return "auto"
    if not 1 <= number <= MOST_TOKENS:
        allowed = f"must be a number of tokens from 1 to {MOST_TOKENS} such as 8192 or 32k, or auto"
        settings.wrong(value, allowed, "max_model_len")
        return 4096
    return number


def _adapters(settings: Settings) -> dict:
    """Read the adapters' slots: folder below the adapters' path to the alias that fills it; none where LoRA is turned off."""
    slots = workload.dictionary(settings, "adapter_slots")
    for slot, alias in slots.items():
        if not loader.NAME.fullmatch(str(slot)):
            allowed = "must be a folder's name: letters, digits, ., _ and -, beginning with a letter or digit"
            settings.wrong(slot, allowed, "adapter_slots", slot)
        if not isinstance(alias, str) or not loader.NAME.fullmatch(alias):
            settings.wrong(alias, "must be an alias of the registered model", "adapter_slots", slot)
    enabled = workload.flag(settings, "lora_enabled")
    if slots and not enabled:
        slots = _dropped(settings, slots)
    # Workflows copy adapters into it, whether or not a slot is filled before.
    used = slots or (enabled and workload.flag(settings, "runtime_lora_updating"))
    path = workload.folder(settings, "adapters_path") if used else None
    return {"slots": slots, "path": path, "builtin": bool(slots) and _builtin_loader(settings)}


def _dropped(settings: Settings, slots: Mapping) -> dict:
    """Drop the slots of a server whose LoRA is off; those of the inventory never without a word."""
    given = settings.is_given("adapter_slots")
    switch = settings.path("lora_enabled")
    if given and not settings.is_given("lora_enabled"):
        settings.wrong(slots, f"adapters need {switch}", "adapter_slots")
    elif given:
        settings.notices.append(
            f"{settings['name']}: {settings.path('adapter_slots')} is not used: {switch} is false, so no adapter is loaded"
        )
    return {}


def _builtin_loader(settings: Settings) -> bool:
    """Tell whether our program loads the adapters; a command of the inventory's own is never overruled."""
    loader, own = settings["adapter_loader"], [key for key in ("init_command", "init_args") if settings[key]]
    if loader not in (None, "builtin", "image"):
        settings.wrong(loader, "must be builtin or image", "adapter_loader")
    for key in own if loader == "builtin" else []:
        loaders = settings.path("adapter_loader")
        settings.wrong(
            settings[key], f"is not run by the builtin loader: set {loaders} to image, or leave this out", key
        )
    return loader == "builtin" or (loader is None and not own)


def _cache(settings: Settings, name: str) -> dict:
    """Read the cache volume: a claim (of ours, or one that exists), or a folder that lives as long as the pod."""
    cache = workload.dictionary(settings, "cache")
    allowed = {"type", "size", "claim_name", "create", "storage_class", "access_mode"}
    for key in cache:
        if key not in allowed:
            settings.wrong(cache[key], nearest(key, allowed), "cache", key)
    kind = cache.get("type", "empty_dir")
    if kind not in ("empty_dir", "claim"):
        settings.wrong(kind, "must be empty_dir or claim", "cache", "type")
    mode = cache.get("access_mode", "ReadWriteOnce")
    modes = ("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany")
    if mode not in modes:
        settings.wrong(mode, f"must be one of {', '.join(modes)}", "cache", "access_mode")
    claim = kind == "claim"
    if "size" not in cache:
        settings.wrong(None, "must be set", "cache", "size")
    else:
        workload.amount(settings, "cache", "size")
    return {
        "size": str(cache.get("size")),
        "claim": (cache.get("claim_name") or f"{name}-cache") if claim else None,
        "create": claim and cache.get("create", True) is True,
        "storage_class": cache.get("storage_class"),
        "access_mode": mode,
    }


def _volumes(settings: Settings, cache: Mapping, adapters: Mapping) -> list[tuple[dict, str]]:
    scripts = settings["startup_configmap_name"] or settings["name"]
    startup = {"name": "startup", "configMap": {"name": scripts}}
    if cache["claim"] is None:
        cached = workload.empty_dir("cache", cache["size"])
    else:
        cached = {"name": "cache", "persistentVolumeClaim": {"claimName": cache["claim"]}}
    volumes = [
        (startup, STARTUP_FOLDER),
        (cached, settings["cache_path"]),
        *workload.scratch(settings),
    ]
    if adapters["path"]:
        volumes.append((workload.empty_dir("adapters", settings["adapters_size"]), adapters["path"]))
    return volumes


def _environment(settings: Settings, platform: Mapping) -> dict:
    cache = settings["cache_path"]
    env: dict[str, Any] = {
        # Without a user in /etc/passwd, getpass.getuser() needs USER.
        "USER": "vllm",
        "HOME": cache,
        "HF_HOME": f"{cache}/huggingface",
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torchinductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "HF_ENDPOINT": platform["hf_endpoint"] or None,
    }
    for name, setting in SECRETS.items():
        secret = workload.dictionary(settings, setting)
        if secret:
            for key in ("name", "key"):
                if not secret.get(key):
                    settings.wrong(secret.get(key), "must be set", setting, key)
            env[name] = {"valueFrom": {"secretKeyRef": {"name": secret.get("name"), "key": secret.get("key")}}}
    if workload.flag(settings, "lora_enabled") and workload.flag(settings, "runtime_lora_updating"):
        env["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    return env


def _variables(settings: Settings, own: Mapping) -> dict[str, object]:
    """Give the container's variables, which ``$(NAME)`` in a flag stands for; what is no text is a dictionary."""
    extra = {
        item.get("name"): item.get("value", item)
        for item in workload.listed(settings, "extra_env")
        if isinstance(item.get("name"), str)
    }
    found = {**own, **workload.dictionary(settings, "env"), **extra}
    return {str(name): value for name, value in found.items() if value is not None}


def _arguments(settings: Settings, parallel: int, version: str, environment: Mapping) -> tuple[list[str], list[str]]:
    """Write the model and its flags; only what differs from vLLM's own default is written.

    Returns:
        the words, and the same without flags of the inventory that are wrong.
    """
    model = workload.matching(
        settings,
        _MODEL,
        "must be a Hugging Face repository such as org/model (org/model:QUANT for GGUF), a path, or s3:// or gs://",
        "model",
    )
    names = _names(settings)
    generated: dict[str, Any] = {
        "--served-model-name": names if len(names) > 1 else (names or [False])[0],
        "--revision": settings["model_revision"] or False,
        "--port": settings["http_port"] if str(settings["http_port"]) != "8000" else False,
        "--tensor-parallel-size": parallel if parallel > 1 else False,
        "--max-model-len": _length(settings),
        "--gpu-memory-utilization": _utilization(settings),
    }
    if workload.flag(settings, "lora_enabled"):
        rank = workload.whole(settings, "max_lora_rank", least=1)
        if rank not in LORA_RANKS:
            settings.wrong(
                settings["max_lora_rank"], f"must be one of {', '.join(map(str, LORA_RANKS))}", "max_lora_rank"
            )
        loras = workload.whole(settings, "max_loras", least=1)
        generated.update({"--enable-lora": True, "--max-loras": loras, "--max-lora-rank": rank})
    extra = workload.dictionary(settings, "extra_args")
    right = vllm_flags.check_extra(settings, extra, version, environment)
    file = vllm_flags.CONFIG in map(vllm_flags.flag_name, extra)
    if file or not vllm_flags.known(version):
        why = f"they stand in a file ({vllm_flags.CONFIG})" if file else f"there is no list for {settings['image']}"
        settings.notices.append(f"{settings['name']}: whether this vLLM takes its flags was not checked: {why}")
    words = [model, *vllm_flags.flags(generated)]
    if generated.get("--max-lora-rank") not in LORA_RANKS:
        generated.pop("--max-lora-rank", None)
    return [*words, *vllm_flags.flags(extra, version)], [
        model,
        *vllm_flags.flags(generated),
        *right,
    ]


def _expected(settings: Settings, known: list[str]) -> dict:
    """Write what only our program reads; an image of one's own is given what it always was."""
    workload.matching(settings, _ARTIFACT, "must be a relative folder, without ..", "adapter_artifact")
    bases = [settings["model"], *known, *workload.listed(settings, "adapter_base_models", (str,), "model names")]
    return {
        "ADAPTER_BASE_MODELS": json.dumps([str(name) for name in dict.fromkeys(bases)]),
        "ADAPTER_MAX_RANK": settings["max_lora_rank"],
        "ADAPTERS_REQUIRED": workload.flag(settings, "adapters_required"),
        "ADAPTERS_STRICT": workload.flag(settings, "adapters_strict"),
        **loader.patience(settings, "adapter"),
    }


def _init(settings: Settings, platform: Mapping, adapters: Mapping, known: list[str]) -> dict:
    environment = {
        "ADAPTER_MODEL": settings["adapter_model"],
        "ADAPTER_SLOTS": json.dumps({str(slot): str(alias) for slot, alias in adapters["slots"].items()}),
        "ADAPTER_ARTIFACT": settings["adapter_artifact"],
        "ADAPTERS_PATH": adapters["path"],
        **(_expected(settings, known) if adapters["builtin"] else {}),
    }
    return loader.container(
        settings,
        platform,
        volume="adapters",
        path=adapters["path"],
        environment=environment,
        scripts=STARTUP_FOLDER if adapters["builtin"] else "",
        command=workload.listed(settings, "init_command", (str,), "words"),
        args=workload.listed(settings, "init_args", (str,), "words"),
    )


# --- The kind ------------------------------------------------------------------------------------


def _further(profile: str, own: Mapping) -> dict:
    """Give what a further server does not take from the base: names, IAM role and adapters are each server's own."""
    if profile == BUILTIN:
        return {}
    lora = bool(own.get("adapter_slots"))
    return {
        "name": f"vllm-{profile}",
        "service_name": None,
        "service_account_name": None,
        "startup_configmap_name": None,
        "role_name": "",
        "access": None,
        "adapter_slots": None,
        "lora_enabled": lora,
        "runtime_lora_updating": lora,
    }


KIND = kinds.Kind(
    role="vllm",
    compute=compute,
    place=lambda profile: (
        ("vllm/base", "vllm-inference") if profile == BUILTIN else (f"vllm/{profile}", f"vllm-inference-{profile}")
    ),
    names=NAMES,
    layer=_further,
)
