"""Kind ``month``: radar of one month and, perhaps, an optical image; a label of what is built up.

System C: S. Hafner, Y. Ban, IGARSS 2023.

``recipe``   what only these recipes say
``months``   samples in memory; moments
``data``     batches of random crops, one of each sample an epoch
``loss``     of a batch, per sample or per pixel
``mapping``  whole months
``module``   what a step and a validation are
``figures``  on all pixels, seen, reconstructed, and with optical withheld
"""

from cdscale.learn.training.kinds import Course
from cdscale.learn.training.month.data import MonthData
from cdscale.learn.training.month.figures import measure_months
from cdscale.learn.training.month.module import MonthTraining
from cdscale.learn.training.month.recipe import MonthRecipe

COURSE = Course(MonthRecipe, MonthData, MonthTraining, measure_months)
