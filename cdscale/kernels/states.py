"""The state of change of every pixel, carried from month to month.

:func:`advance` takes the states of a month and what the next one shows, and gives the states of
that. It knows of the past nothing but these states, so that a series can be taken up at any month.
Numbers that are carried are rounded as they are stored before they are carried on. The thresholds
and counts are in :class:`cdscale.spec.changes.ChangeRules`; docs/changes.md draws the states.

Like the alerts of DIST-S1 (OPERA), RADD (doi:10.1088/1748-9326/abd0a8) and GLAD, a change is
provisional until further observations support it; the thresholds are relative to what the pixel was
before, so that land which is partly built up, and always looks a little like it, raises no alarm.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cdscale.kernels.packing import pack_probability, unpack_probability
from cdscale.kernels.types import Bool, Float, UInt8
from cdscale.spec.changes import ChangeRules
from cdscale.spec.cube import ChangeFlag, ChangeState, LandClass, UrbanQuality

EVIDENCE_STEP = 0.05
"""Evidence is stored in steps of this, in one byte."""
NO_DAY = -1
_SURE = pack_probability((1 - 2.0 ** (-EVIDENCE_STEP * np.arange(256))).astype(np.float32))
"""Confidence of each step of evidence, packed."""
Days = NDArray[np.int32]

_UNDER_WAY = (ChangeState.confirmed, ChangeState.high_confidence, ChangeState.finished)


@dataclass(frozen=True)
class States:
    """All that has to be known of a block of pixels to go on, (Y, X)."""

    state: UInt8
    first_month: Days
    confirmed_month: Days
    last_month: Days
    support: UInt8
    evidence: UInt8
    """In steps of :data:`EVIDENCE_STEP`."""
    against: UInt8
    """Observations against the change, one after the other."""
    gap: UInt8
    """Months since the last observation."""
    level: UInt8
    """Probability of the land as it was before any change, packed."""

    @classmethod
    def begin(cls, shape: tuple[int, int]) -> States:
        """Those of pixels of which no month has been seen."""
        zero, never = np.zeros(shape, np.uint8), np.full(shape, NO_DAY, np.int32)
        return cls(
            state=np.full(shape, ChangeState.unobserved, np.uint8),
            first_month=never, confirmed_month=never, last_month=never,
            support=zero, evidence=zero, against=zero, gap=zero,
            level=np.full(shape, 255, np.uint8),
        )  # fmt: skip

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Of the parts, which are those of the variables that hold them."""
        return tuple(part.name for part in fields(cls))

    def parts(self) -> dict[str, NDArray[Any]]:
        """The arrays by name."""
        return {name: getattr(self, name) for name in self.names()}

    def __getitem__(self, where: slice) -> Self:
        """Some of the rows."""
        return type(self)(**{name: part[where] for name, part in self.parts().items()})


@dataclass(frozen=True)
class Sight:
    """What one month shows of a block of pixels."""

    day: int
    """Days from 1970-01-01 to the first day of the month."""
    probability_YX: UInt8
    """That the pixel is built up, packed; 255 where nothing is known."""
    quality_YX: UInt8
    """Codes of :class:`cdscale.spec.cube.UrbanQuality`."""
    threshold: float
    """Of the network: from there on a pixel counts as built up."""
    pair_YX: Bool | None = None
    """Where the pair network calls the pixel changed; None in months that it does not look at."""
    pair_day: int = NO_DAY
    """Of the earlier month that it compares with."""

    def __getitem__(self, where: slice) -> Sight:
        """Some of the rows."""
        pair_YX = None if self.pair_YX is None else self.pair_YX[where]
        return Sight(
            self.day, self.probability_YX[where], self.quality_YX[where],
            self.threshold, pair_YX, self.pair_day,
        )  # fmt: skip


def advance(before: States, sight: Sight, rules: ChangeRules) -> tuple[States, UInt8]:
    """States of a month from those of the month before.

    A month without an observation changes nothing but the gap, and the flags.

    Parameters
    ----------
    before : States
        Of the month before, or :meth:`States.begin`.
    sight : Sight
        What the month shows.
    rules : ChangeRules
        When it counts.

    Returns
    -------
    states : States
        Of the month.
    flags : array of uint8, (Y, X)
        :class:`cdscale.spec.cube.ChangeFlag`.
    """
    seen_YX = sight.probability_YX != 255
    value_YX = np.nan_to_num(unpack_probability(sight.probability_YX))
    weight_YX = _weight(sight.quality_YX, rules)
    state = before.state.copy()

    # A change that was not confirmed before it went out of sight has to begin anew.
    lost_YX = seen_YX & (state == ChangeState.provisional) & (before.gap >= rules.gap)
    state[lost_YX] = ChangeState.none
    fresh_YX = seen_YX & (state == ChangeState.unobserved)
    state[fresh_YX] = ChangeState.none
    still_YX = seen_YX & ~fresh_YX & np.isin(state, (ChangeState.none, ChangeState.reverted))

    upper_YX = np.maximum(
        np.float32(sight.threshold),
        unpack_probability(before.level) + np.float32(rules.contrast),
    )
    begins_YX = still_YX & (value_YX >= upper_YX)
    tentative_YX = seen_YX & (state == ChangeState.provisional)
    settled_YX = seen_YX & np.isin(state, _UNDER_WAY)
    open_YX = tentative_YX | settled_YX
    supports_YX = begins_YX | (open_YX & (value_YX >= upper_YX - np.float32(rules.fall)))
    contrary_YX = open_YX & ~supports_YX

    counts_YX = np.clip((value_YX - upper_YX) / np.float32(rules.sure), -1, 1) * weight_YX
    agrees_YX = _pair_agrees(before, sight, begins_YX, open_YX)
    gained_YX = np.where(begins_YX | open_YX, counts_YX + agrees_YX * np.float32(rules.pair), 0)
    held_YX = np.where(begins_YX, 0, before.evidence * np.float32(EVIDENCE_STEP))
    evidence = np.rint((held_YX + gained_YX) / np.float32(EVIDENCE_STEP))
    evidence = np.clip(np.nan_to_num(evidence), 0, 255).astype(np.uint8)
    support = np.where(begins_YX, 0, before.support).astype(np.uint8)
    support = _more(support, supports_YX)
    against = _more(np.where(supports_YX, 0, before.against).astype(np.uint8), contrary_YX)

    dropped_YX = tentative_YX & contrary_YX & ((evidence == 0) | (against >= rules.drop))
    state[begins_YX] = ChangeState.provisional
    state[dropped_YX] = ChangeState.none
    state[settled_YX & (against >= rules.revert)] = ChangeState.reverted
    first = np.where(begins_YX, np.int32(sight.day), before.first_month)
    last = np.where(supports_YX, np.int32(sight.day), before.last_month)
    confirmed = np.where(begins_YX, np.int32(NO_DAY), before.confirmed_month)
    confirmed = _promote(state, supports_YX, (support, evidence), rules, (confirmed, sight.day))

    after = States(
        state=state, first_month=first, confirmed_month=confirmed, last_month=last,
        support=support, evidence=evidence, against=against,
        gap=np.where(seen_YX, np.uint8(0), _more(before.gap, ~seen_YX)),
        level=_level(before, fresh_YX, still_YX & ~begins_YX, value_YX, weight_YX * rules.memory),
    )  # fmt: skip
    return _cleared(after, lost_YX & ~begins_YX | dropped_YX), _flags(sight, seen_YX, agrees_YX)


def _weight(quality_YX: UInt8, rules: ChangeRules) -> Float:
    """Weight of an observation by the sensors behind it."""
    weights = np.ones(256, np.float32)
    weights[UrbanQuality.optical_reconstructed] = rules.reconstructed
    weights[UrbanQuality.radar_missing] = rules.radar_missing
    found: Float = weights[quality_YX]
    return found


def _pair_agrees(before: States, sight: Sight, begins_YX: Bool, open_YX: Bool) -> Bool:
    """Where the pair network sees the same change: it began after the month compared with."""
    if sight.pair_YX is None:
        return np.zeros(begins_YX.shape, bool)
    later_YX = begins_YX | (open_YX & (before.first_month > sight.pair_day))
    agrees: Bool = later_YX & sight.pair_YX
    return agrees


def _more(count: UInt8, where_YX: Bool) -> UInt8:
    """Counts raised by one, 255 at most."""
    raised: UInt8 = count + (where_YX & (count < 255)).astype(np.uint8)
    return raised


def _promote(
    state: UInt8,
    supports_YX: Bool,
    gathered: tuple[UInt8, UInt8],
    rules: ChangeRules,
    confirmed: tuple[Days, int],
) -> Days:
    """Raise states, in place, as far as support and evidence go; the months of confirmation."""
    support, evidence = gathered
    known = evidence * np.float32(EVIDENCE_STEP) + np.float32(1e-6)
    (days, today), levels = confirmed, ChangeState
    enough_YX = supports_YX & (support >= rules.confirm) & (known >= rules.confirm_evidence)
    rises_YX = enough_YX & (state == levels.provisional)
    state[rises_YX] = levels.confirmed
    surely_YX = supports_YX & (support >= rules.high) & (known >= rules.high_evidence)
    state[surely_YX & (state == levels.confirmed)] = levels.high_confidence
    long_YX = supports_YX & (support >= rules.finish)
    state[long_YX & (state == levels.high_confidence)] = levels.finished
    return np.where(rises_YX, np.int32(today), days)


def _level(
    before: States, fresh_YX: Bool, still_YX: Bool, value_YX: Float, share_YX: Float
) -> UInt8:
    """The level of the land, which follows observations while nothing changes."""
    held_YX = np.nan_to_num(unpack_probability(before.level))
    moved_YX = np.where(still_YX, held_YX + share_YX * (value_YX - held_YX), held_YX)
    moved_YX = np.where(fresh_YX, value_YX, moved_YX)
    packed = pack_probability(moved_YX.astype(np.float32))
    kept_YX = (before.level == 255) & ~fresh_YX
    return np.where(kept_YX, np.uint8(255), packed)


def _cleared(states: States, where_YX: Bool) -> States:
    """Forget a change that came to nothing."""
    parts = states.parts()
    for name in ("first_month", "confirmed_month", "last_month"):
        parts[name] = np.where(where_YX, np.int32(NO_DAY), parts[name])
    for name in ("support", "evidence", "against"):
        parts[name] = np.where(where_YX, np.uint8(0), parts[name])
    return States(**parts)


def _flags(sight: Sight, seen_YX: Bool, agrees_YX: Bool) -> UInt8:
    quality = sight.quality_YX
    where = {
        ChangeFlag.no_observation: ~seen_YX,
        ChangeFlag.optical_reconstructed: seen_YX & (quality == UrbanQuality.optical_reconstructed),
        ChangeFlag.radar_missing: seen_YX & (quality == UrbanQuality.radar_missing),
        ChangeFlag.pair_network_agrees: agrees_YX,
    }
    flags = np.zeros(seen_YX.shape, np.uint8)
    for flag, where_YX in where.items():
        flags[where_YX] |= np.uint8(flag)
    return flags


def tell(states: States) -> dict[str, UInt8]:
    """What the states say to people beside themselves: classes, and how sure it is.

    The confidence is ``1 - 2 ** -evidence``: 0.5 of one sure observation, 0.94 of four.

    Returns
    -------
    dict
        ``from_class``, ``to_class``, ``confidence``, each (Y, X), packed as they are stored.
    """
    changed_YX = states.state >= ChangeState.provisional
    unknown = np.uint8(LandClass.unknown)
    return {
        "from_class": np.where(changed_YX, np.uint8(LandClass.open_land), unknown),
        "to_class": np.where(changed_YX, np.uint8(LandClass.built_up), unknown),
        "confidence": np.where(changed_YX, _SURE[states.evidence], np.uint8(255)),
    }
