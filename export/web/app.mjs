// The page: takes a bundle and a video's features, asks the worker, shows what it found.
import { chosen, dropped, save, sorted, srt } from "./files.mjs";
import { clock, element, Timeline } from "./timeline.mjs";

const $ = (id) => document.getElementById(id);
const timeline = new Timeline();
const state = { bundle: null, video: null, names: new Set(), detections: [], lengthWasGiven: false };

// --- The worker: a promise for every request.

const worker = new Worker("worker.mjs", { type: "module" });
const waiting = new Map();
let lastId = 0;

function ask(kind, request = {}) {
  return new Promise((done, failed) => {
    waiting.set(++lastId, { done, failed });
    worker.postMessage({ id: lastId, kind, ...request });
  });
}

worker.onmessage = ({ data: { id, answer, error } }) => {
  const { done, failed } = waiting.get(id);
  waiting.delete(id);
  if (error === undefined) done(answer);
  else failed(new Error(error));
};
worker.onerror = (event) => {
  event.preventDefault();
  complain("The parts of ONNX Runtime are not beside this page; run make in export/web.");
};

let busy = 0;

/** Do something that may fail with a sentence for the user. */
async function attempt(what, action) {
  $("problem").hidden = true;
  $("status").textContent = what;
  document.body.ariaBusy = String(++busy > 0);
  try {
    await action();
  } catch (error) {
    complain(error.message);
  }
  document.body.ariaBusy = String(--busy > 0);
}

function complain(sentence) {
  $("status").textContent = "";
  $("problem").textContent = sentence;
  $("problem").hidden = false;
}

// --- Input.

async function openBundle(request, label) {
  const opened = await ask("open", request);
  Object.assign(state, { bundle: opened, video: null, detections: [], names: new Set(opened.names) });
  $("ms-open").textContent = opened.ms.toFixed(0);
  const { contract } = opened;
  const said = $("bundle-state");
  said.replaceChildren(element("b", "", label), ` · ${opened.names.length} classes, ${contract.channels} channels, ${megabytes(opened.n_bytes)}`);
  $("bundle-card").classList.add("done");
  $("features-card").classList.remove("done");
  $("features-state").textContent = `Now a .npy file of one video, (T, ${contract.channels}).`;
  $("precision").replaceChildren(...opened.precisions.map((name) => new Option(name)));
  listClasses();
  $("result").hidden = true;
  $("status").textContent = "";
}

async function openFeatures(bytes, name, durationS = null) {
  if (!state.bundle) throw new Error("Choose a bundle first: it says what features must be.");
  const opened = await ask("features", { bytes });
  state.video = { ...opened, name: name.replace(/\.npy$/, "") };
  $("features-state").replaceChildren(element("b", "", name), ` · ${opened.rows} snippets, ${opened.columns} channels`);
  $("features-card").classList.add("done");
  // The length of the video before is not this one's; one that was typed in after that video may be.
  const known = durationS ?? opened.durationS;
  if (known !== null || !state.lengthWasGiven) $("duration").value = known === null ? "" : String(known);
  state.lengthWasGiven = false;
  timeline.snippet = null;
  await detect();
}

async function take(items) {
  const { bundle, folder, features, others } = sorted(items);
  if (!bundle && !features) {
    throw new Error(
      others.length > 1
        ? `There is no manifest.json among these ${others.length} files, so they are no bundle.`
        : `${others[0] ?? "That"} is neither a bundle's folder nor a .npy file of features.`,
    );
  }
  if (bundle) await openBundle({ files: bundle }, folder);
  if (features) await openFeatures(await features.arrayBuffer(), features.name);
}

async function takeSample() {
  const response = await fetch("sample/sample.json");
  if (!response.ok) throw new Error("The sample is not beside this page; run make in export/web to make it.");
  const sample = await response.json();
  await openBundle({ address: new URL("sample/bundle", location.href).href }, "sample");
  const features = await fetch("sample/features.npy");
  await openFeatures(await features.arrayBuffer(), sample.features, sample.duration_s);
}

// --- Detection.

let asked = 0;

async function detect() {
  if (!state.video) return;
  const durationS = $("duration").valueAsNumber;
  if (!(durationS > 0)) {
    $("result").hidden = true;
    throw new Error(
      $("duration").value === ""
        ? "How long is this video? Give its length in seconds."
        : `A video's length is a number of seconds greater than 0; got ${$("duration").value}.`,
    );
  }
  const names = state.bundle.names.filter((name) => state.names.has(name));
  const turn = ++asked;
  $("status").textContent = "Looking for actions …";
  const request = { names, precision: $("precision").value };
  const found = names.length ? await ask("detect", { ...request, durationS }) : { detections: [], ms: null, loadMs: null };
  if (turn !== asked) return; // something newer is on its way
  state.detections = found.detections;
  state.video.durationS = durationS;
  $("ms-detect").textContent = found.ms?.toFixed(1) ?? "–";
  if (found.loadMs > 1) $("ms-load").textContent = found.loadMs.toFixed(0);
  $("result").hidden = false;
  timeline.setMasks(null);
  show();
  $("status").textContent = "";
  if (!names.length || !state.bundle.hasMasks) return;
  // Segments first; the masks come from the detector's own file, which is opened behind them.
  try {
    const masks = await ask("masks", request);
    if (turn !== asked) return;
    $("ms-masks").textContent = masks.ms.toFixed(1);
    timeline.setMasks(masks);
  } catch (error) {
    $("ms-masks").textContent = "–";
    complain(`Segments are shown, masks are not: ${error.message}`);
  }
}

function shown() {
  const least = Number($("threshold").value);
  return state.detections.filter(({ score }) => score >= least);
}

function show() {
  const detections = shown();
  $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  const names = state.bundle.names.filter((name) => state.names.has(name));
  // Of very many classes only those that were found get a lane.
  const lanes = names.length <= 12 ? names : names.filter((name) => detections.some(({ label }) => label === name));
  timeline.show(lanes, detections, state.video);
  $("found-count").textContent = `${detections.length} of ${state.detections.length}`;
  $("found").replaceChildren(
    ...detections.map(({ label, score, segment }) => {
      const row = element("tr");
      row.append(...[label, clock(segment[0]), clock(segment[1]), score.toFixed(3)].map((text) => element("td", "", text)));
      return row;
    }),
  );
  for (const id of ["save-json", "save-srt"]) $(id).disabled = !detections.length;
}

// --- Classes.

function listClasses() {
  const filter = $("classes-filter").value.trim().toLowerCase();
  $("classes").replaceChildren(
    ...state.bundle.names
      .filter((name) => name.toLowerCase().includes(filter))
      .map((name) => {
        const label = element("label");
        const box = element("input");
        Object.assign(box, { type: "checkbox", checked: state.names.has(name) });
        box.addEventListener("change", () => {
          if (box.checked) state.names.add(name);
          else state.names.delete(name);
          classesChanged();
        });
        label.append(box, name);
        return label;
      }),
  );
  $("classes-count").textContent = `${state.names.size} of ${state.bundle.names.length}`;
}

let soon = 0;

function classesChanged() {
  $("classes-count").textContent = `${state.names.size} of ${state.bundle.names.length}`;
  clearTimeout(soon);
  soon = setTimeout(() => attempt("", detect), 120);
}

// --- Wiring.

for (const id of ["bundle-folder", "bundle-files", "features-file"]) {
  $(id).addEventListener("change", ({ target }) => {
    const items = chosen(target);
    target.value = ""; // the same choice again is a choice
    if (items.length) attempt("Reading …", () => take(items));
  });
}
$("sample").addEventListener("click", () => attempt("Reading the sample …", takeSample));
$("duration").addEventListener("change", () => {
  state.lengthWasGiven = true;
  attempt("", detect);
});
$("precision").addEventListener("change", () => attempt("", detect));
$("threshold").addEventListener("input", show);
$("classes-filter").addEventListener("input", listClasses);
$("classes-all").addEventListener("click", () => chooseAll(state.bundle.names));
$("classes-none").addEventListener("click", () => chooseAll([]));
$("save-json").addEventListener("click", () => {
  const { name } = state.video;
  const layout = { version: "1.3", results: { [name]: shown() }, external_data: {} };
  save(`${name}.json`, `${JSON.stringify(layout, null, 2)}\n`, "application/json");
});
$("save-srt").addEventListener("click", () => {
  save(`${state.video.name}.srt`, srt(shown(), state.video.durationS), "application/x-subrip");
});
$("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
addEventListener("resize", () => state.video?.durationS && timeline.drawTicks());

function chooseAll(names) {
  state.names = new Set(names);
  listClasses();
  classesChanged();
}

let dragging = 0;
addEventListener("dragenter", () => ($("drop").hidden = ++dragging === 0));
addEventListener("dragleave", () => ($("drop").hidden = --dragging <= 0));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragging = 0;
  $("drop").hidden = true;
  const items = dropped(event.dataTransfer); // at once: what was dropped is gone after this event
  attempt("Reading …", async () => take(await items));
});

const system = matchMedia("(prefers-color-scheme: dark)");
system.addEventListener("change", () => setTheme(system.matches ? "dark" : "light"));
setTheme(system.matches ? "dark" : "light");

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
}

function megabytes(n) {
  return `${(n / 1e6).toFixed(n < 1e6 ? 2 : 1)}\u00a0MB`;
}
