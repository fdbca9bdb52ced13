"""Your own documents, queries and relevance judgements, from files."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mrlclient.errors import InputError
from mrlclient.evaluate._records import field_of, records
from mrlclient.evaluate.collections import Collection

#: The columns of a file of judgements: BEIR's names, then others in use.
_QUERY, _DOCUMENT, _GRADE = ("query-id", "query_id", "query"), ("corpus-id", "doc_id", "document"), ("score", "grade")


@dataclass(frozen=True, slots=True)
class SearchData:
    """Documents, queries, and which documents are relevant to which query.

    Attributes:
        name: What the texts are.
        document_ids: Unique.
        documents: The texts, in the same order.
        query_ids: Unique.
        queries: The texts, in the same order.
        qrels: For each query, in the same order, a mapping from the index of a document to its grade. A grade above 0
            is relevant. None if there are no judgements.
        fields: For each query, the other fields of its record. Empty if the queries come from no file.
    """

    name: str
    document_ids: list[str] = field(repr=False)
    documents: list[str] = field(repr=False)
    query_ids: list[str] = field(repr=False)
    queries: list[str] = field(repr=False)
    qrels: list[dict[int, float]] | None = field(default=None, repr=False)
    fields: list[Mapping[str, Any]] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, collection: Collection) -> SearchData:
        """A collection such as `docstrings()`."""
        return cls(
            name=collection.name,
            document_ids=[str(place) for place in range(len(collection.documents))],
            documents=collection.documents,
            query_ids=[str(place) for place in range(len(collection.queries))],
            queries=collection.queries,
            qrels=[{document: 1.0} for document in collection.relevant],
        )


def load(
    documents: str | Path,
    queries: str | Path | None = None,
    qrels: str | Path | None = None,
    *,
    id_field: str = "_id",
    text_field: str = "text",
    title_field: str = "title",
    split: str = "test",
) -> SearchData:
    """Reads a data set.

    A folder must have BEIR's layout: `corpus.jsonl`, `queries.jsonl`, and `qrels/test.tsv`. Otherwise name two or
    three files, each .jsonl, .csv, .tsv or .parquet. A document with a title is embedded as the title, a space, and the
    text. Judgements have three columns: `query-id`, `corpus-id` and `score`, or `query`, `document` and `grade`.

    Args:
        documents: A folder, or the file with a record for each document.
        queries: The file with a record for each query.
        qrels: The file with a record for each judgement. Without it, a sweep can only compare with the full width.
        id_field: The field with the id of a document or a query.
        text_field: The field with its text.
        title_field: The field with a document's title, which a record may lack.
        split: Which judgements of a folder to read.

    Raises:
        InputError: If a file is malformed. The message names the file and the line, and never quotes a text.
        OSError: If a file cannot be read.
    """
    source = Path(documents)
    if source.is_dir():
        if queries is not None or qrels is not None:
            raise InputError(f"{source} is a folder, which has its queries and judgements. Leave the others out.")
        documents, queries = source / "corpus.jsonl", source / "queries.jsonl"
        qrels = source / "qrels" / f"{split}.tsv"
        if not qrels.exists() and (source / "qrels").is_dir():
            there = ", ".join(sorted(path.stem for path in (source / "qrels").glob("*.tsv"))) or "none"
            raise InputError(f"{source}/qrels has no {split}.tsv. Name one of its splits: {there}.")
        qrels = qrels if qrels.exists() else None
    elif queries is None:
        raise InputError(f"{source} is no folder in BEIR's layout. Name a file of queries as well.")
    found = _texts(Path(documents), id_field, text_field, title_field)
    asked = _texts(Path(queries), id_field, text_field, None)
    judged = None if qrels is None else _judgements(Path(qrels), list(asked), list(found))
    return SearchData(
        name=source.name if source.is_dir() else source.stem,
        document_ids=list(found),
        documents=[text for text, _ in found.values()],
        query_ids=list(asked),
        queries=[text for text, _ in asked.values()],
        qrels=judged,
        fields=[record for _, record in asked.values()],
    )


def _texts(
    path: Path, id_field: str, text_field: str, title_field: str | None
) -> dict[str, tuple[str, Mapping[str, Any]]]:
    """The texts by id, each with the rest of its record."""
    found: dict[str, tuple[str, Mapping[str, Any]]] = {}
    for place, record in records(path):
        name = _name(record, id_field, place)
        if name in found:
            raise InputError(f"{place} has the {id_field} of one before, {name!r}. No two may be alike.")
        text = _string(record, text_field, place)
        if title_field is not None and record.get(title_field) is not None:
            text = f"{_string(record, title_field, place)} {text}"
        if not text.strip():
            raise InputError(f"{place} has neither text nor title. Remove it, and its judgements.")
        rest = {key: value for key, value in record.items() if key not in (text_field, title_field)}
        found[name] = (text.strip(), rest)
    if not found:
        raise InputError(f"{path} has no records.")
    return found


def _judgements(path: Path, queries: list[str], documents: list[str]) -> list[dict[int, float]]:
    query_places = {name: place for place, name in enumerate(queries)}
    document_places = {name: place for place, name in enumerate(documents)}
    qrels: list[dict[int, float]] = [{} for _ in queries]
    for place, record in records(path):
        query, document, grade = (_column(record, names, place) for names in (_QUERY, _DOCUMENT, _GRADE))
        for name, known, kind in ((query, query_places, "query"), (document, document_places, "document")):
            if str(name) not in known:
                raise InputError(f"{place} judges the {kind} {str(name)!r}, which is not there.")
        grades = qrels[query_places[str(query)]]
        if document_places[str(document)] in grades:
            raise InputError(f"{place} judges the document {str(document)!r} for the query {str(query)!r} again.")
        grades[document_places[str(document)]] = _number(grade, place)
    if not any(qrels):
        raise InputError(f"{path} has no judgements.")
    return qrels


def groups_of(data: SearchData, name: str) -> list[str]:
    """The group of each query: the field `name` of its record, or of the record's `metadata`.

    Raises:
        InputError: If a query has no such field; the message names the fields that there are.
    """
    values = [field_of(record, name) for record in data.fields]
    if len(values) == len(data.queries) and not any(value is None or value == "" for value in values):
        return [str(value) for value in values]
    missing = next((place for place, value in enumerate(values) if value is None or value == ""), 0)
    there = sorted({key for record in data.fields for key in _names(record)})
    raise InputError(
        f"Query {data.query_ids[missing]!r} has no field {name!r} to group by. "
        + (f"There are: {', '.join(there)}." if there else "These queries have no fields.")
    )


def _names(record: Mapping[str, Any]) -> Iterator[str]:
    for key, value in record.items():
        if key == "metadata" and isinstance(value, Mapping):
            yield from value
        else:
            yield key


def _name(record: Mapping[str, Any], id_field: str, place: str) -> str:
    value = record.get(id_field)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise InputError(f"{place} has no field {id_field!r} with a name or a whole number. Name the one that has it.")
    return str(value)


def _string(record: Mapping[str, Any], name: str, place: str) -> str:
    if name not in record:
        raise InputError(f"{place} has no field {name!r}. Name the one that has the text.")
    if not isinstance(record[name], str):
        raise InputError(f"{place} has a field {name!r} that is no text.")
    return str(record[name])


def _column(record: Mapping[str, Any], names: tuple[str, ...], place: str) -> Any:
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise InputError(f"{place} has no column {' or '.join(names)}. A file of judgements names its columns first.")


def _number(value: Any, place: str) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{place} has a grade that is no number.")
    return number
