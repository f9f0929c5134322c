/* Judges photographs beside the page: the bundle is loaded once, then every file that is sent is answered, one after the other. */

import * as ort from "./ort/ort.wasm.min.mjs";
import { RopGrader } from "./grader.js";
import { PhotographError } from "./headers.js";
import { selfTest } from "./selftest.js";

const THREADS = 4;
let grader = null;

const load = async (name) => {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is missing beside the page`);
  return new Uint8Array(await answer.arrayBuffer());
};

/* What only the browser decodes (WebP, AVIF, BMP, GIF, four channels), as RGB over black. */
async function decodeByBrowser(bytes) {
  let picture;
  try {
    picture = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none" });
  } catch {
    throw new PhotographError("the browser cannot decode it", "Export the photograph as JPEG or PNG.");
  }
  const { width: columns, height: rows } = picture, context = new OffscreenCanvas(columns, rows).getContext("2d");
  context.fillRect(0, 0, columns, rows);
  context.drawImage(picture, 0, 0);
  const { data } = context.getImageData(0, 0, columns, rows), out = new Uint8Array(3 * rows * columns);
  for (let from = 0, to = 0; from < data.length; from += 4, to += 3) {
    out[to] = data[from];
    out[to + 1] = data[from + 1];
    out[to + 2] = data[from + 2];
  }
  return { rows, columns, data: out };
}

async function open() {
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(THREADS, navigator.hardwareConcurrency ?? 1) : 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  ort.env.wasm.wasmBinary = (await load("ort/ort-wasm-simd-threaded.wasm")).buffer;
  ort.env.logLevel = "error";
  grader = await RopGrader.open(ort, load, { executionProviders: ["wasm"] });
  const test = await selfTest(grader, load);
  postMessage({ kind: "ready", card: grader.card, limit: grader.likeness?.limit ?? null, ...test });
}

async function judge({ number, file }) {
  const start = performance.now();
  try {
    const finding = await grader.grade(new Uint8Array(await file.arrayBuffer()), { byBrowser: decodeByBrowser });
    postMessage({ kind: "finding", number, seconds: (performance.now() - start) / 1000, ...finding });
  } catch (error) {
    const known = error instanceof PhotographError;
    const reason = known ? error.message : `The page failed on it (${error.message}).`;
    postMessage({ kind: "finding", number, status: "failed", seconds: (performance.now() - start) / 1000, reason });
  }
}

let queue = open().catch((error) => postMessage({ kind: "broken", reason: error.message }));
onmessage = ({ data }) => {
  queue = queue.then(() => judge(data));
};
