"""All workers together keep to what the configuration says, and to what operators changed."""

from dataclasses import replace
from typing import Any

import pytest

from shadowproxy.config import from_values
from shadowproxy.exchange import CONTROL
from shadowproxy.serve.sidecar.specify import specify
from shadowproxy.serve.sidecar.specs import Specs
from shadowproxy.serve.sidecar.steering import Steering, SteeringCommands
from shadowproxy.serve.workers.shares import share


def specs(**more: Any) -> Specs:
    shadows = {"a": {"url": "http://127.0.0.1:2", "budget": {"requests": 7}}, "b": {"url": "http://127.0.0.1:3"}}
    return specify(from_values({"live": {"url": "http://127.0.0.1:1"}, "shadows": shadows, "workers": 3} | more))


def test_memory_and_budgets_are_shared_out_whole() -> None:
    shares = [share(specs(), number) for number in range(3)]
    assert [each.memory for each in shares] == [(256 << 20) // 3] * 3
    assert [each.shadows["a"].budget_requests for each in shares] == [3, 2, 2]
    assert {each.shadows["b"].budget_requests for each in shares} == {None}


def test_budgets_of_tokens_and_cost_are_shared_out() -> None:
    shadows = {"a": {"url": "http://127.0.0.1:2", "budget": {"tokens": 100, "cost": 6}}}
    shares = [share(specs(shadows=shadows), number).shadows["a"] for number in range(3)]
    assert [each.budget_tokens for each in shares] == [34, 33, 33]
    assert [each.budget_cost for each in shares] == [2.0, 2.0, 2.0]
    assert {each.budget_requests for each in shares} == {None}


def test_all_else_is_the_same_for_each() -> None:
    whole = specs()
    one = share(whole, 1)
    assert replace(one, memory=whole.live.memory, shadows=whole.live.shadows) == whole.live


def test_the_least_memory_that_is_allowed_is_enough_for_each_share() -> None:
    assert share(specs(limits={"memory": "24MiB"}), 2).capture == 8 << 20


@pytest.mark.parametrize(("percent", "told"), [(0, {"a", "b"}), (1, {"a", "b", CONTROL})])
def test_the_control_can_be_steered_where_there_is_one(percent: int, told: set[str]) -> None:
    assert specs(control={"percent": percent}).live.percents.keys() == told


def test_a_pause_is_of_one_or_of_all_and_each_ends_by_itself() -> None:
    both = Steering().with_pause("a", paused=True).with_pause(None, paused=True)
    assert both == Steering(paused=True, paused_shadows=frozenset({"a"}))
    assert both.with_pause(None, paused=False) == Steering(paused_shadows=frozenset({"a"}))
    assert both.with_pause("a", paused=False) == Steering(paused=True)


def test_a_percent_outlives_a_configuration_that_says_the_same_of_its_shadow() -> None:
    steered = Steering().with_percent("a", 5.0).with_percent("b", 6.0).with_pause("b", paused=True)
    before = specs().live.percents
    url = "http://127.0.0.1:9"
    after = specs(shadows={"a": {"url": url}, "b": {"url": url, "percent": 50}}).live.percents
    assert steered.under(after, before).percents == {"a": 5.0}
    assert steered.under(after, before).paused_shadows == {"b"}
    gone = specs(shadows={"a": {"url": url}}).live.percents
    assert steered.under(gone, before).paused_shadows == frozenset()


class Program:
    """A program that only remembers how it is steered."""

    def __init__(self) -> None:
        self.specs = specs()
        self.steering = Steering()

    async def steer(self, steering: Steering) -> None:
        self.steering = steering


async def test_every_command_of_an_operator_makes_one_new_steering() -> None:
    program = Program()
    commands = SteeringCommands(program)
    await commands.pause("a")
    await commands.pause(None)
    await commands.set_percent("b", 5.0)
    assert program.steering == Steering(paused=True, paused_shadows=frozenset({"a"}), percents={"b": 5.0})
    await commands.resume("a")
    await commands.resume(None)
    assert program.steering == Steering(percents={"b": 5.0})


async def test_a_command_for_a_shadow_that_does_not_exist_changes_nothing() -> None:
    program = Program()
    commands = SteeringCommands(program)
    for command in (commands.pause("x"), commands.resume("x"), commands.set_percent("x", 1.0)):
        with pytest.raises(KeyError):
            await command
    assert program.steering == Steering()
