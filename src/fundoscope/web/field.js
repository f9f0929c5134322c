/* The field of view: where on the sensor the retina was seen. A circle, and the straight cuts of a camera that shows less of it. */

import { darkenPaper, findFrame, isPale } from "./borders.js";
import { holds, robustCircle, roundPart } from "./circles.js";
import { countFields, litLengths } from "./montage.js";
import { areaOf, convexHull, filled, outerBorders, outline } from "./regions.js";
import { crop, roundEven, shrunk } from "./resample.js";

const WORK_SIDE = 320, HELD = 0.93, DEEP = 0.02, NOTCH = 0.35, STRAIGHT = 0.8, SPECK = 0.05, INSIDE = 0.97;
const BLUR = [0, 2, 9, 28, 55, 68, 55, 28, 9, 2, 0]; // a Gaussian of sigma 1.5 in 256ths

/*
 * {row, column, radius, shape, found, litShare, cut, frame, count, brightBorder} of an RGB picture: centre and radius in its
 * pixels; `cut` [first row, end row, first column, end column] as edges of pixels, or null; see `Field` in Python.
 */
export function findField(picture) {
  const frame = findFrame(picture);
  if (!frame) return seekField(picture);
  const [top, bottom, left, right] = frame, field = seekField(crop(picture, top, bottom, left, right));
  const cut = field.cut ?? [0, bottom - top, 0, right - left];
  return {
    ...field, row: field.row + top, column: field.column + left, shape: [picture.rows, picture.columns], frame,
    cut: field.found ? [cut[0] + top, cut[1] + top, cut[2] + left, cut[3] + left] : null,
    brightBorder: field.brightBorder || !field.found,
  };
}

/* The field in a file of `shape`, `factor` of whose pixels along each side make one of this field's. */
export function enlargedField(field, factor, shape) {
  if (factor === 1) return { ...field, shape };
  const limits = [shape[0], shape[0], shape[1], shape[1]];
  const scaled = (edges) => edges && edges.map((edge, k) => Math.min(edge * factor, limits[k]));
  return {
    ...field, row: (field.row + 0.5) * factor - 0.5, column: (field.column + 0.5) * factor - 0.5,
    radius: field.radius * factor, shape, cut: scaled(field.cut), frame: scaled(field.frame),
  };
}

/* Share of the whole circle that lies on the photograph. */
export function visibleShare(field) {
  const [top, bottom, left, right] = field.frame ?? [0, field.shape[0], 0, field.shape[1]];
  let seen = 0, all = 0;
  for (let k = 0; k < 128; k++) {
    const at = (k + 0.5) / 64 - 1, row = field.row + at * field.radius, half = field.radius * Math.sqrt(1 - at ** 2);
    const chord = Math.min(field.column + half, right) - Math.max(field.column - half, left);
    if (row >= top && row <= bottom && chord > 0) seen += chord;
    all += 2 * half;
  }
  return Math.min(1, seen / all);
}

function seekField(picture) {
  const { rows, columns } = picture, scale = Math.min(1, WORK_SIDE / Math.max(rows, columns));
  const high = Math.max(1, roundEven(rows * scale)), wide = Math.max(1, roundEven(columns * scale));
  const small = scale < 1 ? shrunk(picture, high, wide) : picture;
  const { level, paper } = darkenPaper(small);
  const { lit, contour, regions } = findLit(level, high, wide);
  const circle = shareOf(lit) < INSIDE ? circleOf(lit, contour) : null;
  const field = {
    row: (rows - 1) / 2, column: (columns - 1) / 2, radius: Math.hypot(rows, columns) / 2, shape: [rows, columns],
    found: circle !== null, cut: null, frame: null, count: countFields(regions),
  };
  const tall = rows / high, broad = columns / wide;
  if (circle) {
    field.row = (circle[0] + 0.5) * tall - 0.5;
    field.column = (circle[1] + 0.5) * broad - 0.5;
    field.radius = circle[2] * ((tall + broad) / 2);
  }
  field.litShare = litShare(field, lit, tall, broad);
  const cut = circle && cutOf(lit, circle);
  if (cut) field.cut = [cut[0] * tall, cut[1] * tall, cut[2] * broad, cut[3] * broad];
  field.brightBorder = paper || (!field.found && isPale(small)); // on paper a ball of any kind is as round as a field
  return field;
}

function shareOf({ data }) {
  return data.reduce((sum, on) => sum + on, 0) / data.length;
}

function litShare(field, lit, tall, broad) {
  let inside = 0, on = 0;
  for (let r = 0, k = 0; r < lit.rows; r++)
    for (let c = 0; c < lit.columns; c++, k++) {
      const row = (r + 0.5) * tall - 0.5 - field.row, column = (c + 0.5) * broad - 0.5 - field.column;
      if (row ** 2 + column ** 2 > field.radius ** 2) continue;
      inside++;
      on += lit.data[k];
    }
  return on / Math.max(1, inside);
}

/* Eight bits blurred: whole numbers of 256ths along rows, then along columns, rounded once; edges are mirrored. */
function blurred(level, rows, columns) {
  const along = new Int32Array(level.length), out = new Uint8Array(level.length);
  const mirror = (k, length) => (length === 1 ? 0 : k < 0 ? mirror(-k, length) : k >= length ? mirror(2 * length - 2 - k, length) : k);
  const across = Array.from({ length: columns + 10 }, (_, k) => mirror(k - 5, columns));
  const down = Array.from({ length: rows + 10 }, (_, k) => mirror(k - 5, rows));
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 1; k < 10; k++) sum += BLUR[k] * level[r * columns + across[c + k]];
      along[r * columns + c] = sum;
    }
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 1; k < 10; k++) sum += BLUR[k] * along[down[r + k] * columns + c];
      out[r * columns + c] = (sum + 32768) >> 16;
    }
  return out;
}

/* The grey level below which `percent` of those at `places` (or of all) lie. */
function percentile(level, percent, places = null) {
  const counts = new Int32Array(256), n = places ? places.length : level.length;
  if (places) for (const k of places) counts[level[k]]++;
  else for (const value of level) counts[value]++;
  let sum = 0, at = 0;
  while (at < 255 && (sum += counts[at]) < (percent / 100) * n) at++;
  return at;
}

/* The largest lit region, filled, brighter than the black that the camera leaves; its contour; all lit regions, filled. */
function findLit(brightest, rows, columns) {
  const level = blurred(brightest, rows, columns), border = [];
  for (let r = 0; r < rows; r++) if (r < 3 || r >= rows - 3) for (let c = 0; c < columns; c++) border.push(r * columns + c);
  // the corners count twice, in rows and in columns
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) if (c < 3 || c >= columns - 3) border.push(r * columns + c);
  const dark = percentile(level, 5, border), top = percentile(level, 95);
  const all = () => ({ rows, columns, data: new Uint8Array(rows * columns).fill(1) });
  if (dark > Math.max(20, 0.3 * top)) // no black surround: the photograph lies inside its field
    return { lit: all(), contour: [[0, 0], [0, columns - 1], [rows - 1, columns - 1], [rows - 1, 0]], regions: all() };
  // a tenth of the way from the surround to the brightest parts keeps dim rims, outside the sensor's noise
  const limit = Math.max(dark + 0.1 * (top - dark), dark + 8, 14);
  const borders = outerBorders({ rows, columns, data: level.map((value) => (value > limit ? 1 : 0)) });
  if (!borders.length) {
    const none = { rows, columns, data: new Uint8Array(rows * columns) };
    return { lit: none, contour: [], regions: none };
  }
  const areas = borders.map(areaOf), most = Math.max(...areas), largest = areas.lastIndexOf(most);
  const lit = filled(borders[largest], rows, columns), regions = { rows, columns, data: lit.data.slice() };
  borders.forEach((border, k) => {
    if (k === largest || areas[k] <= SPECK * most) return;
    filled(border, rows, columns).data.forEach((on, place) => (regions.data[place] |= on));
  });
  return { lit, contour: borders[largest], regions };
}

/* [row, column, radius] of the circle through the region's round rim, or null when there is none. */
function circleOf(lit, contour) {
  if (shareOf(lit) < 0.02) return null;
  const { rows, columns } = lit, points = roundPart(outline(convexHull(contour), rows, columns), [rows, columns]);
  if (points.length < 24) return null;
  const circle = robustCircle(points, 2 * Math.max(rows, columns));
  return circle && holds(circle, lit, HELD) ? circle : null;
}

/* The rectangle that straight cuts leave, on the reduced copy, or null. */
function cutOf(lit, [row, column, radius]) {
  const edges = [];
  for (const [axis, centre, other] of [[0, row, column], [1, column, row]]) {
    const counts = litLengths(lit, axis), length = counts.length, across = axis ? lit.rows : lit.columns;
    const chords = Array.from(counts, (_, k) => {
      const half = Math.sqrt(Math.max(0, radius ** 2 - (k - centre) ** 2));
      return Math.max(0, Math.min(other + half, across) - Math.max(other - half, 0));
    });
    const full = chords.map((chord, k) => counts[k] >= STRAIGHT * chord), scant = chords.map((chord, k) => counts[k] <= NOTCH * chord);
    const first = counts.findIndex(Boolean), last = counts.findLastIndex(Boolean);
    for (const [outermost, step, edge] of [[first, 1, 0], [last, -1, length]]) {
      const place = fullLine(outermost, step, full, scant);
      if (place === null) {
        edges.push(edge);
        continue;
      }
      const atFrame = step > 0 ? place <= 1 : place >= length - 2;
      const isCut = !atFrame && radius - Math.abs(place - centre) > Math.max(2, DEEP * radius);
      edges.push(isCut ? (step > 0 ? place + 1 : place) : edge);
    }
  }
  const [top, bottom, left, right] = edges;
  return top === 0 && left === 0 && bottom === lit.rows && right === lit.columns ? null : edges;
}

/* The line where the lit region begins at its full width, going inwards from its outermost line; else null. */
function fullLine(place, step, full, scant) {
  for (let inner = place + 2 * step; inner >= 0 && inner < full.length; inner = place + 2 * step) {
    if (!scant[place]) return full[inner] ? place : null;
    if (full[inner] && !scant[place + step]) return place;
    place += step;
  }
  return null;
}
