"""The file systems inside: what is mounted, how, where symbolic links lead, what is hidden."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.oci import config
from tests.oci.harness import READY, Box


def options(done_lines: list[str], target: str) -> set[str]:
    """The options of the mount at *target* and of its file system, of the lines of mountinfo."""
    for line in reversed(done_lines):
        left, _, right = line.partition(" - ")
        if left.split(" ")[4] == target:
            return set(left.split(" ")[5].split(",")) | set(right.split(" ")[2].split(","))
    raise AssertionError(f"{target} is not mounted: {done_lines}")


def mountinfo(box: Box) -> list[str]:
    return box.run("/bin/cat", "/proc/self/mountinfo").ok().lines


@pytest.fixture
def outside(box: Box) -> Path:
    """A directory of the host to mount from."""
    made = box.directory / "outside"
    (made / "sub").mkdir(parents=True)
    (made / "file").write_text("outside\n")
    return made


def test_the_standard_ones(box: Box) -> None:
    kinds = {line.split(" ")[4]: line.partition(" - ")[2].split(" ")[0] for line in mountinfo(box)}
    for target, kind in (("/proc", "proc"), ("/dev", "tmpfs"), ("/dev/pts", "devpts"), ("/dev/mqueue", "mqueue")):
        assert kinds[target] == kind
    assert kinds["/sys"] == "sysfs"


def test_nothing_of_the_host_is_mounted(box: Box) -> None:
    """The old root is gone, with all below it."""
    targets = {line.split(" ")[4] for line in mountinfo(box)}
    assert not {target for target in targets if not target.startswith(("/proc", "/sys", "/dev")) and target != "/"}
    assert box.sh("ls -a /").ok().out.split() == sorted({*os.listdir(box.rootfs), ".", ".."})


def test_options_of_the_standard_mounts(box: Box) -> None:
    lines = mountinfo(box)
    assert {"nosuid", "noexec", "nodev"} <= options(lines, "/proc")
    assert {"nosuid", "mode=755", "size=65536k"} <= options(lines, "/dev")
    assert {"nosuid", "noexec", "mode=620", "ptmxmode=666", "gid=5"} <= options(lines, "/dev/pts")
    assert {"ro", "nosuid", "noexec", "nodev"} <= options(lines, "/sys")


@pytest.mark.parametrize("kind", ["bind", "none", ""])
def test_bind_of_a_directory(box: Box, outside: Path, kind: str) -> None:
    """The word bind among the options decides, whatever the type says."""
    box.mount("/mnt/deep/data", kind, outside, "bind")
    assert box.sh("cat /mnt/deep/data/file; echo new > /mnt/deep/data/made").ok().out == "outside\n"
    assert (outside / "made").read_text() == "new\n"


def test_bind_of_a_file(box: Box, outside: Path) -> None:
    """The target is made as a file, in directories that are made too."""
    box.mount("/etc/some/resolv.conf", "bind", outside / "file", "rbind", "rprivate")
    assert box.run("/bin/cat", "/etc/some/resolv.conf").ok().out == "outside\n"


def test_bind_relative_to_the_bundle(box: Box) -> None:
    (box.bundle / "beside").mkdir()
    (box.bundle / "beside" / "file").write_text("beside\n")
    box.mount("/data", "bind", "beside", "bind")
    assert box.run("/bin/cat", "/data/file").ok().out == "beside\n"


def test_bind_readonly(box: Box, outside: Path) -> None:
    box.mount("/data", "bind", outside, "bind", "ro")
    done = box.sh("cat /data/file; echo x > /data/new")
    assert done.out == "outside\n"
    assert "Read-only file system" in done.err
    assert not (outside / "new").exists()


def test_bind_options(box: Box, outside: Path) -> None:
    box.mount("/data", "bind", outside, "rbind", "nosuid", "nodev", "noexec", "noatime")
    assert {"nosuid", "nodev", "noexec", "noatime"} <= options(mountinfo(box), "/data")


@pytest.fixture
def tree(outside: Path) -> Iterator[Path]:
    """A directory of the host with another file system mounted below it."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", outside / "sub"], check=True)
    (outside / "sub" / "below").write_text("below\n")
    yield outside
    subprocess.run(["umount", outside / "sub"], check=True)


def test_rbind_takes_what_is_below(box: Box, tree: Path) -> None:
    box.mount("/data", "bind", tree, "rbind")
    assert box.run("/bin/cat", "/data/sub/below").ok().out == "below\n"


def test_bind_does_not(box: Box, tree: Path) -> None:
    box.mount("/data", "bind", tree, "bind")
    assert box.run("/bin/ls", "-A", "/data/sub").ok().out == ""


@pytest.mark.parametrize(
    ("word", "arrives"), [("rprivate", False), ("rslave", True), ("rshared", True), ("private", False)]
)
def test_propagation_from_the_host(box: Box, tree: Path, word: str, arrives: bool) -> None:
    """What the host mounts later is seen inside, or not."""
    subprocess.run(["mount", "--make-shared", tree / "sub"], check=True)
    (tree / "sub" / "later").mkdir()
    box.mount("/data", "bind", tree / "sub", "rbind", word)
    box.linux["rootfsPropagation"] = "shared" if word == "rshared" else "rslave"
    box.live()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tree / "sub" / "later"], check=True)
    try:
        (tree / "sub" / "later" / "file").write_text("later")
        done = box.exec("/bin/ls", "/data/later").ok()
    finally:
        box.delete("--force")
        subprocess.run(["umount", tree / "sub" / "later"], check=True)
    assert done.lines == (["file"] if arrives else [])


def test_a_mount_inside_does_not_reach_the_host(box: Box) -> None:
    box.process["capabilities"] = {
        kind: ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"] for kind in ("bounding", "effective", "permitted")
    }
    box.live("mount -t tmpfs tmpfs /tmp && touch /tmp/inside && echo mounted")
    assert os.listdir(box.rootfs / "tmp") == []


def test_tmpfs(box: Box) -> None:
    box.mount("/scratch", "tmpfs", "tmpfs", "nosuid", "nodev", "noexec", "mode=1750", "size=1m", "uid=7", "gid=8")
    done = box.sh("stat -c '%a %u %g' /scratch; dd if=/dev/zero of=/scratch/big bs=1k count=2000 2>/dev/null; "
                  "stat -c %s /scratch/big; cat /proc/self/mountinfo")  # fmt: skip
    lines = done.ok().lines
    assert lines[:2] == ["1750 7 8", str(1 << 20)]
    assert {"nosuid", "nodev", "noexec"} <= options(lines[2:], "/scratch")


def test_tmpfs_that_keeps_what_it_covers(box: Box) -> None:
    """tmpcopyup, which podman writes for --tmpfs: the image's files are copied, with their owner and mode."""
    (box.rootfs / "etc" / "sub").mkdir(mode=0o750)
    (box.rootfs / "etc" / "sub" / "file").write_text("kept\n")
    (box.rootfs / "etc" / "link").symlink_to("sub/file")
    box.mount("/etc", "tmpfs", "tmpfs", "tmpcopyup", "size=1m")
    done = box.sh(
        "cat /etc/link; stat -c %a /etc/sub; echo changed > /etc/sub/file; cat /etc/link; df /etc | tail -n 1"
    )
    assert done.ok().lines[:3] == ["kept", "750", "changed"]
    assert done.lines[3].startswith("tmpfs")
    assert (box.rootfs / "etc" / "sub" / "file").read_text() == "kept\n"


@pytest.mark.parametrize(("word", "below"), [("ro", False), ("rro", True)])
def test_read_only_to_the_bottom(box: Box, tree: Path, word: str, below: bool) -> None:
    """ro is of one mount; rro of all below it too."""
    box.mount("/data", "bind", tree, "rbind", word)
    done = box.sh("for d in /data /data/sub; do touch $d/x 2>/dev/null && echo written; done; true").ok()
    assert done.lines == ([] if below else ["written"])


def test_the_order_is_the_lists(box: Box, outside: Path) -> None:
    """A later mount covers, or fills, an earlier one."""
    box.mount("/a", "tmpfs", "tmpfs")
    box.mount("/a/b", "bind", outside, "bind")
    box.mount("/c", "bind", outside, "bind")
    box.mount("/c", "tmpfs", "tmpfs")
    assert box.sh("cat /a/b/file; ls /c").ok().out == "outside\n"


def test_a_missing_source_is_named(box: Box) -> None:
    box.mount("/data", "bind", "/no/such/source", "bind")
    assert "/no/such/source" in box.run("/bin/true").refused().err


def test_an_unknown_type_is_refused(box: Box) -> None:
    box.mount("/data", "nosuchfs", "nosuchfs")
    done = box.run("/bin/true").refused()
    assert "nosuchfs" in done.err or not box.runtime.ours


def test_readonly_root(box: Box) -> None:
    """The root refuses writes; what is mounted on it does not."""
    box.config["root"]["readonly"] = True
    box.mount("/scratch", "tmpfs", "tmpfs")
    (box.rootfs / "scratch").mkdir()
    done = box.sh("echo x > /scratch/x && echo written; echo x > /x")
    assert done.out == "written\n"
    assert "Read-only file system" in done.err
    assert not (box.rootfs / "x").exists()


def test_absolute_root(box: Box) -> None:
    box.config["root"]["path"] = os.fspath(box.rootfs)
    assert box.run("/bin/echo", "here").ok().out == "here\n"


@pytest.mark.parametrize("word", ["private", "slave", "rprivate", "rslave"])
def test_rootfs_propagation(box: Box, word: str) -> None:
    """What is mounted inside is not seen outside."""
    box.linux["rootfsPropagation"] = word
    (line,) = [line for line in mountinfo(box) if line.split(" ")[4] == "/"]
    assert "shared:" not in line.partition(" - ")[0]


def test_masked_paths(box: Box) -> None:
    """A file reads as empty, a directory as empty; a path that is not there is no error."""
    (box.rootfs / "etc" / "secret").write_text("secret")
    (box.rootfs / "etc" / "secrets").mkdir()
    (box.rootfs / "etc" / "secrets" / "one").write_text("secret")
    box.linux["maskedPaths"] += ["/etc/secret", "/etc/secrets"]
    done = box.sh("cat /etc/secret /proc/keys /proc/timer_list | wc -c; ls -A /etc/secrets /sys/firmware | grep -v :; "
                  "echo x > /etc/secrets/new")  # fmt: skip
    assert done.lines[0] == "0"
    assert "one" not in done.out
    assert "Read-only file system" in done.err
    assert (box.rootfs / "etc" / "secret").read_text() == "secret"


def test_readonly_paths(box: Box) -> None:
    (box.rootfs / "etc" / "fixed").mkdir()
    box.linux["readonlyPaths"] += ["/etc/fixed", "/etc/passwd", "/no/such/path"]
    lines = box.sh("for f in /proc/sys/kernel/hostname /etc/fixed/x /etc/passwd; do { echo x > $f; } 2>&1; done").lines
    assert len(lines) == 3
    assert all("Read-only file system" in line for line in lines), lines


@pytest.mark.deviates("crun", "1.8 binds without the flags of what is below")
def test_readonly_paths_keep_options(box: Box) -> None:
    """nosuid, noexec and nodev of the mount below are not lost when it is bound read-only."""
    assert {"ro", "nosuid", "noexec", "nodev"} <= options(mountinfo(box), "/proc/sys")


def test_symlinks_are_followed_inside_the_root(box: Box, outside: Path) -> None:
    """A link in the image that looks absolute is the image's, not the host's."""
    (box.rootfs / "real").mkdir()
    (box.rootfs / "link").symlink_to("/real")
    (box.rootfs / "up").symlink_to("../../../../../../real")
    box.mount("/link/data", "bind", outside, "bind")
    box.mount("/up/more", "bind", outside, "bind")
    assert box.sh("cat /real/data/file /real/more/file").ok().out == "outside\n" * 2
    assert not Path("/real").exists()


@pytest.mark.parametrize("kind", ["cgroup", "cgroup2"])
def test_cgroup_mount(box: Box, kind: str) -> None:
    """The container sees its own cgroups, and may not change them."""
    if kind == "cgroup2" and not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        pytest.skip("needs cgroup v2 alone")
    box.mount("/sys/fs/cgroup", kind, "cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
    script = (
        "cd /sys/fs/cgroup; for f in memory/cgroup.procs cgroup.procs; do [ -e $f ] && grep -c . $f; done\n"
        "for d in memory .; do [ -e $d/cgroup.procs ] && mkdir $d/x; done"
    )
    done = box.sh(script)
    assert done.lines
    assert int(done.lines[0]) >= 1
    assert "Read-only file system" in done.err


def test_devpts_is_its_own(box: Box) -> None:
    assert box.sh("ls /dev/pts; readlink /dev/ptmx").ok().out.split() == ["ptmx", "pts/ptmx"]


def test_created_container_sees_nothing_later(box: Box, outside: Path) -> None:
    """Mounts are made at creation: a change of the source's place afterwards changes nothing."""
    box.mount("/data", "bind", outside, "bind")
    made = box.create("/bin/sh", "-c", f"cat /data/file; echo '{READY}'")
    outside.rename(box.directory / "elsewhere")
    box.call("start", box.name).ok()
    assert made.until(READY).startswith("outside\n")


@pytest.fixture
def shared(outside: Path) -> Iterator[Path]:
    """A directory of the host whose mounts reach others."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", outside], check=True)
    subprocess.run(["mount", "--make-shared", outside], check=True)
    for name in ("inside", "later"):
        (outside / name).mkdir()
    yield outside
    for name in ("inside", "later", ""):
        subprocess.run(["umount", outside / name], check=False, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("word", "comes", "goes"),
    [("rshared", True, True), ("shared", True, True), ("rslave", True, False), ("rprivate", False, False)],
)
@pytest.mark.deviates("crun", "1.8 has its own root as master", only=["rslave"])
def test_mounts_made_later_in_a_bind(box: Box, shared: Path, word: str, comes: bool, goes: bool) -> None:
    """shared: what is mounted outside comes in, and what is mounted inside goes out."""
    if word.endswith("shared"):
        box.linux["rootfsPropagation"] = "shared"  # runc wants it said twice
    box.process["capabilities"] = config.capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    box.mount("/data", "bind", shared, "rbind", word)
    box.live("mount -t tmpfs tmpfs /data/inside && touch /data/inside/file")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
    (shared / "later" / "file").touch()
    assert box.exec("/bin/ls", "/data/later").ok().lines == (["file"] if comes else [])
    assert (shared / "inside" / "file").exists() == goes
    box.delete("--force")


@pytest.mark.parametrize("word", ["rshared", "rslave"])
@pytest.mark.parametrize("userns", [False, True])
def test_mounts_are_seen_in_their_order_and_the_hosts_stay(box: Box, shared: Path, word: str, *, userns: bool) -> None:
    """Binds that share their mounts with the host too; what is mounted below them is there, inside and outside."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", shared / "later"], check=True)
    (shared / "later" / "file").touch()
    if userns:
        config.with_user_namespace(box.config)
    for name in ("one", "two", "three"):
        (box.rootfs / name).mkdir()
    box.mount("/one", "tmpfs", "tmpfs")
    box.mount("/two", "bind", shared, "rbind", word)
    box.mount("/three", "bind", "/etc", "bind")
    found = [line.split(" ")[4] for line in mountinfo(box)]
    assert (shared / "later" / "file").exists()
    assert "/two/later" in found
    order = [place for place in found if place in ("/one", "/two", "/three")]
    # In a user namespace ours opens every bind beforehand.
    assert order == ["/one", "/two", "/three"] or (userns and sorted(order) == ["/one", "/three", "/two"])


@pytest.mark.parametrize(
    ("word", "optional"), [("shared", "shared:"), ("rshared", "shared:"), ("slave", ""), ("private", ""),
                           ("unbindable", "unbindable"), ("runbindable", "unbindable")]
)  # fmt: skip
@pytest.mark.deviates("runc", "1.1 makes the root private for good", only=["shared"])
@pytest.mark.deviates("runc", "1.1 cannot bind what it has made unbindable", only=["unbindable"])
@pytest.mark.deviates("crun", "1.8 does not reach the root", only=["runbindable"])
def test_every_word_of_rootfs_propagation(box: Box, word: str, optional: str) -> None:
    box.linux["rootfsPropagation"] = word
    (line,) = [line for line in mountinfo(box) if line.split(" ")[4] == "/"]
    found = line.partition(" - ")[0]
    assert optional in found
    assert optional or "shared:" not in found


@pytest.mark.parametrize(
    ("words", "shows", "goes"),
    [
        (["rslave", "rshared"], ("shared:", "master:"), False),
        (["rprivate", "rshared"], ("shared:",), False),
        (["rshared", "rprivate"], (), False),
        (["rshared", "rslave"], ("master:",), False),
        (["unbindable", "rslave"], ("unbindable",), False),
    ],
)
@pytest.mark.deviates("crun", "1.8 adds them up")
@pytest.mark.deviates("runc", "1.1 cannot enter a root with an unbindable mount in it", only=["unbindable"])
def test_several_words_of_propagation(
    box: Box, shared: Path, words: list[str], shows: tuple[str, ...], *, goes: bool
) -> None:
    """mount(8) sets one after another: what was cut off from the host first does not reach it any more."""
    box.process["capabilities"] = config.capabilities("CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE")
    box.mount("/data", "bind", shared, "rbind", *words)
    made = box.live("cat /proc/self/mountinfo; mount -t tmpfs tmpfs /data/inside && touch /data/inside/file")
    (line,) = [line for line in made.out.splitlines() if line.split(" ")[4:5] == ["/data"]]
    assert (shared / "inside" / "file").exists() == goes
    if box.runtime.ours:
        assert propagation(line) == list(shows)
    box.delete("--force")


def propagation(line: str) -> list[str]:
    """How the mount of a line of mountinfo propagates."""
    return [word for word in ("shared:", "master:", "unbindable") if word in line.partition(" - ")[0]]


@pytest.mark.parametrize(
    ("root", "word", "shows"),
    [
        ("rshared", "rprivate", []),
        ("rshared", "rslave", ["master:"]),
        ("rprivate", "rshared", ["shared:"]),
        ("rslave", "rshared", ["shared:"]),
        ("rprivate", "rslave", ["master:"]),
        ("private", "rshared", ["shared:"]),
    ],
)
def test_a_mounts_own_word_outlasts_that_of_the_root(
    our_box: Box, shared: Path, root: str, word: str, shows: list[str]
) -> None:
    """As runc has it; what has no word of its own is as the root, above and below what has one."""
    our_box.linux["rootfsPropagation"] = root
    our_box.mount("/data", "bind", shared, "rbind", word)
    our_box.mount("/data/later", "tmpfs", "tmpfs")
    our_box.mount("/other", "tmpfs", "tmpfs")
    our_box.mount("/other/two", "bind", shared, "rbind", word)
    lines = {line.split(" ")[4]: propagation(line) for line in mountinfo(our_box)}
    assert lines["/data"] == lines["/other/two"] == shows
    if root.startswith("r"):
        assert lines["/other"] == lines["/proc"] == (["shared:"] if root == "rshared" else [])
    if root == "rprivate":
        assert lines["/data/later"] == []


def test_dots_are_followed_after_links(box: Box) -> None:
    """As the kernel does: ".." of a link is the directory above what it leads to."""
    (box.rootfs / "d" / "e").mkdir(parents=True)
    (box.rootfs / "lnk").symlink_to("d/e")
    for place in ("b", "d/b"):
        (box.rootfs / place).mkdir()
        (box.rootfs / place / "secret").write_text("secret")
    box.linux["maskedPaths"] += ["/lnk/../b/secret"]
    box.linux["readonlyPaths"] += ["/lnk/../b"]
    done = box.sh("cat /d/b/secret; echo; cat /b/secret; touch /b/made; touch /d/b/made")
    assert done.out == "\nsecret"
    assert done.err.count("Read-only file system") == 1


def test_dots_of_a_device_are_followed_after_links(box: Box) -> None:
    (box.rootfs / "d" / "e").mkdir(parents=True)
    (box.rootfs / "lnk").symlink_to("d/e")
    box.linux["devices"] = [{"path": "/lnk/../node", "type": "c", "major": 1, "minor": 3}]
    assert box.sh("ls /d/node; ls /node").lines == ["/d/node"]


@pytest.mark.deviates("runc", "1.1 folds them before")
def test_dots_of_a_destination_are_followed_after_links(box: Box) -> None:
    (box.rootfs / "d" / "e").mkdir(parents=True)
    (box.rootfs / "lnk").symlink_to("d/e")
    (box.rootfs / "d" / "b").mkdir()
    box.mount("/lnk/../b", "tmpfs", "tmpfs")
    options(mountinfo(box), "/d/b")
    assert not (box.rootfs / "b").exists()


def test_a_mount_below_a_readonly_path_is_as_it_was_asked_for(box: Box) -> None:
    box.mount("/data", "tmpfs", "tmpfs")
    box.mount("/data/rw", "tmpfs", "tmpfs")
    box.linux["readonlyPaths"] += ["/data"]
    done = box.sh("touch /data/x; touch /data/rw/x && echo made")
    assert done.lines == ["made"]
    assert done.err.count("Read-only file system") == 1


@pytest.mark.deviates("crun", "1.8 mounts it over the root in which it stands")
def test_the_root_as_a_readonly_path(box: Box) -> None:
    box.mount("/data", "tmpfs", "tmpfs")
    box.linux["readonlyPaths"] += ["/"]
    done = box.sh("touch /x; touch /data/x && echo made")
    assert done.lines == ["made"]
    assert done.err.count("Read-only file system") == 1


@pytest.mark.parametrize("key", ["maskedPaths", "readonlyPaths"])
def test_paths_that_are_not_absolute(box: Box, key: str) -> None:
    """They start at the root; an empty one means nothing."""
    box.linux[key] += ["tmp", ""]
    done = box.sh("touch /tmp/x; touch /made")
    assert "Read-only file system" in done.err
    assert (box.rootfs / "made").exists()


@pytest.mark.parametrize("kind", ["absent", "bound"])
def test_a_mask_without_a_null_device_says_so(our_box: Box, kind: str) -> None:
    """Of an own /dev of the host, nothing is made: there may be none, or another file."""
    dev = our_box.directory / "dev"
    dev.mkdir()
    if kind == "bound":
        (dev / "null").touch()
    our_box.config["mounts"] = [each for each in our_box.config["mounts"] if not each["destination"].startswith("/dev")]
    our_box.mount("/dev", "bind", dev, "bind")
    done = our_box.run("/bin/true").refused()
    assert "cannot mask /proc/" in done.err
    assert "/dev/null: " + ("is not the null device" if kind == "bound" else "open_tree: no such file") in done.err


def test_a_file_on_a_directory_says_what_is_wrong(box: Box) -> None:
    (box.directory / "file").touch()
    (box.rootfs / "there").mkdir()
    box.mount("/there", "bind", box.directory / "file", "bind")
    assert "directory" in box.run("/bin/true").refused().err
