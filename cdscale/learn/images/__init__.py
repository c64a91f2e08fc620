"""Networks of kind "images" on scenes: what they say, window by window, and how right it is.

``reading``  outputs of a network become probabilities and codes
``scenes``   a scene of any size through a network, one window after another
``counts``   maps against labels: counts that add up, and the figures of the published tables

Training and ``cdscale evaluate`` share it, so that a validation figure is the figure of the model.
"""

from cdscale.learn.images.counts import Counter, Labels, SemanticCounts, classes_of_change
from cdscale.learn.images.reading import Reading, SemanticMap
from cdscale.learn.images.scenes import SceneMapper, image_moments

__all__ = [
    "Counter",
    "Labels",
    "Reading",
    "SceneMapper",
    "SemanticCounts",
    "SemanticMap",
    "classes_of_change",
    "image_moments",
]
