"""The families of networks: what builds each, and how it is fed.

Nothing here imports torch: a family is loaded when a network of it is built.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from cdscale.errors import ModelError, explain

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from cdscale.spec.card import ModelCard

Kind = Literal["pair", "month", "images"]
"""How a network is fed. ``pair``: Sentinel-2 and Sentinel-1 of two dates, each by itself.
``month``: both of one date, and where optical was seen. ``images``: two images of one sensor."""


@dataclass(frozen=True)
class Family:
    """Networks that one constructor makes.

    Parameters
    ----------
    module, constructor : str
        Where it stands in :mod:`cdscale.models`. The module says ``STRIDE`` and ``HALO`` too.
    kind : {"pair", "month", "images"}
        How its networks are fed.
    source : str
        The paper.
    halo_of : str
        Function of the module that tells the halo from the kind of up-sampling (option ``up``),
        where it depends on that.
    radar_alone : bool
        Whether its networks are made to say change where radar alone saw both dates.
    """

    module: str
    constructor: str
    kind: Kind
    source: str
    halo_of: str = ""
    radar_alone: bool = False

    def build(self, card: ModelCard) -> nn.Module:
        """A network with random weights.

        Raises
        ------
        ModelError
            When the card's options are not those of the family, when it takes other channels than
            the card names bands, or when the card promises less halo than the family needs.
        """
        code = import_module(f"cdscale.models.{self.module}")
        options = self._options(card)
        self._check_tiles(card, code)
        make: Callable[..., nn.Module] = getattr(code, self.constructor)
        try:
            return make(**options)
        except TypeError as err:
            raise ModelError(explain(f"card {card.name}: network options", got=str(err))) from None

    def _options(self, card: ModelCard) -> dict[str, Any]:
        if self.kind == "images":
            channels = {"channels": len(card.s2_bands)}
        else:
            channels = {"s2_channels": len(card.s2_bands), "s1_channels": len(card.s1_bands)}
        if any(card.network.get(name, count) != count for name, count in channels.items()):
            raise ModelError(
                explain(f"card {card.name}: network", expected=channels, got=card.network)
            )
        return {**card.network, **channels}

    def _check_tiles(self, card: ModelCard, code: Any) -> None:
        halo: int = code.HALO
        if self.halo_of and "up" in card.network:
            halo = getattr(code, self.halo_of)(card.network["up"])
        stride: int = code.STRIDE
        if card.halo < halo or card.halo % stride or card.stride % stride:
            raise ModelError(
                explain(
                    f"card {card.name}: halo and stride",
                    expected=f"halo at least {halo} and both multiples of {stride}",
                    got=f"{card.halo} and {card.stride}",
                )
            )


_DAUDT_2018 = "R. Caye Daudt, B. Le Saux, A. Boulch, ICIP 2018"
_PATCHES = "R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, IGARSS 2018"
_HRSCD = "R. Caye Daudt, B. Le Saux, A. Boulch, Y. Gousseau, CVIU 2019"

FAMILIES = {
    "two-branch": Family(
        "two_branch", "TwoBranch", "pair", "P. Ebel, S. Saha, X. X. Zhu, ISPRS Archives 2021"
    ),
    "fc-ef": Family("fc_ef", "FcEf", "pair", _DAUDT_2018),
    "fc-siam": Family("fc_ef", "FcSiam", "pair", _DAUDT_2018),
    "fc-ef-res": Family("fc_ef_res", "FcEfRes", "pair", _HRSCD),
    "siam-15": Family("patch", "Siam15", "pair", _PATCHES),
    "ef-15": Family("patch", "Ef15", "pair", _PATCHES),
    "ds-unet": Family("ds_unet", "DSUNet", "pair", "S. Hafner et al., GRSL 2021"),
    "missing-optical": Family(
        "missing_optical", "MissingOptical", "month", "S. Hafner, Y. Ban, IGARSS 2023"
    ),
    "missing-optical-pair": Family(
        "missing_optical_pair", "MissingOpticalPair", "pair", "S. Hafner, Y. Ban, IGARSS 2023",
        radar_alone=True,
    ),
    "radar-unet": Family("radar_unet", "RadarUNet", "month", "S. Hafner, Y. Ban, IGARSS 2023"),
    "hrscd-1": Family("hrscd", "PostClassification", "images", _HRSCD),
    "hrscd-2": Family("hrscd", "DirectTransitions", "images", _HRSCD),
    "hrscd-3": Family("hrscd", "IndependentChange", "images", _HRSCD),
    "hrscd-4": Family("hrscd", "IntegratedChange", "images", _HRSCD),
    "siamese-attention": Family(
        "attention", "SiameseAttention", "images", "S. Cummings et al., EarthVision 2021",
        halo_of="halo",
    ),
}  # fmt: skip
"""Every family by the name that cards use."""


def family_of(card: ModelCard) -> Family:
    """The family of a card.

    Raises
    ------
    ModelError
        When there is none of its name.
    """
    try:
        return FAMILIES[card.family]
    except KeyError:
        raise ModelError(
            explain(
                f"card {card.name}: family of the network",
                expected=f"one of {', '.join(FAMILIES)}",
                got=card.family,
            )
        ) from None
