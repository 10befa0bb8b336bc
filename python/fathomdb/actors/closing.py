"""Closing embedders that the engine built: it never waits for one, and never fails by one."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from fathomdb.actors.actor import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from fathomdb.embedders.protocol import Embedder


def begin_close(
    embedder: Embedder, wait_idle: Callable[[], None] | None = None
) -> threading.Thread | None:
    """Calls the embedder's ``close`` on a thread of its own; None where there is nothing to call.

    What it raises is logged by its type alone: the message may hold an address or a key.

    Args:
        embedder: One that nobody else has.
        wait_idle: Returns once nothing is inside the embedder, however long that takes.
    """
    close = getattr(embedder, "close", None)
    if close is None:
        return None

    def run() -> None:
        if wait_idle is not None:
            wait_idle()
        try:
            close()
        except Exception as error:
            logger.warning(
                "close() of the embedder %s raised %s",
                type(embedder).__name__,
                type(error).__name__,
            )

    thread = threading.Thread(target=run, name="fathomdb-close-embedder", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # From 3.12 on no thread starts once the interpreter ends; the process frees it all soon.
        logger.debug("the interpreter ends: %s is not closed", type(embedder).__name__)
        return None
    return thread
