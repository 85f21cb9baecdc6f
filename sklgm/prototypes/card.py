"""The README of saved prototypes: a data card, for people and for the Hugging Face Hub."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from sklgm.backbones._names import place_of
from sklgm.prototypes.nets import facts_of, homes_of, is_name, recorded_nets

# Prototypes whose soft labels are listed.
_LISTED = 100
# The estimators that choose. None of them is imported: they are built on this.
_SELECTORS = ("RandomImages", "ClassCentroids", "HerdingImages", "KCenterImages", "NearestImages")
_PURPOSE = "for a linear probe to be trained on, on top of a frozen backbone"
_PICTURES = (
    " `images` has them as PNG files, rounded to 8 bits, in a folder for each class. The files are "
    "numbered as the labels in `card.json`."
)
_OPTIMISED = (
    "They are no photographs: what they show was optimised, and takes after the data they were "
    "made of."
)
_STARTED_AT_REAL = (
    "They were optimised from real samples of the data they were made of, and keep much of them: "
    "who and what is to be seen there may be recognised, and their licence and privacy count here "
    "too."
)
_CHOSEN = "They are samples of the data itself, whose licence and privacy count here too."
_PREPROCESSING = (
    "RGB pixels in [0, 1] are resized, cropped at the centre to the side `image_size`, which is "
    "`crop_pct` of the resized side, and shown to the net as `(pixels - mean) / std`. The resized "
    "side is the shorter one where `resize` is canvas, center or shortest, the longer one where it "
    "is border or longest, and both where it is squash."
)
_TEACHER = (
    "One half of each is what linear discriminant analysis of the real data says, the other half "
    "is the class. "
)


class _Origin(NamedTuple):
    """What is known of how prototypes were made; of those of others, nothing."""

    title: str
    made: str  # goes on after their number
    teacher: str  # of their soft labels
    tags: list[str]


def data_card(prototypes: Any) -> str:
    """Return the card of a `PrototypeSet`: YAML that the Hub reads, and Markdown below it."""
    # Imported here, since it takes a while and most programs write no card.
    from huggingface_hub import DatasetCard, DatasetCardData

    shape, provenance = prototypes.images.shape, prototypes.provenance
    data, classes = facts_of(provenance, "data"), prototypes.classes.tolist()
    license = str(data.get("license") or "unknown")
    is_known = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license)  # such as cc-by-sa-4.0
    is_images = len(shape) == 4
    what = "images" if is_images else "rows"
    origin = _origin(provenance, what)
    header = DatasetCardData(
        license=license if is_known else "other",
        license_name=None if is_known else license,
        task_categories=["image-classification"],
        tags=origin.tags,
        # This tells `load_dataset` where the pictures are; their folders are the labels.
        configs=[{"config_name": "default", "data_dir": "images"}] if is_images else None,
    )
    kind = f"{shape[1]} x {shape[2]} pixels" if is_images else "features"
    made_by = {name: provenance[name] for name in ("estimator", "n_iter") if name in provenance}
    made_by |= facts_of(provenance, "parameters")
    paragraphs = [
        f"---\n{header.to_yaml()}\n---",
        f"# {origin.title}",
        f"{shape[0]} prototypes ({kind}) of {len(classes)} classes{origin.made}",
        f"`prototypes.safetensors` holds them exactly, `card.json` their labels and the facts "
        f"below; `sklgm.PrototypeSet.load` reads both.{_PICTURES if is_images else ''}",
        _use(provenance) if is_images else "",
        _section("Made of", data),
        _section("Made by", made_by),
        _preprocessing(recorded_nets(provenance)),
        _section("Versions", facts_of(provenance, "versions")),
        _section("Classes", dict(enumerate(classes))),
        _soft_labels(prototypes, classes, origin.teacher),
    ]
    return str(DatasetCard("\n\n".join(filter(None, paragraphs)) + "\n"))


def likeliest(probabilities: np.ndarray, names: Sequence[Any]) -> list[tuple[Any, float]]:
    """Return the names of the three most probable of several classes, with their probabilities."""
    order = np.argsort(-probabilities, kind="stable")[:3]
    return [(names[c], float(probabilities[c])) for c in order]


def _origin(provenance: dict[str, Any], what: str) -> _Origin:
    estimator = provenance.get("estimator")
    if estimator == "LGMDistiller":
        is_real = facts_of(provenance, "parameters").get("init") == "nearest"
        made = f", made by Linear Gradient Matching {_PURPOSE}. "
        made += _STARTED_AT_REAL if is_real else _OPTIMISED
        title = f"Synthetic {what} distilled by sklgm"
        return _Origin(title, made, _TEACHER, ["dataset-distillation", "sklgm"])
    if estimator in _SELECTORS:
        made = f", chosen {_PURPOSE}. {_CHOSEN}"
        return _Origin(f"Real {what} chosen by sklgm", made, _TEACHER, ["sklgm"])
    return _Origin("Prototypes saved by sklgm", ".", "", ["sklgm"])


def _use(provenance: dict[str, Any]) -> str:
    """Return code that trains a probe on the net the prototypes were made on, if it is known."""
    homes = homes_of(provenance)
    if not homes:
        return ""
    size = facts_of(provenance, "parameters").get("image_size")
    given = repr(homes[0]) if is_name(homes[0]) else "backbone"  # which the reader has to make
    if isinstance(size, int):
        given += f", image_size={size}"
    place = place_of(homes[0]) if is_name(homes[0]) else None
    is_elsewhere = place is not None and not homes[0].startswith(("hf-hub:", "transformers:"))
    note = ""
    if given.startswith("backbone"):
        note = "\n# backbone: the net that they were made on, as a sklgm.Backbone.\n"
    elif is_elsewhere:
        note = "\n# Put the path of your own copy of the weights into the name.\n"
    return f"""```python
from sklgm import FrozenBackboneProbe, PrototypeSet
{note}
prototypes = PrototypeSet.load("path/of/this/folder")
probe = FrozenBackboneProbe({given}).fit(prototypes)
probe.predict(images)
```"""


def _section(title: str, facts: dict[Any, Any]) -> str:
    return f"## {title}\n\n{_table(['', ''], facts.items())}" if facts else ""


def _preprocessing(nets: list[dict[str, Any]]) -> str:
    """Return how images are prepared for each net, a column each."""
    names = dict.fromkeys(itertools.chain(*nets))
    rows = [[name, *(net.get(name, "") for net in nets)] for name in names]
    headers = [""] * (1 + len(nets))
    return f"## Preprocessing\n\n{_PREPROCESSING}\n\n{_table(headers, rows)}" if names else ""


def _soft_labels(prototypes: Any, classes: list[Any], teacher: str) -> str:
    if prototypes.probabilities is None:
        return ""
    labels, rows = prototypes.labels.tolist(), []
    listed = zip(labels[:_LISTED], prototypes.probabilities, strict=False)
    for i, (label, row) in enumerate(listed):
        shown = ", ".join(f"{name} {share:.3f}" for name, share in likeliest(row, classes))
        rows.append([i, label, shown])
    first = f" Of the first {_LISTED} prototypes:" if len(labels) > _LISTED else ""
    text = (
        f"The probabilities of the most probable classes of each prototype. {teacher}"
        f"`prototypes.safetensors` holds all probabilities.{first}"
    )
    table = _table(["prototype", "made for", "probabilities"], rows)
    return f"## Soft labels\n\n{text}\n\n{table}"


def _table(headers: list[str], rows: Iterable[Iterable[Any]]) -> str:
    cells = [map(_cell, row) for row in rows]
    return tabulate(cells, headers, "pipe", disable_numparse=True)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
