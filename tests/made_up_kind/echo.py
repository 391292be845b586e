"""Echo, a made-up kind: its command line and questions; never asks a cluster."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.servers import workload
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import Kind
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings


def compute(settings: Settings, platform: Mapping) -> dict:
    """Compute one echo."""
    words = workload.listed(settings, "words", (str,), "words")
    server = workload.compute(
        settings,
        platform,
        ports=("http", "metrics"),
        model=",".join(words),
        size_bytes=0,
        arguments=["echo", *words],
        questions=[{"path": "/", "expect": words[0]}],
    )
    ports = [server["http_port"], server["metrics_port"]]
    server["network_policy"] = workload.network_policy(settings, platform, ports, [])
    server["reads"] = [f"s3://my-echo-words/{settings['name']}"]
    return server


KIND = Kind(role="echo", compute=compute, place=lambda profile: (f"echo/{profile}", f"echo-{profile}"))
