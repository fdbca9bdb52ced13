"""What a search through a framework has to find, whoever does the searching."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mrlclient.evaluate import Collection

#: Queries whose document the embedded default finds first at 64 dimensions.
FOUND_FIRST = (
    "Tries to find 'executable' in the directories listed in 'path'.",
    "Separate the underlying buffer from the TextIOBase and return it.",
    "A decorator indicating abstract staticmethods.",
)
#: The embedded default finds 52 % at 64 dimensions among the first ten of 200 documents, which are much alike.
SHARE, DEPTH = 0.5, 10


def check_search(search: Callable[[str], Sequence[str]], collection: Collection) -> None:
    """A search over the embedded default at 64 dimensions finds what there is to be found."""
    answers = dict(zip(collection.queries, (collection.documents[d] for d in collection.relevant), strict=True))
    found = [answers[query] in search(query)[:DEPTH] for query in collection.queries]
    assert sum(found) >= SHARE * len(found)
    for query in FOUND_FIRST:
        assert search(query)[0] == answers[query]
