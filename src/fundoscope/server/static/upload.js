// The technician's page: photographs go to the room one by one, and the page shows what becomes of them while they are judged.
"use strict";

const live = document.getElementById("live");
const form = document.getElementById("upload");
const AT_ONCE = 3; // requests under way
const TRIES = 5; // of one file while the room cannot be reached

// --- sending

const queue = [];
let sending = 0;
const totals = { accepted: 0, already: 0, refused: 0 };

/** Put files into the queue, each with the path that tells its folder. */
function enqueue(files) {
  const most = Number(form.dataset.fileBytes);
  for (const { file, path } of files) {
    const item = { file, path, tries: 0, line: addLine(path) };
    const limit = /\.zip$/i.test(path) ? Number(form.dataset.uploadBytes) : most;
    if (file.size > limit) settle(item, "refused", form.dataset.large.replace("{most}", Math.floor(limit / 2 ** 20)));
    else queue.push(item);
  }
  if (files.length) document.getElementById("receipt").hidden = false;
  pump();
}

function pump() {
  while (sending < AT_ONCE && queue.length) {
    sending += 1;
    send(queue.shift());
  }
}

function send(item) {
  const request = new XMLHttpRequest();
  const body = new FormData();
  body.append("photographs", item.file, item.path);
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.setRequestHeader("X-CSRF-Token", window.room.csrf);
  request.upload.onprogress = (event) => {
    if (!event.lengthComputable) return;
    item.line.bar.max = event.total;
    item.line.bar.value = event.loaded;
    item.line.state.textContent = form.dataset.sending.replace("{percent}", Math.floor((100 * event.loaded) / event.total));
  };
  request.onload = () => answered(item, request);
  request.onerror = () => later(item, 2 ** item.tries, form.dataset.failed);
  request.send(body);
}

function answered(item, request) {
  if (request.status === 401) return location.reload();
  let told = {};
  try {
    told = JSON.parse(request.responseText);
  } catch {
    /* an answer of something between us and the room */
  }
  if (request.status === 429 || request.status === 503) {
    const seconds = Number(request.getResponseHeader("Retry-After")) || 5;
    item.tries = 0;
    return later(item, seconds, form.dataset.busy);
  }
  if (request.status >= 500) return later(item, 2 ** item.tries, form.dataset.failed);
  done();
  if (request.status >= 300) return settle(item, "refused", told.detail || String(request.status));
  told.items.forEach((each, index) => {
    const line = index === 0 ? item.line : addLine(each.file, item.line.row);
    line.name.textContent = each.file;
    settle({ line }, each.outcome, [each.reason, each.remark].filter(Boolean).join(" "));
  });
  if (!told.items.length) item.line.row.remove();
  refresh();
}

/** Try again after some seconds; give up after the last try, with a button. */
function later(item, seconds, text) {
  done();
  item.tries += 1;
  item.line.state.textContent = text.replace("{seconds}", seconds);
  if (item.tries >= TRIES) {
    item.line.state.textContent = form.dataset.gaveUp;
    const again = document.createElement("button");
    again.type = "button";
    again.className = "button small";
    again.textContent = form.dataset.again;
    again.onclick = () => {
      again.remove();
      item.tries = 0;
      queue.push(item);
      pump();
    };
    item.line.row.append(again);
    return;
  }
  setTimeout(() => {
    queue.push(item);
    pump();
  }, 1000 * seconds);
}

function done() {
  sending -= 1;
  queueMicrotask(pump);
}

/** A line of the receipt. */
function addLine(name, after) {
  const row = document.createElement("li");
  const label = document.createElement("span");
  const state = document.createElement("span");
  const bar = document.createElement("progress");
  label.className = "file";
  label.textContent = name;
  state.className = "note";
  state.textContent = form.dataset.queued;
  bar.value = 0;
  row.append(label, state, bar);
  if (after) after.after(row);
  else document.getElementById("receipt-files").append(row);
  return { row, name: label, state, bar };
}

function settle(item, outcome, reason) {
  const { row, state, bar } = item.line;
  const names = { accepted: form.dataset.accepted, already: form.dataset.already, refused: form.dataset.refusedFile };
  bar.remove();
  row.className = outcome;
  state.className = `tag ${{ accepted: "signed", already: "plain", refused: "urgent" }[outcome]}`;
  state.textContent = names[outcome];
  if (reason) {
    const text = document.createElement("p");
    text.className = "reason note";
    text.textContent = reason;
    row.append(text);
  }
  totals[outcome] += 1;
  document.getElementById("receipt-summary").textContent = form.dataset.summary.replace(/\{(\w+)\}/g, (_, key) => totals[key]);
}

// --- choosing and dropping

/** Files of dropped entries, folders opened. */
async function filesOf(entries) {
  const found = [];
  const open = async (entry, prefix) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      found.push({ file, path: prefix + entry.name });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (!part.length) return;
      for (const each of part) await open(each, `${prefix}${entry.name}/`);
    }
  };
  for (const entry of entries) await open(entry, "");
  return found.filter(({ path }) => !path.split("/").some((part) => part.startsWith(".")));
}

if (form) {
  form.classList.add("scripted");
  const folder = document.getElementById("folder");
  folder.disabled = folder.hidden = false;
  form.querySelector(".with-script").hidden = false;
  for (const input of [document.getElementById("files"), folder]) {
    input.addEventListener("change", () => {
      enqueue([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
      input.value = "";
    });
  }
  let inside = 0; // how many elements of the form the pointer has entered and not left
  const over = (on) => form.classList.toggle("over", on);
  document.addEventListener("dragover", (event) => event.preventDefault()); // a file beside the form must not leave the page
  document.addEventListener("drop", (event) => event.preventDefault());
  form.addEventListener("dragenter", () => over(++inside > 0));
  form.addEventListener("dragleave", () => over(--inside > 0));
  form.addEventListener("drop", async (event) => {
    event.preventDefault();
    over((inside = 0) > 0);
    const entries = [...event.dataTransfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
    if (entries.length) enqueue(await filesOf(entries));
    else enqueue([...event.dataTransfer.files].map((file) => ({ file, path: file.name })));
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("beforeunload", (event) => {
    if (sending || queue.length) event.preventDefault();
  });
}

// --- the page while photographs are judged

let version = document.getElementById("exam-parts").dataset.version;
let asking = false;
let wanted = false;
let waits = false; // for somebody to leave a form

/** Whether somebody is at work there: a form that is open must not be taken away. */
const isInUse = (part) => Boolean(part.contains(document.activeElement) && document.activeElement.closest("details[open]"));

/** Exchange the parts of the page that have changed. */
async function refresh() {
  if (asking) {
    wanted = true;
    return;
  }
  asking = true;
  try {
    const answer = await fetch(`/exams/${live.dataset.exam}/photographs`, { headers: { "X-Automatic": "1", Accept: "text/html" } });
    if (answer.status === 401 || answer.redirected) return location.reload();
    if (!answer.ok) return;
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    waits = false;
    for (const part of live.querySelectorAll("[data-part]")) {
      const other = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
      if (!other || other.isEqualNode(part)) continue;
      if (isInUse(part)) {
        waits = true;
        continue;
      }
      part.replaceWith(other);
    }
    if (!waits) version = fresh.getElementById("exam-parts").dataset.version;
  } catch {
    /* the next event asks again */
  } finally {
    asking = false;
    if (wanted) {
      wanted = false;
      setTimeout(refresh, 200);
    }
  }
}

const events = new EventSource(`/exams/${live.dataset.exam}/events`);
events.addEventListener("exam", (event) => {
  const told = JSON.parse(event.data);
  if (told.version !== version) refresh();
});
document.addEventListener("focusout", () => waits && setTimeout(refresh, 300));

// Forms of single photographs are sent without leaving the page.
live.addEventListener("submit", async (event) => {
  const sent = event.target;
  if (sent.hasAttribute("data-leaves")) return;
  event.preventDefault();
  const answer = await fetch(sent.action, {
    method: "POST", body: new URLSearchParams(new FormData(sent)), headers: { Accept: "application/json", "X-CSRF-Token": window.room.csrf },
  }).catch(() => null);
  if (answer?.status === 401) return location.reload();
  const told = await answer?.json().catch(() => null);
  window.room.say(told?.message || told?.detail || document.body.dataset.unreachable, answer?.ok ? "good" : "bad");
  if (!answer?.ok) return;
  sent.closest("details")?.removeAttribute("open");
  if (sent.contains(document.activeElement)) document.activeElement.blur(); // who has gone on meanwhile stays there
  refresh();
});
