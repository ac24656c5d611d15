"""Opens a page of `proxima run --report` in headless Chromium and looks at it as a person would:
no console error, every table has its rows, the matrix adds up to the JSON's totals, sorting and
filtering work by keyboard, nothing is wider than the window.

traffic-page.py PAGE.html COUNTS.json [DIR-FOR-SCREENSHOTS]; skips where Chromium is missing."""
import base64, json, os, pathlib, shutil, subprocess, sys, tempfile

# Of longer tables the page has so many rows, and says so.
MOST_ROWS = {"functions": 1500, "source_lines": 1500}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """Speaks the DevTools protocol over a pipe: messages end with a zero byte."""

    def __init__(self, home):
        to_read, self.to = os.pipe()
        self.come, from_write = os.pipe()
        os.set_inheritable(to_read, True)
        os.set_inheritable(from_write, True)

        def wire():
            # Chromium reads descriptor 3 and writes 4; they may be each other's at first.
            a, b = os.dup(to_read), os.dup(from_write)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe",
             f"--user-data-dir={home}", "about:blank"],
            pass_fds=(3, 4, to_read, from_write), preexec_fn=wire, stderr=subprocess.DEVNULL)
        os.close(to_read), os.close(from_write)
        self.buffer, self.number, self.events, self.session = b"", 0, [], None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def receive(self):
        while b"\0" not in self.buffer:
            part = os.read(self.come, 1 << 16)
            if not part:
                raise SystemExit("FAIL: chromium ended")
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(line)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"FAIL: {method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def open(self, path):
        self.call("Page.navigate", url=pathlib.Path(path).resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive())

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise SystemExit(f"FAIL: {script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def press(self, key, text=None):
        code = {"Enter": 13, "Tab": 9, "ArrowRight": 39}.get(key, 0)
        extra = {"text": text or ("\r" if key == "Enter" else "")} if text or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      **(extra if kind == "keyDown" else {}))

    def size(self, width, height, media=""):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=1, mobile=False)
        scheme = "dark" if media == "dark" else "light"
        self.call("Emulation.setEmulatedMedia", media="print" if media == "print" else "",
                  features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path):
        """In pieces of 1600 pixels, which can be looked at."""
        height = self.run("document.documentElement.scrollHeight")
        width = self.run("innerWidth")
        for number, top in enumerate(range(0, height, 1600)):
            clip = {"x": 0, "y": top, "width": width, "height": min(1600, height - top), "scale": 1}
            data = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)["data"]
            pathlib.Path(f"{path}-{number}.png").write_bytes(base64.b64decode(data))

    def problems(self):
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Runtime.exceptionThrown":
                yield params["exceptionDetails"]["text"] + params["exceptionDetails"].get("exception", {}).get("description", "")
            if method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                yield params["entry"]["text"]
            if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                yield str(params["args"])


def settle(browser):
    browser.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")


def look(browser, page, counts, shots, fail):
    browser.size(1280, 900)
    browser.open(page)
    settle(browser)
    for problem in browser.problems():
        fail(f"console: {problem}")
    if not browser.run("!!document.querySelector('#matrix')"):
        return fail("the page has no matrix")
    browser.events.clear()
    rows = lambda table: browser.run(f"document.querySelectorAll('#table-{table} tbody tr').length")
    for table, key in (("mappings", "mappings"), ("functions", "functions"), ("source", "source_lines"), ("lines", "shared_lines"), ("tasks", "tasks")):
        if key == "tasks" and not counts["tasks_told"]:
            continue
        # The kernel's source lines are in the JSON alone.
        want = [row for row in counts[key] if key != "source_lines" or row["object"] != "[kernel]"]
        if rows(table) != min(len(want), MOST_ROWS.get(key, len(want))):
            fail(f"table {table}: {rows(table)} rows, {len(want)} in the JSON")
    cells = browser.run("[...document.querySelectorAll('#matrix td.cell')].map(c => Number(c.dataset.count))")
    total = sum(c["reads"] + c["writes"] for row in counts["matrix"]["user"] for c in row)
    if sum(cells) != total:
        fail(f"the matrix shows {sum(cells)} accesses, the JSON has {total}")
    heat = browser.run("JSON.stringify(unpack(runs[0]).map(p => [p.page, p.node, ...p.accesses, ...p.lines]))")
    want = [[row[0], row[1], *row[4:]] for row in counts["pages"]["rows"]]
    if json.loads(heat) != want:
        fail("the pages are not those of the JSON")
    # By keyboard alone: filter, then sort.
    browser.run("document.querySelector('[aria-label=\"filter functions\"]').focus()")
    word = counts["functions"][0]["name"][:6].lower() if counts["functions"] else ""
    for letter in word:
        browser.press(letter, letter)
    want = sum(word in f"{f['name']} {f['object']}".lower() for f in counts["functions"])
    if rows("functions") != want:
        fail(f"filtered by {word!r}: {rows('functions')} rows, {want} match")
    # Past the table's own stop to the heads, of which the third is accesses.
    for _ in range(4):
        browser.press("Tab")
    browser.press("Enter")
    state = browser.run("document.activeElement.parentElement.getAttribute('aria-sort') + ' ' + document.activeElement.textContent")
    first = browser.run("[...document.querySelectorAll('#table-functions tbody tr')].map(r => Number(r.cells[2].textContent.replaceAll(',', '')))")
    ascending = state == "ascending accesses"
    if state not in ("ascending accesses", "descending accesses") or first != sorted(first, reverse=not ascending):
        fail(f"sorting by keyboard: {state!r}, {first[:5]}")
    if browser.run("!!document.querySelector('canvas')"):
        browser.run("document.querySelector('canvas').focus()")
        before = browser.run("document.querySelector('#page-text').textContent")
        browser.press("ArrowRight")
        if before == browser.run("document.querySelector('#page-text').textContent"):
            fail("the arrow keys do not move through the pages")
    if browser.run("!!runs[0].flame"):
        wide = browser.run("""new Promise(done => {
            const look = () => {
                const picture = document.querySelector('#flame iframe').contentDocument.querySelector('#frames');
                picture ? done(picture.getBoundingClientRect().width) : requestAnimationFrame(look);
            };
            look();
        })""")
        if wide < 1000:
            fail(f"the flame graph is {wide} pixels wide")
    for name, width, media in (("wide", 1280, ""), ("narrow", 400, ""), ("dark", 1280, "dark"), ("print", 800, "print")):
        browser.size(width, 900, media)
        settle(browser)
        over = browser.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if over > 0:
            fail(f"{name}: {over} pixels wider than the window")
        if shots:
            browser.picture(pathlib.Path(shots) / f"{pathlib.Path(page).stem}-{name}")
    for problem in browser.problems():
        fail(f"console: {problem}")


def main():
    if not CHROMIUM:
        print("skip: chromium is not installed")
        return 0
    page, counts = sys.argv[1], json.load(open(sys.argv[2]))
    failures = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        browser = Browser(home)
        try:
            look(browser, page, counts, sys.argv[3] if len(sys.argv) > 3 else None, failures.append)
        finally:
            browser.process.kill()
            browser.process.wait()
    print("\n".join(f"FAIL: {failure}" for failure in failures) or f"ok: {page}")
    return 1 if failures else 0


sys.exit(main())
