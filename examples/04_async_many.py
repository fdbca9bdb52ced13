"""Embeds several collections at once in one event loop; one embedder serves all tasks."""

import asyncio

from mrlclient import Embedder, EmbeddingResult


async def main() -> None:
    collections = {
        "notes": [f"Note {i} about the harvest" for i in range(500)],
        "mails": [f"Mail {i} about the invoice" for i in range(200)],
        "logs": ["connection opened", "connection closed"] * 300,
    }
    results: dict[str, EmbeddingResult] = {}

    async def embed(name: str, texts: list[str]) -> None:
        results[name] = await embedder.aembed(texts, input_type="document")

    async with Embedder(dimensions=128) as embedder, asyncio.TaskGroup() as tasks:
        for name, texts in collections.items():
            tasks.create_task(embed(name, texts))

    for name, result in sorted(results.items()):
        print(f"{name}: {len(result)} texts at {result.dimensions}, {result.usage.tokens} tokens")


if __name__ == "__main__":
    asyncio.run(main())
