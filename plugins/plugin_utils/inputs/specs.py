"""Reads what each role says of its variables (``meta/inputs.yml``), inherited ones filled in; never reads their values.

An ``inputs.yml`` states each variable once, without the role's prefix, as an option of an argument spec:

* ``extends``: the role whose options this one has too; here stands only what differs (a default, a description) or is new.
* ``options``: the role's variables. Those of a model server are also the keys of its profiles.
* ``axis``: of a model server, the variables that choose which servers there are. They are no keys of a profile, and not inherited.

Beyond Ansible's own keys an option may have ``builtin`` (a dictionary that the role brings: the inventory's is merged over it, key by
key), ``entries`` (the options of each entry of a dictionary) and ``was`` (the variable's name in an earlier release). What a value may be:

* ``range``: of a number, or of a list's numbers: least and most. Every number has one.
* ``format``: of a text or a quantity, or of a list's texts: a word of ``formats``; ``kubernetes`` for what is in Kubernetes' own form.
* ``keys``: such a word for the keys of a dictionary; ``values``: an option for each of its values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure

ROLES = Path(__file__).resolve().parents[3] / "roles"
# libyaml's, where it is built in, is ten times faster.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# What model servers extend, and no server itself: their variables are the platform-wide defaults of those that extend them.
BASES = ("model_server", "model_loader")

# What Ansible's own argument specs do not have.
OURS = ("builtin", "entries", "was", "options", "range", "format", "keys", "values")


@dataclass(frozen=True)
class Role:
    """What a role says of its variables.

    Attributes:
        name: the role's.
        extends: the role whose options it has too, or ``""``.
        axis: the variables that choose its servers, without prefix: name to option.
        options: all its other variables, inherited ones included.
        about: ``short_description`` and ``description``.
    """

    name: str
    extends: str
    axis: Mapping[str, Mapping]
    options: Mapping[str, Mapping]
    about: Mapping[str, Any]

    @property
    def variables(self) -> dict[str, Mapping]:
        """Every variable by its whole name."""
        return {f"{self.name}_{key}": option for key, option in {**self.axis, **self.options}.items()}


def load(roles: Iterable[str] = (), folder: Path = ROLES) -> dict[str, Role]:
    """Read the inputs of roles, and of those that they extend.

    Args:
        roles: names; none for all that have an ``inputs.yml``.
        folder: where the roles are.

    Returns:
        the roles by name.

    Raises:
        Failure: a role that is named has no ``inputs.yml``, or one that can't be read.
    """
    found: dict[str, Role] = {}
    for name in roles or sorted(path.parent.parent.name for path in folder.glob("*/meta/inputs.yml")):
        _load(name, folder, found)
    return found


@functools.cache
def catalogue(role: str, name: str) -> dict[str, dict]:
    """Give what a role knows beside its variables: a file of dictionaries by name, such as models or instance types.

    Args:
        role: its folder.
        name: of the file in it, without ``.yml``.
    """
    text = (ROLES / role / f"{name}.yml").read_text(encoding="utf-8")
    return yaml.load(text, Loader=LOADER)  # noqa: S506 (safe, both of them)


def _load(name: str, folder: Path, found: dict[str, Role]) -> Role:
    if name in found:
        return found[name]
    file = folder / name / "meta" / "inputs.yml"
    try:
        said = yaml.load(file.read_text(encoding="utf-8"), Loader=LOADER)  # noqa: S506 (safe, both of them)
        parent = _load(said["extends"], folder, found).options if said.get("extends") else {}
        own = said.get("options") or {}
        options = {key: {**parent.get(key, {}), **own.get(key, {})} for key in {**parent, **own}}
        axis = {
            key: {**option, "entries": options} if option.get("type") == "dict" else option
            for key, option in (said.get("axis") or {}).items()
        }
        about = {key: said[key] for key in ("short_description", "description")}
        untyped = [key for key, option in {**axis, **options}.items() if not {"type", "description"} <= option.keys()]
    except OSError:
        raise Failure(
            f"role {name}: nothing describes its variables, so none of them could be checked: {file} is missing (CONTRIBUTING.md, A model server)"
        ) from None
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise Failure(f"role {name}: {file} can't be read: {error!r}") from None
    if untyped:
        raise Failure(f"role {name}: {file}: needs type and description: {', '.join(untyped)}")
    found[name] = Role(name, said.get("extends") or "", axis, options, about)
    return found[name]


def lineage(name: str, roles: Mapping[str, Role]) -> list[str]:
    """Name a role and those that it extends, the nearest first."""
    names = [name]
    while roles[names[-1]].extends:
        names.append(roles[names[-1]].extends)
    return names


def argument_specs(role: Role) -> dict:
    """Write a role's inputs as Ansible's own ``meta/argument_specs.yml``, for ``ansible-doc -t role``.

    Returns:
        the file's content: the entry point main with every variable by its whole name, and one for each variable whose
        entries have keys of their own.
    """
    specs: dict[str, dict] = {"main": {**role.about, "options": {}}}
    for name, option in role.variables.items():
        specs["main"]["options"][name] = _documented(option)
        if "entries" in option:
            keys = {key: _documented(inner) for key, inner in option["entries"].items()}
            about = f"Not tasks, but the keys of one entry of {name}"
            specs[name] = {"short_description": about, "options": keys}
    return {"argument_specs": specs}


def _documented(option: Mapping) -> dict:
    kept = {key: value for key, value in option.items() if key not in OURS}
    if "range" in option:
        kept["description"] = [*_listed(kept["description"]), "From {} to {}.".format(*option["range"])]
    if kept.get("default", "") is None:
        del kept["default"]
    if "{{" in str(kept.get("default", "")):
        # Ansible templates a spec when it validates a role by itself, and knows none of these variables then.
        default = str(kept.pop("default")).replace("{{ ", "<").replace(" }}", ">")
        kept["description"] = [*_listed(kept["description"]), f"By default {default}."]
    # Ansible would refuse the keys that have no description.
    if option.get("options") and "values" not in option:
        kept["options"] = {key: _documented(inner) for key, inner in option["options"].items()}
        if kept.get("default") == {}:
            # Ansible would miss the keys in the empty default; ours asks for them where something is set.
            for inner in kept["options"].values():
                inner.pop("required", None)
    return kept


def _listed(text: str | list[str]) -> list[str]:
    return text if isinstance(text, list) else [text]
