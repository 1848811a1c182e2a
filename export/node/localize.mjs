#!/usr/bin/env node
// Features to detections with onnxruntime-node: node localize.mjs BUNDLE FEATURES.npy --duration SECONDS
import { basename, extname } from "node:path";
import { parseArgs } from "node:util";

import * as ort from "onnxruntime-node";

import { folder, regular } from "./files.mjs";
import { activityNet, Bundle, fitted, localize, MOST_FILE_BYTES, Refusal } from "./stale-edge.mjs";

const USAGE =
  "usage: node localize.mjs BUNDLE FEATURES.npy --duration SECONDS [--precision fp32|int8] [--graph pipeline] [--repeat N]";
const HELP = `
Finds actions in a video's features with the pipeline of a bundle, and prints them as JSON.

  BUNDLE          the bundle's folder
  FEATURES.npy    features (T, C) of the whole video, float32 or float16
  --duration      length of the video in seconds, > 0
  --precision     fp32 (the default) or int8
  --graph         pipeline, the one that this program knows
  --repeat        run N more times and write the median time to stderr
  --version       print the version of onnxruntime-node`;

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
        graph: { type: "string", default: "pipeline" },
        help: { type: "boolean", short: "h", default: false },
        repeat: { type: "string", default: "0" },
        version: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    throw new UsageError(/** @type {Error} */ (error).message);
  }
  const { values, positionals: [bundle, features] } = parsed;
  const repeat = Number(values.repeat);
  if (values.help) return { help: true, version: false, bundle, features, repeat, precision: "", durationS: 0 };
  if (values.version) return { version: true, bundle, features, repeat, precision: "", durationS: 0 };
  if (parsed.positionals.length !== 2 || values.duration === undefined) throw new UsageError(USAGE);
  // Format 1 calls the pipeline's role localizer.
  if (!["pipeline", "localizer"].includes(values.graph)) throw new UsageError(`--graph must be pipeline; got ${values.graph}`);
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
  if (options.help) return console.log(`${USAGE}\n${HELP}`);
  const bundle = await Bundle.open(folder(options.bundle));
  const graph = await bundle.graph("pipeline", options.precision);
  const video = await regular(options.features, MOST_FILE_BYTES);
  const contract = bundle.manifest.feature_contract;
  fitted(video, contract); // refuses before anything is opened

  process.env.ORT_DISABLE_TELEMETRY ??= "1"; // from 1.29 on ONNX Runtime sends usage data unless told otherwise
  // One thread: nothing burns all cores unasked.
  const session = await refusing(ort.InferenceSession.create(graph, { intraOpNumThreads: 1, interOpNumThreads: 1 }));
  const answers = { run: (/** @type {Record<string, any>} */ feeds) => refusing(session.run(feeds)) };
  const run = () => localize(ort, answers, fitted(video, contract), bundle.classBank, options.durationS);
  const name = basename(options.features, extname(options.features));
  console.log(JSON.stringify(activityNet(name, await run())));
  if (options.repeat > 0) console.error(`milliseconds: ${await median(run, options.repeat)}`);
}

/**
 * Turn what ONNX Runtime says of a network that it cannot run into a refusal.
 * @template T
 * @param {Promise<T>} answer
 * @returns {Promise<T>}
 */
async function refusing(answer) {
  try {
    return await answer;
  } catch (error) {
    throw new Refusal(`ONNX Runtime: ${/** @type {Error} */ (error).message}`);
  }
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
  console.error(`error: ${message.replace(/\s+/g, " ").replace(/\p{C}/gu, "?").slice(0, 900)}`);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
