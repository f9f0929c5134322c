/* The page: files in, answers, pictures and a table out. Nothing is sent anywhere; all that is fetched is fetched when it loads. */

const FULL_SCALE = 4; // logit difference that is drawn in full colour, as in the program's reports
const STRONGEST = 0.78, RISE = 0.6, DARK = 10, NEAR = 0.05, MAX_SHARE_BEYOND = 0.25, MAX_CHANCE = 0.05;
// viridis (van der Walt and Smith 2015) from a third of its way on, at equal steps
const COLOURS = [[52, 96, 141], [41, 121, 142], [32, 144, 140], [53, 183, 121], [109, 205, 89], [180, 222, 44], [253, 231, 37]];
const COLUMNS = ["file", "status", "reason", "p_rop", "rop", "p_tr", "treatment_requiring", "quality", "seconds"];

const byId = (id) => document.getElementById(id);
const words = await (await fetch("words.json")).json();
let language = navigator.language.startsWith("zh") ? "zh" : "en";
let ready = null; // what the worker said when it was ready
let broken = "";
const photographs = []; // {file, row, finding}

const say = (name, values = {}) => fill(words[language].page[name], values);
const fill = (text, values) => Object.entries(values).reduce((said, [key, value]) => said.replaceAll(`{${key}}`, value), text);

/* A worker from a blob keeps to this page's content policy; one from an address would have its own. */
const start = new Blob([`import ${JSON.stringify(new URL("worker.js", import.meta.url).href)};`], { type: "text/javascript" });
const worker = new Worker(URL.createObjectURL(start), { type: "module" });
worker.onerror = (event) => {
  broken = event.message || "the worker did not start";
  showState();
};
worker.onmessage = ({ data }) => {
  if (data.kind === "ready") ready = data;
  else if (data.kind === "broken") broken = data.reason;
  else {
    photographs[data.number].finding = data;
    drawRow(photographs[data.number]);
  }
  show();
};

function show() {
  showState();
  const usable = ready && !ready.faults.length;
  byId("drop").hidden = !usable;
  byId("about").hidden = !usable;
  byId("answers").hidden = !photographs.some(Boolean);
  if (usable) showFacts();
  showCounts();
}

function showState() {
  const state = byId("state"), faults = ready?.faults ?? [];
  const kind = broken || faults.length ? "bad" : ready ? "good" : "";
  const text = broken ? say("broken", { reason: broken }) : faults.length ? say("faults", { fault: faults[0] }) : ready ? say("ready", { n: ready.lines.length - 1 }) : say("loading");
  if (state.textContent !== text) state.textContent = text;
  state.className = `notice ${kind}`;
}

function showFacts() {
  const { card } = ready, [stage] = card.stages;
  const facts = {
    bundle: `${card.name}, ${card.created}, fundoscope ${card.fundoscope}`, for: card.intended_use, trained: card.trained_on.join("; "),
    never: card.never_tested_on.join("; "), threshold: `${stage.operating_point.threshold.toFixed(3)}: ${stage.operating_point.rule}`,
    threads: globalThis.crossOriginIsolated ? say("several") : say("one"),
  };
  byId("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", say(`fact_${name}`)), element("dd", value)]));
}

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
}

/* Which end a photograph came to: suspect, nothing, rejected, failed; waiting. */
function endOf({ finding }) {
  if (!finding) return "waiting";
  return finding.status === "ok" ? (finding.rop ? "suspect" : "nothing") : finding.status;
}

function reasonOf({ finding }, spoken = language) {
  if (!finding) return "";
  if (finding.reason) return finding.reason;
  const { reasons, numbers, many } = words[spoken];
  const values = { fields: numbers[finding.measures.fields] ?? many };
  const said = [...finding.codes, ...finding.warnings].map((code) =>
    fill(reasons[code].replace("{diameter:.0f}", finding.measures.diameter_px.toFixed(0)), values));
  return [...said, finding.remark].filter(Boolean).join(" ");
}

function showCounts() {
  const seen = photographs.filter(Boolean), done = seen.filter((each) => each.finding), progress = byId("progress");
  progress.hidden = done.length === seen.length;
  [progress.max, progress.value] = [seen.length || 1, done.length];
  const ends = ["suspect", "nothing", "rejected", "failed"].map((end) => [say(`count_${end}`), done.filter((each) => endOf(each) === end).length]);
  byId("counts").textContent = ends.filter(([, n]) => n).map(([name, n]) => `${name}: ${n}`).join(" · ");
  const measured = done.filter((each) => each.finding.distance != null), beyond = measured.filter((each) => each.finding.distance > ready.limit);
  byId("warning").hidden = !isUnlike(measured.length, beyond.length);
  byId("warning").textContent = say("unlike", { beyond: beyond.length, all: measured.length });
}

/* Whether so many of n photographs beyond the limit are no chance: the tail of a binomial. */
function isUnlike(n, beyond) {
  if (!n || beyond <= MAX_SHARE_BEYOND * n) return false;
  let tail = 0, term = (1 - NEAR) ** n;
  for (let k = 0; k <= n; k++) {
    if (k >= beyond) tail += term;
    term *= ((n - k) / (k + 1)) * (NEAR / (1 - NEAR));
  }
  return tail <= MAX_CHANCE + 1e-9;
}

function addFiles(files) {
  for (const file of files) {
    const number = photographs.length, photograph = { file, row: document.createElement("tr"), finding: null };
    photographs.push(photograph);
    byId("rows").append(photograph.row);
    drawRow(photograph);
    worker.postMessage({ number, file });
  }
  show();
}

function drawRow(photograph) {
  const { finding, row, file } = photograph, end = endOf(photograph), name = element("td");
  row.className = end;
  if (finding?.square) {
    const open = element("button", "", "open"), picture = document.createElement("canvas");
    open.type = "button";
    drawSquare(picture, finding.square);
    picture.setAttribute("aria-hidden", "true");
    open.append(picture, element("span", file.name, "file"));
    open.onclick = () => view(photograph);
    name.append(open);
  } else name.append(element("span", file.name, "file"));
  const number = (value, digits, label) => {
    const cell = element("td", value == null ? "" : value.toFixed(digits), "number");
    cell.dataset.label = say(label);
    return cell;
  };
  const answer = element("td");
  answer.append(element("span", say(`end_${end}`), `tag ${end}`));
  row.replaceChildren(name, answer, number(finding?.p, 3, "probability"), number(finding?.quality, 2, "quality"), element("td", reasonOf(photograph), "reason"));
}

// --- pictures

function drawSquare(canvas, { rows, columns, data }, tint = null) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d"), picture = context.createImageData(columns, rows);
  for (let k = 0; k < rows * columns; k++) {
    const [share, colour] = tint ? tint(k) : [0, [0, 0, 0]];
    for (let c = 0; c < 3; c++) picture.data[4 * k + c] = data[3 * k + c] * (1 - share) + colour[c] * share;
    picture.data[4 * k + 3] = 255;
  }
  context.putImageData(picture, 0, 0);
}

function colourOf(strength) {
  const at = Math.min(0.999, strength) * (COLOURS.length - 1), k = Math.floor(at);
  return COLOURS[k].map((value, c) => value + (COLOURS[k + 1][c] - value) * (at - k));
}

/* Positive evidence laid over the square, linear between the places of the map; the black surround stays. */
function tintOf({ square, activation }) {
  const [, high, wide] = activation.shape, values = activation.data.map((value) => Math.max(0, value));
  const full = Math.max(FULL_SCALE, ...values), { rows, columns, data } = square;
  const places = (length, count) => Array.from({ length }, (_, k) => {
    const at = Math.min(count - 1, Math.max(0, ((k + 0.5) * count) / length - 0.5)), first = Math.floor(at);
    return [first, Math.min(count - 1, first + 1), at - first];
  });
  const down = places(rows, high), across = places(columns, wide);
  return (k) => {
    if (Math.max(data[3 * k], data[3 * k + 1], data[3 * k + 2]) <= DARK) return [0, [0, 0, 0]];
    const [top, bottom, y] = down[Math.floor(k / columns)], [left, right, x] = across[k % columns];
    const line = (row) => values[row * wide + left] * (1 - x) + values[row * wide + right] * x;
    const strength = (line(top) * (1 - y) + line(bottom) * y) / full;
    return [STRONGEST * strength ** RISE, colourOf(strength)];
  };
}

function view(photograph) {
  const { finding, file } = photograph;
  byId("viewer-name").textContent = file.name;
  drawSquare(byId("plain"), finding.square);
  const any = finding.activation?.data.some((value) => value > 0);
  byId("evidence").hidden = !any;
  if (any) drawSquare(byId("tinted"), finding.square, tintOf(finding));
  const p = finding.p == null ? "" : ` ${say("probability")} ${finding.p.toFixed(3)}.`;
  const none = finding.activation && !any ? say("no_evidence") : "";
  byId("viewer-answer").textContent = `${say(`end_${endOf(photograph)}`)}.${p} ${none} ${reasonOf(photograph)}`;
  byId("viewer").showModal();
}

// --- the table as a file

function csvOf(list) {
  const cell = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const number = (value) => (value == null ? "" : String(Math.round(1e4 * value) / 1e4)), word = (value) => (value == null ? "" : value ? "yes" : "no");
  const rows = list.map((photograph) => {
    const { finding: f, file } = photograph;
    return [file.name, f.status, reasonOf(photograph, "en"), number(f.p), word(f.rop), number(f.pTreatment), word(f.treatment), number(f.quality), number(f.seconds)];
  });
  return [COLUMNS, ...rows].map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";
}

byId("save").onclick = () => {
  const link = document.createElement("a"), table = csvOf(photographs.filter((each) => each?.finding));
  link.href = URL.createObjectURL(new Blob([table], { type: "text/csv" }));
  link.download = "results.csv";
  link.click();
  URL.revokeObjectURL(link.href);
};

byId("clear").onclick = () => {
  photographs.forEach((each, number) => each?.finding && delete photographs[number]);
  byId("rows").replaceChildren(...photographs.filter(Boolean).map((each) => each.row));
  show();
  byId("files").focus();
};

// --- how files come in

byId("files").onchange = (event) => {
  addFiles(event.target.files);
  event.target.value = "";
};
for (const kind of ["dragover", "dragleave", "drop"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragover" && !byId("drop").hidden);
    if (kind === "drop" && !byId("drop").hidden) addFiles(event.dataTransfer.files);
  });
addEventListener("paste", (event) => !byId("drop").hidden && addFiles(event.clipboardData.files));

byId("close").onclick = () => byId("viewer").close();
byId("viewer").onclick = (event) => event.target === byId("viewer") && byId("viewer").close();

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = { zh: "zh-Hans", en: "en" }[language];
  const other = language === "en" ? "zh" : "en";
  Object.assign(byId("language"), { textContent: { en: "English", zh: "中文" }[other], lang: { zh: "zh-Hans", en: "en" }[other] });
  for (const place of document.querySelectorAll("[data-word]")) place.textContent = say(place.dataset.word);
  document.title = `Fundoscope: ${say("title")}`;
  photographs.filter(Boolean).forEach(drawRow);
  show();
}

byId("language").onclick = () => speak(language === "en" ? "zh" : "en");
drawLegend();
speak(language);

function drawLegend() {
  const context = byId("legend").getContext("2d");
  for (let x = 0; x < 160; x++) {
    context.fillStyle = `rgb(${colourOf(x / 160).map(Math.round).join(" ")})`;
    context.fillRect(x, 0, 1, 8);
  }
}
