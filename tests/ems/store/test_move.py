"""A store moves to another database with everything in it, and back."""

from datetime import timedelta
from pathlib import Path

from ems.access import AccessRole, new_key
from ems.codec import to_json
from ems.store import Store
from ems.store.move import copy, main
from ems.store.synthetic import Street
from tests.ems.store.conftest import AT, QUARTER


def test_everything_moves_and_may_be_moved_again(url: str, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path / 'old.sqlite'}"
    old = Store.open(other)
    street = Street(n_sites=3)
    records = [street.cycle(AT + i * QUARTER) for i in range(3)]
    for record in records:
        old.save_cycle(record)
    _, key = new_key(role=AccessRole.OPERATOR, site_ids=None, label="operations", at=AT)
    old.add_key(key)
    span = ("home00001", AT - timedelta(hours=1), AT + timedelta(hours=1))
    accounts, setpoints, samples = (
        old.accounts(*span),
        old.setpoints(*span),
        old.latest_samples(["home00001"]),
    )
    old.close()
    for _ in range(2):
        counts = {copied.table: copied.rows for copied in copy(other, url)}
    assert (counts["readings"], counts["records"], counts["api_keys"]) == (9, 12, 1)
    new = Store.open(url)
    for record in records:
        found = new.record(record.at)
        assert found is not None
        assert to_json(found) == to_json(record)
    assert new.accounts(*span) == accounts
    assert new.setpoints(*span) == setpoints
    assert new.latest_samples(["home00001"]) == samples
    assert new.list_keys() == (key,)
    new.close()


def test_a_wrong_url_is_one_line_and_status_two(capsys, tmp_path: Path) -> None:
    assert main([f"sqlite:///{tmp_path / 'no' / 'ems.sqlite'}", "sqlite://"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert main([]) == 2
