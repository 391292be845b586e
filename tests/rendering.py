"""What the project computes and renders for a host, in this process: no play, no cluster."""

from __future__ import annotations

from typing import Any

from ansible.template import Templar
from ansible_collections.modelyard.core.plugins.action.render import _trusted
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import specs
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs, written
from ansible_collections.modelyard.core.plugins.plugin_utils.servers import kinds, load_kinds
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.render import Rendering, everything

DESCRIBED = specs.load()
BROUGHT = {name: _trusted(value) for name, value in written(DESCRIBED).items()}
HERE = {"inventory_hostname": "here", "platform_api_server": "https://x", "platform_aws_account_id": "123456789012"}
HERE |= {"playbook_dir": "/project/playbooks"}


def host(**variables: Any) -> Inputs:
    """Give a host's variables as the action does: what roles bring is templated, what a test gives stays as it stands."""
    variables = HERE | variables
    templar = Templar(None, variables=BROUGHT | variables)
    return Inputs(DESCRIBED, variables, templar.template, defaults=BROUGHT)


def prefixed(role: str, values: dict[str, Any]) -> dict[str, Any]:
    return {f"{role}_{name}": value for name, value in values.items()}


def computed(role: str, **variables: Any) -> tuple[list[dict], list[str]]:
    """Compute the servers of a role that are on; the second is what is wrong with them, as an operator is told."""
    inputs, problems = host(**variables), Problems()
    wrong = [*inputs.problems(specs.SHARED), *inputs.problems(role)]
    if wrong:
        return [], wrong
    found = {kind.role: kinds.servers(kind, inputs, problems) for kind in load_kinds()}
    on = [server for servers in found.values() for server in servers if server.enabled]
    kinds.check_distinct(on, problems)
    platform, result = inputs.values("platform"), []
    for server in on:
        if server.kind.role == role:
            settings = server.settings
            facts = {**server.kind.compute(settings, platform), "profile": server.profile}
            result.append(facts | {"misfits": settings.misfits, "notices": settings.notices})
    return result, problems.lines


def rendered(roles: tuple[str, ...] = (), off: bool = False, others: dict | None = None, **variables: Any) -> dict:
    """Render roles for one host; `others` has the variables of further hosts."""
    hosts = {name: host(inventory_hostname=name, **given) for name, given in (others or {}).items()}
    return Rendering(host(**variables), "here", hosts.get).run(list(roles) or everything(), off)
