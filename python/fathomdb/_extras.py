"""Optional packages: imported where they are used, and named in the error when they are missing."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from fathomdb.errors import MissingExtraError

if TYPE_CHECKING:
    from types import ModuleType

DISTRIBUTION = "fathomdb-py"
"""The name on the package index, for everything that tells a person what to install."""


def install_command(extra: str) -> str:
    """The command that installs ``extra``."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


def require(module: str, extra: str) -> ModuleType:
    """Import ``module``, which the extra ``extra`` brings.

    Raises:
        MissingExtraError: The module is not installed. A module that is there but fails to import
            raises its own error.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A module that is missing something of its own is broken, not absent.
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise MissingExtraError(
            f"{module} is not installed; run: {install_command(extra)}"
        ) from error
