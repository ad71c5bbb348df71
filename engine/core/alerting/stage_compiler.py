"""Which stages a rule has: compiled when rules are loaded, in the order of `STAGES`. Read `StageCompiler.compile`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from engine.core.alerting.silences import Silences
from engine.core.alerting.stages import flapping, inhibition, silence, throttle, time_intervals, verification
from engine.core.alerting.stages.base import Stage
from engine.core.alerting.stages.flapping import FlappingStage
from engine.core.alerting.stages.inhibition import InhibitionStage, Inhibitors
from engine.core.alerting.stages.silence import SilenceStage
from engine.core.alerting.stages.throttle import Throttles, ThrottleStage
from engine.core.alerting.stages.time_intervals import TimeIntervalStage
from engine.core.alerting.stages.verification import Verification, VerificationStage
from engine.core.alerting.suppressions import Suppressions
from engine.core.alerting.template_variables import VariableSource
from engine.core.presence.client_state import ClientState
from engine.core.rules import Rule

STAGES: Final = (
    flapping.REASON,
    time_intervals.REASON,
    silence.REASON,
    inhibition.REASON,
    throttle.REASON,
    verification.REASON,
)
"""Every stage by its reason, in the order in which they are asked: the first that does not pass is the reason."""


class RuleStages:
    """A rule and its stages: `stages` are all in their order, the others are parts of them."""

    __slots__ = ("before_reminders", "counting", "one_by_one", "rule", "stages")

    def __init__(self, rule: Rule, stages: Sequence[Stage]) -> None:
        self.rule: Final = rule
        self.stages: Final = tuple(stages)
        self.one_by_one: Final = tuple([stage for stage in stages if not stage.counts_together])
        self.counting: Final = tuple([stage for stage in stages if stage.counts_together])
        self.before_reminders: Final = tuple([stage for stage in stages if stage.mutes_reminders])


class StageCompiler:
    """Every rule's stages, and what they share."""

    def __init__(
        self,
        *,
        silences: Silences,
        suppressions: Suppressions,
        inhibitors: Inhibitors,
        throttles: Throttles,
        verification: Verification,
        variables: VariableSource,
        state_of: Callable[[str], ClientState],
    ) -> None:
        self.flapping: Final = FlappingStage()
        self.intervals: dict[str, TimeIntervalStage] = {}  # by rule; one remembers what its intervals say
        self.silence: Final = SilenceStage(silences, suppressions, inhibitors.outages, inhibitors.quorums, state_of)
        self._verification: Final = VerificationStage(verification)
        self._silences = silences
        self._suppressions = suppressions
        self._inhibitors = inhibitors
        self._throttles = throttles
        self._variables = variables
        self._rules: dict[str, Rule] = {}
        self._compiled: dict[str, RuleStages] = {}

    def use(self, rules: dict[str, Rule]) -> None:
        """Work with these rules from now on."""
        self._rules = rules
        self.intervals = {
            name: TimeIntervalStage(rule, self._suppressions)
            for name, rule in rules.items()
            if time_intervals.is_needed(rule)
        }
        self.compile()

    def retire(self, rule: str) -> None:
        """The rule is gone for good."""
        self._compiled.pop(rule, None)
        self.intervals.pop(rule, None)

    def compile(self) -> None:
        """Make every rule's stages: when rules change, and when the first silence begins or the last one ends."""
        self._compiled = {name: RuleStages(rule, self._stages_of(rule)) for name, rule in self._rules.items()}

    def of(self, rule: str) -> RuleStages | None:
        """A rule and its stages; None for a rule that is not loaded."""
        return self._compiled.get(rule)

    def _stages_of(self, rule: Rule) -> list[Stage]:
        found = [self._stage_of(rule, reason) for reason in STAGES]
        return [stage for stage in found if stage is not None]

    def _stage_of(self, rule: Rule, reason: str) -> Stage | None:
        """One stage of a rule; None for one that it does not need."""
        if reason == flapping.REASON:
            return self.flapping if flapping.is_needed(rule) else None
        if reason == time_intervals.REASON:
            return self.intervals.get(rule.name)
        if reason == silence.REASON:
            return self.silence if self._silences.open else None
        if reason == inhibition.REASON:
            is_needed = bool(rule.inhibited_by or rule.parents or self._inhibitors.watches)
            return InhibitionStage(rule, self._inhibitors, self._suppressions) if is_needed else None
        if reason == throttle.REASON:
            terms = rule.throttle
            return ThrottleStage(rule, terms, self._throttles, self._variables) if terms is not None else None
        return self._verification if rule.verify else None
