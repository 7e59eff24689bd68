"""The command line of tare-oci without any container: words, messages, JSON, signals' names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tare.runners.container.cli import delete, features, main
from tare.runners.container.config import bundle
from tare.runners.container.config.defaults import default_config
from tare.runners.container.errors import OciError
from tare.runners.container.lifecycle import log
from tare.runners.container.light import argparse
from tare.runners.container.light import json as light_json
from tare.runners.container.light.argparse import Option

MAIN = Path(main.__file__).parents[1] / "__main__.py"
KNOWN = (
    Option("bundle", "DIR", "b"),
    Option("detach", short="d"),
    Option("env", "NAME=VALUE", "e", many=True),
    Option("preserve-fds", "N"),
)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def parse(*words: str, in_order: bool = False) -> argparse.Parsed:
    return argparse.parse(words, KNOWN, what="tare-oci run", in_order=in_order)


@pytest.mark.parametrize("words", [("-b", "/x", "c"), ("-b/x", "c"), ("--bundle=/x", "c"), ("c", "--bundle", "/x")])
def test_a_value_in_every_form(words: tuple[str, ...]) -> None:
    parsed = parse(*words)
    assert parsed.text("bundle") == "/x"
    assert parsed.words == ["c"]


def test_switches_and_repeated_options() -> None:
    parsed = parse("-d", "-e", "A=1", "--env=B=2=3", "--detach=true", "c")
    assert parsed.on("detach")
    assert parsed.texts("env") == ["A=1", "B=2=3"]
    assert not parse("--detach=false", "c").on("detach")


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "t", "T", "1", "false", "False", "FALSE", "f", "F", "0"])
def test_a_switch_has_the_values_of_go(value: str) -> None:
    assert parse(f"--detach={value}", "c").on("detach") == (value in ("true", "True", "TRUE", "t", "T", "1"))


@pytest.mark.parametrize("value", ["", "yes", "2", "tRUE"])
def test_a_switch_has_no_others(value: str) -> None:
    with pytest.raises(OciError, match="--detach"):
        parse(f"--detach={value}", "c").on("detach")


@pytest.mark.parametrize(
    "words", [("-db", "/x", "c"), ("-db/x", "c"), ("-d", "-b=/x", "c"), ("-detach", "-bundle=/x", "c")]
)
def test_short_switches_may_be_joined_and_long_ones_have_one_dash(words: tuple[str, ...]) -> None:
    parsed = parse(*words)
    assert parsed.on("detach")
    assert parsed.text("bundle") == "/x"
    assert parsed.words in (["c"], [])


def test_an_option_of_another_place_is_told_its_own() -> None:
    with pytest.raises(OciError, match="before the command: tare-oci --root list"):
        argparse.parse(["--root", "/x"], (), what="tare-oci list", elsewhere=(Option("root", "DIR"),))


def test_in_order_leaves_the_programs_own_options_alone() -> None:
    assert parse("-d", "c", "ls", "-l", "--bundle", in_order=True).words == ["c", "ls", "-l", "--bundle"]
    assert parse("-d", "--", "-c", in_order=True).words == ["-c"]


@pytest.mark.parametrize("words", [("--nope",), ("-x",), ("-dt",), ("--bundle",), ("--preserve-fds", "-1", "c")])
def test_bad_options_are_refused_by_name(words: tuple[str, ...]) -> None:
    with pytest.raises(OciError, match=words[0].partition("=")[0]):
        parse(*words).number("preserve-fds")


@given(VALUES)
def test_json_is_what_json_reads_and_writes(value: Any) -> None:
    assert json.loads(light_json.dumps(value)) == value
    assert json.loads(light_json.dumps(value, indent=2)) == value
    assert light_json.loads(f" \n{json.dumps(value)}\t") == value


def strictly(text: str) -> Any:
    """What :mod:`json` reads, without the three words that it takes and RFC 8259 does not have."""

    def refuse(name: str) -> float:
        raise ValueError(name)

    return json.loads(text, parse_constant=refuse)


@given(st.text() | st.binary())
@example("NaN")
@example(b"[-Infinity]")
def test_json_is_refused_where_json_refuses_it(text: str | bytes) -> None:
    try:
        wanted = strictly(text if isinstance(text, str) else text.decode("utf-8"))
    except ValueError:
        with pytest.raises(ValueError):  # noqa: PT011 - every text has words of its own
            light_json.loads(text)
    else:
        assert light_json.loads(text) == wanted


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ('{"a": }', "line 1 column 7"),
        ("{}\n{}", "line 2 column 1"),
        ("", "line 1 column 1"),
        ("[NaN]", "NaN"),
        ("[" * 200_000, "deep"),
        ('{"a": ' * 200_000, "deep"),
        ("\ufeff{}", "byte order mark"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a": "\xff"}', "byte 0xff at offset 7"),
        ('{"a": "\ud800"}'.encode("utf-8", "surrogatepass"), "byte 0xed"),
        ('{"a": "\\ud800"}', "half of a surrogate pair"),
        ('[["\\uDFFF"]]', "half of a surrogate pair"),
        ('{"\\udc00": 1}', "half of a surrogate pair"),
        ("9" * 5000, "thousands of digits"),
        ('"a\nb"', "line 1"),
        ("{'a': 1}", "line 1"),
        ("{} // no comments", "more text"),
    ],
)
def test_json_errors_say_where(text: str | bytes, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        light_json.loads(text)


def test_json_with_whole_surrogate_pairs_is_taken() -> None:
    assert light_json.loads('["\\ud83d\\ude00", "\\\\ud800"]') == ["\U0001f600", "\\ud800"]


def test_a_name_that_stands_twice_is_noted_and_the_last_counts() -> None:
    twice: list[str] = []
    assert light_json.loads('{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}', twice) == {"a": 3, "b": {"c": 2}}
    assert set(twice) == {"a", "c"}
    once: list[str] = []
    assert light_json.loads('[{"a": 1}, {"a": 1}]', once) == [{"a": 1}, {"a": 1}]
    assert once == []


def test_one_line_of_json_has_no_blanks() -> None:
    """As runc writes it: scripts compare it as text."""
    assert light_json.dumps([{"a": 1, "b": [True, None]}]) == '[{"a":1,"b":[true,null]}]'


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("TERM", signal.SIGTERM),
        ("SIGKILL", signal.SIGKILL),
        ("sigusr1", signal.SIGUSR1),
        ("9", 9),
        ("RTMIN", signal.SIGRTMIN),
        ("SIGRTMIN+3", signal.SIGRTMIN + 3),
        ("RTMAX-1", signal.SIGRTMAX - 1),
    ],
)
def test_signals_by_name_and_number(text: str, number: int) -> None:
    assert delete.number_of(text) == number


@pytest.mark.parametrize("text", ["", "65", "-9", "NOPE", "_BLOCK", "RTMIN-1", "RTMAX+1", "RTMIN+99"])
def test_no_signal(text: str) -> None:
    with pytest.raises(OciError, match="no such signal"):
        delete.number_of(text)


def test_log_lines_are_what_callers_parse(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for form in log.FORMATS:
        log.Log(os.fspath(tmp_path / form), form).error('it "failed"\nhere')
    entry = json.loads((tmp_path / "json").read_text())
    assert (entry["level"], entry["msg"]) == ("error", 'it "failed"\nhere')
    assert entry["time"].endswith("Z")
    assert ' level=error msg="it \\"failed\\"\\nhere"' in (tmp_path / "text").read_text()
    assert 'tare-oci: it "failed"' in capfd.readouterr().err
    with pytest.raises(OciError, match="--log-format"):
        log.Log("", "xml")


def test_a_log_that_cannot_be_written_hides_no_error(capfd: pytest.CaptureFixture[str]) -> None:
    full = log.Log("/dev/full", "json")
    full.warning("a warning")
    full.error("the reason")
    said = capfd.readouterr().err
    assert "the reason" in said
    assert "cannot write the log" in said
    with pytest.raises(OciError, match="/nowhere/log"):
        log.Log("/nowhere/log")


def test_a_level_of_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for level in log.LEVELS:
        made = log.Log(os.fspath(tmp_path / level), level=level)
        for write in (made.debug, made.warning, made.error):
            write("x")
    lines = {level: len((tmp_path / level).read_text().splitlines()) for level in log.LEVELS}
    assert lines == {"error": 1, "warning": 2, "info": 2, "debug": 3}
    capfd.readouterr()
    log.Log(level="debug").debug("what")
    log.Log(form="json").error("why")
    debug, error = capfd.readouterr().err.splitlines()
    assert 'level=debug msg="what"' in debug
    assert json.loads(error)["msg"] == "why"
    with pytest.raises(OciError, match="--log-level"):
        log.Log(level="loud")


def test_the_log_takes_no_low_descriptor(tmp_path: Path) -> None:
    """--preserve-fds means the caller's: ours must not stand among them."""
    before = set(os.listdir("/proc/self/fd"))
    made = log.Log(os.fspath(tmp_path / "log"))
    new = {int(name) for name in set(os.listdir("/proc/self/fd")) - before}
    assert all(fd >= 512 or not Path(f"/proc/self/fd/{fd}").exists() for fd in new)
    made.warning("x")


def test_times_are_rfc_3339() -> None:
    assert log.now(1_700_000_000_000_000_001) == "2023-11-14T22:13:20.000000001Z"


def oci(*words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", MAIN, *words],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | env,
    )


def test_version_is_in_the_form_that_engines_parse() -> None:
    lines = oci("--version").stdout.splitlines()
    assert lines[0].split()[:2] == ["tare-oci", "version"]
    assert [line.partition(": ")[0] for line in lines[1:4]] == ["commit", "spec", "python"]
    assert lines[2] == "spec: 1.2.1"
    assert "+SECCOMP" in lines[4].split()
    assert oci("-v").stdout == oci("-version").stdout == oci("--version").stdout


def test_every_verb_has_help() -> None:
    overview = oci("--help").stdout
    for name in main.VERBS:
        assert f"  {name} " in overview
        assert oci(name, "--help").stdout.startswith(f"usage: tare-oci {name} ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("frobnicate",), "no such command: frobnicate"),
        (("--nope", "list"), "unknown option --nope"),
        (("start",), "no container named"),
        (("start", "a", "b"), "unexpected argument 'b'"),
        (("state", "a/b"), "cannot be a name"),
        (("state", ".."), "cannot be a name"),
        (("state", "nope"), "container nope does not exist"),
        (("kill", "nope", "TERM"), "container nope does not exist"),
        (("delete", "nope"), "container nope does not exist"),
        (("exec", "nope", "true"), "container nope does not exist"),
        (("--systemd-cgroup", "list"), "--systemd-cgroup"),
        (("run", "--no-pivot=perhaps", "c"), "--no-pivot"),
        (("run", "-b", "/nowhere", "c"), "/nowhere"),
        (("run", "-b", "/", "c"), "/config.json"),
        (("--log-format", "xml", "list"), "--log-format"),
        (("kill", "nope", "NOSUCH"), "no such signal: NOSUCH"),
        (("update", "nope"), "container nope does not exist"),
        (("update", "--memory", "much", "nope"), "--memory: 'much' is not a size"),
        (("update", "--memory", "-2", "nope"), "--memory: '-2' is not a size"),
        (("update", "--cpu-quota", "1.5", "nope"), "--cpu-quota: '1.5' is not a number"),
        (("update", "--l3-cache-schema", "L3:0=f", "nope"), "--l3-cache-schema: is not supported"),
        (("update", "--mem-bw-schema", "MB:0=70", "nope"), "--mem-bw-schema: is not supported"),
        (("update", "-r", "/nowhere", "nope"), "/nowhere"),
    ],
)
def test_bad_requests_are_one_clear_line(tmp_path: Path, words: tuple[str, ...], said: str) -> None:
    done = oci("--root", os.fspath(tmp_path), *words)
    assert done.returncode in (1, 255)
    assert said in done.stderr
    assert done.stderr.startswith("tare-oci: ")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert list(tmp_path.iterdir()) == []


def test_delete_by_force_of_nothing_is_no_error(tmp_path: Path) -> None:
    assert oci("--root", os.fspath(tmp_path), "delete", "--force", "nope").returncode == 0
    assert oci("--root", os.fspath(tmp_path), "delete", "--force", "a/b").returncode == 1


def test_help_in_every_form() -> None:
    overview = oci("--help")
    assert overview.returncode == 0
    assert {oci(*words).stdout for words in (("-h",), ("help",), ("h",), ("-help",))} == {overview.stdout}
    assert oci("help", "run").stdout == oci("run", "-h").stdout == oci("run", "--help").stdout
    assert oci("help", "nope").returncode == 1
    assert oci().returncode == 1


def test_a_fault_of_the_program_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(_call: object) -> int:
        raise IndexError("no such thing")

    monkeypatch.setattr(main, "_function", lambda _where: broken)
    monkeypatch.delenv("TARE_DEBUG", raising=False)
    assert main.main(["--root", os.fspath(tmp_path), "list"]) == 1
    said = capfd.readouterr().err
    assert "IndexError: no such thing" in said
    assert "please report it" in said
    assert said.count("\n") == 1
    monkeypatch.setenv("TARE_DEBUG", "1")
    with pytest.raises(IndexError):
        main.main(["--root", os.fspath(tmp_path), "list"])


def test_list_of_nothing(tmp_path: Path) -> None:
    root = os.fspath(tmp_path / "not-there")
    assert oci("--root", root, "list").stdout.split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert json.loads(oci("--root", root, "list", "--format", "json").stdout) == []
    assert oci("--root", root, "list", "-q").stdout == ""


def test_features_are_json_with_what_the_specification_names() -> None:
    said = json.loads(oci("features").stdout)
    assert said["ociVersionMin"] <= said["ociVersionMax"]
    assert "createRuntime" in said["hooks"]
    assert {"ro", "rbind", "rprivate"} <= set(said["mountOptions"])
    assert {"mount", "pid", "user"} <= set(said["linux"]["namespaces"])
    linux = said["linux"]
    assert linux["cgroup"]["systemd"] is False
    assert linux["capabilities"][-1] == "CAP_CHECKPOINT_RESTORE", "whatever this kernel knows"
    assert set(linux["seccomp"]["supportedFlags"]) <= set(linux["seccomp"]["knownFlags"])
    assert linux["mountExtensions"] == {"idmap": {"enabled": True}}
    assert all(linux[name] == {"enabled": False} for name in ("apparmor", "selinux", "intelRdt"))
    assert all(isinstance(value, str) for value in said["annotations"].values())
    assert said["potentiallyUnsafeConfigAnnotations"] == []


def test_nothing_in_features_is_null() -> None:
    assert "null" not in oci("features").stdout


def test_features_have_no_other_properties() -> None:
    """Than those of features.md and features-linux.md 1.2.1."""
    said = json.loads(oci("features").stdout)
    names = "ociVersionMin ociVersionMax hooks mountOptions linux annotations potentiallyUnsafeConfigAnnotations"
    assert set(said) == set(names.split())
    names = "namespaces capabilities cgroup seccomp apparmor selinux intelRdt mountExtensions"
    assert set(said["linux"]) == set(names.split())
    assert set(said["linux"]["cgroup"]) == {"v1", "v2", "systemd", "systemdUser", "rdma"}
    assert set(said["linux"]["seccomp"]) == set("enabled actions operators archs knownFlags supportedFlags".split())


def test_what_features_names_is_recognised() -> None:
    """features.md: each element must be recognised in a configuration."""
    said: Any = features.structure("1.2.1")
    made: Any = default_config(argv=["x"], env=[], rootfs="/r", cgroup=None, memory_bytes=0, cpus=0)
    linux, filters = said["linux"], said["linux"]["seccomp"]
    made["hooks"] = {kind: [{"path": "/x"}] for kind in said["hooks"]}
    made["process"]["capabilities"] = {"bounding": linux["capabilities"]}
    condition = {"index": 0, "value": 1}
    made["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": filters["archs"],
        "flags": filters["supportedFlags"],
        "syscalls": [
            {"names": ["read"], "action": action, "args": [condition | {"op": word} for word in filters["operators"]]}
            for action in filters["actions"]
            if action != "SCMP_ACT_NOTIFY"  # it needs a listener
        ],
    }
    ids = [{"containerID": 0, "hostID": 0, "size": 1}]
    made["linux"] |= {"uidMappings": ids, "gidMappings": ids}
    made["linux"]["namespaces"] = [{"type": kind} for kind in linux["namespaces"]]
    for version in (said["ociVersionMin"], said["ociVersionMax"]):
        read = bundle.parse(json.loads(json.dumps(made | {"ociVersion": version})), directory="/b")
        assert read.warnings == ()
        assert set(read.namespaces) == set(linux["namespaces"])
        assert set(read.hooks) == set(said["hooks"])


def test_spec_writes_once(tmp_path: Path) -> None:
    place = os.fspath(tmp_path)
    assert oci("spec", "--bundle", place).returncode == 0
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["process"]["args"] == ["sh"]
    again = oci("spec", "--bundle", place)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_start_imports_nothing_heavy() -> None:
    """Every one of these costs more than a container's system calls; see docs/reference/runtime-cli.md."""
    heavy = {"dataclasses", "typing", "re", "enum", "inspect", "json", "signal", "socket", "contextlib", "subprocess"}
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import container.cli.main, container.cli.create,"
        " container.cli.delete, container.config.bundle, container.setup.sequence, container.setup.parent;"
        " print(*sys.modules)"
    )
    runners = os.fspath(MAIN.parent.parent)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, runners], capture_output=True, text=True, check=True)
    assert heavy.isdisjoint(done.stdout.split())
