"""Whom silences cover, counted: before one is made, and while it is open. Read `Covered`, then `Coverage`.

The time of a silence does not count here: what it covers now is what it would keep back if it were on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from engine.core.alerting.alert import Alert
from engine.core.alerting.silences import Silence, Silences
from engine.core.matching import Attributes, CompilePatterns, MatchSet
from engine.core.presence.client_state import ClientState
from engine.core.rules import WITHOUT_CLIENTS, Match, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """What a silence covers now: clients that its rules could concern, open alerts, and rules in force that it names (all without `rule`)."""

    clients: int
    alerts: int
    rules: int

    def added(self, other: Covered) -> Covered:
        """Together with what it covers in another fleet, which has the same rules."""
        return Covered(clients=self.clients + other.clients, alerts=self.alerts + other.alerts, rules=self.rules)


class Coverage:
    """Counts for several silences at once: one look at each client and each alert."""

    def __init__(
        self,
        silences: Sequence[Silence],
        rules: Sequence[Rule],
        attributes: Attributes,
        compile_patterns: CompilePatterns,
    ) -> None:
        """`rules`: those in force."""
        self._silences = Silences()
        self._silences.set(silences, attributes, compile_patterns)
        self._rules = rules
        about_clients = [rule for rule in rules if not WITHOUT_CLIENTS.issuperset(rule.triggers)]
        matches = sorted({rule.match for rule in about_clients}, key=repr)
        self._rule_matches = MatchSet(matches, attributes, compile_patterns)
        self._rule_masks = [0] * len(matches)  # for each match of rules, the silences that name one of its rules
        for rule in about_clients:
            self._rule_masks[matches.index(rule.match)] |= self._silences.mask_of_rule(rule.name)
        self._of_some = 0  # silences that are for some rules only
        for index, silence in enumerate(self._silences.listed):
            if silence.rules:
                self._of_some |= 1 << index
        self._reads_no_client = matches in ([], [Match()])
        self._clients: dict[int, int] = {}  # by the mask of silences
        self._alerts: dict[int, int] = {}

    def count_clients(self, clients: Iterable[tuple[str, str]]) -> None:
        """Look at clients: (id, `ip:port`) of each."""
        counts: dict[tuple[int, int], int] = {}
        whole = (1 << len(self._rule_masks)) - 1
        for client, ip in clients:
            mask = self._silences.mask_of_client(client, ip)
            if mask:
                needs_rules = mask & self._of_some and not self._reads_no_client
                pair = (mask, self._rule_matches.mask(client, ip) if needs_rules else whole)
                counts[pair] = counts.get(pair, 0) + 1
        for (mask, rules), count in counts.items():
            named = 0
            for index, of_rules in enumerate(self._rule_masks):
                if rules >> index & 1:
                    named |= of_rules
            covering = mask & (named | ~self._of_some)
            self._clients[covering] = self._clients.get(covering, 0) + count

    def count_alerts(
        self,
        alerts: Iterable[Alert],
        state_of: Callable[[str], ClientState],
        clients_of: Callable[[Alert], Iterable[tuple[str, str]]],
    ) -> None:
        """Look at open alerts; `clients_of` says which clients (id, `ip:port`) an alert about a key is about."""
        silences = self._silences
        for alert in alerts:
            if alert.client is not None:
                mask = silences.mask_of_rule(alert.rule)
                mask &= silences.mask_of_client(alert.client, state_of(alert.client).ip)
            else:
                mask = silences.mask_by_key(alert.rule, alert.shown_key or {})
                mask |= silences.mask_by_clients(alert.rule, clients_of(alert))
            self._alerts[mask] = self._alerts.get(mask, 0) + 1

    def covered(self) -> dict[str, Covered]:
        """What was counted, by the id of each silence."""
        named = [self._silences.mask_of_rule(rule.name) for rule in self._rules]
        return {
            silence.id: Covered(
                clients=_of(self._clients, index),
                alerts=_of(self._alerts, index),
                rules=sum([mask >> index & 1 for mask in named]),
            )
            for index, silence in enumerate(self._silences.listed)
        }


def _of(counts: Mapping[int, int], index: int) -> int:
    """What was counted for the silence with this place in the masks."""
    return sum([count for mask, count in counts.items() if mask >> index & 1])
