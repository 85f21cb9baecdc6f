"""The README of saved prototypes: a data card, for people and for the Hugging Face Hub."""

from __future__ import annotations

import json
import re
from typing import Any

_HEADER = """\
---
license: {license}
{name}task_categories:
- image-classification
tags:
- dataset-distillation
- sklgm
{configs}---
"""
# Which lets `load_dataset` find the pictures, with the names of their folders as labels.
_CONFIGS = """\
configs:
- config_name: default
  data_dir: images
"""
_OTHER = "license_name: {name}\n"


def data_card(shape: tuple[int, ...], classes: list[Any], provenance: dict[str, Any]) -> str:
    """Write the card of a set of prototypes.

    Parameters
    ----------
    shape : tuple of int
        Of the prototypes.
    classes : list
        Their labels, each once.
    provenance : dict
        How they were made, as `PrototypeSet` holds it.

    Returns
    -------
    str
        Markdown, below the YAML that the Hub reads.
    """
    data = _dict(provenance.get("data"))
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
    return _yaml(data.get("license"), has_pictures=len(shape) == 4) + "\n" + "\n".join(lines) + "\n"


def _yaml(license: Any, *, has_pictures: bool) -> str:
    name = ""
    if not license:
        license = "unknown"
    elif not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", str(license)):
        # None of the Hub's identifiers, which look like cc-by-sa-4.0.
        name, license = _OTHER.format(name=json.dumps(str(license))), "other"
    return _HEADER.format(license=license, name=name, configs=_CONFIGS if has_pictures else "")


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
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in facts.items()]
    return ["", f"## {title}", "", "| | |", "|---|---|", *rows]


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))
