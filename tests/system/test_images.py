"""Images where a unit test cannot make them: a full disk, another user, the engines' own stores, a whole run."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import stat
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tare.bench.records import store
from tare.runners.image import kept, shapes, sources
from tare.runners.image.shapes.oci import architecture
from tests import cli
from tests.conftest import require, wait_until
from tests.unit.runners.image.making import file, folder, layout, tar, write

NOBODY = 65534


@pytest.fixture(autouse=True)
def _root() -> None:
    require("root", os.geteuid() == 0, "this is not root")


# ---- a disk that is full ---------------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 4 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.mark.parametrize("mib", [3, 8])
def test_a_full_disk_is_said_and_nothing_half_made_stays(disk: Path, tmp_path: Path, mib: int) -> None:
    """8 MiB do not fit, 3 MiB do, but not twice."""
    write(tmp_path / "large.tar", [folder("bin"), file("bin/sh", os.urandom(mib << 20)), file("late", b"x")])
    build = ("image", "build", f"tar:{tmp_path}/large.tar")
    words = build if mib > 4 else (*build, "--shape", "tar")
    done = cli.tare(*words, TARE_CACHE=str(disk))
    assert (done.returncode, done.stdout) == (6, "")
    assert "No space left on device" in done.stderr
    assert str(disk) in done.stderr
    assert "make room there" in done.stderr.splitlines()[-1]
    left = sorted(path.name for path in (disk / "images").iterdir())
    assert [name for name in left if not name.startswith("tar-")] == []
    assert len(left) == (1 if mib < 4 else 0)
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    assert cli.tare(*words, TARE_CACHE=str(disk)).returncode == 0
    assert cli.tare("image", "verify", TARE_CACHE=str(disk)).returncode == 0


# ---- another user ----------------------------------------------------------------------------------------------------


def test_a_user_who_is_not_root_gets_files_that_are_theirs(tmp_path: Path) -> None:
    place = Path(tempfile.mkdtemp(prefix="tare-images-"))
    try:
        place.chmod(0o777)
        members = [
            folder("closed", mode=0o000), file("closed/file", b"x", mode=0o000, uid=33), file("su", b"", mode=0o4755),
        ]  # fmt: skip
        write(place / "a.tar", members)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            sources.find(f"tar:{place}/a.tar", place / "cache")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        (one,) = kept.every(place / "cache")
        found = {path.relative_to(one.directory): path.lstat() for path in one.directory.rglob("*")}
        assert {(status.st_uid, status.st_gid) for status in found.values()} == {(NOBODY, NOBODY)}
        assert stat.S_IMODE(found[Path("closed")].st_mode) == 0o700
        assert stat.S_IMODE(found[Path("closed/file")].st_mode) == 0o400
        assert stat.S_IMODE(found[Path("su")].st_mode) == 0o4755
        root = sources.find(f"tar:{place}/a.tar", place / "cache").directory
        assert root != one.directory  # root's own has the owners of the archive
        assert (root / "closed" / "file").stat().st_uid == 33
    finally:
        shutil.rmtree(place)


# ---- the engines' own stores -----------------------------------------------------------------------------------------


def test_podman_loads_what_tare_makes_and_gives_the_same_back(tmp_path: Path) -> None:
    require("podman", shutil.which("podman"), "no podman on PATH")
    image = sources.find(f"oci:{_server(tmp_path)}", tmp_path / "cache")
    archive = image.shape("oci-archive")
    name = shapes.reference(archive)
    subprocess.run(["podman", "load", "--quiet", "--input", archive], check=True, capture_output=True)
    try:
        again = sources.find(f"podman:{name}", tmp_path / "cache")
        assert (again.source, again.digest, again.config) == (f"podman:{name}", image.digest, image.config)
        assert again.directory != image.directory
        done = cli.tare("image", "build", f"podman:{name}-none", TARE_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 2
        assert "podman image inspect" in done.stderr
    finally:
        subprocess.run(["podman", "rmi", name], check=True, capture_output=True)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A dockerd of the test's own, which ``docker`` finds."""
    for program in ("dockerd", "docker"):
        require("docker", shutil.which(program), f"no {program} on PATH")
    place = Path(f"/tmp/tare-images-{secrets.token_hex(3)}")
    place.mkdir()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/s")
    words = [
        "dockerd", "--host", f"unix://{place}/s", "--data-root", f"{place}/data", "--storage-driver", "vfs",
        "--exec-root", f"{place}/exec", "--pidfile", f"{place}/pid", "--bridge=none", "--iptables=false",
        "--ip6tables=false",
    ]  # fmt: skip
    with (place / "log").open("wb") as log:
        running = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        wait_until(lambda: running.poll() is not None or _answers(), 60)
        said = (place / "log").read_text(errors="replace").strip().splitlines()[-1:]
        require("docker", running.poll() is None, f"dockerd ended: {said}")
        yield
    finally:
        running.terminate()
        running.wait(60)
        shutil.rmtree(place, ignore_errors=True)


def _answers() -> bool:
    return subprocess.run(["docker", "version"], capture_output=True, check=False).returncode == 0


def test_docker_loads_what_tare_makes_and_gives_the_same_back(docker: None, tmp_path: Path) -> None:
    image = sources.find(f"oci:{_server(tmp_path)}", tmp_path / "cache")
    archive = image.shape("docker-archive")
    name = shapes.reference(archive)
    subprocess.run(["docker", "load", "--quiet", "--input", archive], check=True, capture_output=True)
    again = sources.find(f"docker:{name}", tmp_path / "cache")
    assert (again.digest, again.config) == (image.digest, image.config)


def _server(tmp_path: Path) -> Path:
    """An OCI layout of two layers, with all that a layer can have and a configuration."""
    base = tar([
        folder("bin"), file("bin/serve", b"#!/bin/sh\n", mode=0o4755), folder("srv", mode=0o1777, uid=33, gid=33),
        file("srv/old", b"old"), file("srv/caf\u00e9", b"x", uid=33, gid=33),
    ])  # fmt: skip
    config = {
        "Cmd": ["/bin/serve"],
        "Env": ["A=b"],
        "User": "33:33",
        "WorkingDir": "/srv",
        "ExposedPorts": {"80/tcp": {}},
    }
    return layout(tmp_path / "layout", [base, tar([file("srv/.wh.old"), file("srv/new", b"new")])], config)


# ---- a whole run -----------------------------------------------------------------------------------------------------

SCENARIO = """
schema = 1
question = "How long does a shell take, in an image that holds nothing else?"
[run]
rounds = 1
warmup = 0
[workload]
image = "{image}"
command = ["/bin/sh", "-c", "exit 0"]
ready = {{ exit = 0 }}
[[subjects]]
label = "container"
runner = "container"
"""


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A tar beside the scenario, with a static shell."""
    program = shutil.which("busybox")
    require("busybox", program, "no busybox on PATH")
    shell = Path(program or "").read_bytes()
    return write(tmp_path / "image.tar", [folder("bin"), file("bin/sh", shell, mode=0o755)])


def test_a_run_has_the_image_s_digest_in_its_record_and_on_its_page(archive: Path, tmp_path: Path) -> None:
    scenario = tmp_path / "mine.toml"
    scenario.write_text(SCENARIO.format(image="tar:image.tar"))
    done = cli.tare("run", scenario, "--results", tmp_path, "-s", "container", TARE_CACHE=str(tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    run = Path(done.stdout.splitlines()[-1])
    (one,) = kept.every(tmp_path / "cache")
    (subject,) = [one for one in store.load_header(run).subjects if one.label == "container"]
    assert subject.image is not None
    assert (subject.image.source, subject.image.digest) == (f"tar:{archive}", one.record.digest)
    assert one.record.digest in (run / "report.html").read_text()
    told = json.loads(cli.tare("report", run, "--json").stdout)
    assert {one["label"]: one["image"] for one in told["subjects"]}["container"]["digest"] == subject.image.digest


def test_a_program_of_another_machine_is_said_before_anything_starts(archive: Path, tmp_path: Path) -> None:
    shell = bytearray((Path(shutil.which("busybox") or "")).read_bytes())
    struct.pack_into("<H", shell, 18, 183 if architecture() == "amd64" else 62)
    write(archive, [folder("bin"), file("bin/sh", bytes(shell), mode=0o755)])
    scenario = tmp_path / "mine.toml"
    scenario.write_text(SCENARIO.format(image="tar:image.tar"))
    done = cli.tare("run", scenario, "--results", tmp_path, "-s", "container", TARE_CACHE=str(tmp_path / "cache"))
    assert done.returncode != 0
    assert f"this host is {architecture()}" in done.stderr


def test_a_hostile_archive_skips_its_subject_with_the_reason(archive: Path, tmp_path: Path) -> None:
    write(archive, [file("../../escaped", b"x")])
    scenario = tmp_path / "mine.toml"
    scenario.write_text(SCENARIO.format(image="tar:image.tar"))
    done = cli.tare("run", scenario, "--results", tmp_path, "-s", "container", TARE_CACHE=str(tmp_path / "cache"))
    assert done.returncode != 0
    assert "leads out of a directory" in done.stderr
    assert not list(tmp_path.rglob("escaped"))
