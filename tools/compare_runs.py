"""Print one table of several results: ablations, or one target driven by several sources.

    python tools/compare_runs.py reenactment_result/<A>2<B>/* [--csv table.csv]

A row is a result that evaluate.py has measured. Columns are the chain's image measures against the true target, where
it is known, and the correlations of source and result for each action unit with their mean, as in the paper's tables.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from utils.ending import call_main

from inference.measures import AU_MEAN, EXPRESSION_OF, FOLLOWS, IMAGE_MEASURES
from inference.record import SCORES_FILE
from utils import cli
from utils.errors import DataError
from utils.files import check_outputs, read_text, write_text

TRUTHS = ("chain, against the true target", "result")  # of two people, and of a person that drives itself
SHOWN = ("PSNR", "face PSNR", "SSIM")
MAX_RESULTS = 1000


def columns() -> dict[str, tuple[tuple[str, ...], str, str]]:
    """Return subjects, name and format of each column's measure by the column's heading."""
    images = {name: (TRUTHS, name, words.split()[0]) for name, words, _ in IMAGE_MEASURES if name in SHOWN}
    units = [name for name in EXPRESSION_OF if name.startswith("AU")]
    return (
        images
        | {name.split()[0]: ((FOLLOWS,), name, "{:.2f}") for name in units}
        | {"mean AU": ((FOLLOWS,), AU_MEAN, "{:.2f}")}
    )


def read_scores(folder: Path) -> dict[tuple[str, str], float | None]:
    """Read a result's scores by subject and name. Raises DataError if they are missing or damaged."""
    path = folder / SCORES_FILE
    try:
        return {(score["of"], score["name"]): score["value"] for score in json.loads(read_text(path))}
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: no scores; run 'python evaluate.py {folder}' first") from None
    except (ValueError, TypeError, KeyError, RecursionError):
        raise DataError(f"{path}: damaged; run 'python evaluate.py {folder}' again") from None


def row_of(folder: Path) -> list[str]:
    """Return the cells of a result; '' is not measured."""
    scores = read_scores(folder)
    cells = [f"{folder.resolve().parent.name}/{folder.resolve().name}"]
    for subjects, name, words in columns().values():
        value = next((scores[of, name] for of in subjects if isinstance(scores.get((of, name)), float)), None)
        cells.append("" if value is None else words.format(value))
    return cells


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=cli.path, metavar="RESULT", help="a result folder")
    parser.add_argument("--csv", type=cli.path, metavar="FILE.csv", help="also write the table to a file")
    args = parser.parse_args()
    if len(args.results) > MAX_RESULTS:
        parser.error(f"at most {MAX_RESULTS} results")
    check_outputs({"--csv": args.csv}, args.results, ".csv")
    return args


def main() -> None:
    args = parse_args()
    rows = [["result", *columns()], *map(row_of, args.results)]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for first, *cells in rows:
        print("  ".join([first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(cells, widths[1:]))]))
    if args.csv:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        write_text(args.csv, text.getvalue())


if __name__ == "__main__":
    call_main(main)
