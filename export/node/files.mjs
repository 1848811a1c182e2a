// Files of a folder, opened so that a hostile bundle leads nowhere else.
import { readFile, realpath, stat } from "node:fs/promises";
import { join, sep } from "node:path";

import { Refusal } from "./stale-edge.mjs";

/**
 * Read a regular file of at most `most` bytes; a pipe would never end.
 * @param {string} path
 * @param {number} most
 */
export async function regular(path, most) {
  const status = await stat(path);
  if (!status.isFile()) throw new Refusal(`${path} must be a regular file`);
  if (status.size > most) throw new Refusal(`${path} has ${status.size} bytes; at most ${most} are read`);
  return new Uint8Array(await readFile(path));
}

/**
 * Give a bundle's files from its folder; no link leads out of it.
 * @param {string} path
 * @returns {import("./stale-edge.mjs").ReadFile}
 */
export function folder(path) {
  return async (name, most) => {
    const [root, real] = [await realpath(path), await realpath(join(path, name))];
    if (!real.startsWith(root.endsWith(sep) ? root : root + sep)) {
      throw new Refusal(`${name} is a link that leads outside the bundle, to ${real}`);
    }
    return regular(real, most);
  };
}
