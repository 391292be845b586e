"""The way to a server from outside the cluster, and who is let in."""

import pytest
from rendering import computed, rendered

PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress-nginx"}}}
FROM = [{"namespace": "ingress-nginx"}]


def vllm(**given):
    (server,), problems = computed("vllm", **{f"vllm_{key}": value for key, value in given.items()})
    return server, problems


def test_an_ingress_leads_to_the_service():
    given = {"className": "nginx", "hosts": ["a.example.com", "*.b.example.com"], "tls": [{"secretName": "tls"}]}
    server, problems = vllm(ingress={**given, "annotations": {"timeout": "600"}, "from": FROM})
    assert problems == []
    assert server["ingress"]["annotations"] == {"timeout": "600"}
    spec = server["ingress"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": given["hosts"], "secretName": "tls"}]
    assert [rule["host"] for rule in spec["rules"]] == given["hosts"]
    backend = {"service": {"name": "vllm-service", "port": {"name": "http"}}}
    assert spec["rules"][0]["http"]["paths"] == [{"path": "/", "pathType": "Prefix", "backend": backend}]
    assert "ingress.yaml.j2" in server["templates"]


def test_without_a_host_it_is_for_every_one():
    spec = vllm(ingress={"path": "/llm"})[0]["ingress"]["spec"]
    assert list(spec) == ["rules"]
    assert [list(rule) for rule in spec["rules"]] == [["http"]]
    assert spec["rules"][0]["http"]["paths"][0]["path"] == "/llm"


def test_a_route_leads_to_the_service():
    given = {"parentRefs": [{"name": "gw", "namespace": "infra"}], "hostnames": ["a.example.com"]}
    server, problems = vllm(http_route={**given, "timeouts": {"request": "600s"}}, http_port=8080)
    assert problems == []
    assert server["http_route"]["spec"] == {
        **given,
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [{"name": "vllm-service", "port": 8080}],
                "timeouts": {"request": "600s"},
            }
        ],
    }


def test_there_is_none_unless_asked_for_and_a_profile_can_do_without():
    assert not {"ingress.yaml.j2", "httproute.yaml.j2"} & set(vllm()[0]["templates"])
    given = {"triton_ingress": {"className": "nginx"}, "triton_profiles": {"cpu": {"ingress": None}}}
    cpu, gpu = computed("triton", **given)[0]
    assert (cpu["ingress"], gpu["ingress"]["spec"]["ingressClassName"]) == ({}, "nginx")


def test_who_serves_it_is_let_in_to_that_port_alone():
    labels = {"app.kubernetes.io/name": "ingress-nginx"}
    peers = [{"namespace": "ingress-nginx", "pod_labels": labels}, {"cidr": "10.0.0.0/16"}, {"namespace": "*"}]
    rules = vllm(ingress={"from": peers})[0]["network_policy"]["ingress"]
    assert rules[1:] == [
        {
            "from": [
                {**PEER, "podSelector": {"matchLabels": labels}},
                {"ipBlock": {"cidr": "10.0.0.0/16"}},
                {"namespaceSelector": {}},
            ],
            "ports": [{"protocol": "TCP", "port": 8000}],
        }
    ]
    given = {"triton_http_route": {"port": "grpc", "parentRefs": [{"name": "gw"}], "from": FROM}}
    (cpu, _), _ = computed("triton", **given)
    assert cpu["network_policy"]["ingress"][-1] == {"from": [PEER], "ports": [{"protocol": "TCP", "port": 8001}]}
    assert cpu["http_route"]["spec"]["rules"][0]["backendRefs"][0]["port"] == 8001


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({}, True),
        ({"ingress": {"className": "nginx", "from": FROM}}, False),
        ({"network_policy_enabled": False}, False),
        ({"network_policy_ingress_from": [{"namespace": "ingress-nginx"}]}, False),
        ({"network_policy_ingress_from": [{"namespace": "*"}]}, False),
        ({"network_policy_extra_ingress": [{"from": [PEER]}]}, False),
    ],
)
def test_a_policy_that_lets_nobody_in_is_told(more, told):
    notices = vllm(**{"ingress": {"className": "nginx"}, **more})[0]["notices"]
    assert [line.partition(":")[0] for line in notices] == ["vllm_ingress"] * told


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"vllm_ingress": {"port": "grpc"}}, "vllm_ingress.port is 'grpc': unknown. Known: http"),
        ({"vllm_ingress": {"path": "llm"}}, "vllm_ingress.path is 'llm': must begin with /"),
        ({"vllm_ingress": {"hosts": ["https://a"]}}, "vllm_ingress.hosts[0] is 'https://a': must be a host's name"),
        ({"vllm_ingress": {"from": [{"pod_labels": {"a": "b"}}]}}, "must have either a namespace or a cidr"),
        ({"vllm_ingress": {"from": [{"cidr": "10.0.0.1/16"}]}}, "must be a network such as 10.0.0.0/16"),
        ({"vllm_ingress": {"class": "nginx"}}, "vllm_ingress.class is 'nginx': no such key, did you mean className?"),
        (
            {"triton_ingress": {"hosts": ["a.example.com"]}},
            "triton_ingress is 'a.example.com': leads to triton-inference already, by the same path",
        ),
        ({"vllm_http_route": {"hostnames": ["a"]}}, "vllm_http_route is {'hostnames': ['a']}: needs parentRefs"),
        ({"vllm_http_route": {"parentRefs": []}}, "vllm_http_route.parentRefs is None: must name the Gateway"),
    ],
)
def test_refusals(given, message):
    (line,) = rendered(("vllm", "triton"), **given)["problems"]
    assert message in line


def test_two_servers_share_a_host_by_their_paths():
    profiles = {name: {"ingress": {"path": f"/{name}"}} for name in ("cpu", "gpu")}
    assert rendered(triton_ingress={"hosts": ["a.example.com"]}, triton_profiles=profiles)["problems"] == []
