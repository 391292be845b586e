"""Fetches what Hugging Face, or a mirror of it, says of a model: its configuration and the size of its weights; never the weights."""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit

HOST = "https://huggingface.co"
# As huggingface_hub reads them.
TOKEN, ENDPOINT = "HF_TOKEN", "HF_ENDPOINT"
CONFIG, INDEX, WEIGHTS = "config.json", "model.safetensors.index.json", "model.safetensors"
# A file goes from the host to what stores it: no more than these.
REDIRECTS = 5
# An index of 1000 layers is below.
MOST_BYTES = 64 * 2**20


class Unavailable(Exception):
    """A file that can't be had; the message says why, for the operator.

    Attributes:
        status: of the answer; 0 for none.
    """

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Hub:
    """A host with Hugging Face's layout.

    Attributes:
        endpoint: its URL.
        proxy: ``http_proxy``, ``https_proxy`` and ``no_proxy``, for what the environment does not set.
        ca_path: a file with the certificates to trust; ``""`` for the system's.
        timeout: seconds until an answer.
    """

    endpoint: str = HOST
    proxy: Mapping = field(default_factory=dict)
    ca_path: str = ""
    timeout: int = 20

    def facts(self, model: str, revision: str = "") -> tuple[dict, int]:
        """Fetch a model's configuration and the size of its weights.

        Args:
            model: as ``org/name``.
            revision: a branch, tag or commit; ``""`` for ``main``.

        Returns:
            its config.json, and bytes; 0 where there are no safetensors.

        Raises:
            Unavailable: there is none, or it is not for whoever asks.
        """
        place = f"{self.endpoint.rstrip('/')}/{quote(model)}/resolve/{quote(revision or 'main', safe='')}"
        config = self.json(f"{place}/{CONFIG}")
        try:
            total = (self.json(f"{place}/{INDEX}").get("metadata") or {}).get("total_size")
        except Unavailable as error:
            if error.status != 404:
                raise
            total = self._size(f"{place}/{WEIGHTS}")
        return config, int(total or 0)

    def json(self, url: str) -> dict:
        """Fetch a dictionary in JSON.

        Raises:
            Unavailable: it can't be had, or is none.
        """
        _headers, text = self._ask(url, "GET")
        try:
            found = json.loads(text) if len(text) <= MOST_BYTES else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise Unavailable(f"{url} is no dictionary in JSON", 200)
        return found

    def _size(self, url: str) -> int:
        try:
            headers, _nothing = self._ask(url, "HEAD")
        except Unavailable as error:
            if error.status != 404:
                raise
            return 0
        return int(headers.get("X-Linked-Size") or headers.get("Content-Length") or 0)

    def _ask(self, url: str, method: str) -> tuple[Mapping, bytes]:
        """Follow an address to its file: headers and content. The token is sent to the endpoint alone, not to what it leads to."""
        # Slow to load, and needed by none of the other runs.
        from ansible.module_utils.urls import open_url

        for _ in range(REDIRECTS):
            token = os.environ.get(TOKEN, "")
            headers = {"Authorization": f"Bearer {token}"} if token and _origin(url) == _origin(self.endpoint) else {}
            try:
                with (
                    _environment(self.proxy),
                    open_url(
                        url,
                        method=method,
                        headers=headers,
                        timeout=self.timeout,
                        ca_path=self.ca_path or None,
                        follow_redirects="no",
                        decompress=False,
                        use_netrc=False,
                    ) as answer,
                ):
                    return answer.headers, answer.read(MOST_BYTES + 1)
            except HTTPError as error:
                if error.code not in (301, 302, 303, 307, 308) or not error.headers.get("Location"):
                    raise Unavailable(_worded(url, error), error.code) from None
                # Hugging Face says here how large a file is that is stored elsewhere.
                if method == "HEAD" and error.headers.get("X-Linked-Size"):
                    return error.headers, b""
                url = urljoin(url, error.headers["Location"])
            except (URLError, OSError, ValueError) as error:
                raise Unavailable(f"{url} can't be reached: {getattr(error, 'reason', error)}") from None
        raise Unavailable(f"{url} leads on and on")


def _origin(url: str) -> tuple:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


@contextlib.contextmanager
def _environment(proxy: Mapping) -> Iterator[None]:
    """Let urllib see a proxy, which it reads from the environment alone."""
    lower = {key.lower() for key in os.environ}
    added = {key: str(value) for key, value in proxy.items() if value and key not in lower}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            del os.environ[key]


def _worded(url: str, error: HTTPError) -> str:
    """Say in words why a host refuses; it may name its reason in X-Error-Code."""
    reason = str(error.headers.get("X-Error-Code") or "")
    known = bool(os.environ.get(TOKEN))
    if error.code in (401, 403) and known:
        return f"{url}: the token in {TOKEN} may not read it ({error.code}): the model is private, or its terms are to be accepted first"
    if error.code in (401, 403):
        return f"{url}: only with a token ({error.code}): set {TOKEN} in the environment, if the model is private or gated; else there is no such model"
    if error.code == 404:
        what = {"RepoNotFound": "no such model", "RevisionNotFound": "no such revision"}.get(reason, "no such file")
        return f"{url}: {what} (404)"
    return f"{url}: the host answers {error.code}"


@functools.cache
def fetched(url: str, endpoint: str, proxy: tuple) -> dict:
    """Fetch a configuration by its URL, once in a run; see :meth:`Hub.json`.

    Args:
        url: of the file.
        endpoint: the host that the token is for; ``""`` for Hugging Face's own.
        proxy: pairs, see :class:`Hub`.
    """
    return Hub(endpoint or HOST, dict(proxy), timeout=5).json(url)
