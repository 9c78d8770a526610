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
    return {
        shadow.name: BudgetUsed(shadow.begun, shadow.budget_left, shadow.tokens, shadow.cost)
        for shadow in census.shadows
    }


def _with_budget(shadow: ShadowSpec, number: int, workers: int) -> ShadowSpec:
    cost = shadow.budget_cost
    return replace(
        shadow,
        budget_requests=_part(shadow.budget_requests, number, workers),
        budget_tokens=_part(shadow.budget_tokens, number, workers),
        budget_cost=None if cost is None else cost / workers,
    )


def _part(whole: int | None, number: int, workers: int) -> int | None:
    if whole is None:
        return None
    each, over = divmod(whole, workers)
    return each + (number < over)
