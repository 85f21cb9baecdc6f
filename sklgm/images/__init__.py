"""Every kind of X the estimators take, read as 8-bit RGB images.

Nothing here knows of backbones or estimators: X goes in, batches of numpy arrays come out.

How a file or a PIL image becomes 8-bit RGB is told in ``docs/inputs.rst``. One that cannot be read
is a ``ValueError`` that names it and gives the reason; of a file that is no picture it says what it
is.
"""

from sklgm.images.batches import find_damaged, iter_batches
from sklgm.images.checking import check_images
from sklgm.images.resizing import resize_crop
from sklgm.images.source import ImageSource

__all__ = ["ImageSource", "check_images", "find_damaged", "iter_batches", "resize_crop"]
