"""Asking a vision model behind an OpenAI-compatible server about a picture."""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import os
import random
import socket
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import PIL.Image

from anymask.errors import InputError, ServerError
from anymask.image import Image

LARGEST_ANSWER = 1 << 20  # bytes: whoever sends more is not answering
KEYS = ("ANYMASK_API_KEY", "OPENAI_API_KEY")
SHOWN = 1024  # pixels: long side of the picture that is sent


@dataclass
class VisionServer:
    """A chat model that sees pictures.

    Attributes:
        url: of the server, such as ``http://localhost:8000/v1``.
        model: what the server calls it.
        timeout: seconds for one answer, from asking to its last byte.
        tries: before a question counts as unanswered.
        wait: seconds after the first failure; doubled each time, up to a minute.
        longest: tokens of an answer.
        key: of the server; by default one of ``KEYS`` in the environment.
    """

    url: str
    model: str
    timeout: float = 60.0
    tries: int = 4
    wait: float = 1.0
    longest: int = 64
    key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{self.url} is no server's address: write http://HOST:PORT/v1")
        if self.key is None:
            self.key = next((os.environ[name] for name in KEYS if os.environ.get(name)), None)

    @property
    def identity(self) -> str:
        """Model and server, for records."""
        return f"{self.model} at {self.url}"

    def ask(
        self,
        image: Image,
        question: str,
        stop: Callable[[], bool] = lambda: False,
        longest: int | None = None,
    ) -> str:
        """The answer to a question about a picture.

        Args:
            image: the picture; sent as JPEG, its long side at most 1024 pixels.
            question: in words.
            stop: asked between tries; True = give up.
            longest: tokens of the answer; None = the server's setting.

        Raises:
            ServerError: no usable answer after all tries. A request that the server says is wrong
                (status 400 to 499, but not 408 or 429) is not tried again.
        """
        request = {**self._request(image, question), "max_tokens": longest or self.longest}
        body = json.dumps(request).encode()
        wait = self.wait
        for number in range(1, self.tries + 1):
            try:
                return self._answer(self._post(body))
            except ServerError as error:
                if error.final or number == self.tries or stop():
                    raise
                # A server that asks for patience gets it; the jitter keeps askers apart.
                time.sleep((error.wait or wait) * random.uniform(0.75, 1.25))
                wait = min(2 * wait, 60.0)
        raise AssertionError("unreachable")

    def _request(self, image: Image, question: str) -> dict[str, Any]:
        picture = PIL.Image.fromarray(image.pixels)
        picture.thumbnail((SHOWN, SHOWN), PIL.Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        # Colours at full resolution: a thin red contour would be blurred away otherwise.
        picture.save(stream, "JPEG", quality=92, subsampling=0)
        data = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
        content = [
            {"type": "image_url", "image_url": {"url": data}},
            {"type": "text", "text": question},
        ]
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
        }

    def _post(self, body: bytes) -> bytes:
        parts = urllib.parse.urlsplit(self.url)
        kind = (
            http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        )
        connection = kind(str(parts.hostname), parts.port, timeout=self.timeout)
        headers = {"Content-Type": "application/json", "Connection": "close"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        late = threading.Event()
        lines: list[socket.socket] = []

        def close() -> None:
            late.set()
            # A server that drips a byte a second never runs into a socket's own timeout.
            for line in lines:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)

        alarm = threading.Timer(self.timeout, close)
        alarm.daemon = True
        alarm.start()
        try:
            connection.connect()
            lines.append(connection.sock)
            connection.request("POST", parts.path.rstrip("/") + "/chat/completions", body, headers)
            response = connection.getresponse()
            found = response.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            slow = late.is_set() or isinstance(error, TimeoutError)  # whichever comes first
            reason = "took too long" if slow else repr(error)
            raise ServerError(f"{self.url}: {reason}") from error
        finally:
            alarm.cancel()
            connection.close()
        if late.is_set():
            raise ServerError(f"{self.url}: took too long")
        if len(found) > LARGEST_ANSWER:
            raise ServerError(f"{self.url}: the answer does not end")
        if response.status != 200:
            said = found[:200].decode("utf-8", "replace")
            final = 400 <= response.status < 500 and response.status not in (408, 429)
            raise ServerError(
                f"{self.url}: status {response.status}: {said}",
                final=final,
                wait=_seconds(response.headers.get("Retry-After")),
            )
        return found

    def _answer(self, found: bytes) -> str:
        try:
            text = json.loads(found)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise ServerError(f"{self.url}: no answer of a chat model ({error!r})") from error
        if not isinstance(text, str):
            raise ServerError(f"{self.url}: the answer is no text")
        return text


def _seconds(text: str | None) -> float:
    try:
        return min(max(float(text or 0), 0.0), 300.0)
    except ValueError:
        return 0.0
