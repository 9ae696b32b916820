"""tokenize and detokenize."""

import ast
import json
import re
import subprocess

import pytest
from conftest import BINARY, REPOSITORY, run

FIXTURES = REPOSITORY / "tests" / "text" / "fixtures"
FOLDERS = ["deepseek-v2", "deepseek-v3", "kimi-k2"]


def cases(folder, most=80):
    """Hard texts that arguments and pipes can hold, with the ids and the text that the reference library gives."""
    file = json.loads((FIXTURES / folder / "cases.json").read_text())
    found = []
    for text, is_hex, ids, decoded in file["cases"]:
        data = bytes.fromhex(text) if is_hex else text.encode()
        if 0 < len(data) < 5000:
            found.append((data, file["prefix"] + ids, decoded))
    return found[:: max(1, len(found) // most)]


def piped(*args, data=b""):
    return subprocess.run([BINARY, *map(str, args)], input=data, capture_output=True, timeout=60)


def unquoted(piece):
    """The bytes of a quoted piece, read by Python's rules for literals."""
    text = re.sub(r"\\u\{([0-9A-F]+)\}", lambda match: f"\\U{int(match[1], 16):08x}", piece)
    data = b""
    for part in re.split(r"(\\x[0-9A-F]{2})", text[1:-1]):
        data += bytes([int(part[2:], 16)]) if part.startswith("\\x") else ast.literal_eval(f'"{part}"').encode()
    return data


def ids_of(line):
    return [int(i) for i in line.split(b",")] if line.strip() else []


@pytest.mark.parametrize("folder", FOLDERS)
def test_ids_and_pieces_are_the_reference_librarys(folder):
    checked = 0
    for data, ids, decoded in cases(folder):
        assert ids_of(piped("tokenize", FIXTURES / folder, "-", "--ids", data=data).stdout) == ids
        table = piped("tokenize", FIXTURES / folder, "--file", "-", "--no-special", data=data).stdout.decode()
        rows = re.findall(r'^ *(\d+)  (".*")(?:  special)?$', table, flags=re.M)
        assert table.count("\n") == len(rows)
        prefix = len(ids) - len(rows)
        assert [int(i) for i, _ in rows] == ids[prefix:]
        assert b"".join(unquoted(piece) for _, piece in rows).decode(errors="replace") == decoded
        text = piped("detokenize", FIXTURES / folder, data=",".join(map(str, ids[prefix:])).encode()).stdout.decode()
        assert text == decoded + "\n"
        checked += 1
    assert checked > 20


def test_table():
    out = run("tokenize", "tiny-gsm", "Tom \t\"x\\\u200b\x1b").stdout.decode()
    assert out.splitlines()[0] == '       0  "<｜begin▁of▁sentence｜>"  special'
    pieces = [line[10:] for line in out.splitlines()[1:]]
    assert all(c.isprintable() for c in "".join(pieces)) and len(pieces) > 5
    assert b"".join(unquoted(piece) for piece in pieces).decode() == "Tom \t\"x\\\u200b\x1b"
    assert all(piece in "".join(pieces) for piece in (r"\t", r"\"", r"\\", r"\x1B"))


def test_texts_from_arguments_files_and_pipes(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("Tom has\n")
    ids = run("tokenize", "tiny-gsm", "Tom has\n", "--ids").stdout
    assert run("tokenize", "tiny-gsm", "--file", file, "--ids").stdout == ids
    assert piped("tokenize", "tiny-gsm", "-", "--ids", data=b"Tom has\n").stdout == ids
    without = run("tokenize", "tiny-gsm", "--file", file, "--ids", "--no-special").stdout
    assert ids_of(ids) == [0, *ids_of(without)]
    assert run("run", "tiny-gsm", "--tokens", ids.decode(), "--max-tokens", 3).stdout == run(
        "run", "tiny-gsm", "--prompt-file", file, "--max-tokens", 3).stdout
    assert run("tokenize", "tiny-gsm", "", "--ids").stdout == b"0\n"
    assert run("tokenize", "tiny-gsm", "--no-special", "--", "-x").stdout.count(b"\n") == 2


def test_detokenize_takes_lists():
    ids = ids_of(run("tokenize", "tiny-gsm", "Tom has 3", "--ids").stdout)
    text = "<｜begin▁of▁sentence｜>Tom has 3\n".encode()
    assert run("detokenize", "tiny-gsm", *ids).stdout == text
    assert run("detokenize", "tiny-gsm", ",".join(map(str, ids))).stdout == text
    assert piped("detokenize", "tiny-gsm", data="\n".join(map(str, ids)).encode()).stdout == text
    assert run("detokenize", "tiny-gsm", "--no-special", *ids).stdout == b"Tom has 3\n"
    half = run("tokenize", "tiny-gsm", "é", "--ids", "--no-special").stdout.split(b",")[0].decode()
    assert run("detokenize", "tiny-gsm", half).stdout == "\ufffd\n".encode()


@pytest.mark.parametrize("status,args,data", [
    (2, ["tokenize", "tiny-gsm"], b""), (2, ["tokenize", "tiny-gsm", "x", "--file", "y"], b""),
    (18, ["tokenize", "tiny-gsm", "--file", "nowhere"], b""), (3, ["tokenize", "nowhere", "x"], b""),
    (4, ["tokenize", FIXTURES, "x"], b""), (13, ["detokenize", "tiny-gsm", "1536"], b""),
    (2, ["detokenize", "tiny-gsm", "1.5"], b""), (18, ["detokenize", "tiny-gsm"], b"one two"),
    (18, ["detokenize", "tiny-gsm"], b""), (13, ["detokenize", "tiny-gsm"], b"1 -1"),
])
def test_refusals(status, args, data):
    result = piped(*args, data=data)
    assert result.returncode == status, result.stderr
    assert result.stdout == b"" and result.stderr.count(b"\n") == 1
