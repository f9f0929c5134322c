/* PNG to pixels (W3C recommendation, 2003): all colour types and depths, interlaced too. */

import { PhotographError, COPY_AGAIN, checkSize, exifOrientation } from "./headers.js";

const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 };
const HOT = 1e-4; // share of all numbers that may lie beyond a photograph's scale: sensors have hot pixels
const PASSES = [[0, 0, 8, 8], [0, 4, 8, 8], [4, 0, 8, 4], [0, 2, 4, 4], [2, 0, 4, 2], [0, 1, 2, 2], [1, 0, 2, 1]]; // Adam7

/* {rows, columns, data: RGB, orientation, pictures}; what can be seen through becomes black. */
export async function decodePng(bytes) {
  const png = readChunks(bytes);
  const { rows, columns, bits, colour } = png, channels = CHANNELS[colour];
  checkSize(rows, columns);
  const raw = await inflate(png.parts);
  const values = bits === 16 ? new Uint16Array(rows * columns * channels) : new Uint8Array(rows * columns * channels);
  const passes = png.interlaced ? PASSES : [[0, 0, 1, 1]];
  let at = 0;
  for (const [top, left, down, across] of passes) {
    const high = Math.ceil((rows - top) / down), wide = Math.ceil((columns - left) / across);
    if (high <= 0 || wide <= 0) continue;
    const length = Math.ceil((wide * channels * bits) / 8);
    if (at + high * (length + 1) > raw.length) throw new PhotographError("the data are broken or cut short", COPY_AGAIN);
    at = unfilter(raw, at, high, length, Math.max(1, (channels * bits) >> 3), (row, line) =>
      scatter(line, values, (top + row * down) * columns + left, across, wide, channels, bits));
  }
  return { rows, columns, data: asRgb(values, png, channels), orientation: png.orientation, pictures: png.pictures };
}

function readChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const png = { parts: [], orientation: 1, pictures: 1, palette: null, keyed: null };
  for (let at = 8; ; ) {
    const length = at + 8 <= bytes.length ? view.getUint32(at) : Infinity, end = at + 12 + length;
    if (end > bytes.length) throw new PhotographError("the PNG file is cut short", COPY_AGAIN);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8)), body = bytes.subarray(at + 8, end - 4);
    if ((kind[0] < "a" || kind === "eXIf" || kind === "tRNS") && checksum(bytes.subarray(at + 4, end - 4)) !== view.getUint32(end - 4))
      throw new PhotographError("the PNG data are damaged: a checksum is wrong", COPY_AGAIN);
    if (kind === "IHDR") {
      Object.assign(png, { columns: view.getUint32(at + 8), rows: view.getUint32(at + 12), bits: body[8], colour: body[9], interlaced: body[12] });
    } else if (kind === "PLTE") png.palette = body;
    else if (kind === "tRNS") png.keyed = body;
    else if (kind === "eXIf") png.orientation = exifOrientation(body);
    else if (kind === "acTL") png.pictures = view.getUint32(at + 8);
    else if (kind === "IDAT") png.parts.push(body);
    else if (kind === "IEND") break;
    at = end;
  }
  if (!png.rows || !png.parts.length || !(png.colour in CHANNELS)) throw new PhotographError("the PNG file holds no picture", COPY_AGAIN);
  return png;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

function checksum(bytes) {
  let sum = 0xffffffff;
  for (let k = 0; k < bytes.length; k++) sum = TABLE[(sum ^ bytes[k]) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

async function inflate(parts) {
  try {
    const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new PhotographError("the data are broken or cut short", COPY_AGAIN);
  }
}

/* Undo the filters of the lines of one pass; `use` gets each line. Returns where the pass ends. */
function unfilter(raw, at, lines, length, step, use) {
  let above = new Uint8Array(length);
  for (let row = 0; row < lines; row++, at += length + 1) {
    const filter = raw[at], line = raw.slice(at + 1, at + 1 + length);
    for (let k = 0; k < length; k++) {
      const left = k >= step ? line[k - step] : 0, up = above[k], corner = k >= step ? above[k - step] : 0;
      if (filter === 1) line[k] += left;
      else if (filter === 2) line[k] += up;
      else if (filter === 3) line[k] += (left + up) >> 1;
      else if (filter === 4) {
        const byLeft = Math.abs(up - corner), byUp = Math.abs(left - corner), byCorner = Math.abs(left + up - 2 * corner);
        line[k] += byLeft <= byUp && byLeft <= byCorner ? left : byUp <= byCorner ? up : corner;
      }
    }
    use(row, line);
    above = line;
  }
  return at;
}

function scatter(line, values, start, across, wide, channels, bits) {
  for (let column = 0; column < wide; column++)
    for (let c = 0; c < channels; c++) {
      const k = column * channels + c, to = (start + column * across) * channels + c;
      if (bits === 8) values[to] = line[k];
      else if (bits === 16) values[to] = (line[2 * k] << 8) | line[2 * k + 1];
      else values[to] = (line[(k * bits) >> 3] >> (8 - bits - ((k * bits) & 7))) & ((1 << bits) - 1);
    }
}

function asRgb(values, { bits, colour, palette, keyed }, channels) {
  const pixels = values.length / channels, data = new Uint8Array(3 * pixels);
  const scaled = colour === 3 ? values : toEightBits(values, bits);
  const opacity = opacities(values, bits, colour, channels, keyed, pixels);
  for (let k = 0; k < pixels; k++) {
    for (let c = 0; c < 3; c++) {
      const value = colour === 3 ? (palette?.[3 * values[k] + c] ?? 0) : scaled[k * channels + (channels < 3 ? 0 : c)];
      data[3 * k + c] = opacity ? Math.round((value * opacity[k]) / 255) : value;
    }
  }
  return data;
}

/* Opacity of each pixel, 0 to 255; null where all is opaque, or the channel was never filled. */
function opacities(values, bits, colour, channels, keyed, pixels) {
  let found = null;
  if (channels === 2 || channels === 4) {
    found = new Uint8Array(pixels);
    for (let k = 0; k < pixels; k++) found[k] = bits === 16 ? values[k * channels + channels - 1] >> 8 : values[k * channels + channels - 1];
  } else if (keyed && colour === 3) {
    found = Uint8Array.from(values, (index) => keyed[index] ?? 255);
  } else if (keyed) {
    const key = Array.from({ length: channels }, (_, c) => (keyed[2 * c] << 8) | keyed[2 * c + 1]);
    found = new Uint8Array(pixels);
    for (let k = 0; k < pixels; k++) found[k] = key.every((value, c) => values[k * channels + c] === value) ? 0 : 255;
  }
  return found && found.some((value) => value) ? found : null;
}

/* One to four bits are stretched; of sixteen, the fewest even number of bits, from 8 on, that hold nearly all numbers are in use. */
function toEightBits(values, bits) {
  if (bits === 8) return values;
  if (bits < 8) return Uint8Array.from(values, (value) => (value * 255) / ((1 << bits) - 1));
  let used = 8;
  const beyond = (limit) => {
    let count = 0;
    for (let k = 0; k < values.length; k++) if (values[k] >= limit) count++;
    return count;
  };
  while (used < 16 && beyond(2 ** used) > HOT * values.length) used += 2;
  return Uint8Array.from(values, (value) => Math.min(value >> (used - 8), 255));
}
