"""What a running daemon tells at /metrics."""

import asyncio
from datetime import timedelta

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

COUNTED = "\nrefreshd_oldest_due_age_seconds "  # is there once the store was counted
PATIENCE = timedelta(seconds=60)


async def exposition(url: str) -> str:
    """The text of /metrics, once the store was counted: before that the store-wide figures are not known."""
    async with asyncio.timeout(PATIENCE.total_seconds()), aiohttp.ClientSession() as session:
        while True:
            async with session.get(f"{url}/metrics") as answer:
                text = await answer.text()
            if COUNTED in text:
                return text
            await asyncio.sleep(0.2)


def exposed(text: str) -> set[str]:
    """The names of all series that stand in a query; also of those that have none right now."""
    families = list(text_string_to_metric_families(text))
    return {sample.name for family in families for sample in family.samples} | {
        family.name for family in families
    }
