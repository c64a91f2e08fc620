"""cdscale: from STAC catalogues to continental change maps."""

__version__ = "0.1.0"
