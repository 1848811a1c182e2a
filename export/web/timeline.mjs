// The timeline: a lane a class, segments coloured by score, and what is under the cursor.

const $ = (id) => document.getElementById(id);
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600];

/**
 * Write a time of a video, such as 1:04.5.
 * @param {number} seconds
 */
export function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const [h, m, s] = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, (tenths % 600) / 10];
  const tail = `${s < 10 ? "0" : ""}${s.toFixed(1)}`;
  return h ? `${h}:${String(m).padStart(2, "0")}:${tail}` : `${m}:${tail}`;
}

/** Draws on the page's timeline; a snippet is chosen by pointer or keys. */
export class Timeline {
  constructor() {
    this.root = $("timeline");
    this.video = { durationS: 1, rows: 1 };
    this.shown = [];
    this.masks = null;
    /** Snippet under the cursor; null: none. @type {?number} */
    this.snippet = null;
    this.root.addEventListener("pointermove", (event) => this.point(event));
    this.root.addEventListener("pointerdown", (event) => this.point(event));
    this.root.addEventListener("pointerleave", () => ($("tip").hidden = true));
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.root.addEventListener("focus", () => this.snippet === null && this.go(0));
  }

  /**
   * Show detections.
   * @param {string[]} names classes, a lane each
   * @param {{label: string, score: number, segment: [number, number]}[]} detections
   * @param {{durationS: number, rows: number}} video
   */
  show(names, detections, video) {
    [this.video, this.shown] = [video, detections];
    const lanes = names.map((name) => {
      const lane = element("div", "lane");
      const title = element("span", "name", name);
      title.title = name;
      const track = element("div", "track");
      // The best last, so that it lies on top.
      for (const detection of detections.filter(({ label }) => label === name).reverse()) {
        const bar = element("div", "segment");
        const [start, end] = detection.segment;
        bar.style.left = percent(start / video.durationS);
        bar.style.width = percent((end - start) / video.durationS);
        bar.style.setProperty("--score", detection.score.toFixed(3));
        bar.detection = detection;
        track.append(bar);
      }
      lane.append(title, track);
      return lane;
    });
    $("lanes").replaceChildren(...lanes);
    this.drawTicks();
    this.root.setAttribute("aria-valuemin", "0");
    this.root.setAttribute("aria-valuemax", String(video.rows - 1));
    this.go(this.snippet === null ? null : Math.min(this.snippet, video.rows - 1));
  }

  /**
   * Take the masks of all snippets, or null where there are none.
   * @param {?{length: number, values: Float32Array}} masks
   */
  setMasks(masks) {
    this.masks = masks;
    this.drawMask();
  }

  /** @param {?number} snippet */
  go(snippet) {
    this.snippet = snippet;
    $("cursor").hidden = snippet === null;
    if (snippet === null) {
      $("readout").textContent = "\u00a0";
      this.root.setAttribute("aria-valuenow", "0");
      this.root.setAttribute("aria-valuetext", "no place chosen");
    } else {
      const seconds = ((snippet + 0.5) / this.video.rows) * this.video.durationS;
      $("cursor").style.left = percent(seconds / this.video.durationS);
      const here = this.at(seconds);
      const text = here.map(({ label, score, segment }) => {
        return `${label} ${score.toFixed(2)}, ${clock(segment[0])}–${clock(segment[1])}`;
      });
      $("readout").textContent = `${clock(seconds)}, snippet ${snippet + 1} of ${this.video.rows}: ${text.join("; ") || "nothing"}`;
      this.root.setAttribute("aria-valuenow", String(snippet));
      this.root.setAttribute("aria-valuetext", $("readout").textContent);
      for (const bar of $("lanes").querySelectorAll(".segment")) bar.classList.toggle("near", here.includes(bar.detection));
    }
    this.drawMask();
  }

  /** List the detections at a time, best first. */
  at(seconds) {
    return this.shown.filter(({ segment }) => segment[0] <= seconds && seconds < segment[1]);
  }

  point(event) {
    const box = $("cursor").parentElement.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width;
    if (place < 0 || place > 1) return;
    this.go(Math.min(Math.floor(place * this.video.rows), this.video.rows - 1));
    const tip = $("tip");
    const detection = event.target.detection ?? this.at(place * this.video.durationS)[0];
    tip.textContent = detection
      ? `${detection.label} · ${clock(detection.segment[0])}–${clock(detection.segment[1])} · ${detection.score.toFixed(2)}`
      : clock(place * this.video.durationS);
    tip.hidden = false;
    const outer = this.root.getBoundingClientRect();
    const half = tip.offsetWidth / 2;
    tip.style.left = `${Math.min(Math.max(event.clientX - outer.left, half), outer.width - half)}px`;
  }

  press(event) {
    const last = this.video.rows - 1;
    const by = event.shiftKey ? 10 : 1;
    const now = this.snippet ?? 0;
    const target = { ArrowLeft: now - by, ArrowRight: now + by, Home: 0, End: last }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    $("tip").hidden = true;
    this.go(Math.min(Math.max(target, 0), last));
  }

  drawMask() {
    const { masks, snippet } = this;
    if (!masks || snippet === null) {
      $("mask").replaceChildren();
      $("mask-name").textContent = "mask";
      return;
    }
    // Where features were resampled, masks have the rows of the network, not of the file.
    const row = Math.min(Math.floor(((snippet + 0.5) / this.video.rows) * masks.length), masks.length - 1);
    const values = masks.values.subarray(row * masks.length, (row + 1) * masks.length);
    const steps = Array.from(values, (value, i) => `V${1 - value}H${(i + 1) / masks.length}`).join("");
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", `M0 1${steps}V1Z`);
    $("mask").replaceChildren(path);
    $("mask-name").textContent = `mask of ${snippet + 1}`;
  }

  drawTicks() {
    const { durationS } = this.video;
    const room = Math.max(3, Math.floor($("ticks").clientWidth / 75));
    const step = STEPS.find((size) => durationS / size <= room) ?? Math.ceil(durationS / room / 3600) * 3600;
    const ticks = [];
    for (let i = 0; i * step <= durationS; i++) {
      const tick = element("span", i * step > 0.96 * durationS ? "last" : "", clock(i * step).replace(/\.0$/, ""));
      tick.style.left = percent((i * step) / durationS);
      ticks.push(tick);
    }
    $("ticks").replaceChildren(...ticks);
  }
}

/**
 * @param {string} name
 * @param {string} className
 * @param {string} text
 */
export function element(name, className = "", text = "") {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

function percent(part) {
  return `${(100 * part).toFixed(4)}%`;
}
