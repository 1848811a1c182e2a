"""Parsing of video lengths on the command line."""

from stale_edge.errors import ConfigError


def parse_lengths(text: str) -> tuple[int, ...]:
    """Read `100,200,1000` or `200:3000:200` (start:stop:step, including the stop if a step reaches it), or a mix.

    Returns:
        Lengths in snippets, in the order given, each >= 1, without repetition.

    Raises:
        ConfigError: something is not a whole number >= 1, or a range is empty or does not have three parts.
    """
    lengths: dict[int, None] = {}
    for part in text.split(","):
        numbers = part.strip().split(":")
        if not all(number.strip().isdecimal() and int(number) >= 1 for number in numbers) or len(numbers) not in (1, 3):
            raise ConfigError(
                f"--lengths {text!r}: {part.strip()!r} is neither a length >= 1 nor start:stop:step; "
                "write for example 100,200,1000 or 200:3000:200"
            )
        if len(numbers) == 1:
            lengths[int(numbers[0])] = None
            continue
        start, stop, step = (int(number) for number in numbers)
        if start > stop:
            raise ConfigError(f"--lengths {text!r}: the range {part.strip()} is empty; its start is above its stop")
        lengths.update(dict.fromkeys(range(start, stop + 1, step)))
    return tuple(lengths)
