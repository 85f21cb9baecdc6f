"""Sphinx configuration."""

import re
import sys
from pathlib import Path

import matplotlib
import torch
from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from jinja2 import Template
from sphinx_gallery.sorting import ExplicitOrder
from tabulate import tabulate

import sklgm

sys.path.insert(0, str(Path(__file__).parent))
from _figures import write_figures

matplotlib.use("Agg")

project = "sklgm"
author = "The sklgm developers"
copyright = "2026, The sklgm developers"
version = release = sklgm.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
default_role = "code"

autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"
numpydoc_show_class_members = False
# All but three, which would be filler: extended summaries where the first line says it all,
# examples of every method, and links from everything to something. So does tests/test_docs.py.
numpydoc_validation_checks = {"all", "ES01", "EX01", "SA01"}
nitpicky = True
# Other libraries' names, which without their inventories lead nowhere.
nitpick_ignore_regex = [("py:.*", r"(joblib|matplotlib|numpy|sklearn|torch)\..*")]

# The best ones first, then to the special cases; a script that is not listed comes last.
GALLERY_ORDER = (
    "plot_first_distillation.py",
    "plot_photographs.py",
    "plot_fine_tuned.py",
    "plot_bias.py",
    "plot_grid_search.py",
    "plot_prototypes_per_class.py",
    "plot_report.py",
    "plot_own_backbone.py",
    "plot_several_backbones.py",
    "plot_alignment.py",
    "plot_unequal_classes.py",
    "plot_folders_and_sites.py",
    "plot_features_only.py",
    "plot_callbacks.py",
    "*",
)


sphinx_gallery_conf = {
    "within_subsection_order": ExplicitOrder(GALLERY_ORDER),
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "capture_repr": ("_repr_html_",),
    "remove_config_comments": True,
    "show_memory": False,
    "show_signature": False,
}

html_theme = "pydata_sphinx_theme"
html_math_renderer = "mathml"
html_title = f"sklgm {version}"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "navbar_center": [],
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {"**": ["pages.html"]}


def skip_foreign_members(app, what, name, obj, skip, options):
    """Leave what scikit-learn's base classes add to scikit-learn's own documentation."""
    function = getattr(obj, "fget", None) or getattr(obj, "__func__", obj)
    module = getattr(function, "__module__", None) or ""
    if what == "class" and not module.startswith("sklgm"):
        return True
    return None


def write_mathml(translator, node):
    """Write a formula as MathML, which browsers draw by themselves, also offline."""
    is_block = isinstance(node, nodes.math_block)
    formula = tex2mathml(node.astext(), as_block=is_block)
    if is_block:
        formula = f'<div style="margin: 1em 0; overflow: auto hidden">{formula}</div>'
    translator.body.append(formula)
    raise nodes.SkipNode


def write_backbones(app):
    """Write the table of the backbones, and a file for each family's page, from their records."""
    from sklgm.backbones._libraries import LIBRARIES
    from sklgm.backbones._registry import ALIASES, REGISTRY

    short = {name: alias for alias, name in ALIASES.items()}
    families, rows, millions = {}, [], {}
    for spec in REGISTRY.values():
        family = spec.name.partition("_")[0]
        families.setdefault(family, []).append(spec)
        link = f":doc:`{spec.name} </backbones_by_family/{family}>`"
        sizes = spec.image_size, spec.n_features
        rows.append((link, short.get(spec.name, ""), *sizes, spec.pooling, spec.license))
        with torch.device("meta"):  # parameters without memory
            net = LIBRARIES[spec.source].build(spec, spec.image_size, False)
        millions[spec.name] = sum(tensor.numel() for tensor in net.parameters()) / 1e6
    columns = ("Name", "Short", "Pixels", "Features", "Kind of feature", "Licence of the weights")
    folder = Path(app.srcdir) / "generated" / "backbones"
    folder.mkdir(parents=True, exist_ok=True)
    table = tabulate(rows, columns, "rst", disable_numparse=True)
    folder.with_suffix(".inc").write_text(f"{table}\n", encoding="utf-8")
    source = (Path(app.srcdir) / "_templates" / "backbone_family.rst").read_text(encoding="utf-8")
    page = Template(source, trim_blocks=True, lstrip_blocks=True)
    for family, records in families.items():
        text = page.render(records=records, short=short, millions=millions)
        (folder / f"{family}.inc").write_text(f"{text}\n", encoding="utf-8")


def write_changelog(app):
    """Write CHANGELOG.md, whose Markdown is of the plain kind, as reStructuredText."""
    text = (Path(app.srcdir).parent / "CHANGELOG.md").read_text(encoding="utf-8")
    text = re.sub(r"\[(.+?)\]\((.+?)\)", r"`\1 <\2>`__", text)
    text = re.sub(r"(?<!`)`([^`\n]+)`(?![`_])", r"``\1``", text)
    for level, line in {1: "=", 2: "-", 3: "~"}.items():
        text = re.sub(
            rf"^{'#' * level} (.+)$", lambda m, c=line: f"{m[1]}\n{c * len(m[1])}", text, flags=re.M
        )
    target = Path(app.srcdir) / "generated" / "changelog.inc"
    target.write_text(text, encoding="utf-8")


def setup(app):
    """Register the functions above."""
    app.connect("autodoc-skip-member", skip_foreign_members)
    app.connect("builder-inited", write_backbones)
    app.connect("builder-inited", write_changelog)
    app.connect("builder-inited", write_figures)
    app.add_html_math_renderer("mathml", (write_mathml, None), (write_mathml, None))
