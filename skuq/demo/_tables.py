"""Plain-text tables."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right.

    Parameters
    ----------
    header : sequence of str
    rows : sequence of sequence of str
        Cells, already formatted; as many in each row as in `header`.

    Returns
    -------
    str

    Examples
    --------
    >>> print(table(["method", "RMSE"], [["BNN", "55.1"], ["SNGP", "9.2"]]))
    method  RMSE
    ------------
    BNN     55.1
    SNGP     9.2
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[j]) for line in lines) for j in range(len(header))]
    text = []
    for first, *others in lines:
        cells = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(others, widths[1:], strict=True))]
        text.append("  ".join(cells).rstrip())
    return "\n".join([text[0], "-" * max(map(len, text)), *text[1:]])
