/* The field as a square, and `Prepared`: a photograph read once with its field found once. */

import { decode } from "./decode.js";
import { enlargedField, findField } from "./field.js";
import { crop, resize, roundEven } from "./resample.js";

const INSIDE_RIM = 0.985; // share of the circle's radius that a square shows: the rim beyond is the camera's
export const JUDGED_SIDE = 256;
const OVERSAMPLING = 1.75; // pixels of the decoded field for each of the square's, below which a JPEG is not reduced

/*
 * {pixels, reduction, field, shape, remark} of a file's bytes, of which squares of at most `side` pixels will be asked: a large
 * JPEG is decoded at the largest reduction at which the field keeps OVERSAMPLING times as many pixels across.
 */
export async function prepare(bytes, side, byBrowser = null) {
  const least = Math.ceil(OVERSAMPLING * side), first = await decode(bytes, least, byBrowser);
  const field = enlargedField(findField(first), first.reduction, first.shape), diameter = 2 * field.radius;
  if (first.reduction === 1 || !field.found || diameter / first.reduction >= least) return prepared(first, field);
  // the field is smaller than the frame: the same rule, asked of the frame's shorter side
  return prepared(await decode(bytes, Math.ceil((least * Math.min(...first.shape)) / diameter), byBrowser), field);
}

function prepared(photograph, field) {
  return { pixels: photograph, reduction: photograph.reduction, shape: photograph.shape, remark: photograph.remark, field };
}

/* Upper left corner and side of the square around the field's circle, or around the whole photograph where no rim was found. */
export function frameAround(field) {
  const half = field.found ? field.radius : Math.max(...field.shape) / 2;
  return { row: field.row + 0.5 - half, column: field.column + 0.5 - half, side: 2 * half };
}

/* Along one axis: the photograph's first and last pixel in the frame, and their places in the square. */
function overlap(start, side, length, size) {
  const scale = size / side;
  const low = Math.max(0, Math.ceil(-start * scale - 1e-6)), high = Math.min(size, Math.floor((length - start) * scale + 1e-6));
  const first = roundEven(start + low / scale), last = roundEven(start + high / scale);
  return [Math.max(0, first), Math.min(length, last), low, high];
}

/* The field's cut as whole rows and columns of its square: [first row, end row, first column, end column]. */
function cutInSquare(field, side) {
  if (!field.cut) return [0, side, 0, side];
  const frame = frameAround(field), scale = side / frame.side, starts = [frame.row, frame.row, frame.column, frame.column];
  const [top, bottom, left, right] = field.cut.map((edge, k) => Math.min(side, Math.max(0, (edge - starts[k]) * scale)));
  return [Math.ceil(top - 1e-6), Math.floor(bottom + 1e-6), Math.ceil(left - 1e-6), Math.floor(right + 1e-6)];
}

/* The rows and columns of a field's square that photograph and cut leave. */
export function squareExtent(field, side) {
  const frame = frameAround(field), [, , y0, y1] = overlap(frame.row, frame.side, field.shape[0], side);
  const [, , x0, x1] = overlap(frame.column, frame.side, field.shape[1], side), cut = cutInSquare(field, side);
  return [Math.max(y0, cut[0]), Math.min(y1, cut[1]), Math.max(x0, cut[2]), Math.min(x1, cut[3])];
}

/* The square around a field, {rows: side, columns: side, data: RGB}, area-averaged; black outside the field. */
export function cutSquare({ pixels, field, reduction }, side) {
  const frame = frameAround(field);
  const [r0, r1, y0, y1] = overlap(frame.row / reduction, frame.side / reduction, pixels.rows, side);
  const [c0, c1, x0, x1] = overlap(frame.column / reduction, frame.side / reduction, pixels.columns, side);
  const square = { rows: side, columns: side, data: new Uint8Array(3 * side * side) };
  if (r1 > r0 && c1 > c0 && y1 > y0 && x1 > x0) {
    const part = resize(crop(pixels, r0, r1, c0, c1), y1 - y0, x1 - x0), length = 3 * (x1 - x0);
    for (let row = y0; row < y1; row++)
      square.data.set(part.data.subarray((row - y0) * length, (row - y0 + 1) * length), 3 * (row * side + x0));
  }
  if (!field.found) return square;
  const [top, bottom, left, right] = cutInSquare(field, side), limit = ((INSIDE_RIM * side) / 2) ** 2;
  for (let row = 0; row < side; row++)
    for (let column = 0; column < side; column++) {
      const y = row + 0.5 - side / 2, x = column + 0.5 - side / 2;
      const inside = y * y + x * x <= limit && row >= top && row < bottom && column >= left && column < right;
      if (!inside) square.data.fill(0, 3 * (row * side + column), 3 * (row * side + column) + 3);
    }
  return square;
}
