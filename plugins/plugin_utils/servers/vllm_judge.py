"""The judge, a second vLLM server in one of several variants: what differs from vLLM; never anything of vLLM's own server."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import (
    kinds,
    needs,
    scaling,
    schedule,
    vllm,
    vllm_flags,
    workload,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute the judge: a vLLM server that keeps its CUDA graphs, and may be parked (no pods, everything else stays)."""
    version = vllm_flags.version_of(str(settings["image"]))
    for flag, value in workload.dictionary(settings, "extra_args").items():
        given = vllm_flags.flag_name(flag)
        if (
            "--enforce-eager" in (given, *vllm_flags.option_of(given, version).get("strings", ()))
            and value is not False
        ):
            settings.wrong(value, "never for the judge: CUDA graphs are worth their memory", "extra_args", flag)
    server = vllm.compute(settings, platform)
    if workload.flag(settings, "parked"):
        # An autoscaler would start it again, and so would its schedule.
        idle = ("poddisruptionbudget.yaml.j2", schedule.TEMPLATE, *scaling.TEMPLATES)
        templates = [name for name in server["templates"] if name not in idle]
        server.update(replicas=0, templates=templates, awake=needs.pods(server), **schedule.without(server))
    return server


KIND = kinds.Kind(
    role="vllm_judge",
    compute=compute,
    place=lambda variant: (f"vllm/{variant}", f"vllm-inference-{variant}"),
    chosen="variant",
    profiles="variants",
    names=vllm.NAMES,
    wave=2,
    bundle=lambda variant: (f"vllm/overlays/{variant}", ["vllm/base", f"vllm/{variant}"]),
    set_name="vllm-inference-judge",
)
