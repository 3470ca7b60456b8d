"""Options of a pipeline: its models, their provider, and the faces to report."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path

from ..backends.open_runner import open_model
from ..errors import InputError
from ..faces.face_filter import FaceFilter
from ..models.input_shapes import DETECTOR_MAX_SIDE
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import Provider
from ..models.spec import Precision
from .frame_classifier import FrameClassifier
from .pipeline import Pipeline

HIDING_SCORE = 0.3
"""Minimum score of a face to hide; low enough that a few things that are not faces are hidden too."""
HIDING_MAX_SIDE = DETECTOR_MAX_SIDE
"""Maximum longer side in px for the detection of faces to hide."""


class Classified(str, Enum):
    """Subject of a classifier: whole frames, without detecting faces, or each face."""

    FRAME = "frame"
    FACES = "faces"


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Arguments of `Pipeline.load`, except those that depend on the task: threads and the detector's input size.

    Attributes:
        model: Landmark model, instead of the shipped one.
        detector: Detector, instead of the shipped one.
        age_gender: Age and gender model, instead of the shipped one.
        classifier: Classifier of frames or faces.
        classify: Subject of the classifier.
        bundle: Bundle to take all other models from.
        precision: Precision of the shipped models, or of those to take from the bundle; None for the default of
            `Pipeline.load`.
        attributes: Whether to include the age and gender model even if `age_gender` is not given.
        provider: Provider to run the models on.
        reported: Conditions on the faces to report.
    """

    model: ModelSource | None = None
    detector: Path | None = None
    age_gender: Path | None = None
    classifier: ModelSource | None = None
    classify: Classified = Classified.FRAME
    bundle: Path | None = None
    precision: Precision | None = None
    attributes: bool = True
    provider: Provider = Provider.AUTO
    reported: FaceFilter = field(default_factory=FaceFilter)

    @property
    def with_attributes(self) -> bool:
        """Whether age and gender are estimated; always true if a model for them is given."""
        return self.attributes or self.age_gender is not None

    @property
    def files(self) -> list[Path]:
        """Files to read."""
        given = (self.model, self.detector, self.age_gender, self.classifier, self.bundle)
        return [Path(source) for source in given if source is not None and not isinstance(source, ModelFile)]

    @property
    def of_frames(self) -> bool:
        """Whether a classifier of whole frames replaces the pipeline."""
        return self.classifier is not None and self.classify is Classified.FRAME

    def for_hiding(self) -> PipelineOptions:
        """Return options that find as many faces as possible, so that none remains visible.

        Raises:
            InputError: There are conditions that exclude faces.
        """
        min_score = HIDING_SCORE if self.reported.min_score is None else self.reported.min_score
        if self.reported != FaceFilter(min_score=self.reported.min_score):
            raise InputError("--blur hides every face; omit --max-faces, --min-face and --region")
        return replace(self, reported=FaceFilter(min_score=min_score))

    def load_frame_classifier(self, *, threads: int) -> FrameClassifier:
        """Open the classifier of whole frames; see `of_frames`.

        Args:
            threads: Threads of one operator on the CPU; 0 for all cores.

        Raises:
            ModelError: The file is not a classifier.
            ProviderError: `provider` is not what would really run.
        """
        assert self.classifier is not None
        return FrameClassifier(open_model(ModelFile.of(self.classifier), provider=self.provider, threads=threads))

    def load(self, *, threads: int, max_side: int) -> Pipeline:
        """Open the models.

        Args:
            threads: Threads of one operator on the CPU; 0 for all cores.
            max_side: Longer side, in px, to which pictures are reduced before detection.

        Raises:
            InputError: As for `Pipeline.load`.
            ModelError: As for `Pipeline.load`.
            ProviderError: As for `Pipeline.load`.
        """
        return Pipeline.load(
            model=self.model,
            detector=self.detector,
            age_gender=self.age_gender,
            classifier=self.classifier,
            bundle=self.bundle,
            precision=self.precision,
            attributes=self.with_attributes,
            provider=self.provider,
            threads=threads,
            max_side=max_side,
            **asdict(self.reported),
        )
