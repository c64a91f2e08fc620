"""Data sets in their published layouts, losses, metrics, and the training of the networks."""
