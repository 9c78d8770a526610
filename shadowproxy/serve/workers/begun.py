"""What is begun before the configuration is known: a live process imports its modules while another reads the file.

Callers wait for both. One after the other, a start took half as long again.
"""

import os

from shadowproxy.serve.callers.board import shared_memory
from shadowproxy.serve.workers.launching import Launched, launch

LIVE = "shadowproxy.serve.workers.live"


class Begun:
    """Owns `memory`, in which live processes note how many connections they have, and the first of them until it ends.

    Raises OSError. End with `close`, once all live processes have ended.
    """

    def __init__(self) -> None:
        self.memory = shared_memory()
        try:
            self._first = launch(LIVE, self.memory)
        except OSError:
            os.close(self.memory)
            raise
        self._is_taken = False

    def __repr__(self) -> str:
        return f"<Begun {self._first.process.pid}>"

    def launch_live(self) -> Launched:
        """A live process that waits for its start; the first one runs by now. Raises OSError."""
        if self._is_taken:
            return launch(LIVE, self.memory)
        self._is_taken = True
        return self._first

    def close(self) -> None:
        self._first.close()
        os.close(self.memory)
