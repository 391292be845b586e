"""Runs the modules of awx.awx in the test's own process, against a stand-in of AWX: a play would start an interpreter for each."""

import importlib
import sys
import types
from pathlib import Path

from awx_action import called
from services import python_of


def collections() -> str:
    """The folder for ANSIBLE_COLLECTIONS_PATH that has awx.awx."""
    return str(next(python_of("awx").parent.parent.glob("lib/python3*/site-packages")))


def quick(folder: Path) -> str:
    """A folder for ANSIBLE_COLLECTIONS_PATH with awx.awx, whose modules Ansible's worker itself runs (awx_action.py)."""
    original, made = (
        Path(collections()) / "ansible_collections" / "awx" / "awx",
        folder / "ansible_collections" / "awx" / "awx",
    )
    (made / "plugins" / "action").mkdir(parents=True)
    for part in [*original.iterdir(), *(original / "plugins").iterdir()]:
        if part.name != "plugins":
            (made / part.relative_to(original)).symlink_to(part)
    for module in (original / "plugins" / "modules").glob("[a-z]*.py"):
        (made / "plugins" / "action" / module.name).symlink_to(Path(__file__).with_name("awx_action.py"))
    return str(folder)


def run(awx, module: str, check: bool = False, login: bool = False, **arguments) -> dict:
    """One call of a module.

    Args:
        awx: the stand-in. module: its name below awx.awx. check: in check mode. login: with user and password.

    Returns:
        what the module returns.
    """
    if "awx_awx" not in sys.modules:
        package = types.ModuleType("awx_awx")
        package.__path__ = [f"{collections()}/ansible_collections/awx/awx"]
        sys.modules["awx_awx"] = package
    main = importlib.import_module(f"awx_awx.plugins.modules.{module}").main
    access = (
        {"controller_username": "admin", "controller_password": awx.password}
        if login
        else {"controller_oauthtoken": awx.token}
    )
    arguments = {"controller_host": awx.url, **access, **arguments, "_ansible_check_mode": check}
    return called(main, arguments)
