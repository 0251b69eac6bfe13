import pytest

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.table import Row, format_rows, parse_rows

ROWS = (
    Row("conv", "conv2d", "int8", "", 0.5, 3, 41.27),
    Row("up", "conv_transpose2d", "float", "no int8 kernel"),
)


def test_round_trip() -> None:
    assert parse_rows([row.to_json() for row in ROWS]) == ROWS


def test_text() -> None:
    assert format_rows(ROWS).splitlines() == [
        "1 of 2 layers in int8",
        "layer  kind              runs in  scale  zero  SQNR dB  why",
        "conv   conv2d            int8     0.5    3     41.3",
        "up     conv_transpose2d  float                          no int8 kernel",
    ]


@pytest.mark.parametrize(
    "data", [None, {}, [1], [{"name": "x"}], [{**ROWS[0].to_json(), "scale": "1"}]]
)
def test_what_is_not_a_table(data: object) -> None:
    with pytest.raises(ArtifactError):
        parse_rows(data)
