"""The built-in server `vllm`: it starts as it is rendered, and serves the model and its adapters."""

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster import questions
from model_servers import ROOT
from vllm.server import LIVE, STAGED, said


def test_it_is_healthy_and_lists_model_and_adapters(server):
    assert server.ask("/health").status == 200
    models = {card["id"]: card for card in server.ask("/v1/models").json()["data"]}
    assert set(models) == {server.model, LIVE, STAGED}
    assert models[server.model]["max_model_len"] == 4096
    assert {models[name]["parent"] for name in (LIVE, STAGED)} == {server.model}


def test_every_built_in_server_is_started_by_a_test():
    """`vllm` here, the judges in test_stopping.py: whoever adds one starts it there."""
    built_in = {}
    for role, key in (("vllm", "profiles"), ("vllm_judge", "variants")):
        axis = yaml.safe_load((ROOT / f"roles/{role}/meta/inputs.yml").read_text())["axis"]
        built_in[role] = set(axis[key]["builtin"])
    assert built_in == {"vllm": {"vllm"}, "vllm_judge": {"judge", "judge-large"}}


def test_each_adapter_answers_otherwise_than_the_base(server):
    answers = {name: said(server, name) for name in (server.model, LIVE, STAGED)}
    assert len(set(answers.values())) == 3, answers
    # The same each time, so that it is the adapter that differs.
    assert {name: said(server, name) for name in answers} == answers


def test_smoke_gets_right_answers(server):
    assert len(server.questions) == 2
    for question in server.questions:
        answer = questions._answer(None, {"name": "vllm"}, question, server.url, {})
        assert answer["ok"], answer


def test_it_writes_into_its_volumes_alone(server):
    user = str(server.pod.spec["securityContext"]["runAsUser"])
    assert server.pod.run(["id", "-u"]).stdout.decode().split() == [user]
    for folder in ("/", "/etc", "/usr", "/root", "/etc/vllm"):
        assert server.pod.run(["touch", f"{folder}/x"]).returncode != 0
    for folder in ("/cache", "/tmp", "/dev/shm", "/mnt/adapters"):
        assert server.pod.run(["touch", f"{folder}/x"]).returncode == 0
