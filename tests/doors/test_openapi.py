"""A fuzzer reads the description of the access service, and finds no answer that the description doesn't have."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.doors.readers.conftest import PYTHON, missing
from tests.e2e.service import placed

HERE = Path(__file__).parent
PROGRAM = PYTHON.parent / "schemathesis"
EXAMPLES = 8  # of each operation
# What is not claimed: that everything of the described form is right, and that a missing key is told from a wrong one.
LEFT_OUT = "positive_data_acceptance,ignored_auth"


async def test_a_fuzzer_finds_no_fault(mongod: str, tmp_path: Path):
    if not PROGRAM.exists():
        missing("the packages of requirements/doors.txt (make doors)")
    async with placed(mongod, tmp_path / "place") as place:
        await place.add("me")
        async with place.serving(await place.key()) as service:
            process = await asyncio.create_subprocess_exec(
                str(PROGRAM),
                *("--config-file", str(HERE / "schemathesis.toml"), "run", f"{service.url}/openapi.json"),
                *("--header", f"Authorization: Bearer {service.key}", "--max-examples", str(EXAMPLES)),
                *("--checks", "all", "--exclude-checks", LEFT_OUT, "--suppress-health-check", "all"),
                *("--seed", "1", "--no-color"),
                cwd=tmp_path,
                env={**os.environ, "HOME": str(tmp_path)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await process.communicate()
            if process.returncode:
                pytest.fail(out.decode()[-12_000:])
            assert not service.process.seen("internal.error")
