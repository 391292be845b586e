"""Checks the arguments that an inventory adds to Triton's, as Triton reads them; never writes one."""

from __future__ import annotations

import functools
import json
import re

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import triton_arguments
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

FOLDER = specs.ROLES / "triton" / "flags"
# The version of the role's own image, by whose list names are read where an image has none.
LISTED = "25.11"
_VERSION = re.compile(r":(\d\d\.\d\d)(?![\d.])")
# Options that the role writes, to the setting that each has.
RESERVED = {
    "model-control-mode": "model_control_mode",
    "load-model": "models",
    "http-port": "http_port",
    "grpc-port": "grpc_port",
    "metrics-port": "metrics_port",
    "exit-timeout-secs": "exit_timeout_seconds",
}
REPOSITORIES = ("model-repository", "model-store")
ANY_ADDRESS = ("0.0.0.0", "::", "[::]")  # noqa: S104 (Triton's default, as text)


def version_of(image: str) -> str:
    """Tell the release from an image's name and tag (``nvcr.io/nvidia/tritonserver:25.11-py3``), or ``''``."""
    found = _VERSION.search(image.rpartition("/")[2])
    return found[1] if found else ""


@functools.cache
def known(version: str) -> dict[str, dict]:
    """Give the options of a release; ``{}`` for one without a list."""
    file = FOLDER / f"{version}.json"
    return json.loads(file.read_text(encoding="utf-8"))["options"] if version and file.exists() else {}


def check_extra(settings: Settings, extra: list[str], version: str) -> list[str]:
    """Note what is wrong with the arguments that the inventory adds.

    Args:
        settings: of the server.
        extra: its ``extra_args``, as words.
        version: of Triton; of one without a list only the names of the role's own options are looked at.

    Returns:
        the model repositories that they add.
    """
    listed = known(version)
    options = listed or known(LISTED)
    if extra and not listed:
        settings.notices.append(
            f"{settings['name']}: whether this Triton takes its arguments was not checked: there is no list for {settings['image']}"
        )
    repositories, start = [], 0
    while start < len(extra):
        # What follows a wrong word is looked at, too.
        try:
            for place, name, text in triton_arguments.given(extra[start:], options):
                _check_option(settings, start + place, name, text, options if listed else {})
                repositories += [text] if name in REPOSITORIES else []
            break
        except triton_arguments.ParseError as error:
            start += error.index
            if listed:
                settings.foresee("flags", extra[start], _worded(extra[start], str(error), version), "extra_args", start)
            # The word after an unknown option may be its own.
            own = "not recognized" in str(error) and "=" not in extra[start]
            start += 2 if own and not "".join(extra[start + 1 : start + 2]).startswith("-") else 1
    return repositories


def _check_option(settings: Settings, place: int, name: str, text: str, options: dict) -> None:
    value = settings["extra_args"][place]
    if name in RESERVED:
        settings.wrong(
            value, f"--{name} has a variable of its own, {settings.path(RESERVED[name])}", "extra_args", place
        )
        return
    probes = f"{settings.path('http_port')} is what the probes ask"
    try:
        read = triton_arguments.read(name, options[name], text) if name in options else text
    except triton_arguments.ParseError as error:
        settings.foresee("flags", value, f"Triton refuses it: {' '.join(str(error).split())}", "extra_args", place)
        return
    hidden = (
        (name == "allow-http" and read is False)
        or (name == "http-address" and text not in ANY_ADDRESS)
        or (name == "http-restricted-api" and "health" in text.partition(":")[0].split(","))
    )
    if hidden:
        settings.foresee("flags", value, f"no probe would reach the server: {probes}", "extra_args", place)
    if name == "help":
        settings.foresee("flags", value, "Triton would print its options and end", "extra_args", place)


def _worded(word: str, said: str, version: str) -> str:
    name, _equals, _text = word.partition("=")
    name = name.partition(" ")[0]
    if " " in word and name.removeprefix("--") in known(version):
        return f"is one word for Triton: write {name}={word.partition(' ')[2].strip()}"
    if "not recognized" in said:
        options = [f"--{option}" for option in known(version)]
        return f"Triton {version} has no option {name}: {nearest(name, options).partition(' Known:')[0]}"
    return f"Triton {version} refuses it: {said.removeprefix('tritonserver: ')}"
