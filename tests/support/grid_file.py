"""The header of a grid file."""

HEADER = "".join(f'{name} = "a test"\n' for name in ("claim", "source", "expected", "cost", "command"))
