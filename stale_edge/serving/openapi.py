"""The OpenAPI document of the server."""

from typing import Any

from stale_edge.version import __version__


def document(most_bytes: int) -> dict[str, Any]:
    """Describe every address; bodies have at most `most_bytes`."""
    text = {"type": "string"}
    classes = {"name": "classes", "in": "query", "schema": text, "description": "Names to look for: name,name,..."}
    duration = {
        "name": "duration_s",
        "in": "query",
        "schema": {"type": "number", "exclusiveMinimum": 0},
        "description": "Length of the video in seconds; default: as the bundle's frame rate and stride imply.",
    }
    detection = {
        "type": "object",
        "required": ["label", "score", "segment"],
        "properties": {
            "label": text,
            "score": {"type": "number"},
            "segment": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        },
    }
    found = _object({"detections": {"type": "array", "items": detection}})
    rows = {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    asked = _object({"features": rows, "duration_s": {"type": "number"}, "classes": {"type": "array", "items": text}})
    tensors = _object({"inputs": {"type": "array", "items": {"type": "object"}}})
    binary = {"schema": {"type": "string", "format": "binary"}}
    bodies = {"application/x-npy": binary, "application/json": {"schema": asked}, "video/*": binary}
    detect = _operation("Find the actions in one video: features (T, C), or the video itself.", found)
    infer = _operation("Run the network alone, as KServe v2 defines it; FP32 tensors in JSON.", _object({}))
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "stale-edge",
            "version": __version__,
            "description": f"Bodies have at most {most_bytes} bytes. WebSocket /v1/stream takes rows of float32.",
        },
        "paths": {
            "/v1/detect": {
                "post": {
                    **detect,
                    "parameters": [classes, duration],
                    "requestBody": {"required": True, "content": bodies},
                }
            },
            "/v2/models/detector/infer": {
                "post": {
                    **infer,
                    "requestBody": {"required": True, "content": {"application/json": {"schema": tensors}}},
                }
            },
            **{
                path: {"get": {"summary": summary, "responses": {"200": {"description": "Fine."}}}}
                for path, summary in (
                    ("/v2", "Name and version of the server."),
                    ("/v2/models/detector", "Inputs and outputs of the network."),
                    ("/v2/models/detector/ready", "Whether the network can be run."),
                    ("/v2/health/live", "Whether the server runs."),
                    ("/v2/health/ready", "Whether it takes requests."),
                    ("/healthz", "Whether the server runs."),
                    ("/metrics", "Metrics in Prometheus' format."),
                )
            },
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def _operation(summary: str, answer: dict[str, Any]) -> dict[str, Any]:
    error = {"content": {"application/json": {"schema": _object({"error": {"type": "string"}})}}}
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "Fine.", "content": {"application/json": {"schema": answer}}},
            "400": {"description": "The request cannot be used; one line says why.", **error},
            "413": {"description": "The body is too large.", **error},
            "429": {"description": "The queue is full; try again later.", **error},
        },
    }
