"""Turns a container that runs vLLM into the variables of the role vllm; never asks a cluster."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.adopt import words
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.command import Command
from ansible_collections.modelyard.core.plugins.plugin_utils.adopt.result import Adopted
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import quantity
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import vllm_flags
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.vllm import STARTUP_FOLDER

# Flags to the variables that write them.
VARIABLES = {
    "--revision": "model_revision",
    "--port": "http_port",
    "--tensor-parallel-size": "tensor_parallel_size",
    "--gpu-memory-utilization": "gpu_memory_utilization",
    "--max-model-len": "max_model_len",
    "--enable-lora": "lora_enabled",
    "--max-loras": "max_loras",
    "--max-lora-rank": "max_lora_rank",
    "--served-model-name": "served_model_name",
}
# Of these it is told what becomes of them.
HANDLED = (*VARIABLES, *vllm_flags.CREDENTIALS, "--model", "--host", "--lora-modules")
# vLLM's own, where a flag is left out.
PORT, UTILIZATION, LORAS, RANK = 8000, 0.9, 1, 16
# From this version on, auto takes as long requests as there is room for.
AUTO_SINCE = (0, 14)
SECRETS = {"HF_TOKEN": "hf_token_secret", "HUGGING_FACE_HUB_TOKEN": "hf_token_secret", "VLLM_API_KEY": "api_key_secret"}
# Where Hugging Face's library keeps what it downloads, by what names it.
CACHES = ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE", "XDG_CACHE_HOME")
HOME_CACHE = re.compile(r"(/root|/home/[\w.-]+|/opt/[\w.-]+)(/\.cache(/huggingface(/hub)?)?)?/?")
SIZE = "100Gi"
# Where the role has its cache by itself, and where if something else is there.
CACHE, BESIDE = "/cache", "/cache-of-vllm"
LEAST_SHARED = "2Gi"


def fill(found: Adopted, command: Command, claims: Mapping[str, Mapping]) -> None:
    """Add what vLLM has of its own.

    Args:
        found: what every server has, completed in place.
        command: its command line.
        claims: each claim by its name.
    """
    settings, version = found.settings, version_of(found.settings["image"])
    flags, single = words.vllm(command.words, version)
    settings["model"] = _model(found, flags, single)
    found.lost += [f"args: {word}: belongs to no flag" for word in single]
    settings["adapter_slots"], settings["lora_enabled"] = {}, False
    for flag, variable in VARIABLES.items():
        value = flags.pop(flag, None)
        if "$(" in str(value):
            found.lost.append(f"args: {flag} {value}: only the cluster knows this variable: set {variable}")
        elif value is not None:
            settings[variable] = value
    if settings["lora_enabled"]:
        settings.setdefault("max_loras", LORAS)
        settings.setdefault("max_lora_rank", RANK)
        env = settings.get("env") or {}
        settings["runtime_lora_updating"] = str(env.pop("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "")).lower() in (
            "1",
            "true",
        )
    if modules := flags.pop("--lora-modules", None):
        told = " ".join(map(str, modules)) if isinstance(modules, list) else modules
        found.lost.append(
            f"args: --lora-modules {told}: the role loads adapters from MLflow (adapter_slots), or at run time"
        )
    settings.setdefault("gpu_memory_utilization", _default("--gpu-memory-utilization", version, UTILIZATION))
    _length(found, version)
    for flag, secret in vllm_flags.CREDENTIALS.items():
        value = flags.pop(flag, None)
        if value not in (None, True) and not str(value).startswith("$("):
            found.lost.append(
                f"args: {flag}: a credential in the command line: put it into a Secret, and name that in {secret}"
            )
    if str(flags.get("--host")) in (*vllm_flags.ANY_ADDRESS, "$(POD_IP)"):
        del flags["--host"]
    settings["extra_args"] = {flag.removeprefix("--"): value for flag, value in flags.items()}
    settings.setdefault("http_port", PORT)
    settings.setdefault("tensor_parallel_size", 1)
    _secrets(found)
    _shared_memory(found)
    _scripts(found)
    _cache(found, str(settings["extra_args"].get("download-dir") or ""), claims)


def _model(found: Adopted, flags: dict, single: list[str]) -> str:
    """Find the model among flags and words, and take it out; CHANGE_ME where it is not known."""
    model = str(flags.pop("--model", None) or (single.pop(0) if single else ""))
    if not model:
        found.lost.append("the model: the command line names none (vLLM would serve its built-in default)")
    elif "$(" in model:
        found.lost.append(f"the model: {model}: only the cluster knows this variable: set model")
    if not model or "$(" in model:
        return "CHANGE_ME"
    return model.rstrip("/") if model.startswith("/") and len(model) > 1 else model


def _shared_memory(found: Adopted) -> None:
    """Give several GPUs the shared memory without which the role refuses them."""
    settings = found.settings
    extra = settings["extra_args"]
    sizes = [
        settings["tensor_parallel_size"],
        *(extra.get(f"{name}-parallel-size", 1) for name in ("pipeline", "data")),
    ]
    # One that is not known is left to be set.
    if not any(str(size).isdigit() and int(size) > 1 for size in sizes):
        return
    size = settings.get("shm_size")
    if not size or quantity.parse(size) < quantity.parse(LEAST_SHARED):
        settings["shm_size"] = LEAST_SHARED
        had = f"its /dev/shm has {size}" if size else "it has no /dev/shm of its own"
        found.notes.append(
            f"{had}, and several GPUs need {LEAST_SHARED}: shm_size is that now, and counts in the memory limit"
        )


def _scripts(found: Adopted) -> None:
    """Leave out what is mounted where the role has its start script."""
    for mount in list(found.settings["extra_volume_mounts"]):
        if mount["mountPath"].rstrip("/") == STARTUP_FOLDER:
            found.settings["extra_volume_mounts"].remove(mount)
            found.lost.append(
                f"volumeMounts: {STARTUP_FOLDER} of volume {mount['name']}: the role's scripts stand there: mount it elsewhere, and "
                "change the flags that name it"
            )


def version_of(image: str) -> str:
    """Tell vLLM's version; the tag of an image that others build on it is their own."""
    last = image.rpartition("/")[2].partition(":")[0]
    return vllm_flags.version_of(image) if "vllm" in last and "lmcache" not in image else ""


def _default(flag: str, version: str, otherwise: Any) -> Any:
    value = vllm_flags.option_of(flag, version).get("default")
    return otherwise if value is None else value


def _length(found: Adopted, version: str) -> None:
    if "max_model_len" in found.settings:
        return
    found.settings["max_model_len"] = "auto"
    numbers = tuple(map(int, version.split(".")[:2])) if version else AUTO_SINCE
    if not version:
        found.notes.append(
            "max_model_len is auto, which vLLM knows since 0.14: set the number of tokens if this one is older"
        )
    if numbers < AUTO_SINCE:
        found.lost.append(
            f"max_model_len: it serves the model's own length, and vLLM {version} does not know auto: set the number of tokens"
        )


def _secrets(found: Adopted) -> None:
    """Name the Secrets that have variables of their own."""
    extra = found.settings.get("extra_env") or []
    for item in list(extra):
        setting = SECRETS.get(item["name"])
        named = (item.get("valueFrom") or {}).get("secretKeyRef")
        if not setting or not named or named.get("optional") or setting in found.settings:
            continue
        found.settings[setting] = {"name": named["name"], "key": named["key"]}
        if item["name"] in ("HF_TOKEN", "VLLM_API_KEY"):
            extra.remove(item)
    found.settings.setdefault("hf_token_secret", {})
    found.settings.setdefault("api_key_secret", {})


def _cache(found: Adopted, download: str, claims: Mapping[str, Mapping]) -> None:
    """Find the volume that the weights are downloaded into; without one they are in the container's own file system."""
    settings = found.settings
    env = settings.get("env") or {}
    named = [str(env[name]) for name in CACHES if env.get(name)]
    named += [download] if download else []
    volumes = {volume["name"]: volume for volume in settings["extra_volumes"]}
    for mount in settings["extra_volume_mounts"]:
        path = mount["mountPath"].rstrip("/") or "/"
        holds = any(name.rstrip("/") == path or name.startswith(f"{path}/") for name in named)
        volume = volumes.get(mount["name"], {})
        by_home = not named and HOME_CACHE.fullmatch(path)
        alone = [one["name"] for one in settings["extra_volume_mounts"]].count(mount["name"]) == 1
        if (
            not (holds or by_home)
            or mount.get("readOnly")
            or "subPath" in mount
            or not alone
            or not set(volume) & {"persistentVolumeClaim", "emptyDir"}
        ):
            continue
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            settings["cache"] = {"type": "claim", "claim_name": claim, "create": False, **_claim(claims.get(claim))}
        else:
            settings["cache"] = {"type": "empty_dir", "size": (volume["emptyDir"] or {}).get("sizeLimit", SIZE)}
        settings["cache_path"] = path
        if by_home:
            settings.setdefault("env", {})["HF_HOME"] = _home(path)
        settings["extra_volumes"] = [item for item in settings["extra_volumes"] if item["name"] != mount["name"]]
        settings["extra_volume_mounts"].remove(mount)
        _rename(found, mount["name"])
        return
    settings["cache"] = {"type": "empty_dir", "size": SIZE}
    if any(mount["mountPath"].rstrip("/") == CACHE for mount in settings["extra_volume_mounts"]):
        settings["cache_path"] = BESIDE
    if not settings["model"].startswith("/"):
        where = f"{', '.join(named)}, on a volume of another kind" if named else "the container's own file system"
        found.notes.append(
            f"its weights are kept in {where}: the role has a cache beside it, of {SIZE} on the node's disk (cache)"
        )


def _claim(live: Mapping | None) -> dict:
    """Give size and access mode of a claim; one that is not seen is taken for one that all nodes can mount."""
    spec = (live or {}).get("spec") or {}
    modes = spec.get("accessModes") or ["ReadWriteMany"]
    size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", SIZE)
    return {"size": size, "access_mode": modes[0] if modes[0].startswith("ReadWriteOnce") else "ReadWriteMany"}


def _home(path: str) -> str:
    """Give what HF_HOME is by itself where this folder, or one below it, is mounted."""
    if path.endswith("/hub"):
        return path.removesuffix("/hub")
    if path.endswith("/huggingface"):
        return path
    return f"{path}/huggingface" if path.endswith("/.cache") else f"{path}/.cache/huggingface"


def _rename(found: Adopted, name: str) -> None:
    """Call the volume of the cache by the name that the role gives it, in the other containers too."""
    live = next((old for old, new in found.renamed.items() if new == name), name)
    found.renamed[live] = "cache"
    for container in (*found.settings["sidecars"], *found.settings["extra_init_containers"]):
        for mount in container.get("volumeMounts") or []:
            if mount["name"] == name:
                mount["name"] = "cache"
