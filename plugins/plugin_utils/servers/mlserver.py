"""MLServer: its models, their settings and questions, computed from its settings; never asks a cluster or MLflow."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import alerts, disk, kinds, loader, node, workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

NAMES = {**kinds.NAMES, "ConfigMap": "configmap_name"}
BUILTIN = "mlserver"
PORTS = ("http", "grpc", "metrics")
STARTUP_FOLDER = "/etc/mlserver"
MODELS_FOLDER = f"{STARTUP_FOLDER}/models"
MLFLOW_RUNTIME = "mlserver_mlflow.MLflowRuntime"
# What runs: over HTTP a gauge, over gRPC what began without what ended.
RUNNING = ("rest_server_requests_in_progress", "grpc_server_started_total", "-grpc_server_handled_total")
_BUCKET = re.compile(r"s3://[^/\s]+/\S+")
_PATH = re.compile(r"/\S*")
_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+", re.ASCII)


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute one MLServer.

    Args:
        settings: its settings.
        platform: the platform's variables without their prefix.

    Returns:
        what the templates place, and what else the project reads of a server.
    """
    path, size = workload.folder(settings, "models_path"), workload.gibibytes(settings, "models_gib")
    models = _models(settings)
    sources = {name: source for name, model in models.items() if (source := _source(model))}
    scripts = ["drain.py", "started.py", *([loader.PROGRAM] if sources else [])]
    server = workload.compute(
        settings,
        platform,
        names=NAMES.values(),
        ports=PORTS,
        model=",".join(models),
        size_bytes=size,
        arguments=["mlserver", "start", MODELS_FOLDER],
        questions=[question for name, model in models.items() for question in _questions(name, model)],
        own_environment=_environment(settings),
        own_volumes=_volumes(settings, models, scripts, path if sources else ""),
        ephemeral=[settings["models_size"]] if sources else [],
        own_templates=["configmap.yaml.j2", *alerts.templates(settings)],
        inside=loader.inside(settings),
        init_seconds=workload.whole(settings, "models_seconds", least=1) if sources else 0,
    )
    ports = {name: server[f"{name}_port"] for name in PORTS}
    drain = [f"{STARTUP_FOLDER}/drain.py", str(ports["metrics"]), str(server["drain_seconds"]), *RUNNING]
    server["drain"] = ["python3", *drain]
    server["started"] = ["python3", f"{STARTUP_FOLDER}/started.py", str(ports["http"]), *models]
    server["scripts"] = scripts
    server["models_pattern"] = "|".join(re.escape(name) for name in models)
    server["model_settings"] = {name: _model_settings(name, model, path) for name, model in models.items()}
    server["alerts"] = alerts.compute(settings, platform, server, "MLServer")
    registry = any("model" in source for source in sources.values())
    server["network_policy"] = workload.network_policy(
        settings,
        platform,
        list(ports.values()),
        loader.mlflow_ports(settings) if registry else [],
    )
    server["reads"] = [source["uri"] for source in sources.values() if "uri" in source]
    # Of which models the size is, where some are downloaded and some are not, is not known.
    downloaded = size or 0 if len(sources) == len(models) else 0
    disk.check_room(settings, "what is downloaded (models_gib)", downloaded, settings["models_size"], "models_size")
    disk.check_node(settings, node.hardware(settings, platform), server["resources"], downloaded)
    if sources:
        environment = {
            "MODEL_SLOTS": json.dumps(sources),
            "MODELS_PATH": path,
            **loader.patience(settings, "model"),
        }
        server["init"] = loader.container(
            settings, platform, volume="models", path=path, environment=environment, scripts=STARTUP_FOLDER
        )
    return server


def _models(settings: Settings) -> dict[str, dict]:
    """Read the models by name; one that is null is none."""
    models = {str(name): dict(model) for name, model in workload.dictionary(settings, "models").items() if model}
    if not models:
        settings.wrong(models, "must name a model: a server without one answers nothing", "models")
    for name, model in models.items():
        if not loader.NAME.fullmatch(name):
            allowed = "must be a model's name: letters, digits, ., _ and -, beginning with a letter or digit"
            settings.wrong(name, allowed, "models", name)
        _check_source(settings, name, model)
        implementation = model.setdefault("implementation", None if model.get("uri") else MLFLOW_RUNTIME)
        if not _CLASS.fullmatch(str(implementation)):
            allowed = "must be the class of a runtime, such as mlserver_sklearn.SKLearnModel"
            settings.wrong(implementation, allowed, "models", name, "implementation")
        for key, own in (("parameters", {"uri"}), ("settings", {"name", "implementation", "parameters"})):
            for word in own & (model.get(key) or {}).keys():
                settings.wrong(model[key][word], "is set by the role", "models", name, key, word)
    return models


def _check_source(settings: Settings, name: str, model: Mapping) -> None:
    uri, registered, alias = (model.get(key) for key in ("uri", "registered_model", "alias"))
    if bool(uri) == bool(registered):
        settings.wrong(uri, "must have either a registered_model with its alias, or a uri", "models", name)
    elif uri and alias:
        settings.wrong(alias, "belongs to a registered_model, and here is a uri", "models", name, "alias")
    elif uri and not (_BUCKET.fullmatch(str(uri)) or _PATH.fullmatch(str(uri))):
        settings.wrong(uri, "must be a folder of a bucket (s3://bucket/folder), or a path", "models", name, "uri")
    elif registered and not (isinstance(alias, str) and loader.NAME.fullmatch(alias)):
        settings.wrong(alias, "must be an alias of the registered model", "models", name, "alias")


def _source(model: Mapping) -> dict[str, str]:
    """Say where the loader finds a model; nothing where the image or a volume has it."""
    if model.get("registered_model"):
        return {"model": str(model["registered_model"]), "alias": str(model.get("alias"))}
    uri = str(model.get("uri"))
    return {} if uri.startswith("/") else {"uri": uri}


def _model_settings(name: str, model: Mapping, path: str) -> dict:
    """Write a model's ``model-settings.json``."""
    uri = f"{path}/{name}" if _source(model) else model["uri"]
    return {
        **(model.get("settings") or {}),
        "name": name,
        "implementation": model["implementation"],
        "parameters": {**(model.get("parameters") or {}), "uri": uri},
    }


def _questions(name: str, model: Mapping) -> list[dict]:
    """What a user of the model asks: whether it is there, and a prediction where an input is known."""
    questions = [{"path": f"/v2/models/{name}", "expect": name}]
    if model.get("input"):
        expect = str(model.get("expect") or '"outputs"')
        questions.append({"path": f"/v2/models/{name}/infer", "body": dict(model["input"]), "expect": expect})
    return questions


def _environment(settings: Settings) -> dict:
    return {
        "USER": "mlserver",
        "HOME": "/tmp",
        "MLSERVER_HTTP_PORT": settings["http_port"],
        "MLSERVER_GRPC_PORT": settings["grpc_port"],
        "MLSERVER_METRICS_PORT": settings["metrics_port"],
        "MLSERVER_PARALLEL_WORKERS": workload.whole(settings, "parallel_workers"),
        # By default it writes into its working directory, and logs every request.
        "MLSERVER_METRICS_DIR": "/tmp/metrics",
        "MLSERVER_ENVIRONMENTS_DIR": "/tmp/environments",
        "MLSERVER_DEBUG": "false",
        # The published image puts both below /opt/mlserver, which is read-only here.
        "NUMBA_CACHE_DIR": "/tmp/numba",
        "TRANSFORMERS_CACHE": "/tmp/transformers",
        # Where MLflow's runtime looks for a store, although it needs none: by default in the working directory, too.
        "MLFLOW_TRACKING_URI": "file:///tmp/mlruns",
    }


def _volumes(settings: Settings, models: Mapping, scripts: list[str], path: str) -> list[tuple[dict, str]]:
    items = [{"key": f"{name}.json", "path": f"models/{name}/model-settings.json"} for name in models]
    items += [{"key": script, "path": script} for script in scripts]
    name = settings["configmap_name"] or settings["name"]
    volumes = [({"name": "startup", "configMap": {"name": name, "items": items}}, STARTUP_FOLDER)]
    if path:
        volumes.append((workload.empty_dir("models", settings["models_size"]), path))
    return [*volumes, *workload.scratch(settings)]


def _further(profile: str, own: Mapping) -> dict:
    """Give what a further server does not take from the base: its names, and the models where it has some of its own."""
    if profile == BUILTIN:
        return {}
    names = {"name": f"mlserver-{profile}", "service_name": None, "service_account_name": None, "configmap_name": None}
    return {**names, **({"models": None} if own.get("models") else {})}


KIND = kinds.Kind(
    role="mlserver",
    compute=compute,
    place=lambda profile: (f"mlserver/{profile}", f"mlserver-{profile}"),
    names=NAMES,
    layer=_further,
    needs=("models",),
)
