"""The canary: whether the model behind a name is still the one that it was.

A provider may change the model that it serves under a name. No answer says so, and the new vectors do not fit the old
ones. So a few fixed texts are embedded from time to time, and compared with what they were.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._canary_file import Entry, is_time, locked, read, signature, write
from mrlclient._paths import full_path
from mrlclient.errors import ConfigurationError, DriftError
from mrlclient.vectors import l2_normalize, unusable_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: What is embedded. Never to be changed: a file's vectors are those of these texts.
CANARY_TEXTS = (
    "The canary stopped singing long before the miners noticed anything in the air.",
    "How long can a whale stay under water?",
    "def area(radius: float) -> float:\n    return 3.14159 * radius**2",
    "2718281828 4590 4523 5360 2874 7135 2662 4977 57",
    "Le boulanger a vendu tout son pain avant huit heures du matin.",
    "Завтра поезд на север отправится с третьего пути.",
    "春天来了,河边的柳树发出了新芽。",
    "هل يمكنني استبدال هذا القميص بمقاس أكبر؟",
)

#: The lowest cosine that is still the same model. Servers' own noise stays above 0.9999; another model, another prompt
#: or a rotated space lies far below 0.99.
SAME_MODEL = 0.999


def compare(reference: NDArray[np.floating[Any]], rows: NDArray[np.floating[Any]]) -> float:
    """How far the texts' vectors have moved: the worst cosine over the texts.

    Args:
        reference: (n, D) the vectors as they were.
        rows: (n, d) the vectors as they are, of the same texts in the same order. Where the widths differ, the wider
            ones are cut and made unit length again.

    Returns:
        -1 to 1, computed in float64. 0 where a vector has no direction at the common width.

    Raises:
        ConfigurationError: If they are not of as many texts.
    """
    if len(reference) != len(rows):
        raise ConfigurationError(f"{len(reference)} and {len(rows)} vectors cannot be of the same texts.")
    width = min(reference.shape[1], rows.shape[1])
    before, after = reference[:, :width].astype(np.float64), rows[:, :width].astype(np.float64)
    lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
    cosines = np.divide(np.vecdot(before, after), lengths, out=np.zeros(len(rows)), where=lengths > 0)
    return float(cosines.min())


class Canary:
    """Remembers the vectors of a few fixed texts, and tells when a model no longer gives them.

    One small file holds what several models gave; threads and processes may share it. The file is private to its owner
    and holds neither a key nor a text of yours.

    Times are wall-clock seconds since 1970, because they are compared across processes. A clock that is set back before
    the last check makes a check due at once, and one that jumps ahead makes it due early: in both cases one check more,
    never one less.

    Args:
        path: The file; made, with its folders, when something is first recorded.
        every: Seconds between two checks of a model; a day by default.
        threshold: The lowest cosine that is still the same model. Servers' own noise stays above 0.9999; another model,
            another prompt or a rotated space lies far below 0.99.

    Raises:
        ConfigurationError: If an argument is out of range, or the file is no canary's. It is left as it is.
    """

    def __init__(self, path: str | os.PathLike[str], *, every: float = 86_400.0, threshold: float = SAME_MODEL) -> None:
        if not _lies_between(every, 0, 1e12):
            raise ConfigurationError(f"every must be a positive number of seconds, not {every!r}.")
        if not _lies_between(threshold, 0, 1):
            raise ConfigurationError(f"threshold must be a cosine between 0 and 1, not {threshold!r}.")
        self.path = full_path(path)
        self.every = float(every)
        self.threshold = float(threshold)
        self._seen: tuple[object, dict[tuple[str, ...], Entry]] = (None, {})
        self._entries()

    def due(self, identity: Sequence[str], now: float) -> bool:
        """Whether a model's texts have to be embedded and checked before it is used.

        Args:
            identity: Whatever decides the model's vectors: origin, address, revision, prompt, recipe.
            now: Wall-clock seconds since 1970.

        Raises:
            DriftError: If a check failed and the new state was not accepted.
            ConfigurationError: If the file cannot be read, or `identity` is not strings.
        """
        key = _key(identity)
        entry = self._entries().get(key)
        if entry is None:
            return True
        if entry.drifted is not None:
            raise self._error(key, entry)
        return not entry.checked <= now < entry.checked + self.every

    def record_or_check(
        self, identity: Sequence[str], rows: NDArray[np.floating[Any]], now: float, *, model: str
    ) -> None:
        """Records what a model made of the texts, the first time, and compares it with that later.

        What was recorded first stays, so that many small steps are seen as well as one large one. Only wider vectors
        that agree with it replace it, so that every number is watched from then on.

        Args:
            identity: As for `due`.
            rows: (8, d) the vectors of `CANARY_TEXTS`, at any width of the model, straight from the provider and from
                no cache.
            now: Wall-clock seconds since 1970.
            model: The model's address, for the message.

        Raises:
            DriftError: If the worst cosine is below the threshold, or an earlier check failed.
            ConfigurationError: If the rows are not usable, or the file cannot be read or written.
        """
        key = _key(identity)
        vectors = _checked(rows)
        if not is_time(now):
            raise ConfigurationError(f"now must be seconds since 1970, not {now!r}.")
        with locked(self.path):
            entries = dict(self._entries())
            known = entries.get(key)
            if known is not None and known.drifted is not None:
                raise self._error(key, known)
            if known is None:
                entries[key] = Entry(model, vectors, recorded=now, checked=now)
            elif (cosine := compare(known.vectors, vectors)) >= self.threshold:
                wider = vectors.shape[1] > known.vectors.shape[1]
                entries[key] = replace(known, vectors=vectors if wider else known.vectors, checked=now)
            else:
                entries[key] = failed = replace(known, drifted=cosine)
                # A file that cannot be written hides no drift: the next use is due again, and fails again.
                with suppress(ConfigurationError):
                    write(self.path, entries)
                raise self._error(key, failed)
            write(self.path, entries)

    def accept(self, identity: str | Sequence[str]) -> None:
        """Forgets what a model gave: what it gives next is recorded as the new state.

        Embed your index again first, and empty your cache: nothing else keeps old and new vectors apart.

        Args:
            identity: The model's address, for all that is known under it, or one identity as for `due`.

        Raises:
            ConfigurationError: If the file holds nothing of it, or cannot be read or written.
        """
        with locked(self.path):
            entries = self._entries()
            kept = {
                key: entry
                for key, entry in entries.items()
                if (entry.model != identity if isinstance(identity, str) else key != tuple(identity))
            }
            if len(kept) == len(entries):
                known = ", ".join(sorted({entry.model for entry in entries.values()})) or "nothing"
                raise ConfigurationError(f"{self.path} holds nothing of {identity!r}. It holds {known}.")
            write(self.path, kept)

    def _entries(self) -> dict[tuple[str, ...], Entry]:
        """What the file holds; parsed again only where it has been written since."""
        seen, entries = self._seen
        now = signature(self.path)
        if now != seen:
            entries = read(self.path, len(CANARY_TEXTS))
            # A file that is replaced in between has a newer signature than this one, and is read again next time.
            self._seen = (now, entries)
        return entries

    def _error(self, identity: tuple[str, ...], entry: Entry) -> DriftError:
        return DriftError(
            f"{entry.model} is no longer the model that it was: the worst cosine of the canary's texts with their "
            f"vectors of {_shown(entry.recorded)} is {entry.drifted:.6f}. At {_shown(entry.checked)} they still agreed."
            " Vectors from before and after must not meet: empty the cache and embed the index again; then accept the "
            f"new state with Canary({str(self.path)!r}).accept({entry.model!r}), or delete that file.",
            model=entry.model,
            cosine=entry.drifted,
            recorded_at=entry.recorded,
            checked_at=entry.checked,
            identity=identity,
        )

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_seen": (None, {})}

    def __repr__(self) -> str:
        return f"Canary({str(self.path)!r}, every={self.every:g}, threshold={self.threshold:g})"


def _lies_between(value: object, low: float, high: float) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and low < value < high


def _key(identity: Sequence[str]) -> tuple[str, ...]:
    if isinstance(identity, str) or not all(isinstance(part, str) for part in identity):
        raise ConfigurationError(f"identity must be a tuple of strings, not {identity!r}.")
    return tuple(identity)


def _checked(rows: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """The rows as float32 unit rows."""
    given = np.asarray(rows)
    if given.dtype.kind != "f" or given.ndim != 2 or len(given) != len(CANARY_TEXTS) or not given.shape[1]:
        raise ConfigurationError(
            f"rows must be ({len(CANARY_TEXTS)}, d) floats, one row for each of CANARY_TEXTS, "
            f"not {given.dtype} {given.shape}."
        )
    unit = l2_normalize(given.astype(np.float32))
    for row, problem in unusable_rows(unit).items():
        raise ConfigurationError(f"Row {row} of the canary's texts is {problem}. Nothing was recorded.")
    return unit


def _shown(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M UTC")
