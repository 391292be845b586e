"""Plans the OIDC providers of a cluster: its issuer's, and what is left of those before it; never sends a write."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws import iam, names, policies
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import DENIED, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.ownership import (
    MANAGED_BY,
    cluster_tags,
    is_ours,
    pairs_of,
    tags_of,
)
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.plan import Tagged

KIND = "open_id_connect_provider"


class _Providers(Tagged):
    def _arn(self) -> str:
        """Name the provider of the cluster's issuer; nothing where the issuer is not known."""
        issuer = self.options["oidc_issuer"]
        return names.provider_arn(issuer, self.account.id, self.account.partition) if issuer else ""

    def _needed(self) -> bool:
        return self.present and not self.options["pod_identity"] and bool(self.here())


class Provider(_Providers):
    """The OIDC provider of a cluster's issuer, where somebody needs it."""

    def compare(self) -> None:
        """See Part."""
        if self._needed():
            arn = self._arn()
            live = self.account.find("iam", f"get_{KIND}", OpenIDConnectProviderArn=arn)
            self._ensure(arn, live, tags_of((live or {}).get("Tags")))

    def _ensure(self, arn: str, live: Mapping | None, tags: Mapping[str, str]) -> None:
        if live is None:
            arguments = {
                "Url": self.options["oidc_issuer"],
                "ClientIDList": [policies.AUDIENCE],
                "Tags": pairs_of(self.tags),
            }
            self.write(
                "iam",
                "create_open_id_connect_provider",
                arguments,
                f"create OIDC provider {arn}",
                ("delete_open_id_connect_provider", {"OpenIDConnectProviderArn": arn}),
                after={"url": self.options["oidc_issuer"], "audiences": [policies.AUDIENCE], "tags": self.tags},
            )
            return
        audiences = live.get("ClientIDList") or []
        adopted = self.owned(arn, tags)
        if policies.AUDIENCE not in audiences:
            # Without the audience it is of no use, and it is not ours to change.
            if not adopted and not self.may_touch("OIDC provider", arn, tags):
                return
            arguments = {"OpenIDConnectProviderArn": arn, "ClientID": policies.AUDIENCE}
            self.write(
                "iam",
                "add_client_id_to_open_id_connect_provider",
                arguments,
                f"change OIDC provider {arn}: audience {policies.AUDIENCE}",
                ("remove_client_id_from_open_id_connect_provider", arguments),
                before={"audiences": audiences},
                after={"audiences": [*audiences, policies.AUDIENCE]},
            )
        if not adopted and self.tag in tags:
            self.note_untagged("OIDC provider", arn, "=".join(MANAGED_BY))
        if adopted:
            self._note_others(arn, live)
            self.note_tags(f"OIDC provider {arn}", tags)
            key, name, missing = {"OpenIDConnectProviderArn": arn}, f"OIDC provider {arn}", self.missing_tags(tags)
            self._tag(KIND, key, name, tags, missing)
            # It is this cluster's issuer, so what 0.1.0 wrote means this cluster too.
            self._untag(KIND, key, name, {**tags, **missing}, {self.owner.old_tag} & tags.keys())

    def _note_others(self, arn: str, live: Mapping) -> None:
        """Say what somebody added: roles of others may need it, and ours do not accept it.

        IAM takes one thumbprint at creation, and looks at it only where no public authority has signed the issuer's certificate
        (IAM API reference, CreateOpenIDConnectProvider).
        """
        audiences = sorted({*live.get("ClientIDList", [])} - {policies.AUDIENCE})
        if audiences:
            self.plan.notices.append(
                f"OIDC provider {arn} lists audiences that no run adds: {', '.join(audiences)}: kept, since roles of others may accept them "
                "(ours do not). If none does, remove them (aws iam remove-client-id-from-open-id-connect-provider)"
            )
        thumbprints = live.get("ThumbprintList") or []
        if len(thumbprints) > 1:
            self.plan.notices.append(
                f"OIDC provider {arn} has {len(thumbprints)} thumbprints, and IAM takes one when it is made: {', '.join(thumbprints)}: "
                "kept. They count only if the issuer's certificate is of no public authority; remove those that are not the issuer's"
            )


class OldProviders(_Providers):
    """The providers that are ours and that nobody needs: of an issuer that the cluster no longer has, or when it needs none.

    Comes after the roles, which say whom they trust when the run is done.
    """

    def compare(self) -> None:
        """See Part."""
        mine = self._trusted() | ({self._arn()} if self._arn() else set())
        for arn in sorted(mine | self._listed()):
            if arn == self._arn() and self._needed():
                continue
            live = self._read(arn)
            tags = tags_of((live or {}).get("Tags"))
            # 0.1.0's tag says no more than a name: it means this cluster where its own statements name the provider.
            own = ({self.tag} | ({self.owner.old_tag} if arn in mine else set())) & tags.keys()
            # One that names no cluster is this one's if its issuer is.
            if live is None or not (own or (arn in mine and is_ours(tags) and not cluster_tags(tags))):
                continue
            if not self.owned(arn, tags):
                self.note_untagged("OIDC provider", arn, "=".join(MANAGED_BY))
                continue
            if cluster_tags(tags) - own:
                self._untag(KIND, {"OpenIDConnectProviderArn": arn}, f"OIDC provider {arn}", tags, own)
            elif self._may_go(arn):
                self._remove(arn, live, tags)

    def _trusted(self) -> set[str]:
        """Name the providers that this cluster's statements trusted before the run."""
        statements = [item for before, _ in self.plan.trust.values() for item in iam.listed(before["Statement"])]
        mine = [item.get("Principal") for item in statements if item.get("Sid") == self.owner.sid]
        federated = [name for who in mine if isinstance(who, Mapping) for name in iam.listed(who.get("Federated", []))]
        return {name for name in federated if ":oidc-provider/" in name}

    def _listed(self) -> set[str]:
        try:
            return {item["Arn"] for item in self.account.call("iam", f"list_{KIND}s")["OpenIDConnectProviderList"]}
        except AwsError as error:
            if error.code not in DENIED:
                raise
            self.plan.notices.append(f"{error}. A provider of an issuer that the cluster no longer has is not found")
            return set()

    def _read(self, arn: str) -> Mapping | None:
        try:
            return self.account.find("iam", f"get_{KIND}", OpenIDConnectProviderArn=arn)
        except AwsError as error:
            # Most are of others, and an operator need not let us read these.
            if error.code in DENIED and arn != self._arn():
                return None
            raise

    def _may_go(self, arn: str) -> bool:
        """Tell whether nobody trusts it when the run is done; note it where somebody does."""
        if self.present and arn != self._arn() and not self.options["prune"]:
            why = "the inventory no longer needs it: kept, because irsa_prune is false"
        elif self.plan.roles is None:
            why = "whether another role trusts it is not known: kept. Grant iam:ListRoles to remove it"
        else:
            trust = {role["Arn"]: role["AssumeRolePolicyDocument"] for role in self.plan.roles}
            trust |= {role: after for role, (_, after) in self.plan.trust.items()}
            others = sorted(
                names.role_name_of(role) for role, document in trust.items() if f'"{arn}"' in json.dumps(document)
            )
            if not others:
                return True
            why = f"kept, because other roles trust it: {', '.join(others)}"
        self.plan.notices.append(f"OIDC provider {arn}: {why}")
        return False

    def _remove(self, arn: str, live: Mapping, tags: Mapping[str, str]) -> None:
        again = {
            "Url": f"https://{live['Url'].removeprefix('https://')}",
            "ClientIDList": live.get("ClientIDList") or [],
            "ThumbprintList": live.get("ThumbprintList") or [],
            "Tags": pairs_of(tags),
        }
        self.write(
            "iam",
            "delete_open_id_connect_provider",
            {"OpenIDConnectProviderArn": arn},
            f"delete OIDC provider {arn}",
            ("create_open_id_connect_provider", again),
            before={"url": live["Url"], "audiences": live.get("ClientIDList"), "tags": dict(tags)},
        )
