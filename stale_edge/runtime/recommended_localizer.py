"""A bundle in the runtime and precision that `bench --recommend` chose for each length on this machine."""

import threading
from collections.abc import Callable
from pathlib import Path

from stale_edge.bundle import ClassBank, FeatureContract, Manifest
from stale_edge.config import DecodeSettings
from stale_edge.errors import BundleError
from stale_edge.runtime.bundle_localizer import BundleLocalizer
from stale_edge.runtime.localizer import Localizer
from stale_edge.runtime.recommendation import AUTO, Recommendation
from stale_edge.segments import FloatArray


class RecommendedLocalizer(BundleLocalizer):
    """Runs every video with the choice recommended for its length; a detector is opened when first needed.

    Args:
        recommendation: the choice for each length.
        open_choice: opens the localizer of a (runtime, precision). The first choice is opened at once; all
            choices share its class bank, contract and decoder.
    """

    runtime = AUTO
    precision = "as recommended"

    def __init__(self, recommendation: Recommendation, open_choice: Callable[[tuple[str, str]], Localizer]) -> None:
        self._recommendation = recommendation
        self._open_choice = open_choice
        self._first = open_choice(recommendation.choices[0].pair)
        self._choices = {recommendation.choices[0].pair: self._first}
        self._choosing = threading.Lock()

    @property
    def class_bank(self) -> ClassBank:
        """The bundle's vocabulary and embeddings."""
        return self._first.class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """What features must be."""
        return self._first.feature_contract

    @property
    def decode_config(self) -> DecodeSettings:
        """How the network's outputs become detections."""
        return self._first.decode_config

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self._first.path

    @property
    def manifest(self) -> Manifest:
        """Everything the bundle says of itself."""
        return self._first.manifest

    @property
    def provider(self) -> str:
        """What computes the first choice, on the CPU."""
        return self._first.provider

    @property
    def note(self) -> str:
        """The exporter's note on the first choice's file; may be empty."""
        return self._first.note

    def chosen(self, n_snippets: int) -> Localizer:
        """Return the localizer for a video of `n_snippets` snippets, counted after resampling."""
        pair = self._recommendation.choose(n_snippets)
        with self._choosing:
            if pair not in self._choices:
                opened = self._open_choice(pair)
                if opened.manifest != self._first.manifest:
                    raise BundleError("the bundle was replaced after it was opened; open it again with load_bundle")
                self._choices[pair] = opened
            return self._choices[pair]

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        return self.chosen(features.shape[1])._run(features, class_embeddings)

    def _run_for_decoding(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        return self.chosen(features.shape[1])._run_for_decoding(features, class_embeddings)
