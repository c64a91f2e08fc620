"""Named problems of real shape, and the scripts behind every figure that cdscale states."""
