"use strict";
// The page works without this script: it then shows every segment, and nothing can be clicked.
const SAME = 0.5; // tIoU from which a detection has found an annotated action

const slider = document.getElementById("threshold");
const shownThreshold = document.getElementById("value");
const sections = [...document.querySelectorAll("section.video")].map(openSection);

function clock(seconds) {
  const tenths = Math.round(seconds * 10);
  const parts = [Math.floor(tenths / 36000), Math.floor(tenths / 600) % 60, Math.floor(tenths / 10) % 60];
  const tail = String(parts[2]).padStart(2, "0") + "." + (tenths % 10);
  return parts[0] ? parts[0] + ":" + String(parts[1]).padStart(2, "0") + ":" + tail : parts[1] + ":" + tail;
}

function tiou(a, b) {
  const shared = Math.min(a.end, b.end) - Math.max(a.start, b.start);
  return shared <= 0 ? 0 : shared / (Math.max(a.end, b.end) - Math.min(a.start, b.start));
}

// Best scores first, each annotated action once, as in an evaluation at one threshold.
function agreement(detections, truth) {
  const left = new Set(truth);
  let wrong = 0;
  for (const d of [...detections].sort((a, b) => b.score - a.score)) {
    const same = [...left].filter(t => t.label === d.label && tiou(t, d) >= SAME);
    if (same.length === 0) wrong += 1;
    else left.delete(same.reduce((a, b) => (tiou(b, d) > tiou(a, d) ? b : a)));
  }
  return { found: truth.length - left.size, wrong };
}

function read(element, label) {
  const { start, end, score } = element.dataset;
  return { element, label, start: Number(start), end: Number(end), score: Number(score) };
}

function openSection(root) {
  const section = {
    root,
    duration: Number(root.dataset.duration),
    video: root.querySelector("video"),
    timeline: root.querySelector(".timeline"),
    lanes: [...root.querySelectorAll(".lane")].map(element => {
      const label = element.dataset.label;
      const all = kind => [...element.querySelectorAll(kind)].map(child => read(child, label));
      return { element, segments: all(".segment"), truth: all(".truth") };
    }),
    details: root.querySelector("details"),
    thumbs: [...root.querySelectorAll("[data-time]")],
  };
  if (section.timeline) {
    section.playhead = root.querySelector(".playhead");
    section.peek = root.querySelector(".peek");
    section.timeline.addEventListener("click", event => clicked(section, event));
    section.timeline.addEventListener("keydown", event => pressed(section, event));
    section.timeline.addEventListener("pointermove", event => looked(section, event));
    section.timeline.addEventListener("pointerleave", () => { section.peek.hidden = true; });
  }
  if (section.details) section.details.addEventListener("toggle", () => writeTable(section));
  if (section.video) {
    const follow = () => {
      moveTo(section, section.video.currentTime);
      if (!section.video.paused) requestAnimationFrame(follow);
    };
    for (const kind of ["play", "seeked", "timeupdate"]) section.video.addEventListener(kind, follow);
    section.video.addEventListener("error", () => {
      section.video.hidden = true;
      root.querySelector(".missing").hidden = false;
    });
  }
  return section;
}

function timeAt(section, event) {
  const box = section.timeline.querySelector(".track").getBoundingClientRect();
  return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * section.duration;
}

function seek(section, time, play) {
  moveTo(section, time);
  if (!section.video || section.video.hidden) return;
  section.video.currentTime = time;
  if (play) section.video.play().catch(() => {}); // a browser may forbid playing; the picture has moved anyway
}

function moveTo(section, time) {
  if (!section.playhead) return;
  section.playhead.hidden = false;
  section.playhead.style.left = 100 * Math.min(time / section.duration, 1) + "%";
  for (const lane of section.lanes)
    lane.element.classList.toggle(
      "now", lane.segments.some(s => !s.element.hidden && s.start <= time && time < s.end));
}

function clicked(section, event) {
  const marked = event.target.closest(".segment, .truth");
  if (marked) {
    seek(section, Number(marked.dataset.start), true);
    if (marked.matches(".segment")) makeCurrent(section, marked);
  } else if (event.target.closest(".track")) seek(section, timeAt(section, event), false);
}

// One segment of a timeline can be reached by Tab; arrow keys move from there in time and between lanes.
function pressed(section, event) {
  const at = event.target.closest(".segment");
  if (!at) return;
  const open = section.lanes.map(lane => lane.segments.filter(s => !s.element.hidden)).filter(s => s.length > 0);
  for (const segments of open) segments.sort((a, b) => a.start - b.start || a.end - b.end);
  const row = open.findIndex(segments => segments.some(s => s.element === at));
  const column = open[row].findIndex(s => s.element === at);
  const nearest = segments => segments.reduce((a, b) =>
    (Math.abs(b.start - open[row][column].start) < Math.abs(a.start - open[row][column].start) ? b : a));
  const next = {
    ArrowRight: () => open[row][column + 1],
    ArrowLeft: () => open[row][column - 1],
    ArrowDown: () => open[row + 1] && nearest(open[row + 1]),
    ArrowUp: () => open[row - 1] && nearest(open[row - 1]),
    Home: () => open[row][0],
    End: () => open[row][open[row].length - 1],
  }[event.key];
  if (!next) return;
  event.preventDefault();
  const target = next();
  if (target) { makeCurrent(section, target.element); target.element.focus(); }
}

function makeCurrent(section, element) {
  for (const lane of section.lanes) for (const s of lane.segments) s.element.tabIndex = s.element === element ? 0 : -1;
}

function looked(section, event) {
  const over = event.target.closest(".track");
  section.peek.hidden = !over || event.pointerType === "touch";
  if (section.peek.hidden) return;
  const time = timeAt(section, event);
  const marked = event.target.closest(".segment, .truth");
  const parts = [];
  if (section.thumbs.length > 0) {
    const nearest = section.thumbs.reduce((a, b) =>
      (Math.abs(b.dataset.time - time) < Math.abs(a.dataset.time - time) ? b : a));
    const picture = new Image();
    picture.src = nearest.src || nearest.dataset.picture;
    parts.push(picture);
  }
  if (marked) {
    const title = document.createElement("b");
    title.textContent = marked.getAttribute("aria-label");
    parts.push(title);
  }
  parts.push(document.createTextNode(clock(time)));
  section.peek.replaceChildren(...parts);
  const track = section.timeline.querySelector(".track");
  const half = section.peek.offsetWidth / 2;
  const x = track.offsetLeft + (time / section.duration) * track.offsetWidth;
  section.peek.style.left = Math.min(Math.max(x, half), Math.max(section.timeline.offsetWidth - half, half)) + "px";
  section.peek.style.bottom = section.timeline.offsetHeight - over.parentElement.offsetTop + 6 + "px";
}

function writeTable(section) {
  const shown = section.lanes.flatMap(lane => lane.segments.filter(s => !s.element.hidden));
  shown.sort((a, b) => b.score - a.score);
  const lines = shown.map(s => [s.label, s.score.toFixed(3), clock(s.start), clock(s.end)]);
  section.details.querySelector("table").replaceChildren(...[["action", "score", "from", "to"], ...lines].map((line, i) => {
    const row = document.createElement("tr");
    row.append(...line.map(text => Object.assign(document.createElement(i === 0 ? "th" : "td"), { textContent: text })));
    return row;
  }));
}

function update() {
  const least = Number(slider.value);
  shownThreshold.textContent = least.toFixed(2);
  let shown = 0, all = 0;
  for (const section of sections) {
    const kept = [], truth = [];
    for (const lane of section.lanes) {
      for (const segment of lane.segments) segment.element.hidden = segment.score < least;
      const left = lane.segments.filter(s => !s.element.hidden);
      lane.element.hidden = left.length === 0 && lane.truth.length === 0;
      kept.push(...left);
      truth.push(...lane.truth);
      all += lane.segments.length;
    }
    if (section.details && section.details.open) writeTable(section);
    if (section.timeline && !kept.some(s => s.element.tabIndex === 0) && kept.length > 0)
      makeCurrent(section, kept[0].element);
    shown += kept.length;
    const said = [kept.length + (kept.length === 1 ? " detection" : " detections")];
    if (section.root.dataset.truth !== undefined) {
      const { found, wrong } = agreement(kept, truth);
      said.push(found + " of " + truth.length + " annotated actions found, " + wrong + " wrong (tIoU " + SAME + ")");
    }
    section.root.querySelector(".count").textContent = said.join(" · ");
  }
  const others = shown < all ? "; lower the score to see the others" : "";
  document.getElementById("count").textContent = shown + " of " + all + " detections shown" + others;
}

slider.addEventListener("input", update);
update();
