"""A loopback emulator of the OpenAI and Voyage embedding APIs: their answers, their refusals, and their bad days.

::

    with Emulator() as emulator:
        client = openai.OpenAI(base_url=emulator.openai_base_url, api_key=emulator.openai_key)
        emulator.faults.append(FAULTS["openai_rate_limited"])   # the next request gets a 429
        client.embeddings.create(model="text-embedding-3-small", input="a")
        assert [request.status for request in emulator.requests] == [429, 200]

The vectors are not those of the real models. They are `emulator_vector`'s, the same in every process, and near for
texts that share words. From a shell: ``python -m mrlclient.testing.emulator``.
"""

from mrlclient.testing.emulator.emulator import Emulator
from mrlclient.testing.emulator.faults import Fault
from mrlclient.testing.emulator.limits import count_tokens
from mrlclient.testing.emulator.named_faults import FAULTS
from mrlclient.testing.emulator.records import RecordedRequest
from mrlclient.testing.emulator.vectors import emulator_vector

__all__ = ["FAULTS", "Emulator", "Fault", "RecordedRequest", "count_tokens", "emulator_vector"]
