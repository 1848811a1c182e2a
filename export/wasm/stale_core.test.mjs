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

// The module carries its own exp and log. One class, one mask a snippet: after soft-NMS a score is
// score * exp(-sum(tiou^2) / sigma).
test("decayed scores are those of exp and log", () => {
  const T = 400;
  const slanted = new Float32Array(2 * T).map((_, i) => (i < T ? 4 : 0) - (i % T) / 500);
  const nested = new Float32Array(T * T).map((_, i) => (i % T <= Math.floor(i / T) ? 1 : 0)); // [0, i + 1)
  const undecayed = new Map(
    core.decode({ ...settings, soft_nms: "hard", tiou_threshold: 1, min_score: 0, top_snippets: T, max_detections: T },
      slanted, nested, 1, T).map(({ end, score }) => [end, score]));
  const tiou = (a, b) => Math.min(a, b) / Math.max(a, b);
  for (const sigma of [0.5, 0.05, 1e-3, 1.4e-3]) {
    const found = core.decode({ ...settings, sigma, min_score: 0, top_snippets: T, max_detections: 3 }, slanted, nested, 1, T);
    assert.equal(found.length, 3);
    found.forEach(({ end, score }, i) => {
      const lost = found.slice(0, i).reduce((sum, pick) => sum + tiou(end, pick.end) ** 2 / sigma, 0);
      const expected = undecayed.get(end) * Math.exp(-lost);
      assert.ok(Math.abs(score - expected) <= 1e-12 * expected, `sigma ${sigma}: ${score} instead of ${expected}`);
    });
  }
});

test("wrong sizes and unknown settings are refused", () => {
  assert.throws(() => core.decode(settings, logits, masks, 2, 4), /got 8 and 16 numbers/);
  assert.throws(() => core.decode({ ...settings, regions: "holes" }, logits, masks, 1, 4), /regions must be one of runs, hull/);
});

test("points: one segment, refusals name the row", () => {
  const points = {
    policy: "points", pre_nms_threshold: 0.001, pre_nms_top_k: 2000, duration_threshold: 0.05, multiclass: true,
    soft_nms: "gaussian", sigma: 0.5, tiou_threshold: 0.1, min_score: 0.001, voting_threshold: 0, max_detections: 200,
  };
  // Two levels of two points; the second point of level 1 lies at time 2.
  const given = [Float32Array.of(-20, -20, -20, 3), Float32Array.of(0, 0, 0, 0, 0, 0, 0.75, 1.25), Uint8Array.of(1, 1, 1, 1), [2, 2]];
  for (const soft_nms of ["gaussian", "hard", "none"]) {
    const found = core.decodePoints({ ...points, soft_nms }, ...given);
    assert.equal(found.length, 1);
    assert.ok(Math.abs(found[0].score - 1 / (1 + Math.exp(-3))) < 1e-12);
    assert.deepEqual({ ...found[0], score: 0 }, { label: 0, score: 0, start: 0.5, end: 4.5 });
  }
  const bad = [given[0], Float32Array.from(given[1]).fill(-1), ...given.slice(2)];
  assert.throws(() => core.decodePoints(points, ...bad), /offsets row 0 holds -1; offsets must be finite and >= 0/);
  assert.throws(() => core.decodePoints(points, given[0], given[1], given[2], [2, 1]), /level_lengths add up to 3/);
  assert.throws(() => core.decodePoints(points, given[0], given[0], given[2], [2, 2]), /got 4 and 4 numbers/);
  assert.throws(() => core.decodePoints({ ...points, soft_nms: "linear" }, ...given), /'gaussian' or 'hard'/);
});

test("runs: the longer of equal runs first, attention, refusals", () => {
  const runs = {
    policy: "runs", class_threshold: 0.2, top_share: 0.125, thresholds: [0.2, 0.6], threshold_scale: "video", smoothing: 0,
    run_score: "maximum", surroundings: 0.25, video_weight: 0, length_power: 0, min_snippets: 1, soft_nms: "gaussian",
    sigma: 0.5, tiou_threshold: 0.5, min_score: 0.001, max_detections: 100,
  };
  const likely = [0.1, 0.5, 0.9, 0.9, 0.5, 0.1, 0.1, 0.9, 0.1, 0.1];
  const given = Float32Array.of(...likely.map(Math.log), ...likely.map((p) => Math.log(1 - p)));
  const found = core.decodeRuns(runs, given, null, 1, 10);
  assert.deepEqual(found.map(({ start, end }) => [start, end]), [[1, 5], [7, 8], [2, 4]]);
  assert.ok(Math.abs(found[0].score - 0.9) < 1e-6);
  const [first] = core.decodeRuns(runs, given, new Float32Array(10).fill(0.5), 1, 10);
  assert.ok(Math.abs(first.score - 0.45) < 1e-6);
  assert.throws(() => core.decodeRuns(runs, given, new Float32Array(10).fill(2), 1, 10), /attention row 0 is 2; attention must lie/);
  assert.throws(() => core.decodeRuns(runs, given, new Float32Array(9), 1, 10), /got 20 and 9 numbers/);
  assert.throws(() => core.decodeRuns({ ...runs, run_score: "mass" }, given, null, 1, 10), /run_score must be one of maximum/);
});
