"""``ChangeRules``: when a series of months counts as change; every default stands here, once."""

from __future__ import annotations

from pydantic import Field, model_validator

from cdscale.spec.base import Frozen


class ChangeRules(Frozen):
    """When what the urban series says becomes a change, and when it no longer is one.

    A change begins when the probability lies above the threshold of the network's card, and
    ``contrast`` or more above what the land was before: the upper threshold of the pixel.
    ``evidence`` is counted in observations that are quite sure: one of both sensors adds 1 where it
    lies ``sure`` or more above the upper threshold, takes 1 away where it lies as far below, and
    in between in proportion.
    """

    contrast: float = Field(default=0.5, ge=0, le=1)
    """How far above the level of the land before it a probability has to lie, at the least."""
    fall: float = Field(default=0.1, ge=0, lt=1)
    """How far below the upper threshold it may lie and still support a change that has begun: the
    lower threshold. What lies below that speaks against it."""
    sure: float = Field(default=0.35, gt=0, le=1)
    """Distance from the upper threshold from which an observation counts whole."""
    memory: float = Field(default=0.2, gt=0, le=1)
    """Share of an observation in the level of the land, while nothing changes."""
    reconstructed: float = Field(default=0.5, ge=0, le=1)
    """Weight of an observation whose optical features were reconstructed from radar."""
    radar_missing: float = Field(default=1.0, ge=0, le=1)
    """Weight of an observation without radar."""
    pair: float = Field(default=0.5, ge=0, le=2)
    """Evidence that the pair network adds where it calls a pixel changed."""
    confirm: int = Field(default=1, ge=1, le=100)
    """Supporting observations with which a change is confirmed, at the least."""
    confirm_evidence: float = Field(default=1.0, ge=0, le=12)
    """Evidence that it takes besides: by default one observation that is quite sure, or several
    that are less so."""
    high: int = Field(default=4, ge=1, le=200)
    """Supporting observations with which it is of high confidence."""
    high_evidence: float = Field(default=3.0, ge=0, le=12)
    """Evidence that it takes besides."""
    finish: int = Field(default=12, ge=1, le=250)
    """Supporting observations with which a change of high confidence is finished."""
    drop: int = Field(default=2, ge=1, le=100)
    """Observations against a change, one after the other, with which it is given up before it is
    confirmed."""
    revert: int = Field(default=3, ge=1, le=100)
    """The same of one that is confirmed."""
    gap: int = Field(default=6, ge=1, le=250)
    """Months without an observation after which a change that is not confirmed has to begin anew.
    """
    mmu: int = Field(default=5, ge=1)
    """Pixels of the smallest patch that becomes an event; the states themselves keep every pixel.
    """

    @model_validator(mode="after")
    def _in_order(self) -> ChangeRules:
        if not self.confirm <= self.high <= self.finish:
            raise ValueError(
                f"confirm ({self.confirm}), high ({self.high}) and finish ({self.finish}) "
                "must not fall"
            )
        if self.confirm_evidence > self.high_evidence:
            raise ValueError(
                f"confirm_evidence ({self.confirm_evidence:g}) is more than "
                f"high_evidence ({self.high_evidence:g})"
            )
        return self
