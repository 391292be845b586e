"""The AWS accounts of one report, each with its own credential; never asks more of one than who it is."""

from __future__ import annotations

from collections.abc import Mapping

from ansible_collections.modelyard.core.plugins.plugin_utils.aws.account import Account, AwsError
from ansible_collections.modelyard.core.plugins.plugin_utils.aws.names import ACCOUNT


class Accounts:
    """The accounts that there is a credential for; one is asked for when it is first needed.

    Args:
        first: the account of the run's own credential.
        profiles: profiles of the shared AWS configuration, by the account that each leads to.
    """

    def __init__(self, first: Account, profiles: Mapping[str, str]) -> None:
        self.first, self.profiles = first, profiles
        self._found: dict[str, Account | AwsError] = {first.id: first}

    def of(self, account: str) -> Account:
        """Give an account.

        Args:
            account: 12 digits.

        Raises:
            AwsError: there is no credential for it, or it leads elsewhere.
        """
        if account not in self._found:
            self._found[account] = self._ask(account)
        found = self._found[account]
        if isinstance(found, AwsError):
            raise found
        return found

    def nearest(self, account: str, other: Account) -> Account:
        """Give an account, or the one that may have been granted something by it."""
        try:
            return self.of(account)
        except AwsError:
            return other

    def _ask(self, account: str) -> Account | AwsError:
        profile = self.profiles.get(account)
        if not profile:
            wrong = [key for key in self.profiles if not ACCOUNT.fullmatch(key)]
            hint = f"{wrong[0]!r} in irsa_aws_profiles is no account: put 12 digits in quotes" if wrong else ""
            mend = hint or f"give irsa_aws_profiles a profile of the AWS configuration for '{account}'"
            return AwsError(f"there is no credential for the account {account}, only for {self.first.id}: {mend}")
        try:
            found = Account(profile, self.first.region)
        except AwsError as error:
            return AwsError(f"irsa_aws_profiles.{account}: {str(error).removeprefix('irsa_aws_profile: ')}")
        if found.id != account:
            return AwsError(f"irsa_aws_profiles.{account}: the profile {profile} leads to the account {found.id}")
        return found
