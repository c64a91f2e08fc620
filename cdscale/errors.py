"""Every exception that cdscale raises on purpose.

::

    CdscaleError                 anything cdscale knows how to explain
    ├── UserError                the request cannot be met as it stands; exit status 2
    │   ├── SpecError            a spec, a month, an area or an option does not read
    │   ├── CatalogueError       a catalogue, collection or item is not there or does not serve
    │   ├── PlanError            the run as asked does not fit, or is already running
    │   ├── StoreError           a store is absent, of another spec, or may not be written
    │   └── ModelError           a model is unknown, untrained, or its card refuses the cube
    ├── ReadError                pixels of one scene did not come; carries whether to try again
    ├── DeviceError              a GPU, or its memory, is too small for a network
    │   └── BrokenDeviceError    this process can no longer use its GPU; another one may
    └── TaskError                one task failed; the run goes on without it

The message of each says what was expected, what came and what to do: ``explain`` builds it, so
that all of them read alike.
"""

from __future__ import annotations


def explain(what: str, *, expected: object = None, got: object = None, do: str = "") -> str:
    """Put an error into the one form that users see.

    Parameters
    ----------
    what : str
        What went wrong, and where, in one sentence without a full stop.
    expected, got : object, optional
        What was expected and what came instead.
    do : str, optional
        What the user can do now, as a sentence.
    """
    parts = [what]
    if expected is not None:
        parts.append(f"expected {expected}")
    if got is not None:
        parts.append(f"got {got}")
    return "; ".join(parts) + "." + (f" {do}" if do else "")


class CdscaleError(Exception):
    """Base of everything that cdscale raises on purpose."""


class UserError(CdscaleError):
    """The request cannot be met as it stands."""


class SpecError(UserError):
    """A spec, a month, an area or an option does not read."""


class CatalogueError(UserError):
    """A catalogue, a collection or an item is not there, or does not serve."""


class PlanError(UserError):
    """The run as asked does not fit, or is already running."""


class StoreError(UserError):
    """A store is absent, was made with another spec, or may not be written."""


class ModelError(UserError):
    """A model is unknown, has no weights, or its card refuses the cube."""


class ReadError(CdscaleError):
    """Pixels of one scene did not come.

    Parameters
    ----------
    message : str
        Which scene and asset, and what came.
    permanent : bool
        Whether another try is pointless (file missing, file damaged).
    """

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message, permanent)
        self.message = message
        self.permanent = permanent

    def __str__(self) -> str:
        return self.message


class DeviceError(CdscaleError):
    """A device cannot do what a network asks of it."""


class BrokenDeviceError(DeviceError):
    """The connection of this process to its GPU is broken for good: a fresh process may do it."""


class TaskError(CdscaleError):
    """One task failed for good."""
