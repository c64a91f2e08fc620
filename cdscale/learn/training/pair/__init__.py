"""Kind ``pair``: Sentinel-2 and Sentinel-1 of two dates, and a label of what changed.

``recipe``   what only these recipes say
``scenes``   places in memory; moments and class weights
``data``     batches of random crops
``module``   loss, and what a validation finds
``mapping``  whole places
``figures``  of the finished weights
"""

from cdscale.learn.training.kinds import Course
from cdscale.learn.training.pair.data import ChangeData
from cdscale.learn.training.pair.figures import measure_pairs
from cdscale.learn.training.pair.module import ChangeTraining
from cdscale.learn.training.pair.recipe import PairRecipe

COURSE = Course(PairRecipe, ChangeData, ChangeTraining, measure_pairs)
