"""What a compiled program starts, read off its text."""

from __future__ import annotations

import math
import re
from functools import cache

#: Instructions of a compiled program that start nothing.
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"}

BYTES = {"pred": 1, "s8": 1, "u8": 1, "f16": 2, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "c64": 8, "c128": 16}


def work_of(text: str) -> tuple[int, int]:
    """Operations that a compiled program starts, loops counted as often as they run, and the bytes that they write."""
    computations, entry = {}, ""
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*\{$", line)
        if head:
            instructions = computations.setdefault(head[2], [])
            entry = head[2] if head[1] else entry
        elif line.startswith("  "):
            instructions.append(line.strip())

    def size(shapes):
        arrays = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
        return sum(BYTES.get(kind, 8) * math.prod(int(n) for n in dims.split(",") if n) for kind, dims in arrays)

    def written(name, line):
        # What is called says what is written: the start of a copy that runs beside others names its operands as well. A
        # slice that is put into an array in place writes only itself.
        called = re.search(r"calls=%?([\w.-]+)", line)
        inside = computations[called[1] if called else name]
        last = next(i for i in inside if i.startswith("ROOT ")) if called else line
        put = re.search(r"dynamic-update-slice\(%?[\w.-]+, %?([\w.-]+)", last)
        line = next(i for i in inside if i.startswith(f"%{put[1]} = ")) if put else last
        return size(re.split(r" [a-z][a-z-]*\(", line.split(" = ", 1)[1], maxsplit=1)[0])

    @cache
    def work(name):
        count = total = 0
        for line in computations[name]:
            code = re.search(r"[\]})] ([a-z][a-z-]*)\(", line)
            if not code or code[1] in FREE or code[1].endswith("-done"):
                continue
            inner = re.findall(r"(?:body|condition|to_apply|true_computation|false_computation)=%?([\w.-]+)", line)
            branches = re.search(r"branch_computations=\{([^}]*)\}", line)
            if code[1] == "while":
                # Where XLA knows how often a loop turns, it asks no condition.
                trips = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
                parts = [work(part) for part in (re.findall(r"body=%?([\w.-]+)", line) if trips else inner)]
                count += (int(trips[1]) if trips else 1) * sum(c for c, _ in parts)
                total += (int(trips[1]) if trips else 1) * sum(w for _, w in parts)
            elif code[1] in ("call", "conditional"):
                inner += [part.strip().lstrip("%") for part in branches[1].split(",")] if branches else []
                parts = [work(part) for part in inner]
                count, total = count + max(c for c, _ in parts), total + max(w for _, w in parts)
            else:
                count, total = count + 1, total + written(name, line)
        return count, total

    return work(entry)
