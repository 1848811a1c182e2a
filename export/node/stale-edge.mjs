// A stale-edge bundle in JavaScript: files and contract checked, features fitted, the pipeline (features to segments) run.
// Runs in Node and in browsers, with onnxruntime-node or onnxruntime-web; depends on neither.
// The contract is ../BUNDLE.md.

/** @typedef {{path: string, sha256: string, bytes: number, role: string, runtime: ?string, precision: ?string, outputs?: {name: string}[]}} FileEntry */
/** @typedef {{encoder: string, channels: number, fps: ?number, stride: ?number, length: ?number, resampling: "none" | "linear", resample_to: ?number}} FeatureContract */
/** @typedef {{format: string, architecture: string, feature_contract: FeatureContract, files: FileEntry[]}} Manifest */
/** @typedef {{rows: number, columns: number, values: Float32Array}} Matrix Row after row. */
/** @typedef {{names: string[], embeddings: Matrix, fingerprint: string}} ClassBank */
/** @typedef {{label: string, score: number, segment: [number, number]}} Detection Segment in seconds. */
/**
 * Gives a file of the bundle by its path in the manifest, which is checked: it is relative and stays inside by its name.
 * A reader that opens files refuses links that lead out of the folder, what is no regular file, and files that are larger
 * than `most` bytes, before it reads them.
 * @typedef {(path: string, most: number) => Promise<Uint8Array<ArrayBuffer>>} ReadFile
 */
/** @typedef {{dtype: string, shape: number[], values: Float32Array | string[]}} NpyArray */
/**
 * What this module needs of onnxruntime-node or onnxruntime-web.
 * @typedef {{Tensor: new (type: "float32", data: Float32Array, dims: number[]) => any}} Runtime
 */
/** @typedef {{run: (feeds: Record<string, any>) => Promise<Record<string, any>>}} Session */

export const FORMATS = ["stale-edge-bundle/1", "stale-edge-bundle/2"];

/** The roles of what can be run; format 1 calls the pipeline a localizer. */
const ROLES = { detector: "detector", pipeline: "localizer" };
/** @typedef {keyof typeof ROLES} Graph */

/** Limits of this module; BUNDLE.md lists them. A network is a protobuf, which is never larger than 2 GiB. */
export const MOST_FILE_BYTES = 2 ** 31;
const MOST_MANIFEST_BYTES = 2 ** 26;
const MOST_DEPTH = 100;
const MOST_NUMBERS = 2 ** 28;
const MOST_SNIPPETS = 2 ** 20;

/** Something that cannot be used, in one sentence for the person who gave it. */
export class Refusal extends Error {}

/**
 * Write text from outside as a message may repeat it: at most 80 characters, none of them a control character.
 * @param {unknown} value
 */
function shown(value) {
  const text = (JSON.stringify(value) ?? String(value)).replace(/\p{C}/gu, "?");
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

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
    const manifest = parseManifest(await readFile("manifest.json", MOST_MANIFEST_BYTES));
    const banks = manifest.files.filter((file) => file.role === "class_bank");
    if (banks.length !== 1) throw new Refusal(`A bundle has one class bank; this one has ${banks.length}.`);
    return new Bundle(manifest, parseClassBank(await checkedFile(readFile, banks[0])), readFile);
  }

  /**
   * List the precisions in which the bundle has a graph for ONNX Runtime.
   * @param {Graph} graph
   * @returns {string[]}
   */
  precisions(graph) {
    return this.manifest.files
      .filter((file) => file.role === ROLES[graph] && file.runtime === "onnxruntime")
      .map((file) => String(file.precision));
  }

  /**
   * Read a graph, its bytes checked.
   * @param {Graph} graph
   * @param {string} precision
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async graph(graph, precision) {
    const entries = this.manifest.files.filter(
      (file) => file.role === ROLES[graph] && file.runtime === "onnxruntime" && file.precision === precision,
    );
    if (entries.length !== 1) {
      const held = this.precisions(graph);
      throw new Refusal(`The bundle must have one ${graph} in ${precision}; it has: ${held.length ? shown(held.join(", ")) : "none"}.`);
    }
    return checkedFile(this.readFile, entries[0]);
  }
}

/**
 * Find actions with a pipeline.
 * @param {Runtime} ort
 * @param {Session} session of the pipeline
 * @param {Matrix} features as `fitted` gives them
 * @param {ClassBank} bank
 * @param {number} durationS
 * @returns {Promise<Detection[]>} best first
 */
export async function localize(ort, session, features, bank, durationS) {
  const { segments, scores, labels } = await session.run({
    features: new ort.Tensor("float32", features.values, [1, features.rows, features.columns]),
    class_embeddings: new ort.Tensor("float32", bank.embeddings.values, [bank.names.length, bank.embeddings.columns]),
    duration_s: new ort.Tensor("float32", Float32Array.of(durationS), [1]),
  });
  const [n] = scores.dims;
  const shapes = [segments.dims, scores.dims, labels.dims].join(" ");
  if (shapes !== `${n},2 ${n} ${n}` || [segments, scores, labels].map(({ type }) => type).join() !== "float32,float32,int64") {
    throw new Refusal("The pipeline must give segments (N, 2) and scores (N), float32, and labels (N), int64.");
  }
  if (!segments.data.every(Number.isFinite) || !scores.data.every(Number.isFinite)) {
    throw new Refusal("The pipeline gave a score or a segment that is not finite.");
  }
  return Array.from(scores.data, (score, i) => {
    const label = bank.names[Number(labels.data[i])];
    if (label === undefined) throw new Refusal(`The pipeline gave label ${labels.data[i]} of ${bank.names.length} classes.`);
    return { label, score, segment: [segments.data[2 * i], segments.data[2 * i + 1]] };
  });
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
  const channels = integer(contract, "channels", MOST_NUMBERS);
  const linear = contract.resampling === "linear";
  if (!linear && contract.resampling !== "none") {
    throw new Refusal(`Resampling ${shown(contract.resampling)} is not known to this program; it knows linear and none.`);
  }
  const length = linear
    ? integer(contract, "resample_to", MOST_SNIPPETS)
    : contract.length === null ? null : integer(contract, "length", MOST_SNIPPETS);
  const { dtype, shape, values } = parseNpy(bytes);
  if (!(values instanceof Float32Array)) {
    throw new Refusal(`Features must be float32 or float16; these are ${shown(dtype)}.`);
  }
  if (shape.length !== 2) throw new Refusal(`Features must have two axes, (T, C); these have shape (${shape}).`);
  const [rows, columns] = shape;
  if (columns !== channels) {
    throw new Refusal(`The features have ${columns} channels; this bundle takes ${channels}.`);
  }
  if (rows < 1 || rows > MOST_SNIPPETS) throw new Refusal(`Features hold 1 to ${MOST_SNIPPETS} snippets; these hold ${rows}.`);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) throw new Refusal(`Snippet ${Math.floor(bad / columns)} of the features is not finite.`);
  if (linear) return resampled({ rows, columns, values }, Number(length));
  if (length !== null && rows !== length) {
    throw new Refusal(`The features have ${rows} snippets; this bundle takes exactly ${length}.`);
  }
  return { rows, columns, values };
}

/**
 * Read a size of the feature contract: a whole number from 1 to `most`.
 * @param {FeatureContract} contract
 * @param {"channels" | "length" | "resample_to"} key
 * @param {number} most
 * @returns {number}
 */
function integer(contract, key, most) {
  const value = contract[key];
  if (!Number.isInteger(value) || Number(value) < 1 || Number(value) > most) {
    throw new Refusal(`${key} of the feature contract must be a whole number from 1 to ${most}; got ${shown(value)}.`);
  }
  return Number(value);
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
  if (length > MOST_NUMBERS / columns) throw new Refusal(`Resampled features would be more than ${MOST_NUMBERS} numbers.`);
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
  return whole(() => arrayOf(bytes));
}

/**
 * Say that a file is cut short where it names places behind its end.
 * @template T
 * @param {() => T} read
 * @returns {T}
 */
function whole(read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof RangeError) throw new Refusal("The file of NumPy is damaged: it names places behind its end.");
    throw error;
  }
}

/**
 * Join code points; control characters and numbers that are no character are refused.
 * @param {number[]} codes
 */
function textOf(codes) {
  const isCharacter = (/** @type {number} */ code) =>
    code >= 0x20 && (code < 0x7f || code >= 0xa0) && (code < 0xd800 || code >= 0xe000) && code <= 0x10ffff;
  if (!codes.every(isCharacter)) throw new Refusal("A text holds a control character, or a number that is no character.");
  return codes.map((code) => String.fromCodePoint(code)).join("");
}

/**
 * @param {Uint8Array} bytes
 * @returns {NpyArray}
 */
function arrayOf(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 12 || bytes[0] !== 0x93 || ascii(bytes.subarray(1, 6)) !== "NUMPY") {
    throw new Refusal("This is no .npy file of NumPy.");
  }
  const start = bytes[6] === 1 ? 10 : 12;
  const end = start + (bytes[6] === 1 ? view.getUint16(8, true) : view.getUint32(8, true));
  const header = ascii(bytes.subarray(start, end));
  const dtype = /'descr': *'([^']+)'/.exec(header)?.[1] ?? "a structure";
  const sizes = (/'shape': *\(([^)]*)\)/.exec(header)?.[1] ?? "?").split(",").map((size) => size.trim());
  const shape = sizes.filter(Boolean).map(Number);
  if (shape.some((size) => !Number.isInteger(size) || size < 0)) throw new Refusal(`No array has the shape (${shown(sizes.join())}).`);
  if (/'fortran_order': *True/.test(header)) throw new Refusal("The array lies in Fortran order; save it in C order.");
  const characters = /^<U([1-9][0-9]{0,8})$/.exec(dtype);
  const width = { "<f4": 4, "<f2": 2 }[dtype] ?? (characters ? 4 * Number(characters[1]) : 0);
  if (!width) throw new Refusal(`Only float32, float16 and text in little-endian order are read; this is ${shown(dtype)}.`);
  const count = shape.reduce((product, size) => product * size, 1);
  if (bytes.length !== end + count * width || shape.some((size) => size > bytes.length)) {
    throw new Refusal(`The .npy file has ${bytes.length} bytes; its shape needs ${end + count * width}.`);
  }
  if (count > MOST_NUMBERS) throw new Refusal(`The .npy file holds ${count} numbers; at most ${MOST_NUMBERS} are read.`);
  if (dtype.startsWith("<U")) {
    const texts = Array.from({ length: count }, (_, i) => {
      const codes = Array.from({ length: width / 4 }, (_, j) => view.getUint32(end + i * width + 4 * j, true));
      const last = codes.indexOf(0);
      return textOf(last < 0 ? codes : codes.slice(0, last)); // the rest is padding
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
  return whole(() => arraysOf(bytes));
}

/**
 * @param {Uint8Array} bytes
 * @returns {Map<string, NpyArray>}
 */
function arraysOf(bytes) {
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
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    manifest = JSON.parse(text);
    checkText(text);
  } catch (error) {
    throw new Refusal(`manifest.json cannot be read: ${shown(/** @type {Error} */ (error).message)}.`);
  }
  if (!FORMATS.includes(manifest?.format)) {
    throw new Refusal(`The bundle is of format ${shown(manifest?.format)}; this program reads ${FORMATS.join(" and ")}.`);
  }
  const { files, feature_contract: contract } = manifest;
  if (!Array.isArray(files) || files.some((file) => typeof file !== "object" || file === null) || !contract) {
    throw new Refusal("manifest.json must have a feature_contract, and files as a list of objects.");
  }
  return manifest;
}

/**
 * Refuse what JSON.parse lets through: a key twice in one object, numbers beyond double, and great depth.
 * @param {string} text that JSON.parse takes
 */
function checkText(text) {
  /** Keys of the objects that are open; null for lists. @type {(?Set<string>)[]} */
  const open = [];
  let before = "";
  for (const [token] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],:]|[^\s{}[\],:"]+/gs)) {
    if (token === "{" || token === "[") open.push(token === "{" ? new Set() : null);
    if (token === "}" || token === "]") open.pop();
    if (open.length > MOST_DEPTH) throw new Refusal(`objects and lists are more than ${MOST_DEPTH} deep`);
    if (token === ":") {
      const [keys, key] = [open.at(-1), JSON.parse(before)];
      if (keys?.has(key)) throw new Refusal(`the key ${shown(key)} stands twice in one object`);
      keys?.add(key);
    }
    if (/^[-0-9]/.test(token) && !Number.isFinite(Number(token))) throw new Refusal(`${token.slice(0, 20)} is too large`);
    before = token;
  }
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
  if (names.shape.length !== 1 || embeddings.shape.length !== 2 || rows !== names.values.length || !(rows * columns)) {
    throw new Refusal(`The class bank must hold K names and embeddings (K, D); it has (${names.shape}) and (${embeddings.shape}).`);
  }
  if (!embeddings.values.every(Number.isFinite)) throw new Refusal("An embedding of the class bank is not finite.");
  if (names.values.includes("") || new Set(names.values).size < rows) {
    throw new Refusal("A name of the class bank is empty, or stands there twice.");
  }
  return { names: names.values, embeddings: { rows, columns, values: embeddings.values }, fingerprint: fingerprint.values[0] };
}

/**
 * Read a file of the bundle; its path must stay inside, size and sha256 must be those of the manifest.
 * @param {ReadFile} readFile
 * @param {FileEntry} entry
 */
async function checkedFile(readFile, { path, bytes: size, sha256: wanted }) {
  const parts = typeof path === "string" ? path.split("/") : [""];
  const strange = parts.some((part) => ["", ".", ".."].includes(part) || /[:\\\0]/.test(part));
  if (strange || path.toLowerCase() === "manifest.json") {
    throw new Refusal(`The manifest names a path outside the bundle: ${shown(path)}; only relative paths inside are allowed.`);
  }
  if (!Number.isInteger(size) || size < 0 || size > MOST_FILE_BYTES) {
    throw new Refusal(`${shown(path)} must have 0 to ${MOST_FILE_BYTES} bytes; the manifest says ${shown(size)}.`);
  }
  const bytes = await readFile(path, size);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (bytes.length !== size || sha256 !== wanted) {
    throw new Refusal(`${shown(path)} has changed: its bytes are not those that the manifest describes.`);
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
