"""The dialect of OpenAI's `/embeddings`, which many other servers speak too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mrlclient.plan import Batch
from mrlclient.providers._exchange import Transport
from mrlclient.providers._hosted import HostedProvider


class OpenAIDialect(HostedProvider):
    """A provider whose server is asked, and answers, as OpenAI's."""

    refused_input = re.compile(r"'\$?\.?input\[(\d+)\]'")

    def _sdk_transport(self, client: Any, timeout: float) -> Transport:
        from mrlclient.providers._openai_sdk import OpenAISDKTransport

        return OpenAISDKTransport(client, self.name, timeout)

    def _fields(self, batch: Batch) -> dict[str, Any]:
        requested = batch.resolution.requested
        return {} if requested is None else {"dimensions": requested}

    def _error_details(self, body: Mapping[str, Any]) -> tuple[str, str | None, str | None]:
        error = body.get("error")
        if not isinstance(error, Mapping):
            return "", None, None
        message = str(error.get("message") or "")
        # Some servers repeat the status as the code, as a number.
        code = next((name for name in (error.get("code"), error.get("type")) if isinstance(name, str) and name), None)
        if message.startswith("Request too large"):
            # One request above the limit per minute: the code is that of any other 429, but no wait helps.
            code = "request_too_large"
        parameter = error.get("param")
        return message, code, str(parameter) if parameter else None
