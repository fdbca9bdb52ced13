"""The parts of the pages that are made from the code. ``python -m tests.docs.generated`` writes them anew.

A page holds such a part between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping

from mrlclient import DimensionsError, catalogue, events
from mrlclient.dimensions import resolve
from mrlclient.models import ModelSpec
from mrlclient.providers._refusals import classify
from mrlclient.testing.emulator import FAULTS
from tests.docs.generated_api import api
from tests.docs.generated_faults import fault_matrix, waits
from tests.docs.running import PAGES, ROOT

_PART = re.compile(r"(<!-- generated:([\w-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)


def regenerated(text: str) -> str:
    """A page's text with its generated parts made anew."""
    return _PART.sub(lambda part: f"{part[1]}{GENERATORS[part[2]]().strip()}\n{part[3]}", text)


def table(heads: list[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [heads, ["---"] * len(heads), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else str(value)


# --- models


def _widths(spec: ModelSpec) -> str:
    if spec.server_dimensions is None:
        return "none: cut here"
    if spec.server_dimensions == "any":
        return f"1 to {spec.native_dimensions}"
    return ", ".join(map(str, spec.server_dimensions))


def models() -> str:
    """The short table: Matryoshka models, then the others in a line."""
    specs = list(catalogue().models.values())
    rows = [
        (f"`{spec.address}`", str(spec.native_dimensions), _widths(spec), spec.smallest_evaluated, spec.status)
        for spec in specs
        if spec.matryoshka
    ]
    heads = ["Model", "Full width", "Widths the server cuts to", "Narrowest evaluated", "Status"]
    fixed = ", ".join(f"`{spec.address}` ({spec.native_dimensions})" for spec in specs if not spec.matryoshka)
    return f"{table(heads, rows)}\n\nModels of one width, never cut: {fixed}."


def catalogue_page() -> str:
    """Every row of the catalogue with the source of every value."""
    parts = []
    for provider in catalogue().providers:
        specs = [spec for spec in catalogue().models.values() if spec.provider == provider]
        if not specs:
            continue
        aliases = [alias for alias, name in catalogue().aliases.items() if name == provider]
        also = f" (also `{'`, `'.join(aliases)}`)" if aliases else ""
        parts.append(f"## `{provider}`{also}\n\n{_widths_table(specs)}\n\n{_limits_table(specs)}")
        parts += [_model_details(spec) for spec in specs]
    parts.append("## Servers with OpenAI's API")
    parts += [
        f"### `{server.name}`\n\n" + "\n".join(_sources(server.sources)) for server in catalogue().servers.values()
    ]
    return "\n\n".join(parts)


def _widths_table(specs: list[ModelSpec]) -> str:
    heads = ["Model", "Matryoshka", "Full width", "Server truncates to", "Narrowest evaluated", "Recipe", "Space"]
    return table(
        heads,
        (
            (
                f"`{spec.name}`",
                "yes" if spec.matryoshka else "no",
                str(spec.native_dimensions),
                _widths(spec) if spec.matryoshka else None,
                spec.smallest_evaluated,
                f"`{spec.recipe}`" if spec.matryoshka else None,
                f"`{spec.space}`",
            )
            for spec in specs
        ),
    )


def _limits_table(specs: list[ModelSpec]) -> str:
    heads = [
        "Model",
        "Texts per request",
        "Tokens per text",
        "Tokens per request",
        "Requests per minute",
        "Tokens per minute",
        "USD per million tokens",
        "Status",
    ]
    return table(
        heads,
        (
            (
                f"`{spec.name}`",
                spec.max_inputs,
                spec.max_input_tokens,
                spec.max_request_tokens,
                spec.requests_per_minute,
                spec.tokens_per_minute,
                None if spec.usd_per_million_tokens is None else f"{spec.usd_per_million_tokens:g}",
                spec.status,
            )
            for spec in specs
        ),
    )


def _model_details(spec: ModelSpec) -> str:
    lines = []
    if spec.scores:
        lines.append(f"- {spec.score_name}: " + ", ".join(f"{score:g} at {width}" for width, score in spec.scores))
    if spec.prompts:
        lines.append("- Prompts: " + ", ".join(f"{role} `{prompt}`" for role, prompt in spec.prompts.items()))
    if spec.unit_length:
        lines.append("- The provider's own vectors have unit length")
    if spec.default_input_type:
        lines.append(f"- Default input type: `{spec.default_input_type}`")
    if spec.answers_as:
        lines.append(f"- Answers may name it `{'`, `'.join(spec.answers_as)}`")
    if spec.repository:
        lines.append(f"- Files: `{spec.repository}`" + (f" at `{spec.revision}`" if spec.revision else ""))
    lines += [f"- SHA-256 of `{file}`: `{checksum}`" for file, checksum in spec.checksums.items()]
    if spec.tokenizer:
        lines.append(f"- Tokenizer: `{spec.tokenizer}`")
    lines += _sources(spec.sources)
    return f"### `{spec.address}`\n\n" + "\n".join(lines)


def _sources(sources: Mapping[str, str]) -> list[str]:
    """The values that each source is one of."""
    by_source: dict[str, list[str]] = {}
    for name, source in sources.items():
        by_source.setdefault(source, []).append(f"`{name}`")
    return [f"- {', '.join(names)}: {source}" for source, names in by_source.items()]


# --- servers

_CUTS = {
    "honours": "truncates and normalises",
    "ignores": "ignores it",
    "slices_without_l2": "truncates, does not normalise",
    "pads": "pads with zeros above the full width",
    "refuses": "refuses it, unless configured to accept it",
}


def servers() -> str:
    """What is known of servers with OpenAI's API."""
    heads = [
        "`server=`",
        "Usual address",
        "Effect of `dimensions`",
        "Requested width",
        "A text that is too long",
        "Nomic's layer norm",
        "Model name in answers",
        "Texts per request",
    ]
    rows = (
        (
            f"`{server.name}`",
            None if server.base_url is None else f"`{server.base_url}`",
            None if server.dimensions is None else _CUTS[server.dimensions],
            "yours" if server.dimensions == "honours" else "full",
            {None: None, True: "is silently cut off", False: "is an error"}[server.truncates_input],
            {None: None, True: "applied", False: "missing"}[server.centers_nomic],
            {None: None, "asked": "the requested one", "own": "its own"}[server.answers_with],
            server.max_inputs,
        )
        for server in catalogue().servers.values()
    )
    return table(heads, rows)


# --- dimensions

_DECISIONS = [
    ("openai:text-embedding-3-large", None),
    ("openai:text-embedding-3-large", 1000),
    ("openai:text-embedding-3-large", 4096),
    ("openai:text-embedding-ada-002", None),
    ("openai:text-embedding-ada-002", 1536),
    ("openai:text-embedding-ada-002", 256),
    ("voyage:voyage-4", None),
    ("voyage:voyage-4", 1024),
    ("voyage:voyage-4", 300),
    ("voyage:voyage-law-2", 512),
    ("nomic:nomic-embed-text-v1.5", None),
    ("nomic:nomic-embed-text-v1.5", 256),
    ("wordllama:l2-supercat-256", 64),
]


def decisions() -> str:
    """What `resolve` decides."""
    return table(
        ["Model", "You ask for", "Requested", "Received", "You get", "`reduction`"],
        (_decision(address, width) for address, width in _DECISIONS),
    )


def _decision(address: str, width: int | None) -> list[str]:
    asked = [f"`{address}`", "nothing" if width is None else str(width)]
    try:
        found = resolve(catalogue().models[address], width)
    except DimensionsError as error:
        return [*asked, "–", "–", f"`{type(error).__name__}`", "–"]
    requested = "no parameter" if found.requested is None else str(found.requested)
    return [*asked, requested, str(found.received), str(found.dimensions), f"`{found.reduction}`"]


# --- errors

_STATUSES = (301, 400, 401, 403, 404, 408, 409, 410, 413, 422, 424, 425, 429, *range(500, 505), *range(520, 525), 529)


def retries() -> str:
    """What each HTTP status becomes, and whether it is tried again."""
    groups: dict[tuple[str, bool], list[str]] = {}
    answers: list[tuple[str, int, str | None]] = [(str(status), status, None) for status in _STATUSES]
    answers += [
        ("any other 2xx", 204, None),
        ("429 with the code `insufficient_quota`", 429, "insufficient_quota"),
        ("429 `Request too large`: a single request above the limit per minute", 429, "request_too_large"),
    ]
    for shown, status, code in answers:
        kind, retryable = classify(status, code)
        groups.setdefault((kind.__name__, retryable), []).append(shown)
    rows = [
        (f"`{kind}`", ", ".join(shown), "yes" if retryable else "no") for (kind, retryable), shown in groups.items()
    ]
    return table(["Error", "Answer", "Retried"], rows)


def log_events() -> str:
    """The attributes of the log's records, from where they are made."""
    return "\n".join(line for line in (events.__doc__ or "").splitlines() if line.startswith("|"))


def faults() -> str:
    """The emulator's named faults, by what a strict client makes of them."""
    groups: dict[str, list[str]] = {}
    for name, fault in FAULTS.items():
        groups.setdefault(fault.expects, []).append(f"`{name}`")
    return table(["`expects`", "Faults"], ((f"`{expects}`", ", ".join(names)) for expects, names in groups.items()))


# --- packages


def extras() -> str:
    """The extras of pyproject.toml."""
    offered: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"][
        "optional-dependencies"
    ]
    return table(
        ["Extra", "For", "Brings"],
        (
            (f"`{name}`", _EXTRA_USES[name], ", ".join(re.split(r"[<>=[]", needed)[0] for needed in packages))
            for name, packages in offered.items()
            if name != "all"
        ),
    )


_EXTRA_USES = {
    "openai": "sending through your own `openai` client, and the stand-in for it",
    "voyage": "sending through your own `voyageai` client",
    "nomic": "Nomic Embed on this machine",
    "wordllama": "the embedded default: no key, no network",
    "sqlite": "a cache in a file",
    "redis": "a cache on a Redis or Valkey server",
    "parquet": "`mrlclient cache export` to Parquet",
    "otel": "OpenTelemetry spans and metrics",
    "cli": "the command `mrlclient`",
    "fast": "answers are decoded in less time",
    "config": "profiles in `mrlclient.toml`",
    "usearch": "searching a USearch index in two stages, and vectors for one",
    "report": "what a sweep found, as a page",
    "langchain": "embeddings for LangChain",
    "llama-index": "an embedding model for LlamaIndex",
    "haystack": "embedders for Haystack",
    "chroma": "an embedding function for Chroma",
    "lancedb": "an embedding function for LanceDB",
    "pydantic-ai": "an embedding model for Pydantic AI",
    "dspy": "an embedder for DSPy",
    "qdrant": "vectors for a Qdrant collection",
    "faiss": "vectors for a FAISS index",
    "milvus": "vectors for a Milvus collection",
    "pgvector": "vectors for PostgreSQL",
}


GENERATORS: dict[str, Callable[[], str]] = {
    "models": models,
    "catalogue": catalogue_page,
    "servers": servers,
    "decisions": decisions,
    "retries": retries,
    "events": log_events,
    "faults": faults,
    "extras": extras,
    "api": api,
    "retry-after": lambda: table(*waits()),
    "fault-matrix": lambda: table(*fault_matrix()),
}


def main() -> None:
    """Writes every generated part anew."""
    for path in PAGES:
        text = path.read_text("utf-8")
        made = regenerated(text)
        if made != text:
            path.write_text(made, encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
