"""The kinds of objects that the stand-in of AWX's REST API (awx_api.py) has, with AWX 24.6.1's fields, references and lists.

A field's default tells its type. Fields that AWX computes are ignored when they are sent, as AWX does; fields that it does not
have are ignored by AWX and refused here, so that a misspelt one is noticed.
"""

from dataclasses import dataclass, field

import awx_rules as rules
from awx_rules import PROMPTED, PROMPTS, REQUIRED


@dataclass
class Kind:
    """A kind of objects.

    Attributes:
        type: its name in an answer.
        fields: name to default, or REQUIRED.
        refs: fields that name another object, to its kind.
        unique: fields that are unique together.
        links: lists of other objects, to their kind.
        roles: the roles that one can have on an object.
        choices: fields that take few values.
        read_only: fields that AWX computes, with what they are at first.
        related: further addresses below the object.
        ignored: fields that AWX does not have here, but that a module of awx.awx sends.
        check: what refuses it (awx_rules.py).
    """

    type: str
    fields: dict
    refs: dict = field(default_factory=dict)
    unique: tuple = ("name", "organization")
    links: dict = field(default_factory=dict)
    roles: str = ""
    choices: dict = field(default_factory=dict)
    read_only: dict = field(default_factory=dict)
    related: tuple = ()
    ignored: tuple = ()
    check: object = None


def fields(default, names: str) -> dict:
    """Fields of one default."""
    return dict.fromkeys(names.split(), default)


NAMED = {"name": REQUIRED, "description": ""}
NOTIFIED = fields(
    "notification_templates",
    "notification_templates_started notification_templates_success notification_templates_error",
)
APPROVALS = {"notification_templates_approvals": "notification_templates"}
ASK = dict.fromkeys((*PROMPTS.values(), *PROMPTED.values(), "ask_variables_on_launch"), False)
SAVED = {"extra_data": {}, **dict.fromkeys(PROMPTS)}
SAVED_REFS = {"inventory": "inventories", "execution_environment": "execution_environments"}
SAVED_LINKS = {"credentials": "credentials", "labels": "labels", "instance_groups": "instance_groups"}
JOB_TYPES = {"job_type": ("run", "check", None)}
ORG, INVENTORY = {"organization": "organizations"}, {"inventory": "inventories"}
TEMPLATE = {"status": "never updated", "last_job_run": None, "next_job_run": None}
KINDS = {
    "organizations": Kind(
        "organization",
        NAMED | {"max_hosts": 0, "custom_virtualenv": None, "default_environment": None},
        {"default_environment": "execution_environments"},
        ("name",),
        {"galaxy_credentials": "credentials", "instance_groups": "instance_groups"}
        | NOTIFIED
        | APPROVALS
        | {"users": "users", "admins": "users"},
        "admin execute project_admin inventory_admin credential_admin workflow_admin notification_admin job_template_admin"
        " execution_environment_admin auditor member read approval",
    ),
    "users": Kind(
        "user",
        {"username": REQUIRED}
        | fields("", "first_name last_name email password")
        | fields(False, "is_superuser is_system_auditor"),
        unique=("username",),
    ),
    "teams": Kind("team", NAMED | {"organization": REQUIRED}, ORG, links={"users": "users"}, roles="admin member read"),
    "execution_environments": Kind(
        "execution_environment",
        NAMED | {"image": REQUIRED, "organization": None, "credential": None, "pull": ""},
        ORG | {"credential": "credentials"},
        ("name",),
        choices={"pull": ("", "always", "missing", "never")},
        read_only={"managed": False},
        check=rules.check_environment,
    ),
    "credential_types": Kind(
        "credential_type",
        NAMED | {"kind": REQUIRED, "inputs": {}, "injectors": {}},
        unique=("name", "kind"),
        choices={"kind": ("cloud", "net")},
        read_only={"managed": False, "namespace": None},
        check=rules.check_credential_type,
    ),
    "credentials": Kind(
        "credential",
        NAMED | {"organization": None, "credential_type": REQUIRED, "inputs": {}, "user": None, "team": None},
        ORG | {"credential_type": "credential_types", "user": "users", "team": "teams"},
        ("name", "organization", "credential_type"),
        roles="admin use read",
        read_only={"managed": False, "kind": "", "cloud": False, "kubernetes": False},
        check=rules.check_credential,
    ),
    "projects": Kind(
        "project",
        NAMED
        | fields("", "local_path scm_type scm_url scm_branch scm_refspec")
        | fields(False, "scm_clean scm_track_submodules scm_delete_on_update scm_update_on_launch allow_override")
        | fields(0, "timeout scm_update_cache_timeout")
        | fields(None, "credential organization custom_virtualenv default_environment signature_validation_credential"),
        ORG
        | fields("credentials", "credential signature_validation_credential")
        | {"default_environment": "execution_environments"},
        links=NOTIFIED,
        roles="admin use update read",
        choices={"scm_type": ("", "git", "svn", "insights", "archive")},
        read_only=TEMPLATE | {"scm_revision": "", "playbook_files": ()},
        related=("update", "playbooks"),
        check=rules.check_project,
    ),
    "inventories": Kind(
        "inventory",
        NAMED
        | {
            "organization": REQUIRED,
            "kind": None,
            "host_filter": None,
            "variables": "",
            "prevent_instance_group_fallback": False,
        },
        ORG,
        links={"instance_groups": "instance_groups", "input_inventories": "inventories"},
        roles="admin use adhoc update read",
        choices={"kind": ("", "smart", "constructed", None)},
        read_only={"pending_deletion": False},
        check=rules.check_inventory,
    ),
    "inventory_sources": Kind(
        "inventory_source",
        NAMED
        | {"inventory": REQUIRED}
        | fields("", "source source_path source_vars scm_branch enabled_var enabled_value host_filter limit")
        | fields(None, "credential execution_environment source_project custom_virtualenv")
        | fields(False, "overwrite overwrite_vars update_on_launch")
        | {"timeout": 0, "verbosity": 1, "update_cache_timeout": 0},
        SAVED_REFS | {"credential": "credentials", "source_project": "projects"},
        ("name", "inventory"),
        NOTIFIED,
        choices={"source": ("scm", "ec2", "file", "controller", "openshift_virtualization")},
        read_only=TEMPLATE | {"organization": None, "last_updated": None},
        related=("update",),
        check=rules.check_source,
    ),
    "hosts": Kind(
        "host",
        NAMED | {"inventory": REQUIRED, "enabled": True, "instance_id": "", "variables": ""},
        INVENTORY,
        ("name", "inventory"),
        check=rules.check_member,
    ),
    "groups": Kind(
        "group",
        NAMED | {"inventory": REQUIRED, "variables": ""},
        INVENTORY,
        ("name", "inventory"),
        {"hosts": "hosts", "children": "groups"},
        check=rules.check_member,
    ),
    "labels": Kind("label", {"name": REQUIRED, "organization": REQUIRED}, ORG),
    "notification_templates": Kind(
        "notification_template",
        NAMED
        | {"organization": REQUIRED, "notification_type": REQUIRED, "notification_configuration": {}, "messages": None},
        ORG,
        check=rules.check_notification,
    ),
    "instance_groups": Kind(
        "instance_group",
        {"name": REQUIRED, "credential": None, "is_container_group": False}
        | fields(0, "policy_instance_percentage policy_instance_minimum max_concurrent_jobs max_forks")
        | {"policy_instance_list": [], "pod_spec_override": ""},
        {"credential": "credentials"},
        ("name",),
        {"instances": "instances"},
        "admin use read",
        check=rules.check_instance_group,
    ),
    "instances": Kind("instance", {"hostname": REQUIRED}, unique=("hostname",)),
    "job_templates": Kind(
        "job_template",
        NAMED
        | ASK
        | {"job_type": "run", "job_slice_count": 1}
        | fields(None, "inventory project execution_environment webhook_credential custom_virtualenv")
        | fields(
            "", "playbook scm_branch limit extra_vars job_tags skip_tags start_at_task host_config_key webhook_service"
        )
        | fields(0, "forks verbosity timeout")
        | fields(False, "force_handlers use_fact_cache survey_enabled become_enabled diff_mode allow_simultaneous")
        | {"prevent_instance_group_fallback": False},
        SAVED_REFS | {"project": "projects", "webhook_credential": "credentials"},
        links=SAVED_LINKS | NOTIFIED,
        roles="admin execute read",
        choices={"job_type": ("run", "check")},
        read_only=TEMPLATE | {"organization": None},
        related=("survey_spec", "launch"),
        check=rules.check_job_template,
    ),
    "workflow_job_templates": Kind(
        "workflow_job_template",
        NAMED
        | {
            f"ask_{name}_on_launch": False
            for name in ("variables", "inventory", "limit", "labels", "skip_tags", "tags", "scm_branch")
        }
        | {"extra_vars": "", "survey_enabled": False, "allow_simultaneous": False, "webhook_service": ""}
        | fields(None, "organization inventory limit scm_branch job_tags skip_tags webhook_credential"),
        ORG | INVENTORY | {"webhook_credential": "credentials"},
        links={"labels": "labels"} | NOTIFIED | APPROVALS,
        roles="admin execute read approval",
        read_only=TEMPLATE,
        related=("survey_spec", "launch"),
        check=rules.check_workflow,
    ),
    "workflow_job_template_nodes": Kind(
        "workflow_job_template_node",
        SAVED
        | {
            "identifier": REQUIRED,
            "workflow_job_template": REQUIRED,
            "unified_job_template": None,
            "all_parents_must_converge": False,
        },
        SAVED_REFS
        | {"workflow_job_template": "workflow_job_templates", "unified_job_template": "unified_job_templates"},
        ("identifier", "workflow_job_template"),
        fields("workflow_job_template_nodes", "success_nodes failure_nodes always_nodes") | SAVED_LINKS,
        choices=JOB_TYPES,
        related=("create_approval_template",),
        check=rules.check_node,
    ),
    "workflow_approval_templates": Kind(
        "workflow_approval_template", NAMED | {"timeout": 0}, unique=(), ignored=("identifier", "workflow_job_template")
    ),
    "schedules": Kind(
        "schedule",
        NAMED | SAVED | {"rrule": REQUIRED, "enabled": True, "unified_job_template": REQUIRED},
        SAVED_REFS | {"unified_job_template": "unified_job_templates"},
        ("name", "unified_job_template"),
        SAVED_LINKS,
        choices=JOB_TYPES,
        read_only={"next_run": None, "timezone": "UTC"},
        check=rules.check_schedule,
    ),
}
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources")
# What is there on a new AWX.
FRESH = [
    ("users", {"username": "admin", "is_superuser": True}),
    ("organizations", {"name": "Default"}),
    ("instance_groups", {"name": "controlplane"}),
    ("instance_groups", {"name": "default"}),
    ("execution_environments", {"name": "AWX EE (24.6.1)", "image": "awx-ee:24.6.1"}),
    ("execution_environments", {"name": "Control Plane Execution Environment", "image": "awx-ee:24.6.1"}),
]
# Its credential types: kind, plain fields, secret ones.
TYPES = {
    "Machine": ("ssh", "username", "password ssh_key_data ssh_key_unlock become_password"),
    "Source Control": ("scm", "username", "password ssh_key_data ssh_key_unlock"),
    "Vault": ("vault", "vault_id", "vault_password"),
    "Container Registry": ("registry", "host username", "password"),
    "Ansible Galaxy/Automation Hub API Token": ("galaxy", "url auth_url", "token"),
    "OpenShift or Kubernetes API Bearer Token": ("kubernetes", "host", "bearer_token ssl_ca_cert"),
    "Amazon Web Services": ("cloud", "username", "password security_token"),
    "GitHub Personal Access Token": ("token", "", "token"),
}
# Of these, what is true or false.
BOOLEAN_INPUTS = {"Container Registry": "verify_ssl", "OpenShift or Kubernetes API Bearer Token": "verify_ssl"}
# Of these, what a credential must have.
REQUIRED_INPUTS = {
    "Vault": ["vault_password"],
    "Container Registry": ["host"],
    "Ansible Galaxy/Automation Hub API Token": ["url"],
    "OpenShift or Kubernetes API Bearer Token": ["host", "bearer_token"],
    "Amazon Web Services": ["username", "password"],
    "GitHub Personal Access Token": ["token"],
}
