"""What a recipe says: every table and key of the file, checked."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from torchcompress.core.errors import did_you_mean
from torchcompress.data import DATASETS
from torchcompress.data.augment import AUGMENTATIONS
from torchcompress.metrics.latency import LatencySetting
from torchcompress.recipe.faults import as_fault, fault, recipe_error
from torchcompress.recipe.network import check_architecture, check_weights
from torchcompress.recipe.section import Section
from torchcompress.recipe.stage_schema import KINDS, Stage


class ModelSection(Section):
    """`[model]`: where the network comes from."""

    arch: str
    """A torchvision classification model, or `package.module:factory`."""
    weights: str | None = None
    """A torchvision weights entry, `bundled:NAME`, or the path of a `.safetensors` file."""
    args: dict[str, Any] = {}
    """Keyword arguments of the constructor; the number of classes comes from the data."""

    @model_validator(mode="after")
    def _exists(self) -> Self:
        with as_fault("arch"):
            check_architecture(self.arch)
        if self.weights is not None:
            with as_fault("weights"):
                check_weights(self.arch, self.weights)
        return self


class DataSection(Section):
    """`[data]`: what the network sees."""

    dataset: str
    """The name of a data set."""
    root: str | None = None
    """The folder that holds it."""
    image_size: Annotated[PositiveInt, Field(le=4096)]
    """Height and width of the network's input in pixels."""
    batch_size: PositiveInt = 128
    """Images a batch."""
    calibration: PositiveInt = 512
    """Training images set apart to calibrate with, without augmentation."""
    augment: list[str] = ["flip"]
    """Random changes to the training images."""
    workers: NonNegativeInt = 0
    """Processes that read images; data sets in memory need none."""

    @field_validator("dataset")
    @classmethod
    def _is_a_dataset(cls, name: str) -> str:
        if name not in DATASETS:
            raise fault(f"{name!r} is not a data set", hint=did_you_mean(name, DATASETS))
        return name

    @field_validator("augment")
    @classmethod
    def _are_augmentations(cls, names: list[str]) -> list[str]:
        for i, name in enumerate(names):
            if name not in AUGMENTATIONS:
                raise fault(
                    f"{name!r} is not an augmentation",
                    key=f"[{i}]",
                    hint=did_you_mean(name, AUGMENTATIONS),
                )
        return names


class GateSection(Section):
    """`[gate]`: what the result must reach; missed, the exit code is 3 and the result is saved."""

    max_accuracy_drop: NonNegativeFloat | None = None
    """Percentage points below the model that entered."""
    min_speedup: PositiveFloat | None = None
    """Times faster at the first latency of the report."""
    max_file_mb: PositiveFloat | None = None
    """Size of the artifact in MB of 1,000,000 bytes."""


class LatencySection(Section):
    """One condition under which latency is measured."""

    threads: Annotated[PositiveInt, Field(le=1024)] = 1
    """How many threads torch may use."""
    batch: Annotated[PositiveInt, Field(le=4096)] = 1
    """Images in one call."""
    image_size: Annotated[PositiveInt, Field(le=4096)] | None = None
    """Height and width in pixels, by default that of the data."""

    def setting(self) -> LatencySetting:
        """Returns the setting that the keys say."""
        return LatencySetting(**self.model_dump())


class ReportSection(Section):
    """`[report]`: what is measured."""

    latency: Annotated[list[LatencySection], Field(min_length=1)] = [
        LatencySection(batch=1),
        LatencySection(batch=8),
    ]
    """The conditions of the latencies; the first is the headline."""


class Recipe(Section):
    """A chain of stages from one trained network to a smaller, faster one.

    The keys are those of the file: `Recipe(schema=1, name="half", model={"arch": "resnet18"},
    ...)`. A recipe that cannot work is refused when it is made.

    Raises:
        RecipeError: An unknown key, a wrong type, an unknown name, or an order of stages that
            cannot work; the path of the key is named.
    """

    schema_version: Literal[1] = Field(alias="schema")
    """The version of this format."""
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Letters, digits, `.`, `_` and `-`; the result goes to `runs/NAME`."""
    description: Annotated[str, Field(pattern=r"^[^\n]*$")] = ""
    """What the recipe is for, in one line."""
    seed: Annotated[NonNegativeInt, Field(lt=2**32)] = 0
    """Where all randomness comes from."""
    model: ModelSection
    data: DataSection
    gate: GateSection = GateSection()
    report: ReportSection = ReportSection()
    stage: Annotated[list[Stage], Field(min_length=1)]

    @model_validator(mode="after")
    def _order_can_work(self) -> Self:
        for index, stage in enumerate(self.stage[:-1]):
            if stage.kind in ("quantize.ptq", "quantize.qat"):
                raise fault(
                    f"{self.stage[index + 1].kind!r} cannot change an int8 model",
                    key=f"stage[{index + 1}]",
                    hint=f"let {stage.kind!r} be the last stage",
                )
        return self

    # Defined last, so that it is the outermost and sees what the validator above raises.
    @model_validator(mode="wrap")
    @classmethod
    def _is_readable_when_wrong(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(data)
        except ValidationError as error:
            raise recipe_error(error, KINDS) from None

    def to_json(self) -> dict[str, Any]:
        """Returns the recipe as JSON values: defaults written out, keys without value left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)
