// The decoding core in JavaScript: stale_core.wasm with typed arrays around it. Runs in browsers, workers and Node alike.
//
//   const core = await loadCore(await (await fetch("stale_core.wasm")).arrayBuffer());
//   const detections = core.decode(manifest.decode, classLogits, masks, nClasses, nSnippets);
//
// Bad input throws an Error whose message names the row.

const ABI_VERSION = 1; // STALE_CORE_ABI_VERSION of csrc/stale_core.h, whose structs are written below, with wasm32's sizes
const DETECTION_BYTES = 32; // stale_detection: int64 label, double score, start, end
const RELEASE_MOST = 100; // detections that stale_decode_release gives at most

/** Instantiate the module, given as bytes or as a compiled WebAssembly.Module. */
export async function loadCore(source) {
  let memory;
  const bytes = (pointer, size) => new Uint8Array(memory.buffer, pointer, size);
  const host = {
    fail(pointer, size) {
      throw new Error(new TextDecoder().decode(bytes(pointer, size)));
    },
    number_text(value, pointer) {
      const exact = Number.isInteger(value) || Math.fround(value) === value;
      return new TextEncoder().encodeInto(exact ? String(value) : value.toPrecision(6), bytes(pointer, 32)).written;
    },
  };
  const module = source instanceof WebAssembly.Module ? source : await WebAssembly.compile(source);
  const { exports } = await WebAssembly.instantiate(module, { host });
  memory = exports.memory;
  exports.__wasm_call_ctors();
  const stackTop = exports.__stack_pointer.value;
  if (exports.stale_core_abi_version() !== ABI_VERSION) {
    throw new Error(`stale_core.wasm has ABI ${exports.stale_core_abi_version()}; this file knows ${ABI_VERSION}`);
  }

  /** Copy an array into the module's memory; it stays until the next call. */
  function put(array) {
    const pointer = exports.stale_allocate(array.byteLength);
    new array.constructor(memory.buffer, pointer, array.length).set(array);
    return pointer;
  }

  function choice(value, names, setting) {
    const index = names.indexOf(value);
    if (index < 0) throw new Error(`decode.${setting} must be one of ${names.join(", ")}; got ${value}`);
    return index;
  }

  function putParameters(decode) {
    const thresholds = put(Float64Array.from(decode.mask_thresholds));
    const pointer = exports.stale_allocate(80);
    const view = new DataView(memory.buffer, pointer, 80); // stale_decode_parameters
    view.setFloat64(0, decode.class_threshold, true);
    view.setBigInt64(8, BigInt(decode.top_snippets), true);
    view.setUint32(16, thresholds, true);
    view.setUint32(20, decode.mask_thresholds.length, true);
    view.setInt32(24, choice(decode.regions, ["runs", "hull"], "regions"), true);
    view.setBigInt64(32, BigInt(decode.min_snippets), true);
    view.setInt32(40, choice(decode.soft_nms, ["gaussian", "linear", "hard"], "soft_nms"), true); // stale_soft_nms_parameters
    view.setFloat64(48, decode.sigma, true);
    view.setFloat64(56, decode.tiou_threshold, true);
    view.setFloat64(64, decode.min_score, true);
    view.setBigInt64(72, BigInt(decode.max_detections), true);
    return pointer;
  }

  return {
    /**
     * Turn what the detector gave for one video into detections, best first.
     *
     * @param {object} decode the "decode" object of a bundle's manifest
     * @param {Float32Array} classLogits (K+1, T), background last
     * @param {Float32Array} masks (T, T) in [0, 1], row i predicted by snippet i
     * @returns {{label: number, score: number, start: number, end: number}[]} label is a row of the class bank; times are in
     *   snippets, [start, end): divide by T, multiply by the duration
     */
    decode(decode, classLogits, masks, nClasses, nSnippets) {
      if (classLogits.length !== (nClasses + 1) * nSnippets || masks.length !== nSnippets * nSnippets) {
        throw new Error(
          `class logits must be (K + 1, T) and masks (T, T) for K = ${nClasses}, T = ${nSnippets}; ` +
            `got ${classLogits.length} and ${masks.length} numbers`,
        );
      }
      exports.stale_release_all();
      exports.__stack_pointer.value = stackTop; // a call that threw did not get to raise it again
      const release = choice(decode.policy, ["paper", "release"], "policy") === 1;
      const capacity = release ? RELEASE_MOST : decode.max_detections;
      const inputs = [put(classLogits), put(masks), nClasses, nSnippets];
      const found = exports.stale_allocate(capacity * DETECTION_BYTES);
      const count = exports.stale_allocate(4);
      const message = exports.stale_allocate(1);
      const status = release
        ? exports.stale_decode_release(...inputs, found, capacity, count, message, 1)
        : exports.stale_decode_paper(...inputs, putParameters(decode), found, capacity, count, message, 1);
      if (status !== 0) throw new Error(`the decoding core returned status ${status}`);
      const view = new DataView(memory.buffer);
      return Array.from({ length: view.getUint32(count, true) }, (_, i) => {
        const at = found + i * DETECTION_BYTES;
        return {
          label: Number(view.getBigInt64(at, true)),
          score: view.getFloat64(at + 8, true),
          start: view.getFloat64(at + 16, true),
          end: view.getFloat64(at + 24, true),
        };
      });
    },
  };
}
