from typing import Any

import pytest

from torchcompress.core.errors import CompressError
from torchcompress.distillation import LossTerm
from torchcompress.distillation.terms import loss_terms


def test_three_ways_to_write_a_term() -> None:
    assert loss_terms(["dist", ("ce", 0.5), LossTerm("kd", 2.0, {"temperature": 2.0})]) == (
        LossTerm("dist", 1.0),
        LossTerm("ce", 0.5),
        LossTerm("kd", 2.0, {"temperature": 2.0}),
    )


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        (["dits"], "did you mean 'dist'"),
        ([], "no loss is given"),
        (["ce", ("ce", 2.0)], "given twice"),
        ([("kd", -1.0)], r"losses\.kd\.weight: -1 is below 0"),
        ([("kd", float("nan"))], "not a number"),
        ([("kd", "high")], "not a number"),
        ([3], "3 is not the name of a loss"),
        (3, "3 is not the name of a loss"),
        ([("kd", 1.0, {}, 2)], "not a pair of name and weight"),
        ([(["kd"], 1.0)], "not the name of a loss"),
    ],
)
def test_a_term_that_cannot_be_is_named(losses: Any, message: str) -> None:
    with pytest.raises(CompressError, match=message):
        loss_terms(losses)


def test_a_misspelt_option_gets_a_suggestion() -> None:
    with pytest.raises(CompressError, match=r"losses\.kd.*\n.*did you mean 'temperature'"):
        LossTerm("kd", options={"temprature": 2.0})
    with pytest.raises(CompressError, match="'temperature' is not an option"):
        LossTerm("ce", options={"temperature": 2.0})
