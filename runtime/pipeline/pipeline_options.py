"""Choice of the models of a pipeline, of what runs them, and of the faces that it reports."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path

from ..backends.open_runner import open_model
from ..errors import InputError
from ..faces.face_filter import FaceFilter
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import Provider
from ..models.spec import Precision
from .frame_classifier import FrameClassifier
from .pipeline import Pipeline

HIDING_SCORE = 0.3
"""Lowest score of a face that is to be hidden: a few things that are no faces are hidden too."""
HIDING_MAX_SIDE = 960
"""Longer side, in px, to which pictures are reduced before the detection of faces that are to be hidden."""


class Classified(str, Enum):
    """What a classifier labels: whole frames, without looking for faces, or each face."""

    FRAME = "frame"
    FACES = "faces"


@dataclass(frozen=True, slots=True)
class PipelineOptions:
    """Arguments of `Pipeline.load`, but for those that depend on the work: threads and the detector's input.

    Attributes:
        model: Landmark model, in place of the shipped one.
        detector: Detector, in place of the shipped one.
        age_gender: Age and gender model, in place of the shipped one.
        classifier: Classifier of frames or faces.
        classify: What the classifier labels.
        bundle: Bundle from which all other models are taken.
        precision: Which models of the bundle to take.
        attributes: Include the age and gender model even if `age_gender` is not given.
        provider: Runs the models.
        reported: Which of the found faces are reported.
    """

    model: ModelSource | None = None
    detector: Path | None = None
    age_gender: Path | None = None
    classifier: ModelSource | None = None
    classify: Classified = Classified.FRAME
    bundle: Path | None = None
    precision: Precision = Precision.FP32
    attributes: bool = True
    provider: Provider = Provider.AUTO
    reported: FaceFilter = field(default_factory=FaceFilter)

    @property
    def with_attributes(self) -> bool:
        """Whether age and gender are estimated: a model given for them is used."""
        return self.attributes or self.age_gender is not None

    @property
    def files(self) -> list[Path]:
        """Files that are read."""
        given = (self.model, self.detector, self.age_gender, self.classifier, self.bundle)
        return [Path(source) for source in given if source is not None and not isinstance(source, ModelFile)]

    @property
    def of_frames(self) -> bool:
        """Whether a classifier labels whole frames, in the place of a pipeline."""
        return self.classifier is not None and self.classify is Classified.FRAME

    def for_hiding(self) -> PipelineOptions:
        """Return the options with which as many faces as possible are found, so that none of them is left visible.

        Raises:
            InputError: Some of the faces are not to be reported.
        """
        min_score = HIDING_SCORE if self.reported.min_score is None else self.reported.min_score
        if self.reported != FaceFilter(min_score=self.reported.min_score):
            raise InputError("--blur hides every face; leave out --max-faces, --min-face and --region")
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
