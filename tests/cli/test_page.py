"""The page at /, used in headless Chromium as people use it."""

import json
import re
import threading
import time

import pytest
from browser import PHONE, Browser, ScriptedServer, needs_browser
from conftest import TINY_GSM, needs_tiny_gsm
from test_serve import Served, chat_model  # noqa: F401, the latter a fixture

pytestmark = [needs_browser, needs_tiny_gsm]
QUESTION = "Maya has 24 stickers. She buys 3 packs with 15 stickers each. How many stickers does Maya have now?"


@pytest.fixture(scope="module")
def served():
    server = Served(TINY_GSM)
    yield server
    server.end()


@pytest.fixture(scope="module")
def window():
    browser = Browser()
    yield browser
    browser.close()


def forget(browser):
    """As a browser that never saw the page."""
    browser.async_js(
        """
        localStorage.clear();
        sessionStorage.clear();
        for (const { name } of await indexedDB.databases()) {
          await new Promise((resolve, reject) => {
            const request = indexedDB.deleteDatabase(name);
            request.onsuccess = resolve;
            request.onerror = reject;
            request.onblocked = resolve;
          });
        }"""
    )
    browser.js("window.stop()")
    browser.open("about:blank")
    browser.requests()
    browser.console()


def start(browser, address, name):
    browser.open(address)
    browser.until("return document.querySelector('#model-name').textContent === arguments[0]", name)


@pytest.fixture
def page(window, served):
    """The page of tiny-gsm."""
    address = f"http://127.0.0.1:{served.port}/"
    start(window, address, "tiny-gsm")
    yield window
    assert window.console() == []
    outside = [url for url in window.requests() if not url.startswith((address, "blob:", "data:"))]
    assert outside == []
    forget(window)


@pytest.fixture
def scripted(window, served):
    """The page, with chats whose answers the test writes: (browser, server)."""
    server = ScriptedServer(served.port)
    start(window, server.address, "scripted")
    yield window, server
    assert window.console() == []
    forget(window)
    server.close()


def settings(browser, **values):
    browser.one("#open-settings").click()
    for name, value in values.items():
        browser.one(f"#setting-{name}").clear()
        browser.one(f"#setting-{name}").send_keys(str(value))
    browser.one("dialog button.primary").click()
    browser.until("return !document.querySelector('dialog')")


def texts(browser, selector):
    return browser.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector)


# Conversations.


def test_an_answer_streams_and_is_counted(page):
    page.send(QUESTION)
    assert "69" in page.answered()
    assert texts(page, ".message.user .text") == [QUESTION]
    figures = page.text(".figures")
    assert "tokens/s" in figures and "first after" in figures and " tokens ·" in figures
    assert page.text("#conversations").startswith(QUESTION[:20])
    assert page.js("return document.activeElement.id") == "message"


def test_a_model_with_a_chat_template(window, chat_model):  # noqa: F811
    served = Served(chat_model)
    start(window, f"http://127.0.0.1:{served.port}/", "chatty")
    assert "no chat template" not in window.text(".welcome")
    settings(window, temperature=0, max_tokens=64)
    messages = []
    for count, text in enumerate(("Tom has 5 apples. He buys 7 more. How many apples does Tom have now?", "And Ana has 3 pens?"), 1):
        messages.append({"role": "user", "content": text})
        window.send(text)
        found = window.answered(count)
        status, answer = served.ask("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 64})
        messages.append(answer["choices"][0]["message"])
        # "#### 12" is a heading to Markdown.
        assert "".join(found.split()) == "".join(messages[-1]["content"].replace("#### ", "").split())
    assert "5 + 7 = 12" in messages[1]["content"] and "tokens/s" in window.text(".figures")
    paths = [url.split("/", 3)[3] for url in window.requests() if "/v1/" in url]
    assert paths == ["v1/chat/completions"] * 2
    assert window.console() == []
    forget(window)
    served.end()


def test_the_stream_is_drawn_as_it_comes(scripted):
    page, server = scripted
    go_on = threading.Event()
    server.script = [{"content": "first "}, go_on, {"content": "second"}]
    page.send("x")
    page.until("return document.querySelector('.answer .markdown + div, .answer')?.textContent.includes('first')")
    assert "second" not in page.text(".answer")
    assert page.js("return [document.querySelector('#send').hidden, document.querySelector('#stop').hidden]") == [True, False]
    page.until("return document.querySelector('#conversations .current')?.textContent.startsWith('x')")
    go_on.set()
    assert page.answered() == "first second"
    assert page.text("#announcer") == "Answer: first second"


def test_stop_keeps_what_is_there_and_frees_the_request(page, served):
    # An answer that does not end by itself, stopped by the page when its first text is there.
    page.js(
        """
        const fetch = window.fetch;
        window.fetch = (address, options) => fetch(address, options?.body
          ? { ...options, body: JSON.stringify({ ...JSON.parse(options.body), ignore_eos: true, max_tokens: 1000 }) } : options);
        const timer = setInterval(() => {
          if (document.querySelector("#stop").hidden || !document.querySelector(".answer > .markdown")?.textContent) return;
          clearInterval(timer);
          document.querySelector("#stop").click();
        }, 1);"""
    )
    page.send("A")
    page.answered()
    assert "stopped" in page.text(".figures") and page.text(".answer > .markdown")
    deadline = time.time() + 30
    while served.metric("mxmla_requests_open") > 0:
        assert time.time() < deadline
        time.sleep(0.01)


def test_stop_of_a_slow_stream(scripted):
    page, server = scripted
    server.script = [{"content": "so far"}, threading.Event()]
    page.send("x")
    page.until("return document.querySelector('.answer')?.textContent.includes('so far')")
    page.keys("\ue00c")  # Escape
    assert page.answered() == "so far"
    assert "stopped" in page.text(".figures") and page.js("return document.querySelector('.failure').hidden")
    server.script = [{"content": "whole"}]
    page.one(".regenerate").click()
    page.until("return document.querySelector('.answer').textContent.includes('whole')")
    assert page.answered() == "whole"


def test_regenerate_asks_the_same_again(scripted):
    page, server = scripted
    server.script = [{"content": "one"}]
    page.send("question")
    page.answered()
    page.send("second question")
    page.answered(2)
    server.script = [{"content": "two"}]
    page.all(".regenerate")[1].click()
    page.until("return document.querySelectorAll('.answer')[1].textContent.includes('two')")
    page.answered(2)
    assert server.bodies[2]["messages"] == server.bodies[1]["messages"]
    page.all(".regenerate")[0].click()
    assert "2 messages that follow" in page.text("dialog")
    page.one("dialog button:not(.primary)").click()  # Cancel
    page.until("return !document.querySelector('dialog')")
    assert len(page.all(".answer")) == 2 and len(server.bodies) == 3
    page.all(".regenerate")[0].click()
    page.one("dialog button.primary").click()
    page.until("return document.querySelectorAll('.answer').length === 1 && document.querySelector('.answer').textContent.includes('two')")
    assert server.bodies[3]["messages"] == server.bodies[0]["messages"] == [{"role": "user", "content": "question"}]


def test_an_edited_message_is_sent_again(scripted):
    page, server = scripted
    server.script = [{"content": "one"}]
    page.send("first")
    page.answered()
    page.send("second")
    page.answered(2)
    page.all(".edit-button")[0].click()
    box = page.one("textarea.edit")
    assert box.get_attribute("value") == "first"
    box.send_keys("\ue00c")  # Escape leaves it as it was
    assert texts(page, ".message.user .text") == ["first", "second"] and len(server.bodies) == 2
    page.all(".edit-button")[0].click()
    page.one("textarea.edit").clear()
    page.one("textarea.edit").send_keys("changed")
    page.one(".resend").click()
    page.one("dialog button.primary").click()
    page.until("return document.querySelectorAll('.message.user').length === 1")
    page.answered()
    assert server.bodies[2]["messages"] == [{"role": "user", "content": "changed"}]
    assert texts(page, ".message.user .text") == ["changed"]


def test_a_conversation_outlives_a_reload(page):
    page.send(QUESTION)
    answer = page.answered()
    page.driver.refresh()
    page.until("return document.querySelectorAll('.message').length === 2")
    assert page.answered() == answer
    assert texts(page, ".message.user .text") == [QUESTION]
    page.send("And " + QUESTION)
    page.answered(2)


def test_conversations_are_listed_exported_and_deleted(page):
    for text in ("first of them", "second of them"):
        page.one("#new-conversation").click()
        page.send(text)
        page.answered()
    page.until("return document.querySelectorAll('#conversations li').length === 2")
    assert [t.removesuffix("×") for t in texts(page, "#conversations li")] == ["second of them", "first of them"]
    page.all("#conversations .open")[1].click()
    page.until("return document.querySelector('.message.user .text').textContent === 'first of them'")
    exported = page.async_js(
        """
        const urls = [];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => { urls.push(blob); return create.call(URL, blob); };
        document.querySelector("#export").click();
        for (let i = 0; i < 200 && urls.length === 0; i++) await new Promise((resolve) => setTimeout(resolve, 20));
        URL.createObjectURL = create;
        return urls[0].text();"""
    )
    assert [c["title"] for c in json.loads(exported)["conversations"]] == ["second of them", "first of them"]
    page.js("document.querySelector('#conversations .current .remove').click()")
    page.one("dialog button:not(.primary)").click()  # Cancel
    assert len(page.all("#conversations li")) == 2
    page.js("document.querySelector('#conversations .current .remove').click()")
    page.one("dialog button.primary").click()
    page.until("return document.querySelectorAll('#conversations li').length === 1 && document.querySelector('.welcome')")
    page.one("#delete-all").click()
    page.one("dialog button.primary").click()
    page.until("return document.querySelectorAll('#conversations li').length === 0")
    page.driver.refresh()
    page.until("return document.querySelector('#export')?.disabled")
    assert page.all("#conversations li") == []


def test_settings_are_sent(scripted):
    page, server = scripted
    server.script = [{"content": "x"}]
    page.send("plain")
    page.answered()
    assert set(server.bodies[0]) == {"model", "messages", "stream", "stream_options"}
    settings(page, temperature=0.25, top_p=0.9, top_k=40, min_p=0.05, max_tokens=12, seed=7, system="Be brief.")
    page.driver.refresh()
    page.until("return document.querySelector('#model-name').textContent === 'scripted'")
    page.send("again")
    page.answered(2)
    body = server.bodies[1]
    expected = {"temperature": 0.25, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "max_tokens": 12, "seed": 7}
    assert {name: body[name] for name in expected} == expected
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    assert [m["content"] for m in body["messages"][1:]] == ["plain", "x", "again"]
    page.one("#open-settings").click()
    box = page.one("#setting-top_p")
    box.clear()
    box.send_keys("3")
    page.one("dialog button.primary").click()
    assert page.js("return document.querySelector('#setting-top_p:invalid') !== null")  # stays open
    page.keys("\ue00c")
    page.until("return !document.querySelector('dialog')")


def test_thinking_is_folded_and_tool_calls_are_shown(scripted):
    page, server = scripted
    server.script = [{"role": "assistant", "content": ""}, {"reasoning_content": "let me **see**"}, {"content": "It is 4."},
                     {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"a": "<b>'}}]},
                     {"tool_calls": [{"index": 0, "function": {"arguments": '"}'}}]},
                     {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "other", "arguments": "not JSON"}}]}]  # fmt: skip
    page.send("x")
    assert page.answered() == "It is 4."
    assert page.js("const d = document.querySelector('.thinking'); return [d.open, d.querySelector('.body').textContent]") == [False, "let me see"]
    assert texts(page, ".tool-call .name") == ["look", "other"]
    assert texts(page, ".tool-call pre") == ['{\n  "a": "<b>"\n}', "not JSON"]
    assert texts(page, ".tool-call summary") == ["Tool call look", "Unfinished tool call other"]
    server.script = [{"content": "Yes."}]
    page.send("y")
    page.answered(2)
    assert [c["id"] for c in server.bodies[-1]["messages"][1]["tool_calls"]] == ["c1"]  # the other is no call
    server.script = [{"content": c} for c in "<think>\nhm</think>\n\nFour."]
    page.one("#new-conversation").click()
    page.send("x")
    assert page.answered() == "Four."
    assert texts(page, ".thinking .body") == ["hm"]
    page.send("y")
    page.answered(2)
    assert [m["content"] for m in server.bodies[-1]["messages"]] == ["x", "Four.", "y"]


def test_a_call_that_is_spoiled_stays_unfinished_and_its_text_follows(scripted):
    page, server = scripted
    begun, spoiled, other = threading.Event(), threading.Event(), threading.Event()
    text = "<tool_call>look<arg_key>a</arg_key>*oh*"
    begin = [{"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": ""}}]},
             {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": "b'}}]}]  # fmt: skip
    server.script = [*begin, begun, {"content": text[:9]}, spoiled, {"content": text[9:]},
                     {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "other", "arguments": "{"}}]},
                     {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]}]  # fmt: skip
    state = """return [...document.querySelectorAll('.tool-call')].map(
        (c) => [c.querySelector('summary').textContent, c.open, c.classList.contains('unfinished')])"""
    arguments = "return document.querySelector('.tool-call pre')?.textContent === '{\"a\": \"b'"
    unfinished, whole = ["Unfinished tool call look", False, True], ["Tool call other", True, False]
    page.send("x")
    page.until(arguments)
    assert page.js(state) == [["Tool call look", True, False]]  # more of it may come
    begun.set()
    page.until("return document.querySelector('.tool-call.unfinished')")
    assert page.js("return document.querySelector('.answer').getAttribute('aria-busy')") == "true"
    spoiled.set()
    page.answered()
    assert page.js(state) == [unfinished, whole]
    assert page.text(".answer > .markdown") == "<tool_call>look<arg_key>a</arg_key>oh"
    page.one(".tool-call.unfinished summary").click()
    assert texts(page, ".tool-call pre") == ['{"a": "b', "{}"]
    page.driver.refresh()
    page.until("return document.querySelectorAll('.tool-call').length === 2")
    assert page.js(state) == [unfinished, whole]
    server.script = [{"content": "Yes."}]
    page.send("y")
    page.answered(2)
    sent = server.bodies[-1]["messages"][1]
    assert [c["id"] for c in sent["tool_calls"]] == ["c2"] and sent["content"] == text
    # One that is stopped has no text behind it.
    server.script = [*begin, other]
    page.one("#new-conversation").click()
    page.send("x")
    page.until(arguments)
    page.one("#stop").click()
    page.answered()
    assert page.js(state) == [unfinished] and "stopped" in page.text(".figures")
    other.set()


def test_a_harmful_answer_stays_text(scripted):
    page, server = scripted
    harm = "<img src=x onerror=window.hurt=1><script>window.hurt=1</script> [a](javascript:window.hurt=1)\n\n"
    server.script = [{"content": harm}, {"reasoning_content": harm},
                     {"tool_calls": [{"index": 0, "id": harm, "function": {"name": harm, "arguments": harm}}]}]  # fmt: skip
    page.send(harm)
    page.answered()
    page.driver.refresh()
    page.until("return document.querySelectorAll('.message').length === 2")
    assert page.js("return window.hurt ?? null") is None
    assert page.js("return document.querySelectorAll('.messages img, .messages script, .messages a').length") == 0
    assert page.text(".answer").count("<script>") == 4  # text, thinking, the tool's name and arguments


# What goes wrong.


def test_errors_of_the_api_are_texts(scripted):
    page, server = scripted
    server.script = [(400, {"error": {"message": "max_tokens: expected <b>few</b>, found 9", "param": "max_tokens"}})]
    page.send("x")
    page.answered()
    assert page.text(".failure") == "400: max_tokens: expected <b>few</b>, found 9"
    server.script = [{"content": "now"}]
    page.one(".regenerate").click()
    page.until("return document.querySelector('.answer').textContent.includes('now')")
    page.answered()
    assert page.js("return document.querySelector('.failure').hidden")
    page.console()  # the browser's own line on status 400


def test_a_model_that_loads_is_waited_for(scripted):
    page, server = scripted
    server.script = [(503, {"error": {"message": "the model is being loaded", "code": "model_loading"}})]
    page.send("x")
    while len(server.bodies) < 2:
        time.sleep(0.02)
    server.script = [{"content": "here"}]
    assert page.answered() == "here"
    page.console()  # the browser's own lines on status 503


def test_a_connection_that_breaks_is_said(scripted):
    page, server = scripted
    server.script = [{"content": "half an"}, "break"]
    page.send("x")
    assert page.answered() == "half an"
    assert "broke off" in page.text(".failure")


def test_a_server_that_is_gone_is_said(window):
    served = Served(TINY_GSM)
    start(window, f"http://127.0.0.1:{served.port}/", "tiny-gsm")
    served.end()
    window.send("anyone?")
    window.answered()
    assert "does not answer" in window.text(".failure")
    assert texts(window, ".message.user .text") == ["anyone?"]
    window.until("return document.querySelector('#state').dataset.state === 'gone'")
    window.one("#view-status").click()
    window.until("return document.querySelector('.status .failure').textContent.includes('does not answer')")
    back = Served(TINY_GSM, "--name", "another", port=served.port)
    window.until("return document.querySelector('#model-name').textContent === 'another'")
    window.one("#view-chat").click()
    window.one(".regenerate").click()
    window.until("return document.querySelector('.answer .failure').hidden && document.querySelector('.answer > .markdown').textContent")
    forget(window)
    back.end()


def test_the_key_is_asked_for(window):
    served = Served(TINY_GSM, "--api-key", "right", wait=False)
    try:
        window.open(f"http://127.0.0.1:{served.port}/")
        window.until("return document.querySelector('#api-key')")
        assert window.js("return document.activeElement.id") == "api-key"
        window.keys("\ue00c")  # Escape: later
        window.until("return !document.querySelector('dialog')")
        window.send(QUESTION)
        window.until("return document.querySelector('#api-key')")
        window.one("#api-key").send_keys("wrong\n")
        window.until("return document.querySelector('dialog .problem')")
        window.one("#api-key").send_keys("right\n")
        window.until("return document.querySelector('#model-name').textContent === 'tiny-gsm'")
        assert "69" in window.answered()
        window.driver.refresh()  # the tab keeps the key
        window.until("return document.querySelector('#model-name').textContent === 'tiny-gsm'")
        assert window.js("return [localStorage.getItem('mxmla.key'), document.querySelector('dialog')]") == [None, None]
        window.js("sessionStorage.clear()")
        window.send(QUESTION)
        window.until("return document.querySelector('#api-key')")
        window.keys("\ue00c")
        window.until("return [...document.querySelectorAll('.answer .failure')].at(-1).textContent.startsWith('401')")
        assert [line for line in window.console() if "401" not in line and "503" not in line] == []  # the latter of /health while it loads
    finally:
        forget(window)
        served.end()


def test_a_browser_that_keeps_nothing(served):
    browser = Browser()
    try:
        browser.cdp("Page.addScriptToEvaluateOnNewDocument",
                    {"source": "for (const name of ['indexedDB', 'localStorage', 'sessionStorage'])"
                               "Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } });"})  # fmt: skip
        start(browser, f"http://127.0.0.1:{served.port}/", "tiny-gsm")
        assert "keeps nothing" in browser.text("#storage-note")
        browser.send(QUESTION)
        assert "69" in browser.answered()
        browser.one("#new-conversation").click()
        browser.until("return document.querySelector('.welcome')")
        browser.one("#conversations .open").click()
        assert "69" in browser.answered()
        assert browser.console() == []
    finally:
        browser.close()


# How it looks and is reached.


WIDE = "A wide table and code:\n\n| " + " | ".join(["column"] * 12) + " |\n|" + "--|" * 12 + "\n\n```\n" + "x" * 300 + "\n```\n" + "y" * 300


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_needs_no_sideways_scrolling(served, dark):
    phone = Browser(PHONE, dark)
    server = ScriptedServer(served.port)
    try:
        start(phone, server.address, "scripted")
        server.script = [{"reasoning_content": "z" * 300}, {"content": WIDE}]
        phone.send("w" * 300)
        phone.answered()
        phone.js("document.querySelector('.thinking').open = true")
        fits = "return document.documentElement.scrollWidth <= innerWidth && document.querySelector('#scroller').scrollWidth <= innerWidth"
        assert phone.js(fits)
        assert phone.js("return getComputedStyle(document.querySelector('#sidebar')).visibility") == "hidden"
        phone.one("#menu").click()
        phone.until("return document.querySelector('#sidebar').getBoundingClientRect().left === 0")
        assert phone.js("return document.activeElement.id") == "new-conversation" and phone.js(fits)
        phone.keys("\ue00c")
        phone.until("return getComputedStyle(document.querySelector('#sidebar')).visibility === 'hidden'")
        assert phone.js("return document.activeElement.id") == "menu"
        phone.one("#open-settings").click()
        assert phone.js(fits)
        assert phone.js("return document.querySelector('dialog .primary').getBoundingClientRect().bottom <= innerHeight")
        phone.keys("\ue00c")
        phone.one("#view-status").click()
        phone.until("return document.querySelector('.chart .line').getAttribute('d')")
        assert phone.js(fits)
        assert phone.js("return document.querySelector('#status').scrollWidth <= innerWidth")
        light = phone.js("return getComputedStyle(document.body).backgroundColor") == "rgb(250, 249, 246)"
        assert light != dark
    finally:
        phone.close()
        server.close()


LUMINANCE = """
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const luminance = (color) => {
    const [r, g, b] = color.match(/[\\d.]+/g).map(Number);
    return 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  };
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor;
      if (!color.startsWith("rgba(0, 0, 0, 0") && !color.includes("color(")) return color;
    }
  };
  const contrast = (element) => {
    const [a, b] = [luminance(getComputedStyle(element).color), luminance(behind(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
"""


def test_the_theme_follows_the_system_and_the_switch(scripted):
    page, server = scripted
    server.script = [{"reasoning_content": "hm"}, {"content": "A `word`, [link](https://a.example) and\n\n```c\nint x = 1; // c \"s\"\nchar* s = \"s\";\n```\n\n| a |\n|---|\n| b |"}]
    page.send("x")
    page.answered()
    background = "return getComputedStyle(document.body).backgroundColor"
    light = page.js(background)
    page.scheme("dark")
    dark = page.js(background)
    assert light != dark
    button = page.one("#theme")
    assert button.get_attribute("aria-label") == "Theme: system"
    button.click()
    assert page.js(background) == light and button.get_attribute("aria-label") == "Theme: light"
    button.click()
    page.scheme("light")
    assert page.js(background) == dark
    page.driver.refresh()
    page.until("return document.querySelectorAll('.message').length === 2")
    assert page.js(background) == dark
    # WCAG 2's AA: 4.5 for text of this size.
    for theme in ("dark", "light"):
        page.js("document.documentElement.dataset.theme = arguments[0]", theme)
        low = page.js(LUMINANCE + """
            return [...document.querySelectorAll("body *")].filter((e) =>
              [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim()) && e.checkVisibility() &&
              !e.disabled && contrast(e) < 4.5).map((e) => [e.localName, e.className, e.textContent.slice(0, 30), contrast(e)])""")
        assert low == [], theme


def test_the_keyboard_does_everything(scripted):
    from selenium.webdriver.common.keys import Keys

    page, server = scripted
    server.script = [{"content": "one"}]
    assert page.js("return document.activeElement.id") == "message"
    page.keys("a line")
    page.chord(Keys.SHIFT, Keys.ENTER)
    page.keys("another", Keys.ENTER)
    assert page.answered() == "one"
    assert server.bodies[0]["messages"][0]["content"] == "a line\nanother"
    page.keys(Keys.ARROW_UP)
    assert page.js("return document.activeElement.className") == "edit"
    page.keys("!")
    page.chord(Keys.CONTROL, Keys.ENTER)
    page.until("return document.querySelector('.message.user .text').textContent.endsWith('!')")
    page.answered()
    page.chord(Keys.ALT, "r")
    page.until("return document.querySelectorAll('.answer').length === 1")
    page.answered()
    assert len(server.bodies) == 3
    page.chord(Keys.ALT, "n")
    page.until("return document.querySelector('.welcome')")
    page.chord(Keys.ALT, ",")
    page.until("return document.activeElement.id === 'setting-system'")
    page.keys(Keys.ESCAPE)
    page.until("return !document.querySelector('dialog')")
    page.js("document.activeElement.blur()")
    page.keys("?")
    page.until("return document.querySelector('dialog kbd')")
    page.keys(Keys.ESCAPE)
    page.until("return !document.querySelector('dialog')")
    page.js("document.activeElement.blur()")
    page.keys("/")
    assert page.js("return document.activeElement.id") == "message"
    page.chord(Keys.ALT, "s")
    page.until("return location.hash === '#status' && !document.querySelector('#status').hidden")
    page.chord(Keys.ALT, "s")
    page.until("return !document.querySelector('#chat').hidden")
    # Tab reaches every control that is shown, each with a name and a visible mark.
    page.js("document.activeElement.blur(); document.querySelector('#scroller').focus(); document.activeElement.blur()")
    wanted = set(page.js("return [...document.querySelectorAll('button, a, textarea, summary')]"
                         ".filter((e) => e.checkVisibility() && !e.disabled && e.closest('dialog') === null).map((e) => e.id || e.textContent)"))  # fmt: skip
    reached = set()
    for _ in range(60):
        page.keys(Keys.TAB)
        reached.add(page.js("const e = document.activeElement; return e.id || e.textContent"))
    assert wanted <= reached


def test_names_and_roles(scripted):
    page, server = scripted
    server.script = [{"content": "one"}]
    page.send("x")
    page.answered()
    tree = page.cdp("Accessibility.getFullAXTree", {})["nodes"]
    nodes = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in tree if not n["ignored"]]
    assert all(name for role, name in nodes if role in ("button", "link", "textbox", "navigation", "main", "log", "image"))
    roles = {role for role, _ in nodes}
    assert {"main", "navigation", "log", "status", "article", "textbox"} <= roles
    assert ("textbox", "Message") in nodes and ("button", "Copy answer") in nodes
    ids = page.js("return [...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))


def test_copying(scripted):
    page, server = scripted
    page.cdp("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    server.script = [{"content": "**bold**\n\n```py\nx = 1\n```"}]
    page.send("mine")
    page.answered()
    for label, text in (("Copy code", "x = 1"), ("Copy answer", "**bold**\n\n```py\nx = 1\n```"), ("Copy your message", "mine")):
        page.one(f"[aria-label='{label}']").click()
        page.until(f"return document.querySelector(\"[aria-label='{label}']\").textContent === 'Copied'")
        assert page.async_js("return navigator.clipboard.readText()") == text


def test_a_reader_who_scrolls_up_is_left_alone(scripted):
    page, server = scripted
    go_on = threading.Event()
    server.script = [{"content": "line\n\n" * 100}, go_on, {"content": "more\n\n" * 50}]
    page.send("x")
    page.until("const s = document.querySelector('#scroller'); return s.scrollTop > 100 && s.scrollHeight - s.clientHeight - s.scrollTop < 60")
    page.js("document.querySelector('#scroller').scrollTop = 40")
    page.until("return !document.querySelector('#to-latest').hidden")
    go_on.set()
    page.answered()
    assert page.js("return document.querySelector('#scroller').scrollTop") == 40
    page.one("#to-latest").click()
    page.until("const s = document.querySelector('#scroller'); return s.scrollHeight - s.clientHeight - s.scrollTop < 2")


# The status view.


def test_status_draws_the_metrics(page, served):
    page.open(f"http://127.0.0.1:{served.port}/#status")
    page.driver.refresh()
    page.until("return document.querySelectorAll('.chart').length === 6 && document.querySelector('.chart .line').getAttribute('d') !== null")
    served.complete(prompt="Question: " + QUESTION + "\nAnswer:")
    expected = int(served.metric("mxmla_generation_tokens_total"))
    shown = "const f = [...document.querySelectorAll('.facts div')].find((d) => d.firstChild.textContent === arguments[0]); return f?.lastChild.textContent"
    page.until(f"return (() => {{ {shown} }})(arguments[0])?.replaceAll(',', '') === arguments[1]".replace("arguments[0]); return f", "'Tokens generated'); return f"),
               "Tokens generated", str(expected))  # fmt: skip
    assert page.js(shown, "Context") == "1,024 tokens" and page.js(shown, "At once") == "32 requests"
    assert "tiny-gsm on mxmla" in page.text(".lead")
    page.until("return document.querySelector('.chart').textContent.match(/generated (\\d|0)/)")
    label = page.js("return [...document.querySelectorAll('.chart svg')].map((e) => e.getAttribute('aria-label'))")
    assert label[0].startswith("Tokens a second: generated") and label[2].startswith("Time to first token: median")
    assert all(re.search(r"median [\d.]+, p95 [\d.]+$", label[i]) for i in (2, 3))


# Parts by themselves.


def test_event_streams_in_any_pieces(page):
    stream = ": comment\r\ndata: one\r\n\r\ndata:two\ndata: lines\n\nevent: x\ndata: {\"é\": \"🎉\"}\n\n\ndata: last\r\rdata: cut"
    found = page.async_js(
        """
        const { readEvents } = await import("/page/sse.js");
        const bytes = new TextEncoder().encode(arguments[0]);
        const all = [];
        for (let split = 0; split <= bytes.length; split++) {
          const body = new ReadableStream({ start(c) {
            if (split > 0) c.enqueue(bytes.slice(0, split));
            if (split < bytes.length) c.enqueue(bytes.slice(split));
            c.close();
          } });
          const events = [];
          for await (const data of readEvents(body)) events.push(data);
          all.push(JSON.stringify(events));
        }
        return [...new Set(all)];""",
        stream,
    )
    assert [json.loads(events) for events in found] == [["one", "two\nlines", '{"é": "🎉"}', "last"]]


def test_thinking_is_told_from_the_answer(page):
    cases = [("plain", "", "plain", False), ("<think>a</think>b", "a", "b", False), ("\n<think>\na\n</think>\n\nb", "a", "b", False),
             ("<think>a", "a", "", True), ("a</think>b", "a", "b", False), ("<thi", "", "", True), ("<this", "", "<this", False),
             ("say <think> and </think>", "", "say <think> and </think>", False), ("", "", "", False)]  # fmt: skip
    found = page.async_js('const { splitThinking } = await import("/page/thinking.js"); return arguments[0].map((t) => splitThinking(t))',
                          [case[0] for case in cases])  # fmt: skip
    assert [(f["thinking"], f["answer"], f["isOpen"]) for f in found] == [case[1:] for case in cases]


def test_a_chart_has_the_scale_of_its_values(page):
    found = page.async_js(
        """
        const { Chart } = await import("/page/chart.js");
        return arguments[0].map((values) => {
          const chart = new Chart("Time", "ms", ["median"], String);
          chart.update([1, 2], [values], 60);
          return [chart.element.querySelector(".unit").textContent, chart.drawing.getAttribute("aria-label")];
        });""",
        [[None, None], [0, 0], [None, 3], [40, 70]],
    )
    assert found == [["", "Time: median –"], ["", "Time: median 0"], ["5 ms", "Time: median 3"], ["100 ms", "Time: median 70"]]


def test_quantiles_are_prometheus(page):
    text = 'h_bucket{le="1"} %d\nh_bucket{le="2"} %d\nh_bucket{le="4"} %d\nh_bucket{le="+Inf"} %d\nh_sum 9\nh_count %d\n'
    found = page.async_js(
        """
        const { parseMetrics, quantileBetween } = await import("/page/prometheus.js");
        const [before, after] = arguments[0].map(parseMetrics);
        return arguments[1].map((q) => quantileBetween(before, after, "h", q)).concat(quantileBetween(after, after, "h", 0.5));""",
        [text % (10, 10, 10, 10, 10), text % (12, 16, 18, 20, 20)],
        [0.1, 0.2, 0.5, 0.8, 0.95],
    )
    # Of ten: two up to 1, four up to 2, two up to 4, two above.
    assert found == pytest.approx([0.5, 1, 1.75, 4, 4, None])
