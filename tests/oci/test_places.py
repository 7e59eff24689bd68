"""Where mounts come to stand: links of the image, destinations that are not there, file systems that are read-only."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.oci import config
from tests.oci.harness import Box
from tests.oci.test_mounts import mountinfo, options


@pytest.fixture
def source(box: Box) -> Path:
    made = box.directory / "source"
    made.write_text("outside\n")
    return made


# -- links of the image


@pytest.mark.parametrize(
    "link",
    [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/systemd/resolve/stub-resolv.conf",
        "../../../../../run/systemd/resolve/stub-resolv.conf",
        "../run/./systemd//resolve/../resolve/stub-resolv.conf",
    ],
)
@pytest.mark.deviates("crun", "1.8 does not follow it", only=["../run/./", "../../"])
def test_a_link_to_nowhere(box: Box, source: Path, link: str) -> None:
    """Distributions ship /etc/resolv.conf so. What it asks for is made inside, and nothing outside."""
    (box.rootfs / "etc" / "resolv.conf").symlink_to(link)
    box.mount("/etc/resolv.conf", "bind", source, "bind")
    assert box.sh("cat /etc/resolv.conf /run/systemd/resolve/stub-resolv.conf").ok().lines == ["outside"] * 2
    assert (box.rootfs / "run" / "systemd" / "resolve").is_dir()
    assert not (box.bundle / "run").exists()


@pytest.mark.deviates("crun", "1.8 does not follow it")
def test_a_chain_of_links_to_nowhere(box: Box, source: Path) -> None:
    (box.rootfs / "etc" / "a").symlink_to("b")
    (box.rootfs / "etc" / "b").symlink_to("/c/d")
    (box.rootfs / "c").symlink_to("e")
    box.mount("/etc/a", "bind", source, "bind")
    assert box.sh("cat /etc/a /e/d").ok().lines == ["outside"] * 2


@pytest.mark.deviates("crun", "1.8 does not follow it")
def test_a_directory_behind_a_link_to_nowhere(box: Box) -> None:
    (box.rootfs / "var").symlink_to("/data/var")
    box.mount("/var/deep/target", "tmpfs", "tmpfs")
    options(mountinfo(box), "/data/var/deep/target")


@pytest.mark.parametrize("links", [{"a": "b", "b": "a"}, {"a": "a"}, {"a": "/etc/../a"}, {"a": "b/x", "b": "a"}])
def test_links_in_a_circle_are_refused(box: Box, source: Path, links: dict[str, str]) -> None:
    for name, target in links.items():
        (box.rootfs / name).symlink_to(target)
    box.mount("/a", "bind", source, "bind")
    done = box.run("/bin/true")
    if box.runtime.ours:
        assert "symbolic links" in done.refused().err
    assert not source.is_symlink()


def test_a_link_that_would_lead_out_stays_inside(box: Box, source: Path) -> None:
    target = box.directory / "not-made"
    (box.rootfs / "etc" / "out").symlink_to(target)
    box.mount("/etc/out", "bind", source, "bind")
    box.run("/bin/true")
    assert not target.exists()


@pytest.mark.parametrize("target", ["proc", "sys"])
@pytest.mark.parametrize("there", [False, True])
def test_proc_and_sys_behind_a_link_are_refused(box: Box, target: str, there: bool) -> None:
    """The masks would lie elsewhere, and a program would read what an image has put there."""
    (box.rootfs / target).rmdir()
    (box.rootfs / target).symlink_to("elsewhere")
    if there:
        (box.rootfs / "elsewhere").mkdir()
    done = box.run("/bin/true").refused()
    assert target in done.err or not box.runtime.ours


# -- read-only file systems


def test_a_read_only_tmpfs(box: Box) -> None:
    box.mount("/target", "tmpfs", "tmpfs", "ro", "nosuid", "mode=755")
    assert {"ro", "nosuid", "mode=755"} <= options(mountinfo(box), "/target")


def test_mounts_below_a_read_only_tmpfs(box: Box, source: Path) -> None:
    """Their places are made before it becomes read-only."""
    box.mount("/target", "tmpfs", "tmpfs", "ro")
    box.mount("/target/file", "bind", source, "bind")
    box.mount("/target/deep/other", "tmpfs", "tmpfs")
    done = box.sh("cat /target/file; touch /target/deep/other/x && echo written; touch /target/x; touch /target/deep/x")
    assert done.lines == ["outside", "written"]
    assert done.err.count("Read-only file system") == 2


@pytest.mark.deviates("runc", "1.1 makes the wrong one read-only")
@pytest.mark.deviates("crun", "1.8 makes the wrong one read-only")
def test_a_read_only_tmpfs_below_another_mount(box: Box) -> None:
    """It is the one that was asked for, not the one that covers it."""
    box.mount("/target", "tmpfs", "tmpfs", "ro", "size=1m")
    box.mount("/target/sub", "tmpfs", "tmpfs", "size=2m")
    box.mount("/target", "tmpfs", "tmpfs", "size=3m")
    lines = [line for line in mountinfo(box) if line.split(" ")[4] == "/target"]
    assert [line.split(" ")[5].split(",")[0] for line in lines] == ["ro", "rw"]


def test_a_read_only_dev(box: Box) -> None:
    """Its devices and links are there, and nothing can be made beside them; its own mounts stay writable."""
    box.config["mounts"][1]["options"].append("ro")
    done = box.sh("[ -c /dev/null ] && [ -L /dev/fd ] && echo there; touch /dev/shm/x && echo written; touch /dev/x")
    assert done.lines == ["there", "written"]
    assert "Read-only file system" in done.err


@pytest.mark.parametrize("place", ["/dev", "/"])
def test_a_terminal_on_a_read_only_dev(box: Box, place: str) -> None:
    """/dev/console has its place before /dev, or the root with its own /dev, becomes read-only."""
    if place == "/":
        box.config["root"]["readonly"] = True
        box.config["mounts"] = [
            each for each in box.config["mounts"] if each["destination"] not in ("/dev", "/dev/shm", "/dev/mqueue")
        ]
    else:
        box.config["mounts"][1]["options"].append("ro")
    box.process["terminal"] = True
    box.process["args"] = ["/bin/sh", "-c", "[ -c /dev/console ] && echo there"]
    box.save()
    done = subprocess.run(
        ["script", "-qec", shlex.join(box.command("run", "--bundle", str(box.bundle), box.name)), "/dev/null"],
        capture_output=True, text=True, check=False, timeout=30, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert "there" in done.stdout


def test_a_working_directory_in_a_read_only_tmpfs(box: Box) -> None:
    box.mount("/work", "tmpfs", "tmpfs", "ro")
    box.process["cwd"] = "/work/deep"
    if box.runtime.name == "runc":
        return  # 1.1 makes it after all else
    assert box.run("/bin/pwd").ok().out == "/work/deep\n"


def test_a_read_only_image_that_has_all(box: Box) -> None:
    """Nothing has to be made in it, so it starts, though it lies on a read-only mount and brings its own /dev."""
    mounts = {each["destination"]: each for each in box.config["mounts"]}
    box.config["mounts"] = [mounts["/proc"], mounts["/sys"]]
    for name, (major, minor) in {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9),
                                 "tty": (5, 0)}.items():  # fmt: skip
        os.mknod(box.rootfs / "dev" / name, 0o020666, os.makedev(major, minor))
    for name, target in {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1",
                         "stderr": "/proc/self/fd/2", "ptmx": "pts/ptmx", "core": "/proc/kcore"}.items():  # fmt: skip
        (box.rootfs / "dev" / name).symlink_to(target)
    subprocess.run(["mount", "--bind", "-o", "ro", box.rootfs, box.rootfs], check=True)
    try:
        done = box.run("/bin/ls", "/dev")
    finally:
        subprocess.run(["umount", box.rootfs], check=True)
    if box.runtime.name == "tare-oci":  # the others replace /dev/ptmx, whatever it is
        assert "null" in done.ok().lines


# -- the mode of a tmpfs


@pytest.mark.deviates("crun", "1.8 takes the kernel's mode")
@pytest.mark.parametrize("mode", [0o700, 0o1777, 0o2755, 0o711])
def test_a_tmpfs_has_the_mode_of_what_it_covers(box: Box, mode: int) -> None:
    (box.rootfs / "target").mkdir()
    (box.rootfs / "target").chmod(mode)
    box.mount("/target", "tmpfs", "tmpfs", "nosuid")
    assert box.run("/bin/stat", "-c", "%a", "/target").ok().out == f"{mode:o}\n"


@pytest.mark.deviates("runc", "1.1 takes that of the directory")
def test_a_tmpfs_with_a_mode_of_its_own(box: Box) -> None:
    (box.rootfs / "target").mkdir(mode=0o700)
    box.mount("/target", "tmpfs", "tmpfs", "mode=1777")
    assert box.run("/bin/stat", "-c", "%a", "/target").ok().out == "1777\n"


def test_proc_keeps_its_mode(box: Box) -> None:
    (box.rootfs / "proc").chmod(0o700)
    assert box.run("/bin/stat", "-c", "%a", "/proc").ok().out == "555\n"


# -- masks


def test_a_masked_file_cannot_be_removed(box: Box) -> None:
    """It is busy; on a read-only root, read-only."""
    (box.rootfs / "etc" / "secret").write_text("secret")
    (box.rootfs / "etc" / "secret").chmod(0o444)
    box.linux["maskedPaths"] += ["/etc/secret"]
    assert "busy" in box.run("/bin/rm", "-f", "/etc/secret").err
    box.config["root"]["readonly"] = True
    assert "Read-only file system" in box.run("/bin/rm", "-f", "/etc/secret").err


def test_a_masked_link_masks_what_it_leads_to(box: Box) -> None:
    (box.rootfs / "etc" / "secret").write_text("secret")
    (box.rootfs / "link").symlink_to("/etc/secret")
    (box.rootfs / "nowhere").symlink_to("/no/such/file")
    box.linux["maskedPaths"] += ["/link", "/nowhere"]
    done = box.sh("cat /etc/secret /link | wc -c").ok()
    assert done.lines == ["0"]


def test_a_masked_directory_with_mounts(box: Box, source: Path) -> None:
    box.mount("/target", "tmpfs", "tmpfs")
    box.mount("/target/file", "bind", source, "bind")
    box.linux["maskedPaths"] += ["/target"]
    assert box.run("/bin/ls", "-A", "/target").ok().out == ""


def test_a_masked_mount_of_a_file(box: Box, source: Path) -> None:
    box.mount("/target", "bind", source, "bind", "ro")
    box.linux["maskedPaths"] += ["/target"]
    assert box.run("/bin/cat", "/target").ok().out == ""
    assert source.read_text() == "outside\n"


@pytest.mark.deviates("crun", "1.8 binds without the flags of what is below")
def test_read_only_paths_keep_the_flags_of_their_mount(box: Box) -> None:
    (box.directory / "dir").mkdir()
    box.mount("/target", "bind", box.directory / "dir", "rbind", "nosuid", "noexec", "nodev")
    box.linux["readonlyPaths"] += ["/target"]
    assert {"ro", "nosuid", "noexec", "nodev"} <= options(mountinfo(box), "/target")


# -- many


@pytest.mark.parametrize("kind", ["plain", "user namespace", "idmap"])
@pytest.mark.deviates("runc", "1.1 has no mapped mounts", only=["idmap"])
@pytest.mark.deviates("runc", "1.1 opens all before", only=["user"])
@pytest.mark.deviates("runc", "1.1.5 hands its own limit on", only=["plain"])
@pytest.mark.deviates("crun", "1.8 opens all before", only=["user", "idmap", "plain"])
def test_more_binds_than_descriptors(box: Box, kind: str) -> None:
    """The soft limit is no limit of mounts, and the container has it as it was."""
    if kind != "plain":
        config.with_user_namespace(box.config)
        for path in (box.rootfs, *box.rootfs.rglob("*")):
            os.chown(path, 100_000, 100_000, follow_symlinks=False)
    source = box.directory / "dir"
    source.mkdir()
    box.mount("/many", "tmpfs", "tmpfs", "mode=755")
    for number in range(1100):
        box.mount(f"/many/{number}", "bind", source, "bind", *(["idmap"] if kind == "idmap" else []))
    limit = ("/bin/sh", "-c", 'ulimit -Sn 1024; exec "$@"', "sh")
    done = box.sh("grep -c ' /many/' /proc/self/mountinfo; ulimit -Sn", prefix=limit).ok()
    assert done.lines == ["1100", "1024"]


@pytest.mark.parametrize("soft", [40, 60, 100])
@pytest.mark.parametrize("kind", ["rshared", "user namespace", "devices"])
@pytest.mark.deviates("runc", "1.1 opens all before, or binds the host's devices", only=["user", "devices"])
@pytest.mark.deviates("runc", "1.1.5 hands its own limit on", only=["rshared"])
@pytest.mark.deviates("crun", "1.8 opens all before, or binds the host's devices", only=["user", "devices"])
def test_a_small_soft_limit(box: Box, kind: str, soft: int) -> None:
    """It may be raised up to the hard one, which has room; the container has it as it was."""
    source = box.directory / "dir"
    source.mkdir()
    if kind != "rshared":
        config.with_user_namespace(box.config)
        for path in (box.rootfs, *box.rootfs.rglob("*")):
            os.chown(path, 100_000, 100_000, follow_symlinks=False)
    for number in range(120):
        if kind == "devices":
            node = {"path": f"/many/{number}", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640}
            box.linux.setdefault("devices", []).append(node)
        else:
            box.mount(f"/many/{number}", "bind", source, "rbind", *(["rshared"] if kind == "rshared" else []))
    prefix = ("/bin/sh", "-c", f'ulimit -Sn {soft}; exec "$@"', "sh")
    done = box.sh("grep -c ' /many/' /proc/self/mountinfo; ulimit -Sn", prefix=prefix).ok()
    assert done.lines == ["120", str(soft)]


def test_more_binds_than_the_hard_limit_are_refused_in_words(our_box: Box) -> None:
    """In a user namespace each needs a descriptor, for a moment."""
    config.with_user_namespace(our_box.config)
    source = our_box.directory / "dir"
    source.mkdir()
    for number in range(600):
        our_box.mount(f"/many/{number}", "bind", source, "bind")
    done = our_box.run("/bin/true", prefix=("/bin/sh", "-c", 'ulimit -n 500; exec "$@"', "sh")).refused()
    assert "hard limit" in done.err
