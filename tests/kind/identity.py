"""What EKS's pod identity webhook does, as a MutatingAdmissionPolicy: a stand-in for a part of AWS.

The pods of a ServiceAccount get a token for STS, and the environment that makes every AWS SDK exchange it.
"""

import json

# The annotation that names an account's role.
ROLE = "eks.amazonaws.com/role-arn"
TOKEN_PATH = "/var/run/secrets/eks.amazonaws.com/serviceaccount"

# In both lists of containers: what each gets, by name. An SDK finds STS at the endpoint.
_CONTAINERS = """object.spec.?{field}.orValue([]).map(c, Object.spec.{field}{{
  name: c.name,
  env: [
    Object.spec.{field}.env{{name: "AWS_ROLE_ARN", value: {role!r}}},
    Object.spec.{field}.env{{name: "AWS_WEB_IDENTITY_TOKEN_FILE", value: {token!r}}},
    Object.spec.{field}.env{{name: "AWS_DEFAULT_REGION", value: {region!r}}},
    Object.spec.{field}.env{{name: "AWS_ENDPOINT_URL", value: {endpoint!r}}}
  ],
  volumeMounts: [Object.spec.{field}.volumeMounts{{name: "aws-iam-token", mountPath: {path!r}, readOnly: true}}]
}})"""

_POD = "Object{{spec: Object.spec{{containers: {containers}, initContainers: {init_containers}}}}}"

# An applied configuration can't have a projected volume, whose sources are replaced as one.
_VOLUME = """[JSONPatch{op: "add", path: "/spec/volumes/-", value: Object.spec.volumes{
  name: "aws-iam-token",
  projected: Object.spec.volumes.projected{sources: [Object.spec.volumes.projected.sources{
    serviceAccountToken: Object.spec.volumes.projected.sources.serviceAccountToken{
      audience: "sts.amazonaws.com", expirationSeconds: 86400, path: "token"}}]}}}]"""


def webhook(namespace: str, account: dict, region: str, endpoint: str) -> list[dict]:
    """Give the policy for a ServiceAccount, and its binding.

    Args:
        namespace: of the pods.
        account: the live ServiceAccount, whose annotation names the role.
        region: of AWS.
        endpoint: URL of the server that stands in for STS and S3.
    """
    values = {
        "role": account["metadata"]["annotations"][ROLE],
        "token": f"{TOKEN_PATH}/token",
        "path": TOKEN_PATH,
        "region": region,
        "endpoint": endpoint,
    }
    filled = {field: _CONTAINERS.format(field=field, **values) for field in ("containers", "initContainers")}
    expression = _POD.format(containers=filled["containers"], init_containers=filled["initContainers"])
    name = f"identity-{account['metadata']['name']}"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    policy = {
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConstraints": {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
            "resourceRules": [rule],
        },
        "matchConditions": [
            {
                "name": "its-account",
                "expression": f"object.spec.serviceAccountName == {account['metadata']['name']!r}",
            }
        ],
        "mutations": [
            {"patchType": "JSONPatch", "jsonPatch": {"expression": _VOLUME}},
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}},
        ],
    }
    api = {"apiVersion": "admissionregistration.k8s.io/v1"}
    return [
        {**api, "kind": "MutatingAdmissionPolicy", "metadata": {"name": name}, "spec": policy},
        {
            **api,
            "kind": "MutatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name},
        },
    ]


def give(platform, app: str, account: dict, endpoint: str) -> None:
    """Let new pods of a server get a token for its role; return when they do.

    Args:
        platform: the platform on the kind cluster.
        app: the server's Deployment.
        account: its ServiceAccount, whose annotation names the role.
        endpoint: URL of the server that stands in for STS and S3.
    """
    kind = platform.kind
    policy = webhook("ml-models", account, "eu-central-1", endpoint)
    kind.kubectl("apply", "--filename", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": policy}))
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "probe-", "namespace": "ml-models"},
        "spec": platform.get("deployment", app)["spec"]["template"]["spec"],
    }
    path = "/api/v1/namespaces/ml-models/pods?dryRun=All"
    platform.until(
        lambda: "aws-iam-token" in json.dumps(kind.api("POST", path, probe)), "pods get a token for their role"
    )
