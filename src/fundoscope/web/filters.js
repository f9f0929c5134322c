/* Filters on maps of 32-bit floats, {rows, columns, data: Float32Array}; edges are mirrored without repeating the last pixel. */

export function emptyMap(rows, columns) {
  return { rows, columns, data: new Float32Array(rows * columns) };
}

/* A map of the values f gives for each place of some maps of one size. */
export function combine(f, ...maps) {
  const out = emptyMap(maps[0].rows, maps[0].columns), all = maps.map((map) => map.data);
  if (all.length === 1) for (let k = 0; k < out.data.length; k++) out.data[k] = f(all[0][k]);
  else if (all.length === 2) for (let k = 0; k < out.data.length; k++) out.data[k] = f(all[0][k], all[1][k]);
  else for (let k = 0; k < out.data.length; k++) out.data[k] = f(...all.map((data) => data[k]));
  return out;
}

/* A filter that is a product of two: `down` along columns, `across` along rows, of odd lengths, times `scale`. */
export function separable(map, down, across, scale = 1) {
  const { rows, columns, data } = map, along = new Float64Array(data.length), out = emptyMap(rows, columns);
  const mirrored = (length, reach) =>
    Int32Array.from({ length: length + 2 * reach }, (_, k) => {
      const at = Math.abs(k - reach);
      return at < length ? at : 2 * length - 2 - at;
    });
  const wide = mirrored(columns, across.length >> 1), high = mirrored(rows, down.length >> 1);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 0; k < across.length; k++) sum += across[k] * data[r * columns + wide[c + k]];
      along[r * columns + c] = sum;
    }
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < columns; c++) {
      let sum = 0;
      for (let k = 0; k < down.length; k++) sum += down[k] * along[high[r + k] * columns + c];
      out.data[r * columns + c] = sum * scale;
    }
  return out;
}

export function meanOver(map, side) {
  const ones = new Array(side).fill(1);
  return separable(map, ones, ones, 1 / side ** 2);
}

const GAUSS = (() => {
  const weights = [-2, -1, 0, 1, 2].map((k) => Math.exp((-k * k) / 2)), sum = weights.reduce((a, b) => a + b);
  return weights.map((weight) => Math.fround(weight / sum));
})();

/* Smoothed with sigma 1 over 5 x 5. */
export function smoothed(map) {
  return separable(map, GAUSS, GAUSS);
}

const SLOPE = [-1, 0, 1], BEND = [1, -2, 1], SMOOTH = [1, 2, 1];

/* Slopes along the columns' order and the rows', and second derivatives; Sobel's 3 x 3 with their sums divided out. */
export const slopeAcross = (map) => separable(map, SMOOTH, SLOPE, 0.125);
export const slopeDown = (map) => separable(map, SLOPE, SMOOTH, 0.125);
export const bendAcross = (map) => separable(map, SMOOTH, BEND, 0.25);
export const bendDown = (map) => separable(map, BEND, SMOOTH, 0.25);
export const twist = (map) => separable(map, SLOPE, SLOPE, 0.5);

/* Means of `factor` x `factor` places. */
export function pooled({ rows, columns, data }, factor) {
  const out = emptyMap(rows / factor, columns / factor);
  for (let r = 0; r < out.rows; r++)
    for (let c = 0; c < out.columns; c++) {
      let sum = 0;
      for (let i = 0; i < factor; i++) for (let j = 0; j < factor; j++) sum += data[(r * factor + i) * columns + c * factor + j];
      out.data[r * out.columns + c] = sum / factor ** 2;
    }
  return out;
}

/* `factor` times as large, linear between the middles of places. */
export function magnified({ rows, columns, data }, factor) {
  const out = emptyMap(rows * factor, columns * factor);
  const places = (length) =>
    Array.from({ length: length * factor }, (_, k) => {
      const at = Math.min(length - 1, Math.max(0, (k + 0.5) / factor - 0.5)), first = Math.floor(at);
      return [first, Math.min(length - 1, first + 1), at - first];
    });
  const across = places(columns), down = places(rows);
  for (let r = 0; r < out.rows; r++) {
    const [upper, lower, y] = down[r];
    for (let c = 0; c < out.columns; c++) {
      const [left, right, x] = across[c];
      const above = data[upper * columns + left] * (1 - x) + data[upper * columns + right] * x;
      const below = data[lower * columns + left] * (1 - x) + data[lower * columns + right] * x;
      out.data[r * out.columns + c] = above * (1 - y) + below * y;
    }
  }
  return out;
}
