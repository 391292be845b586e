"""The built-in server `vllm`: it starts as it is rendered, and serves the model and its adapters."""

from vllm.server import LIVE, STAGED

QUESTION = {"prompt": "One word:", "max_tokens": 16, "temperature": 0}


def said(server, model: str) -> str:
    answer = server.ask("/v1/completions", {"model": model, **QUESTION})
    assert answer.status == 200, answer.data
    (choice,) = answer.json()["choices"]
    assert (choice["finish_reason"], len(choice["text"])) == ("length", 16)
    return choice["text"]


def test_it_is_healthy_and_lists_model_and_adapters(server):
    assert server.ask("/health").status == 200
    models = {card["id"]: card for card in server.ask("/v1/models").json()["data"]}
    assert set(models) == {server.model, LIVE, STAGED}
    assert models[server.model]["max_model_len"] == 4096
    assert {models[name]["parent"] for name in (LIVE, STAGED)} == {server.model}


def test_each_adapter_answers_otherwise_than_the_base(server):
    answers = {name: said(server, name) for name in (server.model, LIVE, STAGED)}
    assert len(set(answers.values())) == 3, answers
    # The same each time, so that it is the adapter that differs.
    assert {name: said(server, name) for name in answers} == answers
