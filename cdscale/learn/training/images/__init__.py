"""Kind ``images``: two images of one sensor; land cover of both dates, the change, or both.

Systems B (R. Caye Daudt et al., CVIU 2019, HRSCD) and D (S. Cummings et al., EarthVision 2021,
DynamicEarthNet).

``recipe``   what only these recipes say
``pseudo``   samples whose label a model has written
``census``   what is measured of the training scenes: moments, frequencies, where change is
``data``     batches of random crops, read from the files in windows
``loss``     of what each strategy says
``module``   what a step and a validation are; training in two stages
``figures``  of the finished weights
"""

from cdscale.learn.training.images.data import ImagesData
from cdscale.learn.training.images.figures import measure_images
from cdscale.learn.training.images.module import ImagesTraining
from cdscale.learn.training.images.recipe import ImagesRecipe
from cdscale.learn.training.kinds import Course

COURSE = Course(ImagesRecipe, ImagesData, ImagesTraining, measure_images)
