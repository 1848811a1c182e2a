// The module by itself: files of NumPy, resampling, and bundles that must be refused.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";

import { Bundle, fitted, parseNpy, parseNpz, Refusal, resampled, select } from "../stale-edge.mjs";

/** @type {import("../stale-edge.mjs").FeatureContract} */
const CONTRACT = { encoder: "toy", channels: 2, fps: 8, stride: 16, length: null, resampling: "none", resample_to: null };

/**
 * @param {string} descr
 * @param {number[]} shape
 * @param {ArrayBuffer} data
 * @param {string} order
 */
function npy(descr, shape, data, order = "False") {
  const sizes = shape.length === 1 ? `${shape[0]},` : shape.join(", ");
  const text = `{'descr': '${descr}', 'fortran_order': ${order}, 'shape': (${sizes}), }`;
  const header = text.padEnd(117) + "\n"; // 10 + 118 = 128 bytes, as NumPy aligns them
  const magic = [0x93, ...Buffer.from("NUMPY"), 1, 0, header.length & 255, header.length >> 8];
  return new Uint8Array(Buffer.concat([Buffer.from(magic), Buffer.from(header), Buffer.from(data)]));
}

/**
 * @param {number[][]} rows
 */
function features(rows) {
  return npy("<f4", [rows.length, rows[0]?.length ?? 2], Float32Array.from(rows.flat()).buffer);
}

/**
 * Write a ZIP archive as numpy.savez does, without its checksums, which nobody reads.
 * @param {Record<string, Uint8Array>} arrays
 */
function npz(arrays) {
  /** @type {Buffer[]} */
  const local = [];
  /** @type {Buffer[]} */
  const central = [];
  let at = 0;
  for (const [key, content] of Object.entries(arrays)) {
    const name = Buffer.from(`${key}.npy`);
    const head = Buffer.alloc(30);
    head.writeUInt32LE(0x04034b50);
    head.writeUInt16LE(name.length, 26);
    const entry = Buffer.alloc(46);
    entry.writeUInt32LE(0x02014b50);
    entry.writeUInt32LE(content.length, 20);
    entry.writeUInt32LE(content.length, 24);
    entry.writeUInt16LE(name.length, 28);
    entry.writeUInt32LE(at, 42);
    local.push(head, name, Buffer.from(content));
    central.push(entry, name);
    at += 30 + name.length + content.length;
  }
  const end = Buffer.alloc(22);
  end.writeUInt32LE(0x06054b50);
  end.writeUInt16LE(Object.keys(arrays).length, 10);
  end.writeUInt32LE(at, 16);
  return new Uint8Array(Buffer.concat([...local, ...central, end]));
}

/** @param {string[]} texts */
function unicode(texts) {
  const width = Math.max(...texts.map((text) => [...text].length));
  const codes = texts.flatMap((text) => Array.from({ length: width }, (_, i) => [...text][i]?.codePointAt(0) ?? 0));
  return { descr: `<U${width}`, data: Uint32Array.from(codes).buffer };
}

/** A bundle in memory, whole until a test breaks it. */
function bundle() {
  const names = unicode(["jump", "Ćwiczenia"]);
  const fingerprint = unicode(["toy"]);
  const bank = npz({
    names: npy(names.descr, [2], names.data),
    embeddings: npy("<f4", [2, 3], Float32Array.of(1, 2, 3, 4, 5, 6).buffer),
    fingerprint: npy(fingerprint.descr, [], fingerprint.data),
  });
  const graph = new Uint8Array([1, 2, 3]);
  /** @type {(path: string, role: string, bytes: Uint8Array, precision: ?string) => object} */
  const entry = (path, role, bytes, precision) => ({
    path, role, precision, runtime: precision && "onnxruntime", bytes: bytes.length,
    sha256: createHash("sha256").update(bytes).digest("hex"),
  });
  const manifest = {
    format: "stale-edge-bundle/1",
    feature_contract: CONTRACT,
    files: [entry("class_bank.npz", "class_bank", bank, null), entry("g.onnx", "localizer", graph, "fp32")],
  };
  return { manifest, "class_bank.npz": bank, "g.onnx": graph };
}

/** @param {Record<string, any>} files */
function open(files) {
  /** @type {Record<string, any>} */
  const content = { ...files, "manifest.json": files["manifest.json"] ?? Buffer.from(JSON.stringify(files.manifest)) };
  return Bundle.open(async (path) => new Uint8Array(content[path]));
}

test("a bundle gives its classes and its graphs", async () => {
  const opened = await open(bundle());
  assert.deepEqual(opened.classBank.names, ["jump", "Ćwiczenia"]);
  assert.equal(opened.classBank.fingerprint, "toy");
  assert.deepEqual(opened.precisions("pipeline"), ["fp32"]);
  assert.deepEqual([...(await opened.graph("pipeline", "fp32"))], [1, 2, 3]);
  const one = select(opened.classBank, ["Ćwiczenia"]);
  assert.deepEqual([one.embeddings.rows, ...one.embeddings.values], [1, 4, 5, 6]);
  assert.throws(() => select(opened.classBank, ["swim"]), Refusal);
});

test("bundles that are not what they promise are refused", async () => {
  const changed = bundle();
  changed["class_bank.npz"][200] ^= 1;
  await assert.rejects(open(changed), /"class_bank.npz" has changed/);
  const graph = bundle();
  graph["g.onnx"][0] = 9;
  await assert.rejects((await open(graph)).graph("pipeline", "fp32"), /"g.onnx" has changed/);
  await assert.rejects((await open(bundle())).graph("pipeline", "int8"), /one pipeline in int8; it has: "fp32"/);
  await assert.rejects((await open(bundle())).graph("detector", "fp32"), /one detector in fp32; it has: none/);
  const version = bundle();
  version.manifest.format = "stale-edge-bundle/3";
  await assert.rejects(open(version), /of format "stale-edge-bundle\/3"; this program reads stale-edge-bundle\/1 and stale-edge-bundle\/2/);
  await assert.rejects(open({ ...bundle(), "manifest.json": Buffer.from("{") }), /manifest.json cannot be read/);
});

test("features that do not fit are refused in one sentence", () => {
  const cases = [
    [features([[1, 2, 3]]), /have 3 channels; this bundle takes 2/],
    [features([]), /hold 1 to \d+ snippets; these hold 0/],
    [features([[1, 2], [NaN, 1]]), /Snippet 1 of the features is not finite/],
    [features([[1, 2], [1, -Infinity]]), /Snippet 1 of the features is not finite/],
    [npy("<f4", [2], Float32Array.of(1, 2).buffer), /two axes/],
    [npy("<i4", [1, 2], Int32Array.of(1, 2).buffer), /this is "<i4"/],
    [npy("<f8", [1, 2], Float64Array.of(1, 2).buffer), /this is "<f8"/],
    [npy("<f4", [1, 2], Float32Array.of(1, 2).buffer, "True"), /Fortran/],
    [features([[1, 2]]).subarray(0, 130), /its shape needs/],
    [new Uint8Array(Buffer.from("no array at all")), /no .npy file/],
  ];
  for (const [bytes, says] of cases) {
    assert.throws(
      () => fitted(/** @type {Uint8Array} */ (bytes), CONTRACT),
      (error) => error instanceof Refusal && /** @type {RegExp} */ (says).test(error.message),
      String(says),
    );
  }
  assert.throws(() => fitted(features([[1, 2]]), { ...CONTRACT, length: 3 }), /have 1 snippets; this bundle takes exactly 3/);
});

test("float16 is read as NumPy reads it", () => {
  const halves = [0x3c00, 0xc000, 0x0001, 0x03ff, 0x0400, 0x7bff, 0x3555, 0x8000];
  const { values } = parseNpy(npy("<f2", [halves.length], Uint16Array.from(halves).buffer));
  const expected = [1, -2, 2 ** -24, 2 ** -14 * (1023 / 1024), 2 ** -14, 65504, 0.333251953125, -0];
  assert.deepEqual([...values], expected);
});

test("snippets are interpolated between their centres and held at the ends", () => {
  const { values, rows } = resampled({ rows: 2, columns: 1, values: Float32Array.of(0, 1) }, 4);
  assert.equal(rows, 4);
  assert.deepEqual([...values], [0, 0.25, 0.75, 1]);
  const one = resampled({ rows: 1, columns: 2, values: Float32Array.of(3, 4) }, 3);
  assert.deepEqual([...one.values], [3, 4, 3, 4, 3, 4]);
  const less = resampled({ rows: 4, columns: 1, values: Float32Array.of(0, 1, 2, 3) }, 2);
  assert.deepEqual([...less.values], [0.5, 2.5]);
});

test("an archive that is none is refused", () => {
  assert.throws(() => parseNpz(new Uint8Array(100)), /no .npz file/);
});
