"""The migrations make the tables the code speaks of, and the README tells of each."""

from dataclasses import fields
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import ems.store
from ems.errors import StoreError
from ems.store import Retention, Store
from ems.store.tables import metadata

VERSIONS = Path(ems.store.__file__).parent / "migrations" / "versions"


def test_migrations_and_tables_agree(store: Store) -> None:
    with store._database.reading() as conn:
        differences = compare_metadata(
            MigrationContext.configure(conn, opts={"compare_type": True}), metadata
        )
    assert differences == []


def test_opening_again_changes_nothing(url: str) -> None:
    for _ in range(2):
        store = Store.open(url)
        with store._database.reading() as conn:
            (version,) = conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalars()
            assert version == max(path.stem[:4] for path in VERSIONS.glob("[0-9]*.py"))
        store.close()


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    store = Store.open(url)
    with store._database.writing() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match=r"newer version.*schema 9999"):
        Store.open(url)
    engine = sa.create_engine(store._database.engine.url)
    with engine.connect() as conn:
        assert conn.execute(sa.text("SELECT version_num FROM alembic_version")).scalar() == "9999"
    engine.dispose()


def test_a_database_of_something_else_is_refused(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        conn.execute(sa.text("CREATE TABLE recipes (name TEXT)"))
    engine.dispose()
    with pytest.raises(StoreError, match="something else"):
        Store.open(url)


def test_every_table_is_in_the_readme() -> None:
    readme = (Path(ems.store.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert [name for name in metadata.tables if f"`{name}`" not in readme] == []


def test_every_retention_is_in_the_readme_with_its_default() -> None:
    readme = (Path(ems.store.__file__).parent / "README.md").read_text(encoding="utf-8")
    defaults = {field.name: getattr(Retention(), field.name) for field in fields(Retention)}
    assert [name for name, value in defaults.items() if f"| `{name}` | {value} |" not in readme] == []


def test_the_tables_of_a_fast_loop_are_clustered_by_site(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'ems.sqlite'}")
    with store._database.reading() as conn:
        made = dict(conn.execute(sa.text("SELECT name, sql FROM sqlite_master WHERE type = 'table'")).all())
    assert all(
        "WITHOUT ROWID" in made[name] for name in ("readings", "reading_means", "accounts", "setpoints")
    )
    store.close()
