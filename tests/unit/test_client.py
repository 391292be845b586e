"""What is told of a connection: a cluster that says nothing, one that nobody checks, one that does not accept who asks."""

from __future__ import annotations

import json
import os
import socket

import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import client, trust
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused
from kubernetes.client import Configuration


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


# --- Who answers ------------------------------------------------------------------------------------


@pytest.fixture
def job(monkeypatch):
    """Set the environment of a run: a job of AWX, or a shell."""

    def job_(number: str, **more: str) -> None:
        for name in [name for name in os.environ if name.startswith(("K8S_AUTH_", "JOB_ID", "AWX_"))]:
            monkeypatch.delenv(name)
        for name, value in {**more, **({"AWX_JOB_ID": number} if number else {})}.items():
            monkeypatch.setenv(name, value)

    return job_


@pytest.mark.parametrize(
    ("url", "verify", "token", "told"),
    [
        ("https://api", True, True, ""),
        # As AWX's credential without a CA certificate.
        ("https://api", False, True, "the certificate of https://api is not checked: the token goes to whoever answers"),
        ("https://api", False, False, "the certificate of https://api is not checked: whoever answers there is believed"),
        ("http://api/", True, True, "http://api is asked without TLS: the token goes to whoever answers there"),
        ("http://127.0.0.1:8001", True, False, ""),  # kubectl proxy
        # As they are typed into AWX: the HTTP client takes both for http.
        ("10.0.0.1:6443", True, True, "10.0.0.1:6443 is asked without TLS: the token goes to whoever answers there"),
        ("api.local:6443", True, True, "api.local:6443 is asked without TLS: the token goes to whoever answers there"),
        ("HTTPS://api", True, True, ""),
    ],
)  # fmt: skip
def test_an_api_server_that_nobody_checks_is_told(job, url, verify, token, told):
    job("")
    configuration = Configuration(host=url, api_key={"authorization": "Bearer x"} if token else {})
    configuration.verify_ssl = verify
    found = trust.unchecked(configuration)
    assert found.startswith(told)
    assert bool(found) == bool(told)
    job("7")
    assert ("with Verify SSL on and no CA certificate" in trust.unchecked(configuration)) == (told[:3] == "the")


def test_required_tls_wins_over_the_environment(job):
    job("7", K8S_AUTH_VERIFY_SSL="False")
    given = {"validate_certs": False, "context": "c"}
    assert trust.required(given) == {"validate_certs": True, "context": "c", "require_tls": True}


@pytest.mark.parametrize("scheme", ["", "http://", "HTTP://"])
@pytest.mark.parametrize("source", ["host", "environment", "kubeconfig"])
def test_required_tls_refuses_a_plain_url_wherever_it_comes_from_and_sends_nothing(job, tmp_path, scheme, source):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"{scheme}127.0.0.1:{listener.getsockname()[1]}"
        config = {
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        (tmp_path / "config").write_text(json.dumps(config))
        job("7", **({"K8S_AUTH_HOST": url, "K8S_AUTH_API_KEY": "secret"} if source == "environment" else {}))
        named = {"host": {"host": url, "api_key": "secret"}, "kubeconfig": {"kubeconfig": str(tmp_path / "config")}}
        with pytest.raises(Refused, match=f"platform_require_tls is true: {url} is asked without TLS"):
            client.Cluster(trust.required(named.get(source, {})))
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize(
    ("number", "connection", "told"),
    [
        ("", {}, "the token in K8S_AUTH_API_KEY is wrong or has expired"),
        ("7", {}, "the token in the job's Kubernetes credential is wrong or has expired"),
        ("7", {"api_key": "x"}, "platform_connection.api_key"),
        ("", {"kubeconfig": "/k"}, "the credential in /k"),
    ],
)
def test_what_to_renew_is_told_by_where_it_comes_from(job, number, connection, told):
    job(number)
    assert told in trust.renewal(connection)


def test_without_settings_it_is_told_where_a_run_gets_them(job):
    job("")
    assert trust.unusable({}, "none.").endswith(
        "none; set platform_connection in the inventory, or K8S_AUTH_HOST and K8S_AUTH_API_KEY, or K8S_AUTH_KUBECONFIG"
    )
    job("7")
    assert "give the job template this cluster's Kubernetes credential" in trust.unusable({}, "none.")
    assert "credential" not in trust.unusable({"kubeconfig": "/k"}, "no such file")
