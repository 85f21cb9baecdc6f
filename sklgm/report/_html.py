"""HTMLReport: prototypes, what they were compared with and how they were made, on one page."""

from __future__ import annotations

import datetime
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sklgm._version import __version__
from sklgm.backbones import Backbone
from sklgm.estimators.probe import FrozenBackboneProbe
from sklgm.estimators.probing import find_nearest, probe_of
from sklgm.plotting import ConvergenceDisplay, EmbeddingDisplay
from sklgm.plotting._embedding import choose_rows
from sklgm.plotting._style import resolve_class_names
from sklgm.prototypes.card import likeliest
from sklgm.prototypes.nets import difference, recorded_net
from sklgm.prototypes.prototype_set import PrototypeSet
from sklgm.prototypes.provenance import preparation
from sklgm.utils.extras import needs_extra
from sklgm.utils.files import replacing, try_writing
from sklgm.utils.pictures import figure_picture, picture

with needs_extra("report", "HTMLReport"):
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

# The map has at most this many real images.
_MOST_DOTS = 2000
# At most this many prototypes are shown one by one.
_MOST_CARDS = 200
# Heading and text of what the protocols return, by the name of its class.
_ABOUT = {
    "SelectionComparison": (
        "Beside real images",
        "Scores on test images of linear probes, each of which was trained on the images of its "
        "row and on nothing else. The worst group is a pair of class and group.",
    ),
    "TransferMatrix": (
        "On other backbones",
        "Scores on test images of probes that were trained on the images of the row, on the "
        "backbone of the column.",
    ),
    "PrototypeCurve": (
        "More prototypes",
        "Scores on test images of probes, by the number of images of each class that they were "
        "trained on.",
    ),
    "PrototypeStatistics": (
        "Among the images of their class",
        "Where each prototype lies among real images of its class, which are those of --train on "
        "pages of the command: distance from the class mean; z-score, the distance by the spread "
        "of the class in this direction, which is large for every single image and tells "
        "something beside that of random images; percentile, the share of images that are nearer "
        "to the mean; and margin, by which a probe that was trained on all these images prefers "
        "its class to the next.",
    ),
    "AlignmentMatrix": (
        "How alike the backbones are",
        "How much two backbones agree on which images are similar; at most 1. Calibrated values "
        "are 0 where shuffled images would do as well.",
    ),
    "AlignmentTransfer": (
        "Alignment and transfer",
        "Correlation, over pairs of backbones, of how alike they are and how well prototypes of "
        "one serve the other; in brackets, bootstrap intervals.",
    ),
    "BiasReport": (
        "Groups",
        "What two linear readers find in prototypes: the group, such as a background, that goes "
        "with their class in training, and their class.",
    ),
    "SuspectClasses": (
        "Classes that mix",
        "Suspicion is the probability that a real image of another class is nearer to the "
        "prototypes of a class than one of its own. Above 1/2, look for what they share. On pages "
        "of the command, real images are those of --test if it has every class, and otherwise "
        "those of --train.",
    ),
}
_OF_GRADIENTS = (
    "What the prototypes mean to each backbone",
    "How far gradients of a probe on prototypes point where those on real images do; at most 1.",
)


@dataclass(frozen=True)
class Section:
    """A part of the page; what is empty is left out.

    Plots are data URIs, as are the pictures of cards, and tables are HTML; the rest is text.
    """

    heading: str
    text: str = ""
    cards: list[dict[str, Any]] = field(default_factory=list)
    plot: str = ""
    table: Any = ""
    facts: dict[str, Any] = field(default_factory=dict)


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
            A distiller or a selector with prototypes that are images, or a set of such. Of soft
            labels the page shows the three most probable classes.
        X : array-like of images, default=None
            Real images, as every estimator takes them. With them the page shows the most similar
            one beside each prototype, of the same class and none twice, and a map of both.
        y : array-like of shape (n_samples,), default=None
            Labels of the images.
        results : sequence, or dict of str to object, default=()
            Tables and matrices that the protocols returned (:mod:`sklgm.evaluation`,
            :mod:`sklgm.alignment`, :mod:`sklgm.bias`), in the order of the page; a dict gives
            headings. Anything else with a ``_repr_html_`` or a ``plot`` will do too.
        backbone : str, Backbone or None, default=None
            Net whose features tell what is similar. None takes the one that the prototypes were
            made on, the first of several; a net of your own has to be named for a set.
        probe : FrozenBackboneProbe or None, default=None
            Its image size and other settings of the net are used, unless ``backbone`` is None:
            then they are the estimator's. A set that was made on the net knows its image size.
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
            a result cannot be shown.
        """
        made = prototypes
        if not isinstance(made, PrototypeSet):
            made = PrototypeSet.from_estimator(made)
        images, labels = made.images, made.labels
        if images.ndim == 2:
            raise ValueError("These prototypes are rows of features, and a report shows pictures.")
        classes = np.unique(labels)
        names = dict(zip(classes.tolist(), resolve_class_names(classes, class_names), strict=True))
        shown = list(zip(labels.tolist(), images, strict=True))[:_MOST_CARDS]
        cards: list[dict[str, Any]] = [
            {"name": names[label], "prototype": picture(image)} for label, image in shown
        ]
        text = [f"The first {len(cards)} of {len(images)}."] if len(images) > len(cards) else []
        maps, looking = [], None
        if X is not None:
            looking = probe_of(prototypes, backbone, probe)
            reals, embedding = _among_real(images, labels, X, y, looking, names)
            for card, real in zip(cards, reals, strict=True):
                card["real"] = real
            text.append(
                "Beside each one, in a dashed frame, is the real image of its class that is most "
                "similar to it. None is shown twice."
            )
            about = "Features of real images and prototypes, on principal components of the former."
            maps = [Section("Among real images", about, plot=embedding)]
        if made.probabilities is not None:
            for card, row in zip(cards, made.probabilities, strict=False):
                likely = likeliest(row, list(names.values()))
                # Without those of no percent.
                card["soft_label"] = [f"{p:.1%} {name}" for name, p in likely if p >= 0.0005]
            text.append("In grey below its class are the most probable ones of its soft label.")
        sections = [Section("Prototypes", " ".join(text), cards=cards), *maps]
        if len(getattr(prototypes, "loss_curve_", ())) > 1:
            curve = ConvergenceDisplay.from_estimator(prototypes)
            sections.append(Section("Optimisation", plot=figure_picture(curve.figure_)))
        if isinstance(results, Mapping):
            named: list[tuple[Any, Any]] = list(results.items())
        else:
            named = [(None, result) for result in results]
        sections += [_result_section(heading, result) for heading, result in named]
        sections += _provenance(made.provenance)
        if looking is not None:
            sections.append(_looking(looking, made.provenance))
        height, width = images.shape[1:3]
        summary = f"{len(images)} prototypes of {len(names)} classes, {width} × {height} pixels"
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
            If it is there and `overwrite` is False, or is a folder.
        FileNotFoundError
            If its folder is not there.
        OSError
            If nothing can be written there.
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
            If it is there, or is a folder.
        FileNotFoundError
            If its folder is not there.
        OSError
            If nothing can be written there, which is tried.
        """
        target = Path(path)
        if target.is_dir() or (target.exists() and not overwrite):
            raise FileExistsError(
                f"{target} exists. Replace it by overwrite=True, or --overwrite of the command, or "
                f"name another file."
            )
        if not target.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {target.parent} to write to.")
        try_writing(target.absolute())

    def _repr_html_(self) -> str:
        # Without a base, links to sections would lead to the notebook.
        framed = self.html.replace("<head>", '<head><base href="about:srcdoc">', 1)
        page = html.escape(framed, quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:40rem;border:0"></iframe>'


def _among_real(
    images: np.ndarray, labels: np.ndarray, X: Any, y: Any, probe: Any, class_names: Any
) -> tuple[list[str], str]:
    """Return the nearest real image of each prototype shown, and a map of all, as data URIs."""
    real = find_nearest(images, labels, X, y, probe, "HTMLReport")
    dots = choose_rows(real.labels, min(len(real.labels), _MOST_DOTS), random_state=0)
    display = EmbeddingDisplay.from_features(
        real.features[dots],
        real.labels[dots],
        real.prototype_features,
        labels,
        class_names=class_names,
    )
    pictures = [picture(real.source[row]) for row in real.nearest[:_MOST_CARDS]]
    return pictures, figure_picture(display.figure_)


def _result_section(heading: Any, result: Any) -> Section:
    kind = type(result).__name__
    own_heading, text = _ABOUT.get(kind, (kind, ""))
    if kind == "AlignmentMatrix" and result.metric == "gradient alignment":
        own_heading, text = _OF_GRADIENTS
    heading = own_heading if heading is None else str(heading)
    table = Markup(result._repr_html_()) if hasattr(result, "_repr_html_") else ""
    # The plot method of a data frame does not draw its table.
    own = type(result).__module__.startswith("sklgm.")
    if hasattr(result, "plot") and (own or not table):
        return Section(heading, text, plot=figure_picture(result.plot().figure_), table=table)
    if not table:
        raise ValueError(f"{kind} has neither _repr_html_ nor plot to show; pass other results.")
    return Section(heading, text, table=table)


def _provenance(provenance: dict[str, Any]) -> list[Section]:
    """Return how prototypes were made, and with which versions."""
    known = dict(provenance)
    nets = known.pop("preprocessing", None)
    parts = [
        ("How they were made", known),
        ("Data", known.pop("data", None)),
        ("Parameters", known.pop("parameters", None)),
        *(("Net that made them", net) for net in (nets if isinstance(nets, list) else [nets])),
        ("Versions", known.pop("versions", None)),
    ]
    return [
        # Somebody else may have written anything in place of a dict.
        Section(heading, facts=facts if isinstance(facts, dict) else {"": facts})
        for heading, facts in parts
        if facts
    ]


def _looking(probe: FrozenBackboneProbe, provenance: dict[str, Any]) -> Section:
    """Return what looks at the prototypes, and how its net differs from one that made them."""
    net = probe._encoder().backbone
    facts = {"name": net.name, "image_size": net.image_size, **preparation(net)}
    facts |= {"precision": probe.precision, "n_views of probes": probe.n_views}
    differs = difference(recorded_net(provenance, net), net)
    return Section("Net and probes of this page", differs, facts=facts)


def _render(title: str, summary: str, sections: list[Section]) -> str:
    # All text but Markup is escaped: a class may be called <script>.
    environment = Environment(
        loader=PackageLoader("sklgm", "report"), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(
        title=title,
        summary=summary,
        sections=sections,
        version=__version__,
        date=datetime.date.today().isoformat(),
    )
