"""Writes rendered objects as a tree of files that kustomize reads, one object a file; never touches a file that is not ours."""

from __future__ import annotations

import contextlib
import hashlib
import os
import posixpath
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import yaml
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Refused

# The first line of a file says whose it is: what begins otherwise is never touched.
MARK = "# Rendered by modelyard: do not edit. Change the inventory, then run: make render"
OFF = "# The inventory has it off, so it is not in kustomization.yaml.\n"
KUSTOMIZATION = "kustomization.yaml"
# A killed run may leave one; the next one removes it.
TEMPORARY = ".modelyard-"
# What kustomize, kubectl and Argo CD take for a manifest.
MANIFESTS = (".yaml", ".yml", ".json")

_CLUSTER = re.compile(rb"[^\n]*\n# Cluster (\S+),")
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*", re.ASCII)
# Text that YAML 1.2, or YAML 1.1 in Go, may read as a number or a boolean, and PyYAML would write without quotes.
_AMBIGUOUS = re.compile(
    r"[-+]?(\.\d+|\d[\d_]*(\.[\d_]*)?)(e[-+]?\d+)?|[-+]?0[box][\da-f_]+|[yn]", re.ASCII | re.IGNORECASE
)


# --- Texts ---------------------------------------------------------------------------------------


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, value: str) -> yaml.Node:
    style = "|" if "\n" in value else "'" if _AMBIGUOUS.fullmatch(value) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _ordered(value: Any, first: tuple[str, ...] = ()) -> Any:
    """Sort the keys of dictionaries, all the way down; some come first."""
    if isinstance(value, Mapping):
        keys = sorted(value, key=lambda key: (first.index(key) if key in first else len(first), key))
        return {key: _ordered(value[key], ("name", "namespace") if key == "metadata" else ()) for key in keys}
    if isinstance(value, list):
        return [_ordered(item, ("name", "op", "path")) for item in value]
    return value


def document(header: str, content: Any) -> str:
    """Write a file: its header, then the content as YAML with sorted keys."""
    first = ("$patch", "apiVersion", "kind", "metadata", "resources", "namespace", "nameSuffix", "patches")
    return header + yaml.dump(
        _ordered(content, first), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1 << 16
    )


def header(cluster: str, source: str, variables: str) -> str:
    """Say in comments where a file comes from.

    Args:
        cluster: the cluster's name.
        source: the host and its inventory.
        variables: names or patterns of the variables.
    """
    return f"{MARK}\n# Cluster {cluster}, {source}\n# Variables: {variables}\n"


def named(item: Mapping) -> str:
    """Name an object for people: ``Deployment ml-models/vllm``."""
    place = item["metadata"].get("namespace")
    return (
        f"{item['kind']} {place}/{item['metadata']['name']}" if place else f"{item['kind']} {item['metadata']['name']}"
    )


def _identity(item: Mapping) -> tuple:
    return item["apiVersion"], item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]


def stems(objects: list[Mapping]) -> list[str]:
    """Name the files of objects that share a folder, without their ending.

    An Application's file has its name alone, any other ``kind-name``. What is no safe name of a file (characters,
    length), and names that differ in nothing or only in upper and lower case, get a checksum of the whole identity.
    """
    plain = [
        "-".join(([] if item["kind"] == "Application" else [item["kind"].lower()]) + [item["metadata"]["name"]])
        for item in objects
    ]
    folded = [name.lower() for name in plain]
    found = []
    for item, name in zip(objects, plain, strict=True):
        safe = re.sub(r"[^a-z0-9.-]", "-", name.lower())[:200]
        if safe != name or folded.count(name) > 1 or f"{name}.yaml" == KUSTOMIZATION:
            safe += "-" + hashlib.sha256(repr(_identity(item)).encode()).hexdigest()[:8]
        found.append(safe)
    return found


# --- Overlays ------------------------------------------------------------------------------------


def difference(base: Any, wanted: Any, path: str = "") -> list[dict]:
    """Find the JSON patch (RFC 6902) that makes one value of another.

    Lists of one length are compared item by item, others are replaced as a whole.
    """
    if isinstance(base, Mapping) and isinstance(wanted, Mapping):
        found = []
        for key in sorted({*base, *wanted}):
            below = f"{path}/{str(key).replace('~', '~0').replace('/', '~1')}"
            if key not in wanted:
                found.append({"op": "remove", "path": below})
            elif key not in base:
                found.append({"op": "add", "path": below, "value": wanted[key]})
            else:
                found += difference(base[key], wanted[key], below)
        return found
    if isinstance(base, list) and isinstance(wanted, list) and len(base) == len(wanted):
        pairs = enumerate(zip(base, wanted, strict=True))
        return [change for index, pair in pairs for change in difference(*pair, f"{path}/{index}")]
    if type(base) is type(wanted) and base == wanted:
        return []
    return [{"op": "replace", "path": path, "value": wanted}]


def pair(base: list[Mapping], objects: list[Mapping]) -> tuple[list[tuple[Mapping, Mapping | None]], list[Mapping]]:
    """Find for each object of a base the one of an overlay that takes its place: of its kind, and of its name if possible.

    Returns:
        each object of the base with its counterpart or None, and the overlay's objects that have none in the base.
    """

    def kind(item: Mapping) -> tuple:
        return item["apiVersion"], item["kind"]

    left = list(objects)
    found: dict[int, Mapping] = {}
    for same_name in (True, False):
        for place, item in enumerate(base):
            fitting = (
                other
                for other in left
                if kind(other) == kind(item)
                and (not same_name or other["metadata"]["name"] == item["metadata"]["name"])
            )
            if place not in found and (match := next(fitting, None)) is not None:
                found[place] = match
                left = [other for other in left if other is not match]
    return [(item, found.get(place)) for place, item in enumerate(base)], left


def suffix(base: list[Mapping], objects: list[Mapping]) -> str | None:
    """Find what the names of an overlay's objects have more than those of its base; None where it is not one thing."""
    pairs, more = pair(base, objects)
    names = [(item["metadata"]["name"], wanted["metadata"]["name"]) for item, wanted in pairs if wanted]
    if not names:
        return None
    end = names[0][1].removeprefix(names[0][0])
    fits = all(before + end == after for before, after in names)
    return end if fits and all(item["metadata"]["name"].endswith(end) for item in more) else None


def _suffixed(item: Mapping, end: str, accounts: set[str]) -> dict:
    """Rename an object as kustomize's nameSuffix does: itself, and the account of its pods if that is renamed too."""
    renamed = {**item, "metadata": {**item["metadata"], "name": item["metadata"]["name"] + end}}
    pod = item.get("spec", {}).get("template", {}).get("spec", {})
    if pod.get("serviceAccountName") in accounts:
        pod = {**pod, "serviceAccountName": pod["serviceAccountName"] + end}
        renamed["spec"] = {**item["spec"], "template": {**item["spec"]["template"], "spec": pod}}
    return renamed


def overlay(base: list[Mapping], objects: list[Mapping], end: str) -> tuple[list[Mapping], dict[str, Any], list[dict]]:
    """Work out what an overlay must hold to make its objects of a base's.

    Args:
        base: the base's objects.
        objects: the overlay's.
        end: their :func:`suffix`. A patch must not rename: where two overlays of one base meet, kustomize follows only
            its own suffix from an account to the pods that use it.

    Returns:
        objects that the base lacks, before they get the suffix; patches by the stem of their file; the kustomization's
        ``patches``.
    """
    pairs, more = pair(base, objects)
    accounts = {item["metadata"]["name"] for item in base if item["kind"] == "ServiceAccount"}
    texts: dict[str, Any] = {}
    entries = []
    for stem, (item, wanted) in zip(stems(base), pairs, strict=True):
        file, meta = f"patch-{stem}", item["metadata"]
        if wanted is None:
            there = {key: meta[key] for key in ("name", "namespace") if key in meta}
            texts[file] = {
                "apiVersion": item["apiVersion"],
                "kind": item["kind"],
                "metadata": there,
                "$patch": "delete",
            }
            entries.append({"path": f"{file}.yaml"})
        elif changes := difference(_suffixed(item, end, accounts), wanted):
            texts[file] = changes
            entries.append({"path": f"{file}.yaml", "target": {"kind": item["kind"], "name": meta["name"]}})
    bare = [
        {**item, "metadata": {**item["metadata"], "name": item["metadata"]["name"].removesuffix(end)}} for item in more
    ]
    return bare, texts, entries


def application_folders(on: list[Mapping], off: list[Mapping], manifests: str, variables: str) -> list[dict]:
    """Sort Argo CD's objects into folders named as those of the manifests that they lead to.

    Args:
        on: what is on.
        off: Applications that could be.
        manifests: ``argocd_apps_path``.
        variables: what they come from, for the header.

    Returns:
        folders for :func:`compose`: ``argocd/triton`` for what leads to ``<manifests>/triton``, ``argocd`` for what leads
        elsewhere or nowhere, and is made of the others.
    """
    found: dict[str, dict] = {"argocd": {"path": "argocd", "objects": [], "includes": [], "variables": variables}}
    for key, objects in (("objects", on), ("off", off)):
        for item in objects:
            inside = _path_of(item).removeprefix(f"{manifests}/")
            part = inside.split("/")[0] if inside != _path_of(item) else ""
            path = f"argocd/{part}".rstrip("/")
            folder = found.setdefault(path, {"path": path, "objects": [], "variables": variables})
            folder.setdefault(key, []).append(item)
            if part and key == "objects" and part not in found["argocd"]["includes"]:
                found["argocd"]["includes"].append(part)
    return list(found.values())


def _path_of(item: Mapping) -> str:
    return str(item["spec"]["source"]["path"]) if item["kind"] == "Application" else ""


# --- The files -----------------------------------------------------------------------------------


def compose(folders: list[Mapping], cluster: str, source: str) -> dict[str, str]:
    """Write all files of a tree, in memory.

    Args:
        folders: for each its ``path`` below the root, the ``variables`` that it comes from, and any of: ``objects``;
            ``base`` (path of the folder that it is an overlay of, where the names allow that); ``includes`` (folders that it is made of, relative
            to it); ``off`` (objects that have a file and are not in the kustomization).
        cluster: the cluster's name.
        source: the host and its inventory, in words.

    Returns:
        path below the root -> content. A folder that nothing is in has no kustomization.

    Raises:
        Refused: a Secret, a folder twice, or one that has no safe name.
    """
    known = {folder["path"]: folder for folder in folders}
    problems = _folder_problems(folders) + _shared(known)
    everything = [item for folder in folders for item in [*folder.get("objects", []), *folder.get("off", [])]]
    problems += [
        f"{named(item)} is a Secret, and a Secret is never written to a file: leave it out of what is rendered, and bring it to the cluster another way"
        for item in everything
        if item["kind"] == "Secret"
    ]
    if problems:
        raise Refused(problems)
    files: dict[str, str] = {}
    for path, folder in known.items():
        head = header(cluster, source, folder["variables"])
        objects, patches, settings = list(folder.get("objects", [])), {}, {}
        includes = list(folder.get("includes", []))
        below = known[folder["base"]]["objects"] if folder.get("base") else []
        if below and (end := suffix(below, objects)) is not None:
            includes.append(posixpath.relpath(folder["base"], path))
            # Without a namespace kustomize would lead pods to the other overlay's account where two overlays meet.
            places = {item["metadata"].get("namespace") for item in objects}
            settings |= {"nameSuffix": end, "namespace": places.pop() if len(places) == 1 else None}
            objects, patches, settings["patches"] = overlay(below, objects, end)
        off = list(folder.get("off", []))
        names = [f"{stem}.yaml" for stem in stems([*objects, *off])]
        for name, item in zip(names, [*objects, *off], strict=True):
            files[f"{path}/{name}"] = document(head + (OFF if item in off else ""), item)
        for stem, patch in patches.items():
            files[f"{path}/{stem}.yaml"] = document(head, patch)
        resources = sorted(includes) + sorted(names[: len(objects)])
        if resources:
            content = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": resources}
            content |= {key: value for key, value in settings.items() if value}
            files[f"{path}/{KUSTOMIZATION}"] = document(head, content)
    return files


def _folder_problems(folders: list[Mapping]) -> list[str]:
    paths = [folder["path"] for folder in folders]
    problems = [
        f"{path!r} can't be a folder of the tree: a name in it must be of letters, digits, -, _ and ., and begin with a letter or digit"
        for path in paths
        if not _FOLDER.fullmatch(path)
    ]
    return problems + [
        f"the folder {path} would be two things at once: give that profile or variant another name"
        for path in sorted({path for path in paths if paths.count(path) > 1})
    ]


def _shared(folders: Mapping[str, Mapping]) -> list[str]:
    """Find objects that two parts of one folder have, which kustomize would refuse: two profiles that are on, with one name."""

    def inside(path: str) -> list[tuple[Mapping, str]]:
        folder = folders.get(path, {})
        below = (posixpath.normpath(f"{path}/{name}") for name in folder.get("includes", []))
        return [(item, path) for item in folder.get("objects", [])] + [pair for part in below for pair in inside(part)]

    shared: dict[tuple[str, str], dict[str, None]] = {}
    for path in folders:
        seen: dict[tuple, str] = {}
        for item, place in inside(path):
            other = seen.setdefault(_identity(item), place)
            if other != place:
                shared.setdefault((other, place), {})[named(item)] = None
    return [
        f"{one} and {other} are both on and have the same objects: {', '.join(names)}. Give the servers different names"
        for (one, other), names in sorted(shared.items())
    ]


# --- The disk ------------------------------------------------------------------------------------


def survey(root: Path, tops: Iterable[str]) -> tuple[dict[str, bytes], set[str]]:
    """Look at what stands in a tree.

    Args:
        root: the folder above it.
        tops: folders below the root that are the tree's.

    Returns:
        path -> content of the files that carry our mark, and the paths of all other files and links.
    """
    ours: dict[str, bytes] = {}
    others: set[str] = set()
    for top in tops:
        for path in _entries(root / top):
            place = path.relative_to(root).as_posix()
            content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
            if content is not None and (content.startswith(MARK.encode()) or path.name.startswith(TEMPORARY)):
                ours[place] = content
            else:
                others.add(place)
    return ours, others


def _entries(top: Path) -> Iterator[Path]:
    """All files and links below a folder, or itself if it is one. Links are not followed."""
    if top.is_symlink() or top.is_file():
        yield top
    for folder, folders, files in os.walk(top):
        yield from (Path(folder, name) for name in files)
        yield from (link for name in folders if (link := Path(folder, name)).is_symlink())


def plan(
    root: Path, tops: Iterable[str], wanted: Mapping[str, str], cluster: str
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Work out what to write and what to remove; touches nothing.

    Args:
        root: the folder above the tree.
        tops: folders below the root that are the tree's.
        wanted: path -> content.
        cluster: the cluster's name.

    Returns:
        path -> old and new content of what differs, and path -> content of our files that nothing wants any more.

    Raises:
        Refused: somebody else's file is in the way or looks like a manifest, or the tree is another cluster's.
        OSError: something can't be read.
    """
    ours, others = survey(root, tops)
    problems = [
        f"{root / path} is in the way: it is not this project's (its first line is not {MARK!r}). Move it out of the tree, or remove it"
        for path in sorted(others)
        if any(path == file or file.startswith(f"{path}/") for file in wanted)
    ]
    problems += [
        f"{root / path} was not rendered from the inventory, and what reads this folder could take it for a manifest. Move it out of the tree, or remove it"
        for path in sorted(others)
        if path.endswith(MANIFESTS) or PurePosixPath(path).name == "Kustomization"
        if not any(path == file or file.startswith(f"{path}/") for file in wanted)
    ]
    problems += [
        f"{root / path} is a folder, where a file must be: remove it" for path in wanted if (root / path).is_dir()
    ]
    found = {match[1].decode() for text in ours.values() if (match := _CLUSTER.match(text))}
    problems += [
        f"{root} holds what was rendered for the cluster {name}, and this is {cluster}: a cluster has a folder of its own "
        f"(argocd_apps_path: infra/{cluster}/k8s). If the folder is to be {cluster}'s, remove what is in it first"
        for name in sorted(found - {cluster})
    ]
    if problems:
        raise Refused(problems)
    write = {
        path: (ours.get(path, b"").decode(errors="replace"), text)
        for path, text in sorted(wanted.items())
        if ours.get(path) != text.encode()
    }
    return write, {path: ours[path].decode(errors="replace") for path in sorted(ours.keys() - wanted.keys())}


def carry_out(root: Path, write: Mapping[str, tuple[str, str]], remove: Iterable[str]) -> None:
    """Write and remove files.

    Each file is whole at any moment, and a kustomization comes after what it names and before what it no longer does
    goes: a run that is killed leaves a tree that kustomize can build.

    Raises:
        OSError: something can't be written.
    """
    for path in sorted(write, key=lambda path: (path.endswith(f"/{KUSTOMIZATION}"), path)):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=TEMPORARY, dir=target.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(write[path][1])
            Path(temporary).chmod(0o644)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink()
            raise
    for path in remove:
        (root / path).unlink()
        for folder in PurePosixPath(path).parents:
            if str(folder) == ".":
                break
            with contextlib.suppress(OSError):  # not empty
                (root / folder).rmdir()
