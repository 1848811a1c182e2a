"""The server on loopback: the detections of the bundle, batches of equal T, limits, and an orderly stop."""

import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge import load_bundle
from stale_edge.errors import DataError
from stale_edge.serving.batching import BatchingWorker, ClosedError, QueueFullError
from stale_edge.serving.bodies import read_npy

uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

FPS, STRIDE = 25.0, 5
"""Of the tiny bundle's feature contract."""
MOST_BYTES = 200_000


class Served:
    """A server in a thread of this process."""

    def __init__(self, bundle: Path) -> None:
        from stale_edge.serving.service import ServeSettings, Service
        from stale_edge.serving.web import make_app

        self.service = Service(ServeSettings(bundle, most_waiting=4, most_bytes=MOST_BYTES))
        self._server = uvicorn.Server(
            uvicorn.Config(make_app(self.service), host="127.0.0.1", port=0, log_level="error", access_log=False)
        )
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
        self.port = self._server.servers[0].sockets[0].getsockname()[1]

    def ask(self, path: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith(("{", "[")) else text

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    encoder = vision_encoder.write(tmp_path_factory.mktemp("encoder") / "encoder", fingerprint="tiny-encoder")
    return tiny.write(tmp_path_factory.mktemp("served") / "bundle", encoder=encoder)


@pytest.fixture(scope="module")
def served(bundle: Path) -> Iterator[Served]:
    server = Served(bundle)
    yield server
    server.close()


def _npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def _plain(detections: Any) -> list[dict[str, Any]]:
    return [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in detections]


def test_npy_and_json_give_what_the_bundle_gives(served: Served, bundle: Path) -> None:
    features = tiny.features(40)
    wanted = _plain(load_bundle(bundle).detect(features, duration_s=30.0))
    assert wanted
    assert served.ask("/v1/detect?duration_s=30", _npy(features), "application/x-npy") == (200, {"detections": wanted})
    body = json.dumps({"features": features.tolist(), "duration_s": 30.0}).encode()
    assert served.ask("/v1/detect", body) == (200, {"detections": wanted})
    chosen = _plain(load_bundle(bundle).detect(features, duration_s=30.0, classes=["jump"]))
    assert served.ask("/v1/detect?duration_s=30&classes=jump", _npy(features), "application/x-npy")[1] == {
        "detections": chosen
    }


def test_a_video_is_read_from_memory(served: Served, bundle: Path, tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (30, 40, 56, 3), np.uint8))
    video = video_files.write(tmp_path / "v.mp4", times_ms=range(0, 3000, 100), pictures=pictures)
    wanted = _plain(load_bundle(bundle).detect(video))
    assert served.ask("/v1/detect", video.read_bytes(), "video/mp4") == (200, {"detections": wanted})


def test_an_upload_cannot_name_files_of_the_server(served: Served, tmp_path: Path) -> None:
    """A playlist is a video to FFmpeg, which would open what it names."""
    video = video_files.write(tmp_path / "v.ts", times_ms=range(0, 1000, 100))
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{video}\n#EXT-X-ENDLIST\n"
    concat = f"ffconcat version 1.0\nfile '{video}'\n"
    for text in (playlist, concat):
        status, answer = served.ask("/v1/detect", text.encode(), "video/mp4")
        assert status == 400
        assert "cannot be read as a video" in answer["error"]


def test_kserve(served: Served, bundle: Path) -> None:
    features = tiny.features(12, batch=2)
    tensor = {
        "name": "features",
        "shape": [2, 12, tiny.CHANNELS],
        "datatype": "FP32",
        "data": features.ravel().tolist(),
    }
    status, answer = served.ask("/v2/models/detector/infer", json.dumps({"id": "7", "inputs": [tensor]}).encode())
    assert status == 200
    assert answer["id"] == "7"
    wanted = load_bundle(bundle).forward(features)
    assert [one["name"] for one in answer["outputs"]] == list(wanted)
    for one in answer["outputs"]:
        got = np.array(one["data"], np.float32).reshape(one["shape"])
        np.testing.assert_array_equal(got, wanted[one["name"]])
    assert {one["name"] for one in served.ask("/v2/models/detector")[1]["inputs"]} == {"features", "class_embeddings"}
    assert served.ask("/v2/health/ready")[0] == served.ask("/v2/models/detector/ready")[0] == 200


@pytest.mark.parametrize(
    ("path", "body", "kind", "status", "says"),
    [
        ("/v1/detect", b"{", "application/json", 400, "not JSON"),
        ("/v1/detect", b'{"features": [[1, 2], [3]]}', "application/json", 400, "rows of numbers of equal length"),
        ("/v1/detect", b'{"features": [[1, 2]]}', "application/json", 400, "2"),
        ("/v1/detect", b"x", "text/plain", 400, "the body is text/plain; send application/x-npy"),
        ("/v1/detect", b"x" * (MOST_BYTES + 1), "application/x-npy", 413, "too large"),
        ("/v1/detect?duration_s=-1", _npy(tiny.features(5)), "application/x-npy", 400, "duration_s"),
        ("/v1/detect?classes=unknown", _npy(tiny.features(5)), "application/x-npy", 400, "unknown"),
        ("/v1/detect", _npy(np.full((5, 8), np.nan, np.float32)), "application/x-npy", 400, "finite"),
        ("/v2/models/detector/infer", b'{"inputs": []}', "application/json", 400, "needs inputs"),
        ("/v2/models/detector/infer", b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [9], "data": []}]}',
         "application/json", 400, "must agree"),
    ],
)  # fmt: skip
def test_bad_requests_are_one_line(served: Served, path: str, body: bytes, kind: str, status: int, says: str) -> None:
    got, answer = served.ask(path, body, kind)
    assert got == status
    assert says in answer["error"]
    assert "\n" not in answer["error"]


def test_an_npy_header_allocates_nothing() -> None:
    honest = _npy(tiny.features(4))
    lying = bytearray(honest)
    place = honest.index(b"(4, 8), ")
    lying[place : place + 24] = b"(4, 99999999999999), }".ljust(24)
    with pytest.raises(DataError, match=r"99999999999999.*and holds 128; send a floating"):
        read_npy(bytes(lying))
    assert (read_npy(honest) == tiny.features(4)).all()


def test_a_stream_gives_final_segments(served: Served, bundle: Path) -> None:
    client = pytest.importorskip("websockets.sync.client")
    features = tiny.features(60)
    with client.connect(f"ws://127.0.0.1:{served.port}/v1/stream?window=20") as socket:
        for start in range(0, 60, 7):
            socket.send(features[start : start + 7].astype("<f4").tobytes())
        socket.send("end")
        events = [json.loads(message) for message in socket]
    assert events[-1] == {"event": "end", "time_s": 60 * STRIDE / FPS}
    wanted = load_bundle(bundle).detect(features, duration_s=60 * STRIDE / FPS, window=20)
    found = sorted((e["label"], round(e["score"], 5)) for e in events[:-1])
    assert found == sorted((d.label, round(d.score, 5)) for d in wanted)
    with client.connect(f"ws://127.0.0.1:{served.port}/v1/stream?window=20") as socket:
        socket.send(b"123")
        assert "send rows of 8 float32" in json.loads(socket.recv())["error"]


def test_many_clients_get_their_own_answers_and_a_full_queue_says_429(served: Served, bundle: Path) -> None:
    """More requests than may wait: every answer is right, or 429."""
    localizer = load_bundle(bundle)
    videos = [tiny.features(30, seed=seed) for seed in range(24)]
    wanted = [_plain(localizer.detect(features, duration_s=30.0)) for features in videos]
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda f: served.ask("/v1/detect?duration_s=30", _npy(f), "application/x-npy"), videos))
    assert {status for status, _ in answers} <= {200, 429}
    assert any(status == 200 for status, _ in answers)
    for (status, answer), right in zip(answers, wanted, strict=True):
        if status == 200:
            assert [d["label"] for d in answer["detections"]] == [d["label"] for d in right]
            np.testing.assert_allclose(
                [d["segment"] for d in answer["detections"]], [d["segment"] for d in right], atol=1e-6
            )


def test_metrics_health_and_the_document(served: Served) -> None:
    assert served.ask("/healthz")[1]["status"] == "ok"
    assert 'stale_edge_requests_total{path="/healthz",status="200"}' in served.ask("/metrics")[1]
    document = served.ask("/openapi.json")[1]
    assert document["openapi"] == "3.1.0"
    assert {"/v1/detect", "/v2/models/detector/infer", "/metrics"} <= document["paths"].keys()
    assert served.ask("/absent")[0] == 404


def test_the_worker_puts_equal_keys_together_and_refuses_more_than_may_wait() -> None:
    started, go = threading.Event(), threading.Event()
    calls: list[list[int]] = []

    def work(items: Any) -> list[int]:
        calls.append(list(items))
        started.set()
        go.wait(10)
        if -1 in items:
            raise ValueError("bad")
        return [2 * item for item in items]

    worker = BatchingWorker(most_waiting=5, most_together=3)
    first = worker.submit("other", 0, work)
    assert started.wait(10)
    waiting = [worker.submit("a", n, work) for n in (1, 2, -1, 4, 5)]
    with pytest.raises(QueueFullError):
        worker.submit("a", 6, work)
    go.set()
    assert first.result(10) == 0
    assert [future.result(10) for future in (waiting[0], waiting[1], waiting[3], waiting[4])] == [2, 4, 8, 10]
    with pytest.raises(ValueError, match="bad"):
        waiting[2].result(10)
    assert calls == [[0], [1, 2, -1], [1], [2], [-1], [4, 5]], "the others of a bad batch are tried alone"
    worker.close()
    with pytest.raises(ClosedError):
        worker.submit("a", 7, work)


def test_a_stop_finishes_what_waits(bundle: Path) -> None:
    server = Served(bundle)
    body = _npy(tiny.features(30))
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(server.ask, "/v1/detect?duration_s=30", body, "application/x-npy") for _ in range(3)]
        answers = [one.result(60) for one in waiting]
    server.close()
    assert {status for status, _ in answers} == {200}
    with pytest.raises(urllib.error.URLError):
        server.ask("/healthz")
