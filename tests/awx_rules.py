"""What AWX 24.6.1 refuses, for the stand-in of its REST API (awx_api.py): one check for each kind of objects.

A check is called with the stand-in, the object as it would be, what was sent, and the object as it was (None: a new one).
"""

import datetime
import re
import zoneinfo

import yaml
from dateutil import rrule
from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jsonschema import Draft4Validator

REQUIRED = object()
GIT = ("ssh", "git", "git+ssh", "http", "https", "ftp", "ftps", "file")
SECRET = "$encrypted$"
# Prompts that a node of a workflow or a schedule answers: field to what allows it.
PROMPTS = {
    name: f"ask_{name}_on_launch"
    for name in (
        *(
            "inventory",
            "scm_branch",
            "job_type",
            "skip_tags",
            "limit",
            "diff_mode",
            "verbosity",
            "execution_environment",
        ),
        *("forks", "job_slice_count", "timeout"),
    )
} | {"job_tags": "ask_tags_on_launch"}
PROMPTED = {
    "credentials": "ask_credential_on_launch",
    "labels": "ask_labels_on_launch",
    "instance_groups": "ask_instance_groups_on_launch",
}
SURVEY_TYPES = {
    **dict.fromkeys(("text", "textarea", "password", "multiplechoice", "multiselect"), str),
    "integer": int,
    "float": float,
}
QUESTION = ("type", "question_name", "variable", "required")
QUESTION_MAY = ("question_description", "default", "choices", "min", "max", "new_question")
# Of each kind of notification: the fields and their types, or defaults, which AWX fills in.
NOTIFICATIONS = {
    "awssns": dict.fromkeys(
        ("aws_region", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "sns_topic_arn"), ""
    ),
    "webhook": {
        "url": str,
        "http_method": "POST",
        "disable_ssl_verification": False,
        "username": "",
        "password": "",
        "headers": {},
    },
    "slack": {"token": str, "channels": list},
    "email": {
        "host": str,
        "port": int,
        "username": str,
        "password": str,
        "sender": str,
        "recipients": list,
        "use_tls": bool,
        "use_ssl": bool,
        "timeout": 30,
    },
}
# What AWX uses where it is there.
NOTIFICATION_MAY = {"slack": {"hex_color"}}
NOTIFICATION_SECRETS = {"password", "token", "aws_secret_access_key", "aws_session_token"}
EVENTS = ("started", "success", "error")
# What a notification's text can name, as it is when the text is checked: no artifacts, and times that are no text.
JOB = {
    **dict.fromkeys(("created", "modified"), datetime.datetime(2018, 11, 13, tzinfo=datetime.UTC)),
    "finished": False,
    **dict.fromkeys(("id", "elapsed", "forks", "timeout", "verbosity", "job_slice_count"), 1),
    **dict.fromkeys(
        ("name", "description", "job_type", "limit", "status", "url", "playbook", "job_tags", "skip_tags"), "text"
    ),
    **dict.fromkeys(("started", "job_explanation", "scm_branch", "scm_revision", "type"), "text"),
    "failed": False,
    "diff_mode": False,
    "artifacts": {},
    "host_status_counts": {"ok": 1, "changed": 1, "failures": 0, "dark": 0},
    "summary_fields": {
        "created_by": {"username": "admin", "id": 1},
        "job_template": {"name": "x", "id": 1, "description": ""},
        "inventory": {"name": "x", "id": 1},
        "project": {"name": "x", "id": 1, "status": "successful"},
        "labels": {"count": 0, "results": []},
    },
}
MESSAGE = {
    "job": JOB,
    "job_friendly_name": "Job",
    "url": "https://host/#/jobs/1",
    "job_metadata": "{}",
    "approval_status": "approved",
    "approval_node_name": "Approve",
    "workflow_url": "https://host/#/workflows/1",
}


NAME, TEXT = "^[a-zA-Z_]+[a-zA-Z0-9_]*$", {"type": "string"}


def _closed(properties: dict) -> dict:
    return {"type": "object", "additionalProperties": False, "properties": properties}


# The fields of a credential type.
INPUTS = _closed(
    {
        "required": {"type": "array", "items": TEXT},
        "metadata": {"type": "array"},
        "fields": {
            "type": "array",
            "items": {
                **_closed(
                    {
                        "id": {"type": "string", "pattern": NAME},
                        "label": TEXT,
                        "help_text": TEXT,
                        "type": {"enum": ["string", "boolean"]},
                        "format": {"enum": ["ssh_private_key", "url"]},
                        "choices": {"type": "array", "minItems": 1, "items": TEXT, "uniqueItems": True},
                        **{flag: {"type": "boolean"} for flag in ("multiline", "secret", "ask_at_runtime")},
                        "default": {},
                    }
                ),
                "required": ["id", "label"],
            },
        },
    }
)
# What a job gets of one.
INJECTORS = _closed(
    {
        kind: {**_closed({}), "patternProperties": {pattern: value}}
        for kind, pattern, value in (
            ("file", r"^template(\.[a-zA-Z_]+[a-zA-Z0-9_]*)?$", TEXT),
            ("env", NAME, {**TEXT, "pattern": "^[\x00-\x7f]*$"}),
            ("extra_vars", NAME, {"type": ["string", "array", "object"]}),
        )
    }
)


class Refused(Exception):
    """An answer that is no success: its status and its body."""

    def __init__(self, body, status: int = 400):
        super().__init__(f"{status} {body}")
        self.body, self.status = body, status


def check_credential_type(api, new, given, old):
    """Refuse what AWX refuses in a type: undefined fields in its injectors, other inputs while credentials use it."""
    if old and old["managed"]:
        raise Refused({"detail": "Modifications not allowed for managed credential types"}, 403)
    used = old and any(one["credential_type"] == old["id"] for one in api.objects["credentials"].values())
    if used and "inputs" in given and given["inputs"] != old["inputs"]:
        raise Refused({"detail": "Modifications to inputs are not allowed for credential types that are in use"}, 403)
    for name, schema in (("inputs", INPUTS), ("injectors", INJECTORS)):
        for error in Draft4Validator(schema).iter_errors(new[name]):
            raise Refused({name: [error.message]})
    fields = new["inputs"].get("fields", [])
    for one in fields:
        check_type_field(one)
    if len({one["id"] for one in fields}) < len(fields):
        raise Refused({"inputs": ["field IDs must be unique"]})
    for name in new["injectors"].get("env", {}):
        if name.startswith("ANSIBLE_") or name in ("PATH", "HOME", "VIRTUAL_ENV", "JOB_ID", "AWX_HOST", "PYTHONPATH"):
            raise Refused({"injectors": [f"Environment variable {name} is not allowed to be used in credentials."]})
    files = new["injectors"].get("file", {})
    if "template" in files and len(files) > 1:
        raise Refused({"injectors": ["Must use multi-file syntax when injecting multiple files"]})
    tower = (
        {"filename": {name.partition(".")[2]: "/f" for name in files} if "template" not in files else "/f"}
        if files
        else {}
    )
    named = {one["id"]: "EXAMPLE" for one in fields}
    render(new["injectors"], {**named, "tower": tower}, "injectors", "uses an undefined field")


def check_type_field(one):
    """Refuse a field of a credential type that contradicts itself; one without a type is text."""
    if one["id"] == "tower":
        raise Refused({"inputs": ['"tower" is a reserved field name']})
    if one.get("ask_at_runtime"):
        raise Refused({"inputs": ["'ask_at_runtime' is not supported for custom credentials."]})
    kind = one.setdefault("type", "string")
    if "default" in one and not isinstance(one["default"], bool if kind == "boolean" else str):
        raise Refused({"inputs": [f"{one['default']} is not a {kind}"]})
    if kind != "string" and {"choices", "multiline", "format", "secret"} & set(one):
        raise Refused({"inputs": [f"not allowed for {kind} type ({one['id']})"]})


def render(value, context: dict, where: str, why: str) -> None:
    """Refuse text that Jinja cannot render with what is known."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            render(one, context, where, why)
    elif isinstance(value, str):
        try:
            ImmutableSandboxedEnvironment(undefined=StrictUndefined).from_string(value).render(context)
        except TemplateError as error:
            raise Refused({where: [f"{value} {why} ({error.message})"]}) from error


def secret_fields(api, credential: dict) -> set:
    """The names of a credential's secret inputs."""
    kind = api.objects["credential_types"][credential["credential_type"]]
    return {one["id"] for one in kind["inputs"].get("fields", []) if one.get("secret")}


def check_credential(api, new, given, old):
    """Refuse inputs that the type does not have; keep a secret that is sent back as it was shown, and none that is empty."""
    kind = api.objects["credential_types"][new["credential_type"]]
    if not old and not any(given.get(owner) for owner in ("organization", "user", "team")):
        raise Refused({"detail": "Missing 'user', 'team', or 'organization'."})
    known = {one["id"]: one for one in kind["inputs"].get("fields", [])}
    for name, value in new["inputs"].items():
        if name not in known:
            raise Refused({"inputs": [f"Additional properties are not allowed ('{name}' was unexpected)"]})
        if not isinstance(value, bool if known[name].get("type") == "boolean" else str):
            raise Refused(
                {"inputs": {name: [f"{type(value).__name__} is not of type '{known[name].get('type', 'string')}'"]}}
            )
        if known[name].get("format") == "ssh_private_key" and value not in ("", SECRET) and "-----END " not in value:
            raise Refused({"inputs": {name: [f"Invalid certificate or key: {value[:100]}..."]}})
        if value == SECRET:
            if not old:
                raise Refused({"inputs": {name: ["$encrypted$ is a reserved keyword"]}})
            new["inputs"][name] = old["inputs"].get(name, "")
    new["inputs"] = {
        name: value for name, value in new["inputs"].items() if value != "" or name not in secret_fields(api, new)
    }


def check_kind(api, new, kind):
    """Refuse a credential of another kind than the one that is used there."""
    one = api.objects["credentials"].get(new["credential"])
    if one and api.objects["credential_types"][one["credential_type"]]["kind"] != kind:
        raise Refused({"credential": [f"Only a credential of kind {kind} can be associated"]})


def check_environment(api, new, given, old):
    """Refuse another organization than at first, a credential that is of no registry, and most of one that is AWX's own."""
    if old and old["managed"] and any(given[name] != old[name] for name in given if name != "pull"):
        raise Refused({"detail": "Only the 'pull' field can be edited for managed execution environments."}, 403)
    if old and given.get("organization") and given["organization"] != old["organization"]:
        raise Refused({"organization": ["Cannot change the organization of an execution environment"]})
    check_kind(api, new, "registry")


def check_project(api, new, given, old):
    """Refuse a project without a URL that Git takes."""
    check_kind(api, new, "scm")
    if new["scm_type"] in ("git", "svn", "archive") and not new["scm_url"]:
        raise Refused({"scm_url": ["This field is required."]})
    scheme, there, _ = new["scm_url"].partition("://")
    if new["scm_type"] == "git" and there and scheme not in GIT:
        raise Refused({"scm_url": ["Unsupported git URL"]})


def check_inventory(api, new, given, old):
    """Refuse what only a smart inventory has, and another kind than at first."""
    new["kind"] = new["kind"] or ""
    if old and new["kind"] != old["kind"]:
        raise Refused({"detail": "Cannot change the kind of an inventory"}, 405)
    if new["host_filter"] and new["kind"] != "smart":
        raise Refused({"host_filter": ["Cannot set host_filter on a non-smart inventory"]})
    check_variables(new, "variables")


def check_variables(new, name):
    """Refuse variables that are neither JSON nor YAML text of a dictionary."""
    if not isinstance(text := new[name], str):
        raise Refused({name: ["Not a valid string."]})
    try:
        value = yaml.safe_load(text) if text else {}
    except yaml.YAMLError:
        value = None
    if not isinstance(value, dict):
        raise Refused({name: [f"Cannot parse as JSON or YAML of a dictionary: {text[:60]}"]})


def check_source(api, new, given, old):
    """Refuse a source of a project without one."""
    if not old and not new["source"]:
        raise Refused({"source": ["This field is required."]})
    if new["source"] == "scm" and not new["source_project"]:
        raise Refused({"source_project": ["Project required for scm type sources."]})
    if new["source"] != "scm" and (new["source_project"] or new["source_path"]):
        raise Refused({"detail": "Cannot set source_project, source_path if not SCM type."})
    new["organization"] = api.objects["inventories"][new["inventory"]]["organization"]


def check_member(api, new, given, old):
    """Hosts and groups: their variables."""
    check_variables(new, "variables")


def check_notification(api, new, given, old):
    """Fill in what a notification leaves out, and refuse texts that cannot be rendered."""
    fields = NOTIFICATIONS.get(new["notification_type"])
    if fields is None:
        raise Refused({"notification_type": [f'"{new["notification_type"]}" is not known to this stand-in']})
    if missing := [
        name
        for name, kind in fields.items()
        if isinstance(kind, type) and name not in new["notification_configuration"]
    ]:
        raise Refused({"__all__": [f"Missing required fields for Notification Configuration: {missing}."]})
    if unknown := sorted(
        set(new["notification_configuration"]) - set(fields) - NOTIFICATION_MAY.get(new["notification_type"], set())
    ):
        raise Refused({"notification_configuration": [f"Unknown fields: {unknown}"]})
    complete = {
        **{name: kind for name, kind in fields.items() if not isinstance(kind, type)},
        **new["notification_configuration"],
    }
    if complete.get("http_method", "POST").lower() not in ("put", "post"):
        raise Refused({"__all__": ["HTTP method must be either 'POST' or 'PUT'."]})
    for name in fields:
        value = complete[name]
        kind = fields[name] if isinstance(fields[name], type) else type(fields[name])
        if type(value) is not kind or value == []:
            raise Refused({"__all__": [f"Configuration field '{name}' incorrect type, expected {kind.__name__}."]})
        if value == SECRET and old:
            complete[name] = old["notification_configuration"][name]
    new["notification_configuration"] = complete
    if given.get("messages") is not None:
        check_messages(given["messages"])
        # A new one is kept as it came; of a later one, what is left out stays as it was.
        new["messages"] = merged(given["messages"], old["messages"]) if old and old["messages"] else given["messages"]
    elif not old:
        new["messages"] = dict.fromkeys((*EVENTS, "workflow_approval"))


def check_messages(given: dict) -> None:
    """Refuse texts for unknown events, and such as cannot be rendered."""
    if unknown := set(given) - {*EVENTS, "workflow_approval"}:
        raise Refused({"messages": [f"Event '{unknown}' invalid"]})
    for event, parts in [*given.items(), *(given.get("workflow_approval") or {}).items()]:
        if event == "workflow_approval" or parts is None:
            continue
        if set(parts) - {"message", "body"}:
            raise Refused({"messages": [f"Message type of '{event}' invalid, must be either 'message' or 'body'"]})
        if "\n" in (parts.get("message") or ""):
            raise Refused({"messages": [f"Messages cannot contain newlines (found newline in {event} event)"]})
        render(parts, MESSAGE, "messages", "unavailable")


def merged(given: dict, before: dict) -> dict:
    """Texts after an update."""
    new = {event: {**(before.get(event) or {}), **(given.get(event) or {})} or None for event in EVENTS}
    of, old = given.get("workflow_approval") or {}, before.get("workflow_approval") or {}
    names = ("running", "approved", "timed_out", "denied")
    approvals = {name: {**(old.get(name) or {}), **(of.get(name) or {})} or None for name in names}
    return {**new, "workflow_approval": approvals if any(approvals.values()) else None}


def check_instance_group(api, new, given, old):
    """Refuse a credential for a group that is none of containers or of another kind, and what AWX's own groups keep."""
    if given.get("credential"):
        if not given.get("is_container_group"):
            raise Refused({"is_container_group": ["must be True when associating a credential to an Instance Group"]})
        of = api.objects["credentials"].get(given["credential"], {}).get("credential_type")
        if of and api.objects["credential_types"][of]["kind"] != "kubernetes":
            raise Refused({"credential": ["Only Kubernetes credentials can be associated with an Instance Group"]})
    for name in ("is_container_group", "policy_instance_percentage") if old else ():
        if old["name"] in ("default", "controlplane") and new[name] != old[name]:
            raise Refused({name: [f"{old['name']} instance group {name} may not be changed."]})
    if old and old["is_container_group"] and any(given.get(name) for name in given if name.startswith("policy_")):
        raise Refused({"policy_instance_list": ["Containerized instances may not be managed via the API"]})


def check_job_template(api, new, given, old):
    """Refuse a playbook that the project does not have, or no inventory; the organization is the project's."""
    project = api.objects["projects"].get(new["project"])
    if not project:
        raise Refused({"project": ["This field is required."]})
    if not new["playbook"]:
        raise Refused({"playbook": ["Must select playbook for project."]})
    if new["playbook"] not in project["playbook_files"] and not project["allow_override"]:
        raise Refused({"playbook": ["Playbook not found for project."]})
    for name in ("scm_branch", "ask_scm_branch_on_launch"):
        if new[name] and not project["allow_override"]:
            raise Refused({name: ["Project does not allow overriding branch."]})
    if not new["inventory"] and not new["ask_inventory_on_launch"]:
        raise Refused({"inventory": ["Must either set a default value or ask to prompt on launch."]})
    new["organization"] = project["organization"]
    check_variables(new, "extra_vars")


def check_workflow(api, new, given, old):
    """A workflow's variables."""
    check_variables(new, "extra_vars")


def check_prompts(api, new, given, old, required=False):
    """Refuse what the template of a node or a schedule does not ask for."""
    template = api.unified(new["unified_job_template"])
    if template is None:
        return
    kind = api.kind_of(template["id"])
    errors = {
        name: ["Field is not configured to prompt on launch."]
        for name, ask in PROMPTS.items()
        if new.get(name) not in (None, "") and not template.get(ask) and new[name] != template.get(name)
    }
    data = new["extra_data"]
    if not isinstance(data, dict):
        data = yaml.safe_load(data) or {}
    survey = api.surveys.get(template["id"], {}).get("spec", []) if template.get("survey_enabled") else []
    answers = [problem for question in survey if (problem := answer(question, data, required))]
    others = sorted(set(data) - {question["variable"] for question in survey})
    if others and not template.get("ask_variables_on_launch"):
        answers.append(
            f"Variables {', '.join(others)} are not allowed on launch. Check the Prompt on Launch setting on the {kind} to include Extra Variables."
        )
    if answers:
        errors["extra_data"] = answers
    if errors:
        raise Refused(errors)


def answer(question: dict, data: dict, required: bool) -> str:
    """What is wrong with the answer to a survey's question, or nothing."""
    name, kind = question["variable"], SURVEY_TYPES[question["type"]]
    if name not in data:
        return f"'{name}' value missing" if required and question["required"] else ""
    value = data[name]
    if question["type"] == "multiselect":
        return (
            ""
            if isinstance(value, list) and set(value) <= set(choices(question))
            else f"Value {value} for '{name}' expected to be a list of {choices(question)}."
        )
    if isinstance(value, bool) or not isinstance(value, int | float if kind is float else kind):
        return f"Value {value} for '{name}' expected to be a {kind.__name__}."
    if question["type"] == "multiplechoice":
        # An empty answer is none of them, of a question that may stay without one either.
        allowed = choices(question)
        return "" if value in allowed else f"Value {value} for '{name}' expected to be one of {allowed}."
    size = len(value) if kind is str else value
    low, high = question.get("min"), question.get("max")
    within = (low is None or size >= low) and (high is None or size <= high)
    return "" if within else f"'{name}' value {value} is outside of {low} to {high}."


def check_survey(spec: dict) -> dict:
    """A survey as AWX keeps it; refused with AWX's reasons."""
    for name, kind in (("name", str), ("description", str), ("spec", list)):
        if not isinstance(spec.get(name), kind):
            raise Refused({"error": f"Field '{name}' is missing from survey spec."})
    if not spec["spec"]:
        raise Refused({"error": "'spec' doesn't contain any items."})
    seen = set()
    for number, question in enumerate(spec["spec"]):
        if problem := wrong_question(question):
            raise Refused({"error": f"{problem} in survey question {number}"})
        if question["variable"] in seen:
            raise Refused({"error": f"'variable' '{question['variable']}' duplicated in survey question {number}."})
        seen.add(question["variable"])
        for name in ("choices", "default") if question["type"] in ("multiplechoice", "multiselect") else ():
            if isinstance(question.get(name), str):
                question[name] = "\n".join(line for line in question[name].splitlines() if line.strip())
    return spec


def wrong_question(one: dict) -> str:
    """What is wrong with a survey's question, or nothing."""
    for name in QUESTION:
        if not isinstance(one.get(name), bool if name == "required" else str):
            return f"'{name}' missing"
    if unknown := sorted(set(one) - {*QUESTION, *QUESTION_MAY}):
        return f"not a field: {unknown}"
    if not (kind := SURVEY_TYPES.get(one["type"])):
        return f"'{one['type']}' is not an allowed question type"
    if one.get("default", "") != "" and (isinstance(one["default"], bool) or not isinstance(one["default"], kind)):
        return f"Default value {one['default']} expected to be {kind.__name__}"
    if not all(isinstance(one.get(limit), int | None) for limit in ("min", "max")):
        return "a limit expected to be integer"
    return wrong_choices(one) if one["type"] in ("multiplechoice", "multiselect") else ""


def wrong_choices(one: dict) -> str:
    """What is wrong with a question's choices, or nothing."""
    if not one.get("choices"):
        return "must specify choices"
    defaults = [line for line in (one.get("default") or "").splitlines() if line.strip()]
    if one["type"] == "multiplechoice" and len(defaults) > 1:
        return "Multiple Choice (Single Select) can only have one default value"
    return "" if set(defaults) <= set(choices(one)) else "Default choice must be answered from the choices listed"


def choices(question: dict) -> list[str]:
    """A question's choices; AWX takes a list or lines."""
    given = question.get("choices", [])
    return given.splitlines() if isinstance(given, str) else given


def check_schedule(api, new, given, old):
    """Refuse a rule that AWX or dateutil refuses, and answers that the template does not ask for."""
    if "rrule" in given:
        if problem := wrong_rule(new["rrule"]):
            raise Refused({"rrule": [problem]})
        try:
            new["rrule"] = kept_rule(new["rrule"])
            following = rrule.rrulestr(new["rrule"], forceset=True)
            run = following.after(datetime.datetime.now(datetime.UTC))
        except (KeyError, ValueError, TypeError) as error:
            raise Refused({"rrule": [f"rrule parsing failed validation: {error}"]}) from error
        new["next_run"] = run and run.strftime("%Y-%m-%dT%H:%M:%SZ")
    if not old or {*PROMPTS, "extra_data"} & set(given):
        check_prompts(api, new, given, old, required=True)


def wrong_rule(text: str) -> str:
    """What AWX does not take of a recurrence rule, or nothing."""
    starts = re.findall(r"DTSTART(?:;[^:]+)?:[0-9]+T[0-9]+Z?", text)
    if not starts:
        return "Valid DTSTART required in rrule. Value should start with: DTSTART:YYYYMMDDTHHMMSSZ"
    if len(starts) > 1:
        return "Multiple DTSTART is not supported."
    if re.search(r"DTSTART:[0-9]+T[0-9]+ ", text):
        return "DTSTART cannot be a naive datetime.  Specify ;TZINFO= or YYYYMMDDTHHMMSSZZ."
    if "rrule:" not in text.lower():
        return "One or more rule required in rrule."
    for word in ("EXDATE", "RDATE"):
        if f"{word}:" in text.upper():
            return f"{word} not allowed in rrule."
    for rule in re.findall(r"RULE:\S*", text):
        if "INTERVAL" not in rule:
            return f"INTERVAL required in rrule: {rule}"
        wrong = "SECONDLY" in rule or re.search(r"BYDAY=[0-9]+[A-Z]{2}|COUNT=[0-9]{4}", rule)
        if wrong or ("COUNT" in rule and "UNTIL" in rule):
            return f"not supported: {rule}"
    return ""


def kept_rule(text: str) -> str:
    """A recurrence rule as AWX keeps it: on one line, and with its UNTIL in UTC."""
    zone = re.search(r"TZID=([^:]+)", text)
    parts = text.split()
    for number, part in enumerate(parts):
        if "until=" in part.lower() and not re.search(r"UNTIL=[0-9]+T[0-9]+Z", part):
            local = re.search(r"UNTIL=([0-9]+T[0-9]+)", part)[1]
            until = datetime.datetime.strptime(local, "%Y%m%dT%H%M%S").replace(
                tzinfo=zoneinfo.ZoneInfo(zone[1]) if zone else datetime.UTC
            )
            parts[number] = part.replace(local, until.astimezone(datetime.UTC).strftime("%Y%m%dT%H%M%SZ"))
    return " ".join(parts)


def check_node(api, new, given, old):
    """Refuse answers that the node's template does not ask for; without a template there are none."""
    if not new["unified_job_template"]:
        before = old or {"extra_data": {}, **dict.fromkeys(PROMPTS)}
        new.update({name: before[name] for name in ("extra_data", *PROMPTS)})
    elif not old or {*PROMPTS, "extra_data"} & set(given):
        check_prompts(api, new, given, old)


def coerced(name: str, value, default):
    """A value as AWX keeps it in a field of a default's type; refused with Django REST framework's reasons."""
    if isinstance(value, str):
        value = value.strip()
    if name == "verbosity" and isinstance(value, str) and value.isdigit():
        return int(value)
    if default is None or default is REQUIRED:
        return value.strip() if isinstance(value, str) else value
    if value is None:
        raise Refused({name: ["This field may not be null."]})
    if isinstance(default, bool):
        fits, kept = str(value).lower() in ("true", "false"), str(value).lower() == "true"
    elif isinstance(default, int):
        fits = not isinstance(value, bool) and re.fullmatch(r"-?[0-9]+", str(value))
        kept = int(value) if fits else None
    elif isinstance(default, str):
        # Django REST framework strips every text.
        fits, kept = not isinstance(value, bool | dict | list), str(value).strip()
    else:
        fits, kept = isinstance(value, type(default)), value
    if not fits:
        raise Refused({name: [f"Not a valid {type(default).__name__}: {str(value)[:60]}"]})
    return kept
