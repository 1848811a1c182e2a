#!/usr/bin/env node
// Features to detections with onnxruntime-node: node localize.mjs BUNDLE FEATURES.npy --duration SECONDS
import { readFile } from "node:fs/promises";
import { basename, extname, join } from "node:path";
import { parseArgs } from "node:util";

import * as ort from "onnxruntime-node";

import { activityNet, Bundle, fitted, localize, Refusal } from "./stale-edge.mjs";

const USAGE =
  "usage: node localize.mjs BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--graph localizer] [--repeat N]";

/** A command line that says nothing clear; the exit code is 2. */
class UsageError extends Error {}

function commandLine() {
  let parsed;
  try {
    parsed = parseArgs({
      allowPositionals: true,
      options: {
        duration: { type: "string" },
        precision: { type: "string", default: "fp32" },
        graph: { type: "string", default: "localizer" },
        repeat: { type: "string", default: "0" },
        version: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
  const { values, positionals: [bundle, features] } = parsed;
  const repeat = Number(values.repeat);
  if (values.version) return { version: true, bundle, features, repeat, precision: "", durationS: 0 };
  if (parsed.positionals.length !== 2 || values.duration === undefined) throw new UsageError(USAGE);
  if (values.graph !== "localizer") throw new UsageError(`--graph must be localizer; got ${values.graph}`);
  if (!Number.isInteger(repeat) || repeat < 0) throw new UsageError(`--repeat must be >= 0; got ${values.repeat}`);
  const durationS = Number(values.duration.trim() || NaN);
  if (!(Number.isFinite(durationS) && durationS > 0)) {
    throw new Refusal(`--duration must be a finite number of seconds > 0; got ${values.duration}`);
  }
  return { version: false, bundle, features, repeat, precision: values.precision, durationS };
}

async function main() {
  const options = commandLine();
  if (options.version) return console.log(`onnxruntime-node ${ort.env.versions.node}`);
  const bundle = await Bundle.open(async (path) => new Uint8Array(await readFile(join(options.bundle, path))));
  const graph = await bundle.graph("localizer", options.precision);
  const video = new Uint8Array(await readFile(options.features));
  const contract = bundle.manifest.feature_contract;
  fitted(video, contract); // refuses before anything is opened

  // One thread: nothing burns all cores unasked.
  const session = await ort.InferenceSession.create(graph, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const run = () => localize(ort, session, fitted(video, contract), bundle.classBank, options.durationS);
  const name = basename(options.features, extname(options.features));
  console.log(JSON.stringify(activityNet(name, await run())));
  if (options.repeat > 0) console.error(`milliseconds: ${await median(run, options.repeat)}`);
}

/**
 * @param {() => Promise<unknown>} run
 * @param {number} repeat
 */
async function median(run, repeat) {
  const times = [];
  for (let i = 0; i < repeat + 3; i++) {
    const start = performance.now();
    await run();
    times.push(performance.now() - start);
  }
  const sorted = times.slice(3).sort((a, b) => a - b);
  return ((sorted[(repeat - 1) >> 1] + sorted[repeat >> 1]) / 2).toFixed(3);
}

try {
  await main();
} catch (error) {
  const { code, message } = /** @type {NodeJS.ErrnoException} */ (error);
  if (!(error instanceof UsageError || error instanceof Refusal || code)) throw error;
  console.error(`error: ${message.replace(/\s+/g, " ")}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
