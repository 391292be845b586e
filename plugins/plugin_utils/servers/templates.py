"""Renders a role's templates into objects; templates only place values, as JSON, and nothing here computes one."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from typing import Any

import jinja2
import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils import compiled
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Failure
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.specs import LOADER, ROLES

# What YAML does not take as it is between quotes.
_UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def as_json(value: Any) -> str:
    """Write a value as JSON that is YAML too: no text of an inventory can become a key, a number or another line."""
    text = json.dumps(value, ensure_ascii=False, default=plain)
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def plain(value: object) -> object:
    """Give json a dictionary or list for what only behaves like one."""
    return dict(value) if isinstance(value, Mapping) else list(value)  # type: ignore[call-overload]


def checksum(value: object) -> str:
    """Give the sha256 of a value, for an annotation that rolls pods when it changes."""
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def environment(roles: tuple[str, ...]) -> jinja2.Environment:
    """Give the environment that finds templates in these roles, the first that has one."""
    folders = [ROLES / role for role in roles]

    def file(name: str) -> str:
        text = next(folder / "files" / name for folder in folders if (folder / "files" / name).is_file()).read_text(
            encoding="utf-8"
        )
        return text.rstrip()

    # What is constant is filtered when a template is compiled: with the filters here, and those of Jinja.
    kept = compiled.folder("templates", __file__, jinja2.__version__)
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder / "templates" for folder in folders]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        autoescape=False,  # noqa: S701 (no HTML)
        auto_reload=False,
        bytecode_cache=jinja2.FileSystemBytecodeCache(str(kept)) if kept else None,
    )
    found.filters |= {"to_json": as_json, "checksum": checksum, "quote": shlex.quote}
    found.globals["file"] = file
    return found


def render(roles: tuple[str, ...], names: list[str], **values: Any) -> list[dict]:
    """Render templates of these roles.

    Args:
        roles: where to look, the first wins.
        names: the templates, one an object; a template may also make several, or none.
        values: what they place.

    Returns:
        the objects, in the order of the templates.

    Raises:
        Failure: a template is broken, or places what there is not.
    """
    objects = []
    for name in names:
        try:
            text = environment(roles).get_template(name).render(values)
            objects += [item for item in yaml.load_all(text, Loader=LOADER) if item]
        except (jinja2.TemplateError, yaml.YAMLError) as error:
            raise Failure(f"role {roles[0]}: template {name}: {error}") from error
    return objects
