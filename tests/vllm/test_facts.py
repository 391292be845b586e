"""What vLLM is like: the facts of the project's version are the running server's; docs/vllm-versions.md compares them with the newest's."""

import json
import re
import subprocess
from pathlib import Path

import services
from rendering import rendered
from vllm import facts, tiny
from vllm.server import MODEL

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/vllm-versions.md"
OLD, NEW = (facts.known(version) for version in ("0.14.1", "0.32.0"))

# What a difference means for who deploys with the roles. One that matters and has no entry fails the test below.
MEANS = {
    "--allowed-origins": "browsers refuse a page of another site, unless `vllm_extra_args` gives the flag",
    "--gpu-memory-utilization": "always given, so nothing changes",
    "it is loaded again": "refused by both; `load_inplace` replaces an adapter without a restart",
    "an adapter's rank is too high": "counted by `VLLMServerErrors`; the loader lets none such near a start",
    "an adapter's weights are cut off": "counted by `VLLMServerErrors`; the loader lets none such near a start",
    "an adapter's folder does not exist": "refused by both",
    "a request names an unknown model": "refused by both",
    "a client hangs up": "`VLLMRequestsAborted` asks for what began and did not finish",
    "SIGTERM while a request runs": "the drain has waited for it before; what is longer hangs until the pod is killed (0.14.1), or is cut off as if all were well (0.32.0)",
    "SIGTERM while a request runs, with --shutdown-timeout=600": "with `vllm_extra_args: {shutdown-timeout: 600}` nothing is cut off where the drain is too short; the grace period must hold both",
    "the engine is dead: a completion": "`VLLMServerErrors` does not see it in 0.14.1",
    "the engine is dead: the server": "the kubelet starts the container again",
}


# --- The project's version -------------------------------------------------------------------------


def test_they_are_of_the_version_that_is_deployed(vllm_image):
    assert f":v{OLD['version']}-" in vllm_image


def test_the_flags_are_those_of_the_parser(tmp_path):
    program = "import json, sys, facts; open(sys.argv[1], 'w').write(json.dumps(facts.options()))"
    command = [services.python_of("vllm"), "-c", program, tmp_path / "options.json"]
    subprocess.run(command, cwd=Path(facts.__file__).parent, check=True)
    assert json.loads((tmp_path / "options.json").read_text()) == OLD["options"]


def test_the_metrics_are_those_of_a_scrape(server):
    facts.completion(server.url, server.model)
    assert facts.metrics(server.url) == OLD["metrics"]


def test_it_does_what_is_written_down(server):
    (volume,) = [one for one in server.pod.main["volumeMounts"] if one["name"] == "adapters"]
    good, high = tiny.Adapter().files(MODEL), tiny.Adapter(rank=64).files(MODEL)
    facts.write_adapters(server.pod.volume("adapters") / "facts", good, high)
    did = facts.adapters(server.url, Path(volume["mountPath"], "facts")) | facts.given_up(server.url, server.model)
    assert did.items() <= OLD["behaviours"].items()
    assert len(did) > 6


# --- The newest ------------------------------------------------------------------------------------


def ours() -> set[str]:
    """The flags that the roles give to vLLM."""
    shared = {"model_revision": "abc", "served_model_name": "name", "http_port": 8001}
    more = {"vllm": {"vllm_adapter_slots": {"one": "live"}}, "vllm_judge": {"vllm_judge_variant": "judge-large"}}
    words = set()
    for role, variables in more.items():
        result = rendered((role,), **{f"{role}_{name}": value for name, value in shared.items()}, **variables)
        assert result["problems"] == []
        objects = [item for part in result["parts"] if part["enabled"] for item in part["objects"]]
        words.update(re.findall(r"(?<![\w-])--[a-z][a-z-]+", json.dumps(objects)))
    return words


def named() -> set[str]:
    """The metrics that alerts and the drain ask for."""
    files = [ROOT / "roles/vllm/templates" / name for name in ("alerts.yaml.j2", "container.yaml.j2")]
    text = "".join(file.read_text() for file in files)
    # Histograms are asked for their count and buckets.
    return {re.sub("_(count|bucket)$", "", name) for name in re.findall(r"vllm:\w+|http_\w+_total", text)}


def table(what: str, rows: dict[str, tuple]) -> list[str]:
    """A table of what differs, and what that means."""
    head = [f"| {what} | {OLD['version']} | {NEW['version']} | with our roles |", "|---|---|---|---|"]
    return [
        *head,
        *(f"| {' | '.join([key, *map(cell, pair), MEANS.get(key.strip('`'), '')])} |" for key, pair in rows.items()),
    ]


def cell(value) -> str:
    """A fact in a cell."""
    if value is None:
        return "does not exist"
    if isinstance(value, dict):
        value = "; ".join(f"{key} {', '.join(one) if isinstance(one, list) else one}" for key, one in value.items())
    return value.replace("|", "\\|")


def listed(names) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"


def both(kind: str, names) -> dict[str, tuple]:
    """Of these names those whose facts differ: both facts."""
    return {
        f"`{name}`": (OLD[kind].get(name), NEW[kind].get(name))
        for name in sorted(names)
        if OLD[kind].get(name) != NEW[kind].get(name)
    }


def others() -> dict[str, tuple]:
    """The flags that the roles don't give whose default is another one, or that lost a choice."""
    found = {}
    for name, (old, new) in both("options", set(OLD["options"]) & set(NEW["options"]) - ours()).items():
        lost = [one for one in old.get("choices", []) if "choices" in new and one not in new["choices"]]
        pair = tuple(one.get("default") for one in (old, new))
        if lost or (pair[0] != pair[1] and None not in pair):
            pair = tuple(f"default `{one}`" for one in pair)
            found[name] = (pair[0], pair[1] + (f"; no longer {', '.join(lost)}" if lost else ""))
    return found


def document() -> str:
    """What docs/vllm-versions.md has to say below its introduction."""
    lines = []
    for title, kind, used in (("Flags", "options", ours()), ("Metrics", "metrics", named())):
        old, new = set(OLD[kind]), set(NEW[kind])
        different = both(kind, used)
        lines += [
            "",
            f"## {title}",
            "",
            f"Ours, the same in both: {listed(used - {name.strip('`') for name in different})}.",
            "",
        ]
        lines += [*table("ours", different), ""] if different else []
        lines += [*table("others", others()), ""] if kind == "options" else []
        lines += [
            f"Gone, {len(old - new)}{' (refused in `vllm_extra_args`)' if kind == 'options' else ''}: {listed(old - new)}.",
            "",
            f"New, {len(new - old)}: {listed(new - old)}.",
        ]
    did = {
        name: (OLD["behaviours"].get(name), NEW["behaviours"].get(name))
        for name in OLD["behaviours"] | NEW["behaviours"]
    }
    return "\n".join([*lines, "", "## Behaviours", "", *table("what happens", did), ""])


def test_what_our_roles_use_exists_in_both():
    for kind, used in (("options", ours()), ("metrics", named())):
        assert used
        assert used <= set(OLD[kind])
        assert used <= set(NEW[kind]), "say in the table what users have to do"


def test_every_difference_says_what_it_means():
    told = [*both("options", ours()), *both("metrics", named())]
    told += [
        name
        for name in OLD["behaviours"] | NEW["behaviours"]
        if OLD["behaviours"].get(name) != NEW["behaviours"].get(name)
    ]
    assert {name.strip("`") for name in told} - set(MEANS) == set()


def test_the_document_is_made_of_the_facts():
    introduction, _, _ = DOCUMENT.read_text().partition("\n## ")
    text = introduction + document()
    if text != DOCUMENT.read_text():
        new = ROOT / ".local" / DOCUMENT.name
        new.parent.mkdir(exist_ok=True)
        new.write_text(text)
    assert text == DOCUMENT.read_text(), f"cp .local/{DOCUMENT.name} docs/"
