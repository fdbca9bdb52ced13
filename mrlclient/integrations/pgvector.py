"""pgvector: the column for an embedder's vectors, and its contract in the column's comment.

A comment belongs to its column: it is renamed, dumped, restored and dropped with it, and takes no table of its own.
Rows go in and out as numpy vectors after `pgvector.psycopg.register_vector(connection)`.
"""

from __future__ import annotations

from typing import Any

from mrlclient.contract import IndexContract
from mrlclient.errors import ConfigurationError
from mrlclient.integrations._embedder import missing
from mrlclient.integrations._index_vectors import IndexVectors, check_same_width, held_contract

try:
    from psycopg import AsyncConnection, Connection, sql
    from psycopg.rows import tuple_row
except ModuleNotFoundError as error:
    raise missing(error, "pgvector") from None

__all__ = ["OPERATOR", "OPERATOR_CLASS", "IndexVectors", "column_type", "read_contract", "write_contract"]

#: To order by: the negative inner product, so that the nearest of unit vectors comes first.
OPERATOR = "<#>"
#: For `CREATE INDEX ... USING hnsw (embedding vector_ip_ops)`: the index that `OPERATOR` uses.
OPERATOR_CLASS = "vector_ip_ops"

_FIND = """
    SELECT type.typname, attribute.atttypmod, col_description(attribute.attrelid, attribute.attnum)
    FROM pg_catalog.pg_attribute AS attribute JOIN pg_catalog.pg_type AS type ON type.oid = attribute.atttypid
    WHERE attribute.attrelid = to_regclass(%s) AND attribute.attname = %s AND NOT attribute.attisdropped
"""


def column_type(vectors: IndexVectors) -> str:
    """The type of the column, such as `vector(512)`. pgvector's indexes take 2000 dimensions of it at most."""
    return f"vector({vectors.dimensions})"


def write_contract(
    connection: Connection[Any],
    table: str,
    vectors: IndexVectors,
    *,
    column: str = "embedding",
    schema: str | None = None,
    replace: bool = False,
) -> None:
    """Writes the contract of a column, within the connection's transaction.

    Args:
        connection: A connection of the table's owner.
        table: The table.
        vectors: What goes into the column.
        column: The column.
        schema: The table's schema; by default the first of the search path that has the table.
        replace: Whether a comment that the column has is replaced: after the table was embedded again.

    Raises:
        ConfigurationError: If there is no such column, it has another width, or a comment already; or the connection
            is an asynchronous one.
    """
    comment, width, name = _find(connection, table, column, schema)
    if comment is not None and not replace:
        raise ConfigurationError(
            f"{name} has a comment already. If it is a contract, read it; if all rows were embedded again, or the "
            "comment is not needed, pass replace=True."
        )
    check_same_width(vectors.contract, name, width)
    connection.execute(
        sql.SQL("COMMENT ON COLUMN {} IS {}").format(
            _identifier(schema, table, column), sql.Literal(vectors.contract.to_json())
        )
    )


def read_contract(
    connection: Connection[Any], table: str, *, column: str = "embedding", schema: str | None = None
) -> IndexContract:
    """The contract of a column, for `IndexVectors.open`.

    Args:
        connection: A connection that may see the table.
        table: The table.
        column: The column.
        schema: The table's schema; by default the first of the search path that has the table.

    Raises:
        ConfigurationError: If there is no such column, no contract of it, or one that is damaged or of another width.
    """
    comment, width, name = _find(connection, table, column, schema)
    return held_contract(comment, name, width)


def _find(
    connection: Connection[Any], table: str, column: str, schema: str | None
) -> tuple[str | None, int | None, str]:
    """A column's comment, its width where it has one, and its name for messages."""
    name = f"The column {'.'.join(part for part in (schema, table, column) if part)}"
    if isinstance(connection, AsyncConnection):
        raise ConfigurationError(
            "A contract goes through a psycopg.Connection, not an AsyncConnection. Open one for it; the rows may go "
            "through yours."
        )
    cursor = connection.cursor(row_factory=tuple_row)
    row = cursor.execute(_FIND, [_identifier(schema, table).as_string(connection), column]).fetchone()
    if row is None:
        raise ConfigurationError(
            f"{name} is not there, or this connection may not see it. A schema is named by schema=."
        )
    kind, width, comment = row
    if kind not in ("vector", "halfvec"):
        raise ConfigurationError(f"{name} is of type {kind}, not vector or halfvec.")
    return comment, width if width > 0 else None, name


def _identifier(*parts: str | None) -> sql.Identifier:
    return sql.Identifier(*(part for part in parts if part))
