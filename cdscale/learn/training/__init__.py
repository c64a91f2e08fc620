"""Training of networks of any kind with PyTorch Lightning.

::

    from cdscale.learn.training import How, load_recipe, train

    card = train(load_recipe("oscd-fc-ef-res-13"), root, out, How(resume=True))

``recipe``     everything that decides a run, as data; ``loading`` reads it
``kinds``      what each kind of networks does its own way: ``pair``, ``month``, ``images``
``places``     which places are trained on, validated on, shown
``data``       batches, each from its seed and step alone
``module``     one step, and what a checkpoint holds
``mapping``    whole scenes in windows
``running``    the run, and how it goes on after a stop
``shipping``   weights and card; the table of a cross-validation
"""

from cdscale.learn.training.loading import RECIPES, load_recipe, shipped
from cdscale.learn.training.places import resolved
from cdscale.learn.training.recipe import Recipe, Split, deal
from cdscale.learn.training.running import How, train
from cdscale.learn.training.shipping import finish, table

__all__ = [
    "RECIPES",
    "How",
    "Recipe",
    "Split",
    "deal",
    "finish",
    "load_recipe",
    "resolved",
    "shipped",
    "table",
    "train",
]
