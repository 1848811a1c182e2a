"""ELAN's annotation format (EAF 3.0): one tier per score kind, times in milliseconds."""

import json
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime

from stale_edge.errors import DataError, shown
from stale_edge.interchange.timelines import Span, Timeline, checked, length_of, milliseconds

ACTIONS, DETECTIONS = "actions", "detections"
"""Tiers: annotated, and detected, whose labels lie in `actions` again once a person has copied or corrected them."""
_PROPERTY = "stale-edge"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def write_elan(video: str, timeline: Timeline, *, media: str = "") -> str:
    """Write one video; scores lie in the property `stale-edge`, by annotation.

    Args:
        video: its name.
        timeline: its segments.
        media: address of the video file; empty: ELAN asks for it.

    Raises:
        ValueError: a label has a character that XML cannot hold.
    """
    root = ET.Element(
        "ANNOTATION_DOCUMENT",
        {
            "AUTHOR": "stale-edge",
            "DATE": datetime(1970, 1, 1, tzinfo=UTC).isoformat(),  # equal segments give equal bytes
            "FORMAT": "3.0",
            "VERSION": "3.0",
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:noNamespaceSchemaLocation": _SCHEMA,
        },
    )
    header = ET.SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    if media:
        ET.SubElement(header, "MEDIA_DESCRIPTOR", {"MEDIA_URL": media, "MIME_TYPE": "video/mp4"})
    scores = {f"a{number}": span.score for number, span in enumerate(timeline.spans, 1) if span.score is not None}
    held = {"video": video, "duration_s": timeline.duration_s, "subset": timeline.subset, "scores": scores}
    ET.SubElement(header, "PROPERTY", {"NAME": _PROPERTY}).text = json.dumps(held)
    times = ET.SubElement(root, "TIME_ORDER")
    for number, span in enumerate(timeline.spans, 1):
        for side, seconds in (("s", span.start_s), ("e", span.end_s)):
            slot = {"TIME_SLOT_ID": f"t{number}{side}", "TIME_VALUE": str(milliseconds(seconds))}
            ET.SubElement(times, "TIME_SLOT", slot)
    for name, detected in ((ACTIONS, False), (DETECTIONS, True)):
        tier = ET.SubElement(root, "TIER", {"LINGUISTIC_TYPE_REF": "default-lt", "TIER_ID": name})
        for number, span in enumerate(timeline.spans, 1):
            if (span.score is not None) != detected:
                continue
            if _FORBIDDEN.search(span.label):
                raise ValueError(f"{video}: XML cannot hold the label {shown(span.label)}: rename the class")
            ids = {"ANNOTATION_ID": f"a{number}", "TIME_SLOT_REF1": f"t{number}s", "TIME_SLOT_REF2": f"t{number}e"}
            outer = ET.SubElement(tier, "ANNOTATION")
            ET.SubElement(ET.SubElement(outer, "ALIGNABLE_ANNOTATION", ids), "ANNOTATION_VALUE").text = span.label
    kind = {"GRAPHIC_REFERENCES": "false", "LINGUISTIC_TYPE_ID": "default-lt", "TIME_ALIGNABLE": "true"}
    ET.SubElement(root, "LINGUISTIC_TYPE", kind)
    # A bare carriage return would be read as a line feed.
    return ET.tostring(root, encoding="unicode", xml_declaration=True).replace("\r", "&#13;") + "\n"


def read_elan(text: str, where: str) -> tuple[str | None, Timeline]:
    """Read every tier of one file; segments of the tier `detections` have scores where the property has them.

    Returns:
        The video's name where a property or the media file says it, and its segments by time.

    Raises:
        DataError: the file is no ELAN document, declares entities, or an annotation is no segment.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{where}: declares a document type, which could name other files; save it anew with ELAN")
    try:
        root = ET.fromstring(text)
    except ET.ParseError as error:
        raise DataError(f"{where}: not readable as XML: {error}; save it anew with ELAN") from error
    if root.tag != "ANNOTATION_DOCUMENT":
        raise DataError(f"{where}: the outermost element is {shown(root.tag)}, not ANNOTATION_DOCUMENT: no ELAN file")
    times = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    held = _held(root, where)
    scores = held.get("scores") if isinstance(held.get("scores"), dict) else {}
    spans: list[Span] = []
    for tier in root.iter("TIER"):
        for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
            name = annotation.get("ANNOTATION_ID", "?")
            ends = [times.get(annotation.get(f"TIME_SLOT_REF{side}")) for side in (1, 2)]
            if None in ends:
                raise DataError(f"{where}: annotation {shown(name)} has a time slot without a time: place it")
            seconds = [int(str(value)) / 1000 if str(value).isdigit() else None for value in ends]
            score = scores.get(name) if tier.get("TIER_ID") == DETECTIONS and isinstance(scores, dict) else None
            spans.append(
                checked(f"{where}, annotation {name}", annotation.findtext("ANNOTATION_VALUE", ""), seconds, score)
            )
    spans.sort(key=lambda span: (span.start_s, span.end_s))
    media = root.find("HEADER/MEDIA_DESCRIPTOR")
    url = "" if media is None else media.get("MEDIA_URL", "")
    stem = url.replace("\\", "/").rpartition("/")[2].rpartition(".")[0]
    subset = held.get("subset")
    return str(held.get("video") or stem) or None, Timeline(
        tuple(spans),
        length_of(held.get("duration_s")),
        subset if isinstance(subset, str) else None,
    )


def _held(root: ET.Element, where: str) -> dict[str, object]:
    for found in root.iter("PROPERTY"):
        if found.get("NAME") == _PROPERTY:
            try:
                values = json.loads(found.text or "")
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: the property {_PROPERTY} is not JSON: {error}; remove it") from error
            return values if isinstance(values, dict) else {}
    return {}
