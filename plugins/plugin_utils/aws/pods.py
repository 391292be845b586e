"""Judges whether the running pods of a ServiceAccount carry what gives them its role; never reads.

What EKS's webhook injects: amazon-eks-pod-identity-webhook, README and pkg/handler. Which credentials an SDK takes first: AWS SDKs and
Tools Reference Guide, "Standardized credential providers".
"""

from __future__ import annotations

import csv
import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import injectors, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.chain import Broken, Unjudged
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.observed import Observed, Unread

AUDIENCE = "eks.amazonaws.com/audience"
REGIONAL = "eks.amazonaws.com/sts-regional-endpoints"
SKIP = "eks.amazonaws.com/skip-containers"
# Where the agent answers on a node (EKS User Guide, "Set up the Amazon EKS Pod Identity Agent").
AGENTS = ("169.254.170.23", "fd00:ec2::23")
ROLE, TOKEN = "AWS_ROLE_ARN", "AWS_WEB_IDENTITY_TOKEN_FILE"
ENDPOINT = "AWS_STS_REGIONAL_ENDPOINTS"
POD_URI, POD_TOKEN = "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
# Every SDK takes these before the token of a role, and files where they name one.
STATIC = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE")
FILES = ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE")
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", "MLFLOW_S3_ENDPOINT_URL")
AWS_HOSTS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")
HTTP_PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY")


def judge(seen: Observed, item: Mapping, pod_identity: bool) -> tuple[list[str], list[str]]:
    """Judge the pods of a ServiceAccount.

    Args:
        seen: what there is in the cluster.
        item: the ServiceAccount: ``namespace``, ``name``, ``role_arn``, and in ``containers`` the names of those containers that matter, all where that is absent or empty.
        pod_identity: whether EKS Pod Identity gives the role.

    Returns:
        what does not break the link and should be known; and what would have to be known to judge it.

    Raises:
        Broken: a pod can't get the role.
        Unjudged: the pods may not be read.
    """
    account = f"{item['namespace']}/{item['name']}"
    listed = seen.pods.get(item["namespace"], [])
    if isinstance(listed, Unread):
        raise Unjudged(f"its pods may not be listed: {listed.why}")
    pods = [pod for pod in listed if _is_running(pod, item["name"])]
    looks = [_Pod(pod, item, seen.accounts.get(account) or {}, pod_identity).judge(seen) for pod in pods]
    # Where a pod lacks what a webhook injects, the webhook's absence is the reason.
    unknown = injectors.judge_webhook(seen, item["namespace"], pods)
    broken = [look.broken for look in looks if look.broken]
    if broken:
        count = f"{len(broken)} of {len(pods)} pods: " if len(pods) > 1 else ""
        raise Broken(f"{count}{broken[0]}")
    doubts = [text for look in looks for text in look.doubts]
    notices = [text for look in looks for text in look.notices]
    if unknown:
        # What runs was injected into, whatever there is now.
        (notices if pods else doubts).append(unknown)
    if not pods:
        notices.append("none of its pods runs, so none could be looked at")
        if pod_identity and seen.agents is None and not seen.auto_nodes:
            doubts.append(injectors.NO_AGENT)
    return [f"{account}: {text}" for text in dict.fromkeys(notices)], list(dict.fromkeys(doubts))


def _is_running(pod: Mapping, account: str) -> bool:
    # One whose init container can't load is Pending.
    ended = (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return pod["spec"].get("serviceAccountName") == account and not ended and "deletionTimestamp" not in pod["metadata"]


class _Pod:
    """One pod, looked at container by container."""

    def __init__(self, pod: Mapping, item: Mapping, annotations: Mapping[str, str], pod_identity: bool) -> None:
        self.pod, self.item, self.annotations, self.pod_identity = pod, item, annotations, pod_identity
        self.where = self.name = f"pod {pod['metadata']['name']}"
        self.broken = ""
        self.doubts: list[str] = []
        self.notices: list[str] = []

    def judge(self, seen: Observed) -> _Pod:
        spec, wanted = self.pod["spec"], self.item.get("containers")
        try:
            for container in [*(spec.get("initContainers") or []), *spec["containers"]]:
                if not wanted or container["name"] in wanted:
                    self._judge_container(container)
            if self.pod_identity:
                injectors.judge_agent(seen, self.pod)
        except Broken as error:
            self.broken = str(error)
        except Unjudged as error:
            self.doubts.append(str(error))
        return self

    def _judge_container(self, container: Mapping) -> None:
        env = {entry["name"]: entry for entry in container.get("env") or []}
        self.where = f"{self.name}, container {container['name']}"
        self._judge_preferred(container, env)
        if not {"AWS_REGION", "AWS_DEFAULT_REGION"} & env.keys():
            self.notices.append(f"{self.where}: no AWS_REGION, so its SDK asks in us-east-1")
        if self.pod_identity:
            self._judge_pod_identity(container, env)
        else:
            self._judge_irsa(container, env)

    def _text(self, env: Mapping, name: str) -> str:
        """Give a variable's value: empty where there is none; one that comes from elsewhere is noted."""
        entry = env.get(name, {})
        if "valueFrom" in entry:
            self.doubts.append(f"{self.where}: what {name} is set to is not read")
        return str(entry.get("value") or "")

    def _judge_preferred(self, container: Mapping, env: Mapping) -> None:
        for name in STATIC:
            # AWS's SDK for C++ goes on where a profile has no credentials, boto3 does not.
            if "PROFILE" in name and name in env and self.item.get("component") == "triton":
                self.doubts.append(f"{self.where}: whether the profile of {name} has credentials is not read")
                continue
            source = env.get(name, {}).get("valueFrom") or {}
            optional = any(isinstance(part, Mapping) and part.get("optional") for part in source.values())
            if _is_set(env, name) and not optional:
                raise Broken(f"{self.where}: SDKs take {name} before the role: remove it")
            if source:
                self.doubts.append(f"{self.where}: SDKs take {name} before the role, and whether it is set is not read")
        for name in FILES:
            if _is_set(env, name):
                self.doubts.append(f"{self.where}: SDKs may take what the file of {name} says before the role")
        for name in ENDPOINTS:
            host = urlsplit(str(env.get(name, {}).get("value") or "")).hostname or ""
            if _is_set(env, name) and not host.endswith(AWS_HOSTS):
                self.doubts.append(f"{self.where}: {name} leads elsewhere than to AWS")
        sources = [
            part["name"]
            for entry in container.get("envFrom") or []
            for part in (entry.get("secretRef"), entry.get("configMapRef"))
            if part
        ]
        if sources:
            named = ", ".join(sorted(sources))
            self.doubts.append(
                f"{self.where}: variables from {named} are not read; {', '.join(STATIC)} would come before the role"
            )

    def _judge_irsa(self, container: Mapping, env: Mapping) -> None:
        if not {ROLE, TOKEN} <= env.keys():
            if POD_URI in env:
                raise Broken(
                    f"{self.where}: EKS Pod Identity gives it a role, since an association comes before the annotation: "
                    "delete the association, or set platform_pod_identity"
                )
            raise Broken(self._not_injected(container, ROLE if ROLE not in env else TOKEN, "the annotation"))
        role = self._text(env, ROLE)
        if role and role != self.item["role_arn"]:
            raise Broken(
                f"{self.where}: {ROLE} is {role}, the ServiceAccount names {self.item['role_arn']}: {self._restart()}"
            )
        self._judge_token(container, self._text(env, TOKEN), TOKEN, self.annotations.get(AUDIENCE) or policies.AUDIENCE)
        live = self._text(env, ENDPOINT)
        if self.annotations.get(REGIONAL) == "true" and live != "regional" and "valueFrom" not in env.get(ENDPOINT, {}):
            said = f"{ENDPOINT} is {live}" if live else f"no {ENDPOINT}"
            raise Broken(f"{self.where}: {said}, although {REGIONAL} is true: {self._restart()}")

    def _judge_pod_identity(self, container: Mapping, env: Mapping) -> None:
        if {ROLE, TOKEN} <= env.keys():
            raise Broken(f"{self.where}: SDKs take the token of {ROLE} before EKS Pod Identity: {self._restart()}")
        if not {POD_URI, POD_TOKEN} <= env.keys():
            raise Broken(self._not_injected(container, POD_URI if POD_URI not in env else POD_TOKEN, "the association"))
        if "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" in env:
            raise Broken(f"{self.where}: SDKs take AWS_CONTAINER_CREDENTIALS_RELATIVE_URI before {POD_URI}: remove it")
        uri = self._text(env, POD_URI)
        host = urlsplit(uri).hostname or ""
        if uri and host not in AGENTS:
            raise Broken(f"{self.where}: {POD_URI} is {uri}, and the agent answers at {' and '.join(AGENTS)}")
        self._judge_token(container, self._text(env, POD_TOKEN), POD_TOKEN, policies.POD_IDENTITY)
        self._judge_proxy(env, host)

    def _judge_proxy(self, env: Mapping, host: str) -> None:
        """See that the agent is not asked through a proxy, which can't reach it (EKS User Guide, "EKS Pod Identity considerations")."""
        proxies = [name for name in HTTP_PROXIES if _is_set(env, name)]
        if not proxies and not any(_is_set(env, name) for name in ("https_proxy", "HTTPS_PROXY")):
            return
        # Clients take the lower case first.
        given = self._text(env, "no_proxy" if "no_proxy" in env else "NO_PROXY")
        without = [entry.strip().strip("[]") for entry in given.split(",")]
        missing = [address for address in AGENTS if not {address, "*"} & set(without)]
        if proxies and host in missing:
            network = next((entry for entry in without if _holds(entry, host)), "")
            if network:
                self.doubts.append(
                    f"{self.where}: whether NO_PROXY's {network} keeps {host} from the proxy depends on the client: name it itself"
                )
                return
            raise Broken(
                f"{self.where}: {proxies[0]} is set, and NO_PROXY lacks {_bracketed(host)}: the agent is not reached through a proxy"
            )
        if missing:
            named = ", ".join(_bracketed(address) for address in missing)
            self.notices.append(
                f"{self.where}: a proxy is set, and NO_PROXY lacks {named}, where the agent may answer too"
            )

    def _judge_token(self, container: Mapping, path: str, variable: str, audience: str) -> None:
        if not path:
            return
        mounts = [
            mount
            for mount in container.get("volumeMounts") or []
            if path == mount["mountPath"] or path.startswith(mount["mountPath"].rstrip("/") + "/")
        ]
        if not mounts:
            raise Broken(f"{self.where}: nothing is mounted at {path}, which {variable} names: {self._restart()}")
        mount = max(mounts, key=lambda found: len(found["mountPath"]))
        inside = path[len(mount["mountPath"].rstrip("/")) :].strip("/")
        file = "/".join(part for part in (mount.get("subPath"), inside) if part)
        volume = next((found for found in self.pod["spec"].get("volumes") or [] if found["name"] == mount["name"]), {})
        if "projected" not in volume:
            self.doubts.append(f"{self.where}: {path} is in the volume {mount['name']}, which is no projected token")
            return
        tokens = [
            source["serviceAccountToken"]
            for source in volume["projected"].get("sources") or []
            if source.get("serviceAccountToken")
        ]
        token = next((found for found in tokens if found["path"] == file), None)
        if token is None:
            raise Broken(
                f"{self.where}: the volume {mount['name']} has no token {file}, which {variable} names: {self._restart()}"
            )
        if token.get("audience", "") != audience:
            live = token.get("audience") or "the API server"
            raise Broken(f"{self.where}: its token is for the audience {live}, not for {audience}: {self._restart()}")

    def _not_injected(self, container: Mapping, variable: str, since: str) -> str:
        if container["name"] in _skipped(self.pod):
            return (
                f"{self.where}: no {variable}, since the pod's annotation {SKIP} names the container: remove it there"
            )
        return (
            f"{self.where}: no {variable}: it is older than {since}, or the webhook did not answer; {self._restart()}"
        )

    def _restart(self) -> str:
        metadata = self.pod["metadata"]
        owner = next((found for found in metadata.get("ownerReferences") or [] if found.get("controller")), {})
        kind, name = owner.get("kind", "").lower(), owner.get("name", "")
        template = (metadata.get("labels") or {}).get("pod-template-hash", "")
        if kind == "replicaset" and template and name.endswith(f"-{template}"):
            kind, name = "deployment", name.removesuffix(f"-{template}")
        if kind in ("deployment", "statefulset", "daemonset"):
            return f"restart it: kubectl -n {metadata['namespace']} rollout restart {kind}/{name}"
        return "start it anew"


def _is_set(env: Mapping, name: str) -> bool:
    return bool(env.get(name, {}).get("value") or env.get(name, {}).get("valueFrom"))


def _skipped(pod: Mapping) -> list[str]:
    value = (pod["metadata"].get("annotations") or {}).get(SKIP, "")
    return next(csv.reader([value]), [])


def _holds(network: str, address: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address
