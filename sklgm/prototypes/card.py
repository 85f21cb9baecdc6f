"""The README of saved prototypes: a data card, for people and for the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

# Prototypes whose soft labels are listed.
_LISTED = 100
_OPTIMISED = (
    "They are no photographs: what they show was optimised, and takes after the data they were "
    "made of."
)
_STARTED_AT_REAL = (
    "They were optimised from real samples of the data they were made of, and keep much of them: "
    "who and what is to be seen there may be recognised, and their licence and privacy count here "
    "too."
)


def data_card(
    shape: tuple[int, ...],
    labels: np.ndarray,
    provenance: dict[str, Any],
    probabilities: np.ndarray | None,
) -> str:
    """Write the card of a set of prototypes.

    Parameters
    ----------
    shape : tuple of int
        Shape of the prototypes.
    labels : ndarray of shape (n_prototypes,)
        Their labels.
    provenance : dict
        Facts about how they were made, as `PrototypeSet` holds them.
    probabilities : ndarray of shape (n_prototypes, n_classes) or None
        Their soft labels.

    Returns
    -------
    str
        The card: YAML that the Hub reads, and Markdown below it.
    """
    # Imported here, since it takes a while and most programs write no card.
    from huggingface_hub import DatasetCard, DatasetCardData

    data, classes = _dict(provenance.get("data")), np.unique(labels).tolist()
    license = str(data.get("license") or "unknown")
    is_known = re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", license)  # such as cc-by-sa-4.0
    is_images = len(shape) == 4
    header = DatasetCardData(
        license=license if is_known else "other",
        license_name=None if is_known else license,
        task_categories=["image-classification"],
        tags=["dataset-distillation", "sklgm"],
        # This tells `load_dataset` where the pictures are; their folders are the labels.
        configs=[{"config_name": "default", "data_dir": "images"}] if is_images else None,
    )
    what = "images" if is_images else "rows"
    parameters = _dict(provenance.get("parameters"))
    own = _STARTED_AT_REAL if parameters.get("init") == "nearest" else _OPTIMISED
    kind = f"{shape[1]} x {shape[2]} pixels" if is_images else "features"
    made_by = {name: provenance[name] for name in ("estimator", "n_iter") if name in provenance}
    lines = [
        f"# Synthetic {what} distilled by sklgm",
        "",
        f"{shape[0]} prototypes ({kind}) of {len(classes)} classes, made by Linear Gradient "
        f"Matching for a linear probe to be trained on, on top of a frozen backbone. {own}",
        "",
        "`prototypes.safetensors` holds them exactly, `card.json` their labels and the facts "
        "below; `sklgm.PrototypeSet.load` reads both.",
        *_section("Made of", data),
        *_section("Made by", made_by | parameters),
        *_section("Versions", _dict(provenance.get("versions"))),
        *_section("Classes", dict(enumerate(classes))),
        *_soft_labels(labels.tolist(), classes, probabilities),
    ]
    return str(DatasetCard("\n".join(["---", header.to_yaml(), "---", "", *lines, ""])))


def likeliest(probabilities: np.ndarray, names: Sequence[Any]) -> list[tuple[Any, float]]:
    """Return the names of the three most probable of several classes, with their probabilities."""
    order = np.argsort(-probabilities, kind="stable")[:3]
    return [(names[c], float(probabilities[c])) for c in order]


def _dict(value: Any) -> dict[str, Any]:
    """Return a value that should be a dict; in provenance that others wrote it may be anything."""
    return value if isinstance(value, dict) else {}


def _section(title: str, facts: dict[Any, Any]) -> list[str]:
    if not facts:
        return []
    return ["", f"## {title}", "", _table(["", ""], list(facts.items()))]


def _soft_labels(
    labels: list[Any], classes: list[Any], probabilities: np.ndarray | None
) -> list[str]:
    if probabilities is None:
        return []
    rows = []
    for i, (label, row) in enumerate(zip(labels[:_LISTED], probabilities, strict=False)):
        shown = ", ".join(f"{name} {share:.3f}" for name, share in likeliest(row, classes))
        rows.append([i, label, shown])
    first = f" Of the first {_LISTED} prototypes:" if len(labels) > _LISTED else ""
    return [
        "",
        "## Soft labels",
        "",
        "What a classifier of the real data says of each prototype: the most probable classes. "
        f"`prototypes.safetensors` holds all probabilities.{first}",
        "",
        _table(["prototype", "made for", "probabilities"], rows),
    ]


def _table(headers: list[str], rows: Sequence[Sequence[Any]]) -> str:
    cells = [[_cell(value) for value in row] for row in rows]
    return tabulate(cells, headers, "pipe", disable_numparse=True)


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
