"""Names of simulated classes, and embeddings for them if there is no text encoder."""

import zlib
from collections.abc import Sequence

import numpy as np

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.segments import FloatArray

# One activity per row, each with its objects: a name is "verb object". Names that share a word are easy to
# confuse, as in every real vocabulary.
_OBJECTS_OF = {
    "folding": ("a towel", "a paper boat", "a map", "clean laundry"),
    "painting": ("a fence", "a ceiling", "a portrait", "a garden bench"),
    "washing": ("a bicycle", "a window", "muddy boots", "a small dog"),
    "repairing": ("a bicycle", "a clock", "a fishing net", "a wooden chair"),
    "carrying": ("a ladder", "a canoe", "heavy boxes", "a sleeping child"),
    "throwing": ("a boomerang", "a paper plane", "horseshoes", "a snowball"),
    "catching": ("a ball", "a butterfly", "crabs", "a frisbee"),
    "climbing": ("a rope", "a rock wall", "a tree", "a sand dune"),
    "jumping over": ("a fence", "a puddle", "a vaulting box", "a campfire"),
    "riding": ("a donkey", "a scooter", "a unicycle", "a wooden sled"),
    "rowing": ("a canoe", "a raft", "a racing boat", "a rubber boat"),
    "pushing": ("a wheelbarrow", "a stalled car", "a swing", "a shopping cart"),
    "pulling": ("a sled", "a suitcase", "weeds", "a rope"),
    "lifting": ("a barbell", "a heavy stone", "a dance partner", "boxes"),
    "balancing": ("on a beam", "a broomstick", "plates", "on one leg"),
    "juggling": ("three balls", "burning torches", "a football", "clubs"),
    "playing": ("the accordion", "the cello", "hand drums", "table football"),
    "tuning": ("a guitar", "a piano", "a radio", "a violin"),
    "dancing": ("a waltz", "with a hoop", "in the rain", "on a table"),
    "kicking": ("a football", "a punching bag", "a pile of leaves", "a can"),
    "swimming": ("with fins", "across a lake", "on the back", "under water"),
    "diving": ("from a cliff", "into a pool", "for a ring", "with a tank"),
    "skating": ("on a frozen lake", "down a ramp", "backwards", "through cones"),
    "sliding": ("down a dune", "down a banister", "on a wet sheet", "into a base"),
    "chopping": ("firewood", "onions", "fresh herbs", "a coconut"),
    "peeling": ("potatoes", "an orange", "wallpaper", "a boiled egg"),
    "stirring": ("a pot of soup", "cement", "paint", "cake batter"),
    "baking": ("flat bread", "biscuits", "a layered cake", "a pie"),
    "pouring": ("coffee", "concrete", "juice", "candle wax"),
    "kneading": ("dough", "clay", "a sore back", "fresh pasta"),
    "grilling": ("fish", "corn", "sausages", "vegetables"),
    "decorating": ("a cake", "a tree", "a shop window", "eggs"),
    "sweeping": ("a chimney", "a yard", "a kitchen floor", "a curling lane"),
    "polishing": ("a car", "leather shoes", "silver spoons", "a wooden floor"),
    "ironing": ("a shirt", "curtains", "a patch", "trousers"),
    "sewing": ("a button", "a quilt", "a sail", "a costume"),
    "knitting": ("a scarf", "socks", "a hat", "a blanket"),
    "weaving": ("a basket", "a rug", "a flower crown", "a straw hat"),
    "carving": ("a pumpkin", "a spoon", "an ice block", "a stone lion"),
    "sawing": ("a plank", "a tree trunk", "a pipe", "an ice hole"),
    "hammering": ("nails", "a horseshoe", "a copper bowl", "tent pegs"),
    "drilling": ("a wall", "a well", "a metal plate", "an ice hole"),
    "digging": ("a trench", "a garden bed", "for clams", "a snow cave"),
    "planting": ("a tree", "rice", "tulips", "tomatoes"),
    "watering": ("a lawn", "house plants", "a vegetable bed", "horses"),
    "mowing": ("a lawn", "a steep meadow", "a football field", "tall grass"),
    "braiding": ("hair", "a rope", "a horse's mane", "bread dough"),
    "cutting": ("hair", "a hedge", "glass", "a ribbon"),
    "tying": ("a necktie", "a fishing fly", "shoe laces", "a sailing knot"),
    "wrapping": ("a present", "an ankle", "a sandwich", "a parcel"),
}
FINGERPRINT = "simulated-text/1"


def name_pool() -> tuple[str, ...]:
    """List every class name the simulation can draw from, sorted."""
    return tuple(sorted(f"{verb} {thing}" for verb, things in _OBJECTS_OF.items() for thing in things))


def simulated_class_bank(names: Sequence[str], *, width: int) -> ClassBank:
    """Make text-like unit embeddings for any names, without a text encoder.

    They are not CLIP embeddings: a large part shared by all names, one Gaussian direction per word (so that names that
    share a word are near each other) and one for the whole name. Two unrelated names have a cosine of about 0.7.

    Args:
        names: K class names; an embedding depends only on its name and the width.
        width: D, >= 1.

    Returns:
        A bank of (K, width) float32 rows of norm 1 with the fingerprint "simulated-text/1".
    """
    common = _direction("", width)
    rows: list[FloatArray] = []
    for name in names:
        words = name.lower().split()
        own = sum((_direction(f"word:{word}", width) for word in words), _direction(f"name:{name}", width))
        row = np.sqrt(0.7) * common + np.sqrt(0.3) * own / np.linalg.norm(own)
        rows.append((row / np.linalg.norm(row)).astype(np.float32))
    return ClassBank(tuple(names), np.stack(rows), f"{FINGERPRINT} width {width}")


def _direction(key: str, width: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    vector = np.random.default_rng([zlib.crc32(key.encode()), width]).standard_normal(width)
    return vector / np.linalg.norm(vector)
