"""An index's file and its contract beside it: never an index with another's contract."""

from __future__ import annotations

import pytest

from mrlclient import ConfigurationError, Embedder
from mrlclient.integrations._sidecar import read_contract, sidecar, write_both


@pytest.fixture(scope="module")
def contracts():
    with Embedder(on_narrow="allow") as embedder:
        return embedder.contract(), embedder.contract(64)


def writing(content):
    def write(to):
        with open(to, "wb") as file:  # noqa: PTH123
            file.write(content)

    return write


def test_both_are_there_and_nothing_else(contracts, tmp_path):
    path = tmp_path / "index.bin"
    for contract, content in ((contracts[0], b"old"), (contracts[0], b"newer"), (contracts[1], b"newest")):
        write_both(path, contract, writing(content))
        assert path.read_bytes() == content
        assert read_contract(path) == read_contract(str(path)) == contract
        assert {each.name for each in tmp_path.iterdir()} == {"index.bin", "index.bin.contract.json"}


@pytest.mark.parametrize("error", [OSError("disk full"), RuntimeError("disk full"), KeyboardInterrupt()])
def test_the_old_ones_stay_where_the_new_index_cannot_be_written(contracts, tmp_path, error):
    path = tmp_path / "index.bin"
    write_both(path, contracts[0], writing(b"old"))

    def fail(to):
        writing(b"half")(to)
        raise error

    with pytest.raises((ConfigurationError, KeyboardInterrupt)) as caught:
        write_both(path, contracts[1], fail)
    assert caught.type is KeyboardInterrupt or "index.bin cannot be used: disk full" in str(caught.value)
    assert path.read_bytes() == b"old"
    assert read_contract(path) == contracts[0]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("step", range(4))
def test_a_process_that_is_killed_leaves_no_index_with_another_contract(contracts, tmp_path, step, monkeypatch):
    """Whatever step is the last one."""
    path = tmp_path / "index.bin"
    write_both(path, contracts[0], writing(b"old"))
    left = [step]

    class KilledError(BaseException):
        pass

    def dying(name):
        real = getattr(type(path), name)

        def do(self, *args, **options):
            if not left[0]:
                raise KilledError
            left[0] -= 1
            return real(self, *args, **options)

        return do

    for name in ("write_text", "unlink", "replace"):
        monkeypatch.setattr(type(path), name, dying(name))
    with pytest.raises(KilledError):
        write_both(path, contracts[1], writing(b"new"))
    monkeypatch.undo()
    old, beside = path.read_bytes() == b"old", sidecar(path)
    assert not beside.exists() or read_contract(path) == contracts[0 if old else 1]


def test_a_damaged_contract_is_refused(contracts, tmp_path):
    path = tmp_path / "index.bin"
    write_both(path, contracts[0], writing(b"index"))
    for damage in (b"", b"\xff", sidecar(path).read_bytes()[:-5], b"{}"):
        sidecar(path).write_bytes(damage)
        with pytest.raises(ConfigurationError, match=r"not the contract|cannot be used"):
            read_contract(path)
    sidecar(path).unlink()
    sidecar(path).mkdir()
    with pytest.raises(ConfigurationError, match=r"contract.json cannot be used: Is a directory"):
        read_contract(path)
