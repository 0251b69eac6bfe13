"""The command line.

Exit codes: 0 good, 1 failure, 2 usage or recipe error, 3 gate missed (the result is saved).
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from torchcompress.core.errors import CompressError, RecipeError

GOOD, FAILURE, USAGE, GATE_MISSED = 0, 1, 2, 3

app = typer.Typer(
    name="torchcompress",
    help="Makes a trained PyTorch network smaller and faster, and proves what it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeName = Annotated[str, typer.Argument(help="A bundled recipe's name, or a .toml file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Replace a key: stage.0.epochs=3."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


@app.command()
def run(
    recipe: RecipeName,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the result.  [default: runs/NAME]")
    ] = None,
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Run a recipe: compress a network, measure it, write the report."""
    from torchcompress.recipe import load_recipe, run_recipe
    from torchcompress.report import report_to_text

    result = run_recipe(load_recipe(recipe, overrides or ()), out=out)
    typer.echo(report_to_text(result.report))
    typer.echo(f"\nsaved: {result.folder / 'model.tcz'}, {result.folder / 'report.html'}")
    if not result.passed:
        raise typer.Exit(GATE_MISSED)


@app.command()
def check(recipe: RecipeName, overrides: Overrides = None, debug: Debug = False) -> None:
    """Check a recipe without training: keys, names, data, weights, globs, targets."""
    from torchcompress.recipe import load_recipe, prepare

    checked = load_recipe(recipe, overrides or ())
    prepare(checked)
    kinds = ", ".join(stage.kind for stage in checked.stage)
    typer.echo(f"{checked.name}: can run ({kinds})")


@app.command()
def recipes(debug: Debug = False) -> None:
    """List the bundled recipes."""
    from torchcompress.recipe import bundled_recipes, load_recipe

    found = {name: load_recipe(name) for name in bundled_recipes()}
    width = max(map(len, found), default=0)
    for name, recipe in found.items():
        typer.echo(f"{name:{width}}  {recipe.description}".rstrip())


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", exists=True, file_okay=False, help="A result.")
    ],
    debug: Debug = False,
) -> None:
    """Print the report of a run, and write its report.html anew."""
    from torchcompress.core.files import write_text
    from torchcompress.report import read_report, report_to_html, report_to_text

    found = read_report(folder / "report.json")
    write_text(folder / "report.html", report_to_html(found))
    typer.echo(report_to_text(found))
    typer.echo(f"\nsaved: {folder / 'report.html'}")


@app.command()
def layers(
    source: Annotated[
        str,
        typer.Argument(
            metavar="ARCH|FILE", help="A torchvision model, a recipe (.toml) or a model.tcz."
        ),
    ],
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels.  [default: the recipe's or file's, or 224]")
    ] = None,
    debug: Debug = False,
) -> None:
    """List the layers of a network: names, shapes, MACs. Globs match these names."""
    from torchcompress.recipe.layers import layers_to_text

    typer.echo(layers_to_text(source, image_size))


@app.command()
def export(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="A model.tcz.")],
    target: Annotated[Path, typer.Argument(metavar="ONNX", help="The file to make or replace.")],
    preset: Annotated[
        str, typer.Option(help="Which runtime reads it: onnxruntime, openvino or tensorrt.")
    ] = "onnxruntime",
    opset: Annotated[int, typer.Option(help="Version of the ONNX operators.")] = 21,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels.  [default: the file's]")
    ] = None,
    trust: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE:FACTORY", help="Code outside torchvision that may run."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a saved model as an ONNX file, checked by running it."""
    from torchcompress.deploy.export_file import export_file

    typer.echo(export_file(source, target, preset, opset, image_size, trust or ()))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns its exit code.

    Args:
        arguments: The words after the program's name, by default those of the process.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        app(arguments, prog_name="torchcompress")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else FAILURE
    except CompressError as error:
        if debug:
            raise
        typer.echo(f"error: {error}", err=True)
        return USAGE if isinstance(error, RecipeError) else FAILURE
    except Exception as error:  # The last resort: a user gets a line, not a traceback.
        if debug:
            raise
        hint = "\n  -> run it again with --debug for the traceback"
        typer.echo(f"error: {type(error).__name__}: {error}{hint}", err=True)
        return FAILURE
    return GOOD
