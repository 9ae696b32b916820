"""`mxmla chat`: turns, commands, the context, and a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest
from conftest import BINARY, REPOSITORY, TINY_GSM, needs_tiny_gsm, run

pytestmark = needs_tiny_gsm

QUESTION = "Tom has 3 apples. He buys 4 more apples. How many apples does Tom have now?"
OTHER = "Ann has 20 pens. She gives 5 pens away. How many pens does Ann have now?"
TEMPLATE = json.loads((REPOSITORY / "tests/text/fixtures/deepseek-v2/tokenizer_config.json").read_text())[
    "chat_template"]


@pytest.fixture
def model(tmp_path):
    """tiny-gsm with DeepSeek-V2's chat template, whose special tokens it has."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in TINY_GSM.iterdir():
        if file.name not in ("tokenizer_config.json", "generation_config.json"):
            (folder / file.name).symlink_to(file)
    config = json.loads((TINY_GSM / "tokenizer_config.json").read_text())
    config["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def chat(folder, lines, *args, status=0):
    """What a conversation by pipe prints: (standard output, standard error)."""
    text = "".join(line + "\n" for line in lines)
    result = subprocess.run([BINARY, "chat", folder, *map(str, args)], input=text.encode(), capture_output=True,
                            timeout=120)
    assert result.returncode == status, result.stderr.decode()
    return result.stdout.decode(), result.stderr.decode()


def run_text(folder, text, *args):
    """`run` on the plain text of a conversation; its begin-of-text token is the template's."""
    return run("run", folder, "--prompt", text, *args).stdout.decode()


def formatted(system, turns, question):
    """DeepSeek-V2's format, written out by hand."""
    text = f"{system}\n\n" if system else ""
    for asked, answered in turns:
        text += f"User: {asked}\n\nAssistant: {answered}<｜end▁of▁sentence｜>"
    return text + f"User: {question}\n\nAssistant:"


def test_a_line_a_turn_with_the_history_in_the_prompt(model):
    out, err = chat(model, [QUESTION, "", OTHER])
    first = run_text(model, formatted("", [], QUESTION))
    second = run_text(model, formatted("", [(QUESTION, first.strip())], OTHER))
    assert out == first + second
    assert err == ""


def test_system_and_reset(model):
    out, err = chat(model, [QUESTION, "/reset", OTHER, "/system Count well.", "/reset", OTHER, "/system", "/reset",
                            QUESTION], "--system", "Be kind.")
    expected = [run_text(model, formatted("Be kind.", [], QUESTION)), run_text(model, formatted("Be kind.", [], OTHER)),
                run_text(model, formatted("Count well.", [], OTHER)), run_text(model, formatted("", [], QUESTION))]
    assert out == "".join(expected)
    assert err.count("a new conversation") == 3 and "no system message" in err


def test_run_takes_a_system_message(model):
    out = run("run", model, "--chat", "--prompt", QUESTION, "--system", "Be kind.").stdout.decode()
    assert out == run_text(model, formatted("Be kind.", [], QUESTION))


def set_template(model, text):
    config = json.loads((model / "tokenizer_config.json").read_text())
    config["chat_template"] = text
    (model / "tokenizer_config.json").write_text(json.dumps(config))


def test_thinking_is_the_templates_to_know(model):
    for command in (["run", model, "--chat", "--prompt", QUESTION], ["chat", model]):
        result = run(*command, "--thinking", "on", check=False)
        assert result.returncode == 17 and result.stderr.count(b"\n") == 1 and b"--thinking on" in result.stderr
    set_template(model, "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
                        "{% if thinking is defined %}{% if thinking %} Think.{% else %} Do not.{% endif %}{% endif %}")
    for flags, said in ((["--thinking", "on"], " Think."), (["--thinking", "off"], " Do not."), ([], "")):
        expected = run_text(model, QUESTION + said)
        assert run("run", model, "--chat", "--prompt", QUESTION, *flags).stdout.decode() == expected
        assert chat(model, [QUESTION], *flags)[0] == expected


def test_a_message_that_the_template_refuses(model):
    set_template(model, "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
                        "{{ raise_exception('no system here') }}{% endif %}{{ m.content }}{% endfor %}")
    out, err = chat(model, ["/system Be kind.", QUESTION, "/system", QUESTION], status=17)
    assert out == run_text(model, QUESTION)
    assert sum("no system here" in line for line in err.splitlines()) == 1


def test_stop_and_limits(model):
    whole, _ = chat(model, [QUESTION])
    assert "####" in whole
    assert chat(model, [QUESTION], "--stop", "####")[0] == whole[: whole.index("####")] + "\n"
    short, err = chat(model, [QUESTION], "--max-tokens", 3)
    assert whole.startswith(short.rstrip("\n")) and short != whole
    assert "--max-tokens 3" in err


def test_stats_and_help(model):
    out, err = chat(model, ["/stats", "/help", QUESTION, "/stats", "/exit", OTHER])
    assert all(command in out for command in ("/help", "/reset", "/system", "/stats", "/exit", "Ctrl-C"))
    assert out.endswith(run_text(model, formatted("", [], QUESTION)))  # nothing is said after /exit
    assert err.startswith("nothing was said yet\n")
    assert 'end      stop token 1 "<｜end▁of▁sentence｜>"\n' in err
    ids = run("tokenize", model, formatted("", [], QUESTION), "--ids").stdout.decode().strip().split(",")
    assert f"prompt   {len(ids)} tokens" in err


def test_a_slash_can_be_said(model):
    said, err = chat(model, ["//x"])
    assert said == run_text(model, formatted("", [], "/x")) and err == ""
    out, err = chat(model, ["/x"])
    assert out == "" and "/x" in err and "/help" in err


def test_earlier_turns_are_found_in_the_cache(model):
    long_question = " ".join([OTHER] * 12)
    out, err = chat(model, [long_question, QUESTION], "--stats")
    prompts = [tuple(map(int, m)) for m in re.findall(r"prompt   (\d+) tokens in .*?(?:; (\d+) more were cached)", err)]
    assert len(prompts) == 1  # only the second turn found something
    first = len(run("tokenize", model, formatted("", [], long_question), "--ids").stdout.split(b","))
    assert prompts[0][1] == first // 256 * 256 > 0
    # Shared pages change nothing.
    answer = run_text(model, formatted("", [], long_question))
    assert out == answer + run_text(model, formatted("", [(long_question, answer.strip())], QUESTION))


def test_a_turn_that_does_not_fit_says_so_and_reset_helps(model):
    out, err = chat(model, [QUESTION, " ".join([OTHER] * 8), "/reset", OTHER], "--context", 128, status=12)
    assert out == run_text(model, formatted("", [], QUESTION)) + run_text(model, formatted("", [], OTHER))
    line = next(line for line in err.splitlines() if line.startswith("mxmla:"))
    assert "128" in line and "/reset" in line
    # An answer that has no room to end says so too.
    _, err = chat(model, [QUESTION], "--context", 45)
    assert "context of 45 tokens" in err and "/reset" in err


def test_generation_config_decides_where_no_flag_does(model):
    (model / "generation_config.json").write_text(json.dumps(
        {"eos_token_id": 1, "do_sample": True, "temperature": 1.8, "top_p": 0.9, "top_k": 40}))
    lines = [QUESTION, OTHER]
    suggested, err = chat(model, lines)
    assert err == ""
    flags = ["--temperature", 1.8, "--top-p", 0.9, "--top-k", 40]
    assert chat(model, lines, *flags)[0] == suggested
    (model / "generation_config.json").write_text('{"eos_token_id": 1, "do_sample": false, "temperature": 1.8}')
    greedy, _ = chat(model, lines)
    assert chat(model, lines, *flags)[0] == suggested != greedy
    (model / "generation_config.json").unlink()
    assert chat(model, lines)[0] == greedy
    assert chat(model, lines, *flags[:2], "--seed", 3)[0] != chat(model, lines, *flags[:2], "--seed", 4)[0]


def test_run_notes_what_generation_config_suggests(model):
    suggestion = {"eos_token_id": 1, "do_sample": True, "temperature": 0.6, "top_p": 0.95, "top_k": -1,
                  "repetition_penalty": None}
    (model / "generation_config.json").write_text(json.dumps(suggestion))
    result = run("run", model, "--prompt", QUESTION)
    assert "--temperature 0.6 --top-p 0.95;" in result.stderr.decode() and result.stderr.count(b"\n") == 1
    assert run("run", model, "--prompt", QUESTION, "--temperature", 0).stderr == b""
    assert run("run", "tiny-gsm", "--prompt", QUESTION).stderr == b""


@pytest.mark.parametrize("key,value", [("temperature", -1), ("temperature", "hot"), ("top_p", 1.5), ("top_k", -2),
                                       ("do_sample", 1), ("repetition_penalty", 0)])
def test_senseless_generation_config(model, key, value):
    (model / "generation_config.json").write_text(json.dumps({"do_sample": True, key: value}))
    result = run("chat", model, check=False)
    assert result.returncode == 5 and key in result.stderr.decode()
    assert "generation_config.json" in result.stderr.decode()


def test_without_a_template():
    result = subprocess.run([BINARY, "chat", "tiny-gsm"], input=b"hello\n", capture_output=True, timeout=60)
    assert result.returncode == 17 and result.stdout == b""
    assert result.stderr.count(b"\n") == 1 and b"template" in result.stderr


@pytest.mark.parametrize("redirect", ["<&-", "</"])
def test_a_standard_input_that_cannot_be_read(model, redirect):
    result = subprocess.run(["bash", "-c", f'exec "{BINARY}" chat "{model}" {redirect}'], capture_output=True,
                            timeout=60)
    assert result.returncode == 18 and b"standard input" in result.stderr and result.stdout == b""


def test_the_last_line_needs_no_end(model):
    result = subprocess.run([BINARY, "chat", model], input=QUESTION.encode(), capture_output=True, timeout=60)
    assert result.stdout.decode() == run_text(model, formatted("", [], QUESTION))


# A terminal.


class Terminal:
    """The program on a pseudo-terminal that can do nothing."""

    def __init__(self, *args):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([BINARY, *map(str, args)], stdin=slave, stdout=slave, stderr=slave,
                                        env={**os.environ, "TERM": "dumb"}, start_new_session=True,
                                        preexec_fn=lambda: __import__("fcntl").ioctl(0, 0x540E, 0))  # TIOCSCTTY
        os.close(slave)
        self.text = ""

    def wait_for(self, text, seconds=180):
        """Waits for the text behind what was waited for before; returns what came up to its end."""
        end = time.monotonic() + seconds
        while text not in self.text:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"no {text!r} in {self.text!r}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        at = self.text.index(text) + len(text)
        seen, self.text = self.text[:at], self.text[at:]
        return seen

    def send(self, text):
        os.write(self.master, text.encode())

    def end(self):
        status = self.process.wait(timeout=60)
        os.close(self.master)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def test_a_conversation_on_a_terminal(model):
    with Terminal("chat", model) as terminal:
        terminal.wait_for("/help")
        terminal.wait_for("> ")
        terminal.send(QUESTION + "\n")
        seen = terminal.wait_for("#### 7")
        assert "\x1b" not in seen
        terminal.wait_for("> ")
        terminal.send("\x04")  # Ctrl-D
        assert terminal.end() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(model):
    with Terminal("chat", model, "--temperature", 30, "--max-tokens", 100000, "--device", "ref") as terminal:
        terminal.wait_for("> ")
        terminal.send(QUESTION + "\n")
        terminal.wait_for("now?\r\n")
        terminal.wait_for("e")  # something was said
        terminal.send("\x03")
        terminal.wait_for("> ")
        terminal.send("/stats\n")
        terminal.wait_for("end      cancelled")
        terminal.wait_for("> ")
        terminal.send("half a line\x03")
        terminal.wait_for("Ctrl-C again")
        terminal.wait_for("> ")
        terminal.send("/stats\n")  # a line between the two
        terminal.wait_for("cancelled")
        terminal.wait_for("> ")
        terminal.send("\x03")
        terminal.wait_for("Ctrl-C again")
        terminal.wait_for("> ")
        terminal.send("\x03")
        assert terminal.end() == 0


def test_an_interrupt_while_waiting_for_a_pipe_ends_the_program(model):
    process = subprocess.Popen([BINARY, "chat", model], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE)
    process.stdin.write(QUESTION.encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() and process.stdout.readline()  # it waits for the next line, or soon will
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    process.stdin.close()
