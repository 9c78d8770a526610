"""A live process's share of the configuration, and the used part of its budgets."""

from dataclasses import replace

from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.sidecar.share import BudgetUsed
from shadowproxy.serve.sidecar.specs import LiveSpec, ShadowSpec, Specs


def share(specs: Specs, number: int) -> LiveSpec:
    """The spec for live process `number`, so that all of them together keep to `specs`.

    Memory and budgets are shared out evenly; the remainder of a budget goes to the first ones.
    """
    live, workers = specs.live, specs.program.workers
    shadows = {name: _with_budget(shadow, number, workers) for name, shadow in live.shadows.items()}
    return replace(live, memory=live.memory // workers, shadows=shadows)


def used(census: Census) -> dict[str, BudgetUsed]:
    """The used part of the budgets of a live process with these counts."""
    return {shadow.name: BudgetUsed(shadow.begun, shadow.budget_left) for shadow in census.shadows}


def _with_budget(shadow: ShadowSpec, number: int, workers: int) -> ShadowSpec:
    if shadow.budget_requests is None:
        return shadow
    each, over = divmod(shadow.budget_requests, workers)
    return replace(shadow, budget_requests=each + (number < over))
