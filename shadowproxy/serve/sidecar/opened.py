"""What is opened whole or not at all, and is closed in the reverse order."""

from abc import ABC, abstractmethod
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self


class Opened(ABC):
    """Use as `async with`. Subclasses open what they own in `_open`."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    @abstractmethod
    async def _open(self, stack: AsyncExitStack) -> None:
        """Open everything, and push what closes it onto `stack`."""

    def _begin_closing(self) -> None:  # noqa: B027  # mostly there is nothing to do
        """Called before the first of it is closed."""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._begin_closing()
        await self._stack.aclose()
