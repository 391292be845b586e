"""The nodes of a preflight against an account's quotas: moto's EC2, and a stand-in for Service Quotas, of which moto has none for EC2."""

import http.server
import json
import os
import threading

import aws_api
import pytest
from ansible_collections.modelyard.core.plugins.plugin_utils.aws import quota
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.quota import ON_DEMAND, SPOT
from aws_api import ACCOUNT, REGION, account_of
from delivering import act
from rendering import playbook, rendered

G, P, SPOT_P = "L-DB2E81BA", "L-417A185B", "L-7212CCBC"


class _Quotas(http.server.BaseHTTPRequestHandler):
    """GetServiceQuota of what was raised, GetAWSDefaultServiceQuota of what every account has."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        operation = self.headers["X-Amz-Target"].rpartition(".")[2]
        kept = self.server.raised if operation == "GetServiceQuota" else self.server.defaults
        value = kept.get(body["QuotaCode"])
        answer = {"Quota": {"QuotaCode": body["QuotaCode"], "Value": value}}
        if operation in self.server.denied:
            value, answer = None, {"__type": "AccessDeniedException", "Message": ""}
        elif value is None or body["ServiceCode"] != "ec2":
            value, answer = None, {"__type": "NoSuchResourceException", "Message": "no"}
        data = json.dumps(answer).encode()
        self.send_response(200 if value is not None else 400)
        self.send_header("Content-Type", "application/x-amz-json-1.1")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def quotas_server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quotas) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def quotas(cloud, quotas_server, monkeypatch):
    """The quotas of an account without any instance."""
    quotas_server.raised, quotas_server.defaults, quotas_server.denied = {}, {G: 0.0, P: 0.0}, set()
    monkeypatch.setenv("AWS_ENDPOINT_URL_SERVICE_QUOTAS", f"http://127.0.0.1:{quotas_server.server_port}")
    return quotas_server


def start(cloud, instance_type, number=1, cluster="", tag="eks:cluster-name", **more):
    """Start instances, as nodes of a cluster or as nobody's."""
    client = cloud.client("ec2")
    image = client.describe_images(Owners=["amazon"], MaxResults=5)["Images"][0]["ImageId"]
    pair = {"Key": f"{tag}{cluster}", "Value": "owned"} if tag.endswith("/") else {"Key": tag, "Value": cluster}
    tags = {"TagSpecifications": [{"ResourceType": "instance", "Tags": [pair]}]} if cluster else {}
    made = client.run_instances(
        ImageId=image, InstanceType=instance_type, MinCount=number, MaxCount=number, **tags, **more
    )
    return [one["InstanceId"] for one in made["Instances"]]


def pool(instance_type="g5.xlarge", nodes=1, capacity_type=ON_DEMAND):
    return {"instance_type": instance_type, "nodes": nodes, "capacity_type": capacity_type}


def looked(*pools, cluster="staging", **others):
    """The rows by code, and what was not checked."""
    rows, notices = quota.check(account_of(REGION), {cluster: list(pools), **others})
    return {row["code"]: row for row in rows}, notices


def test_what_runs_and_what_is_needed_against_the_quota(cloud, quotas):
    quotas.raised[G] = 16.0
    start(cloud, "g4dn.2xlarge")
    # Neither counts in this quota.
    start(cloud, "m5.large", 3)
    start(cloud, "g5.12xlarge", InstanceMarketOptions={"MarketType": "spot"})
    cloud.client("ec2").terminate_instances(InstanceIds=start(cloud, "g5.12xlarge"))
    rows, notices = looked(pool(nodes=2), pool("m6i.2xlarge", 40), pool("g5.48xlarge", 0))
    assert notices == []
    assert rows == {
        G: {
            "code": G,
            "name": "Running On-Demand G and VT instances",
            "limit": 16,
            "running": 8,
            "more": 8,
            "nodes": "2 x g5.xlarge",
            "fits": True,
        }
    }
    assert quota.line(rows[G]).endswith("8 of 16 vCPUs run, 8 more for 2 x g5.xlarge: fits")
    rows, _ = looked(pool(nodes=3))
    assert (rows[G]["more"], rows[G]["fits"]) == (12, False)
    assert "may run 16 vCPUs in eu-central-1" in quota.problem(rows[G], account_of(REGION))


def test_the_default_counts_where_the_account_has_no_value_of_its_own(cloud, quotas):
    rows, _ = looked(pool(), pool("p4d.24xlarge"))
    assert [(rows[code]["limit"], rows[code]["fits"]) for code in (G, P)] == [(0, False), (0, False)]
    quotas.raised[P] = 96.0
    assert looked(pool("p4d.24xlarge"))[0][P]["fits"]


def test_spot_has_quotas_of_its_own(cloud, quotas):
    quotas.raised |= {"L-3819A6DF": 4.0, SPOT_P: 96.0, "L-C4BD4855": 0.0}
    start(cloud, "g5.xlarge")
    rows, notices = looked(pool(capacity_type=SPOT), pool("p4d.24xlarge", 1, SPOT), pool("p5.48xlarge", 1, SPOT))
    assert {code: row["fits"] for code, row in rows.items()} == {"L-3819A6DF": True, SPOT_P: True, "L-C4BD4855": False}
    assert notices == []
    rows, notices = looked(pool("p6-b200.48xlarge", 1, SPOT))
    assert rows == {}
    assert "which quota counts it (spot) is not known" in notices[0]


@pytest.mark.parametrize("tag", [*quota.CLUSTER_TAGS, quota.OWNED])
def test_nodes_that_the_cluster_has_are_not_counted_twice(cloud, quotas, tag):
    quotas.raised[G] = 12.0
    start(cloud, "g5.xlarge", 2, "staging", tag)
    rows, _ = looked(pool(nodes=2), pool(nodes=1))
    assert (rows[G]["running"], rows[G]["more"], rows[G]["fits"]) == (8, 4, True)
    # A full quota is no reason against what is there.
    quotas.raised[G] = 4.0
    assert looked(pool(nodes=2))[0][G]["fits"]
    assert "no more are needed: fits" in quota.line(looked(pool(nodes=1))[0][G])
    # Those of another cluster, or of another type, do not help.
    assert looked(pool(nodes=2), cluster="production")[0][G]["more"] == 8
    assert looked(pool("g5.2xlarge"))[0][G]["more"] == 8


def test_clusters_of_one_account_share_its_quota(cloud, quotas):
    quotas.raised[G] = 8.0
    start(cloud, "g5.xlarge", 1, "production")
    rows, _ = looked(pool(), production=[pool()])
    assert (rows[G]["running"], rows[G]["more"], rows[G]["fits"]) == (4, 4, True)
    assert not looked(pool(), production=[pool(nodes=2)])[0][G]["fits"]


def test_more_instances_than_a_page_has(cloud, quotas, monkeypatch):
    quotas.raised[G] = 1000.0
    for _ in range(3):
        start(cloud, "g5.xlarge", 2)
    account = account_of(REGION)
    seen = []

    def small(params, **_more):
        seen.append(params["body"].setdefault("MaxResults", 2))

    account.client("ec2").meta.events.register("before-call.ec2.DescribeInstances", small)
    try:
        assert looked(pool())[0][G]["running"] == 24
        assert len(seen) > 1
    finally:
        account.client("ec2").meta.events.unregister("before-call.ec2.DescribeInstances", small)


def test_what_is_not_known_is_said(cloud, quotas):
    quotas.defaults = {}
    rows, notices = looked(pool(), pool("p4d.24xlarge", None))
    assert rows == {}
    assert sorted(text.split(",")[0] for text in notices) == [
        "quota Running On-Demand G and VT instances (L-DB2E81BA): AWS tells no value",
        "quota of p4d.24xlarge: how many nodes are needed is not known",
    ]


DENIED = {
    "ec2:DescribeInstances": "ec2",
    "ec2:DescribeInstanceTypes": "ec2",
    "servicequotas:GetServiceQuota": "quotas",
    "servicequotas:GetAWSDefaultServiceQuota": "quotas",
}


@pytest.mark.parametrize("right", DENIED)
def test_a_missing_right_is_named(cloud, quotas, right):
    name = right.partition(":")[2]
    quotas.denied = {name}

    def refuse(**_more):
        return aws_api._answer(403, "UnauthorizedOperation", "You are not authorized to perform this operation.")

    events = account_of(REGION).client("ec2").meta.events
    events.register(f"before-call.ec2.{name}", refuse)
    try:
        with pytest.raises(AwsError, match=f"{right} is denied to arn:aws:.*docs/aws-policy.json"):
            looked(pool())
    finally:
        events.unregister(f"before-call.ec2.{name}", refuse)
    policy = json.loads((aws_api.ROOT / "docs/aws-policy.json").read_text())
    listed = next(item["Action"] for item in policy["Statement"] if item["Sid"] == "PreflightQuotas")
    assert sorted(listed) == sorted(DENIED)


# --- By the action, and by the play ------------------------------------------------------------------

ONE = {"triton_enabled_profiles": [], "platform_aws_account_id": ACCOUNT}


def preflight(**variables):
    """The report of one host with one vLLM server, and what is said."""
    said = []
    found = rendered(**{**ONE, **variables})
    result = act("preflight", said, connection={}, rendered=found)
    return result["report"], "\n".join(said)


def test_a_quota_that_is_too_small_is_a_problem(cloud, quotas):
    report, said = preflight()
    assert not report["fits"]
    assert f"the account {ACCOUNT} may run 0 vCPUs in {REGION} (Running On-Demand G and VT" in report["problems"][0]
    assert "0 of 0 vCPUs run, 4 more for 1 x g5.xlarge: does not fit" in said
    quotas.raised[G] = 4.0
    report, said = preflight()
    assert (report["fits"], report["quotas"][0]["fits"]) == (True, True)
    bought = {"platform_hardware_profiles": {"gpu-vllm": {"capacity_type": "spot"}}}
    assert preflight(**bought)[0]["notices"][-1].startswith(
        "AWS: quota All G and VT Spot Instance Requests (L-3819A6DF)"
    )


def test_what_leads_elsewhere_or_may_not_look_is_said_and_is_no_problem(cloud, quotas, monkeypatch):
    report, said = preflight(platform_aws_account_id="210987654321")
    assert report["fits"]
    assert f"AWS quotas were not checked: the credentials lead to the account {ACCOUNT}, and platform_aws" in said
    quotas.denied = {"GetServiceQuota"}
    report, said = preflight()
    assert report["fits"]
    assert "AWS quotas were not checked: servicequotas:GetServiceQuota is denied to " in said
    assert said.splitlines()[-1] == report["notices"][-1]
    # By the profile for this account.
    report, said = preflight(irsa_aws_profiles={ACCOUNT: "nobody"})
    assert "irsa_aws_profile: The config profile (nobody) could not be found" in said
    # AWS is not asked where there is nothing to ask.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "AWS" not in preflight(vllm_enabled=False, triton_enabled_profiles=["cpu"])[1]


def test_two_hosts_of_one_account_together(cloud, quotas, tmp_path):
    quotas.raised[G] = 8.0
    here = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    shared = {**here, **ONE, "platform_api_server": "https://127.0.0.1:9"}
    hosts = {"staging": {}, "production": {"vllm_replicas": 2}, "elsewhere": {"platform_aws_region": "eu-west-1"}}
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"clusters": {"hosts": hosts, "vars": shared}}))
    environment = {**cloud.env, "AWS_ENDPOINT_URL_SERVICE_QUOTAS": os.environ["AWS_ENDPOINT_URL_SERVICE_QUOTAS"]}
    done = playbook("preflight", inventory, **environment)
    said = done.stdout + done.stderr
    assert done.returncode == 2, said
    for host in ("staging", "production"):
        assert f"{host}: AWS: Running On-Demand G and VT instances (L-DB2E81BA): 0 of 8 vCPUs run, 12 more" in said
    assert "elsewhere: AWS: Running On-Demand G and VT instances (L-DB2E81BA): 0 of 8 vCPUs run, 4 more" in said
    for secret in aws_api.CREDENTIALS.values():
        assert secret not in said
