"""Every kind of X the estimators take, read as 8-bit RGB images.

Nothing here knows of backbones or estimators: X goes in, batches of numpy arrays come out.

How a file or a PIL image becomes 8-bit RGB:

- the EXIF orientation is applied;
- palettes are looked up, 1-bit and grey images become RGB, so do CMYK, YCbCr and HSV ones;
- transparency (RGBA, LA, PA, and a transparent colour of a palette, grey or RGB image) is
  composited over ``background``;
- 16-bit grey is divided by 257, which takes 65535 to 255. Pillow itself clips at 255. Its 32-bit
  integer mode ``I`` is read as 16-bit grey, and is an error where a value does not fit;
- 32-bit float images (mode ``F``) have no agreed range and are an error: pass them as an array
  of floats in [0, 1];
- of an animation or a multi-page file, the first frame is taken. A PIL image is taken at the frame
  it stands at;
- HEIC and HEIF files are read where pillow-heif is installed, which the extra ``heif`` brings;
- colour profiles are ignored, as torchvision, timm and those who train nets do;
- of a camera's raw picture Pillow knows the thumbnail only: it is an error;
- PostScript (EPS) is a program, which Pillow would have Ghostscript run: it is an error;
- Pillow's warning for a very large image stays a warning; beyond twice that size it is an error.

An image that cannot be read is a ``ValueError`` that names it and gives the reason; of a file that
is no picture it says what it is.
"""

from sklgm.images.batches import find_damaged, iter_batches
from sklgm.images.checking import check_images
from sklgm.images.resizing import resize_crop
from sklgm.images.source import ImageSource

__all__ = ["ImageSource", "check_images", "find_damaged", "iter_batches", "resize_crop"]
