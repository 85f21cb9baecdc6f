"""Tables as spreadsheets and other machines write them."""

import contextlib
import unicodedata

import pytest
from PIL import Image

from sklgm.datasets import load_csv
from sklgm.report._folders import _read_groups


@pytest.fixture
def read(tmp_path):
    """Write a table beside two images, and return names and labels that are read from it."""
    for name in "ab":
        (tmp_path / name).mkdir()
        Image.new("L", (4, 4)).save(tmp_path / name / "0.png")

    def read(text, encoding="utf-8", **options):
        (tmp_path / "table.csv").write_bytes(text.encode(encoding))
        data = load_csv(tmp_path / "table.csv", **options)
        names = [path.removeprefix(f"{tmp_path}/") for path in data.paths]
        return list(zip(names, data.target.tolist(), strict=True))

    return read


RIGHT = [("a/0.png", "x"), ("b/0.png", "y")]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("path;label\na/0.png;x\nb/0.png;y\n", "utf-8"),
        ("path\tlabel\na/0.png\tx\nb/0.png\ty\n", "utf-8"),
        ("path\tlabel\r\na/0.png\tx\r\nb/0.png\ty\r\n", "utf-16"),
        ("Path,LABEL\na/0.png,x\nb/0.png,y\n", "utf-8-sig"),
        ("sep=,\npath,label\na/0.png,x\nb/0.png,y\n", "utf-8"),
        ("sep=;\r\nlabel;path\r\nx;a/0.png\r\ny;b/0.png\r\n", "utf-8"),
        ("path,label,\na/0.png,x,,\n,,\n\nb/0.png,y", "utf-8"),
        ("path,label\na\\0.png,x\nb\\0.png,y\n", "utf-8"),
    ],
)
def test_tables_of_spreadsheets_are_read(read, text, encoding):
    assert read(text, encoding) == RIGHT


@pytest.mark.parametrize(
    "text",
    [
        "path, label\na/0.png, x\nb/0.png, y\n",
        "path,label\na/0.png,x \nb/0.png,y\u00a0\n",
        " label ,path\nx,a/0.png \ny,b/0.png\n",
    ],
)
def test_blanks_around_cells_are_stripped_with_a_warning(read, text):
    with pytest.warns(UserWarning, match="blanks around them, which are stripped: [12], "):
        assert read(text) == RIGHT


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028"])
def test_a_line_separator_in_a_cell_does_not_cut_it(read, separator):
    text = f'path,label\na/0.png,"x{separator}z"\nb/0.png,y\n'
    # Two quotes that stand alone in a table swallow what is between them.
    over_lines = pytest.warns(UserWarning, match="over several lines: 1, the first is 'x")
    with over_lines if separator in ("\n", "\r\n") else contextlib.nullcontext():
        assert read(text) == [("a/0.png", f"x{separator}z"), ("b/0.png", "y")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('path,label\na/0.png,x\nb/0.png,"y\na/0.png,x\n', "line 3 on, .*double quote"),
        ('path,label\n"a/0.png,x\n"b/0.png",y\n', "line 2 on, .*double quote"),
        ("path,label\na/0,1.png,x\n", "Line 2 .* does not fit the 2 columns"),
        ('path,label\na/0.png, "x"\n', "Line 2 .* no blank before"),
        (
            "path,label\na/0.png,x\n\nb/0.png, \n",
            "Line 4 .* must give path and label. Complete or remove it",
        ),
        (
            "path,label\na.png,\n,x\n",
            "Line 2 .* label, and so must 1 more. Complete or remove them",
        ),
        ("a/0.png,x\n", "Line 1 .* it is 'a/0.png,x'.* put a line above it: path,label"),
        ("file;class\na/0.png;x\n", "Line 1 .* must name the columns path and label.*'file;class'"),
        ("path,label,label\na/0.png,x,y\n", "Line 1 .* each once"),
        ("", "Line 1 .* it is ''"),
        ("sep=", "Line 1 .* it is 'sep='"),
        ("sep=\npath,label\na/0.png,x\n", "Line 1 .* it is 'sep='"),
        ("path,label\na/0.png,caf\u00e9\nb/0.png,cafe\u0301\n", "look the same: .*Unicode form"),
    ],
)
def test_errors_name_the_line_and_the_remedy(read, text, message):
    with pytest.raises(ValueError, match=message):
        read(text)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
def test_accents_of_another_machine(read, tmp_path, on_disk):
    (tmp_path / unicodedata.normalize(on_disk, "é.png")).touch()
    for form in ("NFC", "NFD"):
        found = read(f"path,label\n{unicodedata.normalize(form, 'é.png')},x\n")
        assert (tmp_path / found[0][0]).is_file()


def test_damaged_and_missing_files_are_left_out_on_demand(read, tmp_path):
    (tmp_path / "bad.png").touch()
    text = "path,label\na/0.png,x\nbad.png,x\nb/0.png,y\nnowhere.png,y\n"
    assert len(read(text)) == 4
    with pytest.warns(UserWarning, match=r"2 of 4 .*bad\.png: .*nowhere\.png: there is no"):
        assert read(text, on_error="skip") == RIGHT


def test_groups_are_read_alike(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").touch()
    table = tmp_path / "groups.csv"
    table.write_text("Path;Group\na\\0.png;land\n")
    assert _read_groups(table, [tmp_path / "a" / "0.png"])[0].tolist() == ["land"]
    table.write_text("path,group\na/0.png,caf\u00e9\na/1.png,cafe\u0301\n", encoding="utf-8")
    with pytest.raises(ValueError, match="look the same"):
        _read_groups(table)
