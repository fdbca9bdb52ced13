"""What an answer brings: checked, cut, normalised, written, and kept.

Pure, as the flow that it is part of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._codes import STORED_AS, code_width, unusable_codes
from mrlclient.call import Call, Sent
from mrlclient.errors import DimensionsMismatchError, ResponseContractError
from mrlclient.models import ModelSpec
from mrlclient.operations import Answer, Flow
from mrlclient.plan import Batch, Plan, Rows
from mrlclient.vectors import normalize_usable, truncate_dimensions, unusable_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mrlclient.endpoints import Endpoint


def take(
    call: Call, endpoint: Endpoint, plan: Plan, batch: Batch, answer: Answer
) -> Flow[tuple[Rows, ResponseContractError | None]]:
    """Writes the usable rows of an answer, and has their vectors kept.

    Returns:
        The rows whose vectors are unusable, and the error that says why; no rows and None where all are good.

    Raises:
        ResponseContractError: If nothing of the answer can be used.
    """
    spec = plan.spec
    ignored = _width_ignored(plan, batch, answer)
    if plan.resolution.dtype != "float32":
        problems = _write_codes(call, batch, answer.vectors)
    elif answer.vectors is batch.out:
        problems = normalize_usable(answer.vectors, unit_length=spec.unit_length)
    else:
        problems = _write(call, plan, batch, answer.vectors)
    good: NDArray[np.intp] | None = None
    rows: Rows = batch.rows
    if problems:
        good = np.delete(np.arange(len(batch.texts)), list(problems))
        rows = np.asarray(rows)[good]
    call.done[_places(rows)] = True
    notes = answer.notes if ignored is None else (*answer.notes, ignored)
    cut_here = ignored is not None and len(rows) > 0
    call.sent.append(Sent(endpoint, spec, len(rows), answer.tokens, answer.model, cut_here, notes if len(rows) else ()))
    if call.keeper is not None and len(rows) and spec == call.plan.spec:
        yield from call.keeper.keep(batch, good, answer)
    if not problems:
        return range(0), None
    bad = np.asarray(batch.rows)[sorted(problems)]
    return bad, _unusable(spec, _said(problems))


def _write(call: Call, plan: Plan, batch: Batch, vectors: NDArray[np.float32]) -> dict[int, str]:
    """Writes the usable ones of these vectors, cut and normalised. Returns what `unusable_rows` does."""
    spec, dimensions = plan.spec, plan.resolution.dimensions
    problems = unusable_rows(vectors, unit_length=spec.unit_length)
    good = np.delete(np.arange(len(vectors)), list(problems)) if problems else None
    rows: Rows = batch.rows if good is None else np.asarray(batch.rows)[good]
    if good is not None:
        vectors = vectors[good]
    elif batch.out is not None and np.may_share_memory(vectors, batch.out):
        # Some other view of where they are written to.
        vectors = vectors.copy()
    center = spec.is_centered and vectors.shape[1] == spec.native_dimensions
    # Consecutive rows are written in place; those between rows of a cache are put there.
    out = call.rows[rows.start : rows.stop] if isinstance(rows, range) else None
    cut = truncate_dimensions(vectors, dimensions, center=center, out=out)
    if out is None:
        call.rows[rows] = cut
    # What had a direction may have none in its first numbers.
    if (center or vectors.shape[1] > dimensions) and (vanished := unusable_rows(cut)):
        problems |= {int(i if good is None else good[i]): problem for i, problem in vanished.items()}
    return problems


def _write_codes(call: Call, batch: Batch, codes: NDArray[Any]) -> dict[int, str]:
    """Writes codes as the server made them. Returns what `unusable_codes` does; such rows are written over later."""
    if codes is not batch.out:
        call.rows[_places(batch.rows)] = codes
    return unusable_codes(codes)


def _places(rows: Rows) -> slice | NDArray[np.intp]:
    return slice(rows.start, rows.stop) if isinstance(rows, range) else rows


def _width_ignored(plan: Plan, batch: Batch, answer: Answer) -> str | None:
    """What to tell where the server ignored the width, though what it sent can be cut here; None where it did not.

    Raises:
        ResponseContractError: If the answer does not hold one vector for each text, of a width that can be used.
    """
    spec, resolution = plan.spec, plan.resolution
    count, width = answer.vectors.shape
    if count != len(batch.texts):
        raise _unusable(spec, f"answered with {count} vectors for {len(batch.texts)} texts")
    if resolution.dtype != "float32":
        _check_codes(plan, answer.vectors)
        return None
    if width == resolution.received:
        return None
    asked = resolution.requested
    if asked is None or width <= asked or not _server_gives(spec, width):
        problem = f"answered with {width} dimensions where {resolution.received} were expected"
        raise _unusable(spec, problem, DimensionsMismatchError)
    return f"{spec.address}: the server ignored dimensions={asked} and sent {width}; they were cut here."


def _check_codes(plan: Plan, codes: NDArray[Any]) -> None:
    """Refuses codes of another width or type: here they cannot be cut.

    Raises:
        DimensionsMismatchError: If they are.
    """
    dtype, dimensions = plan.resolution.dtype, plan.resolution.received
    expected, stored_as = code_width(dtype, dimensions), np.dtype(STORED_AS[dtype])
    if codes.shape[1] != expected or codes.dtype != stored_as:
        raise _unusable(
            plan.spec,
            f"answered with {codes.shape[1]} numbers a vector, of {codes.dtype}, where {dimensions} dimensions of "
            f"{dtype} are {expected} of {stored_as}: the server may have ignored the type or the width",
            DimensionsMismatchError,
        )


def _said(problems: dict[int, str]) -> str:
    what = "a vector that is" if len(problems) == 1 else f"{len(problems)} vectors that are"
    return f"answered with {what} {', or '.join(dict.fromkeys(problems.values()))}"


def _unusable(
    spec: ModelSpec, problem: str, kind: type[ResponseContractError] = ResponseContractError
) -> ResponseContractError:
    return kind(f"{spec.address} {problem}", provider=spec.provider, retryable=True)


def _server_gives(spec: ModelSpec, width: int) -> bool:
    """Whether a server that was left to itself may answer with this width: the native one, or one that it lists."""
    listed = spec.server_dimensions if isinstance(spec.server_dimensions, tuple) else ()
    return width == spec.native_dimensions or width in listed
