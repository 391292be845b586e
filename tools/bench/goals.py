"""The project's own goals, held against what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from parts import FOLDERS, KUSTOMIZE, SERVER_SIDE, SITE

NO_CHANGE_RATIO = 0.8
# A fork works for one cluster at a time: how many there are must not matter to it.
FLAT = 1.1


def judged(found: Mapping) -> list[dict]:
    """Say of each goal whether it is met; of parts that were not measured nothing.

    Args:
        found: the figures of all parts.

    Returns:
        ``goal``, a sentence; ``found`` and ``limit``, numbers with one ``unit``; ``met``.
    """
    judges = {"nochange": _nochange, "first": _first, "clusters": _clusters}
    return [goal for part, figures in found["parts"].items() if part in judges for goal in judges[part](figures)]


def _goal(text: str, value: float, limit: float, unit: str = "") -> dict:
    return {"goal": text, "found": value, "limit": limit, "unit": unit, "met": value <= limit}


def _nochange(part: Mapping) -> list[dict]:
    run = "a run with nothing to change"
    asked = part["tools"][SITE]["requests"]
    times = [
        _goal(
            f"{run}: at most {NO_CHANGE_RATIO} times the time of {name}",
            part["ratios"][name]["wall"]["median"],
            NO_CHANGE_RATIO,
        )
        for name in (KUSTOMIZE, FOLDERS)
    ]
    return [
        *times,
        _goal(f"{run}: no dry run", asked["dry runs"], 0),
        _goal(f"{run}: one list a kind", asked["lists a kind"], 1),
        *_each(run, asked),
    ]


def _first(part: Mapping) -> list[dict]:
    return _each("a first deploy", part["tools"][SITE]["requests"])


def _each(run: str, asked: Mapping) -> list[dict]:
    words = {"reads": "read", "dry runs": "dry run"}
    return [
        _goal(f"{run}: at most one {word} an object", asked[f"{kind} an object"], 1) for kind, word in words.items()
    ]


def _clusters(part: Mapping) -> list[dict]:
    counts = list(part["clusters"].items())
    (least, first), (most, last) = counts[0], counts[-1]
    if least == most:
        return []
    cpu = part["further"]["cpu"]
    goals = [
        _goal(f"a further cluster: no more CPU than {name}", cpu, part["kubectl"][name]["cpu"]["median"], "s")
        for name in (KUSTOMIZE, FOLDERS, SERVER_SIDE)
    ]
    if "fork_mib" in last:
        grown = last["fork_mib"]["median"] / first["fork_mib"]["median"]
        goals.append(
            _goal(f"the largest fork: with {most} clusters at most {FLAT} times its memory with {least}", grown, FLAT)
        )
    return goals
