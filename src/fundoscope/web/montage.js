/* How many fields of view a picture shows: a montage of two eyes must not be judged by one of them. */

import { holds, robustCircle, roundPart } from "./circles.js";
import { areaOf, convexHull, outerBorders, outline } from "./regions.js";

const VALLEY = 0.9, FIELD_RADIUS = 0.4, APART = 0.6, FILLED = 0.8, INSIDE = 0.9, LEAST_SIDE = 24;

/* At least 1, from the pixels that are lit (a mask). */
export function countFields(lit) {
  if (!splitAt(lit)) return 1;
  const circles = fieldsIn(lit, [0, 0]).sort((a, b) => b[2] - a[2]), fields = [];
  for (const [row, column, radius] of circles) {
    const apart = fields.every(([r, c, other]) => Math.hypot(row - r, column - c) >= APART * (radius + other));
    if (apart && radius >= FIELD_RADIUS * circles[0][2]) fields.push([row, column, radius]);
  }
  return Math.max(1, fields.length);
}

/* How many pixels of each row (axis 0) or column (axis 1) are lit. */
export function litLengths({ rows, columns, data }, axis) {
  const counts = new Int32Array(axis ? columns : rows);
  for (let r = 0, k = 0; r < rows; r++) for (let c = 0; c < columns; c++, k++) counts[axis ? c : r] += data[k];
  return counts;
}

/* [axis, line] of the deepest valley between two maxima of the lines' lit lengths, or null without any. */
function splitAt(lit) {
  let deepest = VALLEY, found = null;
  for (const axis of [0, 1]) {
    const counts = litLengths(lit, axis), before = new Int32Array(counts.length), after = new Int32Array(counts.length);
    for (let k = 0, top = 0; k < counts.length; k++) before[k] = top = Math.max(top, counts[k]);
    for (let k = counts.length - 1, top = 0; k >= 0; k--) after[k] = top = Math.max(top, counts[k]);
    let line = 0, least = Infinity;
    for (let k = 0; k < counts.length; k++) {
      const share = (counts[k] + 2) / (Math.min(before[k], after[k]) + 2); // two pixels' doubt: small specks make no valley
      if (share < least) [least, line] = [share, k];
    }
    if (least < deepest) [deepest, found] = [least, [axis, line]];
  }
  return found;
}

function part({ columns, data }, r0, r1, c0, c1) {
  const out = new Uint8Array((r1 - r0) * (c1 - c0));
  for (let r = r0; r < r1; r++) out.set(data.subarray(r * columns + c0, r * columns + c1), (r - r0) * (c1 - c0));
  return { rows: r1 - r0, columns: c1 - c0, data: out };
}

function fieldsIn(lit, at) {
  const [rows, columns] = [0, 1].map((axis) => {
    const counts = litLengths(lit, axis);
    return [counts.findIndex(Boolean), counts.findLastIndex(Boolean)];
  });
  if (rows[0] < 0 || Math.min(rows[1] - rows[0], columns[1] - columns[0]) < LEAST_SIDE) return [];
  lit = part(lit, rows[0], rows[1] + 1, columns[0], columns[1] + 1);
  at = [at[0] + rows[0], at[1] + columns[0]];
  const split = splitAt(lit);
  if (!split) {
    const circle = circleOfPart(lit);
    return circle ? [[circle[0] + at[0], circle[1] + at[1], circle[2]]] : [];
  }
  const [axis, line] = split;
  const before = axis ? part(lit, 0, lit.rows, 0, line) : part(lit, 0, line, 0, lit.columns);
  const after = axis ? part(lit, 0, lit.rows, line + 1, lit.columns) : part(lit, line + 1, lit.rows, 0, lit.columns);
  const beyond = axis ? [at[0], at[1] + line + 1] : [at[0] + line + 1, at[1]];
  return [...fieldsIn(before, at), ...fieldsIn(after, beyond)];
}

/* The circle of a part that fills its picture, or null where it is no field: not round, or not filled. */
function circleOfPart(lit) {
  const { rows, columns, data } = lit;
  const largest = outerBorders(lit).reduce((a, b) => (areaOf(b) > areaOf(a) ? b : a));
  const points = roundPart(outline(convexHull(largest), rows, columns), [rows, columns]);
  const circle = points.length >= 24 ? robustCircle(points, 2 * Math.max(rows, columns)) : null;
  if (!circle || !holds(circle, lit, INSIDE)) return null;
  let all = 0, on = 0;
  for (let r = 0, k = 0; r < rows; r++)
    for (let c = 0; c < columns; c++, k++)
      if ((r - circle[0]) ** 2 + (c - circle[1]) ** 2 <= circle[2] ** 2) {
        all++;
        on += data[k];
      }
  return on >= FILLED * all ? circle : null;
}
