"""docs/controllers.md is followed word by word: every shell block runs, in order, against a real service."""

import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "controllers.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sh ?(?P<section>\w*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(found["section"], found["code"]) for found in BLOCK.finditer(PAGE)]
NEEDS = {
    "mqtt": ("mosquitto", "mosquitto_pub", "mosquitto_passwd"),
    "http": (),
    "webhook": ("openssl",),
    "bacnet": (),
}
PATH = f"{ROOT / '.venv' / 'bin'}:/usr/sbin:{os.environ['PATH']}"


def free_ports(*kinds: socket.SocketKind) -> list[int]:
    probes = [socket.socket(socket.AF_INET, kind) for kind in kinds]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def test_the_page_has_commands_for_every_channel() -> None:
    assert {section for section, _ in BLOCKS} == {"", *NEEDS}


@pytest.mark.service
@pytest.mark.timeout(240)
@pytest.mark.parametrize("section", NEEDS)
def test_following_the_page_ends_in_an_acknowledgement_on_record(section: str, tmp_path: Path) -> None:
    for program in ("bash", "curl", "jq", *NEEDS[section]):
        if shutil.which(program, path=PATH) is None:
            pytest.skip(f"{program} is not installed")
    web, mqtt, webhook, bacnet = free_ports(
        socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_STREAM, socket.SOCK_DGRAM
    )
    code = "".join(code for found, code in BLOCKS if found in ("", section))
    environment = {
        "PATH": PATH, "HOME": str(tmp_path), "PRACTICE": str(tmp_path / "practice"), "PORT": str(web),
        "MQTT_PORT": str(mqtt), "WEBHOOK_PORT": str(webhook), "BACNET_PORT": str(bacnet),
    }  # fmt: skip
    with (tmp_path / "said").open("w+", encoding="utf-8") as said:
        shell = subprocess.Popen(
            ["bash", "-c", f"set -euo pipefail\n{code}\necho followed to its end"],
            cwd=ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = shell.wait(timeout=180)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            os.killpg(shell.pid, signal.SIGTERM)  # what the page leaves in the background
        said.seek(0)
        told = said.read()
    assert status == 0, told[-5000:]
    assert "followed to its end" in told
