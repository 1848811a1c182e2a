// node --test: what the glue refuses, and that the core goes on after it. The picks are compared by ../conformance.py.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { env } from "node:process";
import test from "node:test";

import { loadCore } from "./stale_core.mjs";

const core = await loadCore(await readFile(`${env.BUILD}/stale_core.wasm`));
const settings = {
  policy: "paper", class_threshold: 0.05, top_snippets: 100, mask_thresholds: [0.5], regions: "runs", min_snippets: 1,
  soft_nms: "gaussian", sigma: 0.5, tiou_threshold: 0.5, min_score: 0.001, max_detections: 100,
};
// Two snippets of four are class 0, in one mask.
const logits = Float32Array.of(0, 9, 9, 0, /* background */ 9, 0, 0, 9);
const masks = new Float32Array(16).map((_, i) => ([1, 2].includes(i % 4) && [1, 2].includes(Math.floor(i / 4)) ? 1 : 0));
const wanted = [{ label: 0, score: 1 / (1 + Math.exp(-9)), start: 1, end: 3 }];

function assertWanted(found) {
  assert.equal(found.length, 1);
  assert.ok(Math.abs(found[0].score - wanted[0].score) < 1e-6);
  assert.deepEqual({ ...found[0], score: wanted[0].score }, wanted[0]);
}

test("finds the one action", () => assertWanted(core.decode(settings, logits, masks, 1, 4)));

test("bad input throws with its row and leaves the core usable", () => {
  const bad = Float32Array.from(masks);
  bad[6] = 1.5;
  for (let i = 0; i < 1000; i++) {
    assert.throws(() => core.decode(settings, logits, bad, 1, 4), /masks row 1, snippet 2 is 1.5; masks must lie in \[0, 1\]/);
  }
  assertWanted(core.decode(settings, logits, masks, 1, 4));
});

test("wrong sizes and unknown settings are refused", () => {
  assert.throws(() => core.decode(settings, logits, masks, 2, 4), /got 8 and 16 numbers/);
  assert.throws(() => core.decode({ ...settings, regions: "holes" }, logits, masks, 1, 4), /regions must be one of runs, hull/);
});
