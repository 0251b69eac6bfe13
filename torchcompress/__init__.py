"""torchcompress: makes a trained PyTorch network smaller and faster, and proves what it did."""

__version__ = "0.1.0"

from torchcompress import errors
from torchcompress.core.history import history
from torchcompress.core.target import Target
from torchcompress.deploy import CompiledModel, OnnxExport, compile, export_onnx, load, save
from torchcompress.distillation import DistillationTrainer, Distiller, LossTerm, losses
from torchcompress.metrics import compare, evaluate, measure
from torchcompress.pruning import (
    ChannelPruner,
    Cubic,
    Iterative,
    MagnitudePruner,
    OneShot,
    PruningPlan,
    SparsityPlan,
    plan_channels,
    prune_channels,
    remove_dead_channels,
    sparsify,
)
from torchcompress.quantization import (
    Int8Model,
    PartlyInt8Model,
    QuantizationConfig,
    QuantizationPlan,
    Sensitivity,
    quantize,
    sensitivity,
)
from torchcompress.quantization.qat import (
    FreezeSchedule,
    QATConfig,
    convert,
    freeze_norms,
    freeze_ranges,
    prepare_qat,
)
from torchcompress.recipe import Recipe, RunResult, load_recipe, run_recipe
from torchcompress.training import Trainer, TrainerConfig

__all__ = [
    "ChannelPruner",
    "CompiledModel",
    "Cubic",
    "DistillationTrainer",
    "Distiller",
    "FreezeSchedule",
    "Int8Model",
    "Iterative",
    "LossTerm",
    "MagnitudePruner",
    "OneShot",
    "OnnxExport",
    "PartlyInt8Model",
    "PruningPlan",
    "QATConfig",
    "QuantizationConfig",
    "QuantizationPlan",
    "Recipe",
    "RunResult",
    "Sensitivity",
    "SparsityPlan",
    "Target",
    "Trainer",
    "TrainerConfig",
    "compare",
    "compile",
    "convert",
    "errors",
    "evaluate",
    "export_onnx",
    "freeze_norms",
    "freeze_ranges",
    "history",
    "load",
    "load_recipe",
    "losses",
    "measure",
    "plan_channels",
    "prepare_qat",
    "prune_channels",
    "remove_dead_channels",
    "quantize",
    "run_recipe",
    "save",
    "sensitivity",
    "sparsify",
]
