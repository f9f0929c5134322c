/*
 * Resampling as OpenCV does it on bytes: area means and linear interpolation, with its rounding.
 *
 * A picture is {rows, columns, data}, three bytes a pixel (RGB) or one.
 */

/* To the nearest whole number, halves to the even one: as lrint and numpy.rint do. */
export function roundEven(x) {
  const floor = Math.floor(x), rest = x - floor;
  if (rest !== 0.5) return rest < 0.5 ? floor : floor + 1;
  return floor % 2 === 0 ? floor : floor + 1;
}

export function channelsOf(picture) {
  return picture.data.length / (picture.rows * picture.columns);
}

/* The part [r0, r1) x [c0, c1) of a picture, copied. */
export function crop(picture, r0, r1, c0, c1) {
  const n = channelsOf(picture), length = (c1 - c0) * n, data = new Uint8Array((r1 - r0) * length);
  for (let row = r0; row < r1; row++) {
    const from = (row * picture.columns + c0) * n;
    data.set(picture.data.subarray(from, from + length), (row - r0) * length);
  }
  return { rows: r1 - r0, columns: c1 - c0, data };
}

/* Every two by two pixels as one, (a + b + c + d + 2) >> 2; an odd last row or column is left out. */
export function halved(picture) {
  const n = channelsOf(picture), rows = picture.rows >> 1, columns = picture.columns >> 1, { data } = picture;
  const out = new Uint8Array(rows * columns * n), stride = picture.columns * n;
  for (let row = 0, to = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let c = 0; c < n; c++, to++) {
        const at = 2 * row * stride + 2 * column * n + c;
        out[to] = (data[at] + data[at + n] + data[at + stride] + data[at + stride + n] + 2) >> 2;
      }
  return { rows, columns, data: out };
}

/* A picture at (rows, columns): halved while it can be, the rest linear. */
export function shrunk(picture, rows, columns) {
  while (picture.rows >= 2 * rows && picture.columns >= 2 * columns) picture = halved(picture);
  return picture.rows === rows && picture.columns === columns ? picture : resizeLinear(picture, rows, columns);
}

/* A part of a photograph at (rows, columns): halved from four times the size on, then area means; linear where it grows. */
export function resize(picture, rows, columns) {
  while (picture.rows >= 4 * rows && picture.columns >= 4 * columns) picture = halved(picture);
  return rows <= picture.rows ? resizeArea(picture, rows, columns) : resizeLinear(picture, rows, columns);
}

/* INTER_AREA. Where one side shrinks and the other grows, OpenCV interpolates with weights of its own. */
export function resizeArea(picture, rows, columns) {
  if (picture.rows === rows && picture.columns === columns) return picture;
  const high = 1 / (rows / picture.rows), wide = 1 / (columns / picture.columns);
  if (high < 1 || wide < 1) return interpolate(picture, rows, columns, areaPlaces);
  if (high === 2 && wide === 2) return halved(picture);
  return high % 1 === 0 && wide % 1 === 0 ? wholeMeans(picture, rows, columns, high, wide) : areaMeans(picture, rows, columns, high, wide);
}

function wholeMeans(picture, rows, columns, high, wide) {
  const n = channelsOf(picture), out = new Uint8Array(rows * columns * n), share = Math.fround(1 / (high * wide));
  for (let row = 0, to = 0; row < rows; row++)
    for (let column = 0; column < columns; column++)
      for (let c = 0; c < n; c++, to++) {
        let sum = 0;
        for (let i = 0; i < high; i++)
          for (let j = 0; j < wide; j++) sum += picture.data[((row * high + i) * picture.columns + column * wide + j) * n + c];
        out[to] = roundEven(Math.fround(sum * share));
      }
  return { rows, columns, data: out };
}

/* For each output its inputs and their shares: [first input, shares]. */
function areaShares(count, length, scale) {
  return Array.from({ length: count }, (_, k) => {
    const start = k * scale, end = start + scale, width = Math.min(scale, length - start), shares = [];
    const last = Math.min(Math.floor(end), length - 1), first = Math.min(Math.ceil(start), last);
    let from = first;
    if (first - start > 1e-3) {
      from = first - 1;
      shares.push(Math.fround((first - start) / width));
    }
    for (let at = first; at < last; at++) shares.push(Math.fround(1 / width));
    if (end - last > 1e-3) shares.push(Math.fround(Math.min(Math.min(end - last, 1), width) / width));
    return [from, shares];
  });
}

function areaMeans(picture, rows, columns, high, wide) {
  const n = channelsOf(picture), out = new Uint8Array(rows * columns * n), { fround } = Math;
  const across = areaShares(columns, picture.columns, wide), down = areaShares(rows, picture.rows, high);
  const line = new Float32Array(columns * n), sums = new Float32Array(columns * n);
  for (let row = 0; row < rows; row++) {
    const [first, shares] = down[row];
    sums.fill(0);
    for (let i = 0; i < shares.length; i++) {
      const start = (first + i) * picture.columns;
      line.fill(0);
      for (let column = 0; column < columns; column++) {
        const [from, parts] = across[column];
        for (let c = 0; c < n; c++) {
          let sum = 0;
          for (let j = 0; j < parts.length; j++) sum = fround(sum + fround(picture.data[(start + from + j) * n + c] * parts[j]));
          line[column * n + c] = sum;
        }
      }
      const share = shares[i];
      for (let k = 0; k < sums.length; k++) sums[k] = fround(sums[k] + fround(line[k] * share));
    }
    for (let k = 0; k < sums.length; k++) out[row * columns * n + k] = roundEven(sums[k]);
  }
  return { rows, columns, data: out };
}

/* INTER_LINEAR: weights of 11 bits, the horizontal sums cut by four bits before the vertical ones. */
export function resizeLinear(picture, rows, columns) {
  if (picture.rows === rows && picture.columns === columns) return picture;
  if (picture.rows === 2 * rows && picture.columns === 2 * columns) return halved(picture);
  return interpolate(picture, rows, columns, linearPlaces);
}

function linearPlaces(count, length) {
  const scale = 1 / (count / length);
  return Array.from({ length: count }, (_, k) => {
    const at = Math.fround((k + 0.5) * scale - 0.5), floor = Math.floor(at);
    return [floor, Math.fround(at - floor)];
  });
}

function areaPlaces(count, length) {
  const scale = 1 / (count / length), inverse = count / length;
  return Array.from({ length: count }, (_, k) => {
    const at = Math.floor(k * scale), rest = Math.fround(k + 1 - (at + 1) * inverse);
    return [at, rest <= 0 ? 0 : Math.fround(rest - Math.floor(rest))];
  });
}

function interpolate(picture, rows, columns, placesOf) {
  const n = channelsOf(picture), out = new Uint8Array(rows * columns * n), length = columns * n;
  const across = placesOf(columns, picture.columns).map(([at, rest]) => {
    if (at < 0) return [0, 0, 2048, 0];
    if (at >= picture.columns - 1) return [picture.columns - 1, picture.columns - 1, 2048, 0];
    return [at, at + 1, roundEven(Math.fround(1 - rest) * 2048), roundEven(rest * 2048)];
  });
  const lines = new Map();
  const lineOf = (row) => {
    let line = lines.get(row);
    if (!line) {
      line = new Int32Array(length);
      for (let column = 0; column < columns; column++) {
        const [left, right, a, b] = across[column], start = row * picture.columns;
        for (let c = 0; c < n; c++)
          line[column * n + c] = picture.data[(start + left) * n + c] * a + picture.data[(start + right) * n + c] * b;
      }
      if (lines.size > 3) lines.clear();
      lines.set(row, line);
    }
    return line;
  };
  placesOf(rows, picture.rows).forEach(([at, rest], row) => {
    const clip = (k) => Math.min(picture.rows - 1, Math.max(0, k));
    const upper = lineOf(clip(at)), lower = lineOf(clip(at + 1));
    const a = roundEven(Math.fround(1 - rest) * 2048), b = roundEven(rest * 2048);
    for (let k = 0; k < length; k++)
      out[row * length + k] = (((a * (upper[k] >> 4)) >> 16) + ((b * (lower[k] >> 4)) >> 16) + 2) >> 2;
  });
  return { rows, columns, data: out };
}
