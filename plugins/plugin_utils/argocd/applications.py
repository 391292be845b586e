"""Works out which Argo CD Applications a cluster has, what is in them, and whose each part of the platform is; never asks Argo CD.

A *part* is what one Application owns: a server by the name of its Deployment, what the workflows share, or a further
Application. Whatever Application delivers it, one cluster has a part once.
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.ownership import (
    CLUSTER,
    COMPONENT,
    MANAGED_BY,
    PROJECT,
    own,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.cluster.parking import MANAGER
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.names import DNS_LABEL, DNS_SUBDOMAIN
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.problems import Problems, masked, nearest, where
from ansible_collections.modelyard.core.plugins.plugin_utils.inputs.variables import merge
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.extra import kinds_of
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.kinds import Server
from ansible_collections.modelyard.core.plugins.plugin_utils.servers.scaling import is_autoscaled

# Argo CD removes what an Application deployed before an Application with this finalizer goes.
FINALIZER = "resources-finalizer.argocd.argoproj.io"
SYNC_WAVE = "argocd.argoproj.io/sync-wave"
PART = "modelyard/part"
# A URL with a credential: over HTTP a user alone may be a token; SSH needs its user.
_CREDENTIALS = re.compile(r"https?://[^/?#]*@|\w+://[^/?#@]*:[^/?#@]*@")
DURATION = re.compile(r"(\d+(\.\d+)?(ms|s|m|h))+", re.ASCII)
REPLICAS = {"group": "apps", "kind": "Deployment"}
IGNORED = ("jsonPointers", "jqPathExpressions", "managedFieldsManagers")

SHARED = "shared"
SHARED_NAME = "ml-models-shared"
# What the inventory brings beside the servers.
EXTRA = "extra"
EXTRA_NAME = "ml-models-extra"


def applications(this: Mapping, others: Mapping[str, Mapping], settings: Mapping) -> dict:
    """Find the Applications of a cluster and their settings.

    Args:
        this: the cluster, from :func:`cluster`.
        others: for the generator ``list``, each host of ``settings["hosts"]`` that the inventory has, by name, in the same form.
        settings: the role's variables without their prefix, and ``host``, the inventory's name of this one.

    Returns:
        ``applications``: for each a dictionary for its template, sorted by name; ``off``: those of servers that are off;
        ``project``: the AppProject's, or none; ``parts``: what stays wanted on this cluster, and on those of the list;
        ``problems``: what is wrong, worded for the operator. With problems there are no applications and no project.
    """
    problems = Problems()
    settings = {**settings, "cluster": this["cluster"]}
    _check_roles(this, settings, problems)
    clusters = _listed_clusters(settings, others, problems) if settings["generator"] == "list" else [this]
    found: dict[str, list[dict]] = {}
    for cluster_ in clusters:
        for part in cluster_["parts"]:
            if not part["selected"]:
                continue
            siblings = found.setdefault(_key(part, settings), [])
            if any(sibling["cluster"] == part["cluster"] for sibling in siblings):
                problems.add("argocd_apps", _key(part, settings), "two Applications have this name")
            siblings.append(part)
    overrides = settings["overrides"]
    apps = {key: _effective(key, parts, settings, overrides.get(key) or {}) for key, parts in found.items()}
    apps |= _further(settings["extra"], apps, settings, problems)
    _check_overrides([part["key"] for cluster_ in clusters for part in cluster_["parts"]], overrides, apps, problems)
    held = {(cluster_["cluster"], folder): parts for cluster_ in clusters for folder, parts in cluster_["held"].items()}
    _check_owners(apps, held, this["cluster"], problems)
    _check_settings(apps, settings, problems)
    _check_project(settings, problems)
    right = [] if problems.lines else [apps[key] for key in sorted(apps)]
    off = [part for part in this["parts"] if not part["selected"]] if right and settings["generator"] == "none" else []
    wanted = {part["part"] for cluster_ in clusters for part in cluster_["parts"] if part["wanted"]}
    return {
        "applications": right,
        "off": [_effective(part["key"], [part], settings, overrides.get(part["key"]) or {}) for part in off],
        "project": _project(settings, right, clusters) if right and settings["project_create"] else None,
        "parts": sorted({part for app in apps.values() for part in app["parts"]} | wanted),
        "problems": problems.lines,
    }


# --- What is on ------------------------------------------------------------------------------------


def cluster(
    name: str, found: Iterable[Server], shared: bool, settings: Mapping, extra: Iterable[tuple[str, str]] = ()
) -> dict:
    """Name the parts of one cluster, each with its folder below the one that holds all.

    Args:
        name: the cluster's name.
        found: its servers, on or off.
        shared: whether it has what the workflows share.
        settings: its variables of the role, without their prefix: ``profiles``, ``shared``, ``path``.
        extra: group and kind of the objects that belong to none of these.

    Returns:
        ``cluster``, ``settings``, and ``parts``: for each whether it is ``wanted`` and whether it is ``selected`` for an
        Application, the Application's name (``key``, ``set_key``), its ``wave``, ``folder`` and ``path``, and whose its replicas are.
        ``held``: by folder of the tree the servers, by their names, whose objects are in it.
    """
    selection = settings["profiles"] or {}
    parts = []
    held: dict[str, set[str]] = {SHARED: {SHARED}}
    bundles: dict[str, list[str]] = {}
    for server in found:
        kind, role = server.kind, server.kind.role
        if not server.profile:
            held.setdefault(kind.base, set()).add(str(server.name("name")))
            continue
        folder, key = kind.place(server.profile)
        held.setdefault(folder, set()).add(str(server.name("name")))
        if kind.bundle:
            bundles |= [kind.bundle(server.profile)]
        parts.append(
            {
                "key": key,
                "profile": server.profile,
                "set_key": kind.set_name or key,
                "role": role,
                "wave": kind.wave,
                "folder": folder,
                "workload": str(server.name("name")),
                # Of a schedule that makes it zero the API server does not note who did.
                "autoscaled": is_autoscaled(server.settings) or bool(server.settings.get("schedule")),
                "parked": server.is_set("parked"),
                "kinds": kinds_of(server.settings),
                "wanted": server.enabled,
                "selected": server.profile in selection[role] if role in selection else server.enabled,
            }
        )
    common = {
        "key": SHARED_NAME,
        "set_key": SHARED_NAME,
        "role": SHARED,
        "wave": 0,
        "folder": SHARED,
        "workload": SHARED,
    }
    parts.append({**common, "kinds": [], "wanted": shared, "selected": settings["shared"]})
    if extra:
        names = {"key": EXTRA_NAME, "set_key": EXTRA_NAME, "role": EXTRA, "folder": EXTRA, "workload": EXTRA}
        parts.append({**names, "kinds": list(extra), "wave": 0, "wanted": True, "selected": True})
        held[EXTRA] = {EXTRA}
    root = str(settings["path"]).strip("/")
    for part in parts:
        part["cluster"] = name
        part["path"] = f"{root}/{part['folder']}" if root else part["folder"]
        part["part"] = f"{name}/{part['workload']}"
        part["settings"] = settings
    held |= {
        folder: set().union(*(held.get(member, set()) for member in members)) for folder, members in bundles.items()
    }
    return {"cluster": name, "settings": settings, "parts": parts, "held": held}


def _listed_clusters(settings: Mapping, others: Mapping[str, Mapping], problems: Problems) -> list[Mapping]:
    """Give the clusters that the inventory names for Argo CD."""
    for name in settings["hosts"]:
        if name not in others:
            problems.add("argocd_apps_hosts", name, "is no host of the inventory", where(name))
    if not settings["hosts"]:
        problems.add("argocd_apps_hosts", [], "must name the inventory's hosts that Argo CD delivers to")
    for name, other in others.items():
        # Argo CD's own cluster is the one that it knows without being told.
        if name != settings["host"] and not other["settings"]["destination_given"]:
            allowed = "must set argocd_apps_destination_server or argocd_apps_destination_name: how Argo CD knows this cluster"
            problems.add(f"host {name} of argocd_apps_hosts", "(nothing)", allowed)
    return list(others.values())


def _check_roles(this: Mapping, settings: Mapping, problems: Problems) -> None:
    roles = {part["role"] for part in this["parts"]}
    for variable in ("profiles", "sync_waves"):
        for role in settings[variable] or {}:
            if role not in roles:
                problems.add(f"argocd_apps_{variable}.{role}", role, nearest(role, roles))
    for role, names in (settings["profiles"] or {}).items():
        known = {part["profile"] for part in this["parts"] if part["role"] == role and part.get("profile")}
        for index, name in enumerate(names if role in roles else []):
            if name not in known:
                problems.add(f"argocd_apps_profiles.{role}[{index}]", name, nearest(name, known))


def _key(part: Mapping, settings: Mapping) -> str:
    """Give the name under which a part's settings are overridden, and its set is called."""
    return part["key"] if settings["generator"] == "none" else part["set_key"]


# --- What is in one --------------------------------------------------------------------------------


def _effective(key: str, parts: list[dict], settings: Mapping, over: Mapping) -> dict:
    """Layer the settings of one part's Application, or set of them, and give them the shape of its manifest."""
    first = parts[0]
    mine = {"path": first["path"], "sync_wave": settings["sync_waves"].get(first["role"], first["wave"])}
    # One cluster's own folder and destination are in its element of the list; what is overridden is for all of them.
    app = merge({"name": key, **settings, **mine}, _said(over))
    ignored = list(app.get("ignore_differences") or [])
    if any(part.get("autoscaled") for part in parts):
        ignored.append({**REPLICAS, "jsonPointers": ["/spec/replicas"]})
    elif any("autoscaled" in part for part in parts):
        # By who wrote it, not by field: parking by Git must still reach the cluster.
        parked = app["parked_managers"] if any(part["parked"] for part in parts) else []
        ignored.append({**REPLICAS, "managedFieldsManagers": list(dict.fromkeys([MANAGER, *parked]))})
    manifest = _manifest(app, ignored)
    if settings["generator"] == "none":
        return {**manifest, "generator": None, "parts": [first["part"]], "annotations": _noted(app, first["part"])}
    if settings["generator"] == "list":
        return {**manifest, **_listed(app, parts, over)}
    return {**manifest, **_discovered(app, parts)}


def _further(extra: Mapping, apps: Mapping, settings: Mapping, problems: Problems) -> dict[str, dict]:
    """Give the inventory's further Applications: always single ones, on the cluster that they name."""
    found = {}
    for name, said in extra.items():
        path = f"argocd_apps_extra.{name}"
        if name in apps:
            problems.add(path, dict(said), "is there already: use argocd_apps_overrides", where(said))
        if not said.get("path"):
            problems.add(path, dict(said), "needs path, its folder in the repository", where(said))
            continue
        app = merge({"name": name, **settings}, _said(said))
        part = f"{settings['cluster']}/extra/{name}"
        found[name] = {
            **_manifest(app, list(app.get("ignore_differences") or [])),
            "generator": None,
            "parts": [part],
            "annotations": _noted(app, part),
        }
    return found


def _said(own: Mapping) -> dict:
    """Leave out what is null: there the role's variable counts. Without ``retry`` nothing is tried again."""
    return {key: value for key, value in own.items() if value is not None or key == "retry"}


def _noted(app: Mapping, part: str) -> dict:
    annotations = {**(app.get("annotations") or {}), PART: part}
    if app.get("sync_wave") is not None:
        annotations[SYNC_WAVE] = str(app["sync_wave"])
    return annotations


def _destination(app: Mapping) -> dict:
    to = {"name": app["destination_name"]} if app.get("destination_name") else {"server": app["destination_server"]}
    return {"namespace": app["destination_namespace"], **to}


def _manifest(app: Mapping, ignored: list) -> dict:
    options = [str(option) for option in app["sync_options"]]
    if app.get("create_namespace"):
        options.append("CreateNamespace=true")
    policy: dict = {}
    if app["automated"]:
        policy["automated"] = {"prune": bool(app["prune"]), "selfHeal": bool(app["self_heal"])}
    if options:
        policy["syncOptions"] = options
    if app.get("retry"):
        policy["retry"] = app["retry"]
    return {
        "name": str(app["name"]),
        "path": app["path"],
        "repo_url": app["repo_url"],
        "target_revision": app["target_revision"],
        "project": app["project"],
        "destination": _destination(app),
        "policy": policy,
        "labels": dict(app.get("labels") or {}),
        "finalizers": [FINALIZER] if app["finalizer"] else [],
        "ignore_differences": ignored,
    }


def _listed(app: Mapping, parts: list[dict], over: Mapping) -> dict:
    """Make a set with an element for each cluster that the inventory names."""
    elements = []
    generated = {"name": app["name"], "labels": app.get("labels")}
    for part in parts:
        at = merge(part["settings"], {key: value for key, value in over.items() if key.startswith("destination_")})
        elements.append(
            {
                "cluster": part["cluster"],
                "application": f"{part['cluster']}-{app['name']}",
                "part": part["part"],
                "path": over.get("path", part["path"]),
                # Argo CD takes one of the two; an empty one is left out of the Application.
                "server": "" if at.get("destination_name") else at["destination_server"],
                "destination": at.get("destination_name") or "",
                "namespace": at["destination_namespace"],
            }
        )
    # An element that goes leaves its Application: apply removes it, and knows whether what it deployed stays wanted.
    return {
        "generator": {"list": {"elements": elements}},
        "sync": {"applicationsSync": "create-update", "preserveResourcesOnDeletion": not app["finalizer"]},
        "parts": [part["part"] for part in parts],
        "application": "{{ .application }}",
        "path": "{{ .path }}",
        "destination": {
            "namespace": "{{ .namespace }}",
            "server": "{{ .server }}",
            "name": "{{ .destination }}",
        },
        # Ours by their labels, so that apply finds those that no element makes any more.
        "labels": own([{"kind": "Application", "metadata": generated}], "argocd-apps", app["cluster"], "")[0][
            "metadata"
        ]["labels"],
        "annotations": _noted(app, "{{ .part }}"),
    }


def _discovered(app: Mapping, parts: list[dict]) -> dict:
    """Make a set with an Application for each cluster that Argo CD has a Secret for."""
    selector = {"selector": {"matchLabels": dict(app["cluster_selector"])}} if app["cluster_selector"] else {}
    return {
        "generator": {"clusters": selector},
        "sync": {"preserveResourcesOnDeletion": not app["finalizer"]},
        "parts": [],
        "application": "{{ .nameNormalized }}-" + str(app["name"]),
        "destination": {"namespace": app["destination_namespace"], "server": "{{ .server }}"},
        "annotations": _noted(app, "{{ .name }}/" + parts[0]["workload"]),
    }


def _project(settings: Mapping, apps: list[dict], clusters: Iterable[Mapping]) -> dict:
    """Allow exactly what these Applications need, of the inventory's own kinds too."""
    mine = [app for app in apps if app["project"] == settings["project"]]
    places = []
    for app in mine:
        elements = ((app["generator"] or {}).get("list") or {}).get("elements")
        if elements is not None:
            places += [
                {"namespace": item["namespace"]}
                | ({"name": item["destination"]} if item["destination"] else {"server": item["server"]})
                for item in elements
            ]
        elif app["generator"]:
            places.append({"namespace": app["destination"]["namespace"], "server": "*"})
        else:
            places.append(app["destination"])
    known = [{"group": kind["group"], "kind": kind["kind"]} for kind in settings["project_kinds"]]
    parts = [part for cluster_ in clusters for part in cluster_["parts"] if part["selected"]]
    more = [{"group": group, "kind": kind} for part in parts for group, kind in part["kinds"]]
    creates = any("CreateNamespace=true" in app["policy"].get("syncOptions", []) for app in mine)
    return {
        "name": settings["project"],
        "repositories": sorted({app["repo_url"] for app in mine} or {settings["repo_url"]}),
        "destinations": _unique(places) or [_destination(settings)],
        "cluster_kinds": [{"group": "", "kind": "Namespace"}] if creates else [],
        "kinds": [*known, *(kind for kind in _unique(more) if kind not in known)],
    }


def _unique(items: list[dict]) -> list[dict]:
    return [dict(found) for found in sorted({tuple(sorted(item.items())) for item in items})]


# --- What is wrong ---------------------------------------------------------------------------------


def _check_overrides(known: list[str], overrides: Mapping, found: Mapping, problems: Problems) -> None:
    """Refuse settings for a name that can never be on. One that is merely off keeps its settings."""
    names = {*found, *known}
    for name in overrides:
        if name not in names:
            problems.add(f"argocd_apps_overrides.{name}", name, nearest(name, names))


def _targets(app: Mapping, cluster_: str) -> list[dict]:
    """Give each cluster and folder that an Application, or a set of them, delivers to."""
    elements = ((app["generator"] or {}).get("list") or {}).get("elements")
    if elements is None:
        return [{"cluster": cluster_, "path": app["path"], "destination": app["destination"], "name": app["name"]}]
    return [
        {
            "cluster": item["cluster"],
            "path": item["path"],
            "destination": {
                "namespace": item["namespace"],
                "server": item["server"],
                "name": item["destination"],
            },
            "name": item["application"],
        }
        for item in elements
    ]


def _owned(target: Mapping, held: Mapping[tuple[str, str], set[str]]) -> tuple[str, set[str]]:
    """Tell what a folder holds by the tree's layout: the folder above, and whose objects are in it."""
    path = posixpath.normpath(target["path"])
    for (cluster_, folder), parts in held.items():
        if cluster_ == target["cluster"] and f"/{path}".endswith(f"/{folder}"):
            return path.removesuffix(folder).rstrip("/"), parts
    return path, {""}


def _check_owners(
    found: Mapping[str, dict], held: Mapping[tuple[str, str], set[str]], cluster_: str, problems: Problems
) -> None:
    """Refuse names that Argo CD cannot take, and two Applications with one name or one object."""
    names: dict[str, str] = {}
    owners: dict[tuple, tuple] = {}
    for key, app in found.items():
        for target in _targets(app, cluster_):
            if not DNS_LABEL.fullmatch(target["name"]):
                problems.add(
                    f"Application {key}", target["name"], "its name must be up to 63 lower-case letters, digits and -"
                )
            other = names.setdefault(target["name"], key)
            if other != key:
                problems.add(f"Application {key}", target["name"], f"is the name of Application {other} too")
            root, parts = _owned(target, held)
            place = tuple(sorted((name, value) for name, value in target["destination"].items() if value))
            others = {owners.setdefault((root, part, place), (target["name"], target["path"])) for part in parts}
            for name, folder in sorted(others - {(target["name"], target["path"])}):
                shared = "is the path" if folder == target["path"] else "holds objects"
                allowed = f"{shared} of Application {name} too, but an object has one owner"
                problems.add(f"Application {target['name']}", target["path"], allowed)


def _check_settings(apps: Mapping[str, dict], settings: Mapping, problems: Problems) -> None:
    """Refuse what Argo CD would refuse, or silently leave out."""
    for key, app in apps.items():

        def path(name: str, key: str = key) -> str:
            """Name the variable that a setting of this Application comes from."""
            for variable in ("extra", "overrides"):
                if (settings[variable].get(key) or {}).get(name) is not None:
                    return f"argocd_apps_{variable}.{key}.{name}"
            return f"argocd_apps_{name}"

        for item in app["ignore_differences"]:
            if not any(item.get(name) for name in IGNORED):
                allowed = f"needs one of {', '.join(IGNORED)}, or it ignores nothing"
                problems.add(path("ignore_differences"), dict(item), allowed, where(item))
        _check_policy(path, app["policy"], problems)
        folder = str(app["path"])
        if folder.startswith("/") or ".." in folder.split("/"):
            problems.add(path("path"), folder, "must be a folder inside the repository, without / before it and ..")
        if not any(app["destination"].get(name) for name in ("server", "name")):
            problems.add(path("destination_server"), "", "must be set, or the cluster's name in Argo CD")
        if not app["repo_url"] or _CREDENTIALS.match(str(app["repo_url"])):
            allowed = "must be the URL of the Git repository; its credentials go into argocd_apps_repository"
            problems.add(path("repo_url"), app["repo_url"], allowed)


def _check_policy(path: Callable[[str], str], policy: Mapping, problems: Problems) -> None:
    options = policy.get("syncOptions", [])
    for option in options:
        if not re.fullmatch(r"[A-Za-z]+=\S+", option):
            problems.add(path("sync_options"), option, "must be NAME=VALUE, such as ServerSideApply=true")
    if sum(option.startswith("CreateNamespace=") for option in options) > 1:
        problems.add(path("sync_options"), options, "leave CreateNamespace out: create_namespace sets it")
    if {"Replace=true", "ServerSideApply=true"} <= set(options):
        problems.add(path("sync_options"), "Replace=true", "would win over ServerSideApply=true: leave one out")
    backoff = (policy.get("retry") or {}).get("backoff") or {}
    for name in ("duration", "maxDuration"):
        if backoff.get(name) is not None and not DURATION.fullmatch(str(backoff[name])):
            allowed = "must be a time such as 5s, 3m or 1h"
            problems.add(f"{path('retry')}.backoff.{name}", backoff[name], allowed, where(backoff[name]))


def _check_project(settings: Mapping, problems: Problems) -> None:
    if not settings["project_create"]:
        return
    name = settings["project"]
    if name == "default":
        allowed = (
            "belongs to Argo CD and is shared with others: give the project of your own another name, "
            "or set argocd_apps_project_create to false"
        )
        problems.add("argocd_apps_project", name, allowed)
    elif not DNS_LABEL.fullmatch(str(name)):
        problems.add("argocd_apps_project", name, "must be up to 63 lower-case letters, digits and -")


def credentials(repository: Mapping, url: str, name: str) -> dict:
    """Make the data of Argo CD's repository Secret.

    Args:
        repository: ``username`` and ``password``, or ``ssh_private_key``; from a vault.
        url: the repository's.
        name: the Secret's.

    Returns:
        ``data`` (texts by key; empty when there are no credentials) and ``problems``, which never show a value.
    """
    problems = Problems()
    given = {key: value for key, value in repository.items() if value}
    if not given:
        return {"data": {}, "problems": []}
    path, hidden = "argocd_apps_repository", "(hidden)"
    if not DNS_SUBDOMAIN.fullmatch(str(name)):
        problems.add(f"{path}_name", name, "must be a name of lower-case letters, digits, - and .")
    if "ssh_private_key" in given:
        if {"username", "password"} & given.keys():
            problems.add(path, hidden, "must have username and password, or ssh_private_key, not both")
        if url.startswith(("http://", "https://")):
            problems.add(path, hidden, f"has an SSH key, but argocd_apps_repo_url ({masked(url)}) is reached by HTTP")
        if "-----BEGIN" not in str(given["ssh_private_key"]):
            problems.add(
                f"{path}.ssh_private_key", hidden, "must be a private key in PEM, with its BEGIN and END lines"
            )
    elif given.keys() != {"username", "password"}:
        problems.add(path, hidden, "must have both username and password, or ssh_private_key")
    elif not url.startswith(("http://", "https://")):
        problems.add(path, hidden, f"has a password, but argocd_apps_repo_url ({masked(url)}) is not reached by HTTP")
    keys = {"username": "username", "password": "password", "ssh_private_key": "sshPrivateKey"}
    data = {"type": "git", "url": url} | {keys[key]: str(value) for key, value in given.items()}
    return {"data": {} if problems.lines else data, "problems": problems.lines}


def secret(item: Mapping, data: Mapping[str, str], namespace: str, cluster_name: str) -> dict:
    """Make a Secret of ours.

    Args:
        item: ``name``, ``component`` and ``labels``, an entry of a rendering's ``secrets``.
        data: texts by key.
        namespace: where it goes.
        cluster_name: the cluster that it is for.
    """
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": item["name"],
            "namespace": namespace,
            "labels": {**item["labels"], MANAGED_BY: PROJECT, COMPONENT: item["component"], CLUSTER: cluster_name},
        },
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in sorted(data.items())},
    }
