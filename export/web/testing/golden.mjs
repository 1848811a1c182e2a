// Does in the page what ../conformance.py asks of a program, and keeps the answers for answer.mjs: golden.mjs ANSWERS.json
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";

import { answered, drop, launch, saved, serve, slide } from "./browser.mjs";

const { GOLDEN, BENCH } = process.env;
const REPEATS = 20;
const server = await serve();
const browser = await launch();
const page = await browser.newPage();
await page.goto(server.address);
page.setDefaultTimeout(20_000);
const answers = {};

/** A sentence of the page; anything else that goes wrong ends this program. */
class Answer extends Error {}

const { cases, refusals } = JSON.parse(await readFile(join(GOLDEN, "cases.json"), "utf-8"));
for (const { bundle, features, duration_s, graph = "pipeline" } of cases) {
  if (graph !== "pipeline") continue;
  for (const precision of ["fp32", "int8"]) await keep(join(GOLDEN, bundle), join(GOLDEN, features), duration_s, precision);
}
for (const { bundle, features, duration = "60", precision = "fp32", graph = "pipeline", opens_files } of refusals) {
  if (graph !== "pipeline" || opens_files) continue; // a page opens no file: it is handed them
  await keep(join(GOLDEN, bundle), join(GOLDEN, features), duration, precision);
}
const { duration_s } = JSON.parse(await readFile(join(BENCH, "bench.json"), "utf-8"));
for (const precision of ["fp32", "int8"]) {
  const key = await keep(join(BENCH, "bundle"), join(BENCH, "features.npy"), duration_s, precision);
  if (answers[key].error) throw new Error(`the bundle of full size: ${answers[key].error}`);
  answers[key].milliseconds = await median();
}
await mkdir(dirname(process.argv[2]), { recursive: true });
await writeFile(process.argv[2], JSON.stringify(answers));
await browser.close();
server.stop();

/** Drop bundle and features on a fresh page, and keep what it says. */
async function keep(bundle, features, duration, precision) {
  const key = [bundle, features, Number(duration), precision].join("\n");
  try {
    answers[key] = { json: await ask(bundle, features, duration, precision) };
  } catch (error) {
    if (!(error instanceof Answer)) throw error;
    answers[key] = { error: error.message };
  }
  return key;
}

async function ask(bundle, features, duration, precision) {
  for (const path of [bundle, features]) {
    if (!existsSync(path)) throw new Answer(`A browser cannot choose what is not there: ${path}`);
  }
  await drop(page, [bundle]);
  await settled();
  const precisions = await page.locator("#precision option").allTextContents();
  if (!precisions.includes(precision)) throw new Answer(`The page offers ${precisions} alone.`);
  await page.selectOption("#precision", precision, { force: true }); // not shown before the first result
  await page.fill("#duration", "1");
  await page.locator("#duration").blur();
  await drop(page, [features]);
  await settled();
  // A number field holds no nan or inf: such a length is no length.
  await page.fill("#duration", Number.isFinite(Number(duration)) ? String(duration) : "");
  await page.locator("#duration").blur();
  await settled();
  await slide(page, "#threshold", 0);
  return JSON.stringify(JSON.parse(await saved(page, "#save-json")));
}

/** Wait until the page has done all that was asked, and stop where it says that something is wrong. */
async function settled() {
  const problem = await answered(page);
  if (problem !== null) throw new Answer(problem);
}

/** Localize again and again on the page that is open, and read what it says of the time. */
async function median() {
  const times = [];
  for (let i = 0; i < REPEATS + 3; i++) {
    await page.locator("#precision").dispatchEvent("change");
    await settled();
    times.push(Number(await page.textContent("#ms-detect")));
  }
  const sorted = times.slice(3).sort((a, b) => a - b);
  return (sorted[REPEATS / 2 - 1] + sorted[REPEATS / 2]) / 2;
}
