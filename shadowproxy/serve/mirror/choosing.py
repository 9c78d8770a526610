"""Which shadows a request is chosen for, and what an operator is told of those that it is not.

A request that a shadow is not chosen for leaves no trace in the log, so each is counted under its reason; what was
likely not meant is told once: a method that is not repeated unless it is named, a body that cannot be looked into, and
sampling keys that are all alike.
"""

import logging

from shadowproxy.exchange import Request
from shadowproxy.serve.mirror.lane import Lane, MirrorPlan
from shadowproxy.serve.policy.payload import JsonBody, NotRead
from shadowproxy.serve.policy.sampling import WINDOW, Keys, NotChosen

_log = logging.getLogger(__name__)


class Choosing:
    """Chooses, and remembers what it has told. `keys` counts how well the sampling keys tell requests apart."""

    def __init__(self) -> None:
        self.keys = Keys()
        self._told_of_keys = False

    def start_over(self) -> None:
        """Another configuration is in force: what was told of the one before may be untrue of it."""
        self.keys.start_over()
        self._told_of_keys = False

    def lanes(self, plan: MirrorPlan, request: Request) -> list[Lane]:
        """The lanes that this request is for, the control's last. Never waits."""
        body = JsonBody(request) if plan.reads_bodies else None
        chosen: list[Lane] = []
        position: float | None = None
        sampled: float | None = None
        for lane in plan.lanes:
            if lane.percent < 100.0:  # else there is nothing to hash for
                if position is None:
                    position = plan.position(request, body)
                if lane.percent > 0.0:  # 0 is off, whatever the keys are
                    sampled = position
                if position >= lane.percent:
                    lane.counts.not_chosen[NotChosen.PERCENT] += 1
                    continue
            if self._matches(lane, request, body, f"shadows.{lane.shadow.name}.match"):
                chosen.append(lane)
        control = plan.control
        if control is not None and chosen:
            again = plan.control_position(request, body)
            if sampled is None and 0.0 < control.percent < 100.0:
                sampled = again
            if again >= control.percent:
                control.counts.not_chosen[NotChosen.PERCENT] += 1
            elif self._matches(control, request, body, "control"):
                chosen.append(control)
        if sampled is not None and (few := self.keys.add(sampled)) is not None:
            self._tell_of_keys(plan, few)
        return chosen

    def _matches(self, lane: Lane, request: Request, body: JsonBody | None, key: str) -> bool:
        """Whether a lane's shadow is asked such requests. `key` is where the configuration says so."""
        passed = lane.shadow.match.reason_not_chosen(request, body)
        if passed is None:
            return True
        lane.counts.not_chosen[passed] += 1
        if passed is NotChosen.METHOD:
            self._tell_of_method(lane, request, key)
        elif passed is NotChosen.UNREAD_BODY:
            self._tell_of_unread(lane, request, body or JsonBody(request), key)
        return False

    def _tell_of_method(self, lane: Lane, request: Request, key: str) -> None:
        shadow = lane.shadow
        if lane.told_of_method or not shadow.repeats_by_default:
            return
        lane.told_of_method = True
        _log.info(
            "%s requests are not repeated for %s: what they change would be changed twice; %s.methods can name them",
            request.method,
            shadow.name,
            key,
            extra={"event": "method_not_mirrored", "shadow": shadow.name, "request_id": request.id},
        )

    def _tell_of_unread(self, lane: Lane, request: Request, body: JsonBody, key: str) -> None:
        if lane.told_of_unread:
            return
        lane.told_of_unread = True
        try:
            body.value()
        except NotRead as why:
            _log.warning(
                "shadow %s is not asked a request whose JSON %s asks for and that cannot be read: %s",
                lane.shadow.name,
                key,
                why,
                extra={"event": "body_not_read", "shadow": lane.shadow.name, "request_id": request.id},
            )

    def _tell_of_keys(self, plan: MirrorPlan, few: int) -> None:
        if self._told_of_keys:
            return
        self._told_of_keys = True
        by_id = plan.sampling_key == "request_id"
        _log.warning(
            "the last %d requests had %s between them (sampling.key: %s), and percent chooses by that alone: shadows "
            "are asked all of such requests or none; %s",
            WINDOW,
            "one sampling key" if few == 1 else f"{few} sampling keys",
            plan.sampling_key,
            "have callers send another request ID each time, or set another sampling.key"
            if by_id
            else "set a sampling.key that tells requests apart",
            extra={"event": "sampling_keys_repeated", "keys": few, "requests": WINDOW, "key": plan.sampling_key},
        )
