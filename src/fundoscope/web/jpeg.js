/*
 * JPEG to pixels (ITU-T T.81: baseline, extended and progressive, Huffman, 8 bits), at full size or at 1/2, 1/4 or 1/8.
 *
 * The answer is what libjpeg gives, up to one grey level where a number lies halfway between two: a browser's own decoder may
 * manage colours, smooth differently, or add noise against fingerprinting, and a decision must not depend on that.
 */

import { PhotographError, COPY_AGAIN, exifOrientation, countMarkedPictures } from "./headers.js";

const MAX_SCANS = 100; // each costs a pass over all pixels; encoders write 3 to 14

const ZIGZAG = (() => {
  const order = new Uint8Array(64);
  let at = 0;
  for (let sum = 0; sum < 15; sum++) {
    const first = Math.max(0, sum - 7), last = Math.min(sum, 7);
    for (let k = first; k <= last; k++) {
      const row = sum % 2 ? k : sum - k;
      order[at++] = row * 8 + (sum - row);
    }
  }
  return order;
})();

/* Facts of a JPEG without its pixels: rows, columns as stored, bits, components, orientation, whether it is lossless or arithmetic. */
export function readJpegHeader(bytes) {
  let at = 2, orientation = 1, frame = null, scans = 0, pictures = 1;
  for (;;) {
    while (at < bytes.length && !(bytes[at] === 0xff && isMark(bytes[at + 1]))) at++;
    if (at + 1 >= bytes.length) break;
    const kind = bytes[at + 1];
    at += 2;
    if (kind === 0xd9) {
      if (!frame || !scans) throw new PhotographError("the JPEG file holds no picture", COPY_AGAIN);
      if (scans > MAX_SCANS) throw new PhotographError(`the JPEG file has ${scans} scans, the limit is ${MAX_SCANS}`, "Export it anew.");
      return { ...frame, orientation, pictures };
    }
    if (kind === 0x01 || kind === 0xd8) continue;
    const length = (bytes[at] << 8) | bytes[at + 1];
    const isFrame = kind >= 0xc0 && kind <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(kind);
    if (length < 2 || (scans && isFrame)) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
    const body = bytes.subarray(at + 2, at + length);
    if (isFrame && !frame && body.length >= 6) {
      frame = {
        kind, bits: body[0], rows: (body[1] << 8) | body[2], columns: (body[3] << 8) | body[4], channels: body[5],
      };
    } else if (kind === 0xe1 && startsWith(body, "Exif\0\0") && orientation === 1) orientation = exifOrientation(body.subarray(6));
    else if (kind === 0xe2 && startsWith(body, "MPF\0")) pictures = countMarkedPictures(bytes, body.subarray(4), at + 6);
    if (kind === 0xda) scans++;
    at += length;
  }
  throw new PhotographError("the JPEG file is cut short: its end mark is missing", COPY_AGAIN);
}

/* A mark that says something: no stuffed byte (FF 00), restart, or fill byte. */
function isMark(code) {
  return (code >= 0x01 && code <= 0xcf) || (code >= 0xd8 && code <= 0xfe);
}

function startsWith(bytes, text) {
  for (let k = 0; k < text.length; k++) if (bytes[k] !== text.charCodeAt(k)) return false;
  return true;
}

/*
 * Pixels of a JPEG, {rows, columns, data: RGB}, at 1/`reduction` of its size (1, 2, 4 or 8): each pixel is then the mean of the
 * full size's, as libjpeg's reduced transforms give it. The picture is not turned.
 */
export function decodeJpeg(bytes, reduction = 1) {
  const jpeg = { quantities: [], dc: [], ac: [], restart: 0, adobe: -1, jfif: false, frame: null };
  let at = 2;
  for (;;) {
    while (at < bytes.length && !(bytes[at] === 0xff && isMark(bytes[at + 1]))) at++;
    if (at + 1 >= bytes.length || bytes[at + 1] === 0xd9) break;
    const kind = bytes[at + 1];
    at += 2;
    if (kind === 0x01 || kind === 0xd8) continue;
    const length = (bytes[at] << 8) | bytes[at + 1];
    const body = bytes.subarray(at + 2, at + length);
    at += length;
    if (kind === 0xdb) readQuantities(body, jpeg);
    else if (kind === 0xc4) readCodes(body, jpeg);
    else if (kind === 0xdd) jpeg.restart = (body[0] << 8) | body[1];
    else if (kind === 0xe0 && startsWith(body, "JFIF\0")) jpeg.jfif = true;
    else if (kind === 0xee && startsWith(body, "Adobe")) jpeg.adobe = body[11];
    else if (kind >= 0xc0 && kind <= 0xc2) jpeg.frame = readFrame(body, kind === 0xc2);
    else if (kind === 0xda) at = readScan(bytes, at, body, jpeg);
  }
  if (!jpeg.frame) throw new PhotographError("the JPEG file holds no picture", COPY_AGAIN);
  const planes = jpeg.frame.components.map((component) => drawComponent(component, jpeg, reduction));
  return joinPlanes(planes, jpeg, Math.ceil(jpeg.frame.rows / reduction), Math.ceil(jpeg.frame.columns / reduction));
}

function readQuantities(body, jpeg) {
  for (let at = 0; at < body.length; ) {
    const wide = body[at] >> 4, table = new Uint16Array(64), which = body[at++] & 15;
    for (let k = 0; k < 64; k++, at += wide ? 2 : 1) table[ZIGZAG[k]] = wide ? (body[at] << 8) | body[at + 1] : body[at];
    jpeg.quantities[which] = table;
  }
}

/* Huffman codes as a table of the next 16 bits -> length << 8 | symbol (T.81, annex C). */
function readCodes(body, jpeg) {
  for (let at = 0; at < body.length; ) {
    const which = body[at++], table = new Uint16Array(65536);
    let code = 0, symbol = at + 16;
    for (let length = 1; length <= 16; length++, code <<= 1) {
      for (let k = 0; k < body[at + length - 1]; k++, code++) {
        const first = code << (16 - length);
        table.fill((length << 8) | body[symbol++], first, Math.min(65536, first + (1 << (16 - length))));
      }
    }
    (which >> 4 ? jpeg.ac : jpeg.dc)[which & 15] = table;
    at = symbol;
  }
}

function readFrame(body, progressive) {
  const rows = (body[1] << 8) | body[2], columns = (body[3] << 8) | body[4], components = [];
  for (let k = 0; k < body[5]; k++) {
    const at = 6 + 3 * k;
    components.push({ id: body[at], h: body[at + 1] >> 4, v: body[at + 1] & 15, quantity: body[at + 2] });
  }
  const maxH = Math.max(...components.map((c) => c.h)), maxV = Math.max(...components.map((c) => c.v));
  if (!rows || !columns || !components.every((c) => c.h && c.v)) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
  const across = Math.ceil(columns / (8 * maxH)), down = Math.ceil(rows / (8 * maxV));
  for (const c of components) {
    c.blocksAcross = Math.ceil(Math.ceil((columns * c.h) / maxH) / 8); // those that hold pixels
    c.blocksDown = Math.ceil(Math.ceil((rows * c.v) / maxV) / 8);
    c.stride = across * c.h; // with the blocks that fill up the last unit
    c.values = new Int16Array(64 * c.stride * down * c.v);
    c.last = 0;
  }
  return { rows, columns, components, maxH, maxV, across, down, progressive };
}

/* Bits of a scan, from its first byte on; `at` is where a mark ends it. */
class Bits {
  constructor(bytes, at) {
    this.bytes = bytes;
    this.at = at;
    this.held = 0;
    this.count = 0;
    this.lacking = 0; // bits that were asked for after the end
  }

  fill() {
    while (this.count <= 16) {
      let byte = this.bytes[this.at];
      if (byte === undefined) byte = 0xff;
      if (byte === 0xff) {
        const next = this.bytes[this.at + 1];
        if (next === 0) this.at += 2;
        else {
          byte = 0; // a mark: what follows reads as zeros
          this.lacking += 8;
        }
      } else this.at++;
      this.held = ((this.held << 8) | byte) & 0xffffffff;
      this.count += 8;
    }
  }

  symbol(table) {
    this.fill();
    const found = table[(this.held >>> (this.count - 16)) & 0xffff];
    if (!found) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
    this.count -= found >> 8;
    return found & 255;
  }

  take(n) {
    if (n === 0) return 0;
    this.fill();
    this.count -= n;
    return (this.held >>> this.count) & ((1 << n) - 1);
  }

  /* A signed number of n bits (T.81, figure F.12). */
  signed(n) {
    if (n === 0) return 0;
    const value = this.take(n);
    return value < 1 << (n - 1) ? value - (1 << n) + 1 : value;
  }

  /* Skip to the next restart mark, and over it. */
  restart() {
    this.count = this.held = this.lacking = 0;
    const { bytes } = this;
    while (this.at < bytes.length && !(bytes[this.at] === 0xff && bytes[this.at + 1] !== 0 && bytes[this.at + 1] !== 0xff)) this.at++;
    if (bytes[this.at + 1] >= 0xd0 && bytes[this.at + 1] <= 0xd7) this.at += 2;
  }
}

function readScan(bytes, at, body, jpeg) {
  const { frame } = jpeg;
  if (!frame) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
  const scan = { start: body[1 + 2 * body[0]], end: body[2 + 2 * body[0]], high: body[3 + 2 * body[0]] >> 4, low: body[3 + 2 * body[0]] & 15, run: 0 };
  const components = [];
  for (let k = 0; k < body[0]; k++) {
    const component = frame.components.find((c) => c.id === body[1 + 2 * k]);
    if (!component) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
    component.dcTable = jpeg.dc[body[2 + 2 * k] >> 4];
    component.acTable = jpeg.ac[body[2 + 2 * k] & 15];
    components.push(component);
  }
  const bits = new Bits(bytes, at);
  const read = !frame.progressive ? readBlock : scan.start === 0 ? (scan.high ? refineDc : readDc) : scan.high ? refineAc : readAc;
  const alone = components.length === 1;
  const across = alone ? components[0].blocksAcross : frame.across, down = alone ? components[0].blocksDown : frame.down;
  let left = jpeg.restart;
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      if (jpeg.restart && left-- === 0) {
        bits.restart();
        scan.run = 0;
        for (const c of frame.components) c.last = 0;
        left = jpeg.restart - 1;
      }
      if (alone) read(bits, components[0], 64 * (row * components[0].stride + column), scan);
      else {
        for (const c of components)
          for (let v = 0; v < c.v; v++)
            for (let h = 0; h < c.h; h++) read(bits, c, 64 * ((row * c.v + v) * c.stride + column * c.h + h), scan);
      }
    }
  }
  for (const c of frame.components) c.last = 0;
  if (bits.lacking > 64 && !frame.progressive) throw new PhotographError("the JPEG file is cut short", COPY_AGAIN);
  return bits.at;
}

function readBlock(bits, c, at) {
  c.last += bits.signed(bits.symbol(c.dcTable));
  c.values[at] = c.last;
  for (let k = 1; k < 64; k++) {
    const symbol = bits.symbol(c.acTable), size = symbol & 15;
    if (size === 0) {
      if (symbol !== 0xf0) return;
      k += 15;
      continue;
    }
    k += symbol >> 4;
    c.values[at + ZIGZAG[k & 63]] = bits.signed(size);
  }
}

// The four kinds of progressive scans: T.81, annex G.

function readDc(bits, c, at, scan) {
  c.last += bits.signed(bits.symbol(c.dcTable));
  c.values[at] = c.last << scan.low;
}

function refineDc(bits, c, at, scan) {
  if (bits.take(1)) c.values[at] |= 1 << scan.low;
}

function readAc(bits, c, at, scan) {
  if (scan.run > 0) {
    scan.run--;
    return;
  }
  for (let k = scan.start; k <= scan.end; k++) {
    const symbol = bits.symbol(c.acTable), size = symbol & 15, zeros = symbol >> 4;
    if (size === 0) {
      if (zeros < 15) {
        scan.run = (1 << zeros) - 1 + bits.take(zeros);
        return;
      }
      k += 15;
      continue;
    }
    k += zeros;
    c.values[at + ZIGZAG[k & 63]] = bits.signed(size) << scan.low;
  }
}

function refineAc(bits, c, at, scan) {
  const one = 1 << scan.low, { values } = c;
  let k = scan.start;
  const refine = (place) => {
    if (bits.take(1) && !(values[place] & one)) values[place] += values[place] > 0 ? one : -one;
  };
  if (scan.run === 0) {
    for (; k <= scan.end; k++) {
      const symbol = bits.symbol(c.acTable);
      let zeros = symbol >> 4, value = 0;
      if (symbol & 15) value = bits.take(1) ? one : -one;
      else if (zeros < 15) {
        scan.run = (1 << zeros) + bits.take(zeros);
        break;
      }
      for (; k <= scan.end; k++) {
        const place = at + ZIGZAG[k];
        if (values[place]) refine(place);
        else if (zeros-- === 0) {
          if (value) values[place] = value;
          break;
        }
      }
    }
  }
  if (scan.run > 0) {
    for (; k <= scan.end; k++) if (values[at + ZIGZAG[k]]) refine(at + ZIGZAG[k]);
    scan.run--;
  }
}

/*
 * The inverse transform of one axis, n outputs of eight coefficients, in whole numbers of 2^-13 / sqrt 8: output i is the mean of
 * the cosines (T.81, A.3.3) over 8 / n samples, times 8 / n. For n = 8 each entry is the sum of those constants of 13 bits along
 * which the fast algorithm leads (Loeffler, Ligtenberg and Moschytz 1989), so that rounding is libjpeg's; for fewer it is rounded once.
 */
const TRANSFORMS = Object.fromEntries(
  [1, 2, 4].map((n) => {
    const matrix = new Float64Array(8 * n);
    for (let i = 0; i < 8; i++)
      for (let k = 0; k < 8; k++)
        matrix[8 * Math.floor((i * n) / 8) + k] += (k ? Math.SQRT2 : 1) * Math.cos(((2 * i + 1) * k * Math.PI) / 16);
    return [n, matrix.map((value) => Math.round(8192 * value))];
  }),
);
TRANSFORMS[8] = (() => {
  const fixed = (x) => Math.round(8192 * x), matrix = new Float64Array(64);
  for (let k = 0; k < 8; k++) {
    const x = new Array(8).fill(0);
    x[k] = 1;
    const turn = fixed(0.541196100) * (x[2] + x[6]), low = turn + fixed(0.765366865) * x[2], high = turn - fixed(1.847759065) * x[6];
    const even = [8192 * (x[0] + x[4]) + low, 8192 * (x[0] - x[4]) + high, 8192 * (x[0] - x[4]) - high, 8192 * (x[0] + x[4]) - low];
    const all = fixed(1.175875602) * (x[1] + x[3] + x[5] + x[7]);
    const a = -fixed(0.899976223) * (x[7] + x[1]), b = -fixed(2.562915447) * (x[5] + x[3]);
    const c = all - fixed(1.961570560) * (x[7] + x[3]), d = all - fixed(0.390180644) * (x[5] + x[1]);
    const odd = [
      fixed(1.501321110) * x[1] + a + d, fixed(3.072711026) * x[3] + b + c,
      fixed(2.053119869) * x[5] + b + d, fixed(0.298631336) * x[7] + a + c,
    ];
    for (let i = 0; i < 4; i++) {
      matrix[8 * i + k] = even[i] + odd[i];
      matrix[8 * (7 - i) + k] = even[i] - odd[i];
    }
  }
  return matrix;
})();

/* One component: samples at the size at which it is used, and how often each must be repeated along rows and columns. */
function drawComponent(c, jpeg, reduction) {
  const { frame } = jpeg, least = 8 / reduction, quantity = jpeg.quantities[c.quantity];
  if (!quantity) throw new PhotographError("the JPEG data are damaged", COPY_AGAIN);
  // libjpeg draws chroma larger where that saves it the enlarging
  let n = least;
  while (n < 8 && (frame.maxH * least) % (c.h * n * 2) === 0 && (frame.maxV * least) % (c.v * n * 2) === 0) n *= 2;
  const matrix = TRANSFORMS[n], stride = n * c.stride, samples = new Uint8Array(stride * n * (c.values.length / 64 / c.stride));
  const half = new Float64Array(8 * n);
  for (let block = 0; block < c.values.length / 64; block++) {
    const at = 64 * block, start = Math.floor(block / c.stride) * n * stride + (block % c.stride) * n;
    drawBlock(c.values.subarray(at, at + 64), quantity, matrix, n, half, samples, start, stride);
  }
  return {
    samples, stride,
    rows: Math.ceil((frame.rows * c.v * n) / (frame.maxV * 8)), columns: Math.ceil((frame.columns * c.h * n) / (frame.maxH * 8)),
    across: (frame.maxH * least) / (c.h * n), down: (frame.maxV * least) / (c.v * n), fancy: least > 1,
  };
}

function drawBlock(values, quantity, matrix, n, half, samples, start, stride) {
  let last = 0; // column of the last coefficient that is not zero
  const between = (2048 * 8) / n, after = (262144 * 8) / n; // two bits are kept between the passes
  for (let u = 0; u < 8; u++) {
    let any = 0;
    for (let v = 0; v < 64; v += 8) any |= values[v + u];
    if (any) last = u;
    for (let i = 0; i < n; i++) {
      let sum = 0;
      if (any) for (let v = 0; v < 8; v++) sum += matrix[8 * i + v] * values[8 * v + u] * quantity[8 * v + u];
      half[8 * i + u] = Math.floor(sum / between + 0.5);
    }
  }
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let u = 0; u <= last; u++) sum += half[8 * i + u] * matrix[8 * j + u];
      samples[start + i * stride + j] = clamp(Math.floor(sum / after + 128.5));
    }
}

/* Chroma at the size of the picture: triangle filter where it is twice as coarse, as libjpeg has it, else repeated. */
function enlarged(plane, rows, columns) {
  const { samples, stride, across, down } = plane;
  if (across === 1 && down === 1) return { samples, stride };
  const out = new Uint8Array(rows * columns);
  const fancy = plane.fancy && plane.columns > 2;
  if (across === 2 && down === 2 && fancy) enlargeBoth(plane, out, rows, columns);
  else if (across === 2 && down === 1 && fancy) {
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const k = column >> 1, side = Math.min(plane.columns - 1, Math.max(0, column & 1 ? k + 1 : k - 1)), at = row * stride;
        const edge = side === k;
        out[row * columns + column] = edge ? samples[at + k] : (3 * samples[at + k] + samples[at + side] + 1 + (column & 1)) >> 2;
      }
  } else if (across === 1 && down === 2 && plane.fancy) {
    for (let row = 0; row < rows; row++) {
      const k = row >> 1, side = Math.min(plane.rows - 1, Math.max(0, row & 1 ? k + 1 : k - 1));
      for (let column = 0; column < columns; column++)
        out[row * columns + column] = (3 * samples[k * stride + column] + samples[side * stride + column] + 1 + (row & 1)) >> 2;
    }
  } else {
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++)
        out[row * columns + column] = samples[Math.floor(row / down) * stride + Math.floor(column / across)];
  }
  return { samples: out, stride: columns };
}

function enlargeBoth({ samples, stride, rows: fewRows, columns: fewColumns }, out, rows, columns) {
  const sums = new Int32Array(fewColumns);
  for (let row = 0; row < rows; row++) {
    const near = row >> 1, far = Math.min(fewRows - 1, Math.max(0, row & 1 ? near + 1 : near - 1));
    for (let k = 0; k < fewColumns; k++) sums[k] = 3 * samples[near * stride + k] + samples[far * stride + k];
    for (let column = 0; column < columns; column++) {
      const k = column >> 1, side = Math.min(fewColumns - 1, Math.max(0, column & 1 ? k + 1 : k - 1));
      out[row * columns + column] = (3 * sums[k] + sums[side] + 8 - (column & 1)) >> 4;
    }
  }
}

function joinPlanes(planes, jpeg, rows, columns) {
  const full = planes.map((plane) => enlarged(plane, rows, columns)), data = new Uint8Array(3 * rows * columns);
  const [first, second, third] = full, ids = jpeg.frame.components.map((c) => c.id);
  const plain = full.length === 3 && (jpeg.jfif ? false : jpeg.adobe >= 0 ? jpeg.adobe === 0 : String.fromCharCode(...ids) === "RGB");
  for (let row = 0, to = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, to += 3) {
      const y = first.samples[row * first.stride + column];
      if (full.length === 1) data[to] = data[to + 1] = data[to + 2] = y;
      else {
        const u = second.samples[row * second.stride + column], v = third.samples[row * third.stride + column];
        if (plain) {
          data[to] = y;
          data[to + 1] = u;
          data[to + 2] = v;
        } else {
          // JFIF 1.02, in 16 bits after the point
          data[to] = clamp(y + ((91881 * (v - 128) + 32768) >> 16));
          data[to + 1] = clamp(y + ((-22554 * (u - 128) - 46802 * (v - 128) + 32768) >> 16));
          data[to + 2] = clamp(y + ((116130 * (u - 128) + 32768) >> 16));
        }
      }
    }
  }
  return { rows, columns, data };
}

function clamp(value) {
  return value < 0 ? 0 : value > 255 ? 255 : value;
}
