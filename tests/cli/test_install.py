"""What is installed beside the program, and what the program writes of itself: man page and completions."""

import re
import shutil
import subprocess

import pytest
from conftest import BINARY, REPOSITORY, needs_tiny_gsm, run

SHELLS = ("bash", "zsh", "fish")


def commands():
    """Every command that does something, as its words."""
    found = []

    def walk(words):
        text = run(*words, "--help").stdout.decode()
        if "\nSubcommands:\n" not in text:
            return found.append((words, text))
        for name in re.findall(r"^  ([a-z]\w*) ", text.split("\nSubcommands:\n")[1].split("\n\n")[0], re.M):
            walk([*words, name])

    walk([])
    return found


COMMANDS = commands()


def flags(text):
    return set(re.findall(r"^ +(?:-\w,)?(--[\w-]+)", text, re.M))


def test_commands_are_found():
    assert {"run", "serve", "bench decode", "completion"} <= {" ".join(words) for words, _ in COMMANDS}
    assert all("--help" in flags(text) for _, text in COMMANDS)


@pytest.fixture(scope="module")
def manual():
    roff = run("manual").stdout.decode()
    if shutil.which("groff") is None:
        pytest.skip("no groff here")
    made = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=200n", "-P-cbou"], input=roff.encode(), capture_output=True)
    assert made.returncode == 0 and made.stderr == b"", made.stderr.decode()
    return made.stdout.decode().replace("\u2010", "-").replace("\u2212", "-")


def test_the_man_page_says_what_help_says(manual):
    sections = re.split(r"^   (mxmla .*)$", manual.split("\nSHARED OPTIONS\n")[0], flags=re.M)
    by_command = {name.removeprefix("mxmla "): body for name, body in zip(sections[1::2], sections[2::2])}
    assert set(by_command) == {" ".join(words) for words, _ in COMMANDS}
    shared = set(re.findall(r"^ +(--[\w-]+)", manual.split("\nSHARED OPTIONS\n")[1].split("\nEXIT STATUS\n")[0], re.M))
    assert "--threads" in shared
    for words, text in COMMANDS:
        body = by_command[" ".join(words)]
        said = set(re.findall(r"--[\w-]+", body.split("\n           mxmla ")[0]))
        wanted = flags(text) - {"--help"}
        assert wanted <= said, (words, wanted - said)
        own = set(re.findall(r"^ +(?:-\w, )?(--[\w-]+)", body, re.M))
        assert own <= wanted, (words, own - wanted)
        assert wanted - own <= shared | {f for f in wanted if f in body}
        assert re.sub(r"\s+", " ", text.splitlines()[0]) in re.sub(r"\s+", " ", body)
        example = text.split("Example:\n  ")[1].splitlines()[0]
        assert example in body


def test_exit_statuses_are_those_of_the_readme(manual):
    table = (REPOSITORY / "README.md").read_text().split("## Exit statuses")[1].split("## ")[0]
    readme = {}
    for line in table.splitlines():
        cells = [cell.strip().replace("`", "") for cell in line.strip("|").split("|")]
        readme.update({int(n): text for n, text in zip(cells[::2], cells[1::2]) if n.isdigit()})
    said = dict(re.findall(r"^ +(\d+) +(\S.*)$", manual.split("\nEXIT STATUS\n")[1].split("\nENVIRONMENT\n")[0], re.M))
    said = {int(n): text for n, text in said.items()}
    assert said.pop(130) == "ended by Ctrl-C"
    assert said == readme and len(readme) == 21
    enum = (REPOSITORY / "src/core/error.h").read_text().split("enum class ErrorCode")[1].split("};")[0]
    assert {int(n) for n in re.findall(r"= (\d+),", enum)} == set(said) - {0}


def test_completions_know_every_flag():
    for shell in SHELLS:
        script = run("completion", shell).stdout.decode()
        for _, text in COMMANDS:
            for flag in flags(text):
                name = f"-l {flag[2:]} " if shell == "fish" else flag
                assert name in script, (shell, flag)
    assert run("completion", "tcsh", check=False).returncode == 2


def complete_bash(*words):
    """What bash offers for the last word."""
    script = (
        'compopt() { :; }; source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mxmla;'
        ' printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = BINARY.parent / "written" / "mxmla"
    made = subprocess.run(["bash", "-u", "-c", script, "bash", str(path), *words], capture_output=True, cwd=REPOSITORY, check=True)
    assert made.stderr == b"", made.stderr.decode()
    return set(made.stdout.decode().split())


def test_bash_completes():
    assert {"run", "serve", "bench"} <= complete_bash("mxmla", "")
    assert complete_bash("mxmla", "to") == {"tokenize"}
    assert complete_bash("mxmla", "bench", "de") == {"decode"}
    for words, text in COMMANDS:
        assert flags(text) <= complete_bash("mxmla", *words, "-"), words
    assert complete_bash("mxmla", "run", "tiny-gsm", "--kv-dtype", "") == {"auto", "bf16", "fp8"}
    assert complete_bash("mxmla", "run", "--v-layout", "=", "s") == {"strided"}
    assert complete_bash("mxmla", "run", "--v-layout", "=") == {"copy", "strided", "fused"}
    assert complete_bash("mxmla", "run", "--threads", "") == set()
    assert {"tiny-gsm", "models"} <= complete_bash("mxmla", "run", "")
    assert complete_bash("mxmla", "completion", "f") == {"fish"}
    assert "README.md" in complete_bash("mxmla", "serve", "tiny-gsm", "--access-log", "READ")


def test_fish_completes():
    if shutil.which("fish") is None:
        pytest.skip("no fish here")
    path = BINARY.parent / "written" / "mxmla.fish"

    def complete(line):
        made = subprocess.run(["fish", "--no-config", "-c", f"source {path}; complete -C '{line}'"],
                              capture_output=True, cwd=REPOSITORY, check=True)  # fmt: skip
        assert made.stderr == b"", made.stderr.decode()
        return {row.split("\t")[0] for row in made.stdout.decode().splitlines()}

    assert {"run", "serve", "bench"} <= complete("mxmla ")
    assert "decode" in complete("mxmla bench ") and "decode" not in complete("mxmla run ")
    assert complete("mxmla run x --kv-dtype ") == {"auto", "bf16", "fp8"}
    for words, text in COMMANDS:
        assert flags(text) <= complete(f"mxmla {' '.join(words)} --"), words


def test_zsh_reads_its_completion():
    if shutil.which("zsh") is None:
        pytest.skip("no zsh here")
    path = BINARY.parent / "written" / "_mxmla"
    # Completing by a script needs a terminal; the functions are read and their names are there.
    made = subprocess.run(["zsh", "-f", "-c", f"compdef() {{ :; }}; source {path} && whence -w _mxmla_serve _mxmla_bench_decode"],
                          capture_output=True, check=True)  # fmt: skip
    assert made.stdout.split() == [b"_mxmla_serve:", b"function", b"_mxmla_bench_decode:", b"function"]
    assert made.stderr == b""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    cmake = shutil.which("cmake")
    build = BINARY.parent
    if cmake is None or not (build / "cmake_install.cmake").exists():
        pytest.skip("the program is not in a build folder")
    root = tmp_path_factory.mktemp("install")
    subprocess.run([cmake, "--install", str(build), "--prefix", str(root / "usr")], check=True, capture_output=True)
    return root / "usr"


@needs_tiny_gsm
def test_the_installed_tree_is_whole(installed):
    files = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    wanted = {"bin/mxmla", "include/mxmla/mxmla.h", "share/man/man1/mxmla.1", "share/bash-completion/completions/mxmla",
              "share/zsh/site-functions/_mxmla", "share/fish/vendor_completions.d/mxmla.fish",
              "lib/systemd/system/mxmla.service", "share/mxmla/models/tiny-gsm/config.json", "share/mxmla/configs/kimi-k2.json"}  # fmt: skip
    assert wanted <= files
    assert all(name.startswith(("bin/mxmla", "share/mxmla/", "include/mxmla/")) or name in wanted for name in files)
    for shell, name in (("bash", "bash-completion/completions/mxmla"), ("zsh", "zsh/site-functions/_mxmla"), ("fish", "fish/vendor_completions.d/mxmla.fish")):
        assert (installed / "share" / name).read_bytes() == run("completion", shell).stdout
    assert (installed / "share/man/man1/mxmla.1").read_bytes() == run("manual").stdout
    # Its own models come first, wherever it is called from.
    config = installed / "share/mxmla/models/tiny-gsm/config.json"
    inspect = [str(installed / "bin/mxmla"), "inspect", "tiny-gsm"]
    assert subprocess.run(inspect, capture_output=True, cwd="/").returncode == 0
    config.write_text("{")
    made = subprocess.run(inspect, capture_output=True, cwd="/")
    assert made.returncode == 5 and str(config).encode() in made.stderr, made.stderr


def test_the_header_stands_alone(installed, tmp_path):
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("no compiler here")
    source = tmp_path / "user.cpp"
    source.write_text("#include <mxmla/mxmla.h>\nint main() { mxmla::GenerateOptions options; return static_cast<int>(options.top_k); }\n")
    subprocess.run([compiler, "-std=c++20", "-fsyntax-only", "-Wall", "-Werror", f"-I{installed}/include", str(source)], check=True)


def test_the_unit_is_sound(installed, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    text = (installed / "lib/systemd/system/mxmla.service").read_text()
    assert re.search(r"^ExecStart=/\S+/bin/mxmla serve \$\{MXMLA_MODEL\} \$MXMLA_OPTIONS$", text, re.M)
    unit = tmp_path / "mxmla.service"
    unit.write_text(re.sub(r"^ExecStart=\S+", f"ExecStart={installed}/bin/mxmla", text, flags=re.M))
    made = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True)
    lines = [line for line in made.stderr.decode().splitlines() if "mxmla" in line]
    assert made.returncode == 0 and lines == [], made.stderr.decode()
    made = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)], capture_output=True)
    assert made.returncode == 0, made.stdout.decode()


def test_the_container_has_the_programs_libraries():
    if shutil.which("dpkg") is None or shutil.which("ldd") is None:
        pytest.skip("no Debian here")
    text = (REPOSITORY / "Containerfile").read_text()
    listed = set(re.search(r"--no-install-recommends \\\n +(.*) \\\n", text.split("bookworm-slim")[1]).group(1).split())
    needed = set()
    for path in re.findall(r"=> (/\S+)", subprocess.run(["ldd", str(BINARY)], capture_output=True, check=True).stdout.decode()):
        if "cuda" in path:
            pytest.skip("a build for CUDA, which the image is not of")
        if "asan" in path or "ubsan" in path:
            continue
        for name in (path, f"/usr{path}", path.removeprefix("/usr")):
            made = subprocess.run(["dpkg", "-S", name], capture_output=True)
            if made.returncode == 0:
                needed.add(made.stdout.decode().split(":")[0])
                break
        else:
            raise AssertionError(f"{path} is of no package")
    assert needed == listed
