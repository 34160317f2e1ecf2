"""What an exported GEMNet sees in images; needs onnxruntime, numpy and Pillow.

    python infer.py photo.jpg more/photos --top 5      # a folder means the images in it
    python infer.py photo.jpg --json                   # one JSON object a line
    python infer.py --serve 8000                       # curl --data-binary @photo.jpg localhost:8000/predict

The ONNX file says itself how images are prepared and what its outputs are called.
"""

import argparse
import contextlib
import hashlib
import io
import json
import math
import os
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
import onnxruntime
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
BATCH = 16  # images given to the model at once
MAX_PIXELS = 50_000_000  # of one image, checked before it is decoded
MAX_BYTES = 20_000_000  # of one upload
MAX_CONNECTIONS = 64  # further ones are answered 503
ALLOWED = {"/health": "GET, HEAD", "/predict": "POST"}  # methods of each address
BUSY = b'{"error": "too many connections at once; try again"}\n'  # of a connection that no thread may serve
TIMEOUT_S = 15.0  # for a whole request to arrive, however slowly its bytes drip
UNREADABLE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, MemoryError,
    Image.DecompressionBombError, Image.DecompressionBombWarning,
)  # fmt: skip

Pixels = np.ndarray[Any, Any]


class Model:
    """An ONNX file with what it says of itself.

    Args:
        path: the file, or the folder of a `model.onnx`.
        threads: of ONNX Runtime; 0 lets it choose.

    Raises:
        ValueError: the file cannot be read, is not the one its folder's `config.json` lists, or does not say how
            images are prepared.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        file = Path(path) / "model.onnx" if Path(path).is_dir() else Path(path)
        if not file.is_file():
            raise ValueError(f"there is no file {file}")
        check_digest(file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        options.log_severity_level = 3
        try:
            self.session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
            raise ValueError(f"{file} cannot be loaded: {' '.join(str(error).split())}") from None
        said = self.session.get_modelmeta().custom_metadata_map
        if "preprocessing" not in said or "labels" not in said:
            raise ValueError(f"{file} does not say how images are prepared; was it written by gemnet export?")
        self.name, self.weights = said.get("model", file.stem), said.get("weights", "")
        self.preprocessing: dict[str, Any] = json.loads(said["preprocessing"])
        self.labels: list[str] = json.loads(said["labels"])
        self.input = self.session.get_inputs()[0]

    def read(self, source: Any) -> Pixels:
        """The pixels [H, W, C] of an image file, as the model wants them; raises one of `UNREADABLE`."""
        with Image.open(source) as image:
            return to_pixels(image, self.preprocessing)

    def logits(self, images: Pixels) -> Pixels:
        """Scores [N, num_classes] of pixels [N, H, W, C]."""
        fed = images if self.preprocessing["dtype"] == "uint8" else normalise(images, self.preprocessing)
        step = 1 if self.input.shape[0] == 1 else BATCH  # a file may have its batch fixed to 1
        parts = [self.session.run(None, {self.input.name: fed[k : k + step]})[0] for k in range(0, len(fed), step)]
        return np.concatenate(parts)

    def best(self, logits: Pixels, top: int) -> list[dict[str, Any]]:
        """The `top` labels of one image's logits, the likeliest first."""
        shifted = np.exp(logits - logits.max())
        shares = shifted / shifted.sum()
        order = np.argsort(-logits, kind="stable")[:top]
        return [
            {"label": self.labels[k], "index": int(k), "score": float(shares[k]), "logit": float(logits[k])}
            for k in order
        ]


def check_digest(file: Path) -> None:
    """Raises ValueError unless a file has the sha256 for which the exported folder's `config.json` lists it.

    Files without such a `config.json` beside them, or that it does not list, are taken as they are.
    """
    path = file.with_name("config.json")
    if not path.is_file():
        return
    try:
        config = json.loads(path.read_bytes())
        ours = isinstance(config, dict) and config.get("schema") == "gemnet.bundle/1"
        wanted = config["files"].get(file.name) if ours else None
        content = file.read_bytes()
    except (OSError, ValueError, RecursionError, KeyError, AttributeError) as error:
        raise ValueError(f"{file} cannot be compared with {path}: {str(error) or type(error).__name__}") from None
    found = hashlib.sha256(content).hexdigest()
    if wanted is not None and found != wanted:
        raise ValueError(f"{file} is damaged: its sha256 is {found}, not {wanted!s:.64}; copy or export it again")


def to_pixels(image: Image.Image, preprocessing: dict[str, Any]) -> Pixels:
    """The middle of an image at the model's size: bytes [H, W, C].

    The image is turned upright as its EXIF says, its shorter side is resized to `resize`, then `size` is cut
    out of the middle.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ValueError(f"an image of {image.width}x{image.height} is too large")
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        raise ValueError(f"more than 8 bits per channel ({image.mode})")
    channels = preprocessing["channels"]
    if channels not in (1, 3):
        raise ValueError(f"the model takes images of {channels} channels, which a picture has not")
    image = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # a palette with transparency converts to RGB with a warning
    image = image.convert("L" if channels == 1 else "RGB")
    height, width = preprocessing["size"]
    short, (w, h) = preprocessing["resize"], image.size
    wanted = (short, int(short * h / w)) if w <= h else (int(short * w / h), short)
    if max(wanted) > 64 * max(short, 1):
        raise ValueError(f"an image of {w}x{h} is too narrow")
    if wanted != image.size:
        image = image.resize(wanted, Image.Resampling[preprocessing["interpolation"].upper()])
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    pixels = np.asarray(image.crop((left, top, left + width, top + height)))
    return pixels.reshape(height, width, channels)


def normalise(images: Pixels, preprocessing: dict[str, Any]) -> Pixels:
    """Bytes [N, H, W, C] as floats [N, C, H, W] of the mean and deviation the model was trained with."""
    mean, std = (np.asarray(preprocessing[name], np.float32) for name in ("mean", "std"))
    floats = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(floats.transpose(0, 3, 1, 2))


def find_images(places: Iterable[Path]) -> Iterator[Path]:
    """The files named, and those below the folders named that are images by their suffix, in order."""
    for place in places:
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.suffix.lower() in SUFFIXES)
        else:
            yield place


def predict(model: Model, places: Iterable[Path], top: int) -> Iterator[dict[str, Any]]:
    """For each image `file` and `top`, or `file` and `error`; BATCH of them are in memory at once."""
    batch: list[dict[str, Any]] = []
    pixels: list[Pixels] = []
    for path in find_images(places):
        try:
            pixels.append(model.read(path))
            batch.append({"file": str(path)})
        except UNREADABLE as error:
            batch.append({"file": str(path), "error": _why(error)})
        if len(batch) == BATCH:
            yield from _finish(model, batch, pixels, top)
            batch, pixels = [], []
    yield from _finish(model, batch, pixels, top)


def _finish(
    model: Model, batch: list[dict[str, Any]], pixels: list[Pixels], top: int
) -> Iterator[dict[str, Any]]:
    scores = iter(model.logits(np.stack(pixels)) if pixels else ())
    for item in batch:
        yield item if "error" in item else {**item, "top": model.best(next(scores), top)}


def _why(error: BaseException) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no readable image: of no known format"
    return f"no readable image: {(error.strerror if isinstance(error, OSError) else None) or error}"


class Server(ThreadingHTTPServer):
    """Answers `POST /predict?top=5` with an image as its body, and `GET /health`, over HTTP.

    Args:
        model: with one thread a run; as many runs as processors go on at once.
        address: host and port; port 0 takes a free one.
        timeout_s: for a request to arrive.
        max_bytes: of an upload.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self, model: Model, address: tuple[str, int], timeout_s: float = TIMEOUT_S, max_bytes: int = MAX_BYTES
    ) -> None:
        self.model, self.timeout_s, self.max_bytes = model, timeout_s, max_bytes
        self.slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self.runs = threading.BoundedSemaphore(os.cpu_count() or 1)
        super().__init__(address, Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Starts a thread for a connection, while there are not too many."""
        if self.slots.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            request.settimeout(1)
            head = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: application/json\r\n"
            request.sendall(f"{head}Content-Length: {len(BUSY)}\r\n\r\n".encode() + BUSY)
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serves a connection in its thread."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Passes over clients that have gone; anything else is reported."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


class Deadline(io.RawIOBase):
    """A socket's bytes until a moment that slow clients do not move; raises TimeoutError then."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection, self.end = connection, math.inf

    def readable(self) -> bool:
        """True, as `io.BufferedReader` asks."""
        return True

    def readinto(self, buffer: Any) -> int:
        """The number of bytes received."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One connection to the server."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "gemnet", ""

    def setup(self) -> None:
        """Puts a deadline on reading."""
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
        self.deadline = Deadline(self.connection)
        self.rfile = io.BufferedReader(self.deadline)

    def handle_one_request(self) -> None:
        """Reads and answers one request of a connection that is kept open."""
        self.deadline.end = time.monotonic() + self.server.timeout_s
        super().handle_one_request()

    def parse_request(self) -> bool:
        """Whether the request is one that is served; it is answered when not."""
        return super().parse_request() and self.admitted()

    def admitted(self) -> bool:
        """Whether address and method are served, after a refusal when not; the address is `self.url` then."""
        try:
            self.url = urlsplit(self.path)
        except ValueError as error:
            self.refuse(400, f"the address {self.path[:40]!r} cannot be read: {error}")
            return False
        allowed = ALLOWED.get(self.url.path)
        if allowed is None:
            self.refuse(404, "there are POST /predict and GET /health")
        elif self.command not in allowed.split(", "):
            self.refuse(405, f"{self.url.path} takes {allowed}, got {self.command[:20]}", allowed)
        else:
            return True
        return False

    def do_GET(self) -> None:
        """Health, for whoever watches the service."""
        self.answer(200, {"status": "ok", "model": self.server.model.name, "weights": self.server.model.weights})

    def do_HEAD(self) -> None:
        """The same without a body."""
        self.do_GET()

    def do_POST(self) -> None:
        """The labels of the image in the body."""
        length = self.checked_length()
        if length is None:
            return
        try:
            body = self.rfile.read(length)
        except TimeoutError:
            self.refuse(408, f"the image did not arrive within {self.server.timeout_s:g} s")
            return
        if len(body) == length:  # less when the client has gone
            self.answer(*self.predicted(body))

    def handle_expect_100(self) -> bool:
        """Asks for the body only when its length is allowed."""
        return self.admitted() and self.checked_length() is not None and super().handle_expect_100()

    def checked_length(self) -> int | None:
        """The body's length in bytes; None after a refusal."""
        length = self.headers.get("Content-Length")
        if length is None:
            self.refuse(411, "the image's length must be given as Content-Length")
        elif not (length.isascii() and length.isdigit()):
            self.refuse(400, f"Content-Length is {length[:20]!r}")
        elif len(length) > 18 or int(length) > self.server.max_bytes:
            self.refuse(413, f"at most {self.server.max_bytes} bytes are taken")
        else:
            return int(length)
        return None

    def predicted(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """The status and answer to an image's bytes."""
        asked = parse_qs(self.url.query).get("top", ["5"])[0]
        if not (asked.isascii() and asked.isdigit() and 1 <= int(asked[:6]) <= 1000):
            return 400, {"error": f"top is a number from 1 to 1000, got {asked[:20]!r}"}
        model = self.server.model
        try:
            with self.server.runs:
                pixels = model.read(io.BytesIO(body))
                return 200, {"top": model.best(model.logits(pixels[None])[0], int(asked))}
        except UNREADABLE as error:
            return 400, {"error": _why(error)[:200]}

    def refuse(self, status: int, reason: str, allowed: str = "") -> None:
        """Answers an error and closes the connection, once what the client is still sending has been thrown away.

        A client that finds the connection closed while it sends would not read the answer.
        """
        self.close_connection = True
        self.answer(status, {"error": reason}, allowed)
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            left = 10 * self.server.max_bytes
            while left > 0 and (received := self.rfile.read1(65536)):
                left -= len(received)

    def answer(self, status: int, content: dict[str, Any], allowed: str = "") -> None:
        """Sends an object as JSON, and which methods are allowed where another was asked for."""
        body = json.dumps(content).encode() + b"\n"
        self.connection.settimeout(self.server.timeout_s)
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if allowed:
            self.send_header("Allow", allowed)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answers what the base class refuses: malformed requests."""
        self.close_connection = True
        if self.request_version == "HTTP/0.9":  # taken for one, and answered without a status line, when it is nonsense
            self.request_version = "HTTP/1.0"
        self.answer(code, {"error": message or HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing; a load balancer's log has it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 when something could not be read, or not be written as its reader has gone."""
    parser = argparse.ArgumentParser(description="What an exported GEMNet sees in images.")
    parser.add_argument("images", nargs="*", type=Path, help="image files and folders")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent, help="ONNX file or its folder")
    parser.add_argument("--top", type=int, default=5, help="labels an image (default 5)")
    parser.add_argument("--threads", type=int, default=0, help="of ONNX Runtime (default: it chooses)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--serve", type=int, metavar="PORT", help="answer HTTP requests instead")
    parser.add_argument("--host", default="127.0.0.1", help="address to serve at (default 127.0.0.1)")
    given = parser.parse_args(arguments)
    if given.serve is None and not given.images:
        parser.error("name images or folders, or give --serve PORT")
    if given.top < 1 or given.threads < 0:
        parser.error("--top is at least 1, --threads at least 0")
    try:
        model = Model(given.model, given.threads if given.serve is None else 1)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if given.serve is not None:
        return serve(model, given)
    try:
        return show(predict(model, given.images, given.top), given.json)
    except BrokenPipeError:  # whoever reads has enough, as `head` has; nothing more may be written at the exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def show(results: Iterable[dict[str, Any]], as_json: bool) -> int:
    """Prints results; 1 when there is none or one is an error."""
    failed, seen = 0, 0
    for result in results:
        seen += 1
        if "error" in result:
            failed += 1
            print(f"{result['file']}: {result['error']}", file=sys.stderr)
        if as_json:
            print(json.dumps(result), flush=True)
        elif "top" in result:
            best = ", ".join(f"{item['label']} {100 * item['score']:.1f} %" for item in result["top"])
            print(f"{result['file']}: {best}", flush=True)
    if not seen:
        print("Error: there are no images in the folders named", file=sys.stderr)
    return int(failed > 0 or not seen)


def serve(model: Model, given: argparse.Namespace) -> int:
    """Serves until interrupted."""
    try:
        server = Server(model, (given.host, given.serve))
    except (OSError, OverflowError) as error:
        print(f"Error: cannot serve at {given.host}:{given.serve}: {error}", file=sys.stderr)
        return 1
    host, port = server.server_address[:2]
    print(f"serving {model.name} at http://{host!s}:{port}, stop with Ctrl-C", file=sys.stderr, flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
