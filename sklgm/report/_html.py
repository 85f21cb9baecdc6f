"""HTMLReport: prototypes, what they were compared with and how they were made, on one page."""

from __future__ import annotations

import datetime
import html
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from sklgm._version import __version__
from sklgm.alignment import AlignmentMatrix
from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import check_prototypes, embed_prototypes, embed_real, probe_of
from sklgm.estimators.selectors.nearest import nearest_rows
from sklgm.images import ImageSource
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.utils.extras import needs_extra
from sklgm.utils.files import replacing
from sklgm.utils.pictures import figure_picture, picture
from sklgm.utils.targets import check_targets

with needs_extra("report", "HTMLReport"):
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

# Real images in the map, at most.
_MOST_DOTS = 2000
# Prototypes shown one by one, at most.
_MOST_CARDS = 200
# Headings of what the protocols return, by the name of its class.
_HEADINGS = {
    "SelectionComparison": "Beside real images",
    "TransferMatrix": "On other backbones",
    "PrototypeCurve": "More prototypes",
    "PrototypeStatistics": "Among the images of their class",
    "BiasReport": "Groups",
    "SuspectClasses": "Classes that mix",
}
_ALIKE = "How alike the backbones are"
_ALIGNMENTS = {"gradient alignment": "What the prototypes mean to each backbone"}


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    Attributes
    ----------
    heading, text : str
        Shown as they are.
    cards : list of dict
        ``name``, and pictures as data URIs: ``prototype`` and ``real``, which may be empty.
    plot : str
        A picture as data URI.
    table : object
        HTML, of an object's ``_repr_html_``.
    facts : list of (str, str)
        Names and values.
    """

    heading: str
    text: str = ""
    cards: list[dict[str, str]] = field(default_factory=list)
    plot: str = ""
    table: Any = ""
    facts: list[tuple[str, str]] = field(default_factory=list)


class HTMLReport:
    """A page about prototypes in one file: no script, and nothing is loaded from elsewhere.

    Make one by :meth:`from_prototypes`.

    Parameters
    ----------
    html : str
        The page.

    See Also
    --------
    sklgm.plotting.PrototypesDisplay : The pictures alone.

    Examples
    --------
    ::

        distiller = LGMDistiller("clip").fit(X, y)
        comparison = compare_selections(
            X, y, X_test, y_test, backbone="clip",
            selections={"random": RandomImages("clip"),
                        "distilled": FrozenEstimator(distiller), "all": None},
        )
        HTMLReport.from_prototypes(distiller, X, y, results=[comparison]).save("report.html")
    """

    def __init__(self, html: str) -> None:
        self.html = html

    @classmethod
    def from_prototypes(
        cls,
        prototypes: Any,
        X: Any = None,
        y: Any = None,
        *,
        results: Sequence[Any] | Mapping[str, Any] = (),
        backbone: str | Backbone | None = None,
        probe: FrozenBackboneProbe | None = None,
        class_names: Any = None,
        title: str = "Prototypes",
    ) -> HTMLReport:
        """Write the page.

        Parameters
        ----------
        prototypes : fitted estimator or PrototypeSet
            A distiller or a selector with prototypes that are images, or a set of such.
        X : array-like of images, default=None
            Real images, as every estimator takes them. With them the page shows the most similar
            one beside each prototype, of the same class and none twice, and a map of both.
        y : array-like of shape (n_samples,), default=None
            Labels of the images.
        results : sequence, or dict of str to object, default=()
            Tables and matrices that the protocols returned (:mod:`sklgm.evaluation`,
            :mod:`sklgm.alignment`, :mod:`sklgm.bias`), in the order of the page; a dict gives
            headings. Anything else with a ``_repr_html_`` will do too.
        backbone : str, Backbone or None, default=None
            Net whose features tell what is similar. None takes the estimator's, the first of
            several; a PrototypeSet has none.
        probe : FrozenBackboneProbe or None, default=None
            A probe whose image size and other settings about the net are taken.
        class_names : dict or sequence of str, default=None
            Names to show instead of the labels: by label, or one per class in sorted order.
        title : str, default="Prototypes"
            Heading of the page.

        Returns
        -------
        HTMLReport
            The page.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If an estimator is not fitted.
        ValueError
            If prototypes are feature rows, X comes without y or has too few images of a class, or
            ``results`` cannot be shown.
        """
        images, labels = check_prototypes(prototypes)
        if images.ndim == 2:
            raise ValueError(
                f"These prototypes are rows of {images.shape[1]} features, and a report shows "
                f"pictures. Show a table of results by its to_markdown instead."
            )
        if (X is None) != (y is None):
            raise ValueError("X and y go together: pass real images with their labels, or neither.")
        named = _named(results)
        names = _class_names(labels, class_names)
        sections = []
        cards = [
            {"name": names[label], "prototype": picture(image), "real": ""}
            for label, image in zip(
                labels[:_MOST_CARDS].tolist(), images[:_MOST_CARDS], strict=True
            )
        ]
        text = embedding = ""
        if X is not None:
            net = probe_of(prototypes, backbone, probe)
            reals, embedding = _among_real(images, labels, X, y, net, names)
            for card, real in zip(cards, reals, strict=True):
                card["real"] = picture(real)
            text = (
                "Beside each prototype, in a dashed frame: the real image of its class that is "
                "most similar to it, none shown twice."
            )
        if len(images) > len(cards):
            text = f"The first {len(cards)} of {len(images)}. {text}".rstrip()
        sections.append(Section("Prototypes", text, cards=cards))
        if embedding:
            sections.append(
                Section(
                    "Among real images",
                    "Features of real images on their two principal components, and prototypes "
                    "as stars.",
                    plot=embedding,
                )
            )
        if len(getattr(prototypes, "loss_curve_", ())) > 1:
            from sklgm.plotting import ConvergenceDisplay

            curve = ConvergenceDisplay.from_estimator(prototypes)
            sections.append(Section("Optimisation", plot=figure_picture(curve.figure_)))
        sections += [_result_section(heading, result) for heading, result in named.items()]
        sections += _provenance(prototypes)
        summary = (
            f"{len(images)} prototypes of {len(names)} classes, {images.shape[2]} × "
            f"{images.shape[1]} pixels"
        )
        return cls(_render(title, summary, sections))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write the page to a file.

        Parameters
        ----------
        path : str or Path
            Path of the file.
        overwrite : bool, default=False
            Whether to replace a file that is there.

        Raises
        ------
        FileExistsError
            If it is there.
        """
        self.check_target(path, overwrite=overwrite)
        with replacing(Path(path)) as partial:
            # Names of files may hold what is no text.
            partial.write_text(self.html, encoding="utf-8", errors="replace")

    @staticmethod
    def check_target(path: str | Path, *, overwrite: bool = False) -> None:
        """Raise unless a page can be written there, before the work of making one.

        Parameters
        ----------
        path : str or Path
            Path of the file.
        overwrite : bool, default=False
            Whether a file that is there may be replaced.

        Raises
        ------
        FileExistsError
            If it is there.
        FileNotFoundError, IsADirectoryError
            If its folder is not there, or it is a folder itself.
        """
        target = Path(path)
        if target.is_dir():
            raise IsADirectoryError(f"{target} is a folder. Name a file for the page.")
        if target.exists() and not overwrite:
            raise FileExistsError(f"{target} exists. Allow to overwrite it, or choose another.")
        if not target.parent.is_dir():
            raise FileNotFoundError(
                f"There is no folder {target.parent} to write {target.name} to."
            )

    def _repr_html_(self) -> str:
        # Without a base, links to sections would lead to the notebook.
        framed = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        page = html.escape(framed, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40rem;border:0"></iframe>'

    def __repr__(self) -> str:
        return f"HTMLReport({len(self.html) / 1e6:.1f} MB; write it by save(path))"


def _class_names(labels: np.ndarray, class_names: Any) -> dict[Any, str]:
    """Return the name to show for each label."""
    from sklgm.plotting._style import resolve_class_names

    classes = np.unique(labels)
    return dict(zip(classes.tolist(), resolve_class_names(classes, class_names), strict=True))


def _named(results: Any) -> dict[str, Any]:
    """Return results by their headings."""
    if isinstance(results, Mapping):
        named = {str(heading): result for heading, result in results.items()}
    elif hasattr(results, "_repr_html_") or not isinstance(results, Sequence):
        raise ValueError(
            f"results must be a list of what the protocols returned, or a dict from headings to "
            f"them; got {type(results).__name__}. Put a single one in brackets."
        )
    else:
        named = {}
        for result in results:
            kind = type(result).__name__
            heading = first = _HEADINGS.get(kind, kind)
            if isinstance(result, AlignmentMatrix):
                heading = first = _ALIGNMENTS.get(result.metric, _ALIKE)
            number = 1
            while heading in named:
                number += 1
                heading = f"{first}, {number}"
            named[heading] = result
    for heading, result in named.items():
        if not (hasattr(result, "_repr_html_") or hasattr(result, "plot")):
            raise ValueError(
                f"The result under {heading!r}, a {type(result).__name__}, has neither "
                f"_repr_html_ nor plot, so a report cannot show it."
            )
    return named


def _among_real(
    images: np.ndarray,
    labels: np.ndarray,
    X: Any,
    y: Any,
    probe: FrozenBackboneProbe,
    class_names: Any,
) -> tuple[list[np.ndarray], str]:
    """Return the nearest real image of each prototype shown, uint8, and a map of all."""
    from sklgm.plotting import EmbeddingDisplay
    from sklgm.plotting._embedding import choose_rows

    source = clone(probe)._check_X(X, reset=True)
    assert isinstance(source, ImageSource)
    classes, indices = check_targets(y, len(source), "HTMLReport")
    counts = dict(zip(classes.tolist(), np.bincount(indices).tolist(), strict=True))
    for label, n_prototypes in Counter(labels.tolist()).items():
        if counts.get(label, 0) < n_prototypes:
            raise ValueError(
                f"Class {label!r} has {n_prototypes} prototypes and {counts.get(label, 0)} images "
                f"in X, so that not each has a nearest one. Pass more images of it, or leave X out."
            )
    prototype_features = embed_prototypes(probe, images)
    features = embed_real(probe, source)
    rows = nearest_rows(features, indices, prototype_features, np.searchsorted(classes, labels))
    shown = np.arange(len(indices))
    if len(shown) > _MOST_DOTS:
        shown = choose_rows(indices, _MOST_DOTS, random_state=0)
    display = EmbeddingDisplay.from_features(
        features[shown],
        classes[indices[shown]],
        prototype_features,
        labels,
        class_names=class_names,
    )
    return [source[row] for row in rows[:_MOST_CARDS]], figure_picture(display.figure_)


def _result_section(heading: str, result: Any) -> Section:
    # A data frame has a plot too, which is none of its table.
    own = type(result).__module__.startswith("sklgm.")
    plot: str = ""
    table: Any = ""
    if hasattr(result, "plot") and (own or not hasattr(result, "_repr_html_")):
        drawn = result.plot()
        # A result of somebody else may return axes.
        plot = figure_picture(drawn.figure_ if hasattr(drawn, "figure_") else drawn.figure)
    if hasattr(result, "_repr_html_"):
        table = Markup(result._repr_html_())
    return Section(heading, plot=plot, table=table)


def _provenance(prototypes: Any) -> list[Section]:
    """Return how prototypes were made, and with which versions."""
    if not isinstance(prototypes, PrototypeSet):
        prototypes = PrototypeSet.from_estimator(prototypes)
    known = dict(prototypes.provenance)
    versions = known.pop("versions", {})
    # What an estimator is known by, its parameters, goes without saying.
    known |= known.pop("parameters", {}) if isinstance(known.get("parameters"), dict) else {}
    groups = {"How they were made": _flat(known), "Versions": _flat({"": versions})}
    return [Section(heading, facts=facts) for heading, facts in groups.items() if facts]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return names and values, those of dicts within by the names of both."""
    facts = []
    for name, value in values.items():
        full = f"{prefix} {name}".strip()
        facts += _flat(value, full) if isinstance(value, dict) else [(full, _as_text(value))]
    return facts


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _render(title: str, summary: str, sections: list[Section]) -> str:
    template = files("sklgm.report").joinpath("page.html").read_text(encoding="utf-8")
    # What is no Markup is escaped: a class may be called <script>.
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    return environment.from_string(template).render(
        title=title,
        summary=summary,
        sections=sections,
        version=__version__,
        date=datetime.date.today().isoformat(),
    )
