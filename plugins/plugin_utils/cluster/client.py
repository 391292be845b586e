"""Speaks to one Kubernetes API server over HTTP, with kubernetes.core's own connection settings; knows no object of ours.

kubernetes.core's modules need three requests for an object and one interpreter start for a call; a plan needs
forty objects read and dry-run at once. So the connection (kubeconfig, token, exec plugin, proxy, impersonation)
is kubernetes.core's, and the requests are plain ones on the same urllib3 pool.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from threading import Thread
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import urllib3
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import trust
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

try:
    # What it checks an object with, for modules of kubernetes.core, is a third of the client's import.
    sys.modules.setdefault("kubernetes_validate", None)  # type: ignore[arg-type]
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s import client as k8s
    from ansible_collections.kubernetes.core.plugins.module_utils.k8s.exceptions import CoreException
    from kubernetes.client import ApiException
    from kubernetes.config import ConfigException
    from kubernetes.dynamic.exceptions import DynamicApiError
finally:
    if sys.modules["kubernetes_validate"] is None:
        del sys.modules["kubernetes_validate"]

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
ACCEPTED = "application/json, */*"
# All groups in one answer (KEP-3352), where the API server is of Kubernetes 1.30 or later.
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
TIMEOUT = urllib3.Timeout(connect=10, read=60)
IMPATIENT = urllib3.Timeout(connect=5, read=10)
PARALLEL = 8
# For the connection: an exec plugin, and kubernetes.core's request for the versions of the APIs, which has no time limit of its own.
CONNECTED_SECONDS = 60


class ApiError(Failure):
    """An answer of the API server that is not a success.

    Attributes:
        status: HTTP status.
        details: the ``Status`` object that came with it, or ``{}``.
    """

    def __init__(self, status: int, body: bytes, more: str = ""):
        try:
            self.details = json.loads(body)
        except ValueError:
            self.details = {}
        self.status = status
        message = self.details.get("message") if isinstance(self.details, dict) else None
        super().__init__((message or body.decode(errors="replace")[:500] or f"HTTP status {status}") + more)

    @property
    def causes(self) -> list[dict]:
        """The ``details.causes`` of the Status: one entry for each field that is wrong or in conflict."""
        return (self.details.get("details") or {}).get("causes") or []


class Unreachable(Failure):
    """No answer from the API server, or no usable connection settings."""

    answers = False


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """Look at a cluster, but not for ever.

    Args:
        seconds: that it may take.
        look: gives what it sees.

    Raises:
        Unreachable: it takes longer. It goes on by itself, and ends with the task's process.
    """
    found: Future = Future()

    def run() -> None:
        try:
            found.set_result(look())
        except BaseException as error:
            found.set_exception(error)

    Thread(target=run, daemon=True).start()
    try:
        return found.result(seconds)
    except TimeoutError:
        raise Unreachable(f"the API server does not answer within {seconds:g} s") from None


class Cluster:
    """The API server that a connection leads to."""

    def __init__(self, connection: dict):
        """Read the connection settings; sends nothing yet.

        Args:
            connection: kubernetes.core's connection options (``kubeconfig``, ``context``, ``host``, ``api_key`` ...);
                what is absent comes from ``K8S_AUTH_*``, as in kubernetes.core; ``require_tls`` as ``trust.required`` gives it.

        Raises:
            Unreachable: no kubeconfig, context or host can be read, or no answer came.
            Refused: it must be asked by TLS, and would not be. Nothing was sent to it.
        """
        self._connection = {key: value for key, value in connection.items() if value not in (None, "")}
        self._require_tls = self._connection.pop("require_tls", False)
        self._resources: dict[str, dict[str, dict]] = {}
        self._discovered = False
        self.warnings: list[str] = []
        self.now = None
        self._connect()

    def _connect(self) -> None:
        try:
            self._api = within(CONNECTED_SECONDS, self._client)
        except urllib3.exceptions.HTTPError as error:
            raise _unanswered(f"{error.pool.host}:{error.pool.port}", error) from error
        except (ApiException, DynamicApiError) as error:
            if not error.status:  # of the Kubernetes client's own: what came before any answer
                raise _unanswered("the API server", Exception(error.reason)) from error
            more = trust.renewal(self._connection) if error.status == 401 else ""
            raise Unreachable(f"the API server refuses the connection: {error.status} {error.reason}{more}") from error
        except (ConfigException, CoreException, OSError, ValueError, TypeError) as error:
            raise Unreachable(trust.unusable(self._connection, error)) from error
        self._pool = self._api.rest_client.pool_manager
        # kubernetes.core turns these off at its import; Ansible's workers turn them on again.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        trust.note(self._api.configuration)

    def _client(self) -> Any:
        """Do what kubernetes.core's ``get_api_client`` does, with a look at where it leads before the first request."""
        configuration = k8s._create_configuration(k8s._create_auth_spec(**self._connection))
        if self._require_tls:
            trust.refuse_plain(configuration)
        return k8s.create_api_client(configuration, **k8s._create_headers(**self._connection)).client

    @property
    def url(self) -> str:
        """The API server's URL as the connection settings name it."""
        return self._api.configuration.host.rstrip("/")

    def request(
        self,
        method: str,
        path: str,
        query: dict | None = None,
        body=None,
        content_type: str = JSON,
        patient: bool = True,
        accept: str = ACCEPTED,
    ):
        """Send one request.

        Args:
            method: HTTP method.
            path: absolute path on the API server.
            query: query parameters.
            body: object to send as JSON.
            content_type: of the body.
            patient: wait long, and try again. Not for what only helps to explain: a node that is gone never answers.
            accept: media types of the answer.

        Returns:
            the decoded JSON answer, or the text when it isn't JSON (logs).

        Raises:
            ApiError: an answer with a status of 400 or more.
            Unreachable: no answer.
        """
        answer = self._send(method, path, query, body, content_type, patient, accept)
        if answer.status == 401:
            # Tokens from an exec plugin (EKS: 15 minutes) end during a long wait: read the settings anew, once.
            self._connect()
            answer = self._send(method, path, query, body, content_type, patient, accept)
        if "Date" in answer.headers:
            self.now = parsedate_to_datetime(answer.headers["Date"])
        for warning in answer.headers.getlist("Warning") if hasattr(answer.headers, "getlist") else []:
            text = warning.split('"')[1] if '"' in warning else warning
            if text not in self.warnings:
                self.warnings.append(text)
        if answer.status >= 400:
            raise ApiError(answer.status, answer.data, trust.renewal(self._connection) if answer.status == 401 else "")
        return (
            json.loads(answer.data)
            if "json" in answer.headers.get("Content-Type", "")
            else answer.data.decode(errors="replace")
        )

    def _send(self, method, path, query, body, content_type, patient, accept):
        configuration = self._api.configuration
        headers = {"Accept": accept, "Content-Type": content_type, **self._api.default_headers}
        for auth in configuration.auth_settings().values():
            headers[auth["key"]] = auth["value"]
        url = self.url + path + (f"?{urlencode(query)}" if query else "")
        data = None if body is None else json.dumps(body)
        try:
            return self._pool.request(
                method,
                url,
                body=data,
                headers=headers,
                timeout=TIMEOUT if patient else IMPATIENT,
                retries=urllib3.Retry(2 if patient else 0, backoff_factor=0.2, raise_on_status=False),
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise _unanswered(self.url, error) from error

    def stream(self, method: str, path: str, headers: dict, body: bytes, seconds: float) -> urllib3.BaseHTTPResponse:
        """Pass one request on, and give the answer as it comes, whatever its status.

        Args:
            method: HTTP method.
            path: on the API server, with its query.
            headers: beside those of the connection.
            body: as it was sent.
            seconds: how long the next part of the answer may take.

        Returns:
            the answer, of which nothing is read yet.

        Raises:
            Unreachable: no answer.
        """

        def send() -> urllib3.BaseHTTPResponse:
            configuration = self._api.configuration
            auth = {entry["key"]: entry["value"] for entry in configuration.auth_settings().values()}
            timeout = urllib3.Timeout(connect=10, read=seconds)
            try:
                return self._pool.request(
                    method,
                    self.url + path,
                    body=body,
                    headers={**headers, **self._api.default_headers, **auth},
                    timeout=timeout,
                    retries=False,
                    preload_content=False,
                )
            except (urllib3.exceptions.HTTPError, OSError) as error:
                raise Unreachable(f"{self.url} does not answer: {error}") from error

        answer = send()
        if answer.status == 401:
            answer.release_conn()
            self._connect()
            answer = send()
        return answer

    def parallel(self, function, items: list) -> list:
        """Call ``function`` with every item, several at a time, and return the results in the items' order."""
        with ThreadPoolExecutor(PARALLEL) as pool:
            return list(pool.map(function, items))

    def resource(self, api_version: str, kind: str) -> dict | None:
        """Look a kind up.

        Args:
            api_version: e.g. ``apps/v1``.
            kind: e.g. ``Deployment``.

        Returns:
            the ``APIResource`` (``name`` is the plural, ``namespaced``), or ``None`` when the cluster lacks the API.
        """
        if "/" in api_version and not self._discovered:
            self._discover()
        if api_version not in self._resources:
            root = "/api/" if "/" not in api_version else "/apis/"
            try:
                found = self.request("GET", root + api_version)["resources"]
            except ApiError as error:
                if error.status not in (404, 503):
                    raise
                found = []
            self._resources[api_version] = {item["kind"]: item for item in found if "/" not in item["name"]}
        return self._resources[api_version].get(kind)

    def _discover(self) -> None:
        """Look up the kinds of all groups at once; of a server that can't tell them so, each version is asked for."""
        try:
            found = self.request("GET", "/apis", accept=f"{DISCOVERY},{ACCEPTED}")
        except ApiError:
            found = {}
        for group in found["items"] if found.get("kind") == "APIGroupDiscoveryList" else []:
            for version in group["versions"]:
                # The server of an aggregated API may be away, and what is known of it out of date.
                if version.get("freshness", "Current") == "Current":
                    self._resources[f"{group['metadata']['name']}/{version['version']}"] = {
                        one["responseKind"]["kind"]: {
                            "name": one["resource"],
                            "namespaced": one["scope"] == "Namespaced",
                        }
                        for one in version.get("resources") or []
                        if one.get("responseKind")
                    }
        self._discovered = True

    def path(self, api_version: str, kind: str, namespace: str | None, name: str = "") -> str:
        """The path of an object, or of its collection when no name is given."""
        resource = self.resource(api_version, kind)
        root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
        scope = f"/namespaces/{quote(namespace)}" if resource["namespaced"] and namespace else ""
        return f"{root}{scope}/{resource['name']}" + (f"/{quote(name)}" if name else "")

    def object_path(self, item: dict) -> str:
        """The path of a whole object."""
        return self.path(item["apiVersion"], item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"])

    def get(self, item: dict) -> dict | None:
        """Read the live object behind ``item`` (apiVersion, kind, metadata), or ``None`` when there is none."""
        try:
            return self.request("GET", self.object_path(item))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def list(self, api_version: str, kind: str, namespace: str | None, selector: str = "", **query) -> list[dict]:
        """List objects; each item gets its ``apiVersion`` and ``kind`` back, which a list leaves out."""
        if selector:
            query["labelSelector"] = selector
        answer = self.request("GET", self.path(api_version, kind, namespace), query)
        return [{"apiVersion": api_version, "kind": kind, **item} for item in answer["items"]]

    def apply(self, item: dict, manager: str, force: bool, dry_run: bool) -> dict:
        """Server-side apply one object, unknown fields refused.

        Raises:
            ApiError: 409 when another manager owns a field and ``force`` is off.
        """
        query = {"fieldManager": manager, "fieldValidation": "Strict", "force": str(force).lower()}
        if dry_run:
            query["dryRun"] = "All"
        return self.request("PATCH", self.object_path(item), query, item, APPLY)

    def denied(self, wanted: list[tuple[str, str, str, str]]) -> list[tuple[str, str, str, str]]:
        """Tell which actions this credential may not do.

        Args:
            wanted: tuples of verb, API group, resource (``pods/log`` for a subresource) and namespace ('' for cluster scope).

        Returns:
            those of ``wanted`` that the API server refuses.
        """
        rules: dict[str, list] = {}
        for namespace in {entry[3] for entry in wanted}:
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectRulesReview",
                "spec": {"namespace": namespace or "default"},
            }
            rules[namespace] = self.request(
                "POST", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews", body=review
            )["status"]["resourceRules"]

        def by_rules(entry):
            verb, group, resource, namespace = entry
            return any(
                {verb, "*"} & set(rule["verbs"])
                and {group, "*"} & set(rule.get("apiGroups") or [""])
                and {resource, "*", f"*/{resource.partition('/')[2]}"} & set(rule.get("resources") or [])
                and not rule.get("resourceNames")
                for rule in rules[namespace]
            )

        def refused(entry):
            # The rules may be incomplete (webhook authorizers, as on EKS): the review of one action decides.
            verb, group, resource, namespace = entry
            name, _, sub = resource.partition("/")
            attributes = {"verb": verb, "group": group, "resource": name, "subresource": sub, "namespace": namespace}
            review = {
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            }
            return not self.request("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body=review)[
                "status"
            ]["allowed"]

        open_ones = [entry for entry in wanted if not by_rules(entry)]
        return [entry for entry, no in zip(open_ones, self.parallel(refused, open_ones), strict=True) if no]


def _unanswered(server: str, error: Exception) -> Unreachable:
    return Unreachable(trust.unanswered(server, getattr(error, "reason", None) or error))


def readable(read: Callable, *args: Any, denied: Any = None, **query: Any) -> Any:
    """Read what this credential may not be allowed to see.

    Args:
        read: a method of a ``Cluster`` that only reads.
        args: its arguments.
        denied: what is given where the API server answers 403.
        query: more arguments.

    Raises:
        ApiError: any other refusal.
    """
    try:
        return read(*args, **query)
    except ApiError as error:
        if error.status != 403:
            raise
        return denied


def same_url(one: str, other: str) -> bool:
    """Tell whether two API server URLs mean one server: case, a trailing slash and the default port don't matter."""

    def parts(url):
        split = urlsplit(url.strip().rstrip("/"))
        return split.scheme, split.hostname, split.port or {"https": 443, "http": 80}.get(split.scheme), split.path

    return parts(one) == parts(other)


def describe(item: dict) -> str:
    """Name an object for people: ``Deployment ml-models/vllm``."""
    namespace = item["metadata"].get("namespace")
    return f"{item['kind']} " + (f"{namespace}/" if namespace else "") + item["metadata"]["name"]
