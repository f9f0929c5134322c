/* May this photograph be graded at all? The verdict on its quality, before any grader sees it: `imaging/quality.py` in JavaScript. */

import { measure } from "./measures.js";
import { halved } from "./resample.js";
import { JUDGED_SIDE, cutSquare } from "./square.js";

const MIN_DIAMETER = 200, MIN_BRIGHTNESS = 30, MAX_SATURATED = 0.6, MIN_VISIBLE = 0.35, MIN_LIT = 0.45, MAX_BLUER = 0.03;

/* Numbers that were fitted: `machines` (quality_table.json's models), and the small network with its card. */
export class QualityJudge {
  constructor(table, card, session, Tensor) {
    Object.assign(this, { machines: table.models, card, session, Tensor });
  }

  /* {gradable, score, codes, warnings, measures} of a prepared photograph, for a grader of `expects` ("infant" or "adult"). */
  async judge(photograph, expects) {
    const square = cutSquare(photograph, JUDGED_SIDE), { field } = photograph, m = measure(square, field);
    for (const name of Object.keys(this.machines)) m[`p_${name}`] = probability(this.machines[name], m);
    m.fields = field.count;
    const fault = (field.count > 1 && "several_fields") || (field.brightBorder && "bright_border") || faultOfLight(m);
    let codes = fault ? [fault] : this.faults(m, isNarrow(field, m), expects);
    if (codes[0] === "not_a_retina" && codes.length === 1 && (await this.seesRetina(square, m.p_retina))) codes = ["enhanced"];
    const warnings = this.looksSwapped(square, field, m, codes) ? ["swapped_channels"] : [];
    return { gradable: !codes.length, score: scoreOf(m), codes, warnings, measures: m };
  }

  /* The first thing wrong; width is mentioned beside it, since both are mended by one more photograph. */
  faults(m, narrow, expects) {
    const { retina, sharp, infant } = this.machines, isSharp = m.p_sharp >= sharp.threshold;
    if (m.p_retina < retina.threshold) return [isSharp ? "not_a_retina" : "no_detail"];
    const codes = [...(isSharp ? [] : ["out_of_focus"]), ...(narrow ? ["too_narrow"] : [])];
    const kind = m.p_infant >= infant.upper ? "infant" : m.p_infant < infant.threshold ? "adult" : null;
    if (!codes.length && kind && kind !== expects) codes.push(`${kind}_eye`);
    return codes;
  }

  /* Whether the network and the measurements together see a retina. */
  async seesRetina(square, measured) {
    let small = square;
    while (small.rows > this.card.side) small = halved(small);
    const input = new this.Tensor("uint8", small.data, [1, small.rows, small.columns, 3]);
    const output = await this.session.run({ squares: input }), found = Object.values(output)[0].data;
    const [a, b, offset] = this.card.weights, retina = found[this.card.questions.indexOf("retina")];
    return logistic(a * logit(retina) + b * logit(measured) + offset) >= this.card.limit;
  }

  /* Whether red and blue look exchanged: more blue than red; and where no retina was seen, one is after exchanging them. */
  looksSwapped(square, field, m, codes) {
    if (m.red_green + m.green_blue >= -MAX_BLUER) return false;
    if (!codes.length || codes.includes("out_of_focus") || codes.includes("too_narrow")) return true;
    if (!["not_a_retina", "enhanced", "no_detail", "adult_eye", "infant_eye"].some((code) => codes.includes(code))) return false;
    const data = square.data.slice();
    for (let k = 0; k < data.length; k += 3) [data[k], data[k + 2]] = [data[k + 2], data[k]];
    const machine = this.machines.retina;
    return probability(machine, measure({ ...square, data }, field)) >= machine.threshold;
  }
}

function faultOfLight(m) {
  if (m.diameter_px < MIN_DIAMETER) return "too_small";
  if (m.brightness < MIN_BRIGHTNESS) return "too_dark";
  return m.saturated > MAX_SATURATED ? "overexposed" : null;
}

function isNarrow(field, m) {
  return field.found && (m.seen < MIN_VISIBLE || field.litShare < MIN_LIT);
}

function scoreOf(m) {
  const light = Math.min(1, Math.max(0, (m.brightness - 10) / 60)) * Math.min(1, (1 - m.saturated) / 0.7);
  return Math.round(1e4 * Math.min(m.p_retina, m.p_sharp) * light) / 1e4;
}

function logistic(x) {
  return 1 / (1 + Math.exp(-x));
}

function logit(p) {
  const cut = Math.min(1 - 1e-4, Math.max(1e-4, p));
  return Math.log(cut / (1 - cut));
}

/* A support vector machine with Gaussian kernels: its probability, 0 to 1, from measurements by name. */
export function probability(machine, measures) {
  const z = machine.names.map((name, k) => {
    const value = (measures[name] - machine.mean[k]) / machine.deviation[k];
    return Math.min(machine.limit, Math.max(-machine.limit, value));
  });
  let score = machine.offset;
  machine.points.forEach((point, i) => {
    let squared = 0;
    for (let k = 0; k < z.length; k++) squared += (point[k] - z[k]) ** 2;
    score += machine.weights[i] * Math.exp(-machine.gamma * squared);
  });
  return logistic(Math.max(-30, Math.min(30, machine.slope * score + machine.shift)));
}
