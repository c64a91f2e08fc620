"""Training of networks on pairs of dates (kind "pair" of the families), with PyTorch Lightning.

::

    from cdscale.learn.training import How, load_recipe, train

    card = train(load_recipe("oscd-fc-ef-res-13"), root, out, How(resume=True))

``recipe``     everything that decides a run, as data
``scenes``     places in memory; moments and class weights
``data``       batches, each from its seed and step alone
``module``     one step, one validation
``running``    the run, and how it goes on after a stop
``shipping``   weights and card; the table of a cross-validation
"""

from cdscale.learn.training.recipe import RECIPES, Recipe, deal, load_recipe, shipped
from cdscale.learn.training.running import How, train
from cdscale.learn.training.scenes import resolved
from cdscale.learn.training.shipping import finish, table

__all__ = [
    "RECIPES",
    "How",
    "Recipe",
    "deal",
    "finish",
    "load_recipe",
    "resolved",
    "shipped",
    "table",
    "train",
]
