"""A user's own data: read whole, or refused with its line."""

import json
from pathlib import Path

import pytest

from mrlclient.errors import InputError
from mrlclient.evaluate import load
from mrlclient.evaluate.loading import SearchData, groups_of

DOCUMENTS = [{"_id": "a", "title": "Bread", "text": "flour"}, {"_id": "b", "text": "canary"}, {"_id": "c", "text": "x"}]
QUERIES = [{"_id": "1", "text": "bake", "metadata": {"lang": "en"}}, {"_id": "2", "text": "bird", "lang": "de"}]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path):
    jsonl(tmp_path / "corpus.jsonl", DOCUMENTS)
    jsonl(tmp_path / "queries.jsonl", QUERIES)
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n1\ta\t2\n2\tb\t1\n2\tc\t0\n")
    return tmp_path


def check(data):
    assert data.document_ids == ["a", "b", "c"]
    assert data.documents == ["Bread flour", "canary", "x"]
    assert (data.query_ids, data.queries) == (["1", "2"], ["bake", "bird"])
    assert data.qrels == [{0: 2.0}, {1: 1.0, 2: 0.0}]


def test_a_folder_of_beir(folder):
    data = load(folder)
    check(data)
    assert groups_of(data, "lang") == ["en", "de"]
    assert "canary" not in repr(data)
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    check(load(folder, split="dev"))
    with pytest.raises(InputError, match=r"no test\.tsv.*dev"):
        load(folder)


def test_without_judgements(folder):
    assert load(folder / "corpus.jsonl", folder / "queries.jsonl").qrels is None


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_tables_with_fields_of_other_names(tmp_path, ending):
    tables = {
        "documents": [{"key": "a", "head": "Bread", "body": "flour"}, {"key": "b", "head": None, "body": "canary"}],
        "queries": [{"key": "1", "body": "bake, slowly"}],
        "qrels": [{"query": "1", "document": "b", "grade": "1"}],
    }
    paths = []
    for name, rows in tables.items():
        paths.append(tmp_path / f"{name}.{ending}")
        if ending == "parquet":
            import pyarrow as arrow
            import pyarrow.parquet as parquet

            parquet.write_table(arrow.Table.from_pylist(rows), paths[-1])
        else:
            mark = "," if ending == "csv" else "\t"
            quoted = '"{}"' if ending == "csv" else "{}"
            lines = [rows[0], *rows]
            cells = [[(key if place == 0 else row[key] or "") for key in row] for place, row in enumerate(lines)]
            paths[-1].write_text("".join(mark.join(quoted.format(cell) for cell in row) + "\n" for row in cells))
    data = load(*paths, id_field="key", text_field="body", title_field="head")
    assert data.documents == ["Bread flour", "canary"]
    assert data.queries == ["bake, slowly"]
    assert data.qrels == [{1: 1.0}]


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("corpus.jsonl", "", "has no records"),
        ("corpus.jsonl", '{"_id": "a", "text": "canary"}\n\n', "corpus.jsonl:2 is blank"),
        ("corpus.jsonl", '{"_id": "a", "text": "canary"}\n{"canary', "corpus.jsonl:2 is not JSON"),
        ("corpus.jsonl", '["canary"]\n', "corpus.jsonl:1 is no JSON object"),
        ("corpus.jsonl", '{"_id": "a", "text": "canary", "text": ""}\n', "corpus.jsonl:1 has a key twice"),
        ("corpus.jsonl", '{"_id": "a", "text": " "}\n', "corpus.jsonl:1 has neither text nor title"),
        ("corpus.jsonl", '{"_id": "a", "body": "canary"}\n', "corpus.jsonl:1 has no field 'text'"),
        ("corpus.jsonl", '{"_id": "a", "text": 7}\n', "corpus.jsonl:1 has a field 'text' that is no text"),
        ("corpus.jsonl", '{"text": "canary"}\n', "corpus.jsonl:1 has no field '_id'"),
        ("corpus.jsonl", '{"_id": "a", "text": "canary"}\n' * 2, "corpus.jsonl:2 has the _id of one before, 'a'"),
        ("corpus.jsonl", b'{"_id": "a", "text": "ok"}\n\xff\n', "corpus.jsonl:2 is not UTF-8"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n", "has no judgements"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\n", "test.tsv:2 has 2 fields, and the first line has 3"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n9\ta\t1\n", "test.tsv:2 judges the query '9'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\tz\t1\n", "test.tsv:2 judges the document 'z'"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\tnan\n", "test.tsv:2 has a grade that is no number"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\n1\ta\t1\n1\ta\t2\n", "test.tsv:3 judges .* again"),
        ("qrels/test.tsv", "1\ta\t2\n1\tb\t1\n", "test.tsv:2 has no column query-id"),
        ("qrels/test.tsv", "a\ta\tscore\n", "test.tsv:1 names a column twice"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(folder, file, content, said):
    (folder / file).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError, match=said) as refused:
        load(folder)
    assert "canary" not in str(refused.value)


def test_a_quote_that_is_not_closed(folder):
    (folder / "d.csv").write_text('_id,text\na,fine\nb,"canary\n')
    with pytest.raises(InputError, match=r"d\.csv:3 is not CSV") as refused:
        load(folder / "d.csv", folder / "queries.jsonl")
    assert "canary" not in str(refused.value)


def test_a_parquet_file_that_is_none(folder):
    (folder / "d.parquet").write_bytes(b"canary")
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        load(folder / "d.parquet", folder / "queries.jsonl")


def test_files_that_do_not_fit(folder):
    with pytest.raises(InputError, match="Name a file of queries"):
        load(folder / "corpus.jsonl")
    with pytest.raises(InputError, match="is a folder"):
        load(folder, folder / "queries.jsonl")
    with pytest.raises(InputError, match="of no kind that is read"):
        load(folder / "corpus.txt", folder / "queries.jsonl")
    with pytest.raises(FileNotFoundError):
        load(folder / "corpus.jsonl", Path("absent.jsonl"))


def test_a_field_to_group_by_that_is_not_there(folder):
    with pytest.raises(InputError, match=r"Query '1' has no field 'color'.*There are: _id, lang"):
        groups_of(load(folder), "color")
    with pytest.raises(InputError, match="no fields"):
        groups_of(SearchData("none", ["a"], ["x"], ["1"], ["y"]), "color")
