"""Text that text_fixtures.py trains on and tests with. Written for this purpose."""

import random

_PARAGRAPHS = [
    "The river bends twice before it reaches the old mill, and the miller's daughter says it's older than the town. "
    "She'll tell you so, if you've time; we're told they'd rather not. I'm sure that isn't all there is to it.",
    "A cache keeps what was computed before. When a new token arrives, its key and value join the cache, and the "
    "attention reads all of them again. The latent vector is small, so the cache is small too.",
    "def attend(query, key, value):\n    scale = 1.0 / len(query) ** 0.5\n\tscores = [dot(query, k) * scale for k in "
    "key]\n    if not scores:\n        return None\n    return weighted_sum(softmax(scores), value)  # done\n\n",
    "for (int i = 0; i < count; ++i) {\n\t\tsum += values[i] * weights[i];\n\t}\r\n\treturn sum != 0 ? sum : -1;\r\n",
    "Les élèves étaient déjà là; où est l'été? Größe, Straße, Übung. El niño comió piñas mañana. Çok güzel, ığdır.",
    "Москва стоит на реке, и река течёт медленно. Київ і Львів — міста. Ελληνικά γράμματα και λέξεις.",
    "今天的天气很好，我们去公园散步。模型把文字变成数字，再把数字变成文字。你好，世界！这是一个小小的测试。",
    "今日は天気がいいので、公園を散歩します。カタカナとひらがなと漢字。トークンを数える。",
    "오늘은 날씨가 좋아서 공원에서 산책합니다. 한국어 문장은 띄어쓰기를 합니다.",
    "الطقس جميل اليوم ونحن نمشي في الحديقة. هذا اختبار صغير.",
    "आज मौसम अच्छा है और हम बगीचे में टहलते हैं। यह एक छोटा परीक्षण है।",
    "วันนี้อากาศดี เราไปเดินเล่นในสวน นี่คือการทดสอบเล็ก ๆ",
    "In 1984 there were 12345 of them, 3.14159 each, 100% of 2024; call 555-0199 at 10:30. 0123456789 9876543210.",
    "User: What is this?\n\nAssistant: It is a test.\n\nUser: Thank you!\n\nAssistant: You are welcome.\n\n",
    "You are Kimi, an AI assistant created by Moonshot AI. You are a helpful assistant. system user assistant think",
    "🙂 👍🏽 👨‍👩‍👧‍👦 🇫🇷 ❤️ ✨ (╯°□°)╯ → ≤ ≥ ≠ ∑ ∫ √ “quotes” ‘single’ — dash … ¿qué? ¡sí!",
    "{\"name\": \"value\", \"list\": [1, 2, 3], \"nested\": {\"a\": null, \"b\": true}}\n<div class=\"x\">text</div>\n",
]
CORPUS = [p for p in _PARAGRAPHS for _ in range(4)]

_FIXED = [
    "",
    " ",
    "\n",
    "Hello, world!",
    " leading and trailing  ",
    "it's IT'S we'll WE'LL they'Ve I'D 'tis don'ts \u017f'\u017f",
    "你好，世界！今天12345号。漢字かなカナ한글",
    "ひらがなカタカナ漢字ー々〆ヶ",
    "العربية مع تشكيل: مُحَمَّد ١٢٣",
    "हिन्दी में क्षत्रिय ज़ और ड़ ॐ १२३",
    "ภาษาไทยไม่มีช่องว่าง ๑๒๓",
    "👨‍👩‍👧‍👦👍🏽🇫🇷❤️‍🔥 🧑🏿‍🚀 a👩‍💻b",
    "e\u0301 n\u0303 a\u0308\u0304 Z\u0351\u036b\u0343 \u0301start",
    "def f(x):\n\tif x:\n\t\treturn  1\n    # c\r\n\r\n\r\nend\r",
    "1234567890 3.14159 1,000,000 ٠١٢٣٤٥ ²³ Ⅷ ½ ①②③ 12ab34",
    "     five\n\n\n   three\t\t\ttabs \u00a0nbsp\u00a0\u00a0 \u3000ideographic\u3000\u3000space\u2003em\u200bzero\ufeffbom",
    "a \n b  \n  c\n \n\n d   ",
    "\u2028line\u2029para\u0085nel\u180evowel\u202fnarrow\u205fmath\u1680ogham\x1cfs\x1f\x0b\x0c",
    "!!!???...,,,;;;:::---___***###@@@%%%^^^&&&((()))[[[]]]{{{}}}<<<>>>|||\\\\\\///```~~~\"\"\"'''",
    "！？。，、；：“”‘’（）《》【】…—·～￥「」『』〈〉",
    "$100 €50 £20 ¥1000 ₹5 +1-2=3 a<b>c d|e ^_` ~x",
    "http://example.com/path?q=1&r=a%20b#frag user@example.org C:\\dir\\file.txt",
    "CamelCase snake_case SCREAMING_CASE kebab-case XMLHttpRequest iPhone15Pro",
    "\x00\x01\x7f\u0080\ufffd\uffff\U0010ffff",
    "𝒜𝓁𝓅𝒽𝒶 𐐀𐐨 𑢠 𞤀 𠀀𠮷野家 龥龦 \u0800\u4e00\ud7a3\ud7ff",
    "ǅ ǈ ʰ ª º ˆ ſ ﬀ ﬆ ß ẞ İ ı Σσς ꭰ Ꭰ",
    "<think>\nso\n</think>\n\nanswer",
    "User: hi\n\nAssistant:",
    "a" * 300 + " " * 70 + "b" * 40 + "\n" * 9 + "=" * 33 + "中" * 50 + "7" * 40,
]
_BROKEN = [
    b"\xff",
    b"abc\x80def",
    b"\xe4\xbd",
    b"\xe4\xbd\xa0\xe5\xa5",
    b"\xf0\x9f\x98 x \xf0\x9f\x98\x80",
    b"\xc0\xaf\xe0\x80\x80\xed\xa0\x80\xed\xbf\xbf",
    b"\xf4\x90\x80\x80 \xf8\x88\x80\x80\x80 \xfe\xff",
    b"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41",
    b"ok \xc3\xa9 \xc3( \xa9",
]
_ATOMS = [
    "a", "Z", "the", "'s", "'LL", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000", "\u2009", "0", "42", "2024", "٣", "²",
    "Ⅷ", "中", "文字", "あ", "ア", "ー", "한", "글", "é", "e\u0301", "ß", "Я", "λ", "م", "ُ", "क", "्", "ष", "ก", "่", "🙂", "👍🏽",
    "\u200d", "👩‍💻", "\ufe0f", ".", ",", "!", "?!", "-", "_", "(", ")", "[", "]", "{", "}", "<", ">", "|", "\"", "'", "`", "$",
    "+", "=", "~", "。", "，", "！", "“", "”", "—", "…", "\u2028", "\u0085", "\u180e", "\x00", "\x1c", "\U00010400", "\U00020000", "ǅ",
    "ʰ", "ª", "_x", "x_", "http", "def", "\u0378", "\ue000",
]  # fmt: skip


def hard_texts(marks, count=300, seed=20240607):
    """bytes: fixed texts, broken UTF-8, and random mixtures with `marks` (special tokens) among them."""
    rng = random.Random(seed)
    texts = [t.encode("utf-8", errors="surrogatepass") for t in _FIXED] + _BROKEN
    for mark in marks:
        texts.append(f"x {mark} y{mark}{mark}\n{mark[:-1]} {mark[1:]} <{mark}>".encode())
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 14)):
            pick = rng.random()
            if pick < 0.04:
                parts.append(rng.choice(marks).encode())
            elif pick < 0.08:
                parts.append(bytes([rng.randint(0x80, 0xFF)]))
            elif pick < 0.12:
                code = rng.choice([rng.randint(0x20, 0x2FF), rng.randint(0x300, 0xD7FF), rng.randint(0xE000, 0x1FFFF)])
                parts.append(chr(code).encode())
            else:
                parts.append((rng.choice(_ATOMS) * rng.choice([1, 1, 1, 1, 2, 3])).encode())
        texts.append(b"".join(parts))
    return texts
