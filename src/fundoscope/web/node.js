#!/usr/bin/env node
/*
 * The steps in Node: the self-test of an exported folder, and the answers to photographs, a line of JSON each.
 *
 *     npm install --ignore-scripts onnxruntime-node        (beside this file, or in a folder above)
 *     node node.js [PHOTOGRAPH...]
 */

import { webcrypto } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { RopGrader } from "./grader.js";
import { selfTest } from "./selftest.js";

globalThis.crypto ??= webcrypto; // Node 18
const folder = process.env.FUNDOSCOPE_FOLDER ?? dirname(fileURLToPath(import.meta.url));
const load = async (name) => new Uint8Array(await readFile(join(folder, basename(name))));
const ort = createRequire(pathToFileURL(join(process.cwd(), "here.js")))("onnxruntime-node");
const grader = await RopGrader.open(ort, load, { intraOpNumThreads: 1, interOpNumThreads: 1 });

if (process.argv.length < 3) {
  const { lines, faults } = await selfTest(grader, load);
  console.log([...lines, ...faults.map((fault) => `FAULT: ${fault}`), faults.length ? "FAILED" : "passed"].join("\n"));
  process.exitCode = faults.length ? 3 : 0;
}
for (const path of process.argv.slice(2)) {
  let answer;
  try {
    const { square, activation, measures, ...rest } = await grader.grade(new Uint8Array(await readFile(path)));
    answer = process.env.FUNDOSCOPE_MEASURES ? { ...rest, measures } : rest;
  } catch (error) {
    answer = { status: "failed", reason: error.message };
    process.exitCode = 1;
  }
  console.log(JSON.stringify({ file: path, ...answer }));
}
