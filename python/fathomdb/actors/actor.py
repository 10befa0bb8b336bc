"""What every actor is: one named thread that starts, loops over its own work, and stops."""

from __future__ import annotations

import logging
import threading

logger = logging.getLogger("fathomdb")


class Actor:
    """One thread with a name; subclasses say what it does in ``_run``.

    The thread is a daemon: a program that forgets to close its engine must not hang at exit. The
    engine's finalizer still closes it in order, since daemon threads run until the very end.
    """

    def __init__(self, name: str) -> None:
        self._thread = threading.Thread(target=self._main, name=f"fathomdb-{name}", daemon=True)
        self._crash: BaseException | None = None

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def join(self, timeout_seconds: float) -> bool:
        """Waits for the thread to end; False where it did not in time."""
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def crash(self) -> BaseException | None:
        """What ended the thread against its will, or None."""
        return self._crash

    def _main(self) -> None:
        try:
            self._run()
        except BaseException as error:
            # Never started again by itself: an actor that dies at once would only die again.
            self._crash = error
            logger.exception("%s stopped after an unexpected error", self._thread.name)
            self._crashed(error)

    def _run(self) -> None:
        raise NotImplementedError

    def _crashed(self, error: BaseException) -> None:
        """Answers whoever waits for this actor."""
