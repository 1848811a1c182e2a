// A stale-edge bundle in JavaScript: files and contract checked, features fitted, the one-file localizer run.
// Runs in Node and in browsers, with onnxruntime-node or onnxruntime-web; depends on neither.
// The contract is ../BUNDLE.md.

/** @typedef {{path: string, sha256: string, bytes: number, role: string, runtime: ?string, precision: ?string}} FileEntry */
/** @typedef {{encoder: string, channels: number, fps: ?number, stride: ?number, length: ?number, resampling: "none" | "linear", resample_to: ?number}} FeatureContract */
/** @typedef {{format: string, architecture: string, feature_contract: FeatureContract, files: FileEntry[]}} Manifest */
/** @typedef {{rows: number, columns: number, values: Float32Array}} Matrix Row after row. */
/** @typedef {{names: string[], embeddings: Matrix, fingerprint: string}} ClassBank */
/** @typedef {{label: string, score: number, segment: [number, number]}} Detection Segment in seconds. */
/** @typedef {(path: string) => Promise<Uint8Array<ArrayBuffer>>} ReadFile Gives a file of the bundle by its path in the manifest. */
/** @typedef {{dtype: string, shape: number[], values: Float32Array | string[]}} NpyArray */
/**
 * What this module needs of onnxruntime-node or onnxruntime-web.
 * @typedef {{Tensor: new (type: "float32", data: Float32Array, dims: number[]) => any}} Runtime
 */
/** @typedef {{run: (feeds: Record<string, any>) => Promise<Record<string, any>>}} Session */

export const FORMAT = "stale-edge-bundle/1";

/** Something that cannot be used, in one sentence for whoever gave it. */
export class Refusal extends Error {}

/** A bundle: its manifest, its classes, and its other files on demand, each checked byte by byte. */
export class Bundle {
  /**
   * @param {Manifest} manifest
   * @param {ClassBank} classBank
   * @param {ReadFile} readFile
   */
  constructor(manifest, classBank, readFile) {
    this.manifest = manifest;
    this.classBank = classBank;
    this.readFile = readFile;
  }

  /**
   * Read manifest and class bank.
   * @param {ReadFile} readFile
   * @returns {Promise<Bundle>}
   */
  static async open(readFile) {
    const manifest = parseManifest(await readFile("manifest.json"));
    const banks = manifest.files.filter((file) => file.role === "class_bank");
    if (banks.length !== 1) throw new Refusal(`A bundle has one class bank; this one has ${banks.length}.`);
    return new Bundle(manifest, parseClassBank(await checkedFile(readFile, banks[0])), readFile);
  }

  /**
   * List the precisions in which the bundle has a file of a role for ONNX Runtime.
   * @param {string} role
   * @returns {string[]}
   */
  precisions(role) {
    return this.manifest.files
      .filter((file) => file.role === role && file.runtime === "onnxruntime")
      .map((file) => String(file.precision));
  }

  /**
   * Read a graph, its bytes checked.
   * @param {string} role `localizer` or `detector`
   * @param {string} precision
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async graph(role, precision) {
    const entry = this.manifest.files.find(
      (file) => file.role === role && file.runtime === "onnxruntime" && file.precision === precision,
    );
    if (!entry) {
      const held = this.precisions(role).join(", ") || "none";
      throw new Refusal(`The bundle has no ${role} in ${precision}; it has: ${held}.`);
    }
    return checkedFile(this.readFile, entry);
  }
}

/**
 * Find actions with a localizer graph.
 * @param {Runtime} ort
 * @param {Session} session of the localizer
 * @param {Matrix} features as `fitted` gives them
 * @param {ClassBank} bank
 * @param {number} durationS
 * @returns {Promise<Detection[]>} best first
 */
export async function localize(ort, session, features, bank, durationS) {
  const outputs = await session.run({
    features: new ort.Tensor("float32", features.values, [1, features.rows, features.columns]),
    class_embeddings: new ort.Tensor("float32", bank.embeddings.values, [bank.names.length, bank.embeddings.columns]),
    duration_s: new ort.Tensor("float32", Float32Array.of(durationS), [1]),
  });
  const segments = outputs.segments.data;
  return Array.from(outputs.scores.data, (score, i) => ({
    label: bank.names[Number(outputs.labels.data[i])],
    score,
    segment: [segments[2 * i], segments[2 * i + 1]],
  }));
}

/**
 * Write detections in ActivityNet's layout.
 * @param {string} video
 * @param {Detection[]} detections
 */
export function activityNet(video, detections) {
  return { version: "1.3", results: { [video]: detections }, external_data: {} };
}

/**
 * Take some classes of a bank, in the order given.
 * @param {ClassBank} bank
 * @param {string[]} names
 * @returns {ClassBank}
 */
export function select(bank, names) {
  const { columns, values } = bank.embeddings;
  const chosen = new Float32Array(names.length * columns);
  names.forEach((name, k) => {
    const row = bank.names.indexOf(name);
    if (row < 0) throw new Refusal(`The class bank has no class “${name}”.`);
    chosen.set(values.subarray(row * columns, (row + 1) * columns), k * columns);
  });
  return { names, embeddings: { rows: names.length, columns, values: chosen }, fingerprint: bank.fingerprint };
}

/**
 * Read the features of a video from the bytes of a `.npy` file, check them and resample them as the contract says.
 * @param {Uint8Array} bytes
 * @param {FeatureContract} contract
 * @returns {Matrix} what the graph takes
 */
export function fitted(bytes, contract) {
  const { dtype, shape, values } = parseNpy(bytes);
  if (!(values instanceof Float32Array)) {
    throw new Refusal(`Features must be float32 or float16; these are ${dtype}.`);
  }
  if (shape.length !== 2) throw new Refusal(`Features must have two axes, (T, C); these have shape (${shape}).`);
  const [rows, columns] = shape;
  if (columns !== contract.channels) {
    throw new Refusal(`The features have ${columns} channels; this bundle takes ${contract.channels}.`);
  }
  if (rows < 1) throw new Refusal("The features hold no snippet.");
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new Refusal(`Snippet ${Math.floor(bad / columns)} of the features is not finite.`);
  if (contract.resampling === "linear") return resampled({ rows, columns, values }, Number(contract.resample_to));
  if (contract.length !== null && rows !== contract.length) {
    throw new Refusal(`The features have ${rows} snippets; this bundle takes exactly ${contract.length}.`);
  }
  return { rows, columns, values };
}

/**
 * Interpolate linearly between the centres of snippets; BUNDLE.md says in which precision.
 * @param {Matrix} features
 * @param {number} length
 * @returns {Matrix}
 */
export function resampled(features, length) {
  const { rows, columns, values } = features;
  if (rows === length) return features;
  const result = new Float32Array(length * columns);
  for (let i = 0; i < length; i++) {
    const position = Math.max((i + 0.5) * (rows / length) - 0.5, 0);
    const left = Math.min(Math.floor(position), rows - 1);
    const right = Math.min(left + 1, rows - 1);
    const weight = Math.fround(position - left);
    const rest = Math.fround(1 - weight);
    for (let c = 0; c < columns; c++) {
      const one = Math.fround(values[left * columns + c] * rest);
      result[i * columns + c] = one + Math.fround(values[right * columns + c] * weight);
    }
  }
  return { rows: length, columns, values: result };
}

/**
 * Read a `.npy` file of little-endian float32, float16 or unicode numbers in C order.
 * @param {Uint8Array} bytes
 * @returns {NpyArray}
 */
export function parseNpy(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || bytes[0] !== 0x93 || ascii(bytes.subarray(1, 6)) !== "NUMPY") {
    throw new Refusal("This is no .npy file of NumPy.");
  }
  const start = bytes[6] === 1 ? 10 : 12;
  const end = start + (bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = ascii(bytes.subarray(start, end));
  const dtype = /'descr': *'([^']+)'/.exec(header)?.[1] ?? "a structure";
  const shape = (/'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? "").split(",").filter((size) => size.trim()).map(Number);
  if (/'fortran_order': *True/.test(header)) throw new Refusal("The array lies in Fortran order; save it in C order.");
  const width = { "<f4": 4, "<f2": 2 }[dtype] ?? (dtype.startsWith("<U") ? 4 * Number(dtype.slice(2)) : 0);
  if (!width) throw new Refusal(`Only float32, float16 and text in little-endian order are read; this is ${dtype}.`);
  const count = shape.reduce((product, size) => product * size, 1);
  if (bytes.length !== end + count * width) {
    throw new Refusal(`The .npy file is cut short: ${bytes.length} bytes instead of ${end + count * width}.`);
  }
  if (dtype.startsWith("<U")) {
    const texts = Array.from({ length: count }, (_, i) => {
      const codes = Array.from({ length: width / 4 }, (_, j) => view.getUint32(end + i * width + 4 * j, true));
      return String.fromCodePoint(...codes).replace(/\0+$/, "");
    });
    return { dtype, shape, values: texts };
  }
  const read = width === 4 ? (/** @type {number} */ at) => view.getFloat32(at, true) : (/** @type {number} */ at) => half(view.getUint16(at, true));
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) values[i] = read(end + i * width);
  return { dtype, shape, values };
}

/**
 * Read the arrays of an `.npz` file as `numpy.savez` writes it: a ZIP archive that is not compressed.
 * @param {Uint8Array} bytes
 * @returns {Map<string, NpyArray>}
 */
export function parseNpz(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = bytes.length - 22; // the end record, of an archive without comment
  if (at < 0 || view.getUint32(at, true) !== 0x06054b50) throw new Refusal("This is no .npz file of NumPy.");
  const count = view.getUint16(at + 10, true);
  at = view.getUint32(at + 16, true);
  const arrays = new Map();
  for (let i = 0; i < count; i++) {
    const [method, size, name] = [view.getUint16(at + 10, true), view.getUint32(at + 24, true), view.getUint16(at + 28, true)];
    const [extra, comment, local] = [view.getUint16(at + 30, true), view.getUint16(at + 32, true), view.getUint32(at + 42, true)];
    if (method !== 0) throw new Refusal("The .npz file is compressed; class banks are not.");
    const key = ascii(bytes.subarray(at + 46, at + 46 + name)).replace(/\.npy$/, "");
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    arrays.set(key, parseNpy(bytes.subarray(start, start + size)));
    at += 46 + name + extra + comment;
  }
  return arrays;
}

/**
 * @param {Uint8Array} bytes
 * @returns {Manifest}
 */
function parseManifest(bytes) {
  let manifest;
  try {
    manifest = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new Refusal(`manifest.json cannot be read: ${/** @type {Error} */ (error).message}.`);
  }
  if (manifest?.format !== FORMAT) {
    throw new Refusal(`The bundle is of format ${JSON.stringify(manifest?.format)}; this program reads ${FORMAT}.`);
  }
  return manifest;
}

/**
 * @param {Uint8Array} bytes
 * @returns {ClassBank}
 */
function parseClassBank(bytes) {
  const arrays = parseNpz(bytes);
  const [names, embeddings, fingerprint] = ["names", "embeddings", "fingerprint"].map((key) => arrays.get(key));
  if (!Array.isArray(names?.values) || !(embeddings?.values instanceof Float32Array) || !Array.isArray(fingerprint?.values)) {
    throw new Refusal("The class bank does not hold names, embeddings and a fingerprint.");
  }
  const [rows, columns] = embeddings.shape;
  return { names: names.values, embeddings: { rows, columns, values: embeddings.values }, fingerprint: fingerprint.values[0] };
}

/**
 * Read a file of the bundle; size and sha256 must be those of the manifest.
 * @param {ReadFile} readFile
 * @param {FileEntry} entry
 */
async function checkedFile(readFile, entry) {
  const bytes = await readFile(entry.path);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (bytes.length !== entry.bytes || sha256 !== entry.sha256) {
    throw new Refusal(`${entry.path} has changed: its bytes are not those that the manifest describes.`);
  }
  return bytes;
}

/** @param {Uint8Array} bytes */
function ascii(bytes) {
  return Array.from(bytes, (byte) => String.fromCharCode(byte)).join("");
}

/** @param {number} bits of an IEEE 754 half */
function half(bits) {
  const [sign, exponent, fraction] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}
