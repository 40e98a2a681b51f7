"""The tables, once, for SQLite and PostgreSQL.

Instants are integers: milliseconds since 1970-01-01 UTC, rounded down (`_ms`). SQLite has no instants with offset, and a
text or naive column would shift them silently. Every primary key names what a row stands for, so a repeated write
meets its own row; `README.md` states each table's rule for that meeting.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
)

metadata = MetaData(
    naming_convention={"pk": "pk_%(table_name)s", "ix": "ix_%(table_name)s_%(column_0_N_name)s"}
)

sites = Table("sites", metadata, Column("site_id", Text, primary_key=True), sqlite_with_rowid=False)

layouts = Table(
    "layouts",
    metadata,
    Column("layout_id", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Text, nullable=False),
)

readings = Table(
    "readings",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("usable", Integer, nullable=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("troubles", Text),
    PrimaryKeyConstraint("site_id", "at_ms"),
    sqlite_with_rowid=False,
)

reading_means = Table(
    "reading_means",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("span_s", Integer, nullable=False),
    Column("passes", Integer, nullable=False),
    Column("layout_id", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("site_id", "start_ms"),
    sqlite_with_rowid=False,
)

accounts = Table(
    "accounts",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("hours", Double, nullable=False),
    Column("quality", SmallInteger, nullable=False),
    Column("curtailed", Boolean, nullable=False),
    Column("import_kwh", Double),
    Column("export_kwh", Double),
    Column("load_kwh", Double),
    Column("pv_kwh", Double),
    Column("charged_kwh", Double),
    Column("discharged_kwh", Double),
    Column("vehicle_kwh", Double),
    Column("stored_kwh", Double),
    Column("buy_per_kwh", Double, nullable=False),
    Column("sell_per_kwh", Double, nullable=False),
    Column("cost", Double),
    Column("cost_idle", Double),
    Column("planned_import_kw", Double),
    PrimaryKeyConstraint("site_id", "start_ms"),
    sqlite_with_rowid=False,
)

forecasts = Table(
    "forecasts",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("series", Text, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("start_ms", BigInteger, nullable=False),
    Column("step_s", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("quality", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("paths", SmallInteger, nullable=False, server_default="3"),
    PrimaryKeyConstraint("site_id", "series", "issued_at_ms"),
)

forecast_scores = Table(
    "forecast_scores",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("day_ms", BigInteger, nullable=False),
    Column("series", Text, nullable=False),
    Column("lead_h", SmallInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("scored", Integer, nullable=False),
    Column("truth_kw", Double, nullable=False),
    Column("size_kw", Double, nullable=False),
    Column("error_kw", Double, nullable=False),
    Column("abs_error_kw", Double, nullable=False),
    Column("squared_error_kw2", Double, nullable=False),
    Column("pinball_kw", Double, nullable=False),
    Column("banded", Integer, nullable=False),
    Column("inside", Integer, nullable=False),
    Column("compared", Integer, nullable=False),
    Column("compared_abs_error_kw", Double, nullable=False),
    Column("naive_abs_error_kw", Double, nullable=False),
    Column("compared_pinball_kw", Double, nullable=False),
    Column("naive_pinball_kw", Double, nullable=False),
    PrimaryKeyConstraint("site_id", "day_ms", "series", "lead_h", "source"),
    Index(None, "day_ms"),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    Column("kind", Text, nullable=False),
    Column("fleet", Text, nullable=False),
    Column("fitted_at_ms", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("kind", "fleet", "fitted_at_ms"),
)

plans = Table(
    "plans",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("decided_at_ms", BigInteger, nullable=False),
    Column("issued_at_ms", BigInteger, nullable=False),
    Column("valid_until_ms", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("site_id", "decided_at_ms"),
)

records = Table(
    "records",
    metadata,
    Column("at_ms", BigInteger, nullable=False),
    Column("site_id", Text, nullable=False),
    Column("position", Integer, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("at_ms", "site_id"),
)

cycles = Table(
    "cycles",
    metadata,
    Column("at_ms", BigInteger, primary_key=True, autoincrement=False),
    Column("took_ms", Double, nullable=False),
    Column("missed", Integer, nullable=False),
    Column("overlapped", Integer, nullable=False),
    Column("n_sites", Integer, nullable=False),
    Column("n_fallback", Integer, nullable=False),
    Column("n_troubles", Integer, nullable=False),
)

setpoints = Table(
    "setpoints",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("quantity", Text, nullable=False),
    Column("value_kw", Double),
    Column("valid_from_ms", BigInteger, nullable=False),
    Column("valid_until_ms", BigInteger, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("source", Text, nullable=False),
    Column("reason", Text),
    Column("reverts_to", Text, nullable=False),
    Index(None, "site_id", "valid_from_ms"),
    sqlite_with_rowid=False,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("setpoint_id", Text, primary_key=True),
    Column("site_id", Text, nullable=False),
    Column("asset", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("held_kw", Double),
    Column("at_ms", BigInteger, nullable=False),
    Column("written", Boolean, nullable=False),
    Column("detail", Text, nullable=False),
    Column("watched_s", Double),
    Column("followed_frac", Double),
    Column("apart_kw", Double),
    Index(None, "site_id", "at_ms"),
    sqlite_with_rowid=False,
)

acknowledgements = Table(
    "acknowledgements",
    metadata,
    Column("setpoint_id", Text, nullable=False),
    Column("controller", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("site_id", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("value_kw", Double),
    Column("at_ms", BigInteger, nullable=False),
    Column("arrived_ms", BigInteger, nullable=False),
    Column("late", Boolean, nullable=False),
    Column("detail", Text, nullable=False),
    PrimaryKeyConstraint("setpoint_id", "controller", "state"),
    Index(None, "site_id", "arrived_ms"),
    sqlite_with_rowid=False,
)

edges = Table(
    "edges",
    metadata,
    Column("at_ms", BigInteger, nullable=False),
    Column("site_id", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("became", Text, nullable=False),
    Column("cause", Text, nullable=False),
    PrimaryKeyConstraint("at_ms", "site_id", "subject", "became"),
    Index(None, "site_id", "at_ms"),
    sqlite_with_rowid=False,
)

device_memories = Table(
    "device_memories",
    metadata,
    Column("site_id", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("site_id", "device"),
)

orders = Table(
    "orders",
    metadata,
    Column("id", Text, primary_key=True),
    Column("site_id", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("asset", Text),
    Column("value_kw", Double),
    Column("from_ms", BigInteger, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
    Column("note", Text, nullable=False),
    Column("ended_ms", BigInteger),
    Column("ended_by", Text),
    Index(None, "until_ms"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("site_ids", Text),
    Column("label", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)
