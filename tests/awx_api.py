"""A stand-in for AWX 24.6.1's REST API: a server with real state, which answers the modules of awx.awx as AWX does.

It runs no job. What it holds is in awx_state.py, what objects have in awx_kinds.py, and what AWX refuses in awx_rules.py. One thing
is stricter than AWX: a field that AWX does not have is refused where AWX ignores it, so that a misspelt one is noticed.
"""

import base64
import copy
import html
import http.server
import json
import re
import threading
import traceback
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

from awx_kinds import KINDS
from awx_rules import PROMPTED, REQUIRED, SECRET, Refused, check_survey
from awx_state import API, REVERSE, State
from serving import Served

VERSION = "24.6.1"
EDGES = ("success_nodes", "failure_nodes", "always_nodes")
LOST = Refused({"detail": "The requested resource could not be found."}, 404)


def unique(credential: dict) -> tuple:
    """What no two credentials of a job have in common: the type, and of vaults the ID."""
    return credential["credential_type"], credential["inputs"].get("vault_id")


class Awx(State, Served):
    """Serves until the context ends.

    Attributes:
        url: of the server. token: an OAuth token of the user admin. password: of the user admin.
        requests: method, path below /api/v2/, query, body and status of each request, without those for tokens.
        log: a line for each request, tokens included; it has no body and no header.
        forbidden: beginnings of paths below /api/v2/ to which the user may not write.
    """

    def __init__(self, password: str = "awx-password", token: str = "awx-token"):
        Served.__init__(self, Answer)
        State.__init__(self)
        self.password, self.token, self.tokens = password, token, {token: 0}
        self.requests, self.log, self.forbidden, self.lock = [], [], set(), threading.Lock()

    def calls(self) -> list[str]:
        """Each request in short: GET hosts/?inventory=&name=, PATCH hosts/N/."""
        lines = []
        for one in self.requests:
            query = "&".join(f"{name}=" for name in one.query)
            lines.append(f"{one.method} {re.sub(r'/[0-9]+/', '/N/', one.path)}{'?' if query else ''}{query}")
        return lines

    def writes(self) -> list[str]:
        """The requests that are no GET, in short."""
        return [line for line in self.calls() if not line.startswith("GET ")]

    def forget(self) -> None:
        """Forget the requests so far."""
        self.requests.clear()
        self.log.clear()


class Answer(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    # Head and body in one packet: a second one would wait for the first one's acknowledgement, 40 ms.
    wbufsize = -1

    def answer(self):
        awx, url = self.server, urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        query, body = parse_qsl(url.query, keep_blank_values=True), None
        with awx.lock:
            try:
                body = json.loads(content) if content else None
                status, answer = self.route(url.path, query, body or {})
            except Refused as refused:
                status, answer = refused.status, refused.body
            except json.JSONDecodeError:
                status, answer = 400, {"detail": "JSON parse error"}
            except Exception:
                status, answer = 500, {"detail": traceback.format_exc()}
                traceback.print_exc()
            awx.log.append(f"{self.command} {self.path} {status}")
            path = url.path.removeprefix(API)
            if not path.startswith("tokens/"):
                seen = {"method": self.command, "path": path, "query": dict(query), "body": body, "status": status}
                awx.requests.append(SimpleNamespace(**seen))
        self.say(status, answer)

    def route(self, path, query, body):
        awx = self.server
        if path == "/api/":
            return 200, {"description": "AWX REST API", "current_version": API, "available_versions": {"v2": API}}
        if not path.startswith(API) or not path.endswith("/"):
            raise LOST
        kind, *rest = path.removeprefix(API).split("/")[:-1] or [""]
        number = int(rest[0]) if rest and rest[0].isdigit() else 0
        if kind in ("", "ping"):
            known = (*KINDS, "unified_job_templates", "tokens", "ping", "me", "config", "settings", "roles")
            return 200, {"version": VERSION} if kind else {name: f"{API}{name}/" for name in known}
        self.authenticate()
        if self.command not in ("GET", "HEAD", "OPTIONS") and any(path.startswith(API + one) for one in awx.forbidden):
            raise Refused({"detail": "You do not have permission to perform this action."}, 403)
        if special := getattr(self, f"at_{kind}", None):
            return special(path, query, body, number, rest[1:])
        if not rest and kind in (*KINDS, "unified_job_templates"):
            return self.collection(kind, path, query, body)
        one = awx.objects.get(kind, {}).get(number)
        if one is None or len(rest) > 2:
            raise LOST
        return self.below(kind, one, rest[1], path, query, body) if rest[1:] else self.detail(kind, one, body)

    def authenticate(self):
        kind, _, value = (self.headers.get("Authorization") or "").partition(" ")
        login = base64.b64encode(f"admin:{self.server.password}".encode()).decode()
        if not ((kind == "Bearer" and value in self.server.tokens) or (kind == "Basic" and value == login)):
            why = "Authentication credentials were not provided. To establish a login session, visit /api/login/."
            raise Refused({"detail": why}, 401)

    def refuse_other_than(self, *methods):
        if self.command not in methods:
            raise Refused({"detail": f'Method "{self.command}" not allowed.'}, 405)

    # What is no object.

    def at_tokens(self, path, query, body, number, rest):
        awx = self.server
        if self.command == "POST":
            number = next(awx.ids)
            awx.tokens[f"session-{number}"] = number
            return 201, {"id": number, "type": "o_auth2_access_token", "token": f"session-{number}", "scope": "write"}
        self.refuse_other_than("DELETE")
        if number not in awx.tokens.values():
            raise LOST
        awx.tokens = {token: one for token, one in awx.tokens.items() if one != number}
        return 204, None

    def at_settings(self, path, query, body, number, rest):
        if self.command == "PATCH":
            if unknown := sorted(set(body) - set(self.server.settings)):
                raise Refused({name: ["AWX has no such setting."] for name in unknown})
            self.server.settings |= body
        return 200, self.server.settings

    def at_me(self, path, query, body, number, rest):
        return 200, self.server.page("users", self.server.all("users", username="admin"), path, query)

    def at_config(self, path, query, body, number, rest):
        return 200, {"version": VERSION}

    def at_project_updates(self, path, query, body, number, rest):
        awx = self.server
        if number not in awx.updates:
            raise LOST
        update = awx.updates[number]
        failed, here = update["status"] == "failed", not update["lag"]
        if rest == ["stdout"]:
            text = f"fatal: [localhost]: FAILED! => {update['stdout']}" if update["stdout"] and here else ""
            if ("format", "json") not in query:
                return 200, text
            said = dict(query)
            if (said.get("content_format"), said.get("content_encoding")) == ("ansi", "base64"):
                text = base64.b64encode(text.encode()).decode()
            else:
                text = f'<div class="nocode ansi_fore ansi_back">{html.escape(text)}</div>'
            return 200, {"range": {"start": 0}, "content": text}
        if rest == ["events"]:
            if update["kind"] == "inventory_updates" and "event" in dict(query):
                raise Refused({"detail": "InventoryUpdateEvent has no field named 'event'"})
            said = {"msg": "non-zero return code", "stderr": update["stdout"], "rc": 1}
            events = [{"event": "playbook_on_start", "event_data": {}}]
            if update["kind"] == "inventory_updates":
                events = [{"event": "verbose", "event_data": {}, "stdout": update["stdout"]}]
            elif failed and update["stdout"]:
                events.append({"event": "runner_on_failed", "event_data": {"res": said}})
            events = [one for one in events if here and dict(query).get("event", one["event"]) == one["event"]]
            return 200, {"count": len(events), "next": None, "previous": None, "results": events}
        awx.poll(update)
        return 200, awx.shown_update(update)

    at_inventory_updates = at_project_updates

    def at_roles(self, path, query, body, number, rest):
        awx = self.server
        if number not in awx.roles or rest not in ([], ["teams"], ["users"]):
            raise LOST
        role, who = awx.roles[number], rest[0] if rest else ""
        if not who:
            return 200, awx.shown_role(role)
        if self.command == "GET":
            return 200, awx.page(who, [awx.objects[who][one] for one in role[who]], path, query)
        self.refuse_other_than("POST")
        member = awx.objects[who].get(body.get("id"))
        if member is None:
            raise Refused({"msg": f"{who} {body.get('id')} does not exist"})
        kind, of = role["of"]
        if who == "teams" and kind == "organizations" and role["role_field"] in ("member_role", "admin_role"):
            raise Refused({"msg": "You cannot assign an Organization participation role as a child role for a Team."})
        if who == "teams" and kind == "credentials" and awx.objects[kind][of]["organization"] != member["organization"]:
            why = "You cannot grant credential access to a team when the Organization field isn't set, or belongs to a different organization"
            raise Refused({"msg": why})
        others = [one for one in role[who] if one != member["id"]]
        role[who] = others if body.get("disassociate") else [*others, member["id"]]
        return 204, None

    # Objects.

    def collection(self, kind, path, query, body):
        awx = self.server
        if self.command == "POST" and kind not in ("unified_job_templates", "workflow_approval_templates", "instances"):
            return 201, awx.shown(kind, awx.save(kind, body))
        if self.command == "OPTIONS" and kind in KINDS:
            fields = {name: {"required": value is REQUIRED} for name, value in KINDS[kind].fields.items()}
            return 200, {"name": kind, "actions": {"GET": fields, "POST": fields}}
        self.refuse_other_than("GET", "HEAD")
        page = awx.page(kind, list(awx.every(kind).values()), path, query)
        for number in awx.every(kind):
            for update in awx.running(kind, number):
                awx.poll(update)
        return 200, page

    def detail(self, kind, one, body):
        awx = self.server
        if self.command == "DELETE":
            awx.remove(kind, one["id"])
            return 202 if kind == "inventories" else 204, None
        if self.command in ("PATCH", "PUT"):
            awx.save(kind, body, one)
        self.refuse_other_than("GET", "PATCH", "PUT")
        for update in awx.running(kind, one["id"]) if self.command == "GET" else ():
            awx.poll(update)
        return 200, awx.shown(kind, one)

    def below(self, kind, one, name, path, query, body):
        awx, number = self.server, one["id"]
        if name in KINDS[kind].links:
            if self.command == "POST":
                return self.associate(kind, one, name, body)
            return 200, awx.page(KINDS[kind].links[name], awx.members(kind, number, name), path, query)
        if (kind, name) in REVERSE:
            other, field = REVERSE[kind, name]
            if self.command == "POST":
                return 201, awx.shown(other, awx.save(other, {**body, field: number}))
            return 200, awx.page(other, awx.all(other, **{field: number}), path, query)
        if name == "object_roles" or (name == "roles" and kind in ("teams", "users")):
            has = {
                "roles": lambda role: number in role[kind],
                "object_roles": lambda role: role["of"] == (kind, number),
            }
            return 200, awx.page("roles", [role for role in awx.roles.values() if has[name](role)], path, query)
        if name not in KINDS[kind].related:
            raise LOST
        return getattr(self, f"below_{name}")(kind, one, body)

    def below_survey_spec(self, kind, one, body):
        surveys = self.server.surveys
        if self.command == "POST":
            surveys[one["id"]] = check_survey(body)
            return 200, ""
        if self.command == "DELETE":
            surveys.pop(one["id"], None)
            return 200, ""
        spec = copy.deepcopy(surveys.get(one["id"], {}))
        for question in spec.get("spec", []):
            if question["type"] == "password" and question.get("default"):
                question["default"] = SECRET
        return 200, spec

    def below_update(self, kind, one, body):
        if kind == "projects" and not one["scm_type"]:
            raise Refused({"detail": 'Method "POST" not allowed.'}, 405)
        project = self.server.objects["projects"].get(one["source_project"]) if kind == "inventory_sources" else None
        if project and project["status"] in ("failed", "error"):
            raise Refused({"__all__": ["Missing a revision to run due to failed project update."]})
        shown = self.server.shown_update(self.server.update(kind, one))
        return 202, {shown["type"]: shown["id"], **shown}

    def below_playbooks(self, kind, one, body):
        return 200, list(one["playbook_files"])

    def below_launch(self, kind, one, body):
        raise Refused({"detail": "This stand-in runs no job."})

    def below_create_approval_template(self, kind, node, body):
        made = self.server.save("workflow_approval_templates", body)
        node["unified_job_template"] = made["id"]
        return 201, self.server.shown("workflow_approval_templates", made)

    # Lists of an object.

    def associate(self, kind, one, name, body):
        awx, key, other = self.server, (kind, one["id"], name), KINDS[kind].links[name]
        number = body["id"] if "id" in body else awx.save(other, body)["id"]
        if number not in awx.objects[other]:
            raise Refused({"error": f"{other} {number} does not exist"})
        members = [present for present in awx.links.get(key, []) if present != number]
        if body.get("disassociate"):
            awx.links[key] = members
            # A label that nothing has any more is gone.
            if other == "labels" and not any(
                number in found for (_, _, list_), found in awx.links.items() if list_ == name
            ):
                del awx.objects["labels"][number]
        else:
            self.check_member(kind, one, name, awx.objects[other][number], members)
            awx.links[key] = [*members, number]
        return 204, None

    def check_member(self, kind, one, name, member, members):
        awx = self.server
        if kind in ("schedules", "workflow_job_template_nodes") and name in PROMPTED:
            if not (awx.unified(one["unified_job_template"]) or {}).get(PROMPTED[name]):
                raise Refused({"msg": f"Related template is not configured to accept {name} on launch."})
        elif kind == "job_templates" and name == "credentials":
            present = [awx.objects["credentials"][one] for one in members]
            if any(unique(one) == unique(member) for one in present):
                raise Refused({"error": "Cannot assign multiple credentials of one type."})
            use = awx.objects["credential_types"][member["credential_type"]]["kind"]
            if use not in ("ssh", "vault", "cloud", "net", "kubernetes"):
                raise Refused({"error": f"Cannot assign a Credential of kind `{use}`."})
        elif (
            name == "galaxy_credentials"
            and member["credential_type"] != awx.one("credential_types", kind="galaxy")["id"]
        ):
            raise Refused({"msg": "Credential must be a galaxy credential."})
        elif name in EDGES:
            self.check_edge(one, member, name)

    def check_edge(self, parent, child, name):
        awx, kind = self.server, "workflow_job_template_nodes"
        if parent["workflow_job_template"] != child["workflow_job_template"]:
            raise Refused({"Error": "Nodes are of different workflows."})
        if any(child["id"] in awx.links.get((kind, parent["id"], edge), []) for edge in EDGES if edge != name):
            raise Refused({"Error": "Relationship not allowed."})
        reached, look = set(), [child["id"]]
        while look:
            reached.add(node := look.pop())
            look += [one for edge in EDGES for one in awx.links.get((kind, node, edge), []) if one not in reached]
        if parent["id"] in reached:
            raise Refused({"Error": "Cycle detected."})

    def say(self, status, answer):
        text = answer if isinstance(answer, str) else "" if answer is None else json.dumps(answer)
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", VERSION)
        self.send_header("Content-Type", "text/plain" if isinstance(answer, str) else "application/json")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text.encode())

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_OPTIONS = answer  # noqa: N815 (the names are http.server's)

    def log_message(self, *_):
        pass
