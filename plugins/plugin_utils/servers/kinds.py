"""What a kind of model server is: the one description that everything else loops over; never computes a server."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.check import is_true
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, nearest
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import Inputs
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.settings import Settings

# The settings that name a server's objects, by the kind of object.
NAMES = {"Deployment": "name", "Service": "service_name", "ServiceAccount": "service_account_name"}


@dataclass(frozen=True)
class Kind:
    """A kind of model server.

    Attributes:
        role: the role that makes it, whose ``meta/inputs.yml`` has its variables.
        compute: turns the settings of one server, and the platform's variables without their prefix, into what the templates
            place: see ``workload.compute``.
        place: gives for a profile its folder below the manifests, and the name of its Application.
        chosen: the variable that says which profiles are on, a list of names; or of one that can be on, its name or ``none``.
        profiles: the variable that holds the profiles.
        names: the settings that name its objects, by the kind of object.
        wave: where its Applications stand in the order of a sync.
        base: a folder for the server without any profile, of which the profiles' folders are overlays.
        bundle: gives for a profile a folder that holds it together with other folders, and their names.
        set_name: the name of an ApplicationSet for the kind, where one cluster has one of its servers at most.
        needs: settings without which there is no server: one that is off and lacks one is rendered nowhere.
        layer: gives for a profile what stands between the base and it, from the profile's own settings.
    """

    role: str
    compute: Callable[[Settings, Mapping], dict]
    place: Callable[[str], tuple[str, str]]
    chosen: str = "enabled_profiles"
    profiles: str = "profiles"
    names: Mapping[str, str] = field(default_factory=lambda: NAMES)
    wave: int = 1
    base: str = ""
    bundle: Callable[[str], tuple[str, list[str]]] | None = None
    set_name: str = ""
    needs: tuple[str, ...] = ()
    layer: Callable[[str, Mapping], Mapping] = lambda _profile, _own: {}

    @property
    def variables(self) -> str:
        """Name the variable that chooses the servers."""
        return f"{self.role}_{self.chosen}"


@dataclass(frozen=True)
class Server:
    """One server of a kind, enabled or not.

    Attributes:
        kind: its kind.
        profile: the name of its profile; ``""`` for the server without any.
        enabled: whether the inventory has it on.
        settings: its effective settings.
    """

    kind: Kind
    profile: str
    enabled: bool
    settings: Settings

    @property
    def variables(self) -> str:
        """Name the variables that it comes from."""
        role = self.kind.role
        own = f"{role}_{self.kind.profiles}.{self.profile}, " if self.profile else ""
        return f"{own}{role}_*, model_server_*, platform_*"

    @property
    def described(self) -> bool:
        """Tell whether it is on, or has what its kind needs."""
        return self.enabled or all(self.settings.get(key) for key in self.kind.needs)

    def name(self, setting: str) -> Any:
        """Give the name of one of its objects; one that is null follows the server's own."""
        value = self.settings.get(setting)
        return self.settings.get("name") if value is None else value

    def is_set(self, setting: str) -> bool:
        """Tell whether a switch is on; extra variables give it as text."""
        return is_true(self.settings.get(setting))


def chosen(kind: Kind, inputs: Inputs) -> list[str]:
    """Give the names of the profiles that are on, known or not."""
    values = inputs.values(kind.role)
    names = values[kind.chosen]
    if not isinstance(names, (list, tuple)):
        names = [] if names in (None, "", "none") else [names]
    return list(names) if is_true(values.get("enabled", True)) else []


def servers(kind: Kind, inputs: Inputs, problems: Problems) -> list[Server]:
    """Give all servers of a kind that the inventory knows.

    Args:
        kind: the kind.
        inputs: the host's variables.
        problems: where wrong names of profiles, and wrong settings of a server, are noted.

    Returns:
        those that are on first, in their order; then those that are off, and at last the one without a profile if there is such.
    """
    variable = f"{kind.role}_{kind.profiles}"
    builtin = inputs.roles[kind.role].axis[kind.profiles].get("builtin") or {}
    own = inputs.given(kind.role).get(kind.profiles) or {}
    names = chosen(kind, inputs)
    none = {"none"} if inputs.roles[kind.role].axis[kind.chosen]["type"] == "str" else set()
    for index, name in enumerate(names):
        path = f"{kind.variables}[{index}]" if len(names) > 1 else kind.variables
        if name not in builtin and name not in own:
            problems.add(path, name, nearest(name, {*builtin, *own, *none}))
        elif name in names[:index]:
            problems.add(path, name, "is listed twice")
    base = inputs.layers(kind.role)

    def server(name: str) -> Server:
        given = own.get(name) or {}
        prefix = f"{variable}.{name}."
        layers = [(prefix, kind.layer(name, given)), (prefix, builtin.get(name) or {}), (prefix, given)]
        return Server(kind, name, name in names, Settings(base, layers, problems))

    known = list(dict.fromkeys([*names, *builtin, *own]))
    found = [server(name) for name in known if name in builtin or name in own]
    return [*found, *([Server(kind, "", False, Settings(base, [], problems))] if kind.base else [])]


def check_distinct(found: list[Server], problems: Problems) -> None:
    """Refuse an object that two servers which are on would share, of whatever kinds they are."""
    seen: dict[tuple[str, object], tuple[Server, str]] = {}
    for server in found:
        for kind, setting in server.kind.names.items():
            name = server.name(setting)
            other, others = seen.setdefault((kind, name), (server, setting))
            if other is server:
                continue
            # A name that follows the server's own is told with that.
            if setting != "name" and server.settings.get(setting) is None and other.settings.get(others) is None:
                continue
            path, theirs = server.settings.path(setting), other.settings.path(others)
            if path == theirs or server.kind is other.kind:
                # The profile is where it belongs, also when the name comes from the base.
                path = f"{server.settings.layers[-1][0]}{setting}"
            problems.add(path, name, f"is the name that {theirs} gives to another server's {kind}")
