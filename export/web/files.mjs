// Files in and out: dropped folders, chosen files, and what is saved.

/**
 * Sort chosen or dropped files into a bundle's, by path, and a video's features.
 * @param {{path: string, file: File}[]} items
 * @returns {{bundle: ?Map<string, File>, folder: string, features: ?File, others: string[]}}
 */
export function sorted(items) {
  const manifest = items.find(({ path }) => /(^|\/)manifest\.json$/.test(path));
  const folder = manifest ? manifest.path.slice(0, -"manifest.json".length) : "";
  const inside = manifest ? items.filter(({ path }) => path.startsWith(folder)) : [];
  const rest = items.filter((item) => !inside.includes(item) || (folder === "" && item.path.endsWith(".npy")));
  const features = rest.filter(({ path }) => path.endsWith(".npy"));
  return {
    bundle: manifest ? new Map(inside.map(({ path, file }) => [path.slice(folder.length), file])) : null,
    folder: folder.replace(/\/$/, "").split("/").pop() || "the chosen files",
    features: features[0]?.file ?? null,
    others: rest.filter((item) => !features.includes(item)).map(({ path }) => path),
  };
}

/**
 * List the files of an `<input type="file">`.
 * @param {HTMLInputElement} input
 */
export function chosen(input) {
  return Array.from(input.files ?? [], (file) => ({ path: file.webkitRelativePath || file.name, file }));
}

/**
 * List dropped files, folders opened all the way down.
 * @param {DataTransfer} transfer
 */
export async function dropped(transfer) {
  const entries = Array.from(transfer.items, (item) => item.webkitGetAsEntry()).filter((entry) => entry !== null);
  return (await Promise.all(entries.map((entry) => walked(entry, "")))).flat();
}

async function walked(entry, folder) {
  const path = folder + entry.name;
  if (entry.isFile) return [{ path, file: await new Promise((done, failed) => entry.file(done, failed)) }];
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)); // gives at most a hundred
    if (!some.length) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((inner) => walked(inner, `${path}/`)))).flat();
}

/**
 * Offer a text as a file.
 * @param {string} name
 * @param {string} text
 * @param {string} type
 */
export function save(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Write subtitles, `label (score)`, by time; as `stale-edge detect --format srt`.
 * @param {{label: string, score: number, segment: [number, number]}[]} detections
 * @param {number} durationS subtitles end with the video
 */
export function srt(detections, durationS) {
  const rows = [...detections].sort(
    (a, b) => a.segment[0] - b.segment[0] || a.segment[1] - b.segment[1] || b.score - a.score,
  );
  const blocks = rows.map(({ label, score, segment }, i) => {
    const start = Math.round(segment[0] * 1000);
    const end = Math.max(Math.min(Math.round(segment[1] * 1000), Math.round(durationS * 1000)), start + 1);
    const text = label.trim().split(/\s+/).join(" ").replaceAll("-->", "→").replaceAll("<", "‹").replaceAll(">", "›");
    return `${i + 1}\n${timecode(start)} --> ${timecode(end)}\n${text} (${score.toFixed(2)})\n`;
  });
  return blocks.join("\n");
}

function timecode(milliseconds) {
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const s = milliseconds / 1000;
  return `${two(s / 3600)}:${two((s / 60) % 60)}:${two(s % 60)},${String(milliseconds % 1000).padStart(3, "0")}`;
}
