"""Long runs: a stream of 24 hours in simulated time must not grow, and eight threads must agree with one.

python -m tests.soak [--hours 24] [--minutes 10]
"""

import argparse
import gc
import hashlib
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import tiny

from stale_edge import Localizer, load_bundle
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.segments import Detection

SNIPPET_S = 0.5
MOST_GROWTH_BYTES = 4 << 20
"""Memory that a process may gain after the first hour: pages of the allocator, not of the stream."""
N_THREADS = 8


def resident_bytes() -> int:
    """Read the memory of this process; Linux only."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def stream(localizer: Localizer, hours: float) -> str:
    """Push snippets for so many hours of video, as fast as they are taken."""
    watched = StreamingLocalizer(localizer, window=60, snippet_s=SNIPPET_S)
    an_hour = int(3600 / SNIPPET_S)
    features = tiny.features(an_hour, seed=3)
    n_found, last_s, after_one = 0, 0.0, 0
    for hour in range(max(2, round(hours))):
        for snippet in features:
            for detection in watched.push(snippet):
                n_found += 1
                last_s = max(last_s, detection.end_s)
        gc.collect()
        now = resident_bytes()
        after_one = after_one or now
        grown = now - after_one
        assert grown <= MOST_GROWTH_BYTES, f"{grown:,} bytes more after hour {hour + 1} than after the first"
    watched.finish()
    assert last_s > (max(2, round(hours)) - 1) * 3600, "nothing was found in the last hour"
    return f"stream: {max(2, round(hours))} h, {n_found} detections, {grown:+,} bytes since the first hour"


def digest(detections: Sequence[Detection]) -> str:
    return hashlib.sha256(repr(detections).encode()).hexdigest()


def threads(localizer: Localizer, minutes: float) -> str:
    """Detect in the same videos on eight threads, and compare with one thread."""
    videos = [tiny.features(20 + 7 * i, seed=i) for i in range(16)]
    alone = [digest(localizer.detect(video, duration_s=60.0)) for video in videos]
    until, wrong, counts = time.monotonic() + 60 * minutes, [], [0] * N_THREADS

    def work(number: int) -> None:
        order = np.random.default_rng(number)
        while time.monotonic() < until and not wrong:
            i = int(order.integers(len(videos)))
            counts[number] += 1
            if digest(localizer.detect(videos[i], duration_s=60.0)) != alone[i]:
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(N_THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong, f"thread and single call differ on video {wrong[0]}"
    return f"threads: {sum(counts)} calls on {N_THREADS} threads in {minutes:g} min, all equal to one thread's"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24, help="of the stream, in simulated time; at least 2")
    parser.add_argument("--minutes", type=float, default=10, help="of the threads")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak.") as folder:
        localizer = load_bundle(tiny.write(Path(folder) / "bundle"))
        print(stream(localizer, arguments.hours), flush=True)
        print(threads(localizer, arguments.minutes), flush=True)


if __name__ == "__main__":
    main()
