import ast
import contextlib
import http.client
import io
import json
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from gemnet.export import infer
from gemnet.export.infer import Model, Server, main, to_pixels
from gemnet.export.live import LiveModel

ALLOWED = {"numpy", "onnxruntime", "PIL"}


@pytest.fixture(scope="module")
def model(bundle) -> Model:
    return Model(bundle.folder, threads=1)


@pytest.fixture
def photos(data, tmp_path):
    """Images of the validation split as files, with one that is none."""
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    for k in range(20):
        Image.fromarray(data.val.images[k, :, :, 0]).save(folder / ("below" if k > 15 else "") / f"{k:02d}.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not looked at")
    return folder


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), dtype=np.uint8)
    return Image.fromarray(values.squeeze(), mode="RGBA" if mode == "RGBA" else None)


def test_it_needs_only_three_packages():
    tree = ast.parse(Path(infer.__file__).read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) == ALLOWED


@pytest.mark.parametrize("size", [(300, 200), (200, 301), (640, 427), (224, 224), (50, 90)])
def test_pictures_are_prepared_as_timm_prepares_them(size):
    preprocessing = {"size": [224, 224], "channels": 3, "resize": 256, "interpolation": "bicubic"}
    transform = create_transform((3, 224, 224), crop_pct=0.875, interpolation="bicubic", mean=(0, 0, 0), std=(1, 1, 1))
    want = (255 * transform(picture(*size))).round().byte().permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(to_pixels(picture(*size), preprocessing), want)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK", "LA"])
def test_every_kind_of_picture_is_taken(mode, model):
    file = io.BytesIO()
    picture(40, 30).convert(mode).save(file, "TIFF")
    file.seek(0)
    assert model.read(file).shape == (28, 28, 1)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("I", (9, 9)), "more than 8 bits"), (Image.new("L", (20_000, 9_000)), "too large"),
        (Image.new("L", (5000, 1)), "too narrow"),
    ],
)  # fmt: skip
def test_pictures_that_would_be_misread_are_refused(image, reason, model):
    with pytest.raises(ValueError, match=reason):
        to_pixels(image, model.preprocessing)


def test_the_command_prints_labels_and_names_what_it_cannot_read(bundle, photos, source, data):
    command = [sys.executable, str(bundle.folder / "infer.py"), str(photos), "--json", "--top", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert "broken.jpg: no readable image" in done.stderr
    assert [row["file"] for row in rows if "error" in row] == [str(photos / "broken.jpg")]
    good = [row for row in rows if "top" in row]
    assert len(good) == 20
    live = LiveModel(source)
    for row in good:
        logits = live.logits(live.read(row["file"])[None])[0]
        order = np.argsort(-logits)[:3]
        assert [item["label"] for item in row["top"]] == [data.classes[k] for k in order]
        np.testing.assert_allclose([item["logit"] for item in row["top"]], logits[order], rtol=1e-4, atol=1e-4)
        shares = torch.from_numpy(logits).softmax(0)[order.copy()]
        np.testing.assert_allclose([item["score"] for item in row["top"]], shares, rtol=1e-4)


def test_text_output_and_exit_codes(bundle, photos, tmp_path, capsys):
    model = ["--model", str(bundle.folder)]
    assert main([str(photos / "below"), "--top", "1", *model]) == 0
    assert capsys.readouterr().out.count(" %\n") == 4
    assert main([str(tmp_path / "absent.png"), *model]) == 1
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty"), *model]) == 1
    assert main([str(photos), "--model", str(tmp_path)]) == 1
    assert "there is no file" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        main(model)
    assert stop.value.code == 2


def test_a_file_that_says_nothing_of_itself_is_refused(bundle, tmp_path):
    proto = onnx.load(bundle.folder / "model.onnx")
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="does not say how images are prepared"):
        Model(tmp_path)
    (tmp_path / "model.onnx").write_bytes(b"garbage")
    with pytest.raises(ValueError, match="cannot be loaded"):
        Model(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.fp16.onnx", "model.int8.onnx"])
def test_a_file_that_is_not_the_one_listed_is_refused_before_it_is_loaded(name, bundle, tmp_path, photos):
    folder = Path(shutil.copytree(bundle.folder, tmp_path / "copy"))
    command = [sys.executable, str(folder / "infer.py"), str(photos / "below"), "--model", str(folder / name)]
    Model(folder / name)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert f"Error: {folder / name} is damaged: its sha256 is " in done.stderr
    (folder / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"cannot be compared with .*config\.json"):
        Model(folder / name)


@pytest.mark.parametrize("config", ["{}", "[]", '{"schema": "gemnet.bundle/1", "files": {"other.onnx": "0"}}'])
def test_a_config_that_lists_no_such_file_is_passed_over(config, bundle, tmp_path):
    shutil.copyfile(bundle.folder / "model.onnx", tmp_path / "model.onnx")
    (tmp_path / "config.json").write_text(config)
    assert Model(tmp_path).labels


@pytest.mark.parametrize("option", [["--json"], []])
def test_a_reader_that_has_enough_ends_it_quietly(option, bundle, photos):
    command = [sys.executable, str(bundle.folder / "infer.py"), str(photos / "below"), *option]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # before anything is printed
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


@contextlib.contextmanager
def serving(model: Model):
    server = Server(model, ("127.0.0.1", 0), timeout_s=1.0, max_bytes=100_000)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as server:
        yield server


@pytest.fixture
def client(server):
    client = http.client.HTTPConnection(*server.server_address, timeout=10)
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(data) -> bytes:
    file = io.BytesIO()
    Image.fromarray(data.val.images[0, :, :, 0]).save(file, "PNG")
    return file.getvalue()


class TestServer:
    def ask(self, client, body, path="/predict", method="POST", **headers):
        client.request(method, path, body, headers)
        answer = client.getresponse()
        return answer.status, json.loads(answer.read())

    def raw(self, server, data: bytes, wait: float = 0.0) -> bytes:
        with socket.create_connection(server.server_address, timeout=10) as connection:
            connection.sendall(data)
            time.sleep(wait)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
            return received

    def test_answers_are_the_commands_on_one_kept_connection(self, client, image, model):
        want = model.best(model.logits(model.read(io.BytesIO(image))[None])[0], 3)
        for _ in range(3):
            assert self.ask(client, image, "/predict?top=3") == (200, {"top": want})
        assert self.ask(client, None, "/health", "GET") == (
            200, {"status": "ok", "model": "tiny", "weights": "fitted in a test"}
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("body", "path", "status", "reason"),
        [
            (b"", "/predict", 400, "no readable image"), (b"no image", "/predict", 400, "no readable image"),
            (b"\x89PNG\r\n\x1a\n" + bytes(50), "/predict", 400, "no readable image"),
            (b"GIF89a\xff\xff\xff\xff" + bytes(20), "/predict", 400, "no readable image"),
            (b"x" * 900_001, "/predict", 413, "at most 100000 bytes"), (b"x", "/elsewhere", 404, "POST /predict"),
            (b"x", "/predict?top=many", 400, "top is a number"), (b"x", "/predict?top=0", 400, "top is a number"),
        ],
    )  # fmt: skip
    def test_bad_requests_are_answered(self, body, path, status, reason, client, image):
        got, content = self.ask(client, body, path)
        assert got == status
        assert reason in content["error"]
        assert "0x" not in content["error"]
        client.close()  # what follows is on a new connection
        assert self.ask(client, image)[0] == 200

    def test_a_cut_off_image_is_refused(self, client, image):
        assert self.ask(client, image[: len(image) // 2])[0] == 400

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"POST /predict HTTP/1.1\r\n\r\n", b" 411 "), (b"nonsense\r\n\r\n", b" 400 "),
            (b"POST /predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b" 400 "),
            (b"POST /predict HTTP/1.1\r\nContent-Length: 9999999999999999999999\r\n\r\n", b" 413 "),
            (b"POST /predict HTTP/1.1\r\nContent-Length: 100001\r\nExpect: 100-continue\r\n\r\n", b" 413 "),
            (b"GET http://[::1/health HTTP/1.1\r\n\r\n", b" 400 "), (b"POST http://[::1 HTTP/1.1\r\n\r\n", b" 400 "),
            (b"POST http://[ HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n", b" 400 "),
            (b"GET http://here/health HTTP/1.1\r\nConnection: close\r\n\r\n", b" 200 "),
            (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", b" 404 "),
            (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b" 414 "),
        ],
    )  # fmt: skip
    def test_malformed_requests_are_answered(self, request_, status, server, capsys):
        head, _, body = self.raw(server, request_).partition(b"\r\n\r\n")
        assert status in head.partition(b"\r\n")[0]
        assert (b"200" in status) != ("error" in json.loads(body))
        assert capsys.readouterr().err == ""

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [("GET", "/predict", "POST"), ("HEAD", "/predict?top=3", "POST"), ("PUT", "/predict", "POST"),
         ("POST", "/health", "GET, HEAD"), ("BREW", "/health", "GET, HEAD")],
    )  # fmt: skip
    def test_other_methods_are_told_which_are_allowed(self, method, path, allowed, client, image):
        client.request(method, path)
        answer = client.getresponse()
        assert (answer.status, answer.getheader("Allow")) == (405, allowed)
        body = answer.read()
        assert not body if method == "HEAD" else f"takes {allowed}, got {method}" in json.loads(body)["error"]
        client.close()
        assert self.ask(client, image)[0] == 200

    def test_health_can_be_asked_for_its_head_alone(self, client):
        for _ in range(2):  # on one kept connection
            client.request("HEAD", "/health")
            answer = client.getresponse()
            assert (answer.status, answer.read()) == (200, b"")
        client.request("GET", "/health")
        assert len(client.getresponse().read()) == int(answer.getheader("Content-Length")) > 0

    def test_slow_uploads_end_at_the_deadline_however_they_drip(self, server):
        start = time.monotonic()
        with socket.create_connection(server.server_address, timeout=10) as connection:
            connection.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\n")
            for _ in range(8):  # a byte before each time-out of a single read
                time.sleep(0.2)
                try:
                    connection.sendall(b"x")
                except OSError:
                    break
            assert b" 408 " in connection.recv(65536)
        assert 0.9 < time.monotonic() - start < 5

    def test_more_connections_than_allowed_are_turned_away(self, model, monkeypatch):
        monkeypatch.setattr(infer, "MAX_CONNECTIONS", 1)
        health = b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"
        with serving(model) as server:
            with socket.create_connection(server.server_address, timeout=10) as idle:
                idle.sendall(b"GET /health HTTP/1.1\r\n\r\n")
                assert b" 200 " in idle.recv(65536)
                for request in (b"", health):
                    head, _, body = self.raw(server, request).partition(b"\r\n\r\n")
                    assert b" 503 " in head and b"application/json" in head
                    assert json.loads(body) == {"error": "too many connections at once; try again"}
                    assert f"Content-Length: {len(body)}".encode() in head
            time.sleep(0.3)
            assert b" 200 " in self.raw(server, health)

    def test_a_client_that_leaves_harms_nobody(self, server, client, image, capsys):
        for _ in range(5):
            with socket.create_connection(server.server_address) as connection:
                connection.sendall(b"POST /predict HTTP/1.1\r\nContent-Length: 1000\r\n\r\nabc")
        assert self.ask(client, image)[0] == 200
        assert capsys.readouterr().err == ""


def test_a_port_that_is_taken_is_an_error(bundle, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["--serve", str(port), "--model", str(bundle.folder)]) == 1
    assert "cannot serve at" in capsys.readouterr().err
    assert main(["--serve", "70000", "--model", str(bundle.folder)]) == 1
