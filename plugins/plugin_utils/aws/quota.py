"""Compares the nodes that servers need with what the account may run of their family in EC2; never writes.

AWS counts vCPUs: of what runs on demand by family, and of Spot requests
(https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html). The codes are those that Service Quotas lists for EC2.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account

ON_DEMAND, SPOT = "on-demand", "spot"
# Of the tags by which a node of EKS names its cluster: node groups, Karpenter, and all that join one.
CLUSTER_TAGS = ("eks:cluster-name", "eks:eks-cluster-name")
OWNED = "kubernetes.io/cluster/"


@dataclass(frozen=True)
class Quota:
    """One quota of EC2.

    Attributes:
        code: its code.
        name: its name.
        capacity_type: of the instances that it counts.
        types: wildcards of their types.
    """

    code: str
    name: str
    capacity_type: str
    types: tuple[str, ...]

    def counts(self, instance_type: str, capacity_type: str) -> bool:
        """Tell whether it counts instances of a type."""
        return capacity_type == self.capacity_type and any(fnmatchcase(instance_type, one) for one in self.types)


QUOTAS = (
    Quota("L-DB2E81BA", "Running On-Demand G and VT instances", ON_DEMAND, ("g*", "vt*")),
    Quota("L-417A185B", "Running On-Demand P instances", ON_DEMAND, ("p*",)),
    Quota("L-1945791B", "Running On-Demand Inf instances", ON_DEMAND, ("inf*",)),
    Quota("L-2C3B7624", "Running On-Demand Trn instances", ON_DEMAND, ("trn*",)),
    Quota("L-3819A6DF", "All G and VT Spot Instance Requests", SPOT, ("g*", "vt*")),
    Quota("L-7212CCBC", "All P4, P3 and P2 Spot Instance Requests", SPOT, ("p2*", "p3*", "p4*")),
    Quota("L-C4BD4855", "All P5 Spot Instance Requests", SPOT, ("p5*",)),
    Quota("L-B5D1601B", "All Inf Spot Instance Requests", SPOT, ("inf*",)),
    Quota("L-6B0D517C", "All Trn Spot Instance Requests", SPOT, ("trn*",)),
)


def counted(pools: Iterable[Mapping]) -> list[dict]:
    """Give those pools whose nodes are of a family that has a quota here, and of which there is a node."""
    accelerated = tuple(wildcard for quota in QUOTAS for wildcard in quota.types)
    return [
        dict(pool)
        for pool in pools
        if pool["nodes"] != 0 and any(fnmatchcase(pool["instance_type"], one) for one in accelerated)
    ]


def check(account: Account, clusters: Mapping[str, list[dict]]) -> tuple[list[dict], list[str]]:
    """Compare what clusters need with the account's quotas.

    Args:
        account: theirs, asked in their region.
        clusters: name in EKS to its pools, of ``servers.preflight.pools``.

    Returns:
        a row for each quota that counts one of the pools, in vCPUs: ``code``, ``name``, ``limit``, ``running`` (of all that is pending or runs in
        the account), ``more`` (what the nodes take that are not there yet), ``nodes`` (those, in words) and ``fits``; and what could not be checked.

    Raises:
        AwsError: AWS does not say.
    """
    notices: list[str] = []
    needed: dict[Quota, Counter] = {}
    for cluster, pool in ((name, pool) for name, pools in clusters.items() for pool in counted(pools)):
        kind = (pool["instance_type"], pool["capacity_type"])
        quota = next((quota for quota in QUOTAS if quota.counts(*kind)), None)
        if quota is None or pool["nodes"] is None:
            what = "how many nodes are needed" if quota else f"which quota counts it ({kind[1]})"
            notices.append(f"quota of {kind[0]}: {what} is not known, so it was not checked")
        else:
            needed.setdefault(quota, Counter())[(cluster, *kind)] += pool["nodes"]
    if not needed:
        return [], notices
    running = [one for one in _instances(account) if any(quota.counts(*one[:2]) for quota in needed)]
    types = {one[0] for one in running} | {kind[1] for nodes in needed.values() for kind in nodes}
    vcpus = _vcpus(account, sorted(types))
    rows = []
    for quota, nodes in needed.items():
        limit = _limit(account, quota)
        if limit is None:
            notices.append(f"quota {quota.name} ({quota.code}): AWS tells no value, so it was not checked")
            continue
        mine = [one for one in running if quota.counts(*one[:2])]
        there = Counter((cluster, *kind) for *kind, names in mine for cluster in names)
        new: Counter = Counter()
        for (cluster, *kind), number in nodes.items():
            new[kind[0]] += max(0, number - there[(cluster, *kind)])
        used = sum(vcpus[one[0]] for one in mine)
        more = sum(vcpus[name] * number for name, number in new.items())
        told = ", ".join(f"{number} x {name}" for name, number in sorted(new.items()) if number)
        row = {"code": quota.code, "name": quota.name, "limit": limit, "running": used, "more": more, "nodes": told}
        rows.append({**row, "fits": not more or used + more <= limit})
    return rows, notices


def line(row: Mapping) -> str:
    """Say a row of :func:`check` in words."""
    what = f"{row['more']} more for {row['nodes']}" if row["more"] else "no more are needed"
    return f"AWS: {row['name']} ({row['code']}): {row['running']} of {row['limit']} vCPUs run, {what}: {'fits' if row['fits'] else 'does not fit'}"


def problem(row: Mapping, account: Account) -> str:
    """Say what is wrong with a row that does not fit."""
    return (
        f"the account {account.id} may run {row['limit']} vCPUs in {account.region} ({row['name']}, {row['code']}); {row['running']} run, "
        f"and the servers need {row['more']} more, for {row['nodes']}: ask Service Quotas for more, or choose other nodes (hardware_profile)"
    )


def _instances(account: Account) -> Iterator[tuple[str, str, set[str]]]:
    """Give of each instance that counts its type, how it is bought, and the clusters that its tags name."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    for reservation in account.pages("ec2", "describe_instances", "Reservations", Filters=filters):
        for instance in reservation["Instances"]:
            # A capacity block has been paid for, and dedicated hosts have quotas of their own.
            if (
                instance.get("InstanceLifecycle") == "capacity-block"
                or instance.get("Placement", {}).get("Tenancy") == "host"
            ):
                continue
            tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags") or []}
            clusters = {tags[key] for key in CLUSTER_TAGS if key in tags}
            clusters |= {key.removeprefix(OWNED) for key in tags if key.startswith(OWNED)}
            bought = SPOT if instance.get("InstanceLifecycle") == "spot" else ON_DEMAND
            yield instance["InstanceType"], bought, clusters


def _vcpus(account: Account, types: list[str]) -> dict[str, int]:
    """Tell how many vCPUs a quota counts for each type, whatever an instance switched off."""
    # No more are taken in one request.
    parts = [types[start : start + 100] for start in range(0, len(types), 100)]
    found = [
        item
        for part in parts
        for item in account.pages("ec2", "describe_instance_types", "InstanceTypes", InstanceTypes=part)
    ]
    return {item["InstanceType"]: item["VCpuInfo"]["DefaultVCpus"] for item in found}


def _limit(account: Account, quota: Quota) -> int | None:
    """Read a quota; of one that was never changed Service Quotas knows only what every account has."""
    asked = {"ServiceCode": "ec2", "QuotaCode": quota.code}
    for operation in ("get_service_quota", "get_aws_default_service_quota"):
        if found := account.find("service-quotas", operation, **asked):
            return int(found["Quota"]["Value"])
    return None
