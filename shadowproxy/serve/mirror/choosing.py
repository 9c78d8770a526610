"""Chooses the shadows for a request, and warns about choices that are likely unintended.

A request that is not chosen for a shadow leaves no trace in the log, so each is counted under its reason. Three causes
are likely unintended and logged once: a method that is not repeated unless it is named, a body that cannot be read, and
sampling keys that repeat.
"""

import logging

from shadowproxy.exchange import Request
from shadowproxy.serve.mirror.lane import Lane, MirrorPlan
from shadowproxy.serve.policy.not_chosen import NotChosen
from shadowproxy.serve.policy.payload import JsonBody, NotRead
from shadowproxy.serve.policy.sampling import WINDOW, KeyRepeats

_log = logging.getLogger(__name__)


class Chooser:
    """Chooses, and remembers which warnings it has logged. `keys` counts how often the sampling keys repeat."""

    def __init__(self) -> None:
        self.keys = KeyRepeats()
        self._keys_logged = False

    def start_over(self) -> None:
        """Another configuration is in force: count its sampling keys from the start, and warn about them again."""
        self.keys.start_over()
        self._keys_logged = False

    def choose(self, plan: MirrorPlan, request: Request, held_out: list[Lane]) -> list[Lane]:
        """The lanes of the shadows that this request is chosen for, the control's last. Never waits.

        `held_out` gets those from which it is held out.
        """
        body = JsonBody(request) if plan.reads_bodies else None
        chosen: list[Lane] = []
        position: float | None = None
        sampled: float | None = None
        aside: float | None = None
        for lane in plan.lanes:
            if lane.hold_out > 0.0 and plan.hold_out_position is not None:
                if aside is None:
                    aside = plan.hold_out_position(request, body)
                if aside < lane.hold_out:
                    if self._matches(lane, request, body, f"shadows.{lane.shadow.name}.match"):
                        lane.counts.not_chosen[NotChosen.HELD_OUT] += 1
                        held_out.append(lane)
                    continue
            if lane.percent < 100.0:  # else there is nothing to sample
                if position is None:
                    position = plan.position(request, body)
                if lane.percent > 0.0:  # 0 is off, whether keys repeat or not
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
            self._warn_of_repeated_keys(plan, few)
        return chosen

    def _matches(self, lane: Lane, request: Request, body: JsonBody | None, key: str) -> bool:
        """Whether the lane's shadow gets such requests; if not, count the reason. `key` names its configuration."""
        reason = lane.shadow.match.reason_not_chosen(request, body)
        if reason is None:
            return True
        lane.counts.not_chosen[reason] += 1
        if reason is NotChosen.METHOD:
            self._log_method(lane, request, key)
        elif reason is NotChosen.UNREAD_BODY:
            self._warn_of_unread_body(lane, request, body or JsonBody(request), key)
        return False

    def _log_method(self, lane: Lane, request: Request, key: str) -> None:
        shadow = lane.shadow
        if lane.method_logged or not shadow.repeats_by_default:
            return
        lane.method_logged = True
        _log.info(
            "%s requests are not mirrored to %s, because that could repeat their effects; "
            "to mirror them, add the method to %s.methods",
            request.method,
            shadow.name,
            key,
            extra={"event": "method_not_mirrored", "shadow": shadow.name, "request_id": request.id},
        )

    def _warn_of_unread_body(self, lane: Lane, request: Request, body: JsonBody, key: str) -> None:
        if lane.unread_body_logged:
            return
        lane.unread_body_logged = True
        try:
            body.value()
        except NotRead as why:
            _log.warning(
                "shadow %s does not get a request: %s depends on its JSON, which cannot be read: %s",
                lane.shadow.name,
                key,
                why,
                extra={"event": "body_not_read", "shadow": lane.shadow.name, "request_id": request.id},
            )

    def _warn_of_repeated_keys(self, plan: MirrorPlan, few: int) -> None:
        if self._keys_logged:
            return
        self._keys_logged = True
        by_id = plan.sampling_key == "request_id"
        _log.warning(
            "the last %d requests had %s in all (sampling.key: %s), and percent chooses by the key alone: a shadow "
            "gets all requests with the same key or none of them; %s",
            WINDOW,
            "one sampling key" if few == 1 else f"{few} sampling keys",
            plan.sampling_key,
            "have callers send a different request ID each time, or set another sampling.key"
            if by_id
            else "set a sampling.key that tells requests apart",
            extra={"event": "sampling_keys_repeated", "keys": few, "requests": WINDOW, "key": plan.sampling_key},
        )
