"""Copies one store into another: from a SQLite file to PostgreSQL, or back.

python -m ems.store.move sqlite:////var/lib/ems/ems.sqlite postgresql://ems@db/ems
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import sqlalchemy as sa

from ems.errors import EmsError
from ems.store.database import connect
from ems.store.schema import migrate
from ems.store.tables import metadata

ROWS_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Copied:
    """One table."""

    table: str
    """Its name."""
    rows: int
    """Rows of the source; those the target had already stayed as they were."""


def copy(source_url: str, target_url: str) -> Iterator[Copied]:
    """Copy every table, one after the other; rows that are there already stay. May be run again.

    Nothing else may write to the source meanwhile.
    """
    source, target = connect(source_url), connect(target_url)
    try:
        migrate(source)
        migrate(target)
        for table in metadata.sorted_tables:
            rows = 0
            with source.reading() as reader:
                found = reader.execution_options(yield_per=ROWS_AT_ONCE).execute(sa.select(table))
                for batch in found.mappings().partitions():
                    with target.writing() as writer:
                        writer.execute(
                            target.insert(table).on_conflict_do_nothing(), [dict(row) for row in batch]
                        )
                    rows += len(batch)
            yield Copied(table=table.name, rows=rows)
    finally:
        source.engine.dispose()
        target.engine.dispose()


def main(arguments: list[str]) -> int:
    """Run from the command line; return the exit status."""
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m ems.store.move SOURCE_URL TARGET_URL\n")
        return 2
    try:
        for copied in copy(*arguments):
            sys.stdout.write(f"{copied.table}: {copied.rows} rows\n")
    except EmsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
