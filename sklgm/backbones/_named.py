"""The ways to take a backbone by name, and one of transformers."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import joblib
import torch

from sklgm.backbones import _checks, _transformers
from sklgm.backbones._cache import find_or_make
from sklgm.backbones._libraries import find_spec, with_checkpoint, with_options
from sklgm.backbones._names import split_options


class NamedBackbones:
    """The class methods of `Backbone` that know the libraries."""

    @classmethod
    def from_name(
        cls,
        name: str,
        *,
        checkpoint: str | os.PathLike[str] | None = None,
        image_size: int | None = None,
        pretrained: bool = True,
        mean: float | Sequence[float] | None = None,
        std: float | Sequence[float] | None = None,
        crop_pct: float | None = None,
        interpolation: str | None = None,
        model_kwargs: Mapping[str, Any] | None = None,
        pooling: str | None = None,
    ) -> Self:
        """Take a backbone by name, the same object at each call; it is loaded at first use.

        Parameters
        ----------
        name : str
            One of `list_backbones`, or another of the forms that are described there. Of the
            parameters below `pooling`, `mean`, `std`, `crop_pct` and `interpolation` may stand in
            it, after a question mark, as in ``"<name>?pooling=avg&mean=0.5&std=0.5,0.5,0.4"``.
        checkpoint : str or path-like, default=None
            File to take the weights from, as ``"<name>@<path>"`` does: safetensors, what
            `torch.save` wrote, or ``.npz``. The net is looked for in what a trainer left.
        image_size : int, default=None
            Side of the images that the net sees; None takes the record's size. Position
            embeddings are interpolated by the net's own library.
        pretrained : bool, default=True
            False gives the architecture with random weights from a fixed seed.
        mean, std : float or sequence of 3 floats, default=None
            Normalisation of RGB pixels in [0, 1], for weights that were trained with another one;
            None takes the record's, here and below.
        crop_pct : float, default=None
            Side of the centre crop that the net sees, as a share of the shorter side of the resized
            image, in (0, 1].
        interpolation : {"bicubic", "bilinear"}, default=None
            Filter of the resize, as in `from_module`.
        model_kwargs : mapping of str to Any, default=None
            Arguments of `timm.create_model` beside the name, as a model card has them, for nets
            of timm; classes among them are those that can be imported. ``num_classes`` is
            always 0, ``global_pool`` is another word for `pooling`, and ``img_size`` is the size
            of the record.
        pooling : str, default=None
            The feature, where it is not the library's default: ``"token"``, the class token after
            the last norm; ``"avg"``, the mean of the patch tokens; ``"token+avg"``, the one
            followed by the other; of timm also ``"map"``, ``"max"`` and its other names; of
            open_clip also ``"projection"``, its default, and ``"pooler"``, the same before the
            projection; of transformers see `from_transformers`.

        Returns
        -------
        Backbone
            The backbone, on the CPU.

        Raises
        ------
        ValueError
            If the name is unknown, the size is not one that the net can take, or the library
            can make no such net.
        OSError
            If there is no such file or folder, or a hub repository is out of reach.
        """
        asked = {"mean": mean, "std": std, "crop_pct": crop_pct, "interpolation": interpolation}
        given = {key: value for key, value in asked.items() if value is not None}
        if isinstance(name, str):
            name, in_name = split_options(name)
            named_pooling = in_name.pop("pooling", None)
            pooling, given = pooling or named_pooling, in_name | given
        # Weights of one's own serve architectures for which a library has none.
        spec = find_spec(name, pretrained and checkpoint is None)
        if checkpoint is not None:
            if spec.checkpoint or not pretrained:
                raise ValueError(
                    f"Backbone {name!r} cannot take checkpoint={os.fspath(checkpoint)!r} beside "
                    f"pretrained=False or weights in its name. Leave one of them out."
                )
            spec = with_checkpoint(spec, os.fspath(checkpoint))
        if model_kwargs or pooling:
            spec = with_options(spec, model_kwargs, pooling)
        spec = replace(spec, **_checks.check_preparation(**given))
        size = spec.image_size if image_size is None else _checks.check_size(image_size)
        _checks.check_patches(spec.name, size, spec.patch_size)
        return find_or_make(cls, spec, size, bool(pretrained), torch.device("cpu"))

    @classmethod
    def from_timm(cls, architecture: str, **options: Any) -> Self:
        """Take a net of timm, as `timm.create_model` would.

        Parameters
        ----------
        architecture : str
            A name of ``timm.list_models()``, perhaps with a tag, whose preprocessing is then used;
            or ``"hf-hub:<owner>/<name>"``.
        **options : Any
            `checkpoint`, `model_kwargs`, `pooling` and the others of `from_name`.

        Returns
        -------
        Backbone
            That of ``Backbone.from_name(f"timm:{architecture}", ...)``.
        """
        hub = "hf-hub:", "hf_hub:", "local-dir:"
        name = architecture if architecture.startswith(hub) else f"timm:{architecture}"
        return cls.from_name(name, **options)

    @classmethod
    def from_open_clip(cls, architecture: str, **options: Any) -> Self:
        """Take an image tower of open_clip.

        Parameters
        ----------
        architecture : str
            A name of ``open_clip.list_models()``, with a slash and the name of weights after it,
            unless `checkpoint` or ``pretrained=False`` is given.
        **options : Any
            `checkpoint`, `pooling` and the others of `from_name`.

        Returns
        -------
        Backbone
            That of ``Backbone.from_name(f"open_clip:{architecture}", ...)``.
        """
        return cls.from_name(f"open_clip:{architecture}", **options)

    @classmethod
    def from_transformers(
        cls,
        model: Any,
        *,
        pooling: str | None = None,
        image_size: int | None = None,
        processor: Any = None,
        **options: Any,
    ) -> Self:
        """Take a vision model of Hugging Face's transformers, prepared by its image processor.

        Of a model of two towers, such as CLIP, only the vision tower is loaded. No code of a
        repository is run. Images are resized as the processors do it with Pillow; those that work
        on tensors, which transformers 5 prefers, round pixels otherwise, by one level of
        brightness of 255 in most places.

        Parameters
        ----------
        model : str, path-like or transformers.PreTrainedModel
            ``"<owner>/<name>"``, perhaps with ``"@<revision>"``; a folder that
            ``save_pretrained`` wrote for model and image processor; or a loaded model, of which a
            frozen copy is taken as by `from_module`.
        pooling : {"token", "avg", "token+avg", "pooler", "projection"}, default=None
            The feature. ``"token"`` is ``last_hidden_state[:, 0]``, ``"avg"`` the mean of the
            patch tokens there, ``"token+avg"`` the one followed by the other, ``"pooler"`` the
            ``pooler_output``, and ``"projection"`` the ``image_embeds``. None
            takes what the authors of the model probe: the projection of CLIP, the class token of
            ViT, DeiT, DINO and MAE, and the pooler of others, such as SigLIP, ConvNeXt and Swin.
        image_size : int, default=None
            Side of the images that the net sees; None takes the processor's. Position embeddings
            are interpolated by the model.
        processor : transformers.BaseImageProcessor, default=None
            Of a loaded model; None looks it up where the model was loaded from.
        **options : Any
            See `from_name`; of a loaded model `mean`, `std`, `crop_pct`, `interpolation`, and
            `name` for display.

        Returns
        -------
        Backbone
            The backbone; by name, that of ``Backbone.from_name(f"transformers:{model}", ...)``.

        Raises
        ------
        ImportError
            If transformers is not installed.
        OSError
            If there is no such repository or file, or the hub is out of reach.
        ValueError
            If it is no vision model that transformers makes without code from elsewhere, has no
            such feature, or its processor does something else than resize, crop and normalise.
        """
        if isinstance(model, str | os.PathLike):
            if processor is not None:
                raise ValueError(
                    f"processor goes with a loaded model; {os.fspath(model)!r} is a name, and "
                    f"has its own. Load the model, or pass mean= and std=."
                )
            given = os.fspath(model).removeprefix("transformers:")
            options |= {"image_size": image_size, "pooling": pooling}
            return cls.from_name(f"transformers:{given}", **options)
        net, prepared = _transformers.wrap(model, pooling, processor)
        # The processor's own: a filter of any kind, and a resize that from_module does not offer.
        own = {"interpolation", "crop_pct", "resize"} - options.keys()
        kept = {key: prepared.pop(key) for key in own}
        prepared |= {"name": type(model).__name__} | options
        prepared |= {} if image_size is None else {"image_size": image_size}
        kind: Any = cls
        made = kind.from_module(net, **prepared)
        made.spec = replace(made.spec, **kept)
        made._fingerprint = f"module-{joblib.hash((made._fingerprint, made.spec))}"
        return made
