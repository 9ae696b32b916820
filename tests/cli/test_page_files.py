"""The page's files, as the server sends them."""

import http.client

from conftest import REPOSITORY, TINY_GSM, needs_tiny_gsm
from test_serve import Served

pytestmark = needs_tiny_gsm


def test_files_have_tags_types_and_a_strict_policy():
    served = Served(TINY_GSM)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)

    def get(path, headers=None, method="GET"):
        connection.request(method, path, headers=headers or {})
        answer = connection.getresponse()
        return answer, answer.read()

    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    for file in sorted((REPOSITORY / "web").iterdir()):
        path = "/" if file.name == "index.html" else f"/page/{file.name}"
        answer, body = get(path)
        assert answer.status == 200 and body == file.read_bytes(), path
        assert answer.getheader("content-type").startswith(types[file.suffix[1:]])
        policy = answer.getheader("content-security-policy")
        assert "default-src 'none'" in policy and "unsafe" not in policy and "script-src 'self'" in policy
        tag = answer.getheader("etag")
        again, empty = get(path, {"If-None-Match": tag})
        assert again.status == 304 and empty == b"" and again.getheader("content-length") is None
        assert get(path, {"If-None-Match": '"other"'})[0].status == 200
        head, nothing = get(path, method="HEAD")
        assert head.status == 200 and nothing == b"" and int(head.getheader("content-length")) == len(body)
    for path in ("/page/", "/page/../page/app.js", "/page/app.js/", "/page/none.js", "/index.html", "//"):
        assert get(path)[0].status == 404
    assert get("/", method="POST")[0].status in (404, 405)
    connection.close()
    served.end()


def test_the_page_is_plain():
    html = (REPOSITORY / "web" / "index.html").read_text()
    assert "onclick" not in html and "style=" not in html and "javascript:" not in html
    for file in (REPOSITORY / "web").iterdir():
        text = file.read_text()
        assert len(text.splitlines()) < 400, file
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, (file, word)
