"""Check the variables of an inventory against the roles' argument specs, before anything else happens.

Ansible's own validation of a role's arguments does not see misspelt variables, takes a text for a list or a
dictionary, and does not say where a value is set. This does. Three conventions make the specs say more:

* an entry point named like an option of type dict describes each of that dictionary's entries
  (``platform_hardware_profiles``);
* a free dictionary whose name ends in ``labels``, ``annotations`` or ``node_selector`` holds valid ones;
* a text whose name ends in ``role_name`` is an IAM role's name or ARN, or empty.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import yaml
from ansible.errors import AnsibleError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import role_name_error
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, problem, where

TRUTH = {"true", "false", "yes", "no", "on", "off", "1", "0", "y", "n", "t", "f"}

DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_SUBDOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")

Specs = dict[str, dict[str, dict]]


def load_specs(roles_path: str | Path) -> Specs:
    """Read the argument specs of all roles of a folder.

    Args:
        roles_path: the folder that holds the roles.

    Returns:
        role -> entry point -> options. A role without a spec has no entry points.
    """
    specs: Specs = {}
    for role in sorted(path for path in Path(roles_path).iterdir() if path.is_dir()):
        file = role / "meta" / "argument_specs.yml"
        entries = {}
        if file.is_file():
            loader = getattr(
                yaml, "CSafeLoader", yaml.SafeLoader
            )  # libyaml's, where it is built in, is ten times faster
            entries = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # noqa: S506 (safe, both of them)
            entries = (entries or {}).get("argument_specs") or {}
        specs[role.name] = {name: entry.get("options") or {} for name, entry in entries.items()}
    return specs


# --- Names ------------------------------------------------------------------------------------------


def owner(name: str, roles: Iterable[str]) -> str | None:
    """Tell to which role a variable's name belongs: ``vllm_judge_x`` to vllm_judge, not to vllm."""
    return max((role for role in roles if name.startswith(f"{role}_")), key=len, default=None)


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Find the known name that a misspelt one most likely means."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


def _alike(head: str, role: str) -> bool:
    """Tell whether the beginning of a name is nearly a role's name, in as many words or written as one."""
    if head.replace("_", "") == role.replace("_", ""):
        return True
    return head.count("_") == role.count("_") and nearest(head, [role], 0.8) is not None


def misspelt(names: Iterable[str], specs: Specs) -> dict[str, tuple[str | None, str]]:
    """Find variables that no role knows.

    Args:
        names: names of variables; those that begin with ``_`` or ``ansible_`` are left alone.
        specs: what load_specs returned.

    Returns:
        the wrong name -> (the right name or None, the role that it seems to belong to). A name outside all roles counts
        only if both its beginning is nearly a role's name and the whole is nearly an option's.
    """
    options = {option: role for role, entries in specs.items() for option in entries.get("main", {})}
    found: dict[str, tuple[str | None, str]] = {}
    for name in names:
        if not isinstance(name, str) or name in options or name.startswith(("_", "ansible_")):
            continue
        role = owner(name, specs)
        if role is not None:
            if specs[role]:  # a role without a spec cannot judge
                tails = {option.removeprefix(f"{role}_"): option for option in specs[role]["main"]}
                tail = nearest(name.removeprefix(f"{role}_"), tails)
                found[name] = (tails[tail] if tail else nearest(name, options, 0.85), role)
            continue
        plain = name.lower().replace("-", "_")
        words = plain.split("_")
        heads = ["_".join(words[:count]) for count in (1, 2, 3) if count < len(words)]
        if any(_alike(head, role) for head in heads for role in specs):
            right = nearest(plain, options, 0.85)
            if right is not None:
                found[name] = (right, options[right])
    return found


def misspelt_problem(name: str, value: object, right: str | None, role: str, specs: Specs, place: str) -> str:
    """Word a name that no role knows. What may be a secret under a wrong name is not shown."""
    hint = (
        f"did you mean {right}?"
        if right
        else f"see `ansible-doc -t role -r roles {role}` for those it has; a variable of your own takes another prefix"
    )
    meant = specs[role]["main"].get(right, {}) if right else {}
    shown = HIDDEN if isinstance(value, (Mapping, list)) or _secret(meant) else value
    return problem(name, shown, f"no such variable of the role {role}, {hint}", place)


def _secret(option: Mapping) -> bool:
    """Tell whether an option, or one below it, must not be shown."""
    return bool(option.get("no_log")) or any(_secret(inner) for inner in (option.get("options") or {}).values())


# --- Values -----------------------------------------------------------------------------------------


def _is_number(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value.strip()) is not None


def type_error(value: object, wanted: str) -> str | None:
    """Tell what is wrong with a value's type, or None.

    Stricter than Ansible, whose conversions reach its validation but not the role: a text is no list and no dictionary,
    a number with a decimal point is no text (25.10 has become 25.1 by then). Texts that came from ``-e name=value`` pass as
    numbers and as true or false.
    """
    if wanted == "str" or wanted == "path":
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return None
        if isinstance(value, (Mapping, list, tuple)) or value is None:
            return "must be a text"
        return "must be a text: put it in quotes"
    if wanted == "int":
        right = isinstance(value, int) and not isinstance(value, bool)
        return None if right or _is_number(value, r"-?\d+") else "must be a whole number"
    if wanted == "float":
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if right or _is_number(value, r"-?\d+(\.\d+)?") else "must be a number"
    if wanted == "bool":
        right = isinstance(value, bool) or str(value).lower() in TRUTH
        return None if right else "must be true or false"
    if wanted == "dict":
        return None if isinstance(value, Mapping) else "must be a dictionary"
    if wanted == "list":
        return None if isinstance(value, (list, tuple)) else "must be a list"
    return None


def check_value(
    path: str, value: object, option: Mapping, entries: Mapping[str, Mapping], place: str = "", nested: bool = False
) -> list[str]:
    """Check one value against its option, as deep as the spec goes.

    Args:
        path: how the value is called in messages; its last part is the option's name.
        value: the value, templated.
        option: the option of the argument spec.
        entries: the entry points of the role's spec.
        place: where the value is set, if it does not know.
        nested: the value is inside another; there null stands for "without".

    Returns:
        the problems.
    """
    shown = HIDDEN if _secret(option) else value
    wanted = option.get("type", "str")
    place = where(value) or place
    if value is None and (nested or wanted == "raw" or (option.get("default") is None and not option.get("required"))):
        return []
    wrong = type_error(value, wanted)
    if wrong:
        return [problem(path, shown, wrong, place)]
    choices = option.get("choices")
    if choices and str(value) not in {str(choice) for choice in choices}:
        return [problem(path, shown, f"must be one of {', '.join(map(str, choices))}", place)]
    if wanted == "str" and path.endswith("role_name") and value:
        wrong = role_name_error(value)
        return [problem(path, value, wrong, place)] if wrong else []
    if wanted == "list":
        element = {
            "type": option.get("elements", "raw"),
            "options": option.get("options"),
            "no_log": option.get("no_log"),
        }
        return [
            line
            for index, item in enumerate(value)
            for line in check_value(f"{path}[{index}]", item, element, entries, place, nested)
        ]
    if wanted == "dict":
        return _check_dict(path, value, option, entries, place)
    return []


def _check_dict(path: str, value: Mapping, option: Mapping, entries: Mapping[str, Mapping], place: str) -> list[str]:
    name = path.rpartition(".")[2]
    if option.get("options"):
        return check_options(path, value, option["options"], entries, place)
    if name in entries and name != "main":
        return [
            line
            for key, entry in value.items()
            for line in (
                check_options(f"{path}.{key}", entry, entries[name], entries, where(entry) or where(key) or place)
                if isinstance(entry, Mapping)
                else [problem(f"{path}.{key}", entry, "must be a dictionary", where(key) or place)]
            )
        ]
    if name.endswith(("labels", "node_selector")):
        return check_labels(path, value, place)
    if name.endswith("annotations"):
        return check_labels(path, value, place, values_too=False)
    return []


def check_options(
    path: str, value: Mapping, options: Mapping[str, Mapping], entries: Mapping[str, Mapping], place: str
) -> list[str]:
    """Check a dictionary whose keys are known: no unknown ones, none missing, each value right."""
    lines = []
    secret = any(_secret(option) for option in options.values())
    for key, item in value.items():
        here = where(key) or place
        if key not in options:
            right = nearest(str(key), options)
            hint = f"did you mean {right}?" if right else f"the keys are {', '.join(sorted(options))}"
            # The key may be a misspelt secret's.
            shown = HIDDEN if secret else item
            lines.append(problem(f"{path}.{key}", shown, f"no such key, {hint}", where(item) or here))
        else:
            lines += check_value(f"{path}.{key}", item, options[key], entries, here, nested=True)
    missing = [key for key, option in options.items() if option.get("required") and value.get(key) is None]
    if missing and value:
        lines.append(problem(path, HIDDEN if secret else dict(value), f"needs {' and '.join(missing)}", place))
    return lines


def check_labels(path: str, labels: Mapping, place: str = "", values_too: bool = True) -> list[str]:
    """Check labels (or annotations, whose values may be any text) by the rules of the API server."""
    lines = []
    for key, value in labels.items():
        here = where(key) or place
        prefix, slash, name = str(key).rpartition("/")
        if not LABEL_NAME.fullmatch(name) or (slash and not DNS_SUBDOMAIN.fullmatch(prefix)):
            lines.append(
                problem(
                    f"{path}.{key}",
                    value,
                    "the key must be a name of up to 63 letters, digits, -, _ and ., or DOMAIN/NAME",
                    here,
                )
            )
        if value is None:
            continue
        if not isinstance(value, str):
            lines.append(problem(f"{path}.{key}", value, "must be a text: put it in quotes", here))
        elif values_too and value and not LABEL_NAME.fullmatch(value):
            lines.append(
                problem(
                    f"{path}.{key}",
                    value,
                    "must be up to 63 letters, digits, -, _ and ., with a letter or digit at both ends",
                    here,
                )
            )
    return lines


def check_role(
    role: str,
    entries: Mapping[str, Mapping],
    raw: Mapping[str, object],
    template: Callable[[object], object],
    declared: Callable[[str], str] = lambda name: "",
) -> tuple[dict[str, object], list[str]]:
    """Check all variables of one role.

    Args:
        role: its name.
        entries: the entry points of its spec.
        raw: variables as they are written, by name.
        template: turns a written value into the real one.
        declared: finds where a variable is set whose value does not know.

    Returns:
        the values that are right, and the problems.
    """
    values: dict[str, object] = {}
    lines: list[str] = []
    options = entries.get("main", {})
    for name, option in options.items():
        if name not in raw:
            if option.get("required"):
                lines.append(f"{name} is not set: it is required by the role {role}")
            continue
        value, broken = _template(name, raw[name], template)
        wrong = broken + check_value(name, value, option, entries, where(raw[name]), nested=bool(broken))
        if wrong and not where(raw[name]):
            wrong = check_value(name, value, option, entries, declared(name))
        if not wrong:
            values[name] = value
        lines += wrong
    if not lines:
        # Whatever else the spec says (required_together, mutually_exclusive, ...) is Ansible's to judge.
        given = {name: value for name, value in values.items() if value is not None}
        verdict = ArgumentSpecValidator(_without_defaults(options)).validate(given, validate_role_argument_spec=True)
        lines += [f"role {role}: {message}" for message in verdict.error_messages]
    return values, lines


def _without_defaults(options: Mapping[str, Mapping]) -> dict:
    """Drop the defaults of a spec: they may be templates, and a role's real ones are in its defaults/main.yml."""
    return {
        name: {key: value for key, value in option.items() if key not in ("default", "options")}
        | ({"options": _without_defaults(option["options"])} if option.get("options") else {})
        for name, option in options.items()
    }


def _template(path: str, raw: object, template: Callable[[object], object]) -> tuple[object, list[str]]:
    """Template a value. Parts that cannot be are null, and reported."""
    try:
        return template(raw), []
    except AnsibleError as error:
        if isinstance(raw, Mapping):
            parts = {key: _template(f"{path}.{key}", item, template) for key, item in raw.items()}
            return {key: part for key, (part, _) in parts.items()}, [
                line for _, lines in parts.values() for line in lines
            ]
        if isinstance(raw, (list, tuple)):
            parts = [_template(f"{path}[{index}]", item, template) for index, item in enumerate(raw)]
            return [part for part, _ in parts], [line for _, lines in parts for line in lines]
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = " ".join(str(getattr(cause, "message", cause)).split())
        shown = raw if isinstance(raw, str) else HIDDEN  # an encrypted one says nothing
        return None, [problem(path, shown, reason, where(raw))]
