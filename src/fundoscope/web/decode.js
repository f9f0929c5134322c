/* A file's bytes to an upright photograph in eight-bit RGB. */

import { decodeJpeg, readJpegHeader } from "./jpeg.js";
import { decodePng } from "./png.js";
import { PhotographError, checkSize, kindOf } from "./headers.js";

/*
 * A photograph: {rows, columns, data: RGB} as decoded, `shape` [rows, columns] of the file (upright), `reduction`, `remark`.
 *
 * A JPEG is decoded at the largest reduction (8, 4 or 2) that leaves its shorter side `leastSide` pixels; null: in full.
 * `byBrowser(bytes)` decodes what is neither JPEG nor PNG, where there is a browser. Throws `PhotographError`.
 */
export async function decode(bytes, leastSide = null, byBrowser = null) {
  if (!bytes.length) throw new PhotographError("the file is empty", "Copy it again from the camera.");
  const kind = kindOf(bytes);
  if (kind === "JPEG") {
    const header = readJpegHeader(bytes);
    checkSize(header.rows, header.columns);
    if (header.bits === 8 && (header.channels === 1 || header.channels === 3) && header.kind <= 0xc2) {
      const shorter = Math.min(header.rows, header.columns);
      const reduction = [8, 4, 2].find((r) => leastSide && shorter >= r * leastSide) ?? 1;
      const shape = header.orientation > 4 ? [header.columns, header.rows] : [header.rows, header.columns];
      return { ...upright(decodeJpeg(bytes, reduction), header.orientation), shape, reduction, remark: remarkOn(header.pictures) };
    }
  }
  if (kind === "PNG") {
    const found = await decodePng(bytes), pixels = upright(found, found.orientation);
    return { ...pixels, shape: [pixels.rows, pixels.columns], reduction: 1, remark: remarkOn(found.pictures) };
  }
  if (byBrowser && ["JPEG", "WebP", "AVIF", "BMP", "GIF"].includes(kind)) {
    const pixels = await byBrowser(bytes);
    checkSize(pixels.rows, pixels.columns);
    return { ...pixels, shape: [pixels.rows, pixels.columns], reduction: 1, remark: "" };
  }
  throw new PhotographError(kind ? `is ${kind} of a kind that is not read here` : "is no image of a kind that is known", "Export the photograph as JPEG or PNG.");
}

function remarkOn(pictures) {
  return pictures < 2 ? "" : `The file holds ${pictures} pictures, of which only the first was looked at: save the others one by one.`;
}

/* Pixels turned and mirrored as Exif's orientation, 1 to 8, asks. */
export function upright({ rows, columns, data }, orientation) {
  if (orientation === 1) return { rows, columns, data };
  const turned = orientation > 4, high = turned ? columns : rows, wide = turned ? rows : columns, out = new Uint8Array(data.length);
  for (let row = 0; row < high; row++)
    for (let column = 0; column < wide; column++) {
      let r = [3, 4, 7, 8].includes(orientation) ? high - 1 - row : row;
      let c = [2, 3, 6, 7].includes(orientation) ? wide - 1 - column : column;
      if (turned) [r, c] = [c, r];
      const from = 3 * (r * columns + c), to = 3 * (row * wide + column);
      out[to] = data[from];
      out[to + 1] = data[from + 1];
      out[to + 2] = data[from + 2];
    }
  return { rows: high, columns: wide, data: out };
}
