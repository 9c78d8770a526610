"""A worker's share of the configuration, and the used part of its budgets."""

from dataclasses import replace

from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.sidecar.share import BudgetUsed
from shadowproxy.serve.sidecar.specs import ShadowSpec, Specs


def share(specs: Specs, number: int) -> Specs:
    """The specs for worker `number`, so that all workers together keep to `specs`.

    Memory and budgets are shared out evenly; the remainder of a budget goes to the first workers.
    """
    workers = specs.program.workers
    memory = specs.live.memory // workers
    return replace(
        specs,
        live=replace(
            specs.live,
            memory=memory,
            shadows={name: _with_budget(shadow, number, workers) for name, shadow in specs.live.shadows.items()},
        ),
        recorder=replace(specs.recorder, journal=replace(specs.recorder.journal, queue_bytes=memory)),
    )


def used(census: Census | None) -> dict[str, BudgetUsed]:
    """The used part of the budgets of a worker with these counts."""
    shadows = census.shadows if census is not None else ()
    return {shadow.name: BudgetUsed(shadow.begun, shadow.budget_left) for shadow in shadows}


def _with_budget(shadow: ShadowSpec, number: int, workers: int) -> ShadowSpec:
    if shadow.budget_requests is None:
        return shadow
    each, over = divmod(shadow.budget_requests, workers)
    return replace(shadow, budget_requests=each + (number < over))
