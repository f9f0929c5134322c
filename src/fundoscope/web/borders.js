/* Bright borders around a photograph: frames, the paper of a printed page. They are background, as a camera's black is. */

import { median } from "./circles.js";

const BRIGHT = 64, PALE = 170, NEUTRAL = 16, WHITE = 235, WHITE_EDGE = 0.06, ALIKE = 24, MOSTLY = 0.9;
const THICKEST = 0.45, SAMPLES = 200, FRINGE = 0.003, LAYERS = 3;

/* [first row, end row, first column, end column] of what bright frames leave of a picture; null without a frame. */
export function findFrame(picture) {
  let [top, bottom, left, right] = [0, picture.rows, 0, picture.columns];
  const at = (r, c) => 3 * (r * picture.columns + c);
  const brightest = (r, c) => Math.max(...picture.data.subarray(at(r, c), at(r, c) + 3));
  for (let layer = 0; layer < LAYERS; layer++) {
    const high = bottom - top, wide = right - left;
    if (Math.min(high, wide) < 16) break;
    const corners = [[top, left], [top, right - 1], [bottom - 1, left], [bottom - 1, right - 1]];
    if (!corners.some(([r, c]) => brightest(r, c) >= BRIGHT)) break;
    const [t, l, b, r] = [top, left, bottom - 1, right - 1];
    const depths = [
      frameDepth(picture, high, wide, (line, k) => at(t + line, l + k)),
      frameDepth(picture, high, wide, (line, k) => at(b - line, l + k)),
      frameDepth(picture, wide, high, (line, k) => at(t + k, l + line)),
      frameDepth(picture, wide, high, (line, k) => at(t + k, r - line)),
    ];
    if (!depths.some(Boolean)) break;
    const fringe = Math.max(1, roundHalfEven(FRINGE * Math.max(picture.rows, picture.columns)));
    const cut = depths.map((depth) => depth + (depth > 0 ? fringe : 0));
    if (cut[0] + cut[1] >= high || cut[2] + cut[3] >= wide) break;
    [top, bottom, left, right] = [top + cut[0], bottom - cut[1], left + cut[2], right - cut[3]];
  }
  const whole = top === 0 && left === 0 && bottom === picture.rows && right === picture.columns;
  return whole ? null : [top, bottom, left, right];
}

function roundHalfEven(x) {
  return Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x);
}

/* How many lines, from the first, are of one bright colour from end to end; 0 where that is no frame. */
function frameDepth({ data }, lines, length, place) {
  const brightest = (at) => Math.max(data[at], data[at + 1], data[at + 2]);
  if (Math.min(brightest(place(0, 0)), brightest(place(0, length - 1))) < BRIGHT) return 0;
  const step = Math.max(1, Math.floor(length / SAMPLES)), looked = [];
  for (let k = 0; k < length; k += step) looked.push(k);
  const colour = [0, 1, 2].map((c) => median(looked.map((k) => data[place(0, k) + c])));
  const alikeAt = (line) => {
    let count = 0;
    for (const k of looked) {
      const at = place(line, k);
      if (Math.max(...colour.map((value, c) => Math.abs(data[at + c] - value))) <= ALIKE) count++;
    }
    return count / looked.length;
  };
  if (Math.max(...colour) < BRIGHT || alikeAt(0) < MOSTLY) return 0;
  const most = Math.max(1, Math.trunc(THICKEST * lines));
  let depth = 0;
  while (depth < most && alikeAt(depth) >= MOSTLY) depth++;
  if (depth === most) return 0;
  let after = 1;
  for (let line = depth; line < Math.min(most, depth + 4); line++) after = Math.min(after, alikeAt(line));
  // a retina that fills its picture can begin with an even line too, but does not end so abruptly
  const paper = Math.min(...colour) >= PALE && Math.max(...colour) - Math.min(...colour) <= NEUTRAL;
  return after < 0.5 || paper ? depth : 0;
}

/* Places of the outermost pixels: the first row, the last row, the first column, the last column. */
function edgePlaces({ rows, columns }) {
  const places = [];
  for (const row of [0, rows - 1]) for (let c = 0; c < columns; c++) places.push(row * columns + c);
  for (const column of [0, columns - 1]) for (let r = 0; r < rows; r++) places.push(r * columns + column);
  return places;
}

/* The brightest channel of a reduced copy, white paper around the field blackened, and whether any was: {level, paper}. */
export function darkenPaper(small) {
  const { rows, columns, data } = small, level = new Uint8Array(rows * columns);
  for (let k = 0; k < level.length; k++) level[k] = Math.max(data[3 * k], data[3 * k + 1], data[3 * k + 2]);
  const least = (k) => Math.min(data[3 * k], data[3 * k + 1], data[3 * k + 2]);
  const edge = edgePlaces(small), white = edge.filter((k) => least(k) >= WHITE).length >= WHITE_EDGE * edge.length;
  if (!white && !areOnePale([0, columns - 1, (rows - 1) * columns, rows * columns - 1], data)) return { level, paper: false };
  const filled = new Uint8Array(rows * columns);
  for (const k of edge) if (least(k) >= (white ? WHITE : PALE) && !filled[k]) floodLike(small, k, filled);
  for (let k = 0; k < level.length; k++) if (filled[k]) level[k] = 0;
  // where paper meets black, resampling leaves a thin grey line
  return { level: extreme(extreme(level, rows, columns, Math.min, 255), rows, columns, Math.max, 0), paper: true };
}

/* Whether four corners are white or of one light grey. */
function areOnePale(corners, data) {
  const values = [0, 1, 2].map((c) => corners.map((k) => data[3 * k + c]));
  const spread = (list) => Math.max(...list) - Math.min(...list);
  return (
    Math.min(...values.flat()) >= PALE && Math.max(...values.map(spread)) <= ALIKE &&
    Math.max(...corners.map((_, k) => spread(values.map((channel) => channel[k])))) <= NEUTRAL
  );
}

/* Mark what is joined (4-connected) with a pixel and differs from it by at most ALIKE in every channel. */
function floodLike({ rows, columns, data }, start, filled) {
  const stack = [start], alike = (k) => [0, 1, 2].every((c) => Math.abs(data[3 * k + c] - data[3 * start + c]) <= ALIKE);
  filled[start] = 1;
  const visit = (k) => {
    if (!filled[k] && alike(k)) {
      filled[k] = 1;
      stack.push(k);
    }
  };
  while (stack.length) {
    const k = stack.pop(), column = k % columns;
    if (column > 0) visit(k - 1);
    if (column < columns - 1) visit(k + 1);
    if (k >= columns) visit(k - columns);
    if (k < (rows - 1) * columns) visit(k + columns);
  }
}

/* The least or greatest level of the 5 x 5 pixels around each; what lies outside does not count. */
function extreme(level, rows, columns, of, neutral) {
  const along = new Uint8Array(level.length), out = new Uint8Array(level.length);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let value = neutral;
      for (let k = Math.max(0, c - 2); k <= Math.min(columns - 1, c + 2); k++) value = of(value, level[r * columns + k]);
      along[r * columns + c] = value;
    }
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let value = neutral;
      for (let k = Math.max(0, r - 2); k <= Math.min(rows - 1, r + 2); k++) value = of(value, along[k * columns + c]);
      out[r * columns + c] = value;
    }
  return out;
}

/* Whether most of the outermost pixels of a reduced copy are white or light grey. */
export function isPale(small) {
  const edge = edgePlaces(small);
  const pale = edge.filter((k) => {
    const colour = small.data.subarray(3 * k, 3 * k + 3), least = Math.min(...colour);
    return least >= PALE && Math.max(...colour) - least <= NEUTRAL;
  });
  return pale.length > 0.75 * edge.length;
}
