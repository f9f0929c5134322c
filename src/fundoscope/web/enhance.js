/*
 * Contrast-limited adaptive histogram equalisation (CLAHE; Zuiderveld 1994) of lightness, and network input.
 *
 * Lightness is L of CIE Lab in eight bits, by OpenCV's whole numbers: tables of the cube root (15 bits) and of its inverse (14
 * bits), sRGB's matrix and curve, white D65. `docs/reference/exact-steps.md` states the formulas.
 */

import { resize, roundEven } from "./resample.js";

const ROOT_BITS = 15, LINEAR_STEPS = 8 * 255, BASE = 1 << 14, LOWEST = -8145;

const TO_LINEAR = Int32Array.from({ length: 256 }, (_, k) => {
  const x = k / 255;
  return roundEven(LINEAR_STEPS * (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4));
});

const ROOTS = Int32Array.from({ length: 3072 }, (_, k) => {
  const t = k / LINEAR_STEPS;
  return roundEven((1 << ROOT_BITS) * (t < 216 / 24389 ? (t * 841) / 108 + 16 / 116 : Math.cbrt(t)));
});
// two entries lie so near to a half that OpenCV's 32-bit floats round them the other way
ROOTS[49] = 9454;
ROOTS[628] = 22126;

const TO_XYZ = [[1777, 1541, 778], [871, 2929, 296], [73, 448, 3575]]; // sRGB to XYZ over white, in 4096ths
const TO_RGB = [[12615, -6296, -2223], [-3773, 7684, 185], [217, -836, 4715]];

const [LIGHT, LIGHT_ROOT] = (() => {
  const y = new Int32Array(256), root = new Int32Array(256);
  for (let k = 0; k < 256; k++) {
    if (k <= 20) {
      y[k] = roundEven((k * BASE * 180) / (17 * 29 ** 3));
      root[k] = roundEven(BASE * (16 / 116 + (k * 5) / (3 * 17 * 29)));
    } else {
      const f = (k * 100) / (255 * 116) + 16 / 116;
      root[k] = roundEven(BASE * f);
      y[k] = roundEven(BASE * f ** 3);
    }
  }
  return [y, root];
})();

const CUBES = Int32Array.from({ length: (BASE * 9) / 4 }, (_, k) => {
  const root = k + LOWEST;
  return root <= 3390 ? Math.trunc((root * 108) / 841) - 290 : Math.floor((Math.floor((root * root) / BASE) * root) / BASE);
});

const TO_SRGB = Uint8Array.from({ length: 4096 }, (_, k) => {
  const x = k / 4096;
  return Math.max(0, roundEven(255 * (x <= 0.0031308 ? x * 12.92 : 1.055 * x ** (1 / 2.4) - 0.055)));
});

/* L, a, b of RGB, three bytes a pixel. */
export function toLab(data) {
  const out = new Uint8ClampedArray(data.length), [[a0, a1, a2], [b0, b1, b2], [c0, c1, c2]] = TO_XYZ;
  for (let k = 0; k < data.length; k += 3) {
    const r = TO_LINEAR[data[k]], g = TO_LINEAR[data[k + 1]], b = TO_LINEAR[data[k + 2]];
    const x = ROOTS[(r * a0 + g * a1 + b * a2 + 2048) >> 12];
    const y = ROOTS[(r * b0 + g * b1 + b * b2 + 2048) >> 12];
    const z = ROOTS[(r * c0 + g * c1 + b * c2 + 2048) >> 12];
    out[k] = (296 * y - 1336934 + 16384) >> ROOT_BITS;
    out[k + 1] = (500 * (x - y) + (128 << ROOT_BITS) + 16384) >> ROOT_BITS;
    out[k + 2] = (200 * (y - z) + (128 << ROOT_BITS) + 16384) >> ROOT_BITS;
  }
  return out;
}

/* RGB of L, a, b. */
export function fromLab(lab) {
  const out = new Uint8Array(lab.length), clip = (v) => (v < 0 ? 0 : v > 4095 ? 4095 : v);
  for (let k = 0; k < lab.length; k += 3) {
    const y = LIGHT[lab[k]], root = LIGHT_ROOT[lab[k]];
    const x = CUBES[root + ((5 * lab[k + 1] * 53687 + 128) >> 13) - 4194 - LOWEST];
    const z = CUBES[root - (((lab[k + 2] * 41943 + 16) >> 9) - 10484) - LOWEST];
    for (let c = 0; c < 3; c++) {
      const [p, q, r] = TO_RGB[c];
      out[k + c] = TO_SRGB[clip((p * x + q * y + r * z + 8192) >> 14)];
    }
  }
  return out;
}

/* The picture with L evened out over `tiles` x `tiles` regions, histograms cut at `clip` times their mean. */
export function clahe({ rows, columns, data }, clip, tiles) {
  const lab = toLab(data), light = new Uint8Array(rows * columns);
  for (let k = 0; k < light.length; k++) light[k] = lab[3 * k];
  const even = equalise(light, rows, columns, clip, tiles);
  for (let k = 0; k < light.length; k++) lab[3 * k] = even[k];
  return { rows, columns, data: fromLab(lab) };
}

function equalise(light, rows, columns, clip, tiles) {
  // where tiles do not fit, the picture is mirrored over its lower and right edges; where one side fits, it grows by a whole tile
  const fits = rows % tiles === 0 && columns % tiles === 0;
  const high = (fits ? rows : rows + tiles - (rows % tiles)) / tiles, wide = (fits ? columns : columns + tiles - (columns % tiles)) / tiles;
  const mirror = (k, length) => (k < length ? k : 2 * length - 2 - k);
  const area = high * wide, limit = Math.max(1, Math.trunc((clip * area) / 256)), tables = [];
  for (let down = 0; down < tiles; down++)
    for (let across = 0; across < tiles; across++) {
      const counts = new Int32Array(256);
      for (let r = down * high; r < (down + 1) * high; r++)
        for (let c = across * wide; c < (across + 1) * wide; c++) counts[light[mirror(r, rows) * columns + mirror(c, columns)]]++;
      tables.push(tableOf(counts, limit, Math.fround(Math.fround(255) / area)));
    }
  return blend(light, rows, columns, tables, tiles, high, wide);
}

/* What each level becomes in a tile: its cut histogram, summed up; what was cut off is dealt out evenly. */
function tableOf(counts, limit, scale) {
  let cut = 0;
  for (let k = 0; k < 256; k++)
    if (counts[k] > limit) {
      cut += counts[k] - limit;
      counts[k] = limit;
    }
  const each = cut >> 8;
  let rest = cut - each * 256;
  const step = Math.max(1, Math.trunc(256 / Math.max(1, rest)));
  for (let k = 0; k < 256; k++) counts[k] += each;
  for (let k = 0; k < 256 && rest > 0; k += step, rest--) counts[k]++;
  const table = new Uint8Array(256);
  for (let k = 0, sum = 0; k < 256; k++) {
    sum += counts[k];
    table[k] = Math.min(255, roundEven(Math.fround(sum * scale)));
  }
  return table;
}

/* Bilinear between the tables of the four nearest tiles, in 32-bit floats. */
function blend(light, rows, columns, tables, tiles, high, wide) {
  const { fround } = Math, out = new Uint8Array(light.length);
  const places = (length, size) => {
    const inverse = fround(1 / size);
    return Array.from({ length }, (_, k) => {
      const at = fround(fround(k * inverse) - 0.5), first = Math.floor(at), share = fround(at - first);
      return [Math.max(first, 0), Math.min(first + 1, tiles - 1), share, fround(1 - share)];
    });
  };
  const across = places(columns, wide), down = places(rows, high);
  for (let r = 0; r < rows; r++) {
    const [upper, lower, y, y1] = down[r];
    for (let c = 0; c < columns; c++) {
      const [left, right, x, x1] = across[c], k = r * columns + c, value = light[k];
      const above = fround(fround(tables[upper * tiles + left][value] * x1) + fround(tables[upper * tiles + right][value] * x));
      const below = fround(fround(tables[lower * tiles + left][value] * x1) + fround(tables[lower * tiles + right][value] * x));
      out[k] = roundEven(fround(fround(above * y1) + fround(below * y)));
    }
  }
  return out;
}

/* A square with its contrast evened as a standard says, at the standard's size. */
export function enhance(square, standard) {
  const sized = square.rows === standard.size ? square : resize(square, standard.size, standard.size);
  return standard.clahe_when === "after resize" ? clahe(sized, standard.clahe_clip, standard.clahe_tiles) : sized;
}

/* Network input, Float32Array of (3, size, size): (value / 255 - mean) / deviation, channel by channel. */
export function toTensor({ rows, columns, data }, standard) {
  const pixels = rows * columns, out = new Float32Array(3 * pixels);
  for (let c = 0; c < 3; c++) {
    const level = Float32Array.from({ length: 256 }, (_, k) => (k / 255 - standard.mean[c]) / standard.deviation[c]);
    for (let k = 0; k < pixels; k++) out[c * pixels + k] = level[data[3 * k + c]];
  }
  return out;
}
