"""Reads lists of AWX's REST API, for what its modules can't tell: all objects of a kind; never writes."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

PAGE = 200
TIMEOUT_SECONDS = 30
# Field of awx_connection: the variable of the environment that the modules take too, after CONTROLLER_, or else after TOWER_.
ENVIRONMENT = {
    "host": "HOST",
    "oauth_token": "OAUTH_TOKEN",
    "username": "USERNAME",
    "password": "PASSWORD",
    "validate_certs": "VERIFY_SSL",
}


def connection(said: Mapping[str, Any], environment: Mapping[str, str] = os.environ) -> dict:
    """Complete ``awx_connection`` from the environment.

    Args:
        said: the variable.
        environment: what it leaves out.

    Raises:
        Failure: something is missing.
    """
    # As the task does it: a text of more than one line in a file of variables ends with a line break.
    said = {**said, "oauth_token": (said.get("oauth_token") or "").strip()}
    given = {name: value for name, value in said.items() if value not in (None, "")}
    # As the modules do: each for itself. A token wins over a user, wherever it comes from.
    for name, word in ENVIRONMENT.items():
        if value := environment.get(f"CONTROLLER_{word}") or environment.get(f"TOWER_{word}"):
            given.setdefault(name, value)
    if "host" not in given:
        raise Failure("awx_connection.host is not set: the URL of AWX, there or in CONTROLLER_HOST")
    if not given["host"].startswith(("http://", "https://")):
        given["host"] = f"https://{given['host']}"
    if "oauth_token" not in given and not {"username", "password"} <= given.keys():
        raise Failure(
            "awx_connection has no login: set oauth_token, or username and password, there or as CONTROLLER_OAUTH_TOKEN, "
            "CONTROLLER_USERNAME and CONTROLLER_PASSWORD"
        )
    if not re.fullmatch("[!-~]*", given.get("oauth_token", "")):
        raise Failure("awx_connection.oauth_token (or CONTROLLER_OAUTH_TOKEN) must be of one line, without spaces")
    given["validate_certs"] = is_true(given.get("validate_certs", True))
    if given.get("ca_path"):
        path = Path(given["ca_path"]).expanduser().absolute()
        if not path.is_file():
            raise Failure(f"awx_connection.ca_path is {given['ca_path']!r}: there is no such file")
        given["ca_path"] = str(path)
    return given


def doubts(given: Mapping[str, Any]) -> list[str]:
    """Say what makes a connection unsafe, from :func:`connection`'s ``given``: an administrator's token may do everything in AWX."""
    if given["host"].startswith("http://"):
        return [
            f"awx_connection.host is {given['host']}: the token or password and all secrets go there unencrypted. Use https://"
        ]
    if not given["validate_certs"]:
        return [
            f"awx_connection.validate_certs is false: the token or password and all secrets go to whoever answers as {given['host']}. "
            "Use ca_path with the certificate that signed AWX's"
        ]
    return []


class _Straight(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would hand the token on, and what a module POSTs arrives as a GET."""

    def redirect_request(self, *_: Any) -> None:
        """Do without."""


class Awx:
    """Reads from one AWX.

    Args:
        given: from :func:`connection`.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.host = given["host"].rstrip("/")
        if given.get("oauth_token"):
            login = f"Bearer {given['oauth_token']}"
        else:
            pair = f"{given['username']}:{given['password']}"
            login = f"Basic {base64.b64encode(pair.encode()).decode()}"
        self._headers = {"Accept": "application/json", "Authorization": login}
        # Made once: to load certificates takes longer than a request.
        context = ssl.create_default_context(cafile=given.get("ca_path"))
        if not given["validate_certs"]:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self._opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _Straight)

    def get(self, path: str, **query: Any) -> dict:
        """Read one document.

        Args:
            path: below ``/api/v2/``, or the whole path as AWX tells it.
            query: of the URL.

        Raises:
            Failure: AWX does not answer, or refuses.
        """
        local = path if path.startswith("/") else f"/api/v2/{path}"
        url = f"{self.host}{local}" + (f"?{urlencode(query)}" if query else "")
        try:
            request = urllib.request.Request(url, headers=self._headers)  # noqa: S310 (https, or http where it says so)
            with self._opener.open(request, timeout=TIMEOUT_SECONDS) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise Failure(self._refused(error, local)) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            if isinstance(reason, ssl.SSLCertVerificationError):
                raise Failure(
                    f"the certificate of {self.host} (awx_connection.host) is not trusted: {reason.verify_message}. "
                    "awx_connection.ca_path takes a file with the one that signed it"
                ) from None
            raise Failure(f"{self.host} (awx_connection.host) does not answer: {reason}") from None
        except ValueError:
            raise Failure(f"{self.host} (awx_connection.host) answers {local} with no JSON: it is no AWX") from None

    def check_administrator(self) -> None:
        """Fail unless the user is a system administrator.

        Raises:
            Failure: it is not, or AWX does not answer.
        """
        for user in self.list("me/"):
            if not user["is_superuser"]:
                raise Failure(
                    f"the user of awx_connection, {user['username']}, is no system administrator, and AWX lets nobody else make credential "
                    "types: take a token of one"
                )

    def list(self, path: str, order: str = "id", **query: Any) -> list[dict]:
        """Read all pages of a list.

        Args:
            path: as for :meth:`get`, errors too.
            order: the field that it is sorted by, or none to keep AWX's own order. In that many can be equal, such as schedules that are
                off, and of these a next page may repeat some and leave out others.
            query: of the URL.
        """
        query |= {"page_size": PAGE} | ({"order_by": order} if order else {})
        found: list[dict] = []
        for number in itertools.count(1):
            page = self.get(path, page=number, **query)
            found += page["results"]
            if not page["next"]:
                break
        return found

    def _refused(self, error: urllib.error.HTTPError, path: str) -> str:
        status = error.code
        if 300 <= status < 400:
            return f"{self.host} (awx_connection.host) leads {path} to {error.headers.get('Location')}: set it to where AWX itself answers"
        if status == 401:
            return f"{self.host} refuses the login (awx_connection: oauth_token, or username and password): status 401"
        if status == 403:
            return f"{self.host}: the user of awx_connection may not read {path}: status 403"
        if status == 404:
            return f"{self.host} (awx_connection.host) has no {path}: status 404. Is it the URL of AWX, without a path?"
        return f"{self.host} answers {path} with status {status}"
