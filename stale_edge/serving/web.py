"""The server: HTTP, KServe v2 and WebSocket in front of a `Service`, with Starlette."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import numpy as np
import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from stale_edge.errors import DataError, StaleEdgeError
from stale_edge.serving.batching import ClosedError, QueueFullError
from stale_edge.serving.bodies import numbers, read_json, read_npy, read_tensors, write_tensors
from stale_edge.serving.openapi import document
from stale_edge.serving.service import Service, plain
from stale_edge.version import __version__

log = logging.getLogger("stale_edge.serve")
MODEL = "detector"
"""Name of the network in KServe's addresses."""
Endpoint = Callable[[Request], Coroutine[Any, Any, Response]]


class JSONResponse(Response):
    """A body of JSON; orjson takes a fifteenth of the time of Starlette's own class for 200 detections."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


class TooLargeError(Exception):
    """A body is larger than the server allows."""


class Metrics:
    """What `/metrics` shows."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("stale_edge_requests", "Requests", ["path", "status"], registry=self.registry)
        self.seconds = Histogram("stale_edge_request_seconds", "Seconds a request", ["path"], registry=self.registry)
        self.streams = Gauge("stale_edge_streams", "Open WebSocket streams", registry=self.registry)
        waiting = Gauge("stale_edge_waiting", "Requests in the queue", registry=self.registry)
        waiting.set_function(lambda: service.worker.n_waiting)


def make_app(service: Service) -> Starlette:
    """Put the routes together; the app closes the service when it stops."""
    metrics = Metrics(service)
    held = service.settings

    async def body_of(request: Request) -> bytes:
        announced = request.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > held.most_bytes:
            raise TooLargeError
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > held.most_bytes:
                raise TooLargeError
            parts.append(part)
        return b"".join(parts)

    async def detect(request: Request) -> Response:
        body, kind = await body_of(request), request.headers.get("content-type", "").partition(";")[0]
        classes = names.split(",") if (names := request.query_params.get("classes")) else None
        duration = _seconds(request.query_params.get("duration_s"))
        if kind.startswith("video/"):
            found = await _done(service.detect_video(body, classes))
            return JSONResponse({"detections": plain(found)})
        if kind == "application/json":
            values = await asyncio.to_thread(read_json, body)
            features = await asyncio.to_thread(numbers, values.get("features"), "features")
            classes, duration = values.get("classes", classes), _seconds(values.get("duration_s", duration))
            if classes is not None and not (isinstance(classes, list) and all(isinstance(one, str) for one in classes)):
                raise DataError("classes must be a list of names")
        elif kind in ("application/x-npy", "application/octet-stream"):
            features = read_npy(body)
        else:
            raise DataError(f"the body is {kind or 'of no type'}; send application/x-npy, application/json or video/*")
        return JSONResponse({"detections": plain(await _done(service.detect(features, duration, classes)))})

    async def infer(request: Request) -> Response:
        values = await asyncio.to_thread(read_json, await body_of(request))
        tensors = await asyncio.to_thread(read_tensors, values)
        if "features" not in tensors:
            raise DataError(f"the input features is missing; got {', '.join(tensors)}")
        outputs = await _done(service.infer(tensors["features"], tensors.get("class_embeddings")))
        wanted = [one.get("name") for one in values.get("outputs", ())] or list(outputs)
        unknown = [name for name in wanted if name not in outputs]
        if unknown:
            raise DataError(f"no output {', '.join(map(str, unknown))}; there are {', '.join(outputs)}")
        answer = {"model_name": MODEL, "outputs": write_tensors({name: outputs[name] for name in wanted})}
        return JSONResponse(answer if "id" not in values else {"id": values["id"], **answer})

    async def model(_: Request) -> Response:
        entry = service.localizer.entry
        return JSONResponse(
            {
                "name": MODEL,
                "versions": [],
                "platform": f"{service.localizer.runtime}_{entry.precision}",
                "inputs": [_spec(spec) for spec in entry.inputs],
                "outputs": [_spec(spec) for spec in entry.outputs],
            }
        )

    async def server(_: Request) -> Response:
        return JSONResponse({"name": "stale-edge", "version": __version__, "extensions": []})

    async def healthy(_: Request) -> Response:
        return JSONResponse({"status": "ok", "bundle": service.localizer.manifest.architecture})

    async def show_metrics(_: Request) -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def openapi(_: Request) -> Response:
        return JSONResponse(document(held.most_bytes))

    async def stream(socket: WebSocket) -> None:
        if metrics.streams._value.get() >= held.most_streams:
            await socket.close(1013, "as many streams as allowed are open; try again later")
            return
        await socket.accept()
        with metrics.streams.track_inprogress(), contextlib.suppress(WebSocketDisconnect):
            await _serve_stream(service, socket)

    routes = [
        ("/v1/detect", detect, "POST"),
        ("/v2/models/detector/infer", infer, "POST"),
        ("/v2/models/detector", model, "GET"),
        ("/v2/models/detector/ready", healthy, "GET"),
        ("/v2", server, "GET"),
        ("/v2/health/live", healthy, "GET"),
        ("/v2/health/ready", healthy, "GET"),
        ("/healthz", healthy, "GET"),
        ("/metrics", show_metrics, "GET"),
        ("/openapi.json", openapi, "GET"),
    ]
    handled = [Route(path, _guarded(path, call, metrics), methods=[method]) for path, call, method in routes]

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    return Starlette(routes=[*handled, WebSocketRoute("/v1/stream", stream)], lifespan=lifespan)


def _guarded(path: str, call: Endpoint, metrics: Metrics) -> Endpoint:
    """Answer errors with a status and one line, count the request, and log it as one line of JSON."""

    async def run(request: Request) -> Response:
        started, message = time.perf_counter(), ""
        try:
            response = await call(request)
        except QueueFullError:
            message = "the queue is full; try again later"
            response = JSONResponse({"error": message}, 429, headers={"Retry-After": "1"})
        except ClosedError:
            message = "the server is stopping"
            response = JSONResponse({"error": message}, 503)
        except TooLargeError:
            message = "the body is too large; send features, or cut the video"
            response = JSONResponse({"error": message}, 413)
        except (StaleEdgeError, ValueError) as error:
            message = " ".join(str(error).split())
            response = JSONResponse({"error": message}, 400)
        seconds = time.perf_counter() - started
        metrics.requests.labels(path, response.status_code).inc()
        metrics.seconds.labels(path).observe(seconds)
        entry = {"path": path, "status": response.status_code, "ms": round(seconds * 1000, 2)}
        log.info(json.dumps(entry | ({"error": message} if message else {}), ensure_ascii=False))
        return response

    return run


async def _serve_stream(service: Service, socket: WebSocket) -> None:
    """Take binary messages, rows of C little-endian float32, and send each final segment; the text "end" ends."""
    asked = socket.query_params
    channels = service.localizer.feature_contract.channels
    try:
        window = int(asked["window"]) if "window" in asked else None
        classes = asked["classes"].split(",") if "classes" in asked else None
        pushing = service.stream(classes, window, _seconds(asked.get("snippet_s")))
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            if message.get("text") == "end":
                break
            data = message.get("bytes") or b""
            if not data or len(data) % (4 * channels) or len(data) > service.settings.most_bytes:
                raise DataError(f"a message holds {len(data)} bytes; send rows of {channels} float32, or the text end")
            rows = np.frombuffer(data, "<f4").reshape(-1, channels)
            found = await _done(service.worker.submit(object(), rows, lambda items: [pushing.push(items[0])]))
            for one in plain(found):
                await socket.send_json({"event": "final", **one})
        found = await _done(service.worker.submit(object(), None, lambda _: [pushing.finish()]))
        for one in plain(found):
            await socket.send_json({"event": "final", **one})
        await socket.send_json({"event": "end", "time_s": pushing.time_s})
        await socket.close()
    except QueueFullError:
        await socket.close(1013, "the queue is full; try again later")
    except (StaleEdgeError, ValueError) as error:
        await socket.send_json({"event": "error", "error": " ".join(str(error).split())})
        await socket.close(1008)


async def _done(future: "Future[Any]") -> Any:
    return await asyncio.wrap_future(future)


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"a length must be a number of seconds; got {value!r}") from error


def _spec(spec: Any) -> dict[str, Any]:
    kinds = {"float32": "FP32", "float16": "FP16"}
    shape = [size if isinstance(size, int) else -1 for size in spec.shape]
    return {"name": spec.name, "datatype": kinds.get(spec.dtype, spec.dtype), "shape": shape}
