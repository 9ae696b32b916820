"""Headless Chromium for the page's tests, and a server in front of mxmla's that answers chats as a script says."""

import http.client
import http.server
import importlib.util
import json
import shutil
import threading
import time

import pytest

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER and importlib.util.find_spec("selenium")), reason="no Chromium with its driver here (MXMLA_SETUP=browser tools/setup.sh installs it)"
)

PHONE = (390, 844)


class Browser:
    """One window. Requests and console messages are kept from its beginning."""

    def __init__(self, size=(1200, 800), dark=False):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars",
                     "--force-device-scale-factor=1", f"--window-size={size[0]},{size[1]}"):  # fmt: skip
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(service=Service(DRIVER), options=options)
        self.driver.set_script_timeout(60)
        self.cdp("Emulation.setDeviceMetricsOverride",
                 {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
        self.scheme("dark" if dark else "light")

    def cdp(self, command, arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def scheme(self, value):
        self.cdp("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": value}]})

    def open(self, address):
        self.address = address
        self.driver.get(address)

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def async_js(self, script, *args):
        """The value that the script's promise resolves to; an exception is an assertion."""
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            f"(async () => {{ {script} }})().then((value) => done({{value}}), (error) => done({{error: String(error.stack)}}));",
            *args,
        )
        assert "error" not in found, found["error"]
        return found.get("value")

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def one(self, selector):
        return self.driver.find_element("css selector", selector)

    def text(self, selector):
        return self.js("return document.querySelector(arguments[0])?.textContent ?? null", selector)

    def until(self, script, *args, seconds=60):
        """Waits until the script returns something true, and returns it."""
        deadline = time.time() + seconds
        while True:
            found = self.js(script, *args)
            if found:
                return found
            assert time.time() < deadline, (script, args, self.text("body"))
            time.sleep(0.02)

    def keys(self, *keys):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def chord(self, modifier, key):
        from selenium.webdriver import ActionChains

        ActionChains(self.driver).key_down(modifier).send_keys(key).key_up(modifier).perform()

    def send(self, text):
        box = self.one("#message")
        self.js("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", box, text)
        box.send_keys("\n")

    def answered(self, count=1, seconds=60):
        """Waits for so many answers, none of them running; returns the last one's text."""
        self.until(
            "const a = document.querySelectorAll('.message.answer');"
            "return a.length === arguments[0] && [...a].every((e) => e.getAttribute('aria-busy') === 'false')",
            count, seconds=seconds)  # fmt: skip
        return self.js("return [...document.querySelectorAll('.message.answer')].at(-1).querySelector(':scope > .markdown').textContent")

    def requests(self):
        """Addresses that the pages have asked for since the last call."""
        found = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                found.append(message["params"]["request"]["url"])
        return found

    def console(self):
        """Errors and warnings since the last call."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]

    def screenshot(self, path):
        self.driver.save_screenshot(str(path))

    def close(self):
        self.driver.quit()


class ScriptedServer:
    """mxmla's own answers for everything but chats, whose streams are the test's.

    `script` is a list of deltas, an Event to wait for, a number of seconds to wait, "break" to cut the connection, or
    (status, JSON) as the whole answer. `bodies` holds what was asked."""

    def __init__(self, port):
        self.script, self.bodies = [], []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.0"

            def do_GET(self):
                if self.path == "/server_info":
                    return self.answer(200, {"version": "0", "model": "scripted", "chat": True, "max_model_len": 1024,
                                             "max_sequences": 8, "max_queue": 8})  # fmt: skip
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("GET", self.path, headers=dict(self.headers))
                found = connection.getresponse()
                self.send_response(found.status)
                for name, value in found.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(found.read())

            def do_POST(self):
                outer.bodies.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                script = list(outer.script)
                if isinstance(script[0], tuple):
                    return self.answer(*script[0])
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.end_headers()
                try:
                    self.stream(script)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def stream(self, script):
                for step in script:
                    if isinstance(step, threading.Event):
                        step.wait(60)
                    elif isinstance(step, (int, float)):
                        time.sleep(step)
                    elif step == "break":
                        return
                    else:
                        self.event({"choices": [{"index": 0, "delta": step, "finish_reason": None}]})
                self.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
                self.event({"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": len(script)}})
                self.wfile.write(b"data: [DONE]\n\n")

            def event(self, data):
                self.wfile.write(b"data: %s\n\n" % json.dumps(data).encode())
                self.wfile.flush()

            def answer(self, status, data):
                body = json.dumps(data).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
