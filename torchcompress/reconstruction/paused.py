"""A function that stops in the middle and goes on later, as a forward pass at a layer."""

import threading
from collections.abc import Callable
from typing import Any


class _Abandoned(BaseException):
    """Ends a paused function that nobody waits for."""


class Paused:
    """Runs a function in a thread of its own, in turns with the caller: never both at once.

    Args:
        function: What to run; it calls `pause` with what it has to say.
    """

    def __init__(self, function: Callable[["Paused"], None]) -> None:
        self._function = function
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._value: Any = None
        self._error: BaseException | None = None
        self._closing = False
        self._done = False
        self._thread = threading.Thread(target=self._work, daemon=True)

    @property
    def is_here(self) -> bool:
        """Whether the caller is the function."""
        return threading.current_thread() is self._thread

    def pause(self, value: Any) -> None:
        """Stops until the caller wants more; called by the function.

        Args:
            value: What `advance` returns to the caller.
        """
        self._value = value
        self._stopped.release()
        self._go.acquire()
        if self._closing:
            raise _Abandoned

    def advance(self) -> Any:
        """Runs the function up to its next pause and returns what it said there; None at its end.

        An error of the function is raised here.
        """
        if self._done:
            return None
        self._value = None
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        self._stopped.acquire()
        if self._error is not None:
            raise self._error
        return self._value

    def close(self) -> None:
        """Ends the function where it stands."""
        if self._thread.ident is not None and not self._done:
            self._closing = True
            self._go.release()
            self._thread.join()

    def _work(self) -> None:
        try:
            self._function(self)
        except _Abandoned:
            pass
        except BaseException as error:  # Raised again in the thread of the caller.
            self._error = error
        self._value, self._done = None, True
        self._stopped.release()
