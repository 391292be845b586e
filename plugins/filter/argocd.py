"""Which Argo CD Applications a cluster has, and what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.module_utils.problems import Problems, nearest, where
from ansible_collections.modelyard.core.plugins.module_utils.settings import merge

FINALIZER = "resources-finalizer.argocd.argoproj.io"
SYNC_WAVE = "argocd.argoproj.io/sync-wave"
NAME = re.compile(r"(?=.{1,63}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def applications(selection: Mapping, settings: Mapping, overrides: Mapping, extra: Mapping) -> dict:
    """Find the Applications of a cluster and their settings.

    Args:
        selection: what is on: ``triton`` (list of profiles), ``vllm`` and ``shared`` (true or false), ``judge`` (a variant
            or none); and how they are called: ``triton_prefix``, ``judge_prefix``, ``vllm_name``, ``shared_name``.
        settings: what all of them have, keys as in ``argocd_apps_overrides``; ``path`` is the folder above all.
        overrides: by name, what one of them has instead.
        extra: by name, further ones. Their path is as it is given.

    Returns:
        ``applications``: for each a dictionary for its template, sorted by name; none when there are ``problems``: what
        is wrong, worded for the operator.
    """
    problems = Problems()
    root = str(settings["path"]).strip("/")
    found: dict[str, dict] = {}
    for name, path in _wanted(selection):
        if name in found:
            problems.add("argocd_apps", name, "two Applications have this name")
        own = {"path": f"{root}/{path}" if root else path}
        found[name] = _effective(name, own, settings, overrides.get(name) or {})
    for name, own in extra.items():
        if name in found:
            problems.add(
                f"argocd_apps_extra.{name}", dict(own), "is there already: use argocd_apps_overrides", where(own)
            )
        if not own.get("path"):
            problems.add(f"argocd_apps_extra.{name}", dict(own), "needs path, its folder in the repository", where(own))
        found[name] = _effective(name, {}, settings, own)
    _check_overrides(selection, overrides, found, problems)
    _check_owners(found, problems)
    right = [] if problems.lines else [found[name] for name in sorted(found)]
    return {"applications": right, "problems": problems.lines}


def _wanted(selection: Mapping) -> list[tuple[str, str]]:
    """Name what is on, each with its folder below the one that holds all."""
    wanted = [
        (f"{selection['triton_prefix']}{profile}", f"triton/overlays/{profile}") for profile in selection["triton"]
    ]
    if selection["vllm"]:
        wanted.append((selection["vllm_name"], "vllm/base"))
    judge = selection["judge"]
    if judge not in (None, "", "none"):
        wanted.append((f"{selection['judge_prefix']}{judge}", f"vllm/{judge}"))
    if selection["shared"]:
        wanted.append((selection["shared_name"], "shared"))
    return wanted


def _check_overrides(selection: Mapping, overrides: Mapping, found: Mapping, problems: Problems) -> None:
    """Refuse settings for a name that can never be on. One that is merely off keeps its settings."""
    names = {*found, selection["vllm_name"], selection["shared_name"]}
    prefixes = (selection["triton_prefix"], selection["judge_prefix"])
    for name in overrides:
        if name not in names and not str(name).startswith(prefixes):
            problems.add(f"argocd_apps_overrides.{name}", name, nearest(name, found))


def _check_owners(found: Mapping[str, dict], problems: Problems) -> None:
    """Refuse names that Argo CD cannot take, and two Applications with one name or one source."""
    names: dict[str, str] = {}
    sources: dict[tuple, str] = {}
    for key, app in found.items():
        if not NAME.fullmatch(app["name"]):
            problems.add(
                f"Application {key}", app["name"], "its name must be up to 63 lower-case letters, digits and -"
            )
        source = (app["repo_url"], app["target_revision"], app["path"], *app["destination"].items())
        other = names.setdefault(app["name"], key)
        if other != key:
            problems.add(f"Application {key}", app["name"], f"is the name of Application {other} too")
        other = sources.setdefault(source, key)
        if other != key:
            allowed = f"is the path of Application {other} too, but an object has one owner"
            problems.add(f"Application {key}", app["path"], allowed)


def _effective(name: str, own: Mapping, settings: Mapping, over: Mapping) -> dict:
    """Layer the settings of one Application and give them the shape of its manifest."""
    app = merge(merge(merge({"name": name}, settings), own), over)
    options = [str(option) for option in app["sync_options"]]
    if app.get("create_namespace"):
        options.append("CreateNamespace=true")
    annotations = dict(app.get("annotations") or {})
    if app.get("sync_wave") is not None:
        annotations[SYNC_WAVE] = str(app["sync_wave"])
    destination = {"namespace": app["destination_namespace"]}
    destination |= (
        {"name": app["destination_name"]} if app.get("destination_name") else {"server": app["destination_server"]}
    )
    policy: dict = {}
    if app["automated"]:
        policy["automated"] = {"prune": bool(app["prune"]), "selfHeal": bool(app["self_heal"])}
    if options:
        policy["syncOptions"] = options
    if app.get("retry"):
        policy["retry"] = app["retry"]
    return {
        "name": str(app["name"]),
        "path": app["path"] if "path" in own or "path" in over else "",
        "repo_url": app["repo_url"],
        "target_revision": app["target_revision"],
        "project": app["project"],
        "destination": destination,
        "policy": policy,
        "labels": dict(app.get("labels") or {}),
        "annotations": annotations,
        "finalizers": [FINALIZER] if app["finalizer"] else [],
        "ignore_differences": list(app.get("ignore_differences") or []),
    }


class FilterModule:
    """modelyard.core.applications"""

    def filters(self) -> dict:
        """Name the filters."""
        return {"applications": applications}
