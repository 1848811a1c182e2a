"""Figures that the papers print as numbers, and where; curves that are only drawn are left out.

thesis: Yunhan Wang, "Efficient Temporal Action Localization via Vision-Language Modelling", TU Delft, 2023.
paper: Nag et al., "Zero-Shot Temporal Action Detection via Vision-Language Prompting", ECCV 2022.
"""

from typing import NamedTuple

THESIS_TABLE_1 = "thesis, Table 1"
THESIS_TABLE_2 = "thesis, Table 2"
THESIS_FIGURE_3 = "thesis, Figure 3 and section 4.2"
THESIS_FIGURE_4 = "thesis, Figure 4 and section 4.3"
PAPER_TABLE_1 = "paper, Table 1"
PAPER_TABLES_3_TO_6 = "paper, Tables 3 to 6"


class ThesisOpenSet(NamedTuple):
    """A row of Table 1 of the thesis, ActivityNet v1.3; mAP in percent.

    seen_percent: part of the classes that are trained on.
    enhanced: with score enhancement.
    n_videos: training videos, the mean over subsets.
    half: trained on roughly half of the data.
    """

    seen_percent: int
    enhanced: bool
    half: bool
    n_videos: int
    mAP_50: float  # noqa: N815
    mAP_75: float  # noqa: N815
    mAP_95: float  # noqa: N815
    average_mAP: float  # noqa: N815


THESIS_OPEN_SET = (
    ThesisOpenSet(75, True, False, 6575, 39.5, 21.5, 4.2, 21.7),
    ThesisOpenSet(75, True, True, 3304, 39.1, 22.4, 3.7, 21.7),
    ThesisOpenSet(75, False, False, 6575, 15.7, 8.0, 1.4, 8.4),
    ThesisOpenSet(75, False, True, 3304, 15.4, 8.5, 1.7, 8.5),
    ThesisOpenSet(50, True, False, 4353, 39.1, 20.1, 4.1, 21.1),
    ThesisOpenSet(50, True, True, 2198, 38.7, 20.3, 4.0, 21.0),
    ThesisOpenSet(50, False, False, 4353, 3.0, 1.9, 0.4, 1.8),
    ThesisOpenSet(50, False, True, 2198, 3.6, 1.9, 0.5, 2.0),
)


class PaperOpenSet(NamedTuple):
    """A row of Table 1 of the paper, ActivityNet v1.3, mean over ten class splits; mAP in percent."""

    seen_percent: int
    method: str
    mAP_50: float  # noqa: N815
    mAP_75: float  # noqa: N815
    mAP_95: float  # noqa: N815
    average_mAP: float  # noqa: N815


PAPER_OPEN_SET = (
    PaperOpenSet(75, "B-II", 32.6, 18.5, 5.8, 19.6),
    PaperOpenSet(75, "B-I", 35.6, 20.4, 2.1, 20.2),
    PaperOpenSet(75, "EffPrompt", 37.6, 22.9, 3.8, 23.1),
    PaperOpenSet(75, "STALE", 38.2, 25.2, 6.0, 24.9),
    PaperOpenSet(50, "B-II", 25.3, 13.0, 3.7, 12.9),
    PaperOpenSet(50, "B-I", 28.0, 16.4, 1.2, 16.0),
    PaperOpenSet(50, "EffPrompt", 32.0, 19.3, 2.9, 19.6),
    PaperOpenSet(50, "STALE", 32.1, 20.7, 5.9, 20.5),
)


class ClosedSet(NamedTuple):
    """A point of Figure 3 c of the thesis that is printed as a number; mAP in percent.

    enhanced: with score enhancement.
    """

    method: str
    percent: int
    n_videos: int
    enhanced: bool
    average_mAP: float  # noqa: N815
    source: str


THESIS_CLOSED_SET = (
    ClosedSet("STALE", 100, 8840, True, 19.4, THESIS_TABLE_2),
    ClosedSet("ActionFormer", 100, 9251, True, 35.9, THESIS_TABLE_2),
)
"""The curves of Figure 3 are drawn, not printed; Table 2 prints these two ends."""

THESIS_CLOSED_SET_FINDINGS = (
    "with score enhancement the curves are flat at every tIoU",
    "without it they rise with the amount of data and approach the flat one, but never surpass it",
    "without it 80 % of the data come within 0.5 average mAP of all of them",
)
"""Points of the curves that section 4.2 gives as numbers."""


class Trained(NamedTuple):
    """A row of Table 2 of the thesis.

    millions: parameters.
    seconds: of training on a V100.
    average_mAP: with score enhancement, percent.
    """

    method: str
    millions: float
    seconds: float
    average_mAP: float  # noqa: N815


THESIS_TRAINED = (Trained("STALE", 170.7, 400.7, 19.4), Trained("ActionFormer", 29.3, 1944.9, 35.9))


class GpuPoint(NamedTuple):
    """Figures of the forward pass on a V100S in section 4.3 of the thesis, by video length in snippets.

    seconds: of the fp32 forward pass; None: only drawn. utilization: of 8.2 TMACs/s, percent; None: only drawn.
    """

    length: int
    seconds: float | None
    utilization: float | None


THESIS_GPU = (GpuPoint(200, 0.080, 19.0), GpuPoint(1400, None, 14.0), GpuPoint(3000, 0.101, 14.0))
THESIS_PEAK_TMACS = 8.2
"""Rate that the thesis divides by, section 4.3."""
THESIS_MEMORY_GB = 1.0
"""STALE "consumes less than 1GB of memory", section 4.3."""

THESIS_INT8_SPEEDUP = 2.73
"""Forward time of fp32 over int8 on one CPU thread, section 4.3; over all lengths, in a way that is not stated."""
THESIS_INT8_MEMORY_FACTOR = 2.44
"""Memory of fp32 over int8, section 4.3; the kind of memory is not stated."""
THESIS_GPU_OVER_INT8 = 14.15
"""Forward time of int8 on the CPU over fp32 on the GPU, section 4.3."""
THESIS_INT8_ACCURACY_LOSS = 1.0
"""Upper bound of the accuracy lost by int8 that section 3.4 quotes of others, percent; mAP was not measured."""


class Ablation(NamedTuple):
    """A row of Tables 1 to 6 of the paper: ActivityNet v1.3; mAP in percent.

    75 % of the classes are seen, but in Table 2, where all are.
    """

    table: str
    row: str
    mAP_50: float  # noqa: N815
    average_mAP: float  # noqa: N815


PAPER_ABLATIONS = (
    Ablation("Table 1", "B-I", 35.6, 20.2),
    Ablation("Table 1", "B-II", 32.6, 19.6),
    Ablation("Table 1", "EffPrompt", 37.6, 23.1),
    Ablation("Table 1", "STALE", 38.2, 24.9),
    Ablation("Table 2", "B-I, CLIP", 28.2, 18.2),
    Ablation("Table 2", "EffPrompt, CLIP", 44.0, 27.3),
    Ablation("Table 2", "B-III, I3D", 47.2, 30.8),
    Ablation("Table 3", "B-I, ground-truth proposals", 56.2, 47.1),
    Ablation("Table 3", "B-I, predicted proposals", 34.8, 19.9),
    Ablation("Table 3", "STALE, ground-truth masks", 53.6, 42.3),
    Ablation("Table 3", "STALE, predicted masks", 38.2, 24.9),
    Ablation("Table 4", "no mask", 21.7, 10.9),
    Ablation("Table 4", "ground-truth mask", 54.3, 35.8),
    Ablation("Table 4", "1-D CNN", 33.5, 20.1),
    Ablation("Table 4", "Maskformer, 5 queries", 37.5, 24.4),
    Ablation("Table 4", "Maskformer, 20 queries", 38.2, 24.9),
    Ablation("Table 4", "Maskformer, 100 queries", 39.0, 25.1),
    Ablation("Table 5", "no encoder", 6.9, 11.5),
    Ablation("Table 5", "CLIP-text, frozen", 36.9, 22.8),
    Ablation("Table 5", "CLIP-text, tuned", 38.2, 24.9),
    Ablation("Table 6", "1-D CNN", 29.0, 19.3),
    Ablation("Table 6", "MS-TCN", 33.5, 21.4),
    Ablation("Table 6", "Transformer", 38.2, 24.9),
)
"""The copy of Table 5 at hand lacks the average of its last row; it is STALE itself, 24.9 in every other table."""
