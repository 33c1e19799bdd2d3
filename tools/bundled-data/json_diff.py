"""RFC 6902 patches between two JSON values, and the two text forms that the sample uses.

Invariant: applying `diff(a, b)` to `a` gives a value whose canonical form is that of `b`. Member order is
not kept: an added member comes last. Only `add`, `remove` and `replace` are made, never `move` or `copy`.
"""

import json


def compact(value):
    """JSON without white space, members in their own order."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def canonical(value):
    """JSON without white space, members sorted: equal for equal values."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True)


def same(source, target):
    """Equality as JSON sees it: Python alone would take `true` for `1`."""
    return source == target and canonical(source) == canonical(target)


def token(name):
    """A member name as one step of a JSON Pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def diff(source, target, path=""):
    """The operations from `source` to `target`: member by member, but never longer than one replace."""
    if same(source, target):
        return []
    whole = [{"op": "replace", "path": path, "value": target}]
    if isinstance(source, dict) and isinstance(target, dict):
        parts = diff_members(source, target, path)
    elif isinstance(source, list) and isinstance(target, list):
        parts = diff_elements(source, target, path)
    else:
        return whole
    return parts if len(compact(parts)) <= len(compact(whole)) else whole


def diff_members(source, target, path):
    """Objects: removed members, then the common and added ones in the target's order."""
    operations = [{"op": "remove", "path": f"{path}/{token(name)}"} for name in source if name not in target]
    for name, value in target.items():
        step = f"{path}/{token(name)}"
        if name in source:
            operations += diff(source[name], value, step)
        else:
            operations.append({"op": "add", "path": step, "value": value})
    return operations


def diff_elements(source, target, path):
    """Arrays: common prefix and suffix stay; between them elements are paired, the rest comes or goes."""
    shorter = min(len(source), len(target))
    head = 0
    while head < shorter and same(source[head], target[head]):
        head += 1
    tail = 0
    while tail < shorter - head and same(source[-1 - tail], target[-1 - tail]):
        tail += 1
    source_end, target_end = len(source) - tail, len(target) - tail
    paired = min(source_end, target_end)
    operations = []
    for index in range(head, paired):
        operations += diff(source[index], target[index], f"{path}/{index}")
    # From the end, so that a removal does not move the ones still to come.
    for index in reversed(range(paired, source_end)):
        operations.append({"op": "remove", "path": f"{path}/{index}"})
    for index in range(paired, target_end):
        operations.append({"op": "add", "path": f"{path}/{index}", "value": target[index]})
    return operations
