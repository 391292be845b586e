"""Checks variables against what their role says of them: names, types, choices, keys; never reads an inventory or a cluster.

Ansible's own validation of a role's arguments does not see misspelt variables, takes a text for a list or a
dictionary, and does not say where a value is set. This does. Two conventions make the specs say more:

* a free dictionary whose name ends in ``labels``, ``annotations`` or ``node_selector`` holds valid ones;
* a text whose name ends in ``role_name`` is an IAM role's name or ARN, or empty.

``range`` (of a number: least and most), ``format`` (of a text or a quantity), ``keys`` and ``values`` (of a dictionary) say the rest.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import role_name_error
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs import formats
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import DNS_SUBDOMAIN, LABEL_NAME
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import HIDDEN, problem, sparing, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import Role

# How Ansible writes a boolean; extra variables give it as text.
TRUE = {"true", "yes", "on", "1", "y", "t"}
FALSE = {"false", "no", "off", "0", "n", "f"}
# The format of what becomes part of an object in Kubernetes' own form.
FREE = "kubernetes"
# k8s.io/apimachinery/pkg/api/validation: keys and values of an object's annotations together.
ANNOTATIONS_BYTES = 256 * 1024


def is_true(value: object) -> bool:
    """Tell whether a boolean, or the text of one, is true."""
    return str(value).lower() in TRUE


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


def misspelt(names: Iterable[str], roles: Mapping[str, Role]) -> dict[str, tuple[str | None, str]]:
    """Find variables that no role knows.

    Args:
        names: names of variables; those that begin with ``_`` or ``ansible_`` are left alone.
        roles: all roles.

    Returns:
        the wrong name -> (the right name or None, the role that it seems to belong to). A name outside all roles counts
        only if both its beginning is nearly a role's name and the whole is nearly an option's.
    """
    options = {name: role.name for role in roles.values() for name in role.variables}
    former = {option.get("was") for role in roles.values() for option in role.options.values()}
    found: dict[str, tuple[str | None, str]] = {}
    for name in names:
        if not isinstance(name, str) or name in options or name in former or name.startswith(("_", "ansible_")):
            continue
        role = owner(name, roles)
        if role is not None:
            tails = {option.removeprefix(f"{role}_"): option for option in roles[role].variables}
            tail = nearest(name.removeprefix(f"{role}_"), tails)
            found[name] = (tails[tail] if tail else nearest(name, options, 0.85), role)
            continue
        plain = name.lower().replace("-", "_")
        words = plain.split("_")
        heads = ["_".join(words[:count]) for count in (1, 2, 3) if count < len(words)]
        if any(_alike(head, role) for head in heads for role in roles):
            right = nearest(plain, options, 0.85)
            if right is not None:
                found[name] = (right, options[right])
    return found


def misspelt_problem(
    name: str, value: object, right: str | None, role: str, roles: Mapping[str, Role], place: str
) -> str:
    """Word a name that no role knows. What may be a credential under a wrong name is not shown."""
    hint = (
        f"did you mean {right}?"
        if right
        else f"see `ansible-doc -t role -r roles {role}` for those it has; a variable of your own takes another prefix"
    )
    meant = roles[role].variables.get(right, {}) if right else {}
    # A structure may be that of a role's which has a credential in it, under names of whatever kind.
    structure = isinstance(value, (Mapping, list)) and any(map(_secret, roles[role].variables.values()))
    shown = HIDDEN if structure or _secret(meant) else sparing(name, value)
    place = where(value) or place
    return problem(name, shown, f"no such variable of the role {role}, {hint}", place)


def _secret(option: Mapping) -> bool:
    """Tell whether an option, or one below it, must not be shown."""
    return bool(option.get("no_log")) or any(_secret(inner) for inner in (option.get("options") or {}).values())


# --- Values -----------------------------------------------------------------------------------------


def _is_number(value: object, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value.strip(), re.ASCII) is not None


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
        return None if right or _is_number(value, r"-?\d{1,30}") else "must be a whole number"
    if wanted == "float":
        right = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if right or _is_number(value, r"-?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,2})?") else "must be a number"
    if wanted == "bool":
        right = isinstance(value, bool) or str(value).lower() in TRUE | FALSE
        return None if right else "must be true or false"
    if wanted == "dict":
        return None if isinstance(value, Mapping) else "must be a dictionary"
    if wanted == "list":
        return None if isinstance(value, (list, tuple)) else "must be a list"
    return None


def check_value(path: str, value: object, option: Mapping, place: str = "", nested: bool = False) -> list[str]:
    """Check one value against its option, as deep as the spec goes.

    Args:
        path: how the value is called in messages; its last part is the option's name.
        value: the value, templated.
        option: what the role says of it.
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
    wrong = type_error(value, wanted) or _rule_error(path, value, option, nested)
    if wrong:
        return [problem(path, shown, wrong, place)]
    if wanted == "list":
        element = {
            "type": option.get("elements", "raw"),
            "required": True,
            **{word: option[word] for word in ("options", "no_log", "range", "format") if word in option},
        }
        return [
            line for index, item in enumerate(value) for line in check_value(f"{path}[{index}]", item, element, place)
        ]
    if wanted == "dict":
        return _check_dict(path, value, option, place, shown is HIDDEN)
    return _tree(path, value, option, place, shown is HIDDEN) if wanted == "raw" else []


def _rule_error(path: str, value: object, option: Mapping, nested: bool) -> str | None:
    """Tell which rule a value of the right type breaks, or None."""
    wanted = option.get("type", "str")
    choices = option.get("choices")
    if choices and str(value) not in {str(choice) for choice in choices}:
        return f"must be one of {', '.join(map(str, choices))}"
    if wanted in ("int", "float") and "range" in option:
        number = (float(value) if wanted == "float" else int(value)) if isinstance(value, str) else value
        return formats.range_error(number, option["range"], "number" if wanted == "float" else "whole number")
    if isinstance(value, str) and formats.text_error(value):
        return formats.text_error(value)
    if wanted == "str" and path.endswith("role_name") and value:
        return role_name_error(value)
    # An empty text is none, where that is allowed.
    empty = wanted == "str" and value == "" and ((nested and not option.get("required")) or option.get("default") == "")
    if wanted in ("str", "raw") and option.get("format", FREE) != FREE and not empty:
        return formats.format_error(value, option["format"])
    return None


def _tree(path: str, value: object, option: Mapping, place: str, hidden: bool) -> list[str]:
    return [
        # What a text holds may be a credential.
        problem(below, HIDDEN if hidden or isinstance(found, str) else found, allowed, where(found) or place)
        for below, found, allowed in formats.tree_errors(path, value, option.get("format") == FREE)
    ]


def _check_dict(path: str, value: Mapping, option: Mapping, place: str, hidden: bool) -> list[str]:
    name = path.rpartition(".")[2]
    lines = []
    for key in value:
        wrong = formats.key_error(key, option.get("keys", ""))
        if wrong:
            lines.append(problem(f"{path}.{key}", HIDDEN if hidden else key, wrong, where(key) or place))
    if lines:
        return lines
    if option.get("options"):
        # With ``values`` beside them, other keys are allowed, too.
        other = {key: item for key, item in value.items() if "values" in option and key not in option["options"]}
        known = {key: item for key, item in value.items() if key not in other}
        lines = _check_dict(path, other, {"values": option["values"]}, place, hidden) if other else []
        return lines + check_options(path, known, option["options"], place, element=path.endswith("]"))
    if "entries" in option:
        return [
            line
            for key, entry in value.items()
            for line in (
                check_options(f"{path}.{key}", entry, option["entries"], where(entry) or where(key) or place)
                if isinstance(entry, Mapping)
                else [problem(f"{path}.{key}", entry, "must be a dictionary", where(key) or place)]
            )
        ]
    if "values" in option:
        return [
            line
            for key, item in value.items()
            for line in check_value(f"{path}.{key}", item, {"required": True, **option["values"]}, where(key) or place)
        ]
    if name.endswith(("labels", "node_selector", "selector")):
        return check_labels(path, value, place)
    if name.endswith("annotations"):
        return check_labels(path, value, place, values_too=False)
    return _tree(path, value, option, place, hidden)


def check_options(
    path: str, value: Mapping, options: Mapping[str, Mapping], place: str, element: bool = False
) -> list[str]:
    """Check a dictionary whose keys are known: no unknown ones, none missing (an empty one is none, but in a list), each value right."""
    lines = []
    secret = any(_secret(option) for option in options.values())
    for key, item in value.items():
        here = where(key) or place
        if key not in options:
            right = nearest(str(key), options)
            known = ", ".join(sorted(options)) if len(options) < 30 else "those of `ansible-doc -t role`"
            hint = f"did you mean {right}?" if right else f"the keys are {known}"
            # The key may be a misspelt secret's.
            shown = HIDDEN if secret else item
            lines.append(problem(f"{path}.{key}", shown, f"no such key, {hint}", where(item) or here))
        else:
            lines += check_value(f"{path}.{key}", item, options[key], here, nested=True)
    missing = [key for key, option in options.items() if option.get("required") and value.get(key) is None]
    if missing and (value or element):
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
        elif formats.text_error(value):
            lines.append(problem(f"{path}.{key}", value, str(formats.text_error(value)), here))
        elif values_too and value and not LABEL_NAME.fullmatch(value):
            lines.append(
                problem(
                    f"{path}.{key}",
                    value,
                    "must be up to 63 letters, digits, -, _ and ., with a letter or digit at both ends",
                    here,
                )
            )
    size = annotations_bytes(labels)
    if size > ANNOTATIONS_BYTES:
        lines.append(problem(path, HIDDEN, f"has {size} bytes, and an object takes {ANNOTATIONS_BYTES}", place))
    return lines


def annotations_bytes(annotations: Mapping) -> int:
    """Count the bytes of an object's annotations as the API server does."""
    return sum(len(str(text).encode(errors="replace")) for pair in annotations.items() for text in pair)
