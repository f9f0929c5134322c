/* Some fifty classical measurements of a photograph, from which its quality is judged; by name, as `imaging/measures.py` has them. */

import { bendAcross, bendDown, combine, emptyMap, magnified, meanOver, pooled, slopeAcross, slopeDown, smoothed, twist } from "./filters.js";
import { visibleShare } from "./field.js";
import { halved, resizeArea } from "./resample.js";
import { JUDGED_SIDE as SIDE, squareExtent } from "./square.js";

const RIM = 0.07, FLOOR = 1e-3, DIM = 6;

/* {red, green, blue, light, inside} of a field's square of 256 pixels: pictures of one channel, and a mask of the eye. */
function fieldSquare(square, field) {
  const size = SIDE * SIDE, planes = [0, 1, 2].map((c) => Uint8Array.from({ length: size }, (_, k) => square.data[3 * k + c]));
  const light = Uint8Array.from({ length: size }, (_, k) => Math.max(planes[0][k], planes[1][k], planes[2][k]));
  let [y0, y1, x0, x1] = squareExtent(field, SIDE);
  if (y1 <= y0 || x1 <= x0) [y0, y1, x0, x1] = [0, SIDE, 0, SIDE];
  if (field.found) [y0, y1, x0, x1] = withoutBars(light, y0, y1, x0, x1);
  const inside = new Uint8Array(size), limit = (((1 - RIM) * SIDE) / 2) ** 2;
  for (let r = y0 + 3; r < y1 - 3; r++)
    for (let c = x0 + 3; c < x1 - 3; c++)
      inside[r * SIDE + c] = !field.found || (r + 0.5 - SIDE / 2) ** 2 + (c + 0.5 - SIDE / 2) ** 2 <= limit ? 1 : 0;
  const picture = (data) => ({ rows: SIDE, columns: SIDE, data });
  return { red: picture(planes[0]), green: picture(planes[1]), blue: picture(planes[2]), light: picture(light), inside };
}

/* The rows and columns that hold light: bars that cut the field are no part of the eye. */
function withoutBars(light, y0, y1, x0, x1) {
  const rows = new Uint8Array(SIDE), columns = new Uint8Array(SIDE);
  for (let r = 0, k = 0; r < SIDE; r++)
    for (let c = 0; c < SIDE; c++, k++) {
      rows[r] = Math.max(rows[r], light[k]);
      columns[c] = Math.max(columns[c], light[k]);
    }
  const limit = Math.max(12, 0.15 * Math.max(...rows));
  return [[y0, y1, rows], [x0, x1, columns]].flatMap(([first, end, line]) => {
    const lit = line.subarray(first, end), start = lit.findIndex((v) => v > limit);
    return start < 0 ? [first, end] : [first + start, first + lit.findLastIndex((v) => v > limit) + 1];
  });
}

/* All measurements of a photograph by its square of 256 pixels and its field; every value is finite. */
export function measure(square, field) {
  const seen = fieldSquare(square, field);
  const weight = { rows: SIDE, columns: SIDE, data: Float32Array.from(seen.inside) };
  const levels = pyramid(contrastOf(seen.green, weight), weight);
  return {
    found: field.found ? 1 : 0, lit: field.litShare, seen: visibleShare(field), diameter_px: 2 * field.radius,
    ...lightOf(seen), ...coloursOf(seen), ...linesOf(levels), ...edgesOf(levels), ...bandsOf(levels), ...spotsOf(levels),
    ...channelsOf(seen, levels[1], weight),
  };
}

/* A channel over its background (a mean over about a sixth of the field) less 1; zero outside. */
function contrastOf(channel, weight) {
  const factor = channel.rows / 64, inner = combine((v, w) => v * w, channel, weight);
  let small = pooled(inner, factor), share = pooled(weight, factor);
  for (let k = 0; k < 2; k++) [small, share] = [meanOver(small, 9), meanOver(share, 9)];
  const background = magnified(combine((v, w) => v / Math.max(w, 0.02), small, share), factor);
  const ratio = combine((v, b) => (v - b) / (b + DIM), inner, background);
  return combine((v, w) => v * w, ratio, weight);
}

/* Four levels, 256 to 32 pixels: {raw, smooth, at}; the pixels looked at (one in six, two, one) keep off the border. */
function pyramid(green, weight) {
  return [6, 2, 1, 1].map((step) => {
    const { rows, columns } = green, at = [];
    let number = 0;
    for (let r = 0; r < rows; r++)
      for (let c = 0; c < columns; c++) if (isClear(weight, r, c) && number++ % step === 0) at.push(r * columns + c);
    const level = { raw: green, smooth: smoothed(green), at };
    [green, weight] = [pooled(green, 2), pooled(weight, 2)];
    return level;
  });
}

function isClear({ rows, columns, data }, row, column) {
  if (row < 2 || column < 2 || row >= rows - 2 || column >= columns - 2) return false;
  for (let r = row - 2; r <= row + 2; r++) for (let c = column - 2; c <= column + 2; c++) if (!(data[r * columns + c] > 0.99)) return false;
  return true;
}

function take(map, at) {
  return Float32Array.from(at, (k) => map.data[k]);
}

function ordered(map, at) {
  return take(map, at).sort();
}

function at(values, share) {
  return values.length ? values[Math.min(values.length - 1, Math.trunc(share * values.length))] : 0;
}

function log(value) {
  return Math.log(Math.max(value, 0) + FLOOR);
}

function sum(values) {
  let total = 0;
  for (const value of values) total += value;
  return total;
}

function dot(a, b) {
  let total = 0;
  for (let k = 0; k < a.length; k++) total += a[k] * b[k];
  return total;
}

/* Shares of the 256 grey levels inside the field. */
function histogram({ data }, inside) {
  const counts = new Float64Array(256), all = Math.max(1, sum(inside));
  data.forEach((value, k) => (counts[value] += inside[k]));
  return counts.map((count) => count / all);
}

function lightOf(seen) {
  const shares = histogram(seen.light, seen.inside), greens = histogram(seen.green, seen.inside), below = new Float64Array(256);
  shares.forEach((share, k) => (below[k] = (k ? below[k - 1] : 0) + share));
  const level = (share) => below.findIndex((value) => value >= share), end = (found) => (found < 0 ? 256 : found);
  const median = seen.inside.some(Boolean) ? end(level(0.5)) : 0;
  const bins = Array.from({ length: 32 }, (_, k) => sum(greens.subarray(8 * k, 8 * k + 8)));
  return {
    brightness: median, bright_end: end(level(0.95)), saturated: sum(greens.subarray(250)),
    dark: below[Math.max(0, Math.floor(median / 4) - 1)], entropy: -sum(bins.map((bin) => bin * Math.log2(bin + 1e-12))),
  };
}

/* Chromaticities of 32 x 32 patches, as shares of r + g + b: means, spread, order of the channels. */
function coloursOf(seen) {
  const weight = resizeArea({ rows: SIDE, columns: SIDE, data: seen.inside.map((on) => 255 * on) }, 32, 32).data;
  const [red, green, blue] = [seen.red, seen.green, seen.blue].map((plane) => resizeArea(plane, 32, 32).data);
  const xs = [], ys = [];
  let inOrder = 0, grey = 0;
  for (let k = 0; k < weight.length; k++) {
    const [r, g, b] = [red[k], green[k], blue[k]], total = r + g + b;
    if (weight[k] <= 127 || total <= 45) continue;
    const x = Math.fround((r - g) / total), y = Math.fround((g - b) / total);
    xs.push(x);
    ys.push(y);
    if (r >= Math.fround(0.98 * g) && g >= Math.fround(0.98 * b)) inOrder++;
    if (Math.max(Math.abs(x), Math.abs(y)) < 0.03) grey++;
  }
  const n = xs.length;
  if (n < 8) return { red_green: 0, green_blue: 0, ordered: 0, hue_short: 0, hue_long: 0, grey: 0 };
  const x = sum(xs) / n, y = sum(ys) / n, u = xs.map((v) => v - x), v = ys.map((w) => w - y);
  const [xx, yy, xy] = [dot(u, u) / n, dot(v, v) / n, dot(u, v) / n], middle = (xx + yy) / 2, root = Math.hypot((xx - yy) / 2, xy);
  return {
    red_green: x, green_blue: y, ordered: inOrder / n, hue_short: Math.sqrt(Math.max(0, middle - root)),
    hue_long: Math.sqrt(middle + root), grey: grey / n,
  };
}

/* Sum and difference of the principal curvatures, the latter positive. */
function curvature(smooth) {
  const xx = bendAcross(smooth), yy = bendDown(smooth), xy = twist(smooth);
  return [combine((a, b) => a + b, xx, yy), combine((d, c) => Math.hypot(d, c), combine((a, b) => a - b, xx, yy), xy)];
}

/* Line responses (Frangi 1998) at sigma 1, 2 and 4: strength, dark against bright; and how wide the strongest dark lines are. */
function linesOf(levels) {
  const out = {}, maps = [];
  levels.slice(0, 3).forEach((level, i) => {
    const [half, root] = curvature(level.smooth);
    maps.push(combine(Math.min, half, root));
    const h = take(half, level.at), r = take(root, level.at);
    const dark = h.map((value, k) => Math.min(value, r[k])).sort(), bright = h.map((value, k) => Math.min(-value, r[k])).sort();
    for (const [name, values] of [["dark", dark], ["bright", bright]])
      for (const share of [99, 95]) out[`${name}${i}_${share}`] = log(at(values, share / 100));
    out[`dark${i}_70`] = log(at(dark, 0.7));
    out[`asymmetry${i}`] = out[`dark${i}_99`] - out[`bright${i}_99`];
  });
  return { ...out, ...calibreOf(maps, levels[1].at) };
}

function calibreOf([finest, middle, coarsest], places) {
  const { rows, columns } = middle, fine = emptyMap(rows, columns), wide = finest.columns;
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      // of each two by two, and the line before
      let most = -Infinity;
      for (let i = Math.max(0, 2 * r - 1); i <= 2 * r; i++)
        for (let j = Math.max(0, 2 * c - 1); j <= 2 * c; j++) most = Math.max(most, finest.data[i * wide + j]);
      fine.data[r * columns + c] = most;
    }
  const [f, m, g] = [fine, middle, magnified(coarsest, 2)].map((map) => take(map, places).map((value) => Math.max(value, 0)));
  const strength = f.map((value, k) => value + m[k]), sorted = strength.slice().sort(), out = {};
  for (const share of [95, 99]) {
    const limit = sorted.length ? sorted[Math.trunc((share / 100) * (sorted.length - 1))] : 0;
    const [a, b, c] = [f, m, g].map((values) => sum(values.filter((_, k) => strength[k] >= limit)) + FLOOR);
    out[`calibre01_${share}`] = Math.log(b / a);
    out[`calibre12_${share}`] = Math.log(c / b);
  }
  return out;
}

/* Steepness of the contrast a pixel at sigma 1, and how well neighbouring directions agree (0 to 1). */
function edgesOf(levels) {
  const { smooth, at: places } = levels[0];
  const steep = ordered(combine((a, b) => Math.hypot(a, b), slopeAcross(smooth), slopeDown(smooth)), places);
  const flat = steep.findIndex((value) => value >= 5e-4);
  return {
    steep_50: log(at(steep, 0.5)), steep_90: log(at(steep, 0.9)), steep_99: log(at(steep, 0.99)), steep_999: log(at(steep, 0.999)),
    flat: (flat < 0 ? steep.length : flat) / Math.max(1, steep.length), coherence: coherenceOf(levels[1]),
  };
}

/* The structure tensor's (l1 - l2) / (l1 + l2), weighted by energy (Bigun 1987). */
function coherenceOf({ smooth, at: places }) {
  const dx = slopeAcross(smooth), dy = slopeDown(smooth), product = (a, b) => meanOver(combine((p, q) => p * q, a, b), 5);
  const [xx, yy, xy] = [product(dx, dx), product(dy, dy), product(dx, dy)].map((map) => take(map, places));
  const energy = sum(xx) + sum(yy), oriented = sum(xx.map((value, k) => Math.hypot(value - yy[k], 2 * xy[k])));
  return energy > 0 ? oriented / energy : 0;
}

/* Contrast by octave, as log deviations, and how heavy the tails of each are. */
function bandsOf(levels) {
  const out = {};
  levels.forEach((level, i) => {
    const band = take(combine((a, b) => a - b, level.raw, level.smooth), level.at), n = Math.max(1, band.length);
    const deviation = Math.sqrt(dot(band, band) / n), size = sum(band.map(Math.abs)) / n;
    out[`band${i}`] = log(deviation);
    out[`tails${i}`] = Math.log((deviation + 1e-4) / (size + 1e-4));
  });
  for (const i of [0, 1, 2]) out[`slope${i}${i + 1}`] = out[`band${i + 1}`] - out[`band${i}`];
  return out;
}

/* The brightest and the darkest spot against surrounds of 1/14, 1/7 and 1/4 of the field. */
function spotsOf(levels) {
  const out = {};
  levels.slice(1).forEach((level, k) => {
    const values = ordered(combine((a, b) => a - b, level.smooth, meanOver(level.smooth, 9)), level.at);
    out[`spot${k + 1}`] = log(at(values, 0.998));
    out[`pit${k + 1}`] = log(-at(values, 0.002));
  });
  return out;
}

/* How far red and blue follow the green detail. */
function channelsOf(seen, green, weight) {
  const share = pooled(weight, 2), detail = (map) => take(combine((a, b) => a - b, smoothed(map), meanOver(map, 9)), green.at);
  const [r, b] = [seen.red, seen.blue].map((plane) => detail(contrastOf(halved(plane), share))), g = detail(green.raw);
  const noise = 1e-6 * Math.max(1, g.length), rr = dot(r, r), gg = dot(g, g), bb = dot(b, b), rg = dot(r, g), bg = dot(b, g);
  return {
    red_follows: rg / (gg + noise), red_agrees: rg / Math.sqrt((rr + noise) * (gg + noise)),
    blue_follows: bg / (gg + noise), blue_agrees: bg / Math.sqrt((bb + noise) * (gg + noise)),
  };
}
