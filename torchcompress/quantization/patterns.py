"""Operations that a program can do without, and several that are one: the channel shuffle."""

from dataclasses import replace

from torchcompress.quantization.program import Op, Program, rename_result, result_values
from torchcompress.quantization.tracing import COPY

Entry = int | str


def fold_channel_shuffles(program: Program) -> Program:
    """Replaces reshape, transpose, reshape by one `channel_shuffle` where they are one.

    Args:
        program: A program as traced.
    """
    made = {op.output: op for op in program.ops}
    ops: list[Op] = []
    for op in program.ops:
        groups = _shuffle_groups(op, made)
        if groups is None:
            ops.append(op)
            continue
        split = made[made[op.inputs[0]].inputs[0]]
        shuffle = Op(
            "channel_shuffle", op.output, split.inputs[:1], {"groups": groups}, name=op.name
        )
        ops.append(shuffle)
    return without_unread(program.with_ops(ops))


def without_copies(program: Program) -> Program:
    """Drops copies: a program never writes into a value."""
    same: dict[str, str] = {}
    ops: list[Op] = []
    for op in program.ops:
        inputs = tuple(same.get(value, value) for value in op.inputs)
        if op.kind == COPY:
            same[op.output] = inputs[0]
        else:
            ops.append(replace(op, inputs=inputs))
    names = {value: same.get(value, value) for value in result_values(program.result)}
    return replace(program, ops=tuple(ops), result=rename_result(program.result, names))


def without_unread(program: Program) -> Program:
    """Drops operations whose output nothing reads."""
    while True:
        readers = program.readers()
        kept = [op for op in program.ops if readers[op.output]]
        if len(kept) == len(program.ops):
            return program
        program = program.with_ops(kept)


def _shuffle_groups(merge: Op, made: dict[str, Op]) -> int | None:
    """Returns the groups of the shuffle that ends in `merge`, None where it is none."""
    swap = made.get(merge.inputs[0]) if merge.kind == "reshape" else None
    split = made.get(swap.inputs[0]) if swap is not None and swap.kind == "transpose" else None
    if swap is None or split is None or split.kind != "reshape":
        return None
    shape, whole = _entries(split), _entries(merge)
    if sorted(swap.args["dims"]) != [1, 2] or len(shape) != 5:
        return None
    x, groups = split.inputs[0], shape[1]
    if not isinstance(groups, int) or groups < 1 or len(whole) != 4:
        return None
    rows = [(0, 0), (3, 2), (4, 3)]
    if not all(_is_size(shape[at], x, dim, made) for at, dim in rows):
        return None
    if not (shape[2] == -1 or _is_quotient(shape[2], x, groups, made)):
        return None
    merged = [_is_size(whole[d], x, d, made) or whole[d] == -1 for d in range(4)]
    return groups if all(merged) and whole.count(-1) <= 1 else None


def _entries(reshape: Op) -> list[Entry]:
    """Returns the shape of a reshape, its sizes by value id."""
    sizes = iter(reshape.inputs[1:])
    return [next(sizes) if entry is None else entry for entry in reshape.args["shape"]]


def _is_size(entry: Entry, x: str, dim: int, made: dict[str, Op]) -> bool:
    op = made.get(entry) if isinstance(entry, str) else None
    return op is not None and op.kind == "size" and op.inputs == (x,) and op.args["dim"] == dim


def _is_quotient(entry: Entry, x: str, groups: int, made: dict[str, Op]) -> bool:
    op = made.get(entry) if isinstance(entry, str) else None
    return (
        op is not None
        and op.kind == "integer"
        and op.args == {"operator": "floordiv", "left": None, "right": groups}
        and _is_size(op.inputs[0], x, 1, made)
    )
