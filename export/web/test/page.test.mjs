// The page with its sample: what a person does with pointer, keys and files.
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { fileURLToPath } from "node:url";

import { answered, drop, launch, saved, serve, slide } from "../testing/browser.mjs";

const SAMPLE = fileURLToPath(new URL("../sample", import.meta.url));
const server = await serve();
const browser = await launch();
let page;
let noise = [];

beforeEach(async () => {
  noise = [];
  await page?.close();
  page = await browser.newPage({ viewport: { width: 1180, height: 900 }, colorScheme: "light" });
  page.on("pageerror", (error) => noise.push(error.message));
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && noise.push(message.text()));
  await page.goto(server.address);
});
after(async () => {
  await browser.close();
  server.stop();
});

async function takeSample() {
  await page.click("#sample");
  assert.equal(await answered(page), null);
}

test("the sample is found, shown and saved", async () => {
  await takeSample();
  await slide(page, "#threshold", 0);
  const all = JSON.parse(await saved(page, "#save-json")).results.simulated;
  assert.ok(all.length > 5);
  assert.equal(await page.locator(".segment").count(), all.length);
  assert.equal(await page.locator("#found tr").count(), all.length);
  const [best] = all;
  assert.ok(best.score > 0.9 && best.segment[0] < best.segment[1]);
  await slide(page, "#threshold", 0.5);
  const few = JSON.parse(await saved(page, "#save-json")).results.simulated;
  assert.deepEqual(few, all.filter(({ score }) => score >= 0.5));
  assert.equal(await page.locator(".segment").count(), few.length);
  const blocks = (await saved(page, "#save-srt")).trimEnd().split("\n\n");
  assert.equal(blocks.length, few.length);
  assert.match(blocks[0], /^1\n00:0\d:\d\d,\d{3} --> 00:0\d:\d\d,\d{3}\n\w+ \(\d\.\d\d\)$/);
  assert.deepEqual(noise, []);
});

test("keys move the cursor, and the mask of the snippet follows", async () => {
  await takeSample();
  await page.focus("#timeline");
  const readout = () => page.textContent("#readout");
  assert.match(await readout(), /^0:01.0, snippet 1 of 100: /);
  await page.keyboard.press("Shift+ArrowRight");
  await page.keyboard.press("ArrowRight");
  assert.match(await readout(), /^0:23.0, snippet 12 of 100: /);
  assert.equal(await page.textContent("#mask-name"), "mask of 12");
  const twelve = await page.locator("#mask path").getAttribute("d");
  assert.equal(twelve.split("H").length - 1, 100); // a step a snippet
  await page.keyboard.press("End");
  assert.match(await readout(), /snippet 100 of 100/);
  assert.notEqual(await page.locator("#mask path").getAttribute("d"), twelve);
  assert.equal(await page.getAttribute("#timeline", "aria-valuenow"), "99");
  await page.keyboard.press("Home");
  assert.match(await page.getAttribute("#timeline", "aria-valuetext"), /snippet 1 of 100/);
});

test("the pointer tells label, times and score", async () => {
  await takeSample();
  await page.locator(".segment").last().hover();
  assert.match(await page.textContent("#tip"), /^\w+ · \d:\d\d\.\d–\d:\d\d\.\d · [01]\.\d\d$/);
});

test("classes are chosen from the bank, and only those are looked for", async () => {
  await takeSample();
  await slide(page, "#threshold", 0);
  const [best] = JSON.parse(await saved(page, "#save-json")).results.simulated;
  await page.fill("#classes-filter", best.label);
  await page.click("#classes-none");
  await page.waitForFunction(() => document.querySelectorAll(".segment").length === 0);
  await page.locator("#classes input").first().check();
  await page.waitForFunction(() => document.querySelectorAll(".segment").length > 0);
  assert.equal(await answered(page), null);
  const labels = new Set(JSON.parse(await saved(page, "#save-json")).results.simulated.map(({ label }) => label));
  assert.deepEqual([...labels], [best.label]);
  assert.equal(await page.textContent("#classes-count"), "1 of 6");
  assert.equal(await page.locator(".lane:not(.mask)").count(), 1);
});

test("int8 is a choice, and every control is reached by keys alone", async () => {
  await page.focus("#sample");
  await page.keyboard.press("Enter");
  assert.equal(await answered(page), null);
  const reached = new Set();
  for (let i = 0; i < 30; i++) {
    await page.keyboard.press("Tab");
    reached.add(await page.evaluate(() => document.activeElement.id));
  }
  for (const id of ["threshold", "precision", "save-json", "save-srt", "timeline", "classes-filter", "classes-none", "theme"]) {
    assert.ok(reached.has(id), `Tab does not reach #${id}: ${[...reached]}`);
  }
  await page.selectOption("#precision", "int8");
  assert.equal(await answered(page), null);
  assert.ok((await page.locator(".segment").count()) > 2);
});

test("a folder and a file are dropped", async () => {
  await drop(page, [`${SAMPLE}/bundle`]);
  assert.equal(await answered(page), null);
  assert.equal(await page.textContent("#bundle-state b"), "bundle");
  await drop(page, [`${SAMPLE}/features.npy`]);
  assert.equal(await answered(page), null);
  assert.equal(await page.inputValue("#duration"), "200"); // the bundle knows stride and fps
  assert.equal(await page.textContent("#features-state b"), "features.npy");
});

test("a folder is chosen, and mistakes are answered in sentences", async () => {
  await page.setInputFiles("#features-file", `${SAMPLE}/features.npy`);
  assert.match(await answered(page), /^Choose a bundle first/);
  await page.setInputFiles("#bundle-files", `${SAMPLE}/sample.json`);
  assert.match(await answered(page), /^sample.json is neither/);
  await page.setInputFiles("#bundle-folder", `${SAMPLE}/bundle`);
  assert.equal(await answered(page), null);
  assert.equal(await page.textContent("#bundle-state b"), "bundle");
  await page.setInputFiles("#bundle-files", `${SAMPLE}/bundle/manifest.json`);
  assert.equal(await answered(page), "class_bank.npz is missing from the bundle; choose its whole folder.");
  await page.setInputFiles("#features-file", `${SAMPLE}/features.npy`); // the bundle before is still there
  assert.equal(await answered(page), null);
  await page.fill("#duration", "");
  await page.locator("#duration").blur();
  assert.match(await answered(page), /^How long is this video\?/);
});

test("the page is light or dark as the system is, and as its button says", async () => {
  const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await paper();
  await page.click("#theme");
  const dark = await paper();
  assert.notEqual(light, dark);
  await page.emulateMedia({ colorScheme: "dark" });
  assert.equal(await paper(), dark);
});

test("a narrow page does not scroll sideways", async () => {
  await page.setViewportSize({ width: 360, height: 800 });
  await takeSample();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
});

test("the page answers while a network runs", async () => {
  await takeSample();
  const turns = await page.evaluate(async () => {
    const select = document.querySelector("#precision");
    select.value = "int8";
    select.dispatchEvent(new Event("change"));
    let turns = 0; // of the page's own loop, while the worker opens and runs two networks
    while (document.body.ariaBusy === "true") {
      await new Promise((done) => setTimeout(done, 0));
      turns++;
    }
    return turns;
  });
  assert.ok(turns > 20, `only ${turns} events were handled while the networks ran`);
});
