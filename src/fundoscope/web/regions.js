/*
 * Connected regions of a mask: their outer borders, areas, filled forms, and convex hulls drawn as lines of pixels.
 *
 * A mask is {rows, columns, data: Uint8Array of 0 and 1}; points are [row, column].
 */

// the eight neighbours, clockwise on the screen, beginning on the left
const AROUND = [[0, -1], [-1, -1], [-1, 0], [-1, 1], [0, 1], [1, 1], [1, 0], [1, -1]];

/* The outer borders of all regions (8-connected) that lie in no hole of another, in the order in which lines meet them. */
export function outerBorders(mask) {
  const { rows, columns, data } = mask, seen = new Uint8Array(rows * columns), found = [];
  const outside = reachedFromOutside(mask);
  for (let at = 0; at < data.length; at++) {
    if (!data[at] || seen[at]) continue;
    flood(mask, at, seen);
    const row = Math.floor(at / columns), column = at % columns;
    // above and on the left of a region's first pixel lies what surrounds it
    if (column === 0 || row === 0 || outside[at - 1]) found.push(follow(mask, row, column));
  }
  return found;
}

function flood({ rows, columns, data }, start, seen) {
  const stack = [start];
  seen[start] = 1;
  while (stack.length) {
    const at = stack.pop(), row = Math.floor(at / columns), column = at % columns;
    for (const [dr, dc] of AROUND) {
      const r = row + dr, c = column + dc, next = r * columns + c;
      if (r >= 0 && c >= 0 && r < rows && c < columns && data[next] && !seen[next]) {
        seen[next] = 1;
        stack.push(next);
      }
    }
  }
}

/* Which dark pixels are joined (4-connected) with the picture's outside. */
function reachedFromOutside({ rows, columns, data }) {
  const reached = new Uint8Array(rows * columns), stack = [];
  const visit = (at) => {
    if (!data[at] && !reached[at]) {
      reached[at] = 1;
      stack.push(at);
    }
  };
  for (let c = 0; c < columns; c++) for (const row of [0, rows - 1]) visit(row * columns + c);
  for (let r = 0; r < rows; r++) for (const column of [0, columns - 1]) visit(r * columns + column);
  while (stack.length) {
    const at = stack.pop(), column = at % columns;
    if (column > 0) visit(at - 1);
    if (column < columns - 1) visit(at + 1);
    if (at >= columns) visit(at - columns);
    if (at < (rows - 1) * columns) visit(at + columns);
  }
  return reached;
}

/* Border following (Suzuki and Abe 1985) from a region's first pixel: its points in order. */
function follow({ rows, columns, data }, row, column) {
  const lit = (r, c) => r >= 0 && c >= 0 && r < rows && c < columns && data[r * columns + c] === 1;
  let direction = 0, first = null;
  for (let k = 0; k < 8 && !first; k++) {
    const [dr, dc] = AROUND[k];
    if (lit(row + dr, column + dc)) {
      first = [row + dr, column + dc];
      direction = k;
    }
  }
  if (!first) return [[row, column]];
  const points = [];
  let at = [row, column];
  for (;;) {
    // the other way round, beginning after the neighbour one came from
    let next = null;
    for (let k = 1; k <= 8 && !next; k++) {
      const [dr, dc] = AROUND[(direction - k + 16) % 8];
      if (lit(at[0] + dr, at[1] + dc)) {
        next = [at[0] + dr, at[1] + dc];
        direction = (((direction - k + 16) % 8) + 4) % 8; // as seen from there
      }
    }
    points.push(at);
    if (next[0] === row && next[1] === column && at[0] === first[0] && at[1] === first[1]) return points;
    at = next;
  }
}

/* The area of the polygon through a border's points. */
export function areaOf(border) {
  let twice = 0;
  for (let k = 0; k < border.length; k++) {
    const [r, c] = border[k], [s, d] = border[(k + 1) % border.length];
    twice += c * s - d * r;
  }
  return Math.abs(twice) / 2;
}

/* A mask of the region of a border without holes. */
export function filled(border, rows, columns) {
  const drawn = { rows, columns, data: new Uint8Array(rows * columns) };
  for (const [r, c] of border) drawn.data[r * columns + c] = 1;
  const outside = reachedFromOutside(drawn);
  return { rows, columns, data: outside.map((reached) => 1 - reached) };
}

/* Corners of the convex hull (Andrew 1979), without points on its sides. */
export function convexHull(points) {
  const sorted = [...points].sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const half = (list) => {
    const hull = [];
    for (const point of list) {
      while (hull.length > 1) {
        const [a, b] = hull.slice(-2);
        if ((b[0] - a[0]) * (point[1] - a[1]) - (b[1] - a[1]) * (point[0] - a[0]) > 0) break;
        hull.pop();
      }
      hull.push(point);
    }
    return hull;
  };
  const lower = half(sorted), upper = half(sorted.reverse());
  return sorted.length < 2 ? sorted : [...lower.slice(0, -1), ...upper.slice(0, -1)];
}

/* The pixels of the closed line through a polygon's corners (Bresenham 1965), each once, in the order of lines. */
export function outline(corners, rows, columns) {
  const drawn = new Uint8Array(rows * columns);
  corners.forEach((corner, k) => drawLine(drawn, columns, corner, corners[(k + 1) % corners.length]));
  const points = [];
  drawn.forEach((on, at) => on && points.push([Math.floor(at / columns), at % columns]));
  return points;
}

/* From the left end to the right one; the lesser coordinate moves where the error has become negative. */
function drawLine(drawn, columns, from, to) {
  if (to[1] < from[1]) [from, to] = [to, from];
  const down = to[0] < from[0] ? -1 : 1, wide = to[1] - from[1], high = Math.abs(to[0] - from[0]);
  const steep = high > wide, long = steep ? high : wide, short = steep ? wide : high;
  let [row, column] = from, error = long - 2 * short;
  for (let k = 0; k <= long; k++) {
    drawn[row * columns + column] = 1;
    const turn = error < 0;
    error += (turn ? 2 * long : 0) - 2 * short;
    if (steep || turn) row += down;
    if (!steep || turn) column += 1;
  }
}
