"""Drives the admin page in headless Chromium: drive.py SCENARIO JSON.

Where the test has something to do meanwhile, it prints `step NAME` and waits for a line. Whatever it waits for, it waits for
a condition; whatever goes wrong ends it with a traceback and the page's text.
"""

import io
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import axe_playwright_python
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

# More than anything takes on a busy machine.
LIMIT_SECONDS = 60

AXE = pathlib.Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text()


def program(*names):
    for name in names:
        if path := shutil.which(name):
            return path
    sys.exit(f"{names[0]} is not installed: run `cargo xtask setup`")


class Page:
    """A browser with the page in it."""

    def __init__(self, options):
        self.options = options
        self.home = tempfile.TemporaryDirectory(prefix="weir-chromium-")
        # A profile of its own: what the browser keeps goes with it.
        os.environ["HOME"] = self.home.name
        chosen = webdriver.ChromeOptions()
        chosen.binary_location = program("chromium", "chromium-browser")
        for argument in [
            "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-extensions",
            "disable-background-networking", "disable-component-update", "disable-sync", "force-device-scale-factor=1",
            "no-proxy-server", "hide-scrollbars", "disable-lcd-text", "window-size=1280,800",
        ]:
            chosen.add_argument("--" + argument)
        chosen.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=chosen, service=Service(program("chromedriver")))
        self.driver.set_page_load_timeout(LIMIT_SECONDS)
        self.driver.set_script_timeout(LIMIT_SECONDS)
        self.messages = []
        self.addresses = set()
        self.size(1280, 800)

    def close(self):
        self.driver.quit()
        self.home.cleanup()

    def cdp(self, method, **parameters):
        return self.driver.execute_cdp_cmd(method, parameters)

    def size(self, width, height):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def theme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}, {"name": "prefers-reduced-motion", "value": "reduce"}]
        self.cdp("Emulation.setEmulatedMedia", media="", features=features)

    def open(self, place=""):
        self.driver.get(self.options["url"] + place)

    def text(self, selector="body"):
        """What a person reads there; empty where it isn't."""
        script = "return [...document.querySelectorAll(arguments[0])].map((found) => found.innerText).join('\\n')"
        return self.driver.execute_script(script, selector)

    def wait(self, what, condition):
        """Until it is true, with its value."""
        end = time.monotonic() + LIMIT_SECONDS
        while time.monotonic() < end:
            if found := condition():
                return found
            time.sleep(0.05)
        raise AssertionError(f"waited for {what}; the page says:\n{self.text()}")

    def wait_for(self, text, selector="body"):
        self.wait(f"{text!r} in {selector}", lambda: text in self.text(selector))

    def press(self, key):
        ActionChains(self.driver).send_keys(key).perform()

    def tab_to(self, name):
        """Presses Tab until what has the focus is called this."""
        seen = []
        for _ in range(120):
            self.press(Keys.TAB)
            focused = self.driver.switch_to.active_element
            seen.append(focused.accessible_name)
            if seen[-1] == name:
                outline = self.driver.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
                assert outline != "none", f"no focus is seen on {name}"
                return
        raise AssertionError(f"Tab never comes to {name}: {seen}")

    def sign_in(self, token):
        self.wait("the field for a token", lambda: self.driver.find_elements(By.ID, "token"))
        self.driver.find_element(By.ID, "token").send_keys(token, Keys.ENTER)

    def barriers(self):
        """axe-core's violations of what is shown, in both themes."""
        found = []
        for theme in ["light", "dark"]:
            self.theme(theme)
            self.driver.execute_script(AXE)
            script = "const done = arguments[0]; axe.run(document, {resultTypes: ['violations']}).then((it) => done(it.violations))"
            for violation in self.driver.execute_async_script(script):
                nodes = [(node["html"][:160], node.get("failureSummary", "")) for node in violation["nodes"][:3]]
                found.append(f"{theme}: {violation['id']}: {violation['help']}: {nodes}")
        self.theme("light")
        return found

    def expect_no_barriers(self, what):
        if found := self.barriers():
            raise AssertionError(f"{what}: " + "\n".join(found))

    def picture(self, name):
        if folder := self.options.get("pictures"):
            # Few colours: with a palette it has a third of the bytes, and looks the same.
            picture = Image.open(io.BytesIO(self.driver.get_screenshot_as_png())).convert("RGB")
            picture.quantize(256, dither=Image.Dither.NONE).save(f"{folder}/{name}.png", optimize=True)

    def expect_quiet(self, expected=()):
        """No error or policy violation in the console, and nothing asked of anybody else."""
        for entry in self.driver.get_log("browser"):
            if entry["level"] in ("SEVERE", "WARNING") and not any(text in entry["message"] for text in expected):
                self.messages.append(entry["message"])
        assert not self.messages, self.messages
        for entry in self.driver.get_log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self.addresses.add(event["params"]["request"]["url"])
        others = [url for url in self.addresses if not url.startswith((self.options["url"], "data:"))]
        assert self.addresses and not others, others


def step(name):
    """Has the test do something."""
    print(f"step {name}", flush=True)
    if not sys.stdin.readline():
        sys.exit("the test is gone")


def moving(page, selector):
    """Whether a figure is above nothing."""
    text = page.text(selector).strip()
    return text if text and text.split()[0] not in ("0", "–") else None


def node(name):
    return f"[data-node={json.dumps(name)}]"


def operate(page):
    """Sees both planes, drains by keyboard, sets a weight, looks at an endpoint's past."""
    endpoint, other = page.options["endpoint"], page.options["other"]
    page.theme("light")
    page.open()
    page.sign_in(page.options["token"])
    page.wait_for("Topology", "main h2")

    # The whole way of both planes, each part joined to the next.
    ways = page.options["ways"]
    for way in ways:
        for name in way:
            page.wait(name, lambda: page.driver.find_elements(By.CSS_SELECTOR, node(name)))
        for before, after in zip(way, way[1:]):
            ends = "".join(page.driver.find_element(By.CSS_SELECTOR, node(one)).get_attribute("outerHTML") for one in (before, after))
            assert f"&quot;{after}&quot;" in ends or f"&quot;{before}&quot;" in ends, f"{before} is not joined to {after}"
    assert endpoint in page.text(node("endpoints tcp4"))
    drawn = len(page.driver.find_elements(By.CSS_SELECTOR, ".lines path"))
    assert drawn >= sum(len(way) - 1 for way in ways) - 2, drawn
    assert "117 not checked, 3 draining" in page.text(node("cluster fleet"))
    assert "and 117 more endpoints" in page.text(node("endpoints fleet"))

    # Rates move, in nodes and in all together.
    for name in ["listener l4 tcp tcp4", "listener l7 http web", "cluster shop", "endpoints shop"]:
        page.wait(f"rates of {name}", lambda: any(moving_word(word) for word in rates_of(page.text(node(name)))))
    first = page.wait("requests", lambda: moving(page, ".tile:nth-child(1) b"))
    page.wait("another figure", lambda: page.text(".tile:nth-child(1) b").strip() != first)

    page.expect_no_barriers("the topology")
    step("one endpoint away")
    page.wait_for("degraded", ".verdict")
    page.wait_for("1 of 3 backends unhealthy", ".findings")
    # By then the small lines have something to draw.
    if page.options.get("pictures"):
        page.wait("some time", lambda: page.driver.execute_script("return document.querySelector('.spark path').getAttribute('d').length") > 500)
    page.picture("page")
    page.theme("dark")
    page.picture("page-dark")
    page.theme("light")

    # By keyboard alone: to the cluster, to the button, through the dialog.
    page.driver.execute_script("document.activeElement.blur()")
    page.tab_to("tcp4")
    page.press(Keys.ENTER)
    page.wait_for("Cluster tcp4", "main h2")
    page.wait_for(endpoint, "tbody")
    page.expect_no_barriers("the cluster")
    page.tab_to(f"Drain {endpoint}")
    page.press(Keys.ENTER)
    page.wait_for(f"Drain {endpoint}?", "dialog[open]")
    page.expect_no_barriers("the dialog")
    page.tab_to("Drain")
    page.press(Keys.ENTER)
    page.wait_for(f"{endpoint} drains: generation", "#outcome")
    page.wait("the state", lambda: "draining" in row(page, endpoint) and "0 of 1" in row(page, endpoint))
    focused = page.driver.switch_to.active_element.accessible_name
    assert focused == f"Undrain {endpoint}", f"the focus is on {focused}"
    step("drained")

    # A weight, durably, with what the daemon says of it.
    page.tab_to(f"Weight of {other}")
    page.press(Keys.ENTER)
    page.wait_for(f"Set weight of {other}?", "dialog[open]")
    page.press("7")
    page.driver.execute_script("document.querySelector('#dialog-weight').value = '7'; document.querySelector('#dialog-durable').checked = true")
    page.press(Keys.ENTER)
    page.wait("the weight", lambda: " 7 " in row(page, other))
    step("weighted")

    # An endpoint and its past.
    page.open("#/clusters/shop/" + page.options["web"])
    page.wait_for(f"Endpoint {page.options['web']}", "main h2")
    page.wait_for("Requests a second", "main figcaption")
    least = 600 if page.options.get("pictures") else 20
    length = "return document.querySelector('.chart > svg .line.main').getAttribute('d').length"
    page.wait("its past", lambda: page.driver.execute_script(length) > least)
    label = page.driver.find_element(By.CSS_SELECTOR, ".chart svg[role=img]").get_attribute("aria-label")
    assert "requests: now" in label, label
    page.wait_for("its check passes again", ".history")
    page.wait_for("unhealthy", ".history")
    page.expect_no_barriers("the endpoint")
    page.picture("page-endpoint")

    # Ten thousand fit as fifty a time do.
    page.open("#/clusters/fleet")
    page.wait_for("Page 1 of 3", ".pager")
    assert len(page.driver.find_elements(By.CSS_SELECTOR, "tbody tr")) == 50
    assert page.text("tbody tr:first-child").find("draining") > 0, "what needs a look is not first"
    page.driver.find_element(By.ID, "endpoints-filter").send_keys("203.0.113.10")
    page.wait_for("10 endpoints", "main")
    page.open("#/clusters/nowhere")
    page.wait_for("no cluster nowhere", "main")

    # A narrow window has all of it below one another.
    page.size(360, 780)
    page.open("#/")
    page.wait_for("Topology", "main h2")
    wide = page.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= 360, f"{wide} pixels in a window of 360"
    page.expect_no_barriers("a narrow window")
    page.picture("page-narrow") if page.options.get("narrow") else None
    page.expect_quiet(["status of 401", "status of 404"])


def rates_of(text):
    words = text.replace("\n", " ").split(" ")
    return [before for before, unit in zip(words, words[1:]) if unit in ("pkt/s", "req/s", "flows/s")]


def moving_word(word):
    return word not in ("0", "–", "")


def row(page, endpoint):
    """An endpoint's words, each cell's followed by a space."""
    script = "return [...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.textContent.trim() + ' ').join(''))"
    return next((found for found in page.driver.execute_script(script) if found.startswith(endpoint + " ")), "")


def access(page):
    """Tokens that are wrong, that may read only, and none."""
    page.open()
    page.wait_for("Who asks?", "main")
    page.expect_no_barriers("the field for a token")
    page.sign_in("nobody-has-this-token")
    page.wait_for("no such token", "[role=alert]")
    page.sign_in(page.options["reader"])
    page.wait_for("Topology", "main h2")
    page.wait_for("token reader, read only", "header")
    page.open("#/clusters/tcp4")
    page.wait_for(page.options["endpoint"], "tbody")
    page.wait_for("token reader may read only", "main")
    names = [button.accessible_name for button in page.driver.find_elements(By.CSS_SELECTOR, "main button")]
    assert not any("rain" in name or "eight" in name for name in names), names
    # It is gone with a word, and in no storage that outlives the tab.
    kept = page.driver.execute_script("return JSON.stringify(localStorage)")
    assert page.options["reader"] not in kept
    next(button for button in page.driver.find_elements(By.CSS_SELECTOR, "header button") if button.text == "Sign out").click()
    page.wait_for("Who asks?", "main")
    page.expect_quiet(["status of 401"])


def absence(page):
    """The daemon goes, and comes back; a pause."""
    page.open()
    page.sign_in(page.options["token"])
    page.wait_for("Topology", "main h2")
    step("stop")
    page.wait_for("The daemon does not answer", "#notice[aria-live=polite]")
    assert page.options["endpoint"] in page.text("main"), "what was seen is gone"
    page.expect_no_barriers("the notice")
    step("start")
    page.wait("its return", lambda: "does not answer" not in page.text("#notice"))
    next(button for button in page.driver.find_elements(By.CSS_SELECTOR, "header button") if button.text == "Pause").click()
    page.wait_for("Paused at", "#notice")
    page.expect_quiet(["status of 401", "net::ERR_"])


def main():
    page = Page(json.loads(sys.argv[2]))
    try:
        {"operate": operate, "access": access, "absence": absence}[sys.argv[1]](page)
    finally:
        page.close()


main()
