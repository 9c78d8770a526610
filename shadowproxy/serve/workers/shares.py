"""A worker's share of the configuration, and the used part of its budgets."""

from dataclasses import replace

from shadowproxy.config import Budget, Config
from shadowproxy.serve.admin.census import Census
from shadowproxy.serve.sidecar.share import BudgetUsed


def share(config: Config, number: int) -> Config:
    """The configuration for worker `number`, so that all workers together keep to `config`.

    Memory and budgets are shared out evenly; the remainder of a budget goes to the first workers.
    """
    workers = config.workers
    return replace(
        config,
        workers=1,
        limits=replace(config.limits, memory=config.limits.memory // workers),
        shadows={
            name: replace(shadow, budget=_budget(shadow.budget, number, workers))
            for name, shadow in config.shadows.items()
        },
    )


def used(census: Census | None) -> dict[str, BudgetUsed]:
    """The used part of the budgets of a worker with these counts."""
    shadows = census.shadows if census is not None else ()
    return {shadow.name: BudgetUsed(shadow.begun, shadow.budget_left) for shadow in shadows}


def _budget(budget: Budget, number: int, workers: int) -> Budget:
    if budget.requests is None:
        return budget
    each, over = divmod(budget.requests, workers)
    return replace(budget, requests=each + (number < over))
