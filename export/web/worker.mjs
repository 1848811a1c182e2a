// Everything that takes time: files are checked and networks run here, so that the page never freezes.
import * as ort from "./vendor/ort.wasm.min.mjs";
import { Bundle, fitted, localize, parseNpy, Refusal, select } from "./vendor/stale-edge.mjs";

ort.env.wasm.numThreads = 1; // more would need headers that a plain file server does not send
ort.env.logLevel = "error";
const SESSION = { executionProviders: ["wasm"], graphOptimizationLevel: "all" };

/** @type {?Bundle} */
let bundle = null;
/** Sessions by graph and precision, each opened when it is first needed. */
let sessions = new Map();
/** Bytes of the `.npy` file. @type {?Uint8Array<ArrayBuffer>} */
let video = null;

const answers = {
  /** Open a bundle, given as a map from its paths to files, or as the address of its folder. */
  async open({ files, address }) {
    const started = performance.now();
    const opened = await Bundle.open(
      address ? (path) => fetched(`${address}/${path}`) : (path, most) => picked(files, path, most),
    );
    const precisions = opened.precisions("pipeline");
    if (!precisions.length) throw new Refusal("This bundle has no pipeline for ONNX Runtime; export it again.");
    for (const session of sessions.values()) await session.release();
    [bundle, sessions, video] = [opened, new Map(), null];
    const { architecture, feature_contract: contract, files: entries } = opened.manifest;
    const n_bytes = entries.reduce((sum, file) => sum + Number(file.bytes), 0);
    const hasMasks = entries.some(({ role, outputs }) => role === "detector" && outputs?.some(({ name }) => name === "masks"));
    const { names } = opened.classBank;
    return { names, precisions, contract, architecture, hasMasks, n_bytes, ms: performance.now() - started };
  },

  /** Take the features of a video. */
  async features({ bytes }) {
    const array = new Uint8Array(bytes);
    fitted(array, bundle.manifest.feature_contract);
    video = array;
    const [rows, columns] = parseNpy(array).shape;
    const { fps, stride } = bundle.manifest.feature_contract;
    return { rows, columns, durationS: fps && stride ? (rows * stride) / fps : null };
  },

  /** Find the actions of some classes. */
  async detect({ names, precision, durationS }) {
    const loading = performance.now();
    const session = await opened("pipeline", precision);
    const bank = select(bundle.classBank, names);
    const started = performance.now();
    const features = fitted(video, bundle.manifest.feature_contract);
    const detections = await localize(ort, session, features, bank, durationS);
    return { detections, ms: performance.now() - started, loadMs: started - loading };
  },

  /** Compute the masks of all snippets, (T, T), with the detector's own file. */
  async masks({ names, precision }) {
    const session = await opened("detector", precision);
    const bank = select(bundle.classBank, names);
    const started = performance.now();
    const { rows, columns, values } = fitted(video, bundle.manifest.feature_contract);
    const feeds = {
      features: new ort.Tensor("float32", values, [1, rows, columns]),
      class_embeddings: new ort.Tensor("float32", bank.embeddings.values, [names.length, bank.embeddings.columns]),
    };
    const { masks } = await session.run(feeds, ["masks"]);
    if (masks.type !== "float32" || masks.dims.join() !== [1, rows, rows].join()) {
      throw new Refusal(`Masks must be float32 (1, ${rows}, ${rows}); got ${masks.type} (${masks.dims}).`);
    }
    return { length: rows, values: masks.data, ms: performance.now() - started };
  },
};

async function opened(graph, precision) {
  const key = `${graph} ${precision}`;
  if (!sessions.has(key)) {
    sessions.set(key, await ort.InferenceSession.create(await bundle.graph(graph, precision), SESSION));
  }
  return sessions.get(key);
}

async function picked(files, path, most) {
  const file = files.get(path);
  if (!file) {
    throw new Refusal(
      path === "manifest.json"
        ? "This is no bundle: it has no manifest.json. Choose the folder that stale-edge export wrote."
        : `${path} is missing from the bundle; choose its whole folder.`,
    );
  }
  if (file.size > most) throw new Refusal(`${path} has ${file.size} bytes; at most ${most} are read.`);
  return new Uint8Array(await file.arrayBuffer());
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Refusal(`${address} is not there; run make in export/web to make the sample.`);
  return new Uint8Array(await response.arrayBuffer());
}

// One request after the other: a session runs one call at a time.
let queue = Promise.resolve();
self.onmessage = ({ data: { id, kind, ...request } }) => {
  queue = queue.then(async () => {
    try {
      self.postMessage({ id, answer: await answers[kind](request) });
    } catch (error) {
      const said = error instanceof Refusal ? error.message : `ONNX Runtime stopped: ${error?.message ?? error}`;
      // One line, whatever a bundle holds.
      self.postMessage({ id, error: said.replace(/\s+/g, " ").replace(/\p{C}/gu, "?").slice(0, 900) });
    }
  });
};
