"""vLLM: sizes of models, command line, adapters, computed from the settings of one server; never asks a cluster."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import kinds, loader, workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

NAMES = {**kinds.NAMES, "ConfigMap": "startup_configmap_name"}
BUILTIN = "vllm"
_ARTIFACT = re.compile(r"(?!(.*/)?\.\.?(/|$))[^/\\\0]+(/[^/\\\0]+)*")
_MODEL = re.compile(r"/?[A-Za-z0-9][\w.-]*(/[\w.-]+)*", re.ASCII)
# vllm/config/lora.py
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
STARTUP_FOLDER = "/etc/vllm"
# standins/vllm-openai/flags.json: what takes a list as JSON, and what takes one item each time.
JSON_LISTS = frozenset({"--allowed-headers", "--allowed-methods", "--allowed-origins"})
# Environment variables that take a credential, and flags that would show one, to the setting that names its Secret.
API_KEY = "VLLM_API_KEY"
SECRETS = {"HF_TOKEN": "hf_token_secret", API_KEY: "api_key_secret"}
CREDENTIALS = {"--hf-token": "hf_token_secret", "--api-key": "api_key_secret"}
REPEATED = frozenset({"--middleware"})
# What the engine needs beside the weights while it runs, and what CUDA graphs need outside its share.
ACTIVATIONS_BYTES = GIB
GRAPHS_BYTES = GIB
SHM_TENSOR_PARALLEL_BYTES = 2 * GIB
# What prometheusrule.yaml.j2 compares with.
ALERT_THRESHOLDS = ("waiting", "kv_cache_usage", "preemptions_per_second", "aborted_share", "errors_per_second")


# --- Sizes of models -----------------------------------------------------------------------------


def weight_bytes(facts: Mapping) -> float:
    """Compute the size of a model's weights.

    Args:
        facts: ``weight_bytes`` itself, or keys of the model's config.json (``hidden_size``, ``intermediate_size``,
            ``num_hidden_layers``, ``num_attention_heads``, ``num_key_value_heads``, ``vocab_size``, and ``head_dim``
            where it is given), and ``quantization``: ``awq`` (4 bits; in each group of 128 one 16-bit scale and one
            4-bit zero point, so 4 + 20/128 bits; embeddings and head stay at 16 bits) or ``none`` (16 bits).

    Returns:
        bytes, for a decoder with gated MLP and untied embeddings (Llama, Mistral).

    Raises:
        KeyError, TypeError: a fact is missing or no number.
    """
    if facts.get("weight_bytes"):
        return float(facts["weight_bytes"])
    hidden, heads = facts["hidden_size"], facts["num_attention_heads"]
    head = facts.get("head_dim") or hidden // heads
    attention = 2 * hidden * heads * head + 2 * hidden * facts["num_key_value_heads"] * head
    linear = facts["num_hidden_layers"] * (attention + 3 * hidden * facts["intermediate_size"])
    bits = {"awq": 4 + 20 / 128, "none": 16}[facts.get("quantization", "none")]
    return linear * bits / 8 + 2 * facts["vocab_size"] * hidden * 2


def kv_bytes_per_token(facts: Mapping) -> int:
    """Compute what one token takes in the KV cache: 2 (key and value) x layers x heads x head size x 2 bytes."""
    head = facts.get("head_dim") or facts["hidden_size"] // facts["num_attention_heads"]
    return 2 * facts["num_hidden_layers"] * facts["num_key_value_heads"] * head * 2


def gpu_misfit(
    weights: float, kv_token: float, tensor_parallel: int, gpu_gib: float, utilization: float, max_model_len: int
) -> str:
    """Tell why a model does not fit on its GPUs.

    Args:
        weights: bytes of the weights, all GPUs together.
        kv_token: bytes of the KV cache for one token, all GPUs together.
        tensor_parallel: number of GPUs that share them.
        gpu_gib: usable memory of one GPU, in GiB.
        utilization: share of it that vLLM takes, 0 to 1.
        max_model_len: tokens of the longest request.

    Returns:
        the reason, or ``''`` when it fits: the KV room, memory x utilization - weights - activations (1 GiB), holds one
        request of ``max_model_len``, and 1 GiB outside the utilization is left for CUDA graphs.
    """
    memory = gpu_gib * GIB
    share = weights / tensor_parallel
    room = memory * utilization - share - ACTIVATIONS_BYTES
    needed = kv_token / tensor_parallel * max_model_len
    if room < needed:
        return (
            f"of {gpu_gib} GiB on each GPU vLLM takes {memory * utilization / GIB:.1f}; the weights need {share / GIB:.2f}, "
            f"activations 1, and one request of {max_model_len} tokens {needed / GIB:.2f}"
        )
    if memory * (1 - utilization) < GRAPHS_BYTES:
        return f"leaves {memory * (1 - utilization) / GIB:.2f} GiB of each GPU; CUDA graphs need 1"
    return ""


# --- The command line ----------------------------------------------------------------------------


def flags(arguments: Mapping) -> list[str]:
    """Write arguments as a command line that vLLM's parser takes.

    Args:
        arguments: flag (with or without ``--``) to value. Null and true give the bare flag, false and an empty list leave it
            out, a dictionary is written as JSON, a list as several words (JSON or a flag for each where vLLM wants that),
            anything else as ``--flag=value``. With a key (``compilation-config.mode``) every value is written as JSON,
            since vLLM reads it so and takes the next word where there is none.
    """
    words = []
    for name, value in arguments.items():
        option = flag_name(name)
        if "." in option:
            words.append(f"{option}={_text(value)}")
        elif value is None or value is True:
            words.append(option)
        elif isinstance(value, Mapping) or option in JSON_LISTS:
            words.append(f"{option}={_json(value)}")
        elif isinstance(value, (list, tuple)):
            items = [str(item) for item in value]
            words += [f"{option}={item}" for item in items] if option in REPEATED else [option, *items] if items else []
        elif value is not False:
            words.append(f"{option}={value}")
    return words


def flag_name(name: object) -> str:
    """Write a flag as vLLM's help does: ``max_model_len`` is ``--max-model-len``; a key after a dot keeps its spelling."""
    flag, dot, key = str(name).lstrip("-").partition(".")
    return "--" + flag.replace("_", "-") + dot + key


def _text(value: Any) -> str:
    """Write what json.loads reads back; a word that is no JSON is taken as it is."""
    if isinstance(value, str):
        try:
            json.loads(value)
        except ValueError:
            return str(value)
    return _json(value)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), separators=(",", ":"))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


# --- Servers -------------------------------------------------------------------------------------


@functools.cache
def known_models() -> dict[str, dict]:
    """Give the facts of the models that the role knows, by name."""
    text = (specs.ROLES / "vllm" / "models.yml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=specs.LOADER)  # noqa: S506 (a safe loader)


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute one vLLM server.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.

    Returns:
        what the templates place, and what else the project reads of a server.
    """
    models = known_models()
    pool = workload.hardware(settings, platform)
    workload.folder(settings, "cache_path")
    adapters = _adapters(settings)
    cache = _cache(settings, str(settings["name"]))
    exclusive = _check_claim(settings, cache, workload.replicas(settings))
    facts = _facts(settings, models)
    weights = weight_bytes(facts) if facts else None
    parallel = workload.whole(settings, "tensor_parallel_size", least=1)
    length = workload.whole(settings, "max_model_len", least=1)
    utilization = _utilization(settings)
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
        size_bytes=weights,
        arguments=_arguments(settings, parallel, length, utilization),
        questions=_questions(settings),
        own_environment=_environment(settings, platform),
        own_volumes=_volumes(settings, cache, adapters),
        ephemeral=ephemeral,
        own_templates=_templates(settings, cache),
        inside=loader.inside(settings),
        init_seconds=workload.whole(settings, "adapters_seconds", least=1) if adapters["slots"] else 0,
        exclusive_claim=exclusive,
    )
    # The metrics have a port of their own at the Service alone.
    server["network_policy"] = workload.network_policy(settings, platform, [server["http_port"]], mlflow_ports)
    server.update(adapters=adapters, cache=cache)
    if adapters["slots"]:
        known = (models.get(settings["model"]) or {}).get("base_models", [])
        server["init"] = _init(settings, platform, adapters, known)
        if adapters["builtin"] and not known and not settings["adapter_base_models"]:
            settings.notices.append(_only_base(settings))
    _check_gpus(settings, server["resources"], parallel)
    _check_fit(settings, pool, facts, weights, parallel, length, utilization)
    _check_download(settings, platform, server, weights)
    return server


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
    return [*own, *workload.alerts(settings, ALERT_THRESHOLDS)]


def _check_download(settings: Settings, platform: Mapping, server: Mapping, weights: float | None) -> None:
    """Refuse an allowance for the start that the download of the weights alone would use up."""
    if not weights or server["cache"]["claim"] is not None or settings["startup_seconds"] is None:
        return
    download = workload.download_seconds(weights, platform)
    if server["startup_allowance_seconds"] < download:
        allowed = f"the {weights / GIB:.1f} GiB of weights alone take {download:.0f} s at {platform['download_mib_per_second']} MiB/s"
        settings.wrong(settings["startup_seconds"], allowed, "startup_seconds")


def _questions(settings: Settings) -> list[dict]:
    """What a user of the server asks: which models there are, and one short completion; with its key, where it has one."""
    name = str(settings["served_model_name"] or settings["model"])
    completion = {"model": name, "prompt": "One word:", "max_tokens": 1, "temperature": 0}
    questions = [
        {"path": "/v1/models", "expect": name},
        {"path": "/v1/completions", "body": completion, "expect": '"text"'},
    ]
    if not settings["api_key_secret"] and API_KEY not in [item.get("name") for item in settings["extra_env"]]:
        return questions
    return [{"path": "/health"}, *({**question, "key": True} for question in questions)]


def _facts(settings: Settings, models: Mapping) -> dict:
    given = workload.dictionary(settings, "model_facts")
    facts = given or models.get(settings["model"]) or {}
    if not facts:
        return {}
    try:
        weight_bytes(facts)
        kv_bytes_per_token(facts)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        settings.wrong(dict(facts), f"can't compute sizes from it ({type(error).__name__}: {error})", "model_facts")
        return {}
    return dict(facts)


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


def _check_gpus(settings: Settings, resources: Mapping, parallel: int) -> None:
    count = workload.gpus(resources)
    where = settings.path("resources", "limits", workload.GPU)
    if parallel != count:
        settings.wrong(
            settings["tensor_parallel_size"],
            f"must equal the number of GPUs, {count} ({where})",
            "tensor_parallel_size",
        )
    if parallel > 1:
        shm = workload.amount(settings, "shm_size")
        if shm is not None and shm < SHM_TENSOR_PARALLEL_BYTES:
            settings.wrong(settings["shm_size"], f"must be 2Gi or more where {parallel} GPUs share a model", "shm_size")


def _check_fit(
    settings: Settings,
    pool: Mapping,
    facts: Mapping,
    weights: float | None,
    parallel: int,
    length: int,
    utilization: float,
) -> None:
    unchecked = f"{settings['name']}: whether the model fits its GPUs was not checked"
    if weights is None:
        facts_of = f"nothing is known of {settings['model']}; describe it in {settings.path('model_facts')}"
        settings.notices.append(f"{unchecked}: {facts_of}")
        return
    if not pool.get("gpu_memory_gib"):
        settings.notices.append(f"{unchecked}: the hardware profile gives no gpu_memory_gib")
        return
    reason = gpu_misfit(
        weights, kv_bytes_per_token(facts), parallel, float(pool["gpu_memory_gib"]), utilization, length
    )
    if reason:
        settings.wrong(
            settings["gpu_memory_utilization"], f"{settings['model']} does not fit: {reason}", "gpu_memory_utilization"
        )


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


def _check_claim(settings: Settings, cache: Mapping, count: int | None) -> bool:
    """Refuse a claim of one node for several pods; tell whether the claim is one node's."""
    exclusive = cache["claim"] is not None and cache["access_mode"] != "ReadWriteMany"
    if exclusive and (count is None or count > 1):
        allowed = f"{cache['access_mode']} serves one pod, and there are {count or 'as many as an autoscaler wants'}; use ReadWriteMany or an empty_dir"
        settings.wrong(cache["access_mode"], allowed, "cache", "access_mode")
    return exclusive


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


def _arguments(settings: Settings, parallel: int, length: int, utilization: float) -> list[str]:
    """Write the model and its flags; only what differs from vLLM's own default is written."""
    model = workload.matching(
        settings, _MODEL, "must be a Hugging Face repository such as org/model, or a path", "model"
    )
    generated: dict[str, Any] = {
        "--served-model-name": settings["served_model_name"] or False,
        "--revision": settings["model_revision"] or False,
        "--port": settings["http_port"] if str(settings["http_port"]) != "8000" else False,
        "--tensor-parallel-size": parallel if parallel > 1 else False,
        "--max-model-len": length,
        "--gpu-memory-utilization": utilization,
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
    reserved = {*generated, "--enable-lora", "--max-loras", "--max-lora-rank", "--lora-modules", "--model"}
    for name in extra:
        if flag_name(name) in reserved:
            settings.wrong(extra[name], f"{flag_name(name)} has a variable of its own", "extra_args", name)
        elif flag_name(name) in CREDENTIALS and isinstance(extra[name], (str, list)):
            allowed = (
                f"would be in the rendered files: name its Secret in {settings.path(CREDENTIALS[flag_name(name)])}"
            )
            settings.wrong(HIDDEN, allowed, "extra_args", name)
    return [model, *flags(generated), *flags(extra)]


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
