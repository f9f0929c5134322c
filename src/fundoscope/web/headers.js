/* What files say of themselves: their kind, how the picture is turned, how many pictures they hold. */

export const COPY_AGAIN = "Copy it again from the camera.";
export const MAX_PIXELS = 60_000_000;
const MIN_SIDE = 32; // pixels: below this nothing of a retina can be told

/* A photograph that cannot be read: `cause`, one short clause, and `remedy`, what to do. */
export class PhotographError extends Error {
  constructor(cause, remedy) {
    super(`${cause}. ${remedy}`);
    this.cause = cause;
    this.remedy = remedy;
  }
}

export function checkSize(rows, columns) {
  if (rows * columns > MAX_PIXELS)
    throw new PhotographError(`${columns}x${rows} pixels are over the limit of ${MAX_PIXELS / 1e6} megapixels`, "Export it smaller.");
  if (Math.min(rows, columns) < MIN_SIDE)
    throw new PhotographError(`${columns}x${rows} pixels are too few for a photograph`, `Give at least ${MIN_SIDE} by ${MIN_SIDE}.`);
}

const KINDS = [
  ["JPEG", [0xff, 0xd8, 0xff]],
  ["PNG", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]],
  ["TIFF", [0x49, 0x49, 0x2a, 0]],
  ["TIFF", [0x4d, 0x4d, 0, 0x2a]],
  ["BMP", [0x42, 0x4d]],
  ["GIF", [0x47, 0x49, 0x46, 0x38]],
  ["PDF", [0x25, 0x50, 0x44, 0x46]],
];

/* JPEG, PNG, WebP, ...; null for what is not known. */
export function kindOf(bytes) {
  const text = (from, to) => String.fromCharCode(...bytes.subarray(from, to));
  if (text(128, 132) === "DICM") return "DICOM";
  if (text(0, 4) === "RIFF" && text(8, 12) === "WEBP") return "WebP";
  if (text(4, 8) === "ftyp") return /^avi[fs]/.test(text(8, 12)) ? "AVIF" : "HEIC or a film";
  return KINDS.find(([, magic]) => magic.every((byte, k) => bytes[k] === byte))?.[0] ?? null;
}

/* Exif's orientation, 1 to 8 (CIPA DC-008, tag 274), of a block that begins with II or MM; 1 where absent or senseless. */
export function exifOrientation(block) {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength);
  try {
    const little = view.getUint16(0) === 0x4949;
    if (!little && view.getUint16(0) !== 0x4d4d) return 1;
    const at = view.getUint32(4, little), count = view.getUint16(at, little);
    for (let entry = at + 2; entry < at + 2 + 12 * count; entry += 12) {
      if (view.getUint16(entry, little) !== 0x0112) continue;
      const value = view.getUint16(entry + 2, little) === 3 ? view.getUint16(entry + 8, little) : view.getUint32(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
  } catch {
    return 1; // offsets that lead out of the block
  }
  return 1;
}

/* How many pictures of full size a JPEG's index of several pictures lists (CIPA DC-007); a telephone's gain map is none. */
export function countMarkedPictures(bytes, block, at) {
  const view = new DataView(block.buffer, block.byteOffset, block.byteLength), room = bytes.length - at;
  if (holds(bytes, "hdrgm:")) return 1;
  try {
    const little = view.getUint16(0) === 0x4949, first = view.getUint32(4, little);
    for (let n = 0, entry = first + 2; n < view.getUint16(first, little); n++, entry += 12) {
      if (view.getUint16(entry, little) !== 0xb002) continue;
      const length = view.getUint32(entry + 4, little), place = view.getUint32(entry + 8, little);
      let found = 1;
      for (let k = 1; k < Math.floor(length / 16); k++) {
        const kind = view.getUint32(place + 16 * k, little), size = view.getUint32(place + 16 * k + 4, little);
        if (((kind >>> 16) & 0xff) !== 1 && size + view.getUint32(place + 16 * k + 8, little) <= room) found++;
      }
      return found;
    }
  } catch {
    return 1;
  }
  return 1;
}

function holds(bytes, text) {
  const codes = [...text].map((c) => c.charCodeAt(0));
  for (let at = bytes.indexOf(codes[0]); at >= 0; at = bytes.indexOf(codes[0], at + 1))
    if (codes.every((code, k) => bytes[at + k] === code)) return true;
  return false;
}
