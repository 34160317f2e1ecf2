"""A headless Chromium, driven through chromedriver's own protocol (https://www.w3.org/TR/webdriver2/)."""

import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "needs Chromium and chromedriver (Debian: chromium, chromium-driver)"
PATIENCE_S = 200  # a busy machine may start a browser slowly


class Browser:
    """A window; `console` and `requests` tell what a page said and asked of the network since they were last read."""

    def __init__(self, width=1200, height=900, dark=False):
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self._driver = subprocess.Popen([DRIVER, "--port=0"], text=True, **quiet)
        for line in self._driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found:
                break
        self._address = f"http://127.0.0.1:{found[1]}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
                     f"--window-size={width},{height}"]  # fmt: skip
        arguments += ["--blink-settings=preferredColorScheme=0"] if dark else []
        wanted = {"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
                  "goog:chromeOptions": {"binary": CHROMIUM, "args": arguments}}  # fmt: skip
        for left in (2, 1, 0):  # chromedriver gives a browser a minute to start, which a busy machine may need
            try:
                self._address += "/" + self._send("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
                break
            except OSError:
                if not left:
                    self._end_driver()
                    raise
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}  # windows have a least width
        self._send("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": size})

    def open(self, path):
        self._send("/url", {"url": Path(path).absolute().as_uri()})

    def run(self, script, *arguments):
        """What a script, the body of a function, returns."""
        return self._send("/execute/sync", {"script": script, "args": list(arguments)})

    def move(self, x, y):
        """Moves the mouse to a place of the window."""
        actions = [{"type": "pointerMove", "x": round(x), "y": round(y), "duration": 0}]
        self._send("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": actions}]})

    def console(self):
        """Errors and warnings the page has caused."""
        return [entry["message"] for entry in self._log("browser") if entry["level"] in ("SEVERE", "WARNING")]

    def requests(self):
        """Addresses the page has asked for, those that need no network left out."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        asked = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        addresses = [params["request"]["url"] for params in asked]
        return [url for url in addresses if not url.startswith(("file:", "data:", "blob:"))]

    def screenshot(self, path):
        Path(path).write_bytes(base64.b64decode(self._send("/screenshot")))

    def _log(self, kind):
        return self._send("/se/log", {"type": kind})

    def _send(self, path, data=None):
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(self._address + path, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as reply:
            return json.load(reply)["value"]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        try:
            urllib.request.urlopen(urllib.request.Request(self._address, method="DELETE"), timeout=PATIENCE_S).close()
        finally:
            self._end_driver()

    def _end_driver(self):
        self._driver.terminate()
        self._driver.wait()
        self._driver.stdout.close()
