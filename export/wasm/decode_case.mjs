// Saved network outputs to detections, as ../README.md says of programs that hold the core alone:
// node decode_case.mjs STALE_CORE.wasm CASE.json [--repeat N], or `decodeCase` in the browser.
import { loadCore } from "./stale_core.mjs";

/** Parse the bytes of an .npy file of little-endian float32 with two axes. */
function parseNpy(buffer, path) {
  const begin = 10 + new DataView(buffer).getUint16(8, true);
  const header = new TextDecoder("latin1").decode(new Uint8Array(buffer, 10, begin - 10));
  if (!header.includes("'descr': '<f4'") || !header.includes("'fortran_order': False")) {
    throw new Error(`${path}: must be float32 in C order; its header is ${header.trim()}`);
  }
  const shape = /'shape': \(([^)]*)\)/.exec(header)[1].match(/\d+/g).map(Number);
  return { shape, values: new Float32Array(buffer.slice(begin)) };
}

/**
 * Decode one case.
 * @param {(path: string) => Promise<ArrayBuffer>} read reads the module, and files beside the case
 * @returns {Promise<{layout: object, milliseconds: number | null}>} ActivityNet's layout, and the median of `repeat` calls
 */
export async function decodeCase(read, wasm, path, repeat) {
  const core = await loadCore(await read(wasm));
  const given = JSON.parse(new TextDecoder().decode(await read(path)));
  const beside = async (name) => parseNpy(await read(path.replace(/[^/]*$/, name)), name);
  const [logits, masks] = [await beside(given.class_logits), await beside(given.masks)];
  const [T, K] = [logits.shape[1], given.class_names.length];
  const decode = () =>
    core.decode(given.decode, logits.values, masks.values, K, T).map(({ label, score, start, end }) => ({
      label: given.class_names[label],
      score,
      segment: [(start / T) * given.duration_s, (end / T) * given.duration_s],
    }));
  const video = path.replace(/^.*\//, "").replace(/\.json$/, "");
  const layout = { version: "1.3", results: { [video]: decode() }, external_data: {} };
  const passed = [];
  for (let i = -3; repeat > 0 && i < repeat; i++) {
    const start = performance.now();
    decode();
    if (i >= 0) passed.push(performance.now() - start); // after three warm-ups
  }
  passed.sort((a, b) => a - b);
  return { layout, milliseconds: repeat > 0 ? passed[Math.floor(repeat / 2)] : null };
}

async function main([wasm, path, , repeat]) {
  const { readFile } = await import("node:fs/promises");
  const read = async (name) => new Uint8Array(await readFile(name)).buffer;
  const { layout, milliseconds } = await decodeCase(read, wasm, path, Number(repeat ?? 0));
  console.log(JSON.stringify(layout, null, 2));
  if (milliseconds !== null) console.error(`milliseconds: ${milliseconds.toFixed(3)}`);
}

if (globalThis.process?.argv[1]?.endsWith("decode_case.mjs")) {
  main(process.argv.slice(2)).catch((error) => {
    console.error(`error: ${error.message}`);
    process.exit(1);
  });
}
