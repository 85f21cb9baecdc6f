"""The README of saved prototypes: a data card, for people and for the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from typing import Any

from tabulate import tabulate


def data_card(shape: tuple[int, ...], classes: list[Any], provenance: dict[str, Any]) -> str:
    """Write the card of a set of prototypes.

    Parameters
    ----------
    shape : tuple of int
        Shape of the prototypes.
    classes : list
        Their labels, each once.
    provenance : dict
        Facts about how they were made, as `PrototypeSet` holds them.

    Returns
    -------
    str
        The card: YAML that the Hub reads, and Markdown below it.
    """
    # Imported here, since it takes a while and most programs write no card.
    from huggingface_hub import DatasetCard, DatasetCardData

    data = _dict(provenance.get("data"))
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
    kind = f"{shape[1]} x {shape[2]} pixels" if is_images else "features"
    made_by = {name: provenance[name] for name in ("estimator", "n_iter") if name in provenance}
    lines = [
        f"# Synthetic {what} distilled by sklgm",
        "",
        f"{shape[0]} prototypes ({kind}) of {len(classes)} classes, made by Linear Gradient "
        "Matching for a linear probe to be trained on, on top of a frozen backbone. They are no "
        "photographs: what they show was optimised, and takes after the data they were made of.",
        "",
        "`prototypes.safetensors` holds them exactly, `card.json` their labels and the facts "
        "below; `sklgm.PrototypeSet.load` reads both.",
        *_section("Made of", data),
        *_section("Made by", made_by | _dict(provenance.get("parameters"))),
        *_section("Versions", _dict(provenance.get("versions"))),
        *_section("Classes", dict(enumerate(classes))),
    ]
    return str(DatasetCard("\n".join(["---", header.to_yaml(), "---", "", *lines, ""])))


def _dict(value: Any) -> dict[str, Any]:
    """Return a value that should be a dict; in provenance that others wrote it may be anything."""
    return value if isinstance(value, dict) else {}


def _section(title: str, facts: dict[Any, Any]) -> list[str]:
    if not facts:
        return []
    rows = [[_cell(name), _cell(value)] for name, value in facts.items()]
    return ["", f"## {title}", "", tabulate(rows, ["", ""], "pipe", disable_numparse=True)]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
