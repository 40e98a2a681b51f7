"""The settings table of the deployment guide says what the code does."""

import re

from ems.settings import SETTINGS
from tests.architecture.repository import ROOT, texts

ROW = re.compile(
    r"^\| `(?P<name>EMS_[A-Z_]+)` \| (?:`(?P<default>[^`]*)`)? ?\| (?P<meaning>.+) \|$", re.MULTILINE
)
GUIDE = ROOT / "deploy" / "README.md"
ELSEWHERE = {"EMS_SITE_FILE", "EMS_SITE_FOLDER", "EMS_PORT", "EMS_DB_PASSWORD", "EMS_SCREENSHOTS"}
"""Variables of deploy/compose.yaml and of the browser tests, which the service never sees."""


def test_guide_names_exactly_the_settings_with_their_defaults() -> None:
    rows = {row["name"]: row["default"] or "" for row in ROW.finditer(GUIDE.read_text(encoding="utf-8"))}
    assert rows == {setting.name: setting.default for setting in SETTINGS}


def test_documents_and_deployment_files_name_no_setting_that_does_not_exist() -> None:
    known = {setting.name for setting in SETTINGS} | ELSEWHERE
    unknown = {
        (path.relative_to(ROOT).as_posix(), name)
        for path, text in texts()
        if (path.suffix == ".md" or ROOT / "deploy" in path.parents) and "sites" not in path.parts
        for name in re.findall(r"\bEMS_[A-Z_]+\b", text)
        if name not in known
    }
    assert not unknown
