"""A usearch index that draws up shortlists."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from mrlclient._unit_rows import check_unit, cut_unit_rows
from mrlclient.errors import ConfigurationError, missing_extra

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Distances that put unit vectors in the order of their cosines.
_METRICS = ("IP", "Cos", "L2sq")
#: Rows by which an index is compared with the matrix, and the least cosine with a row that it keeps as int8.
_SAMPLE = 16
_SAME = 0.99


def check_index(index: Any, matrix: NDArray[Any], dimensions: int, *, center: bool) -> None:
    """Whether an index is one of the matrix's prefixes, by what it says of itself and by a few rows of it.

    Raises:
        ConfigurationError: If it is not.
    """
    try:
        kind = import_module("usearch.index").Index
    except ModuleNotFoundError as error:
        raise missing_extra("usearch", "usearch") from error
    if not isinstance(index, kind):
        raise ConfigurationError(f"index must be a usearch.index.Index, not {type(index).__name__}.")
    metric = getattr(index.metric_kind, "name", index.metric_kind)
    if metric not in _METRICS:
        raise ConfigurationError(f"index compares by {metric}. Build it as Index(ndim={dimensions}, metric='ip').")
    if index.multi:
        raise ConfigurationError("index keeps several rows under a key. Build it without multi=True.")
    if (len(index), index.ndim) != (len(matrix), dimensions):
        raise ConfigurationError(
            f"index holds {len(index)} rows of {index.ndim} dimensions, where the matrix has {len(matrix)} and "
            f"shortlist_dimensions={dimensions}. Build it from all prefixes, or name its width."
        )
    if not len(matrix):
        return
    sample = np.unique(np.linspace(0, len(matrix) - 1, _SAMPLE).astype(np.intp))
    check_unit(matrix[sample].astype(np.float32, copy=False), "matrix", sample)
    prefixes = cut_unit_rows(matrix[sample], dimensions, "matrix", center=center)
    for row, prefix, kept in zip(sample.tolist(), prefixes, index.get(sample), strict=True):
        if kept is None:
            raise ConfigurationError(
                f"index has no row under the number {row}. Add row i of the matrix as key i, with enable_key_lookups."
            )
        if prefix @ kept < _SAME * np.linalg.norm(kept):
            raise ConfigurationError(
                f"Row {row} of index is not the prefix of row {row} of the matrix: it is of other vectors, in another "
                f"order, or cut by another recipe. Build it anew from the matrix."
            )


def look_up(index: Any, prefix: NDArray[np.float32], depth: int) -> NDArray[np.intp]:
    """The index's shortlist of a query, ascending.

    Raises:
        ConfigurationError: If the index does not hold the rows 0 to n - 1.
    """
    found = index.search(prefix, depth).keys
    if len(found) < depth:
        # The graph falls apart where many rows are alike: its search then ends early, among a few of them.
        found = index.search(prefix, depth, exact=True).keys
    near = np.unique(found.astype(np.intp))
    if len(near) < depth or near[-1] >= len(index):
        raise ConfigurationError("index is not of the rows 0 to n - 1, one for each. Build it anew from the matrix.")
    return near
