"""What decode_case.mjs does, in Chromium: in_browser.py STALE_CORE.wasm CASE.json [--repeat N].

Serves this folder, the module and the case on the loopback interface, opens a page that decodes, and prints what the
page sends back.
"""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TYPES = {".mjs": "text/javascript", ".wasm": "application/wasm", ".json": "application/json"}
PAGE = """<!doctype html><meta charset="utf-8"><title>decode_case</title><script type="module">
import {{ decodeCase }} from "/here/decode_case.mjs";
const read = async (path) => (await fetch(path)).arrayBuffer();
const decoded = decodeCase(read, "/wasm/{wasm}", "/case/{case}", {repeat});
const body = await decoded.catch((error) => ({{ error: error.message }}));
await fetch("/result", {{ method: "POST", body: JSON.stringify(body) }});
</script>"""


def main(wasm: Path, case: Path, repeat: int) -> int:
    folders = {"here": Path(__file__).parent, "wasm": wasm.parent, "case": case.parent}
    page = PAGE.format(wasm=wasm.name, case=case.name, repeat=repeat).encode()
    received: list[dict] = []
    done = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            folder, _, name = self.path.strip("/").partition("/")
            path = folders.get(folder, Path("/nowhere")) / Path(name).name
            found = page if not folder else path.read_bytes() if path.is_file() else None
            kind = TYPES.get(path.suffix, "application/octet-stream") if folder else "text/html"
            self.send_response(404 if found is None else 200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(found or b"")

        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()
            done.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    chromium = shutil.which("chromium") or "chromium-browser"
    # Chromium's helper processes outlive it by a moment and may still write where its profile is being removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"]
        url = f"http://127.0.0.1:{server.server_port}/"
        browser = subprocess.Popen([chromium, *flags, url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        answered = done.wait(timeout=60)
        browser.terminate()
        browser.wait()
    if not answered or "error" in received[0]:
        print(f"error: {received[0]['error'] if answered else 'Chromium did not answer within 60 s'}", file=sys.stderr)
        return 1
    print(json.dumps(received[0]["layout"], indent=2))
    if received[0]["milliseconds"] is not None:
        print(f"milliseconds: {received[0]['milliseconds']:.3f}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[4]) if len(sys.argv) > 4 else 0))
