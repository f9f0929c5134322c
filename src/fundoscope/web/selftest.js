/* Golden vectors: whether this runtime and these steps give the numbers of the bundle's makers. */

import { digest } from "./grader.js";
import { cutSquare } from "./square.js";
import { decode } from "./decode.js";

const ROUNDING = 1e-4, STEPS = 0.02, TENSOR = 0.03, SAMPLES = 64; // as `bundles/golden.py` has them
const PROBABILITY = { equal: 1e-4, other: 0.01 };

/* The places of the samples in an array: 64 at equal distances. */
function samplePlaces(size) {
  const count = Math.min(size, SAMPLES), places = new Set();
  for (let k = 0; k < count; k++) {
    const at = count > 1 ? (k * (size - 1)) / (count - 1) : 0, floor = Math.floor(at);
    places.add(at - floor === 0.5 ? floor + (floor % 2) : Math.round(at));
  }
  return [...places];
}

function difference(record, data) {
  const size = record.shape.reduce((a, b) => a * b, 1);
  if (data.length !== size) return Infinity;
  return Math.max(...samplePlaces(size).map((place, k) => Math.abs(data[place] - record.samples[k])));
}

/*
 * {lines, faults}: every comparison in words, and those that fail. Of a picture whose tensor is the golden one to the last bit,
 * answers may differ by ROUNDING of the largest golden value, in INT8 too: its sums are whole numbers, in WebAssembly as on
 * processors with VNNI. Another tensor, which another JPEG decoder made, may lead away by STEPS.
 */
export async function selfTest(grader, load) {
  const golden = JSON.parse(new TextDecoder().decode(await load("golden.json"))), lines = [], faults = [];
  const note = (what, found, most) => {
    const line = `${what}: differs by ${found.toPrecision(2)} at most, allowed are ${most.toPrecision(2)}`;
    lines.push(line);
    if (!(found <= most)) faults.push(line);
  };
  let equal = 0;
  for (const picture of golden.pictures) {
    const bytes = await load(picture.file);
    const square = picture.kind === "square" ? await decode(bytes) : cutSquare(await grader.prepare(bytes), grader.card.standard.size);
    const tensor = grader.tensorOf(square), same = (await digest(new Uint8Array(tensor.buffer))) === picture.tensor.sha256;
    if (same) equal++;
    note(`${picture.file}: picture to tensor`, difference(picture.tensor, tensor), picture.kind === "square" ? 0 : TENSOR);
    const output = await grader.run(tensor), share = same ? ROUNDING : STEPS;
    for (const [name, record] of Object.entries(picture.outputs[grader.file])) {
      const most = share * Math.max(...record.samples.map(Math.abs));
      note(`${picture.file}: ${grader.file}, ${name}`, difference(record, output[name].data), most);
    }
    const p = grader.probability(output.logits.data), expected = grader.probability(picture.outputs[grader.file].logits.samples);
    note(`${picture.file}: probability ${p.toFixed(4)}, golden ${expected.toFixed(4)}`, Math.abs(p - expected), same ? PROBABILITY.equal : PROBABILITY.other);
    if (grader.decide(p) !== grader.decide(expected)) faults.push(`${picture.file}: another decision`);
  }
  lines.push(`${equal} of ${golden.pictures.length} tensors are equal to the last bit`);
  return { lines, faults };
}
