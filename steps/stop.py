"""Whether what runs is to end, as a signal's handler may say it."""


class Stop:
    """A flag without a lock: the thread that a handler interrupts may hold a threading.Event's, and would wait."""

    def __init__(self) -> None:
        self._set = False

    def set(self) -> None:
        """Say that it is to end."""
        self._set = True

    def is_set(self) -> bool:
        """Tell whether that was said."""
        return self._set
