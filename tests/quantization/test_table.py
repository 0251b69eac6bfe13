import pytest

from torchcompress.core.errors import ArtifactError
from torchcompress.quantization.table import Row, Table, parse_rows, parse_split

ROWS = (
    Row("conv", "conv2d", "int8", "", 0.5, 3, 41.27, 1500),
    Row("up", "conv_transpose2d", "float", "no int8 kernel", macs=500),
)


def test_round_trip() -> None:
    assert parse_rows([row.to_json() for row in ROWS]) == ROWS


def test_text() -> None:
    assert str(Table(ROWS, {"neck": "it branches"})).splitlines() == [
        "1 of 2 layers in int8, 75.0 % of the MACs",
        "layer  kind              runs in  MACs   scale  zero  SQNR dB  why",
        "conv   conv2d            int8     1,500  0.5    3     41.3",
        "up     conv_transpose2d  float    500                          no int8 kernel",
        "neck runs by its parts: it branches",
    ]


def test_the_share_of_int8_is_that_of_the_macs() -> None:
    assert Table(ROWS).int8_share() == 0.75
    assert Table([Row("conv", "conv2d", "int8")]).int8_share() is None
    assert str(Table([Row("conv", "conv2d", "int8")])).startswith("1 of 1 layers in int8\n")


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        [1],
        [{"name": "x"}],
        [{**ROWS[0].to_json(), "scale": "1"}],
        [{**ROWS[0].to_json(), "macs": 1.5}],
        [{**ROWS[0].to_json(), "macs": -1}],
    ],
)
def test_what_is_not_a_table(data: object) -> None:
    with pytest.raises(ArtifactError):
        parse_rows(data)


@pytest.mark.parametrize("data", [None, [], {"a": 1}])
def test_what_is_no_split(data: object) -> None:
    with pytest.raises(ArtifactError):
        parse_split(data)
