"""Losses, as pure functions of tensors. Pixels labelled ``IGNORED`` cost nothing in any of them.

``cross_entropy``   weighted NLL, BCE, and the weights of classes (systems A and B)
``overlap``         power Jaccard, multi-class Jaccard and Dice (systems C and D)
``change``          sums for one network: NLL with Jaccard; HRSCD's strategy 4.1
``missing``         System C: optical images that are partly missing
``unlabelled``      System E, Metric-CD: distances and the objective without labels
"""

from cdscale.learn.labels import IGNORED
from cdscale.learn.losses.change import (
    SemanticLabels,
    SemanticRule,
    change_loss,
    semantic_change_loss,
)
from cdscale.learn.losses.cross_entropy import (
    class_weights,
    frequency_weights,
    positive_weight,
    weighted_bce,
    weighted_nll,
)
from cdscale.learn.losses.missing import (
    Branches,
    MissingOpticalRule,
    missing_optical_loss,
    similarity,
)
from cdscale.learn.losses.overlap import (
    multiclass_dice,
    multiclass_jaccard,
    power_jaccard,
    power_jaccard_each,
)
from cdscale.learn.losses.unlabelled import (
    RULES,
    Evidence,
    MetricRule,
    context_term,
    mahalanobis,
    mean_absolute,
    metric_cd_loss,
    sparsity,
    standardised,
)

__all__ = [
    "IGNORED",
    "RULES",
    "Branches",
    "Evidence",
    "MetricRule",
    "MissingOpticalRule",
    "SemanticLabels",
    "SemanticRule",
    "change_loss",
    "class_weights",
    "context_term",
    "frequency_weights",
    "mahalanobis",
    "mean_absolute",
    "metric_cd_loss",
    "missing_optical_loss",
    "multiclass_dice",
    "multiclass_jaccard",
    "positive_weight",
    "power_jaccard",
    "power_jaccard_each",
    "semantic_change_loss",
    "similarity",
    "sparsity",
    "standardised",
    "weighted_bce",
    "weighted_nll",
]
