/*
 * A bundle of the grader of infants' photographs, opened on ONNX Runtime, and what it says of a photograph.
 *
 * `ort` is the module onnxruntime-node or onnxruntime-web; `load(name)` gives the bytes of a file of the exported folder.
 */

import { enhance, toTensor } from "./enhance.js";
import { QualityJudge } from "./quality.js";
import { JUDGED_SIDE, cutSquare, frameAround, prepare } from "./square.js";

const SCHEMA_VERSION = 5;
const OUTPUTS = [["logits", "activation"], ["second_logits", "second_activation"]];

export class RopGrader {
  constructor(card, file, session, judge, ort, likeness = null) {
    Object.assign(this, { card, file, session, judge, ort, likeness });
  }

  /* Reads and checks what `load` gives; `options` are ONNX Runtime's for its sessions. Throws where a file was changed. */
  static async open(ort, load, options = {}) {
    const read = async (name) => JSON.parse(new TextDecoder().decode(await load(name)));
    const card = await read("bundle.json");
    if (card.task !== "rop" || card.schema_version > SCHEMA_VERSION || card.standard.view !== "field" || card.standard.clahe_when === "before resize")
      throw new Error("bundle.json: of a kind that these steps do not know. Export the bundle anew.");
    const file = ["model.int8.onnx", "model.fp32.onnx"].find((name) => name in card.files);
    const network = await checked(load, file, card.files[file].sha256);
    const quality = await read("quality_network.json"), table = await read("quality_table.json");
    const small = await checked(load, quality.file, quality.sha256);
    const [session, judging] = [await ort.InferenceSession.create(network, options), await ort.InferenceSession.create(small, options)];
    const likeness = "likeness.json" in card.files ? await read("likeness.json") : null;
    return new RopGrader(card, file, session, new QualityJudge(table, quality, judging, ort.Tensor), ort, likeness);
  }

  /* The photograph of a file's bytes with its field. Throws `PhotographError`. */
  prepare(bytes, byBrowser = null) {
    return prepare(bytes, Math.max(this.card.standard.size, JUDGED_SIDE), byBrowser);
  }

  tensorOf(square) {
    return toTensor(enhance(square, this.card.standard), this.card.standard);
  }

  /* Every output of the network, by name. */
  async run(tensor) {
    const size = this.card.standard.size, input = new this.ort.Tensor("float32", tensor, [1, 3, size, size]);
    const output = await this.session.run({ photograph: input });
    const pairs = OUTPUTS.slice(0, this.card.stages.length).flat().map((name) => [name, output[name]]);
    if (!pairs.every(([, value]) => value.data.every(Number.isFinite))) throw new Error("the network gave a number that is not finite");
    return Object.fromEntries(pairs.map(([name, value]) => [name, { shape: value.dims, data: value.data }]));
  }

  /* Calibrated probability of the positive class of a stage. */
  probability(logits, stage = 0) {
    return 1 / (1 + Math.exp(-(logits[1] - logits[0]) / this.card.stages[stage].temperature));
  }

  decide(probability, stage = 0) {
    return probability >= this.card.stages[stage].operating_point.threshold;
  }

  /*
   * {status, codes, warnings, remark, p, rop, pTreatment, treatment, quality, distance, square, activation, place, shape} of a
   * file's bytes; `withSimulated` also answers the question of treatment where that was learnt from simulated eyes only.
   */
  async grade(bytes, { byBrowser = null, withSimulated = false } = {}) {
    const photograph = await this.prepare(bytes, byBrowser), verdict = await this.judge.judge(photograph, "infant");
    const square = cutSquare(photograph, this.card.standard.size), frame = frameAround(photograph.field);
    const finding = {
      status: "rejected", codes: verdict.codes, warnings: verdict.warnings, remark: photograph.remark, quality: verdict.score,
      measures: verdict.measures, distance: this.distance(verdict.measures), square, activation: null, shape: photograph.shape, place: frame,
      p: null, rop: null, pTreatment: null, treatment: null,
    };
    if (!verdict.gradable) return finding;
    const output = await this.run(this.tensorOf(square)), p = this.probability(output.logits.data), rop = this.decide(p);
    Object.assign(finding, { status: "ok", p, rop, activation: output.activation });
    const asked = this.card.stage2 === "real" || (this.card.stage2 === "simulated" && withSimulated);
    if (rop && asked && output.second_logits) {
      finding.pTreatment = this.probability(output.second_logits.data, 1);
      finding.treatment = this.decide(finding.pTreatment, 1);
    }
    return finding;
  }

  /* How far a photograph lies from those that the bundle learnt from (beyond `likeness.limit`: further than 95 % of them). */
  distance(measures) {
    if (!this.likeness) return null;
    const { names, mean, deviation, whitening } = this.likeness;
    const z = names.map((name, k) => Math.min(8, Math.max(-8, (measures[name] - mean[k]) / deviation[k])));
    const far = whitening.map((row) => row.reduce((sum, value, k) => sum + value * z[k], 0));
    return Math.sqrt(far.reduce((sum, value) => sum + value * value, 0) / far.length);
  }
}

/* A file's bytes; throws where their SHA-256 is another (where the page is not served safely, browsers cannot compute it). */
async function checked(load, name, sha256) {
  const bytes = await load(name);
  const found = await digest(bytes);
  if (found !== null && found !== sha256) throw new Error(`${name} was changed or damaged. Export the bundle anew.`);
  return bytes;
}

/* SHA-256 in hexadecimal; null where it cannot be computed. */
export async function digest(bytes) {
  const { subtle } = globalThis.crypto ?? {};
  if (!subtle) return null;
  const sum = new Uint8Array(await subtle.digest("SHA-256", bytes));
  return [...sum].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
