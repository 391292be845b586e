"""Says where each part of a rendering stands in the tree that kubectl and Argo CD read; never writes a file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.files.tree import application_folders
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import problem

APPLICATIONS = "argocd_apps"
_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", re.ASCII)


def _path(rendered: Mapping) -> str:
    return str(rendered["settings"]["argocd_apps"]["path"]).strip("/")


def parent(rendered: Mapping) -> str:
    """Name the folder below the repository that holds the manifests and the Applications."""
    return posixpath.dirname(_path(rendered))


def tops(rendered: Mapping) -> list[str]:
    """Name the folders that are the tree's: of the manifests, which Argo CD reads, and of the Applications beside it."""
    return [posixpath.basename(_path(rendered)), "argocd"]


def problems(rendered: Mapping, paths: Mapping[str, str]) -> list[str]:
    """Refuse a folder outside the repository, and two clusters in one folder.

    Args:
        rendered: the structure of ``servers.render``.
        paths: ``argocd_apps_path`` of each host of the play.
    """
    path = _path(rendered)
    if not _PATH.fullmatch(path) or ".." in path.split("/"):
        allowed = "must be a folder below the repository's root, such as infra/k8s"
        return [problem("argocd_apps_path", rendered["settings"]["argocd_apps"]["path"], allowed)]
    sharers = [host for host, other in paths.items() if posixpath.dirname(str(other).strip("/")) == parent(rendered)]
    if len(sharers) < 2:
        return []
    allowed = f'for the clusters {", ".join(sharers)}: each has a folder of its own, for example argocd_apps_path: "infra/{{{{ platform_cluster_name }}}}/k8s"'
    return [problem("argocd_apps_path", path, allowed)]


def folders(rendered: Mapping) -> list[dict]:
    """Give the folders of the tree, for ``tree.compose``: of each part, of what is on together, and of the Applications."""
    top = tops(rendered)[0]
    parts = [part for part in rendered["parts"] if part.get("folder")]
    chosen_by = list(dict.fromkeys(part["chosen_by"] for part in parts))
    disabled = rendered["settings"]["tree"]["include_disabled"]
    # An overlay that is on needs its base, which is no server by itself.
    bases = {part["base"] for part in parts if part["enabled"]}
    written = [part for part in parts if disabled or part["enabled"] or part["folder"] in bases]
    found = [
        {
            "path": f"{top}/{part['folder']}",
            "variables": part["variables"],
            "objects": part["objects"],
            "base": f"{top}/{part['base']}" if part["base"] else "",
        }
        for part in written
    ]
    there = {part["folder"] for part in written}
    for part in written:
        if part["bundle"] and there.issuperset(part["bundle"][1]):
            path, members = part["bundle"]
            includes = [posixpath.relpath(member, path) for member in members]
            found.append({"path": f"{top}/{path}", "variables": part["variables"], "includes": includes})
    found += _sums(top, parts, chosen_by)
    for part in rendered["parts"]:
        if part["role"] == APPLICATIONS:
            on = [item for item in part["objects"] if item["kind"] != "Secret"]
            variables = ", ".join(["argocd_apps_*", *chosen_by])
            found += application_folders(on, part.get("off", []) if disabled else [], _path(rendered), variables)
    return found


def _sums(top: str, parts: list[Mapping], chosen_by: list[str]) -> list[dict]:
    """Give the folders that are made of what is on: the whole, and each folder above a part's own."""
    on = [part for part in parts if part["enabled"]]
    names = [part["folder"] for part in on]
    members: dict[str, set[str]] = {".": {name.split("/")[0] for name in names}}
    by: dict[str, list[str]] = {".": chosen_by}
    for part in parts:
        places = [part["folder"]] if part["folder"] not in (part["base"], "") else []
        if part["bundle"]:
            places.append(part["bundle"][0])
        for place in places:
            whole = part["enabled"] and (place == part["folder"] or set(part["bundle"][1]) <= set(names))
            above = posixpath.dirname(place)
            while above:
                here = members.setdefault(above, set())
                # The folder of the kind takes the parts themselves; bundles are another way to have them.
                if whole and (place == part["folder"] or "/" in above):
                    here.add(posixpath.relpath(place, above))
                by.setdefault(above, [])
                if part["chosen_by"] not in by[above]:
                    by[above].append(part["chosen_by"])
                above = posixpath.dirname(above)
    return [
        {
            "path": top if path == "." else f"{top}/{path}",
            "variables": ", ".join(by[path]),
            "includes": sorted(includes),
        }
        for path, includes in members.items()
    ]
