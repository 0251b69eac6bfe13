"""Through which operations the tensors of a group came to share their channels."""

from collections import defaultdict

import numpy as np

from torchcompress.graph.groups import Group, Member
from torchcompress.graph.record import Trace


def coupling_operations(trace: Trace, groups: list[Group]) -> list[dict[str, list[Member]]]:
    """Returns for each group the operations that coupled it, each with what it coupled.

    `reshape` stands for the reshapes that were settled after the run, `split` for splits into
    equal parts.

    Args:
        trace: What one run has shown.
        groups: Its coupled groups.
    """
    vectors = [vector for labels in trace.tensors.values() for vector in labels.vectors()]
    size = 1 + max((int(vector.max()) for vector in vectors), default=0)
    owner = np.full(size, -1)
    owners: list[tuple[int, Member]] = []
    for number, group in enumerate(groups):
        for (name, dim), indices in group.members.items():
            vector = trace.tensors[name].dims[dim]
            if vector is not None:
                owner[vector[indices.ravel()]] = len(owners)
                owners.append((number, (name, dim)))
    found: list[dict[str, list[Member]]] = [defaultdict(list) for _ in groups]
    for operation, coupled in trace.couplings.coupled.items():
        every = np.concatenate(list({id(vector): vector for vector in coupled}.values()))
        tied = np.zeros(len(owners) + 1, bool)
        tied[owner[every[every < size]]] = True
        for index in np.flatnonzero(tied[:-1]).tolist():
            number, member = owners[index]
            found[number][operation].append(member)
    return found
