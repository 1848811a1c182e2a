"""Put `stale-edge serve` under load on loopback: serving.py BUNDLE [--length 200] [--seconds 10] [--threads 1].

First the in-process rate: `Localizer.detect` one video after the other. Then 1, 8 and 64 clients, each a thread with a
connection that sends `.npy` features of random values and waits for the answer. Clients and server share the machine.
Prints a Markdown table; a 429 counts as refused, and its client waits a moment.
"""

import argparse
import http.client
import io
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from stale_edge import load_bundle

CLIENTS = (1, 8, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--length", type=int, default=200, help="T, in snippets")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each measurement")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the network")
    arguments = parser.parse_args()
    localizer = load_bundle(arguments.bundle, threads=arguments.threads)
    shape = (arguments.length, localizer.feature_contract.channels)
    features = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    alone = _in_process(localizer, features, arguments.seconds)
    print("| clients | requests per second | of the in-process rate | p50 ms | p99 ms | refused |")
    print("|---|---|---|---|---|---|")
    print(f"| in process | {alone:.1f} | 100 % | {1000 / alone:.1f} | | |")
    command = [str(Path(sys.executable).with_name("stale-edge")), "serve", str(arguments.bundle), "--port", "8931"]
    server = subprocess.Popen([*command, "--threads", str(arguments.threads)], stderr=subprocess.DEVNULL)
    try:
        _wait_for(8931)
        for n_clients in CLIENTS:
            seconds, refused, wall_s = _load(8931, features, n_clients, arguments.seconds)
            ordered = sorted(seconds)
            rate, p99 = len(ordered) / wall_s, ordered[int(0.99 * (len(ordered) - 1))]
            median = 1000 * statistics.median(ordered)
            print(
                f"| {n_clients} | {rate:.1f} | {rate / alone:.0%} | {median:.1f} | {1000 * p99:.1f} | {refused} |",
                flush=True,
            )
    finally:
        server.terminate()
        print(f"the server ended with {server.wait(30)}", file=sys.stderr)


def _in_process(localizer: object, features: np.ndarray, seconds: float) -> float:
    """Requests per second of calls one after the other, after one second of warm-up."""
    n_calls, started = 0, 0.0
    for phase_s in (1.0, seconds):
        n_calls, started = 0, time.perf_counter()
        while time.perf_counter() - started < phase_s:
            localizer.detect(features, duration_s=100.0)  # type: ignore[attr-defined]
            n_calls += 1
    return n_calls / (time.perf_counter() - started)


def _wait_for(port: int) -> None:
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit("error: the server did not start within 30 s; run it by hand to see why")


def _load(port: int, features: np.ndarray, n_clients: int, seconds: float) -> tuple[list[float], int, float]:
    """Seconds of each answered request, refused requests, and the length of the measurement."""
    stream = io.BytesIO()
    np.save(stream, features)
    body, kind = stream.getvalue(), {"Content-Type": "application/x-npy"}
    answered: list[float] = []
    refused: list[int] = []
    end = time.perf_counter() + seconds

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < end:
            sent = time.perf_counter()
            connection.request("POST", "/v1/detect?duration_s=100", body, kind)
            answer = connection.getresponse()
            answer.read()
            if answer.status == 200:
                answered.append(time.perf_counter() - sent)
            elif answer.status == 429:
                refused.append(1)
                time.sleep(0.05)
            else:
                sys.exit(f"error: status {answer.status}")
        connection.close()

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(n_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answered, len(refused), time.perf_counter() - started


if __name__ == "__main__":
    main()
