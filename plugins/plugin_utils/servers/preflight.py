"""Says of a rendering's servers whether they will start, on which nodes and at which price, as data and as tables; never asks a cluster."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils import table
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.quantity import GIB
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import memory
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.needs import UNCHECKED

# Something else is wrong with it, and the message says what.
REFUSED = "refused"
# A kubelet takes no more unless it is told to.
MOST_PODS = 110
MANY = 200
SIZES = ("weights_bytes", "lora_bytes", "reserve_bytes", "kv_bytes", "tokens", "requests")
MODEL = ("weights", "kv cache", "tokens", "requests")
PLACE = ("node", "volumes", "start", "per hour")


def servers(rendered: Mapping) -> list[dict]:
    """Give a row for each server that is on.

    Args:
        rendered: the structure of ``servers.render``, with or without problems.

    Returns:
        ``server``, ``role``, ``pods``, ``gpus`` (of all pods), of each GPU those of ``SIZES``, ``instance_type``, ``profile``,
        ``nodes`` (that its pods fill, were they alone), ``disk``, ``claims``, ``start_seconds``, ``cost_per_hour`` (of those nodes),
        ``verdict`` and ``why``. None stands for what is not known.
    """
    return [_row(part) for part in _on(rendered)]


def _row(part: Mapping) -> dict:
    needs = part["needs"]
    verdict, why = _verdict(part)
    nodes = needed([needs])
    return {
        "server": part["name"],
        "role": part["role"],
        "pods": needs["pods"],
        "gpus": needs["pods"] * needs["gpus"],
        **{key: needs["sizing"].get(key) for key in SIZES},
        "profile": needs["profile"],
        "instance_type": needs["instance_type"],
        "nodes": nodes,
        "disk": needs["disk"],
        "claims": needs["claims"],
        "start_seconds": part["start_seconds"],
        "cost_per_hour": _cost(nodes, needs),
        "verdict": verdict,
        "why": why,
    }


def pools(rendered: Mapping) -> list[dict]:
    """Give what all servers of each hardware profile need together.

    Returns:
        ``profile``, ``instance_type``, ``capacity_type``, ``nodes`` and ``cost_per_hour``, None for unknown.
    """
    found: dict[str, list[dict]] = {}
    for part in _on(rendered):
        if part["needs"]["profile"]:
            found.setdefault(part["needs"]["profile"], []).append(part["needs"])
    result = []
    for profile, all_needs in found.items():
        nodes = needed(all_needs)
        own = {key: all_needs[0][key] for key in ("instance_type", "capacity_type")}
        result.append({"profile": profile, **own, "nodes": nodes, "cost_per_hour": _cost(nodes, all_needs[0])})
    return result


def needed(all_needs: list[dict]) -> int | None:
    """Count the nodes that the pods of servers of one hardware profile fill.

    By first fit, the largest pod first; of very many pods of one server only the last are shared out, the others fill nodes by themselves.

    Args:
        all_needs: of ``needs.of``.

    Returns:
        how many; None where it is not known what a node gives.
    """
    if not all_needs[0]["room"]:
        return None
    room = {"pods": MOST_PODS, **all_needs[0]["room"]}
    full, pods = 0, []
    for needs in all_needs:
        asked = {key: value for key, value in needs["requests"].items() if room.get(key) and value} | {"pods": 1}
        # One that fits none has a node of its own here: that it does not fit is told elsewhere.
        each = max(1, min(math.floor(room[key] / value) for key, value in asked.items()))
        alone = max(0, needs["pods"] - MANY) // each
        full += alone
        pods += [asked] * (needs["pods"] - alone * each)
    pods.sort(key=lambda asked: -max(value / room[key] for key, value in asked.items()))
    started: list[dict[str, float]] = []
    for asked in pods:
        node = next((left for left in started if all(left[key] >= value for key, value in asked.items())), None)
        if node is None:
            started.append(node := dict(room))
        for key, value in asked.items():
            node[key] -= value
    return full + len(started)


def _cost(nodes: int | None, needs: Mapping) -> float | None:
    price = needs["price_per_hour"]
    return 0.0 if nodes == 0 else None if nodes is None or price is None else nodes * price


def price(part: Mapping, hours: float = 0) -> str:
    """Say what a server's nodes cost while it runs, and what was saved in so many hours: ``$5.67 per hour, saved $12.30``.

    Args:
        part: of a rendering.
        hours: that it has been parked; 0 where that is not known.

    Returns:
        the text, or ``""`` where the price is not known.
    """
    needs = {**part["needs"], "pods": part["needs"]["awake"]}
    cost = _cost(needed([needs]), needs)
    if not cost:
        return ""
    return f"{_dollars(cost)} per hour" + (f", saved {_dollars(cost * hours)}" if hours else "")


def _verdict(part: Mapping) -> tuple[str, str]:
    sizing, wrong = part["needs"]["sizing"], part["needs"]["wrong"]
    if part["misfits"]:
        return memory.MISFIT, "; ".join(part["misfits"])
    if sizing["verdict"] == memory.MISFIT and not wrong:
        return UNCHECKED, f"the inventory turned this check off, which found: {sizing['why']}"
    if wrong and sizing["verdict"] != memory.MISFIT:
        return REFUSED, "see the problems"
    return sizing["verdict"], sizing["why"]


def lines(rows: list[dict], all_pools: list[dict], width: int = 0) -> list[str]:
    """Lay the rows out as one table, or as two where that is too wide, and sum the nodes up.

    Args:
        rows: of :func:`servers`.
        all_pools: of :func:`pools`.
        width: characters that a line may have; 0 for any number.
    """
    if not rows:
        return ["no server is on"]
    cells = [_cells(row) for row in rows]
    whole = _table(("server", "gpus", *MODEL, *PLACE, "verdict"), cells)
    if width and max(map(len, whole)) > width:
        parts = (("server", *MODEL, "verdict"), ("server", "gpus", *PLACE))
        whole = [*_table(parts[0], cells, width), "", *_table(parts[1], cells, width)]
    return [*whole, "", _sum(all_pools)]


def _table(headings: tuple[str, ...], cells: Iterable[Mapping], width: int = 0) -> list[str]:
    return table.columns(headings, [[row[name] for name in headings] for row in cells], width)


def _cells(row: Mapping) -> dict[str, str]:
    nodes = row["nodes"] if row["nodes"] is not None else "?"
    kept = [row["disk"], *(f"claim {size}".rstrip() for size in row["claims"].values())]
    tokens, requests = row["tokens"], row["requests"]
    return {
        "server": row["server"],
        "verdict": row["verdict"],
        "gpus": str(row["gpus"]),
        "weights": _gib(row["weights_bytes"]),
        "kv cache": _gib(row["kv_bytes"]),
        "tokens": "-" if tokens is None else str(int(tokens)),
        "requests": "-" if requests is None else f"{requests:.1f}",
        "node": f"{nodes} x {row['instance_type'] or row['profile']}" if row["profile"] else "any",
        "volumes": ", ".join(text for text in kept if text) or "-",
        "start": f"{math.ceil(row['start_seconds'] / 60)} min",
        "per hour": _dollars(row["cost_per_hour"]),
    }


def _sum(all_pools: list[dict]) -> str:
    used = [pool for pool in all_pools if pool["nodes"] != 0]
    told = [
        f"{'?' if pool['nodes'] is None else pool['nodes']} x {pool['instance_type'] or pool['profile']}"
        for pool in used
    ]
    costs = [pool["cost_per_hour"] for pool in used if pool["cost_per_hour"] is not None]
    unpriced = [pool["instance_type"] or pool["profile"] for pool in used if pool["cost_per_hour"] is None]
    price = f"{_dollars(sum(costs))} per hour" if costs or not used else "price not known"
    more = f", and {', '.join(unpriced)}, whose price is not known" if costs and unpriced else ""
    return f"nodes for all of them: {', '.join(told) or 'none'}; {price}{more}"


def _gib(size: float | None) -> str:
    return "-" if size is None else f"{size / GIB:.1f}Gi"


def _dollars(cost: float | None) -> str:
    return "-" if cost is None else f"${cost:.2f}"


def _on(rendered: Mapping) -> list[Mapping]:
    return [part for part in rendered["parts"] if part["enabled"] and "needs" in part]
