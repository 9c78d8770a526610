"""The generation in force, and those before it that still have exchanges under way."""

import asyncio
from collections.abc import Callable

from shadowproxy.config import Config
from shadowproxy.exchange import Exchange
from shadowproxy.serve.journal.queue import Encode
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.shadow import ShadowCounts
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.contexts import Contexts
from shadowproxy.serve.sidecar.generation import Generation, Seen, Trace
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering


class Generations:
    """Builds each generation from the one before, and owns the endpoints of all that are alive: end with `aclose`.

    `writer`, `append`, `seen` and `trace` are as in `generation.build`. Each shadow's counts are kept here under
    its name, so that they outlive every generation.
    """

    def __init__(
        self, *, writer: str, append: Callable[[Exchange, Encode], object], seen: Seen, trace: Trace | None
    ) -> None:
        self._writer = writer
        self._append = append
        self._seen = seen
        self._trace = trace
        self._alive: list[Generation] = []
        self._counts: dict[str, ShadowCounts] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Generation | None:
        """The one in force; None before the first `add`."""
        return self._alive[-1] if self._alive else None

    def __len__(self) -> int:
        """How many are alive."""
        return len(self._alive)

    def build(self, config: Config, contexts: Contexts, steering: Steering) -> Generation:
        """The generation that would follow. It is in force only after `add`."""
        return self._built(config, contexts, steering, self._counts)

    def try_out(self, config: Config, contexts: Contexts) -> None:
        """Build a generation and leave nothing of it behind. Raises whatever building raises."""
        self._built(config, contexts, UNSTEERED, {})

    def add(self, new: Generation) -> None:
        """Make `new` the one in force."""
        self._alive.append(new)

    def retire(self, before: Generation, mirror: Mirror) -> None:
        """Close what only `before` uses, once its last exchange is settled. Returns at once."""
        task = asyncio.get_running_loop().create_task(self._retire(before, mirror))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def aclose(self) -> None:
        """Close every endpoint. The mirror has settled every exchange by then."""
        if self._retiring:
            await asyncio.wait(self._retiring)
        for endpoint in {endpoint for each in self._alive for endpoint in each.endpoints.values()}:
            await endpoint.aclose()

    def _built(
        self, config: Config, contexts: Contexts, steering: Steering, counts: dict[str, ShadowCounts]
    ) -> Generation:
        return generation.build(
            config,
            contexts,
            writer=self._writer,
            append=self._append,
            seen=self._seen if config.admin is not None else lambda line, verdicts: None,
            counts=counts,
            now=asyncio.get_running_loop().time(),
            steering=steering,
            before=self.current,
            trace=self._trace,
        )

    async def _retire(self, before: Generation, mirror: Mirror) -> None:
        await mirror.wait_ended(before.plan)
        self._alive.remove(before)
        in_use = {endpoint for each in self._alive for endpoint in each.endpoints.values()}
        for endpoint in {*before.endpoints.values()} - in_use:
            await endpoint.aclose()
