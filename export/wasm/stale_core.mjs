// The decoding core in JavaScript: stale_core.wasm with typed arrays around it. Runs in browsers, workers and Node alike.
//
//   const core = await loadCore(await (await fetch("stale_core.wasm")).arrayBuffer());
//   const detections = core.decode(manifest.decode, classLogits, masks, nClasses, nSnippets);
//
// Bad input throws an Error whose message names the row.

const ABI_VERSION = 2; // STALE_CORE_ABI_VERSION of csrc/stale_core.h, whose structs are written below, with wasm32's sizes
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
    putSoftNms(view, 40, decode);
    return pointer;
  }

  /** Write a stale_soft_nms_parameters, 40 bytes. */
  function putSoftNms(view, at, decode) {
    view.setInt32(at, choice(decode.soft_nms, ["gaussian", "linear", "hard", "none"], "soft_nms"), true);
    view.setFloat64(at + 8, decode.sigma, true);
    view.setFloat64(at + 16, decode.tiou_threshold, true);
    view.setFloat64(at + 24, decode.min_score, true);
    view.setBigInt64(at + 32, BigInt(decode.max_detections), true);
  }

  function putPointsParameters(decode) {
    const pointer = exports.stale_allocate(80);
    const view = new DataView(memory.buffer, pointer, 80); // stale_points_parameters
    view.setFloat64(0, decode.pre_nms_threshold, true);
    view.setBigInt64(8, BigInt(decode.pre_nms_top_k), true);
    view.setFloat64(16, decode.duration_threshold, true);
    view.setInt32(24, decode.multiclass ? 1 : 0, true);
    view.setFloat64(32, decode.voting_threshold, true);
    putSoftNms(view, 40, decode);
    return pointer;
  }

  function putRunsParameters(decode) {
    const thresholds = put(Float64Array.from(decode.thresholds));
    const pointer = exports.stale_allocate(120);
    const view = new DataView(memory.buffer, pointer, 120); // stale_runs_parameters
    view.setFloat64(0, decode.class_threshold, true);
    view.setFloat64(8, decode.top_share, true);
    view.setUint32(16, thresholds, true);
    view.setUint32(20, decode.thresholds.length, true);
    view.setInt32(24, choice(decode.threshold_scale, ["none", "video"], "threshold_scale"), true);
    view.setInt32(28, choice(decode.class_scores ?? "softmax", ["softmax", "sigmoid"], "class_scores"), true);
    view.setFloat64(32, decode.smoothing, true);
    view.setInt32(40, choice(decode.run_score, ["maximum", "contrast", "mean-contrast"], "run_score"), true);
    view.setFloat64(48, decode.surroundings, true);
    view.setFloat64(56, decode.video_weight, true);
    view.setFloat64(64, decode.length_power, true);
    view.setBigInt64(72, BigInt(decode.min_snippets), true);
    putSoftNms(view, 80, decode);
    return pointer;
  }

  /** Begin a call: what the one before left in memory goes. A call that threw did not get to raise the stack again. */
  function restart() {
    exports.stale_release_all();
    exports.__stack_pointer.value = stackTop;
  }

  /** Call a function of the C interface that ends in (detections, capacity, count, error, error_size), and read its answer. */
  function detectionsOf(capacity, call) {
    const found = exports.stale_allocate(capacity * DETECTION_BYTES);
    const count = exports.stale_allocate(4);
    const status = call(found, capacity, count, exports.stale_allocate(1), 1);
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
      restart();
      const release = choice(decode.policy, ["paper", "release"], "policy") === 1;
      const inputs = [put(classLogits), put(masks), nClasses, nSnippets];
      if (release) {
        return detectionsOf(RELEASE_MOST, (...room) => exports.stale_decode_release(...inputs, ...room));
      }
      const parameters = putParameters(decode);
      return detectionsOf(decode.max_detections, (...room) => exports.stale_decode_paper(...inputs, parameters, ...room));
    },

    /**
     * Turn what a point detector gave for one video into detections, best first: policy "points".
     *
     * @param {object} decode the "decode" object of a bundle's manifest
     * @param {Float32Array} classLogits (P, K)
     * @param {Float32Array} offsets (P, 2)
     * @param {Uint8Array} valid (P,), 0 or 1
     * @param {number[]} levelLengths points of each level, P in all
     * @returns as `decode`, with times in points of the first level
     */
    decodePoints(decode, classLogits, offsets, valid, levelLengths) {
      const nPoints = valid.length;
      const nClasses = classLogits.length / nPoints;
      if (!Number.isInteger(nClasses) || offsets.length !== 2 * nPoints) {
        throw new Error(
          `class logits must be (P, K) and offsets (P, 2) for P = ${nPoints}; ` +
            `got ${classLogits.length} and ${offsets.length} numbers`,
        );
      }
      restart();
      const arrays = [put(classLogits), put(offsets), put(Uint8Array.from(valid))];
      const levels = put(BigInt64Array.from(levelLengths, BigInt));
      const points = put(Uint32Array.of(...arrays, nPoints, nClasses, levels, levelLengths.length)); // stale_points
      const parameters = putPointsParameters(decode);
      const most = decode.soft_nms === "none" ? nPoints * nClasses : decode.max_detections;
      return detectionsOf(most, (...room) => exports.stale_decode_points(points, parameters, ...room));
    },

    /**
     * Turn class logits of snippets into detections, best first: policy "runs".
     *
     * @param {object} decode the "decode" object of a bundle's manifest
     * @param {Float32Array} classLogits (K+1, T), background last
     * @param {Float32Array | null} attention (T,) in [0, 1]
     * @returns as `decode`
     */
    decodeRuns(decode, classLogits, attention, nClasses, nSnippets) {
      if (classLogits.length !== (nClasses + 1) * nSnippets || (attention && attention.length !== nSnippets)) {
        throw new Error(
          `class logits must be (K + 1, T) and attention (T,) for K = ${nClasses}, T = ${nSnippets}; ` +
            `got ${classLogits.length} and ${attention?.length ?? "no"} numbers`,
        );
      }
      restart();
      const inputs = [put(classLogits), attention ? put(attention) : 0, nClasses, nSnippets];
      const parameters = putRunsParameters(decode);
      return detectionsOf(decode.max_detections, (...room) => exports.stale_decode_runs(...inputs, parameters, ...room));
    },
  };
}
