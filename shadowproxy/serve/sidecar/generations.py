"""The generation in force, and those before it that still have exchanges under way."""

import asyncio
from collections.abc import Callable

from shadowproxy.exchange import Exchange
from shadowproxy.serve.candidates.registry import Candidates
from shadowproxy.serve.mirror.dispatch import Mirror
from shadowproxy.serve.mirror.shadow import ShadowCounts
from shadowproxy.serve.sidecar import generation
from shadowproxy.serve.sidecar.contexts import Contexts
from shadowproxy.serve.sidecar.generation import Generation
from shadowproxy.serve.sidecar.specs import LiveSpec
from shadowproxy.serve.sidecar.steering import UNSTEERED, Steering


class Generations:
    """Builds each generation from the one before, and owns the endpoints of all that are alive: end with `aclose`.

    `append` gets each settled exchange, with the number of the generation under which it began. Each shadow's counts
    are kept in `counts` under its name, so that they outlive every generation. `on_retire` is called when
    one has ended.
    """

    def __init__(
        self,
        append: Callable[[Exchange, int], object],
        on_retire: Callable[[], object],
        candidates: Candidates | None = None,
    ) -> None:
        self.counts: dict[str, ShadowCounts] = {}
        self._append = append
        self._on_retire = on_retire
        self._candidates = candidates
        self._alive: list[Generation] = []
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def current(self) -> Generation | None:
        """The one in force; None before the first `add`."""
        return self._alive[-1] if self._alive else None

    @property
    def oldest(self) -> int:
        """The number of the oldest one under which an exchange may still settle."""
        return min((each.spec.generation for each in self._alive), default=1)

    def __len__(self) -> int:
        """How many are alive."""
        return len(self._alive)

    def build(self, spec: LiveSpec, contexts: Contexts, steering: Steering) -> Generation:
        """The generation that would follow. It is in force only after `add`."""
        return self._built(spec, contexts, steering, self.counts)

    def try_out(self, spec: LiveSpec, contexts: Contexts) -> None:
        """Build a generation and leave nothing of it behind. Raises whatever building raises."""
        self._built(spec, contexts, UNSTEERED, {})

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
        self, spec: LiveSpec, contexts: Contexts, steering: Steering, counts: dict[str, ShadowCounts]
    ) -> Generation:
        return generation.build(
            spec,
            contexts,
            append=lambda exchange: self._append(exchange, spec.generation),
            counts=counts,
            now=asyncio.get_running_loop().time(),
            steering=steering,
            before=self.current,
            candidates=self._candidates,
        )

    async def _retire(self, before: Generation, mirror: Mirror) -> None:
        await mirror.wait_ended(before.plan)
        self._alive.remove(before)
        self._on_retire()
        in_use = {endpoint for each in self._alive for endpoint in each.endpoints.values()}
        for endpoint in {*before.endpoints.values()} - in_use:
            await endpoint.aclose()
