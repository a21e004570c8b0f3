"""An OpenAI-compatible server for tests that answers by the colour under the red mask, and can be
made to fail in every way a server does."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import PIL.Image

COLORS = {(40, 40, 220): "a Blue-Cup.", (30, 200, 40): "leaf", (230, 220, 30): "Category: lemon"}


def seen_color(pixels: np.ndarray) -> str:
    """What lies under the red mask: the middle of what the red contour surrounds, less the red."""
    contour = (pixels[..., 0] > 200) & (pixels[..., 1:].max(-1) < 90)
    if not contour.any():
        return "nothing"
    rows, columns = np.flatnonzero(contour.any(1)), np.flatnonzero(contour.any(0))
    y, x = (int(along.mean()) for along in (rows, columns))
    middle = pixels[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).astype(float).mean(0)
    shown = (middle - 0.4 * np.array([255, 0, 0])) / 0.6
    return COLORS[min(COLORS, key=lambda color: float(np.abs(shown - np.array(color)).sum()))]


class FakeServer:
    """Counts what it is asked; ``behave`` may raise, stall or answer something else.

    Args:
        behave: number of the request -> None = answer well, bytes = send these, int = that status,
            float = wait so many seconds first, ``"drip"`` = a byte now and then.
    """

    def __init__(self, behave: Callable[[int], Any] = lambda number: None) -> None:
        self.asked: Counter[tuple[bytes, str]] = Counter()
        self.answered: Counter[tuple[bytes, str]] = Counter()
        self.headers: list[dict[str, str]] = []
        self.number = 0
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                picture, text = outer.question(body)
                with outer.lock:
                    outer.number += 1
                    number = outer.number
                    outer.asked[picture, text] += 1
                    outer.headers.append(dict(self.headers))
                how = behave(number)
                if isinstance(how, float):
                    time.sleep(how)
                if isinstance(how, int) and not isinstance(how, bool):
                    self.reply(how, b"no")
                elif isinstance(how, bytes):
                    self.reply(200, how)
                elif how == "drip":
                    self.send_response(200)
                    self.end_headers()
                    for _ in range(200):
                        self.wfile.write(b" ")
                        self.wfile.flush()
                        time.sleep(0.05)
                else:
                    said = outer.answer(picture, text)
                    answer = {"choices": [{"message": {"content": said}}]}
                    self.reply(200, json.dumps(answer).encode())
                    with outer.lock:
                        outer.answered[picture, text] += 1

            def reply(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True  # whoever asked is gone

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    @staticmethod
    def question(body: dict[str, Any]) -> tuple[bytes, str]:
        picture, text = body["messages"][0]["content"]
        return base64.b64decode(picture["image_url"]["url"].split(",")[1]), text["text"]

    @staticmethod
    def answer(picture: bytes, text: str) -> str:
        color = seen_color(np.asarray(PIL.Image.open(io.BytesIO(picture)).convert("RGB")))
        if "yes or no" in text:
            name = color.strip(".").split()[-1].lower().replace("-", " ")
            return "Yes, it is." if name in text else "No."
        return color

    def __enter__(self) -> FakeServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
