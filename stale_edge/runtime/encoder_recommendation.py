"""How `stale-edge bench --video --recommend` found that a visual encoder runs fastest on this machine.

Kept beside the recommendations for detectors (`recommendation.py`), by encoder, machine and number of threads.
"""

import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stale_edge.bundle import MANIFEST_NAME
from stale_edge.bundle.encoder_folder import find_encoder
from stale_edge.bundle.files import sha256_of, write_file_atomically
from stale_edge.errors import BundleError, DataError, reason
from stale_edge.paths import MOST_TEXT_BYTES, read_regular
from stale_edge.runtime.recommendation import machine_fingerprint, recommendations_folder

FORMAT = "stale-edge-encoder-recommendation/1"


@dataclass(frozen=True)
class EncoderChoice:
    """One way to run an encoder that kept the detections, with its measured times.

    start_up_s: seconds until encoder and detector are ready.
    seconds_per_picture: of decoding, preparing and encoding.
    """

    runtime: str
    precision: str
    batch: int
    start_up_s: float
    seconds_per_picture: float

    def seconds(self, n_pictures: int) -> float:
        """Seconds from the start of the program to the features of `n_pictures`."""
        return self.start_up_s + n_pictures * self.seconds_per_picture


def choose_encoder(choices: Sequence[EncoderChoice], n_pictures: int) -> EncoderChoice:
    """Choose the fastest way for this many pictures; start-up counts, so a short video may have another than a long."""
    return min(choices, key=lambda choice: choice.seconds(n_pictures))


def recommended_encoder(encoder: Path, *, n_pictures: int, threads: int) -> EncoderChoice:
    """Return the fastest recommended way to encode this many pictures here.

    Raises:
        BundleError: as `read_encoder_recommendation`.
    """
    return choose_encoder(read_encoder_recommendation(encoder, threads=threads), max(1, n_pictures))


def announced_s(videos: Sequence[Path]) -> float:
    """Sum the lengths that videos announce; those that say nothing or cannot be opened count 0."""
    from stale_edge.video import open_video

    seconds = 0.0
    for video in videos:
        with contextlib.suppress(DataError), open_video(video) as source:  # a bad file is reported when it is read
            seconds += source.announced_s or 0.0
    return seconds


def encoder_recommendation_path(encoder: Path, *, threads: int) -> Path:
    """Name the file of the choices for an encoder, or a bundle's, on this machine."""
    manifest = sha256_of(find_encoder(encoder).path / MANIFEST_NAME)[:16]
    return recommendations_folder() / f"encoder-{manifest}-{machine_fingerprint()}-{threads}.json"


def write_encoder_recommendation(encoder: Path, choices: Sequence[EncoderChoice], *, threads: int) -> Path:
    """Write choices where `read_encoder_recommendation` finds them; returns the file.

    Raises:
        OSError: the cache cannot be written.
    """
    path = encoder_recommendation_path(encoder, threads=threads)
    values = {"format": FORMAT, "encoder": str(encoder), "threads": threads, "choices": [vars(c) for c in choices]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
    return path


def read_encoder_recommendation(encoder: Path, *, threads: int) -> tuple[EncoderChoice, ...]:
    """Read the choices for an encoder on this machine, at least one.

    Raises:
        BundleError: there are none for this encoder, machine and number of threads, or the file is damaged.
    """
    path = encoder_recommendation_path(encoder, threads=threads)
    again = f"stale-edge bench --video FILE --encoder {encoder} --threads {threads} --recommend"
    try:
        values = json.loads(read_regular(path, most=MOST_TEXT_BYTES))
        if values["format"] != FORMAT:
            raise ValueError(f"its format is {values['format']!r}, not {FORMAT!r}")
        choices = tuple(
            EncoderChoice(
                str(c["runtime"]),
                str(c["precision"]),
                int(c["batch"]),
                float(c["start_up_s"]),
                float(c["seconds_per_picture"]),
            )
            for c in values["choices"]
        )
        if not choices:
            raise ValueError("it holds no choice")
    except FileNotFoundError as error:
        raise BundleError(
            f"{encoder}: no way to run this encoder is recommended on this machine with {threads} "
            f"thread{'s' if threads > 1 else ''}: run {again}, or name an encoder runtime"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BundleError(f"{path}: not a readable recommendation: {reason(error)}; make it again: {again}") from error
    return choices
