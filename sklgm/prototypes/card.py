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
    license, license_name = _license(data.get("license"))
    header = DatasetCardData(
        license=license,
        license_name=license_name,
        task_categories=["image-classification"],
        tags=["dataset-distillation", "sklgm"],
        # By which `load_dataset` finds the pictures, with the names of their folders as labels.
        configs=[{"config_name": "default", "data_dir": "images"}] if len(shape) == 4 else None,
    )
    kind = " x ".join(map(str, shape[1:3])) + " pixels" if len(shape) == 4 else "features"
    what = "Synthetic images" if len(shape) == 4 else "Synthetic rows"
    lines = [
        f"# {what} distilled by sklgm",
        "",
        f"{shape[0]} prototypes ({kind}) of {len(classes)} classes, made by Linear Gradient "
        "Matching for a linear probe to be trained on, on top of a frozen backbone. They are no "
        "photographs: what they show was optimised, and takes after the data they were made of.",
        "",
        "`prototypes.safetensors` holds them exactly, `card.json` their labels and the facts "
        "below; `sklgm.PrototypeSet.load` reads both.",
        *_section("Made of", data),
        *_section("Made by", _settings(provenance)),
        *_section("Versions", _dict(provenance.get("versions"))),
        *_section("Classes", dict(enumerate(classes))),
    ]
    return str(DatasetCard("\n".join(["---", header.to_yaml(), "---", "", *lines, ""])))


def _license(name: Any) -> tuple[str, str | None]:
    """Return the Hub's identifier of a licence, and the name of one that has no identifier."""
    name = str(name or "unknown")
    # Identifiers look like cc-by-sa-4.0.
    return (name, None) if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", name) else ("other", name)


def _settings(provenance: dict[str, Any]) -> dict[str, Any]:
    settings = {"estimator": provenance.get("estimator"), **_dict(provenance.get("parameters"))}
    if "n_iter" in provenance:
        settings["n_iter"] = provenance["n_iter"]
    return settings if settings["estimator"] else {}


def _dict(value: Any) -> dict[str, Any]:
    """Return what should be a dict, and may be anything in provenance of others' making."""
    return value if isinstance(value, dict) else {}


def _section(title: str, facts: dict[Any, Any]) -> list[str]:
    if not facts:
        return []
    rows = [[_cell(name), _cell(value)] for name, value in facts.items()]
    return ["", f"## {title}", "", tabulate(rows, ["", ""], "pipe", disable_numparse=True)]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
