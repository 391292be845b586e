"""Says what a role's trust policy and policies allow beyond what the inventory is for; never asks AWS."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import conditions, iam, names, patterns, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import owned_sid, policies_of

ASSUME = ("sts:assumerole", "sts:assumerolewithwebidentity", "sts:assumerolewithsaml")
# What a run writes into policies; see policies.permissions.
ACTIONS = frozenset({"s3:ListBucket", *policies.READ, *policies.WRITE, "kms:Decrypt", "kms:GenerateDataKey"})
RESOURCE = re.compile(
    r"arn:aws[a-z-]*:s3:(::[a-z0-9.-]+(/((?!\$\{)[^*?])*\*)?|[a-z0-9-]+:\d{12}:accesspoint/[a-z0-9.-]+(/object/((?!\$\{)[^*?])*\*)?)"
)
BOUND = {"aws:ResourceAccount": r"\d{12}", "kms:ViaService": r"s3\.[a-z0-9-]+\.amazonaws\.com(\.cn)?"}
CLUSTER = re.compile(r"arn:aws[a-z-]*:eks:[a-z0-9-]+:\d{12}:cluster/[\w-]+", re.ASCII)
# Operators that let through nothing but the values that they name; the second sort also lets through a request without the key, which no
# token is: each has its subject and audience.
LIMITS = re.compile(r"(ForAnyValue:)?String(Equals|Like|EqualsIgnoreCase)")
TOKEN_LIMITS = re.compile(rf"(ForAllValues:)?{LIMITS.pattern}(IfExists)?")
MANY = 3


# --- Trust ------------------------------------------------------------------------------------------


def in_trust(document: Mapping, wanted: Mapping | None, tags: Collection[str]) -> list[str]:
    """Say whom a trust policy lets in beside those that are to be.

    Args:
        document: the trust policy.
        wanted: the statement of this cluster as a run writes it, or None.
        tags: the role's tag keys. A statement of another cluster that they name, if it is as a run writes it, is that cluster's.

    Returns:
        a text for each such statement, with its name.
    """
    limits = {principal: _limits(wanted, *principal) for principal in _principals(wanted)} if wanted else {}
    found = []
    for number, statement in enumerate(iam.listed(document.get("Statement") or []), 1):
        sid = str(statement.get("Sid") or "")
        if not _lets_in(statement) or (
            sid != (wanted or {}).get("Sid") and owned_sid(sid, tags) and is_trust_of_a_run(statement)
        ):
            continue
        more = [text for principal in _principals(statement) for text in _beyond(statement, principal, limits)]
        if more:
            found.append(f"the statement {sid or f'number {number}'} lets in {'; '.join(more)}")
    return found


def is_trust_of_a_run(statement: Mapping) -> bool:
    """Tell whether a statement says no more than one that a run writes for a cluster, whatever its name."""
    sid = str(statement.get("Sid") or "")
    principals = list(_principals(statement))
    if len(principals) != 1 or "*" in principals[0][1]:
        return False
    kind, name = principals[0]
    limits = {word: sets[0] for word, sets in _limits(statement, kind, name).items()}
    if kind == "Federated":
        subjects = limits.get("sub") or {""}
        return all(_is_name(r"system:serviceaccount:{0}:{0}", item) for item in subjects) and policies.same(
            statement, policies.web_identity_statement(sid, name, subjects)
        )
    tags = [limits.get(tag) or {""} for tag in policies.SESSION_TAGS]
    clusters, namespaces, accounts = tags
    if name != policies.POD_IDENTITY or len(clusters) != 1 or len(namespaces) != 1:
        return False
    (cluster,), (namespace,) = clusters, namespaces
    return (
        bool(CLUSTER.fullmatch(cluster))
        and all(_is_name("{0}", item) for item in {namespace, *accounts})
        and policies.same(
            statement, policies.pod_identity_statement(sid, cluster, [(namespace, item) for item in accounts])
        )
    )


def _is_name(form: str, text: str) -> bool:
    return bool(re.fullmatch(form.format("[a-z0-9.-]+"), text))


def _lets_in(statement: Mapping) -> bool:
    if statement.get("Effect") != "Allow":
        return False
    given = [str(item).lower() for item in iam.listed(statement.get("Action", statement.get("NotAction", [])))]
    named = {action for action in ASSUME if any(patterns.matches(patterns.glob(item), action) for item in given)}
    return bool(named) if "Action" in statement else named != set(ASSUME)


def _principals(statement: Mapping) -> Iterator[tuple[str, str]]:
    principal = statement.get("Principal", "*")
    for kind, listed in principal.items() if isinstance(principal, Mapping) else [("AWS", principal)]:
        for name in iam.listed(listed):
            yield kind, str(name)


def _keys(kind: str, name: str) -> dict[str, str]:
    """Give the condition keys that tell a principal's tokens or sessions apart, each with the word for it."""
    if kind == "Federated":
        host = name.partition("/")[2]
        return {f"{host}:{claim}": claim for claim in ("sub", "aud")}
    if kind == "Service" and name == policies.POD_IDENTITY:
        return {f"aws:RequestTag/{tag}": tag for tag in policies.SESSION_TAGS}
    return {}


def _limits(statement: Mapping, kind: str, name: str) -> dict[str, list[set[str]]]:
    """Give the values to which a statement limits each of those keys, the fewest first; a key without a limit is missing."""
    words = {key.lower(): word for key, word in _keys(kind, name).items()}
    limits = TOKEN_LIMITS if kind == "Federated" else LIMITS
    found: dict[str, list[set[str]]] = {}
    for operator, key, values in _conditions(statement):
        if key.lower() in words and limits.fullmatch(operator):
            found.setdefault(words[key.lower()], []).append(set(values))
    return {word: sorted(sets, key=len) for word, sets in found.items()}


def _beyond(statement: Mapping, principal: tuple[str, str], wanted: Mapping) -> list[str]:
    kind, name = principal
    limits = _limits(statement, kind, name)
    if principal not in wanted:
        told = [
            f"{word} {_few(sets[0])}" if (sets := limits.get(word)) else f"any {word}"
            for word in _keys(*principal).values()
        ]
        return [f"{kind} {name}" + (f" ({', '.join(told)})" if told else "")]
    more = []
    for word, (values, *_) in wanted[principal].items():
        found = limits.get(word)
        if not found:
            more.append(f"any {word}")
        elif not any(those <= values for those in found):
            more.append(f"{word} {_few(found[0] - values)}")
    return [f"{', '.join(more)} of {name}"] if more else []


# --- Policies ---------------------------------------------------------------------------------------


def in_policies(documents: Mapping[str, Mapping], wanted: Mapping, own: str, tags: Collection[str]) -> list[str]:
    """Say what a role's policies allow beyond what this cluster's access needs.

    Args:
        documents: by name (inline) or ARN (managed).
        wanted: the policy that a run writes for this cluster.
        own: its name.
        tags: the role's tag keys. The policies of other clusters that they name are told as theirs, as far as a run writes such.

    Returns:
        a text for each statement, with its policy's name.
    """
    theirs = policies_of(tags) - {own}
    found = []
    for name, document in sorted(documents.items()):
        more = [
            (str(statement.get("Sid") or f"number {number}"), statement)
            for number, statement in enumerate(iam.listed(document.get("Statement") or []), 1)
            if statement.get("Effect") == "Allow" and not _covered(statement, wanted)
        ]
        foreign = [pair for pair in more if not (name in theirs and is_grant_of_a_run(pair[1]))]
        found += [f"policy {name}, statement {sid}, allows {_granted(statement)}" for sid, statement in foreign]
        if more and not foreign:
            found.append(f"policy {name} allows more, and is that of another cluster, which the role's tags name")
    return found


def is_grant_of_a_run(statement: Mapping) -> bool:
    """Tell whether a statement of a permission policy is such as a run writes for some cluster."""
    if not {"Action", "Resource", "Condition"} <= statement.keys():
        return False
    equal = {key: values for operator, key, values in _conditions(statement) if operator == "StringEquals"}
    bound = [re.fullmatch(form, value) for key, form in BOUND.items() for value in equal.get(key, [])]
    return (
        bool(bound)
        and all(bound)
        and set(iam.listed(statement["Action"])) <= ACTIONS
        and all(RESOURCE.fullmatch(item) or names.KEY_ARN.fullmatch(item) for item in iam.listed(statement["Resource"]))
    )


def _covered(statement: Mapping, wanted: Mapping) -> bool:
    """Tell whether a statement grants nothing that another policy does not."""
    if "NotAction" in statement or "NotResource" in statement:
        return False
    return all(
        any(_grants(item, str(action), str(resource), statement) for item in wanted["Statement"])
        for action in iam.listed(statement.get("Action", []))
        for resource in iam.listed(statement.get("Resource", []))
    )


def _grants(wanted: Mapping, action: str, resource: str, statement: Mapping) -> bool:
    given = {(operator, key.lower()): set(values) for operator, key, values in _conditions(statement)}
    return (
        action.lower() in {item.lower() for item in iam.listed(wanted["Action"])}
        and "${" not in resource
        and any(
            patterns.covers(patterns.glob(item), patterns.glob(resource)) for item in iam.listed(wanted["Resource"])
        )
        and all(
            (operator, key.lower()) in given and given[operator, key.lower()] <= set(values)
            for operator, key, values in _conditions(wanted)
        )
    )


def _granted(statement: Mapping) -> str:
    actions, resources = (
        f"all but {_few(statement[f'Not{name}'])}" if f"Not{name}" in statement else _few(statement.get(name, "*"))
        for name in ("Action", "Resource")
    )
    return f"{actions} on {resources}"


def _conditions(statement: Mapping) -> list[tuple[str, str, list[str]]]:
    try:
        return list(conditions.parts(statement.get("Condition") or {}))
    except iam.PolicyError:
        # What is not known limits nothing.
        return []


def _few(values: object) -> str:
    found = sorted(map(str, values if isinstance(values, (list, tuple, set)) else [values]))
    return ", ".join(found[:MANY]) + (f" and {len(found) - MANY} more" if len(found) > MANY else "")
