"""What a long test held against how much, for whoever reads a night's figures: lines that ``tests.night`` adds up."""

import re

_LINE = re.compile(r"^shown: ([a-z_]+) (\d+) (\S+)$", re.MULTILINE)


def show(counts, unit_of):
    """Print counts, a line each: ``shown: prices 262144 prices``. ``unit_of``: by name."""
    for name, number in counts.items():
        print(f"shown: {name} {int(number)} {unit_of[name]}")


def shown(printed):
    """Return the sums of what tests have shown, with their units, by name."""
    found = {}
    for name, number, unit in _LINE.findall(printed):
        found[name] = (found.get(name, (0.0, unit))[0] + float(number), unit)
    return found
