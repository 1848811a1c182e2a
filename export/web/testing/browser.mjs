// A file server for the page, and a Chromium that opens it.
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

import { chromium } from "playwright-core";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
const TYPES = {
  ".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".json": "application/json",
  ".svg": "image/svg+xml", ".wasm": "application/wasm",
};

/** Serve the folder of the page on loopback; gives the address and a way to stop. */
export async function serve() {
  const server = createServer(async (request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url ?? "/", "http://page").pathname));
    const name = path === "/" ? "index.html" : path;
    try {
      const content = await readFile(join(ROOT, name));
      response.writeHead(200, { "content-type": TYPES[extname(name)] ?? "application/octet-stream" }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", () => done(null)));
  return { address: `http://127.0.0.1:${server.address().port}/`, stop: () => server.close() };
}

/** Start the Chromium of the system; CHROMIUM names another. */
export function launch() {
  const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
  return chromium.launch({ executablePath, args: ["--no-sandbox"] }); // containers have no user namespaces
}

/** Drop files and folders on the page as a file manager does. */
export async function drop(page, files) {
  await page.evaluate(() => {
    window.wasDropped = new Promise((done) => addEventListener("drop", () => done(), { once: true }));
  });
  const session = await page.context().newCDPSession(page);
  const data = { items: [], files, dragOperationsMask: 1 };
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x: 300, y: 400, data });
  }
  await session.detach();
  await page.evaluate(() => window.wasDropped);
}

/** Wait until the page has done all that was asked; gives the sentence that says what is wrong, or null. */
export async function answered(page) {
  await page.waitForFunction(() => document.body.ariaBusy !== "true", null, { timeout: 60_000 });
  return page.locator("#problem").evaluate((node) => (node.hidden ? null : node.textContent));
}

/** Press a button that saves, and read what was saved. */
export async function saved(page, button) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(button)]);
  return readFile(await download.path(), "utf-8");
}

/** Move a slider to a value. */
export function slide(page, id, value) {
  return page.locator(id).evaluate((node, to) => {
    node.value = to;
    node.dispatchEvent(new Event("input", { bubbles: true }));
  }, String(value));
}
