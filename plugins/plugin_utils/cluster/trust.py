"""Words what is wrong between a run and an API server: who answers is not checked, does not answer, or does not accept who asks; never connects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.modelyard.core.plugins.plugin_utils import job
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

# Of the connections that this process has made; each task has one of its own.
warnings: list[str] = []
REQUIRED = "platform_require_tls is true: {url} is asked without TLS. Name it by https"


def required(connection: Mapping) -> dict:
    """Give a connection whose API server must show a certificate of a known CA, whatever the environment says.

    Args:
        connection: ``platform_connection``.

    Returns:
        it, with ``require_tls``: where it leads is known when the kubeconfig is read, and looked at by :func:`refuse_plain`.
    """
    return {**connection, "validate_certs": True, "require_tls": True}


def refuse_plain(configuration: Any) -> None:
    """Refuse an API server that would be asked without TLS.

    Args:
        configuration: the Kubernetes client's.

    Raises:
        Refused: it would be.
    """
    if _plain(configuration.host):
        raise Refused([REQUIRED.format(url=configuration.host)])


def _plain(url: str) -> bool:
    # Without a scheme (10.0.0.1:6443, api:6443), the HTTP client speaks plain HTTP.
    return urlsplit(url).scheme != "https"


def note(configuration: Any) -> None:
    """Note what is to be warned of, once for each API server.

    Args:
        configuration: the Kubernetes client's.
    """
    if (told := unchecked(configuration)) and told not in warnings:
        warnings.append(told)


def unchecked(configuration: Any) -> str:
    """Say of a connection that nobody checks who answers.

    Args:
        configuration: the Kubernetes client's.

    Returns:
        a warning, or ``''`` where the API server's certificate is checked, or where nothing secret is sent (kubectl proxy).
    """
    url, sent = configuration.host.rstrip("/"), bool(configuration.auth_settings())
    plain = _plain(url)
    if (plain and not sent) or (not plain and configuration.verify_ssl):
        return ""
    lost = "the token goes to whoever answers there" if sent else "whoever answers there is believed"
    if plain:
        return f"{url} is asked without TLS: {lost}, and to all on the way. Name it by https"
    awx = " (with Verify SSL on and no CA certificate in the credential, AWX turns it off, too)" if job.number() else ""
    return (
        f"the certificate of {url} is not checked{awx}: {lost}. "
        f"{_authority()}, and turn the check on; with platform_require_tls: true a run refuses to go on without"
    )


def unanswered(server: str, reason: object) -> str:
    """Say that no answer came, or one of whoever it may be.

    Args:
        server: which one.
        reason: why, as the HTTP client says it.
    """
    if "CERTIFICATE_VERIFY_FAILED" in str(reason):
        return f"{server} shows a certificate that no CA known here has signed ({reason}). {_authority()}"
    return f"{server} does not answer: {reason}"


def unusable(connection: Mapping, error: object) -> str:
    """Say that there are no connection settings, or none that can be used."""
    source = _kubeconfig(connection)
    told = f"the connection settings can't be used ({source or 'platform_connection, K8S_AUTH_*'}): {error}"
    return told if source else f"{told.rstrip('.')}; {job.cluster_credential()}"


def renewal(connection: Mapping) -> str:
    """Say which credential to renew when the API server does not accept who asks, in brackets."""
    if connection.get("api_key"):
        place = "the token in platform_connection.api_key"
    elif _kubeconfig(connection):
        place = f"the credential in {_kubeconfig(connection)}"
    else:
        place = "the token in the job's Kubernetes credential" if job.number() else "the token in K8S_AUTH_API_KEY"
    return f" ({place} is wrong or has expired: renew it)"


def _kubeconfig(connection: Mapping) -> str:
    """Name the kubeconfig that the settings come from; '' where none is named."""
    found = connection.get("kubeconfig") or os.environ.get("K8S_AUTH_KUBECONFIG") or ""
    return found if isinstance(found, str) else ""


def _authority() -> str:
    if job.number():
        return "Put the cluster's CA certificate into the job's Kubernetes credential, or name its file in platform_connection.ca_cert"
    return "Name the file with the cluster's CA certificate in platform_connection.ca_cert or K8S_AUTH_SSL_CA_CERT, or have it in the kubeconfig"
