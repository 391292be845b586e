"""An AWS to test against: moto's server for IAM, STS and S3, and a stand-in for EKS, whose Pod Identity moto lacks.

`running()` starts both on free ports of the loopback. `Watch` counts what one boto3 client sends, and can refuse an action or lose
an answer as AWS and networks do.
"""

import contextlib
import copy
import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import boto3
import botocore.loaders
import urllib3
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import Owner
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.planner import Planner
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.writes import written
from botocore.exceptions import ConnectionClosedError
from services import CREDENTIALS, python_of

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ACCOUNT, OTHER = "123456789012", "210987654321"
REGION = "eu-central-1"
ROLES = ("my-triton-s3-read", "my-vllm-s3-read", "my-ml-models-argo-workflows")
ISSUER = f"https://oidc.eks.{REGION}.amazonaws.com/id/AAAA"
# Every boto3 session reads its megabytes of API models anew; in one process of tests, once is enough.
_LOADER = botocore.loaders.create_loader()
botocore.loaders.create_loader = lambda *_args: _LOADER


class Eks(http.server.ThreadingHTTPServer):
    """Stands in for EKS: DescribeCluster, the five calls of Pod Identity associations and those of their tags, as botocore's model has them.

    Attributes:
        clusters: name to what DescribeCluster answers. associations: id to association.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _EksCall)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.reset()

    def reset(self):
        self.clusters, self.associations, self.tokens = {}, {}, {}

    def association(self, *place: str) -> str:
        """The id of the association of a cluster, namespace and ServiceAccount, or nothing."""
        keys = ("clusterName", "namespace", "serviceAccount")
        return next((key for key, item in self.associations.items() if tuple(item[k] for k in keys) == place), "")

    def cluster(self, name: str, account: str = ACCOUNT, region: str = REGION) -> str:
        """Make a cluster; returns its issuer."""
        identity = f"{abs(hash((name, account))):032X}"[-32:]
        issuer = f"https://oidc.eks.{region}.amazonaws.com/id/{identity}"
        self.clusters[name] = {
            "name": name,
            "arn": f"arn:aws:eks:{region}:{account}:cluster/{name}",
            "endpoint": f"https://{identity}.gr7.{region}.eks.amazonaws.com",
            "identity": {"oidc": {"issuer": issuer}},
        }
        return issuer


class _EksCall(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        parts = path.strip("/").split("/")
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        eks, name = self.server, parts[1]
        if parts[0] == "tags":
            return self._tags(unquote(name if len(parts) == 2 else "/".join(parts[1:])), body, parse_qs(query))
        if name not in eks.clusters:
            return self._answer(404, {"message": f"No cluster found for name: {name}."}, "ResourceNotFoundException")
        if len(parts) == 2:
            return self._answer(200, {"cluster": eks.clusters[name]})
        key = parts[3] if len(parts) > 3 else ""
        if key and key not in eks.associations:
            return self._answer(404, {"message": "no such association"}, "ResourceNotFoundException")
        if self.command == "GET" and not key:
            asked = {k: v[0] for k, v in parse_qs(query).items() if k in ("namespace", "serviceAccount")}
            found = [
                item
                for item in eks.associations.values()
                if item["clusterName"] == name and all(item[k] == v for k, v in asked.items())
            ]
            hidden = ("roleArn", "tags")  # a list tells neither
            return self._answer(
                200, {"associations": [{k: v for k, v in item.items() if k not in hidden} for item in found]}
            )
        if self.command == "DELETE":
            return self._answer(200, {"association": eks.associations.pop(key)})
        if self.command == "POST":
            if not key and (live := eks.association(name, body["namespace"], body["serviceAccount"])):
                if eks.tokens[live] == body["clientRequestToken"]:
                    return self._answer(200, {"association": eks.associations[live]})
                return self._answer(409, {"message": f"Association already exists: {live}"}, "ResourceInUseException")
            key = key or f"a-{len(eks.associations)}{time.monotonic_ns()}"
            eks.tokens.setdefault(key, body.get("clientRequestToken"))
            kept = eks.associations.setdefault(key, {"clusterName": name, "associationId": key})
            kept["associationArn"] = f"arn:aws:eks:{REGION}:{ACCOUNT}:podidentityassociation/{name}/{key}"
            kept.update({k: v for k, v in body.items() if k != "clientRequestToken"})
        return self._answer(200, {"association": eks.associations[key]})

    do_POST = do_DELETE = do_GET  # noqa: N815

    def _tags(self, arn, body, query):
        (found,) = (item for item in self.server.associations.values() if item["associationArn"] == arn)
        kept = {key: value for key, value in found.get("tags", {}).items() if key not in query.get("tagKeys", [])}
        found["tags"] = kept | body.get("tags", {})
        return self._answer(200, {})

    def _answer(self, status, body, error=""):
        data = json.dumps(body).encode()
        self.send_response(status)
        if error:
            self.send_header("x-amzn-ErrorType", error)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


class Aws:
    """The running services; `env` is what a program needs to reach them with the credentials of `ACCOUNT`."""

    def __init__(self, url: str, eks: Eks):
        self.url, self.eks = url, eks
        self._clients: dict = {}
        self.http = urllib3.PoolManager()
        self.env = {
            **CREDENTIALS,
            "AWS_ENDPOINT_URL": url,
            "AWS_ENDPOINT_URL_EKS": eks.url,
            # Whatever this machine has of its own must never be used.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def reset(self) -> None:
        """Empty every account."""
        assert self.http.request("POST", f"{self.url}/moto-api/reset").status == 200
        # Other accounts' credentials are gone with it.
        self._clients = {key: client for key, client in self._clients.items() if key[1] == ACCOUNT}
        self.eks.reset()

    def client(self, service: str, account: str = ACCOUNT, region: str = REGION):
        """A boto3 client of an account."""
        if (service, account, region) not in self._clients:
            keys = self.credentials(account)
            self._clients[service, account, region] = boto3.client(
                service,
                region_name=region,
                endpoint_url=self.eks.url if service == "eks" else self.url,
                aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
                aws_session_token=keys.get("AWS_SESSION_TOKEN"),
            )
        return self._clients[service, account, region]

    def credentials(self, account: str) -> dict[str, str]:
        """Environment variables with credentials of an account."""
        if account == ACCOUNT:
            return dict(CREDENTIALS)
        found = self.client("sts").assume_role(RoleArn=f"arn:aws:iam::{account}:role/admin", RoleSessionName="test")
        keys = found["Credentials"]
        return {
            "AWS_ACCESS_KEY_ID": keys["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
            "AWS_SESSION_TOKEN": keys["SessionToken"],
        }


@contextlib.contextmanager
def running(log: Path):
    """Start the services; gone at the end. `log` is moto's own, which names every request."""
    eks = Eks()
    threading.Thread(target=eks.serve_forever, daemon=True).start()
    with log.open("w") as out:
        server = subprocess.Popen(
            [python_of("services"), "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Aws(_url(server, log), eks)
    finally:
        server.terminate()
        server.wait(60)
        eks.shutdown()
        eks.server_close()


def _url(server: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 120
    while not (found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", log.read_text())):
        assert server.poll() is None, f"moto ended: {log.read_text()}"
        assert time.monotonic() < deadline, f"moto does not start: {log.read_text()}"
        time.sleep(0.1)
    assert urlsplit(found[1]).port
    return found[1]


_ACCOUNTS: dict = {}


def account_of(region: str) -> Account:
    """The account that the environment's credentials lead to; its clients, which take a tenth of a second each, are made once."""
    key = (os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_ENDPOINT_URL"], region)
    if key not in _ACCOUNTS:
        _ACCOUNTS[key] = Account("", region)
    return _ACCOUNTS[key]


class Killed(BaseException):
    """The process ends here, and nothing of it runs any more."""


class Watch:
    """Sees each call of an account's clients before it is sent, and answers for AWS where a test says so.

    Attributes:
        calls: "service:Operation", in order.
        denied: IAM actions, or operations, that are refused; "iam:ACTION ROLE" for one role alone.
        faults: what happens to the calls of an operation, one after the other: "CODE" or "CODE: message" is answered by AWS; "lost" is done
            by AWS, and the answer never comes; "repeated" is done, and boto3 sends it again; a function is called first; "" nothing special.
    """

    def __init__(self, account, denied: tuple = (), faults: dict | None = None):
        self.calls: list[str] = []
        self.denied = set(denied)
        self.faults = {name: list(found) for name, found in (faults or {}).items()}
        self._lost = self._repeated = self._sent = False
        self._tags: list[tuple[bytes, bytes]] = []
        self._actions = account.actions
        if not hasattr(account, "watch"):
            account.unwatched = {name: boto3.client(name, region_name=account.region) for name in ("iam", "s3")}
            for service in ("sts", "iam", "s3", "eks", "kms", "resourcegroupstaggingapi"):
                for event in ("before-call", "before-send", "after-call"):
                    seen = functools.partial(_seen, account, event.replace("-", "_"))
                    account.client(service).meta.events.register(event, seen)
        account.watch = self
        self._unwatched = account.unwatched
        self._iam = account.unwatched["iam"]

    def before_call(self, model, params, **_more):
        name = f"{model.service_model.service_name}:{model.name}"
        self.calls.append(name)
        action = self._actions.get(name, name)
        subject = params["body"].get("RoleName", "") if isinstance(params["body"], dict) else ""
        if {name, action, f"{action} {subject}"} & self.denied:
            return _answer(403, "AccessDenied", "not authorized")
        fault = self.faults[name].pop(0) if self.faults.get(name) else ""
        if callable(fault):
            fault = fault(params)
        self._lost, self._repeated, self._sent = fault == "lost", fault == "repeated", False
        if fault and not (self._lost or self._repeated):
            code, _, message = fault.partition(": ")
            return _answer(500 if code == "InternalFailure" else 400, code, message or "no")
        if model.name == "CreateBucket":
            self._tags = re.findall(rb"<Tag><Key>(.*?)</Key><Value>(.*?)</Value></Tag>", params["body"])
        change = re.fullmatch(r"(Add|Remove)ClientID\w+", model.name)
        return self._audience(change[1] == "Add", params["body"]) if change else None

    def before_send(self, request, **_more):
        if self._repeated:
            self._repeated, self._sent = False, True
            urllib3.request(request.method, request.url, headers=dict(request.headers), body=request.body)
            raise ConnectionClosedError(endpoint_url=request.url)

    def after_call(self, model, http_response, context, **_more):
        if model.name == "CreateBucket" and (http_response.status_code < 300 or self._sent):
            # moto drops them.
            pairs = [{"Key": key.decode(), "Value": value.decode()} for key, value in self._tags]
            bucket = context["input_params"]["Bucket"]
            self._unwatched["s3"].put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": pairs})
        if self._lost:
            self._lost = False
            raise ConnectionClosedError(endpoint_url="AWS")

    def _audience(self, add: bool, body: dict):
        """Stand in for the two operations on providers that moto lacks: the provider is made anew, with the other list."""
        key = {"OpenIDConnectProviderArn": body["OpenIDConnectProviderArn"]}
        client = self._iam
        live = client.get_open_id_connect_provider(**key)
        kept = [item for item in live["ClientIDList"] if item != body["ClientID"]]
        client.delete_open_id_connect_provider(**key)
        client.create_open_id_connect_provider(
            Url=f"https://{live['Url'].removeprefix('https://')}",
            ClientIDList=[*kept, body["ClientID"]] if add else kept,
            ThumbprintList=live.get("ThumbprintList") or [],
            Tags=live.get("Tags") or [],
        )
        return type("Response", (), {"status_code": 200})(), {"ResponseMetadata": {}}

    @property
    def writes(self) -> list[str]:
        """Those calls that change something."""
        return [name for name in self.calls if not re.match(r"\w+:(Get|List|Head|Describe)", name)]


def _seen(account, event, **more):
    return getattr(account.watch, event)(**more)


def _answer(status, code, message):
    error = {"Code": code, "Message": message}
    metadata = {"HTTPStatusCode": status}
    return type("Response", (), {"status_code": status})(), {"Error": error, "ResponseMetadata": metadata}


# --- A cluster's AWS side, planned and written as the action does --------------------------------------


# What each component may use, by the contract.
ACCESS = {
    "triton": [{"bucket": "my-triton-models", "head_bucket": True}],
    "vllm": [{"bucket": "my-mlflow-artifacts", "prefixes": ["7/"]}],
    "workflow": [
        {"bucket": bucket, "write": True} for bucket in ("my-triton-models", "my-mlflow-artifacts", "my-vllm-data")
    ],
}


def service_account(component, name, role, account=ACCOUNT, **more):
    """A ServiceAccount with its role and its access, as a rendering has it."""
    return {
        "component": component,
        "namespace": "ml-models",
        "name": name,
        "role_arn": role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}",
        "reads": [],
        "access": copy.deepcopy(ACCESS.get(component, [])),
        "variable": "irsa_workflow_access" if component == "workflow" else f"{component}_access",
        **more,
    }


def options(cluster="staging", account=ACCOUNT, **given):
    """What `options.of` picks from a rendering of the contract's servers; `given` replaces."""
    accounts = [
        service_account("triton", "triton-inference", ROLES[0], account, reads=["s3://my-triton-models"]),
        service_account("triton", "triton-inference-gpu", ROLES[0], account, reads=["s3://my-triton-models"]),
        service_account("vllm", "vllm-sa", ROLES[1], account),
        service_account("workflow", "workflow-sa", ROLES[2], account),
    ]
    found = {
        "state": "present",
        "profile": "",
        "profiles": {},
        "cluster_name": cluster,
        "cluster_account_id": account,
        "account_id": account,
        "partition": "aws",
        "region": REGION,
        "api_server": "",
        "namespace": "ml-models",
        "eks_cluster_name": cluster,
        "oidc_issuer": ISSUER,
        "pod_identity": False,
        "service_accounts": accounts,
        "role_arns": sorted({item["role_arn"] for item in accounts}),
        "buckets": {"my-triton-models": {}},
        "permissions_boundary": "",
        "max_session_seconds": 3600,
        "tags": {"team": "ml"},
        "adopt": [],
        "prune": True,
        "strict": True,
    }
    assert given.keys() <= found.keys()
    return {**copy.deepcopy(found), **given}


def make_buckets(account, wanted):
    """Make those buckets of the ServiceAccounts' access that are missing, and that a run does not make."""
    client = account.client("s3")
    there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]} | wanted["buckets"].keys()
    for name in {entry["bucket"] for item in wanted["service_accounts"] for entry in item["access"]} - there:
        client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": account.region})


def policy_name(cluster="staging", account=ACCOUNT, region=REGION):
    """The name of a cluster's inline policy."""
    return Owner(account, region, cluster).policy


def run(check=False, denied=(), faults=None, **given):
    """Plan and write as the action does; returns the account's watch, the changes and the notices."""
    wanted = options(**given)
    account = account_of(wanted["region"])
    watch = Watch(account, denied, faults)
    plan = Planner(account, wanted).make()
    if not check:
        written(account, plan.writes)
    watch.changes = [write.summary for write in plan.writes]
    watch.notices, watch.plan = plan.notices, plan
    return watch


def replay(cloud, *situations, about=lambda _service, _arguments: True):
    """Do what a run of 0.1.0 did, in order: the requests that it sent, recorded at commit 70a930e."""
    recorded = json.loads((ROOT / "tests" / "aws_before.json").read_text(encoding="utf-8"))
    for service, operation, arguments in (write for name in situations for write in recorded[name]):
        if not about(service, arguments):
            continue
        # Its other region's bucket is made there.
        place = (arguments.get("CreateBucketConfiguration") or {}).get("LocationConstraint", REGION)
        getattr(cloud.client(service, region=place), operation)(**arguments)


def everything(cloud, account=ACCOUNT, region=REGION):
    """All that an account holds, for comparing; the region says in which partition."""
    iam_, s3 = cloud.client("iam", account, region), cloud.client("s3", account, region)
    found = {"associations": copy.deepcopy(cloud.eks.associations)}
    for role in iam_.list_roles()["Roles"]:
        name = role["RoleName"]
        policies = iam_.list_role_policies(RoleName=name)["PolicyNames"]
        live = iam_.get_role(RoleName=name)["Role"]
        keys = ("Arn", "AssumeRolePolicyDocument", "Description", "MaxSessionDuration", "PermissionsBoundary", "Tags")
        live["Tags"] = sorted(live.get("Tags") or [], key=lambda pair: pair["Key"])
        live["Description"] = live.get("Description") or None
        found[name] = {key: live.get(key) for key in keys} | {
            policy: iam_.get_role_policy(RoleName=name, PolicyName=policy)["PolicyDocument"] for policy in policies
        }
    for provider in iam_.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        live = iam_.get_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])
        live["Tags"] = sorted(live.get("Tags") or [], key=lambda pair: pair["Key"])
        found[provider["Arn"]] = {key: live.get(key) for key in ("ClientIDList", "Tags", "Url")}
    for bucket in s3.list_buckets()["Buckets"]:
        found[bucket["Name"]] = bucket_settings(s3, bucket["Name"])
    return json.loads(json.dumps(found, default=str, sort_keys=True))


def bucket_settings(s3, name):
    calls = (
        "get_bucket_versioning",
        "get_bucket_encryption",
        "get_public_access_block",
        "get_bucket_policy",
        "get_bucket_lifecycle_configuration",
        "get_bucket_tagging",
    )
    found = {}
    for call in calls:
        try:
            answer = getattr(s3, call)(Bucket=name)
            found[call] = {key: value for key, value in answer.items() if key != "ResponseMetadata"}
        except s3.exceptions.ClientError as error:
            found[call] = error.response["Error"]["Code"]
    return found
