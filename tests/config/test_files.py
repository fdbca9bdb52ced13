"""Where a configuration is found, what cannot be read, and on which line of it a thing stands."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrlclient import ConfigurationError
from mrlclient.config.files import File, find_file, open_file

TEXT = """\
# A comment

default = "a"

[profiles.a]
model = "openai:x"
dimensions = [
  64,
  "wide",  # here
  128]
cache = '''
no
path'''
limits.requests_per_minute = 3
limits . "max_in_flight" = 0
canary = { path = "c", every = 1, threshold = 7 }
fallback = [
  # the first
  "openai:y",

  { model = "openai:z", limits = [
    1,
    2] },
  { model = "openai:v" }
]

[profiles."b c".limits]
shared = 7

[[profiles.a.endpoints]]
model = "e0"
[[profiles.a.endpoints]]
model = "e1"
timeout = 0
[profiles.a.endpoints.spec]
native = 1

[models."openai:mine"]
native_dimensions = 3
"""


@pytest.mark.parametrize(
    ("at", "text"),
    [
        ((), "# A comment"),
        (("default",), 'default = "a"'),
        (("profiles",), "[profiles.a]"),
        (("profiles", "a"), "[profiles.a]"),
        (("profiles", "a", "model"), 'model = "openai:x"'),
        (("profiles", "a", "dimensions"), "dimensions = ["),
        (("profiles", "a", "dimensions", 0), "  64,"),
        (("profiles", "a", "dimensions", 1), '  "wide",  # here'),
        (("profiles", "a", "dimensions", 2), "  128]"),
        (("profiles", "a", "cache"), "cache = '''"),
        (("profiles", "a", "limits"), "limits.requests_per_minute = 3"),
        (("profiles", "a", "limits", "max_in_flight"), 'limits . "max_in_flight" = 0'),
        (("profiles", "a", "canary", "threshold"), 'canary = { path = "c", every = 1, threshold = 7 }'),
        (("profiles", "a", "fallback"), "fallback = ["),
        (("profiles", "a", "fallback", 0), '  "openai:y",'),
        (("profiles", "a", "fallback", 1), '  { model = "openai:z", limits = ['),
        (("profiles", "a", "fallback", 1, "model"), '  { model = "openai:z", limits = ['),
        (("profiles", "a", "fallback", 1, "limits", 0), "    1,"),
        (("profiles", "a", "fallback", 2, "model"), '  { model = "openai:v" }'),
        (("profiles", "b c"), '[profiles."b c".limits]'),
        (("profiles", "b c", "limits", "shared"), "shared = 7"),
        (("profiles", "a", "endpoints", 0), "[[profiles.a.endpoints]]"),
        (("profiles", "a", "endpoints", 1, "timeout"), "timeout = 0"),
        (("profiles", "a", "endpoints", 1, "spec", "native"), "native = 1"),
        (("models", "openai:mine", "native_dimensions"), "native_dimensions = 3"),
        # What is missing is told of what encloses it.
        (("profiles", "b c", "model"), '[profiles."b c".limits]'),
        (("profiles", "a", "endpoints", 0, "timeout"), "[[profiles.a.endpoints]]"),
        (("nothing", "at", "all"), "# A comment"),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines(at, text, end, tmp_path):
    path = tmp_path / "mrlclient.toml"
    path.write_bytes(TEXT.replace("\n", end).encode())
    line = open_file(path).line(at)
    assert TEXT.split("\n")[line - 1] == text
    # Of two like lines, the right one.
    if at[:3] == ("profiles", "a", "endpoints") and len(at) > 3:
        assert line > TEXT[: TEXT.index("[[profiles.a.endpoints]]")].count("\n")


def test_lines_of_a_pyproject(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n[tool.mrlclient.profiles.a]\nmodel = 7\n')
    file = open_file(path)
    assert file.values == {"profiles": {"a": {"model": 7}}}
    assert file.line(("profiles", "a", "model")) == 4


_VALUES = st.sampled_from(
    ["1", '"x"', "[\n1,\n\n2]", "'''\na = 1\n[b]\n'''", '{ a = 1, b = "2" }', '"""\\\n  x"""', "true"]
)
_KEYS = st.sampled_from(["a", '"b c"', "d.e", '"f\\u002eg"', "'h'"])


@given(st.lists(st.tuples(_KEYS, _VALUES, st.sampled_from(["", "\n", "# x = [\n"])), min_size=1, max_size=8))
def test_every_key_is_found(statements):
    """Whatever stands before a key, the line told is the one on which its statement begins."""
    text, expected = "", {}
    for number, (key, value, between) in enumerate(statements):
        text += between
        full = f"t{number}.{key}"
        path = tuple(_path(tomllib.loads(f"{full} = 1")))
        expected[path] = text.count("\n") + 1
        text += f"{full} = {value}\n"
    file = File(Path("mrlclient.toml"), text)
    for path, line in expected.items():
        assert file.line(path) == line


def _path(values):
    while isinstance(values, dict):
        (key,) = values
        yield key
        values = values[key]


# What cannot be read.


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"a = 1\nb = \n", 2),
        (b"a = 1\n\n[profiles.x\nmodel = 1\n", 3),
        (b"a = 1\na = 2\n", 2),
        (b'a = 1\nb = """\nnever\nended\n', 2),
        (b"a = [\n1,\n2\n", 1),
        (b"\xef\xbb\xbfa = 1\nb =\n", 2),
        (b"a = 1\r\nb =\r\n", 2),
        (b'a = 1\nb = "\xff"\n', 2),
        ("a = 1\n".encode("utf-16"), 1),
        (b"a = " + b"[" * 100_000, 1),
        (b"a = 1\x00\n", 1),
    ],
)
@pytest.mark.parametrize("name", ["mrlclient.toml", "pyproject.toml"])
def test_a_broken_file_is_told_with_its_line(data, line, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(ConfigurationError, match=r"it is not|nested too deeply") as caught:
        open_file(path)
    assert f"{path}:{line}: " in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_mark_at_the_beginning_is_no_part_of_it(tmp_path):
    path = tmp_path / "mrlclient.toml"
    path.write_bytes(b'\xef\xbb\xbfdefault = "a"\r\n')
    assert open_file(path).values == {"default": "a"}


def test_what_is_no_file(tmp_path):
    with pytest.raises(ConfigurationError, match="There is no file"):
        open_file(tmp_path / "nothing.toml")
    (tmp_path / "mrlclient.toml").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        open_file(tmp_path / "mrlclient.toml")
    with pytest.raises(ConfigurationError, match="cannot be read: that is no path"):
        open_file(tmp_path / "a\0b")
    with pytest.raises(ConfigurationError, match="cannot be read: File name too long"):
        open_file(tmp_path / ("x" * 300))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="a superuser may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "mrlclient.toml"
    path.write_text("")
    path.chmod(0)
    with pytest.raises(ConfigurationError, match="cannot be read: Permission denied"):
        open_file(path)


def test_a_pyproject_without_the_table(tmp_path):
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\n')
    with pytest.raises(ConfigurationError, match=r"has no table \[tool.mrlclient\]"):
        open_file(path)


# Where one is found.


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Three nested folders, the innermost of which is the working one, and a home without anything."""
    inner = tmp_path / "outer" / "middle" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(inner)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("MRLCLIENT_CONFIG", raising=False)
    return inner


def write(folder, name="mrlclient.toml", text="default = 'x'\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


TABLE = "[tool.mrlclient]\ndefault = 'x'\n"


def found():
    file = find_file()
    return None if file is None else file.path


def test_nothing_is_found(folders):
    assert found() is None


def test_the_nearest_is_found(folders):
    outer = write(folders.parent.parent)
    assert found() == outer
    middle = write(folders.parent, "pyproject.toml", TABLE)
    assert found() == middle
    write(folders, "pyproject.toml", "[project]\nname = 'x'\n")
    assert found() == middle
    own = write(folders)
    write(folders, "pyproject.toml", TABLE)
    assert found() == own


def test_a_broken_pyproject_is_passed_over_unless_it_may_be_ours(folders):
    outer = write(folders.parent)
    write(folders, "pyproject.toml", "[project\n")
    assert found() == outer
    write(folders, "pyproject.toml", "[project]\ndependencies = ['mrlclient'\n[tool.mrlclient]\n")
    with pytest.raises(ConfigurationError, match=r"pyproject.toml:\d: it is not TOML"):
        find_file()


def test_a_folder_or_a_dead_link_of_that_name_is_not_passed_over(folders):
    write(folders.parent)
    (folders / "mrlclient.toml").mkdir()
    with pytest.raises(ConfigurationError, match="is a folder"):
        find_file()
    (folders / "mrlclient.toml").rmdir()
    (folders / "mrlclient.toml").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="There is no file"):
        find_file()


@pytest.mark.skipif(sys.platform == "win32", reason="another folder there")
def test_the_users_own_comes_last(folders, monkeypatch, tmp_path):
    own = write(tmp_path / "home" / ".config" / "mrlclient")
    assert found() == own
    other = write(tmp_path / "xdg" / "mrlclient")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    assert found() == other
    monkeypatch.setenv("XDG_CONFIG_HOME", "relative")
    assert found() == own
    near = write(folders.parent)
    assert found() == near


def test_the_variable_comes_first(folders, monkeypatch, tmp_path):
    write(folders)
    named = write(tmp_path / "home", "other.toml")
    monkeypatch.setenv("MRLCLIENT_CONFIG", str(named))
    assert found() == named
    monkeypatch.setenv("MRLCLIENT_CONFIG", "~/other.toml")
    assert found() == named
    monkeypatch.setenv("MRLCLIENT_CONFIG", "~/nothing.toml")
    with pytest.raises(ConfigurationError, match="There is no file"):
        find_file()
    monkeypatch.setenv("MRLCLIENT_CONFIG", "  ")
    assert found() == folders / "mrlclient.toml"


def test_a_working_folder_that_was_deleted(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; from mrlclient.config.files import find_file; os.rmdir({str(gone)!r}); print(find_file())"
    environment = os.environ | {"HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("None\n", "")
