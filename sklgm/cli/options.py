"""Arguments and options of the commands, most of which several of them have."""

from ast import literal_eval
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Context, Option


def _backbones(help: str) -> Any:
    return Option("--backbone", help=help, metavar="NAME")


def _setting(text: str) -> tuple[str, Any]:
    """Split NAME=VALUE. The value is read as a Python literal, and is a word if it is none."""
    name, equals, value = text.partition("=")
    if not equals:
        raise BadParameter(f"{text!r} is not of the form NAME=VALUE.")
    try:
        return name, literal_eval(value)
    except (ValueError, SyntaxError, TypeError):
        return name, value


def _allow_pixels(context: Context, most: int | None) -> int | None:
    """Have Pillow take images of so many pixels while the command runs."""
    if most is not None:
        from PIL import Image

        context.call_on_close(partial(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS))
        Image.MAX_IMAGE_PIXELS = most
    return most


def set_parameters(estimator: Any, settings: list[Any] | None) -> None:
    """Set the parameters of an estimator that were given by ``--set``."""
    try:
        estimator.set_params(**dict(settings or ()))
    except (ValueError, AttributeError) as error:
        raise BadParameter(str(error), param_hint="'--set'") from error


_IMAGES = "Folder with a subfolder for each class, or CSV file with the columns path and label."
_SIZE = (
    "Side of the images that the net gets, in pixels; by default the net's own, or the one that "
    "saved prototypes were made at."
)
_JOBS = "Threads that decode images; -1 is one for each core."
_MEMORY = "Folder that keeps what has passed the net: after Ctrl-C the same command goes on."
_RESUME = "Keep the work in the folder OUT.work, and go on from what is there."
_DISTILLED_ON = 'Frozen net, "clip" by default; several make joint prototypes.'
_SOFT = "Soft labels too: probabilities of the classes, by a classifier of the real images."
_SETTING = "Another parameter of the estimator, as precision=bfloat16 or n_views=4; repeatable."
_SKIP = "Open each image before, leave out those that cannot be read, and say how many."
_PIXELS = "Pixels of the largest image that is read without doubt; twice as many are refused."
_LOOKED_WITH = "Net of the probes, by default the one of the prototypes; may be repeated."

Images = Annotated[Path, Argument(metavar="IMAGES", help=_IMAGES)]
Prototypes = Annotated[
    Path, Argument(help="Folder of prototypes, made by distill, or hf://datasets/OWNER/NAME.")
]
TEST = Option(help="Images to score the probes on: a folder or CSV file, as for distill.")
TRAIN = Option(help="Images that the prototypes were made of, as for distill.")
DistilledOn = Annotated[list[str] | None, _backbones(_DISTILLED_ON)]
LookedWith = Annotated[list[str] | None, _backbones(_LOOKED_WITH)]
Compared = Annotated[list[str], _backbones("Net to distil on and to probe on; repeat it.")]
PerClass = Annotated[int, Option("--prototypes-per-class", help="Synthetic images of each class.")]
MaxIter = Annotated[int, Option(help="Steps of the optimisation.")]
ImageSize = Annotated[int | None, Option(help=_SIZE)]
Device = Annotated[str, Option(help="Where to compute; auto takes cuda, then mps, then cpu.")]
Jobs = Annotated[int, Option("--jobs", "--n-jobs", help=_JOBS)]
Memory = Annotated[Path | None, Option(metavar="FOLDER", help=_MEMORY)]
_SET = Option("--set", metavar="NAME=VALUE", parser=_setting, help=_SETTING)
Settings = Annotated[list[Any] | None, _SET]
Seeds = Annotated[int, Option(metavar="<int>", min=1, help="Runs of each row, with other seeds.")]
SoftLabels = Annotated[bool, Option("--soft-labels", help=_SOFT)]
Resume = Annotated[bool, Option("--resume", help=_RESUME)]
SkipDamaged = Annotated[bool, Option("--skip-damaged", help=_SKIP)]
# What is given takes effect when it is read.
MaxPixels = Annotated[int | None, Option(min=1, help=_PIXELS, callback=_allow_pixels)]
Quiet = Annotated[bool, Option("--quiet", help="Print nothing but warnings and errors.")]
Overwrite = Annotated[bool, Option("--overwrite", help="Replace what is already there.")]
Json = Annotated[bool, Option("--json", help="Print the result as JSON, and no progress.")]
