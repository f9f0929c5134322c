/* Circles through the rim of a lit region, on the reduced copy on which the field is sought. */

/* Whether a circle is a field's: its centre on the photograph, and a `share` of all that is lit (every third pixel) inside it. */
export function holds([row, column, radius], lit, share) {
  if (!(row >= 0 && row < lit.rows && column >= 0 && column < lit.columns)) return false;
  let all = 0, inside = 0;
  const limit = (1.04 * radius + 1) ** 2;
  for (let r = 0; r < lit.rows; r += 3)
    for (let c = 0; c < lit.columns; c += 3) {
      if (!lit.data[r * lit.columns + c]) continue;
      all++;
      if ((r - row) ** 2 + (c - column) ** 2 <= limit) inside++;
    }
  return inside >= share * all;
}

/* The rim points [row, column] that tell of the circle: none on the photograph's edge or a flat cut of the region. */
export function roundPart(rim, shape) {
  let kept = rim;
  shape.forEach((size, axis) => {
    const values = rim.map((point) => point[axis]);
    const low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
    const flatLow = values.filter((v) => v <= low + 1).length > 0.25 * size || low <= 1;
    const flatHigh = values.filter((v) => v >= high - 1).length > 0.25 * size || high >= size - 2;
    kept = kept.filter((point) => !(flatLow && point[axis] <= low + 2) && !(flatHigh && point[axis] >= high - 2));
  });
  return kept;
}

export function median(values) {
  const sorted = Float64Array.from(values).sort(), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/* [row, column, radius] of an algebraic circle fit (Kasa 1976), refitted five times on the points that lie near it; or null. */
export function robustCircle(points, limit) {
  let keep = points.map(() => true), fit = null;
  for (let round = 0; round < 6; round++) {
    fit = fitCircle(points.filter((_, k) => keep[k]));
    if (!fit || fit[2] > limit) return null;
    const distance = points.map(([r, c]) => Math.abs(Math.hypot(r - fit[0], c - fit[1]) - fit[2]));
    const most = Math.max(1.5, 2 * median(distance)), near = distance.map((d) => d <= most);
    if (near.filter(Boolean).length < 24 || near.every((each, k) => each === keep[k])) break;
    keep = near;
  }
  return fit;
}

/* The least-squares circle, from the normal equations about the points' mean. */
function fitCircle(points) {
  const n = points.length, mean = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / n);
  let a = 0, b = 0, d = 0, p = 0, q = 0, all = 0;
  for (const point of points) {
    const x = point[0] - mean[0], y = point[1] - mean[1], squared = x * x + y * y;
    a += x * x;
    b += x * y;
    d += y * y;
    p += (x * squared) / 2;
    q += (y * squared) / 2;
    all += squared;
  }
  const determinant = a * d - b * b;
  if (determinant <= 1e-9 * Math.max(1, a * d)) return null; // all on one line
  const row = (d * p - b * q) / determinant, column = (a * q - b * p) / determinant;
  return [mean[0] + row, mean[1] + column, Math.sqrt(all / n + row ** 2 + column ** 2)];
}
