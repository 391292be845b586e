"""What adopting hands on: servers, the inventory, and what is told beside it; does no work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Render = Callable[[dict], dict]
# Of the kinds of server: the variable of the profiles, and of those that are on.
PROFILES = {kind: (f"{kind}_profiles", f"{kind}_enabled_profiles") for kind in ("vllm", "triton", "mlserver")}


@dataclass
class Adopted:
    """What was read of one server.

    Attributes:
        settings: names of the role's variables, without prefix, to their values.
        platform: variables of the platform that it needs.
        lost: what the inventory does not have, each with the path of the field, in words.
        notes: what else an operator should know.
        renamed: names of volumes to those that the role gives them.
        ports: names of the server's ports to those that the role gives them.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    platform: dict[str, Any] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    ports: dict[str, str] = field(default_factory=dict)


@dataclass
class Server:
    """One server, adopted.

    Attributes:
        kind: which role's.
        profile: name of its profile.
        live: the Deployment.
        found: its settings, and what they leave out.
        changes: what a run would change of the Deployment, in words.
        restarts: whether a run replaces its pods.
        words: what the server is given on its command line.
        takeover: why a run can't take the Deployment over by its name; ``""`` where it can.
    """

    kind: str
    profile: str
    live: Mapping
    found: Adopted
    changes: list[str] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    restarts: bool = True
    takeover: str = ""


@dataclass
class Result:
    """The inventory and what is told beside it."""

    variables: dict[str, Any]
    servers: list[Server]
    problems: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
