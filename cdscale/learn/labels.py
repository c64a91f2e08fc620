"""What labels say, apart from classes."""

from __future__ import annotations

IGNORED = 255
"""Label of pixels that no loss and no metric sees."""
