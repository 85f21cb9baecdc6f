"""Every public name is in the API page, and its docstring is numpydoc that holds."""

import doctest
import importlib
import inspect
import re
from pathlib import Path

import matplotlib
import pytest
from numpydoc.validate import validate

import sklgm

PACKAGES = [
    "sklgm",
    *(
        f"sklgm.{name}"
        for name in (
            *("alignment", "backbones", "bias", "datasets", "evaluation", "plotting", "report"),
        )
    ),
]
# Sections that a short function may do without: examples, see also, a second paragraph.
OPTIONAL = {"EX01", "SA01", "ES01"}
DOCS = Path(__file__).parents[1] / "docs"


def public_objects():
    """Return each public object by one name: the shortest it is imported by."""
    # The other names of sklgm.images are for sklgm itself.
    found = {sklgm.images.check_images: "sklgm.images.check_images"}
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            found.setdefault(getattr(module, name), f"{package}.{name}")
    return {name: thing for thing, name in found.items()}


OBJECTS = public_objects()


def with_methods():
    """Return names of objects, and of the public methods and properties that a class adds."""
    for name, thing in OBJECTS.items():
        yield name
        if inspect.isclass(thing):
            for attribute, value in vars(thing).items():
                kinds = (classmethod, staticmethod, property)
                if attribute[0] != "_" and (inspect.isfunction(value) or isinstance(value, kinds)):
                    yield f"{name}.{attribute}"


@pytest.mark.parametrize("name", list(with_methods()))
def test_docstrings_are_numpydoc(name):
    errors = [error for error in validate(name)["errors"] if error[0] not in OPTIONAL]
    assert not errors


def test_the_api_page_names_all_that_is_public():
    module, listed = None, set()
    for line in (DOCS / "api.rst").read_text(encoding="utf-8").splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            listed.add(f"{module}.{line.strip()}")
    assert listed == OBJECTS.keys()


MODULES = sorted(
    ".".join(file.relative_to(Path(sklgm.__file__).parents[1]).with_suffix("").parts)
    for file in Path(sklgm.__file__).parent.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    module = importlib.import_module(name.removesuffix(".__init__"))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.attempted > 0
    assert result.failed == 0
