"""Importing is light, the public names are what `__all__` says, and the wheel holds what it needs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

import mrlclient

ROOT = Path(__file__).parents[2]
HEAVY = ("openai", "voyageai", "httpx2", "pydantic", "onnxruntime", "tokenizers", "anyio", "tenacity", "rich", "typer")


def python(code, **options):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **options).stdout


def test_importing_is_light():
    loaded = json.loads(python("import sys, json, mrlclient; print(json.dumps(sorted(sys.modules)))"))
    assert [name for name in HEAVY if name in loaded] == []


def test_every_public_name_is_there_and_lazy():
    assert set(mrlclient._HOME_OF) <= set(mrlclient.__all__)
    assert [name for name in mrlclient.__all__ if not hasattr(mrlclient, name)] == []
    assert set(mrlclient.__all__) <= set(dir(mrlclient))
    with pytest.raises(AttributeError, match="Embeder"):
        mrlclient.Embeder  # noqa: B018


def test_type_checkers_see_what_users_get():
    tree = ast.parse(Path(mrlclient.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == mrlclient._HOME_OF


def test_no_file_is_long_without_a_reason():
    for path in ROOT.glob("mrlclient/**/*.*"):
        if path.suffix in (".py", ".toml"):
            lines = path.read_text("utf-8").splitlines()
            assert len(lines) <= 300 or "300 lines" in "\n".join(lines[:5]), path


def test_haystacks_module_without_haystack():
    code = (
        "import sys; sys.modules['haystack'] = None\n"
        "from mrlclient import MissingExtraError\n"
        "try: import haystack_integrations.components.embedders.mrlclient\n"
        "except MissingExtraError as error: print(error)"
    )
    assert python(code).endswith("pip install 'mrlclient[haystack]'\n")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, unpacked beside nothing else."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True)
    site = folder / "site"
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as archive:
        archive.extractall(site)
    return site


def test_the_wheel_works_without_the_checkout(wheel, tmp_path):
    code = (
        "import mrlclient, mrlclient.testing.emulator\n"
        "print(mrlclient.__file__)\n"
        "print(mrlclient.Embedder(dimensions=64).embed(['a']).embeddings.shape)\n"
        "print(len(mrlclient.catalogue().models))"
    )
    place, shape, models = python(code, cwd=tmp_path, env={"PYTHONPATH": str(wheel)}).splitlines()
    assert Path(place).is_relative_to(wheel)
    assert (shape, int(models)) == ("(1, 64)", len(mrlclient.catalogue().models))


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    top = {path.name for path in wheel.iterdir()}
    assert top == {"mrlclient", "haystack_integrations", f"mrlclient-{version('mrlclient')}.dist-info"}
    assert {path.name for path in (wheel / "mrlclient").iterdir()} >= {"py.typed", "catalogue.toml"}


def test_the_wheel_holds_what_the_report_is_made_of(wheel, tmp_path):
    code = (
        "from mrlclient.evaluate import report\n"
        "from tests.report.sample import outcome\n"
        "print(report.__file__)\n"
        "print(report.html(outcome())[:15])"
    )
    place, start = python(code, cwd=tmp_path, env={"PYTHONPATH": f"{wheel}:{ROOT}"}).splitlines()
    assert Path(place).is_relative_to(wheel)
    assert start == "<!DOCTYPE html>"


def check_namespace(root):
    """Haystack's folder holds one package, ours; an `__init__.py` above it would hide everybody else's."""
    found = {path.relative_to(root).as_posix() for path in (root / "haystack_integrations").rglob("*.py")}
    assert found == {"haystack_integrations/components/embedders/mrlclient/__init__.py"}


def test_the_wheel_leaves_haystacks_namespace_open(wheel, tmp_path):
    check_namespace(wheel)
    other = tmp_path / "haystack_integrations" / "components" / "embedders" / "other.py"
    other.parent.mkdir(parents=True)
    other.write_text("name = 'another distribution'\n")
    code = (
        "from importlib.util import find_spec\n"
        "from haystack_integrations.components.embedders import other\n"
        "print(other.name)\n"
        "print(find_spec('haystack_integrations.components.embedders.mrlclient').origin)"
    )
    for folders in ((wheel, tmp_path), (tmp_path, wheel)):
        said, place = python(code, env={"PYTHONPATH": ":".join(map(str, folders))}, cwd=tmp_path).splitlines()
        assert said == "another distribution"
        assert Path(place).is_relative_to(wheel)


def test_the_source_distribution_makes_the_same_wheel(wheel, tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        archive.extractall(tmp_path, filter="data")
    source = next(path for path in tmp_path.iterdir() if path.is_dir())
    check_namespace(source)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=source, check=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as archive:
        held = set(archive.namelist())
    assert held == {
        path.relative_to(wheel).as_posix() for path in wheel.rglob("*") if path.is_file() and path.suffix != ".pyc"
    }
