"""What the localizers of a bundle add: names that its text encoder reads, files, and an implied duration."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stale_edge.bundle import ClassBank, Manifest
from stale_edge.data.feature_files import FEATURE_SUFFIXES, read_features
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.contract import implied_duration_s
from stale_edge.runtime.text_encoder import choose_classes
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.segments import Detection


class BundleLocalizer(BaseLocalizer):
    """A localizer that knows the folder of its bundle."""

    runtime: Any
    precision: Any
    _chosen: tuple[tuple[str, ...], ClassBank] | None = None
    _reader: VideoReader | None = None

    @property
    @abstractmethod
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""

    @property
    @abstractmethod
    def path(self) -> Path:
        """The bundle's folder."""

    def __repr__(self) -> str:
        contract = self.feature_contract
        return (
            f"<{type(self).__name__} {self.manifest.architecture}, {self.runtime} {self.precision} on {self.provider}: "
            f"{len(self.class_bank)} classes, features (T, {contract.channels}), {self.path}>"
        )

    def detect(
        self,
        features: Any,
        *,
        duration_s: float | None = None,
        classes: Sequence[str] | None = None,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
    ) -> list[Detection]:
        """Find the actions in a video, as the command `detect` does.

        Args:
            features: (T, C) of the whole video; or the path of a video, which the bundle's visual encoder reads, or of
                a feature file.
            duration_s: length of the video in seconds, for features; None: as the feature contract implies it.
            classes: names to look for; those that the class bank lacks are read by the bundle's text encoder. None: the
                whole bank.
            class_bank: as in `measure`, in place of `classes`.
            video_label, video_score, window, overlap: as in `measure`.

        Raises:
            ValueError: as in `measure`; both classes and class_bank; no duration where the contract implies none; or an
                option that does not go with a video.
            StaleEdgeError: a file cannot be read, or there is no encoder for it.
        """
        if classes is not None:
            if class_bank is not None:
                raise ValueError("give classes or class_bank, not both: classes are names, class_bank has embeddings")
            class_bank = self._bank_of(tuple(classes))
        if isinstance(features, str | Path):
            path = Path(features)
            if path.suffix.lower() not in FEATURE_SUFFIXES:
                if (duration_s, video_label, video_score) != (None, None, None):
                    raise ValueError("duration_s, video_label and video_score are for features; a video has its length")
                return self._in_video(path, self._bank_for(class_bank), window, overlap)
            features = read_features(path)
        if duration_s is None:
            duration_s = implied_duration_s(self.feature_contract, len(features))
        if duration_s is None:
            raise ValueError(
                f"{self.path}: its feature contract has no fps and stride, which imply a duration; give duration_s"
            )
        return super().detect(
            features,
            duration_s=duration_s,
            class_bank=class_bank,
            video_label=video_label,
            video_score=video_score,
            window=window,
            overlap=overlap,
        )

    def _bank_of(self, names: tuple[str, ...]) -> ClassBank:
        """Choose classes, and keep the last choice: encoding new names takes longer than detecting."""
        if self._chosen is None or self._chosen[0] != names:
            self._chosen = names, choose_classes(self.path, self.class_bank, names)[0]
        return self._chosen[1]

    def _in_video(self, path: Path, bank: ClassBank, window: int | None, overlap: int | None) -> list[Detection]:
        if self._reader is None:
            self._reader = VideoReader(self.path, self.feature_contract)
        return self._reader.detect(path, self, class_bank=bank, window=window, overlap=overlap).detections
