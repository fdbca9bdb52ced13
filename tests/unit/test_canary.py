"""The canary: noise is no alarm, every change of the model is one, and the file is never lost, mixed or guessed."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import pickle
import stat
import subprocess
import sys
import threading
from functools import cache

import numpy as np
import pytest

from mrlclient import Canary, ConfigurationError, DriftError, Embedder, ModelSpec, OpenAI, _canary_file
from mrlclient.canary import CANARY_TEXTS, compare
from mrlclient.vectors import l2_normalize, truncate_dimensions

DAY, HOUR = 86_400.0, 3_600.0
NOON = 1_780_000_000.0
MODEL = "openai:text-embedding-3-small"
WHO = ("https://api.example.com", MODEL, "", "", "", "slice_l2", "whole", "full")


def unit_rows(width=1536, seed=0):
    return l2_normalize(np.random.default_rng(seed).standard_normal((len(CANARY_TEXTS), width)).astype(np.float32))


def embedded(emulator, **options):
    """The texts' vectors, which are near each other as a model's are."""
    provider = OpenAI("text-embedding-3-small", api_key=emulator.openai_key, base_url=emulator.openai_base_url)
    with Embedder(provider, on_narrow="allow") as embedder:
        return embedder.embed(CANARY_TEXTS, **options).embeddings


@pytest.fixture
def path(tmp_path):
    return tmp_path / "canary.json"


@pytest.fixture
def canary(path):
    return Canary(path)


def test_the_texts_stay():
    assert len(set(CANARY_TEXTS)) == 8
    digest = hashlib.sha256("\0".join(CANARY_TEXTS).encode()).hexdigest()
    assert digest == "e5e7ac085e433e91377fb1744437d72de6d4c3362e5b952fb71bd52c0a58e244"


# --- comparing


@pytest.mark.parametrize("width", [64, 256, 1536])
def test_no_false_alarm_in_2000_jittered_runs(width):
    rng = np.random.default_rng(1)
    truth = unit_rows()
    worst = 1.0
    for _ in range(2000):
        noise = rng.uniform(-1.7e-4, 1.7e-4, truth.shape).astype(np.float32)
        rows = l2_normalize((truth + noise).astype(np.float16).astype(np.float32))
        worst = min(worst, compare(truth, rows[:, :width]))
    assert 0.9999 < worst < 1.0


def test_the_largest_noise_that_was_measured_is_no_alarm():
    truth = unit_rows()
    signs = np.random.default_rng(2).choice([-1.0, 1.0], truth.shape)
    assert compare(truth, truth + 1.7e-4 * signs) > 0.9999


@cache
def rotation(width):
    return np.linalg.qr(np.random.default_rng(3).standard_normal((width, width)))[0].astype(np.float32)


def rotated(rows):
    return rows @ rotation(rows.shape[1])


def slightly_rotated(rows):
    """Turned by a fifth of a right angle, pair by pair."""
    out, half, angle = rows.copy(), rows.shape[1] // 2, np.pi / 10
    a, b = rows[:, :half], rows[:, half : 2 * half]
    out[:, :half], out[:, half : 2 * half] = (
        a * np.cos(angle) - b * np.sin(angle),
        a * np.sin(angle) + b * np.cos(angle),
    )
    return out


CHANGES = {
    "rotated space": rotated,
    "slightly rotated space": slightly_rotated,
    "numbers shifted by one": lambda rows: rows[:, [*range(1, rows.shape[1]), 0]],
    "another sign": lambda rows: -rows,
    "order reversed": lambda rows: rows[::-1],
    "two texts swapped": lambda rows: rows[[1, 0, *range(2, len(rows))]],
    "one text of eight": lambda rows: np.vstack([rows[:7], rotated(rows[7:])]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_change_is_caught(change, emulator, canary):
    rows = embedded(emulator)
    canary.record_or_check(WHO, rows, NOON, model=MODEL)
    with pytest.raises(DriftError) as caught:
        canary.record_or_check(WHO, change(rows), NOON + DAY, model=MODEL)
    assert caught.value.cosine < 0.99


def test_another_prompt_and_another_model_are_caught(emulator):
    rows = embedded(emulator)
    with Embedder(dimensions=256) as other:
        assert compare(rows, other.embed(CANARY_TEXTS).embeddings) < 0.5
        prompted = [f"search_query: {text}" for text in CANARY_TEXTS]
        assert compare(other.embed(CANARY_TEXTS).embeddings, other.embed(prompted).embeddings) < 0.99


def test_widths_meet_at_the_narrower_one(emulator):
    rows = embedded(emulator)
    for width in (8, 256, 1000):
        assert compare(rows, truncate_dimensions(rows, width)) == pytest.approx(1.0, abs=1e-6)
        assert compare(truncate_dimensions(rows, width), rows) == pytest.approx(1.0, abs=1e-6)
        # The server's own cut, with its noise.
        assert compare(rows, embedded(emulator, dimensions=width)) > 0.9999


def test_no_direction_is_no_agreement():
    rows = unit_rows(8)
    assert compare(rows, np.zeros_like(rows)) == 0.0
    assert compare(rows, np.full_like(rows, np.nan)) == 0.0


def test_vectors_of_other_texts_are_not_compared():
    with pytest.raises(ConfigurationError, match="8 and 1 vectors"):
        compare(unit_rows(8), unit_rows(8)[:1])


# --- when


def test_first_it_records_then_it_waits_then_it_checks(canary):
    rows = unit_rows()
    assert canary.due(WHO, NOON)
    canary.record_or_check(WHO, rows, NOON, model=MODEL)
    assert [canary.due(WHO, NOON + wait) for wait in (0, DAY - 1, DAY)] == [False, False, True]
    canary.record_or_check(WHO, rows, NOON + DAY, model=MODEL)
    assert not canary.due(WHO, NOON + 2 * DAY - 1)
    assert canary.due((*WHO[:-1], "server:256"), NOON), "another identity has a record of its own"


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
@pytest.mark.parametrize("since", [0.0, HOUR / 2, 12 * HOUR, DAY - HOUR / 2])
def test_a_clock_that_jumps_costs_one_check_at_most(canary, jump, since):
    """Ten days with one jump: each day is checked, and there is one check more at most."""
    rows, checks, uses = unit_rows(64), [], 10 * 24 * 4
    for use in range(uses):
        real = use * HOUR / 4
        clock = NOON + real + (jump if real >= 3 * DAY + since else 0.0)
        if canary.due(WHO, clock):
            canary.record_or_check(WHO, rows, clock, model=MODEL)
            checks.append(real)
    gaps = np.diff(checks)
    assert len(checks) in (10, 11)
    assert gaps.max() <= DAY + HOUR + HOUR / 4
    assert (gaps < DAY - HOUR - 1).sum() <= 1


def test_a_clock_set_back_far_makes_it_due_once(canary):
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    assert canary.due(WHO, NOON - 365 * DAY)
    canary.record_or_check(WHO, unit_rows(8), NOON - 365 * DAY, model=MODEL)
    assert not canary.due(WHO, NOON - 365 * DAY + 1)


# --- drift


def test_after_a_drift_everything_stops_until_it_is_accepted(canary, path):
    rows = unit_rows()
    canary.record_or_check(WHO, rows, NOON, model=MODEL)
    canary.record_or_check(WHO, rows, NOON + DAY, model=MODEL)
    with pytest.raises(DriftError) as caught:
        canary.record_or_check(WHO, unit_rows(seed=1), NOON + 2 * DAY, model=MODEL)
    error = caught.value
    assert (error.model, error.recorded_at, error.checked_at, error.identity) == (MODEL, NOON, NOON + DAY, WHO)
    assert -1 <= error.cosine < 0.5
    for part in (
        MODEL,
        f"{error.cosine:.6f}",
        "2026-05-28 20:26 UTC",
        "2026-05-29 20:26 UTC",
        "empty the cache",
        "accept(",
    ):
        assert part in str(error)

    # The same object, another process's, and one that was pickled: none goes on, not even with the old vectors.
    for other in (canary, Canary(path), pickle.loads(pickle.dumps(canary))):
        for call in (other.due, lambda who, now, other=other: other.record_or_check(who, rows, now, model=MODEL)):
            with pytest.raises(DriftError) as again:
                call(WHO, NOON + 2 * DAY + 1)
            assert str(again.value) == str(error)
    assert pickle.loads(pickle.dumps(error)).identity == WHO

    Canary(path).accept(MODEL)
    assert canary.due(WHO, NOON + 3 * DAY)
    canary.record_or_check(WHO, unit_rows(seed=1), NOON + 3 * DAY, model=MODEL)
    canary.record_or_check(WHO, unit_rows(seed=1), NOON + 4 * DAY, model=MODEL)


def test_accepting_one_identity_or_a_whole_model(canary):
    query, other = (*WHO[:3], "query", *WHO[4:]), ("elsewhere",)
    for who, model in ((WHO, MODEL), (query, MODEL), (other, "voyage:voyage-4")):
        canary.record_or_check(who, unit_rows(8), NOON, model=model)
    canary.accept(list(query))
    assert [canary.due(who, NOON) for who in (WHO, query, other)] == [False, True, False]
    canary.accept(MODEL)
    assert [canary.due(who, NOON) for who in (WHO, query, other)] == [True, True, False]
    with pytest.raises(ConfigurationError, match=r"holds nothing of 'openai:x'. It holds voyage:voyage-4"):
        canary.accept("openai:x")


def test_small_steps_are_seen_too(canary):
    """Each step is within the threshold of the one before, but the first is remembered."""
    truth, away = unit_rows(64), unit_rows(64, seed=1)
    canary.record_or_check(WHO, truth, NOON, model=MODEL)

    def take(step):
        canary.record_or_check(WHO, l2_normalize(truth + 0.01 * step * away), NOON + step * DAY, model=MODEL)

    for step in range(1, 4):
        take(step)
    with pytest.raises(DriftError) as caught:
        take(8)
    assert caught.value.cosine > 0.99


def test_a_wider_agreement_is_watched_from_then_on(canary):
    rows = unit_rows()
    canary.record_or_check(WHO, truncate_dimensions(rows, 64), NOON, model=MODEL)
    canary.record_or_check(WHO, rows, NOON + DAY, model=MODEL)
    canary.record_or_check(WHO, truncate_dimensions(rows, 64), NOON + 2 * DAY, model=MODEL)
    changed = rows.copy()
    changed[:, 64:] = unit_rows(seed=1)[:, 64:]
    with pytest.raises(DriftError) as caught:
        canary.record_or_check(WHO, changed, NOON + 3 * DAY, model=MODEL)
    assert caught.value.recorded_at == NOON


def test_the_threshold_is_the_callers(path):
    rows = unit_rows(64)
    near = l2_normalize(rows + 0.1 * unit_rows(64, seed=1))
    Canary(path).record_or_check(WHO, rows, NOON, model=MODEL)
    Canary(path, threshold=0.99).record_or_check(WHO, near, NOON + DAY, model=MODEL)
    with pytest.raises(DriftError):
        Canary(path).record_or_check(WHO, near, NOON + DAY, model=MODEL)


# --- the file


def test_the_file_is_private_and_holds_no_text(canary, path):
    previous = os.umask(0)
    try:
        canary.record_or_check(WHO, unit_rows(), NOON, model=MODEL)
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    content = path.read_text("ascii")
    assert not any(json.dumps(text) in content for text in CANARY_TEXTS)
    assert sorted(p.name for p in path.parent.iterdir()) == ["canary.json", "canary.json.lock"]
    assert path.stat().st_size < 80_000


def test_missing_folders_are_made_private(tmp_path):
    canary = Canary(tmp_path / "a" / "b" / "canary.json")
    assert canary.due(WHO, NOON)
    assert not (tmp_path / "a").exists()
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_what_was_written_is_read_again(canary, path):
    rows = unit_rows()
    canary.record_or_check(WHO, rows, NOON, model=MODEL)
    [row] = json.loads(path.read_text())["entries"]
    assert (row["identity"], row["model"], row["width"]) == (list(WHO), MODEL, 1536)
    assert (row["recorded"], row["checked"], row["drifted"]) == (NOON, NOON, None)
    [entry] = Canary(path)._entries().values()
    np.testing.assert_allclose(entry.vectors, rows, rtol=1e-6)


def edited(path, **values):
    content = json.loads(path.read_text())
    content["entries"][0] |= values
    path.write_text(json.dumps(content))


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "not json": lambda path: path.write_bytes(b"\xff\x00\x01"),
    "other json": lambda path: path.write_text('{"a": 1}'),
    "a list": lambda path: path.write_text("[]"),
    "nesting": lambda path: path.write_text("[" * 100_000),
    "newer": lambda path: path.write_text(path.read_text().replace('"version": 1', '"version": 2')),
    "base64": lambda path: edited(path, vectors="!"),
    "too few": lambda path: edited(path, vectors="AAAA"),
    "no length": lambda path: edited(path, vectors="AAAA" * 8 * 8 * 4),
    "width": lambda path: edited(path, width=3),
    "null identity": lambda path: edited(path, identity=None),
    "number in identity": lambda path: edited(path, identity=[1]),
    "nan": lambda path: edited(path, recorded=float("nan")),
    "eternity": lambda path: edited(path, checked=1e300),
    "judged true": lambda path: edited(path, drifted=True),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "a link": lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")),
    "a dead link": lambda path: (path.unlink(), path.symlink_to("nothing")),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_or_foreign_file_is_refused_and_left(damage, canary, path):
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    damage(path)

    def state():
        found = path.lstat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    before = state()
    calls = [
        lambda: Canary(path),
        lambda: canary.due(WHO, NOON),
        lambda: canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL),
        lambda: canary.accept(MODEL),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError, match=r"canary\.json"):
            call()
    assert state() == before


def test_a_file_that_cannot_be_written_hides_no_drift(canary, path):
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    path.with_name("canary.json.new").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be used"):
        canary.record_or_check(WHO, unit_rows(8), NOON + DAY, model=MODEL)
    for _ in range(2):
        assert canary.due(WHO, NOON + DAY)
        with pytest.raises(DriftError):
            canary.record_or_check(WHO, unit_rows(8, seed=1), NOON + DAY, model=MODEL)


def test_what_a_killed_process_left_is_cleared_away(canary, path):
    path.with_name("canary.json.new").write_text("half")
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    assert not path.with_name("canary.json.new").exists()
    assert not Canary(path).due(WHO, NOON)


def test_links_at_the_lock_and_the_new_file_are_not_followed(canary, path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    path.with_name("canary.json.new").symlink_to(victim)
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    path.with_name("canary.json.lock").unlink()
    path.with_name("canary.json.lock").symlink_to(victim)
    with pytest.raises(ConfigurationError, match="is a link"):
        canary.record_or_check(WHO, unit_rows(8), NOON + DAY, model=MODEL)
    assert victim.read_text() == "mine"


def test_deleting_the_file_accepts(canary, path):
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    with pytest.raises(DriftError):
        canary.record_or_check(WHO, unit_rows(8, seed=1), NOON + DAY, model=MODEL)
    path.unlink()
    assert canary.due(WHO, NOON + DAY)
    canary.record_or_check(WHO, unit_rows(8, seed=1), NOON + DAY, model=MODEL)


_WRITER = """
import sys, numpy as np
from mrlclient.canary import Canary
from mrlclient.vectors import l2_normalize
path, name = sys.argv[1:]
canary = Canary(path)
rows = l2_normalize(np.random.default_rng(0).standard_normal((8, 32)).astype(np.float32))
for i in range(20):
    canary.record_or_check((name, str(i)), rows, 1.78e9 + i, model=f"p:{name}")
    assert not canary.due((name, str(i)), 1.78e9 + i)
"""


def test_several_processes_lose_nothing(path):
    processes = [subprocess.Popen([sys.executable, "-c", _WRITER, path, name]) for name in "ab"]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert len(Canary(path)._entries()) == 40


def test_somebody_in_the_way_is_waited_for_on_windows(canary, path, monkeypatch):
    """There a file cannot be replaced while it is read, nor read while it is replaced."""
    monkeypatch.setattr(_canary_file, "_PATIENCE", 5.0)
    refused = {"open": 2, "replace": 2}

    def sometimes(name):
        act = getattr(os, name)

        def acting(target, *arguments, **options):
            if path in (target, *arguments) and refused[name]:
                refused[name] -= 1
                raise PermissionError(errno.EACCES, "Permission denied")
            return act(target, *arguments, **options)

        monkeypatch.setattr(os, name, acting)

    sometimes("open")
    sometimes("replace")
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    assert not Canary(path).due(WHO, NOON + 1)
    assert refused == {"open": 0, "replace": 0}
    refused["open"] = 1_000
    monkeypatch.setattr(_canary_file, "_PATIENCE", 0.05)
    with pytest.raises(ConfigurationError, match="Permission denied"):
        Canary(path)


def test_several_threads_record_one_state(canary):
    rows, failures = [unit_rows(32, seed=seed) for seed in range(4)], []

    def use(i):
        try:
            canary.record_or_check(WHO, rows[i], NOON, model=MODEL)
        except DriftError as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 3, "one was first, and the others differ from it"


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"path": ""}, "path"),
        ({"path": 7}, "path"),
        ({"every": 0}, "every"),
        ({"every": -1.0}, "every"),
        ({"every": float("nan")}, "every"),
        ({"every": float("inf")}, "every"),
        ({"every": 10**400}, "every"),
        ({"every": "day"}, "every"),
        ({"every": True}, "every"),
        ({"threshold": 0}, "threshold"),
        ({"threshold": 1.0}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"threshold": None}, "threshold"),
    ],
)
def test_bad_arguments(arguments, named, path):
    values = {"path": path} | arguments
    with pytest.raises(ConfigurationError, match=rf"^{named} must be"):
        Canary(values.pop("path"), **values)


@pytest.mark.parametrize(
    "rows",
    [
        unit_rows()[:7],
        unit_rows()[0],
        unit_rows()[:, :0],
        np.ones((8, 4), dtype=np.int64),
        [["a"] * 4] * 8,
        np.full((8, 4), np.nan),
        np.vstack([unit_rows(4)[:7], np.zeros(4)]),
    ],
    ids=["seven", "one", "no width", "integers", "strings", "nan", "a zero row"],
)
def test_unusable_rows_are_not_recorded(canary, path, rows):
    with pytest.raises(ConfigurationError, match=r"rows must be|Row \d of"):
        canary.record_or_check(WHO, rows, NOON, model=MODEL)
    assert not path.exists()


def test_unusable_times_and_identities_are_not_recorded(canary, path):
    for now in (float("nan"), float("inf"), -1.0, None):
        with pytest.raises(ConfigurationError, match="now must be"):
            canary.record_or_check(WHO, unit_rows(4), now, model=MODEL)
    for who in ((1, 2), MODEL):
        with pytest.raises(ConfigurationError, match="identity must be"):
            canary.record_or_check(who, unit_rows(4), NOON, model=MODEL)
        with pytest.raises(ConfigurationError, match="identity must be"):
            canary.due(who, NOON)
    assert not path.exists()


def test_repr_pickle_and_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    canary = Canary("canary.json", every=HOUR, threshold=0.99)
    assert repr(canary) == f"Canary('{tmp_path}/canary.json', every=3600, threshold=0.99)"
    canary.record_or_check(WHO, unit_rows(8), NOON, model=MODEL)
    copy = pickle.loads(pickle.dumps(canary))
    assert (copy.path, copy.every, copy.threshold) == (tmp_path / "canary.json", HOUR, 0.99)
    assert not copy.due(WHO, NOON)


def test_a_provider_that_changes_its_model(emulator, path):
    """As an embedder is to use it: the same name, first one space, then another."""
    spec = ModelSpec(provider="openai", name="text-embedding-3-small", native_dimensions=1536, matryoshka=True)
    canary = Canary(path)
    rows = embedded(emulator)
    for day in range(3):
        if canary.due(WHO, NOON + day * DAY):
            canary.record_or_check(WHO, rows, NOON + day * DAY, model=spec.address)
    with pytest.raises(DriftError, match="no longer the model"):
        canary.record_or_check(WHO, rotated(embedded(emulator)), NOON + 3 * DAY, model=spec.address)


def test_a_model_that_is_declared_with_another_prompt_is_watched_apart(emulator, path):
    spec = ModelSpec(provider="openai", name="text-embedding-3-small", native_dimensions=1536, matryoshka=True)
    asking = dataclasses.replace(spec, prompts={"document": "passage: "})
    for each in (spec, asking, spec, asking):
        provider = OpenAI(each, api_key=emulator.openai_key, base_url=emulator.openai_base_url)
        with Embedder(provider, canary=Canary(path, every=1e-6)) as embedder:
            embedder.embed(["a"])
    assert len(Canary(path)._entries()) == 2
