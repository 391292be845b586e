"""What AWX would refuse of credentials and their types, before a module is told, whose own words a run has to hide; never writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.awx.forms import There, named
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.objects import Wanted, word
from ansible_collections.modelyard.core.plugins.plugin_utils.awx.state import MANAGED
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import nearest

# As AWX wants a private key. Of another text it quotes the beginning, which no module masks.
PRIVATE_KEY = re.compile(r"\s*-{4,} *BEGIN ([A-Z ]+?) *-{4,}.+?-{4,} *END \1 *-{4,}\s*(?=-{4,} *BEGIN|\Z)", re.DOTALL)

# What uses one credential, with the kind of its type and AWX's own type of that kind.
TAKEN = {
    "execution_environment": ("registry", "Container Registry"),
    "project": ("scm", "Source Control"),
    "instance_group": ("kubernetes", "OpenShift or Kubernetes API Bearer Token"),
}
OF_JOBS = ("ssh", "vault", "cloud", "net", "kubernetes")


def problems(wanted: Wanted, there: There) -> list[str]:
    """Hold credentials against the types that AWX has, and types against the credentials that use them.

    Args:
        wanted: what AWX is to have.
        there: from ``state.read``.

    Returns:
        a line for each problem, without a secret.
    """
    found = _types_in_use(wanted, there)
    own = [item for item in wanted.found["credential"] if "cluster" not in item]
    known = {item["name"]: item for item in there[MANAGED].values() if item["type"] == "credential_type"}
    known |= there["credential_type"]
    known |= {item["name"]: item for item in wanted.found["credential_type"]}
    types = {name: item["inputs"] for name, item in known.items()}
    for item in own:
        path, kind = f"awx_credentials.{item['name']}", item["credential_type"]
        if kind not in types:
            hint = nearest(kind, types)
            meant = f"did you mean {hint}?" if hint else f"it has {', '.join(sorted(types))}"
            found.append(f"{path}.type is {kind!r}: AWX has no credential type of that name, {meant}")
            continue
        given = wanted.secrets["credential", item["name"]]["inputs"]
        found += [f"{path}.inputs{line}" for line in _inputs(types[kind], given, kind)]
    return found or _uses(wanted, {name: item["kind"] for name, item in known.items()})


def _uses(wanted: Wanted, kinds: Mapping[str, str]) -> list[str]:
    """Hold what uses a credential against the kind of its type."""
    types = {item["name"]: item["credential_type"] for item in wanted.found["credential"]}
    found = []
    for kind, (taken, name) in TAKEN.items():
        for item in wanted.found[kind]:
            has = types.get(item.get("credential", ""))
            if has and kinds[has] != taken:
                found.append(
                    f"{word(kind)} {item['name']}: its credential {item['credential']} is of the type {has}, and AWX takes one of {name}"
                )
    for item in wanted.found["job_template"]:
        about, seen = f"job template {item['name']}", {}
        for one in item["credentials"]:
            has = types[one]
            if kinds[has] not in OF_JOBS:
                found.append(f"{about}: AWX gives no job a credential of the type {has}, as {one} is")
            # Several vaults have ids.
            elif kinds[has] != "vault" and has in seen:
                found.append(f"{about}: AWX gives a job one credential of the type {has}, not {seen[has]} and {one}")
            seen[has] = one
    return found


def _inputs(known: Mapping[str, Any], given: Mapping[str, Any], kind: str) -> list[str]:
    fields = {one["id"]: one for one in known.get("fields") or []}
    found = []
    for name, value in given.items():
        if name not in fields:
            found.append(f" has {name}: the type {kind} has {', '.join(fields) or 'none'}")
        elif not isinstance(value, bool if fields[name].get("type") == "boolean" else str):
            word = "true or false" if fields[name].get("type") == "boolean" else "text (in quotes)"
            found.append(f".{name} must be {word}")
        elif fields[name].get("format") == "ssh_private_key" and PRIVATE_KEY.sub("", value):
            found.append(f".{name} must be a private key, from its line BEGIN to its line END")
        # One that is left out may come from elsewhere: somebody has told AWX to look it up in a vault of its own.
        elif value == "" and name in (known.get("required") or ()):
            found.append(f".{name} must not be empty for the type {kind}: leave it out if AWX looks it up elsewhere")
    return found


def _types_in_use(wanted: Wanted, there: There) -> list[str]:
    """AWX takes no other inputs of a type while there are credentials of it."""
    found = []
    for item in wanted.found["credential_type"]:
        name, has = item["name"], there["credential_type"].get(item["name"])
        users = [one for one, credential in there["credential"].items() if named(credential, "credential_type") == name]
        if has and users and has["inputs"] != item["inputs"]:
            found.append(
                f"credential type {name}: its inputs are to change, which AWX refuses while it is in use (by {', '.join(users)}): "
                "make a type of another name, or remove these credentials in AWX first"
            )
    return found
