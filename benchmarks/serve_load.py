"""What the server of an exported folder bears: 10,000 requests, bad uploads, and its memory meanwhile.

    python benchmarks/serve_load.py BUNDLE PHOTO [--quick]

The server is `infer.py --serve` of the folder in a process of its own, on the loopback device. The load comes from
threads of this process, each with one connection that it keeps.
"""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
from result import print_table, write_result

BAD = {
    "no image": (b"no image", 400), "empty": (b"", 400), "cut off": (None, 400), "25 MB": (bytes(25_000_000), 413),
    "a bomb": (b"P5 60000 60000 255\n", 400),
}  # fmt: skip


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.argument("photo", type=click.Path(path_type=Path, exists=True))
@click.option("--python", "interpreter", default=sys.executable, show_default=True, help="That runs the server.")
@click.option("--requests", default=10_000, show_default=True)
@click.option("--connections", default=4, show_default=True)
@click.option("--quick", is_flag=True, help="200 requests.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print the result as the last line.")
def main(
    bundle: Path, photo: Path, interpreter: str, requests: int, connections: int, quick: bool, out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Load the server and write zoo/results/serve_load.json."""
    requests = 200 if quick else requests
    port = free_port()
    server = subprocess.Popen([interpreter, str(bundle / "infer.py"), "--serve", str(port)])
    try:
        wait(port)
        image = photo.read_bytes()
        run(port, image, 200, connections)  # threads and buffers are there when memory is first looked at
        before = memory_mb(server.pid)
        rows = [{"load": "good", **run(port, image, requests, connections), "memory_mb": memory_mb(server.pid)}]
        for name, (body, status) in BAD.items():
            sent = image[: len(image) // 2] if body is None else body
            rows.append({"load": name, **run(port, sent, max(20, requests // 100), connections, status),
                         "memory_mb": memory_mb(server.pid)})  # fmt: skip
        rows.append({"load": "slow", **slow(port, 20), "memory_mb": memory_mb(server.pid)})
        rows.append({"load": "good again", **run(port, image, requests // 10, connections),
                     "memory_mb": memory_mb(server.pid)})  # fmt: skip
    finally:
        server.terminate()
        server.wait()
    print_table(rows)
    result = write_result("serve_load", 0, rows, out, connections=connections, photo=photo.name,
                          memory_before_mb=before, ended=server.returncode)  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))


def run(port: int, body: bytes, requests: int, connections: int, status: int = 200) -> dict[str, Any]:
    """Latencies of POSTs of one body; an error is a wrong status or an answer unlike the first."""
    times: list[float] = []
    answers: set[bytes] = set()
    errors = 0
    lock = threading.Lock()

    def client(count: int) -> None:
        nonlocal errors
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(count):
            start = time.perf_counter()
            try:
                connection.request("POST", "/predict?top=5", body)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                with lock:
                    errors += 1
                continue
            with lock:
                times.append(1000 * (time.perf_counter() - start))
                answers.add(content)
                errors += answer.status != status
        connection.close()

    threads = [threading.Thread(target=client, args=(requests // connections,)) for _ in range(connections)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    p50, p99 = (round(float(v), 2) for v in np.percentile(times or [0], (50, 99)))
    return {"requests": requests // connections * connections, "status": status, "errors": errors,
            "answers": len(answers), "p50_ms": p50, "p99_ms": p99,
            "per_s": round(len(times) / (time.perf_counter() - begin), 1)}  # fmt: skip


def slow(port: int, count: int) -> dict[str, Any]:
    """Uploads that drip a byte a second: each must be answered 408 within 20 s, all at once."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(count)]
    start, ended = time.perf_counter(), []
    for connection in sockets:
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(16):
        time.sleep(1)
        for connection in sockets:
            with contextlib.suppress(OSError):
                connection.sendall(b"x")
    refused = 0
    for connection in sockets:
        with contextlib.suppress(OSError):
            refused += b" 408 " in connection.recv(1000)
        ended.append(1000 * (time.perf_counter() - start))
        connection.close()
    p50, p99 = (round(float(v), 2) for v in np.percentile(ended, (50, 99)))
    return {"requests": count, "status": 408, "errors": count - refused, "answers": 1, "p50_ms": p50, "p99_ms": p99,
            "per_s": 0.0}  # fmt: skip


def free_port() -> int:
    """A port nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def wait(port: int) -> None:
    """Returns when the server is healthy; gives up after a minute."""
    for _ in range(600):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def memory_mb(pid: int) -> float:
    """Memory of a process in 10^6 bytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    return round(kib * 1024 / 1e6, 1)


if __name__ == "__main__":
    main()
