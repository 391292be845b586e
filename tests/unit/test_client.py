"""A cluster that takes the connection and says nothing."""

from __future__ import annotations

import socket

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client


def test_a_cluster_that_hangs_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(client, "CONNECTED_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        connection = {"host": f"https://127.0.0.1:{deaf.getsockname()[1]}", "api_key": "none"}
        with pytest.raises(client.Unreachable, match=r"does not answer within 0\.5 s"):
            client.Cluster(connection)
    assert client.within(5, lambda: 1) == 1


def test_what_stops_it_is_told_as_it_is(tmp_path):
    with pytest.raises(client.Unreachable, match="connection settings can't be used"):
        client.Cluster({"kubeconfig": str(tmp_path / "none")})
