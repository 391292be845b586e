"""What the stand-in of AWX's REST API (awx_api.py) holds: objects, what belongs to them, updates that end, filters and pages."""

import copy
import itertools
import json
from pathlib import Path
from urllib.parse import urlencode

from awx_kinds import BOOLEAN_INPUTS, FRESH, KINDS, REQUIRED_INPUTS, TYPES, UNIFIED
from awx_rules import NOTIFICATION_SECRETS, REQUIRED, SECRET, Refused, coerced, secret_fields

ROOT = Path(__file__).resolve().parent.parent
API = "/api/v2/"
NOW = "2026-01-01T00:00:00.000000Z"
COMPUTED = ("id", "type", "url", "related", "summary_fields", "created", "modified")
PAGING = ("page", "page_size", "order_by", "order", "format", "count_disabled", "no_truncate", "limit", "search")
LOOKUPS = {
    "exact": lambda value, text: value == text,
    "iexact": lambda value, text: value.lower() == text.lower(),
    "in": lambda value, text: value in text.split(","),
    "startswith": lambda value, text: value.startswith(text),
    "istartswith": lambda value, text: value.lower().startswith(text.lower()),
    "endswith": lambda value, text: value.endswith(text),
    "contains": lambda value, text: text in value,
    "icontains": lambda value, text: text.lower() in value.lower(),
    "gt": lambda value, text: int(value) > int(text),
    "lt": lambda value, text: int(value) < int(text),
}
# Lists below an object that are another kind's field: (parent, list) to (kind, field).
REVERSE = {
    ("workflow_job_templates", "workflow_nodes"): ("workflow_job_template_nodes", "workflow_job_template"),
    **{(kind, "schedules"): ("schedules", "unified_job_template") for kind in UNIFIED},
    **{
        ("inventories", kind): (kind, "inventory") for kind in ("hosts", "groups", "inventory_sources", "job_templates")
    },
    **{
        ("organizations", kind): (kind, "organization")
        for kind in ("projects", "inventories", "teams", "credentials", "job_templates", "workflow_job_templates")
    },
    ("organizations", "notification_templates"): ("notification_templates", "organization"),
}
# What a run of a template is called.
RUN = {
    "job_templates": "job",
    "workflow_job_templates": "workflow_job",
    "projects": "project_update",
    "inventory_sources": "inventory_update",
    "workflow_approval_templates": "workflow_approval",
}
GALAXY = (
    "ERROR! Unknown error when attempting to call Galaxy at 'https://galaxy.example/api/': <urlopen error timed out>"
)
ENDED = ("successful", "failed", "error", "canceled")
REVISION = "0123456789abcdef0123456789abcdef01234567"


class State:
    """An AWX as it is on a new machine, and what is made of it.

    Attributes:
        objects: kind to ID to fields; secrets are there as they were sent.
        links: (kind, ID, list) to IDs. surveys: ID of a template to its survey. roles: ID to a role.
        updates: ID to an update of a project or an inventory source.
        polls: how often an update is asked for before it has ended. lag: and after that, before its output is there.
        sync_error: what a project's update fails with.
        galaxy: whether Galaxy is reachable; an organization with a Galaxy credential needs it for its projects' updates.
        lost: paths that no project has; any other is there.
        imported: variables and hosts that an update of an inventory source brings.
    """

    def __init__(self):
        self.objects = {kind: {} for kind in KINDS}
        self.links, self.surveys, self.roles, self.updates = {}, {}, {}, {}
        self.polls, self.lag, self.sync_error, self.galaxy, self.lost = 1, 0, "", False, set()
        self.imported = {"variables": {}, "hosts": {}}
        self.settings = {"SCHEDULE_MAX_JOBS": 10, "AWX_TASK_ENV": {}, "SESSION_COOKIE_AGE": 1800}
        self.ids = itertools.count(1)
        for kind, fields in FRESH:
            self.add(kind, **fields)
        for name, (kind, plain, secret) in TYPES.items():
            inputs = {
                "fields": [
                    {"id": one, "label": one, "secret": one in secret.split()}
                    | ({"format": "ssh_private_key"} if one == "ssh_key_data" else {})
                    for one in f"{plain} {secret}".split()
                ]
                + [
                    {"id": one, "label": one, "type": "boolean", "default": True}
                    for one in BOOLEAN_INPUTS.get(name, "").split()
                ],
                "required": REQUIRED_INPUTS.get(name, []),
            }
            made = self.add("credential_types", name=name, kind="cloud", inputs=inputs)
            made.update(kind=kind, managed=True)
        self.one("execution_environments", name="Control Plane Execution Environment")["managed"] = True
        default = self.one("organizations", name="Default")["id"]
        kind = self.one("credential_types", kind="galaxy")["id"]
        inputs = {"url": "https://galaxy.example/"}
        galaxy = self.add(
            "credentials", name="Ansible Galaxy", organization=default, credential_type=kind, inputs=inputs
        )
        # AWX's own, of no organization.
        galaxy.update(organization=None, managed=True)
        self.links["organizations", default, "galaxy_credentials"] = [galaxy["id"]]

    # What tests ask and do.

    def all(self, kind: str, /, **match) -> list[dict]:
        """The objects of a kind whose fields are these."""
        return [one for one in self.objects[kind].values() if all(one[name] == value for name, value in match.items())]

    def one(self, kind: str, /, **match) -> dict:
        """The one object of a kind whose fields are these; KeyError when there is none or more."""
        found = self.all(kind, **match)
        if len(found) != 1:
            raise KeyError(f"{len(found)} {kind} with {match}: {self.names(kind)}")
        return found[0]

    def names(self, kind: str) -> list[str]:
        """The sorted names of all objects of a kind."""
        return sorted(called(one) for one in self.objects[kind].values())

    def linked(self, kind: str, number: int, list_: str) -> list[str]:
        """The names of what a list of an object has, in its order."""
        return [called(one) for one in self.members(kind, number, list_)]

    def state(self) -> dict:
        """A copy of all that is there, to be compared with a later one."""
        return copy.deepcopy(
            {name: getattr(self, name) for name in ("objects", "links", "surveys", "roles", "updates")}
        )

    def restore(self, state: dict) -> None:
        """Be again as a copy says."""
        self.__dict__.update(copy.deepcopy(state))

    def add(self, kind: str, /, **fields) -> dict:
        """Make an object; Refused when AWX would not."""
        return self.save(kind, fields)

    # Objects.

    def unified(self, number: int | None) -> dict | None:
        """A template, project or source by its ID."""
        kinds = (*UNIFIED, "workflow_approval_templates")
        return next((self.objects[kind][number] for kind in kinds if number in self.objects[kind]), None)

    def kind_of(self, number: int) -> str:
        """The kind of an object by its ID."""
        return next(kind for kind, known in self.objects.items() if number in known)

    def every(self, kind: str) -> dict:
        """All objects of a kind, or of unified_job_templates: ID to fields."""
        if kind == "unified_job_templates":
            return {number: one for name in UNIFIED for number, one in self.objects[name].items()}
        return self.objects[kind]

    def members(self, kind: str, number: int, list_: str) -> list[dict]:
        """What a list of an object has, in its order."""
        return [self.objects[KINDS[kind].links[list_]][one] for one in self.links.get((kind, number, list_), [])]

    def save(self, name: str, given: dict, old: dict | None = None) -> dict:
        """Make an object, or (old) change one.

        Args:
            name: its kind. given: the fields as they were sent. old: the object.

        Returns:
            the object.

        Raises:
            Refused: what AWX refuses.
        """
        kind = KINDS[name]
        if unknown := sorted(set(given) - {*kind.fields, *kind.read_only, *COMPUTED, *kind.ignored}):
            raise Refused({field: ["AWX 24.6.1 has no such field here."] for field in unknown})
        given = {field: value for field, value in given.items() if field in kind.fields}
        blank = {field: None if value is REQUIRED else value for field, value in kind.fields.items()}
        new = copy.deepcopy(old or {**kind.read_only, **blank})
        for field, value in given.items():
            new[field] = coerced(field, copy.deepcopy(value), kind.fields[field])
        self._check(name, new, given, old)
        before, number = dict(old or {}), old["id"] if old else next(self.ids)
        saved = old or self.objects[name].setdefault(number, {"id": number})
        saved.update(new)
        for role in [] if old else kind.roles.split():
            made = next(self.ids)
            self.roles[made] = {
                "id": made,
                "role_field": f"{role}_role",
                "of": (name, number),
                "teams": [],
                "users": [],
            }
        fetched = ("scm_url", "scm_branch", "scm_type", "scm_refspec")
        if name == "projects" and saved["scm_type"] and any(before.get(field) != saved[field] for field in fetched):
            self.update("projects", saved)
        return saved

    def _check(self, name, new, given, old):
        kind = KINDS[name]
        if missing := [field for field, value in kind.fields.items() if value is REQUIRED and new[field] in (None, "")]:
            raise Refused({field: ["This field is required."] for field in missing})
        for field, allowed in kind.choices.items():
            if field in given and new[field] not in allowed:
                raise Refused({field: [f'"{new[field]}" is not a valid choice.']})
        for field, other in kind.refs.items():
            new[field] = new[field] or None
            if new[field] and new[field] not in self.every(other) and not self.unified(new[field]):
                raise Refused({field: [f'Invalid pk "{new[field]}" - object does not exist.']})
        if kind.check:
            kind.check(self, new, given, old)
        unique = [field for field in kind.unique if field in new]
        for one in self.objects[name].values() if unique else ():
            if (not old or one["id"] != old["id"]) and all(one[field] == new[field] for field in unique):
                raise Refused({"__all__": [f"{kind.type} with this {' and '.join(unique)} already exists."]})

    def update(self, kind: str, of: dict) -> dict:
        """Begin the update of a project or an inventory source."""
        name = "project_updates" if kind == "projects" else "inventory_updates"
        made = {"id": next(self.ids), "kind": name, "of": (kind, of["id"]), "left": self.polls, "status": "pending"}
        self.updates[made["id"]] = made | {"job_explanation": "", "stdout": "", "result_traceback": "", "lag": self.lag}
        of["status"] = "pending"
        return self.updates[made["id"]]

    def poll(self, update: dict) -> None:
        """One look at an update: it is running, or has ended by now."""
        kind, number = update["of"]
        of = self.objects[kind].get(number)
        if update["status"] in ENDED or of is None:
            update["lag"] -= update["lag"] > 0
            return
        if update["left"] > 0:
            update["left"] -= 1
            update["status"] = "running"
            return
        update["status"] = "successful"
        (self._synced if kind == "projects" else self._imported)(update, of)
        of["status"] = update["status"]

    def _synced(self, update, project):
        galaxy = self.links.get(("organizations", project["organization"], "galaxy_credentials"))
        if self.sync_error or (galaxy and not self.galaxy):
            update.update(status="failed", stdout=self.sync_error or GALAXY)
        else:
            # As AWX offers them: all of this project's.
            found = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "playbooks").glob("*.yml"))
            project.update(scm_revision=REVISION, playbook_files=found)

    def _imported(self, update, source):
        project = self.objects["projects"].get(source["source_project"])
        if project and not project["scm_revision"]:
            update.update(status="failed", job_explanation="Missing a revision to run due to failed project update.")
            return
        if source["source_path"] in self.lost:
            update.update(status="failed", stdout=f"Source does not exist: {source['source_path']}")
            return
        inventory = self.objects["inventories"][source["inventory"]]
        before = {} if source["overwrite_vars"] else json.loads(inventory["variables"] or "{}")
        inventory["variables"] = json.dumps({**before, **self.imported["variables"]})
        for host, variables in self.imported["hosts"].items():
            found = self.all("hosts", name=host, inventory=inventory["id"])
            made = found[0] if found else self.add("hosts", name=host, inventory=inventory["id"])
            made["variables"] = json.dumps(variables)

    def remove(self, kind: str, number: int) -> None:
        """Delete an object with what cannot be without it, an inventory later (collect); Refused when AWX does not delete it."""
        one = self.objects[kind][number]
        if kind == "labels":
            raise Refused({"detail": 'Method "DELETE" not allowed.'}, 405)
        if one.get("managed"):
            raise Refused({"detail": f"Deletion not allowed for managed {KINDS[kind].type}s"}, 403)
        if kind == "credential_types" and self.all("credentials", credential_type=number):
            raise Refused({"detail": "Credential types that are in use cannot be deleted"}, 403)
        sources = self.all("inventory_sources", inventory=number) if kind == "inventories" else []
        busy = [(kind, number), *(("inventory_sources", source["id"]) for source in sources)]
        if active := [update for pair in busy for update in self.running(*pair)]:
            jobs = [{"id": update["id"], "type": update["kind"].removesuffix("s")} for update in active]
            raise Refused({"error": "Resource is being used by running jobs.", "active_jobs": jobs}, 409)
        if kind == "inventories":
            if one["pending_deletion"]:
                raise Refused({"error": "Inventory is already pending deletion."})
            one["pending_deletion"] = True
            for template in self.all("job_templates", inventory=number):
                template["inventory"] = None
        else:
            self._delete(kind, number)

    def collect(self) -> None:
        """Remove the inventories that are to be removed."""
        for one in self.all("inventories", pending_deletion=True):
            self._delete("inventories", one["id"])

    def _delete(self, kind, number):
        del self.objects[kind][number]
        self.surveys.pop(number, None)
        self.roles = {key: role for key, role in self.roles.items() if role["of"] != (kind, number)}
        for role in self.roles.values():
            role.update(
                {who: [member for member in role[who] if (who, member) != (kind, number)] for who in ("teams", "users")}
            )
        self.links = {
            key: [member for member in members if (KINDS[key[0]].links[key[2]], member) != (kind, number)]
            for key, members in self.links.items()
            if key[:2] != (kind, number)
        }
        for name, other in KINDS.items():
            for field in other.refs:
                self._forget(name, field, number)

    def _forget(self, kind, field, number):
        for user in self.all(kind, **{field: number}):
            if KINDS[kind].fields[field] is not REQUIRED and field != "source_project":
                user[field] = None
            elif user["id"] in self.objects[kind]:
                self.remove(kind, user["id"])

    def running(self, kind: str, number: int) -> list[dict]:
        """The updates of an object that have not ended."""
        return [one for one in self.updates.values() if one["of"] == (kind, number) and one["status"] not in ENDED]

    # What an answer shows.

    def shown(self, kind: str, one: dict) -> dict:
        """An object as an answer has it: with what is related to it, without secrets."""
        number, what = one["id"], KINDS[kind]
        url = f"{API}{kind}/{number}/"
        shown = {"id": number, "type": what.type, "url": url, "created": NOW, "modified": NOW, **copy.deepcopy(one)}
        below = (*what.links, *what.related, *(list_ for parent, list_ in REVERSE if parent == kind), "object_roles")
        related, summary = (
            {name: f"{url}{name}/" for name in below},
            {"user_capabilities": {"edit": True, "delete": True}},
        )
        for field, other in what.refs.items():
            if one[field]:
                home = other if one[field] in self.objects.get(other, {}) else self.kind_of(one[field])
                named = self.objects[home][one[field]]
                related[field] = f"{API}{home}/{one[field]}/"
                summary[field] = {"id": named["id"], "name": called(named), "description": named.get("description", "")}
                summary[field] |= {"unified_job_type": RUN[home]} if other == "unified_job_templates" else {}
        if what.roles:
            mine = [role for role in self.roles.values() if role["of"] == (kind, number)]
            summary["object_roles"] = {
                role["role_field"]: {"id": role["id"], "name": role["role_field"]} for role in mine
            }
        for list_ in what.links:
            members = [{"id": member["id"], "name": called(member)} for member in self.members(kind, number, list_)]
            if list_.endswith("_nodes"):
                shown[list_] = [member["id"] for member in members]
            elif list_ in ("labels", "credentials"):
                summary[list_] = members if list_ == "credentials" else {"count": len(members), "results": members[:10]}
        for update in self.running(kind, number):
            related["current_update"] = f"{API}{update['kind']}/{update['id']}/"
            summary["current_update"] = {"id": update["id"], "status": update["status"], "failed": False}
        for update in self.updates.values():
            if update["of"] == (kind, number) and update["status"] in ENDED:
                related["last_update"] = f"{API}{update['kind']}/{update['id']}/"
        self._hide(kind, one, shown)
        return {**shown, "related": related, "summary_fields": summary}

    def _hide(self, kind, one, shown):
        shown.pop("playbook_files", None)
        # Of the answers those to questions for a password.
        for question in self.surveys.get(one.get("unified_job_template"), {}).get("spec", []):
            if question["type"] == "password" and question["variable"] in shown["extra_data"]:
                shown["extra_data"][question["variable"]] = SECRET
        if kind == "credentials":
            hidden, within = secret_fields(self, one), shown["inputs"]
            del shown["user"], shown["team"]
        elif kind == "notification_templates":
            hidden, within = NOTIFICATION_SECRETS, shown["notification_configuration"]
        else:
            hidden, within = {"password"} if kind == "users" else set(), shown
        for name in hidden & set(within):
            within[name] = within[name] and SECRET

    def shown_update(self, update: dict) -> dict:
        """An update as an answer has it."""
        kind, number = update["of"]
        of, ended = self.objects[kind].get(number, {}), update["status"] in ENDED
        url = f"{API}{update['kind']}/{update['id']}/"
        return {
            "id": update["id"],
            "type": update["kind"].removesuffix("s"),
            "url": url,
            "status": update["status"],
            "failed": update["status"] == "failed",
            "started": NOW,
            "finished": NOW if ended else None,
            "elapsed": 1.5,
            "event_processing_finished": ended and not update["lag"],
            "job_explanation": update["job_explanation"],
            "name": of.get("name"),
            "scm_revision": of.get("scm_revision", ""),
            "result_traceback": update["result_traceback"],
            KINDS[kind].type: number,
            "related": {"stdout": f"{url}stdout/", "events": f"{url}events/"},
        }

    def shown_role(self, role: dict) -> dict:
        """A role as an answer has it."""
        kind, number = role["of"]
        url, name = f"{API}roles/{role['id']}/", role["role_field"].removesuffix("_role").replace("_", " ").title()
        of = {
            "resource_name": called(self.objects[kind][number]),
            "resource_type": KINDS[kind].type,
            "resource_id": number,
        }
        related = {"teams": f"{url}teams/", "users": f"{url}users/"}
        return {"id": role["id"], "type": "role", "url": url, "name": name, "related": related, "summary_fields": of}

    # Filters and pages.

    def matches(self, kind: str, one: dict, key: str, text: str) -> bool:
        """Whether an object passes a filter; Refused where AWX knows no such field."""
        path = key.split("__")
        negate = path[0] == "not"
        path = path[1:] if path[0] in ("or", "not") else path
        lookup = path.pop() if len(path) > 1 and path[-1] in (*LOOKUPS, "isnull") else "exact"
        values = [value for value in self._values(kind, one, path) if value is not None]
        if lookup == "isnull":
            passes = (not values) == (text.lower() in ("1", "true"))
        elif lookup == "exact" and text.lower() in ("none", "null"):
            passes = not values
        else:
            passes = any(
                LOOKUPS[lookup](str(value).lower() if isinstance(value, bool) else str(value), text) for value in values
            )
        return passes != negate

    def _values(self, kind, one, path):
        name, rest = path[0], path[1:]
        what = KINDS[self.kind_of(one["id"]) if kind == "unified_job_templates" else kind]
        if name in what.links:
            for member in self.members(kind, one["id"], name):
                yield from self._values(what.links[name], member, rest or ["id"])
        elif name not in ("id", "type", *what.fields, *what.read_only) or (rest and name not in what.refs):
            raise Refused({"detail": f"{what.type} has no field named '{'__'.join(path)}'"})
        elif not rest:
            yield what.type if name == "type" else one[name]
        elif one[name] is not None or not one["id"]:
            other = what.refs[name]
            yield from self._values(other, self.every(other).get(one[name]) or self.blank(other), rest)

    def blank(self, kind: str) -> dict:
        """An object of a kind that is none, which a filter is tried on: an empty list refuses a misspelt one, too."""
        what = KINDS["projects" if kind == "unified_job_templates" else kind]
        return dict.fromkeys((*what.fields, *what.read_only)) | {"id": 0}

    def page(self, kind: str, members: list[dict], path: str, query: list) -> dict:
        """A page of a list.

        Args:
            kind: the members'. members: all, in the list's order. path: of the list. query: pairs of name and value.
        """
        options, filters = dict(query), [(key, text) for key, text in query if key not in PAGING]
        either, every = ([pair for pair in filters if pair[0].startswith("or__") == is_or] for is_or in (True, False))
        if kind in KINDS:
            for pair in filters:
                self.matches(kind, self.blank(kind), *pair)
        words = options.get("search", "").lower()
        found = [
            one
            for one in members
            if all(self.matches(kind, one, *pair) for pair in every)
            and (not either or any(self.matches(kind, one, *pair) for pair in either))
            and words in f"{called(one)} {one.get('description')}".lower()
        ]
        for order in reversed(options["order_by"].split(",")) if "order_by" in options else ():
            field, backwards = order.lstrip("-"), order.startswith("-")
            found = [
                one
                for _, one in sorted(((one[field], one) for one in found), key=lambda pair: pair[0], reverse=backwards)
            ]
        size, number = min(int(options.get("page_size", 25)), 200), int(options.get("page", 1))
        if "order_by" not in options and (kind == "roles" or path == f"{API}{kind}/"):
            # AWX sorts by name, roles by nothing. What is equal comes in any order: here in another one on every other page.
            found = sorted(found[:: 1 if number % 2 else -1], key=lambda one: called(one) or "")
        if number > 1 and (number - 1) * size >= len(found):
            raise Refused({"detail": "Invalid page."}, 404)
        rest = [pair for pair in query if pair[0] != "page"]
        following = f"{path}?{urlencode([*rest, ('page', number + 1)])}" if number * size < len(found) else None
        before = f"{path}?{urlencode([*rest, ('page', number - 1)])}" if number > 1 else None
        shown = found[(number - 1) * size : number * size]
        results = [
            self.shown_role(one) if kind == "roles" else self.shown(self.kind_of(one["id"]), one) for one in shown
        ]
        return {"count": len(found), "next": following, "previous": before, "results": results}


def called(one: dict) -> str | None:
    """What an object is called."""
    return next((one[field] for field in ("name", "identifier", "username", "hostname") if field in one), None)
