// The reader's page: photographs to zoom, findings beside them, a key for everything. Without scripts the form works, too.
"use strict";
(() => {
  const reader = document.getElementById("reader");
  if (!reader) return;
  const texts = reader.dataset;
  const adult = Boolean(texts.adult);
  const form = document.getElementById("reading");
  const told = document.getElementById("told");
  reader.classList.add("live");

  // --- photographs, as the thumbnails tell them
  const photographs = [...reader.querySelectorAll(".thumb")].map((link) => ({
    link, id: link.dataset.photograph, exam: link.dataset.exam, eye: link.dataset.eye, view: link.dataset.view,
    name: link.dataset.name, told: link.dataset.told, url: link.href,
    day: link.closest(".earlier")?.querySelector("summary time")?.textContent || "",
    map: link.dataset.map ? link.dataset.map.split(" ").map(Number) : null,
  }));
  const own = photographs.filter((one) => one.exam === texts.exam);
  const crossings = JSON.parse(document.getElementById("crossing-data")?.textContent || "{}");
  const filter = { redFree: false, contrast: 100, brightness: 100, map: 0 };

  /** One place for a photograph: OpenSeadragon with the map and the crossings laid over it. */
  class Pane {
    constructor(figure) {
      this.figure = figure;
      this.canvas = figure.querySelector(".canvas");
      this.caption = figure.querySelector("figcaption");
      this.items = new Map(); // photographs that were shown once stay, so that going back is instant
      this.shown = null;
      if (!window.OpenSeadragon) return;
      this.canvas.replaceChildren(); // the first photograph, for pages without scripts
      this.viewer = window.OpenSeadragon({
        element: this.canvas, drawer: "canvas", showNavigationControl: false, animationTime: 0.25, springStiffness: 14,
        immediateRender: true, visibilityRatio: 0.5, minZoomImageRatio: 0.7, maxZoomPixelRatio: 10,
        gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
        gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
      });
      this.viewer.addHandler("canvas-key", (event) => { event.preventDefaultAction = true; }); // keys are ours
      this.viewer.addHandler("resize", () => { if (this.fitted) requestAnimationFrame(() => this.fit(true)); });
      for (const name of ["zoom", "pan"]) this.viewer.addHandler(name, () => { if (!this.fitting) this.fitted = false; });
      this.viewer.addHandler("canvas-click", (event) => {
        if (!adding || !event.quick) return;
        event.preventDefaultAction = true;
        addCrossing(this, this.viewer.viewport.pointFromPixel(event.position));
      });
      this.viewer.canvas.setAttribute("role", "group");
      this.figure.addEventListener("pointerdown", () => activate(this), true);
    }

    show(photograph) {
      if (this.shown === photograph) return;
      this.shown = photograph;
      this.caption.textContent = photograph ? [photograph.name, photograph.day].filter(Boolean).join(" · ") : "";
      (this.viewer?.canvas || this.canvas).setAttribute("aria-label", this.caption.textContent);
      if (!this.viewer) {
        const picture = new Image();
        picture.alt = this.caption.textContent;
        if (photograph) picture.src = photograph.url;
        this.canvas.replaceChildren(...(photograph ? [picture] : []));
        return;
      }
      if (photograph) this.load(photograph);
      this.draw();
    }

    /** Have a photograph ready; one that is being looked at is drawn, and then the others of the exam are fetched. */
    load(photograph) {
      if (!this.viewer || this.items.has(photograph.id)) return;
      this.items.set(photograph.id, null);
      this.viewer.addTiledImage({
        tileSource: { type: "image", url: photograph.url, buildPyramid: true }, opacity: 0,
        success: ({ item }) => {
          this.items.set(photograph.id, item);
          if (this.shown === photograph) this.draw();
          const next = this === panes[0] && own.find((one) => !this.items.has(one.id));
          if (next) this.load(next);
        },
        error: () => { if (this.shown === photograph) told.textContent = texts.nopicture; },
      });
    }

    /** Show the item of the photograph, once it is there, with its layers; the one before stays until then. */
    draw() {
      const item = this.shown && this.items.get(this.shown.id);
      if (this.shown && !item) return;
      for (const each of this.items.values()) each?.setOpacity(each === item ? 1 : 0);
      this.viewer.clearOverlays();
      this.marks = [];
      if (!item) return;
      const { x: width, y: height } = item.getContentSize();
      this.size = { width, height };
      this.drawMap();
      this.drawMarks();
      this.fit(true);
      adjust();
    }

    drawMap() {
      if (!this.shown.map) return;
      const [left, top, width, height] = this.shown.map;
      const share = this.size.height / this.size.width;
      const layer = document.createElement("div");
      layer.className = "map-layer";
      const picture = new Image();
      picture.alt = "";
      picture.src = `/photographs/${this.shown.id}/activation`;
      layer.append(picture);
      this.viewer.addOverlay({ element: layer, location: new window.OpenSeadragon.Rect(left, top * share, width, height * share) });
      this.layer = layer;
    }

    drawMarks() {
      for (const number of Object.keys(crossings[this.shown.id] || {})) this.drawMark(number);
      paintMarks();
    }

    drawMark(number) {
      const one = crossings[this.shown.id][number];
      const mark = document.createElement("button");
      mark.type = "button";
      mark.className = "crossing-mark";
      mark.append(Object.assign(document.createElement("span"), { textContent: number }));
      mark.tabIndex = -1; // the list beside reaches them by keyboard
      mark.setAttribute("aria-label", texts.crossing.replace("{n}", number));
      this.viewer.addOverlay({
        element: mark, checkResize: false, placement: window.OpenSeadragon.Placement.CENTER,
        location: new window.OpenSeadragon.Point((one.col + 0.5) / this.size.width, (one.row + 0.5) / this.size.width),
      });
      new window.OpenSeadragon.MouseTracker({ element: mark, clickHandler: () => pick(number) });
      this.marks.push({ mark, number });
    }

    fit(now) {
      const item = this.shown && this.items?.get(this.shown.id);
      if (!item) return;
      this.fitting = true;
      this.viewer.viewport.fitBounds(item.getBounds(), now);
      this.fitting = false;
      this.fitted = true;
    }

    zoom(factor) {
      if (!this.viewer) return;
      this.viewer.viewport.zoomBy(factor);
      this.viewer.viewport.applyConstraints();
    }

    go(row, col) {
      if (!this.viewer || !this.size) return;
      const viewport = this.viewer.viewport;
      viewport.panTo(new window.OpenSeadragon.Point(col / this.size.width, row / this.size.width));
      if (viewport.getZoom() < 2.5 * viewport.getHomeZoom()) viewport.zoomTo(3 * viewport.getHomeZoom());
    }
  }

  // OpenSeadragon writes a style into the page unless it finds one; the policy of content refuses it, and style.css holds it.
  const found = document.createElementNS("urn:none", "style");
  found.setAttribute("data-openseadragon-mobile-css", "");
  document.head.append(found);

  const panesBox = document.getElementById("panes");
  const panes = [];
  for (const figure of panesBox.querySelectorAll(".pane")) panes.push(new Pane(figure));
  let active = panes[0];
  let layout = "one";
  let remembered = null; // the photograph of this exam that was looked at last

  function activate(pane) {
    active = pane;
    for (const each of panes) each.figure.classList.toggle("active", each === pane);
    paintThumbs();
    if (pane.shown) follow(pane.shown);
  }

  /** The photograph that belongs beside another one: the same view, else the same eye. */
  function partner(photograph) {
    if (layout === "eyes") {
      const others = own.filter((one) => one.eye && one.eye !== photograph.eye);
      return others.find((one) => one.view === photograph.view) || others[0] || null;
    }
    const before = photographs.filter((one) => one.exam !== texts.exam && one.eye === photograph.eye);
    return before.find((one) => one.view === photograph.view) || before[0] || null;
  }

  function choose(photograph) {
    if (!photograph) return;
    const mine = photograph.exam === texts.exam;
    if (mine) remembered = photograph;
    let at = 0;
    if (layout === "eyes") {
      at = photograph.eye === "left" ? 1 : 0;
      const other = mine ? partner(photograph) : null;
      if (other) panes[1 - at].show(other);
    } else if (layout === "earlier") {
      at = mine ? 0 : 1;
      if (mine) panes[1].show(partner(photograph));
      else if (!panes[0].shown) panes[0].show(own.find((one) => one.eye === photograph.eye && one.view === photograph.view) || own[0]);
    }
    panes[at].show(photograph);
    activate(panes[at]);
  }

  function follow(photograph) {
    told.textContent = photograph.told;
    document.querySelector('[data-only="map"]')?.toggleAttribute("hidden", !panes.some((pane) => pane.shown?.map));
    if (photograph.exam !== texts.exam) return;
    if (photograph.eye) setEye(photograph.eye);
    if (adult) listCrossings(photograph);
    if (adding) setAdding(true);
  }

  function paintThumbs() {
    for (const one of photographs) one.link.removeAttribute("aria-current");
    for (const pane of panes) {
      if (!pane.shown || (layout === "one" && pane !== panes[0])) continue;
      pane.shown.link.setAttribute("aria-current", pane === active ? "true" : "second");
    }
    const link = active.shown?.link;
    const strip = reader.querySelector(".strip");
    if (!link || (link.closest("details") && !link.closest("details").open)) return;
    const box = link.getBoundingClientRect();
    const frame = strip.getBoundingClientRect();
    if (box.top < frame.top) strip.scrollTop -= frame.top - box.top + 8;
    if (box.bottom > frame.bottom) strip.scrollTop += box.bottom - frame.bottom + 8;
    if (box.left < frame.left) strip.scrollLeft -= frame.left - box.left + 8;
    if (box.right > frame.right) strip.scrollLeft += box.right - frame.right + 8;
  }

  function setLayout(name) {
    if (name === "earlier" && !photographs.some((one) => one.exam !== texts.exam)) return;
    layout = layout === name ? "one" : name;
    panesBox.dataset.layout = layout;
    for (const button of reader.querySelectorAll("[data-layout]")) {
      if (button.matches("button")) button.setAttribute("aria-pressed", String(button.dataset.layout === layout));
    }
    choose(remembered || active.shown);
    requestAnimationFrame(() => panes.forEach((pane) => pane.fit(true)));
  }

  function step(by) {
    const row = active.shown ? photographs.filter((one) => one.exam === active.shown.exam) : own;
    const at = row.indexOf(active.shown);
    choose(row[Math.min(Math.max(at + by, 0), row.length - 1)]);
  }

  /** Contrast, brightness and red-free of the photographs; the map lies above them and keeps its colours. */
  function adjust() {
    const parts = [];
    if (filter.redFree) parts.push("url(#red-free)");
    if (filter.brightness !== 100) parts.push(`brightness(${filter.brightness / 100})`);
    if (filter.contrast !== 100) parts.push(`contrast(${filter.contrast / 100})`);
    for (const pane of panes) {
      const drawn = pane.viewer ? pane.viewer.drawer.canvas : pane.canvas.querySelector("img");
      if (drawn) drawn.style.filter = parts.join(" ");
      if (pane.layer) pane.layer.style.opacity = filter.map / 100;
    }
  }

  function setFilter(name, value) {
    filter[name] = value;
    const input = document.getElementById(name);
    if (input) input.value = value;
    if (name === "redFree") reader.querySelector('[data-filter="red-free"]').setAttribute("aria-pressed", String(value));
    adjust();
  }

  reader.querySelector(".strip").addEventListener("click", (event) => {
    const link = event.target.closest(".thumb");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    choose(photographs.find((one) => one.link === link));
  });
  reader.querySelector(".viewer-tools").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.layout) setLayout(button.dataset.layout);
    if (button.dataset.zoom) button.dataset.zoom === "fit" ? active.fit(false) : active.zoom(Number(button.dataset.zoom));
    if (button.dataset.filter) setFilter("redFree", !filter.redFree);
    if (button.dataset.reset !== undefined) reset();
    if (button.dataset.marks !== undefined) toggleMarks();
  });
  reader.querySelector(".viewer-tools").addEventListener("input", (event) => {
    if (event.target.type === "range") setFilter(event.target.id, Number(event.target.value));
  });

  function reset() {
    for (const [name, value] of [["redFree", false], ["contrast", 100], ["brightness", 100], ["map", 0]]) setFilter(name, value);
    panes.forEach((pane) => pane.fit(true));
  }

  // --- crossings of adults
  let crossing = null;

  function toggleMarks() {
    const off = panesBox.classList.toggle("marks-off");
    reader.querySelector("[data-marks]")?.setAttribute("aria-pressed", String(!off));
  }

  /** The name of a crossing's field; one that the reader has added is numbered +1, +2 and so on. */
  function fieldOf(photograph, number) {
    return number.startsWith("+") ? `added.${photograph}.${number.slice(1)}.grade` : `crossing.${photograph}.${number}`;
  }

  function gradeOf(photograph, number) {
    return form?.querySelector(`input[name="${fieldOf(photograph, number)}"]:checked`)?.value || "";
  }

  function paintMarks() {
    for (const pane of panes) {
      for (const { mark, number } of pane.marks || []) {
        const grade = gradeOf(pane.shown.id, number);
        mark.className = `crossing-mark${grade ? ` graded-${grade}` : ""}`;
        mark.setAttribute("aria-pressed", String(crossing?.number === number && crossing.photograph === pane.shown.id));
      }
    }
  }

  function listCrossings(photograph) {
    for (const list of reader.querySelectorAll(".crossing-list")) list.classList.toggle("active", list.dataset.photograph === photograph.id);
    if (crossing && crossing.photograph !== photograph.id) pick(null);
  }

  function pick(number, go = false) {
    const photograph = active.shown?.id;
    const one = number === null ? null : crossings[photograph]?.[number];
    crossing = one ? { photograph, number: String(number), ...one } : null;
    for (const row of reader.querySelectorAll(".crossing")) {
      const chosen = Boolean(one) && row.dataset.crossing === String(number) && row.parentElement.dataset.photograph === photograph;
      row.classList.toggle("chosen", chosen);
      if (chosen) row.scrollIntoView({ block: "nearest" });
    }
    if (one && go) active.go(one.row, one.col);
    drawDetail(one);
    paintMarks();
  }

  function stepCrossing(by) {
    const numbers = Object.keys(crossings[active.shown?.id] || {});
    if (!numbers.length) return;
    const at = crossing ? numbers.indexOf(crossing.number) + by : by > 0 ? 0 : numbers.length - 1;
    if (at >= 0 && at < numbers.length) pick(numbers[at], true);
  }

  // --- crossings that the tool has missed
  let adding = false; // a click, or Enter, marks one
  const addButton = document.getElementById("add-crossing");
  const placeOf = (row) => ["row", "col"].map((name) => row.querySelector(`input[name$=".${name}"]`));

  for (const box of reader.querySelectorAll(".by-place")) box.remove(); // for pages without scripts
  for (const row of reader.querySelectorAll(".crossing.added")) {
    const [down, across] = placeOf(row).map((input) => Number(input.value));
    (crossings[row.parentElement.dataset.photograph] ||= {})[row.dataset.crossing] = { row: down, col: across, pictures: [] };
  }

  function setAdding(on) {
    adding = on && Boolean(active.size && reader.querySelector(`.crossing-list[data-photograph="${active.shown?.id}"]`));
    panesBox.classList.toggle("adding", adding);
    addButton?.setAttribute("aria-pressed", String(adding));
    if (active.shown) told.textContent = adding ? texts.adding : active.shown.told;
    if (adding) active.viewer.canvas.focus({ preventScroll: true }); // the arrows and Enter are for the cross now
  }

  /** Put a crossing where a point of the viewport lies, and choose it, so that the next key grades it. */
  function addCrossing(pane, point) {
    const [row, col] = [point.y, point.x].map((share) => Math.round((share * pane.size.width - 0.5) * 10) / 10);
    if (row < 0 || col < 0 || row >= pane.size.height || col >= pane.size.width) {
      told.textContent = texts.beside;
      return;
    }
    const list = reader.querySelector(`.crossing-list[data-photograph="${pane.shown.id}"]`);
    if (!list) return;
    const known = (crossings[pane.shown.id] ||= {});
    const next = 1 + Math.max(0, ...Object.keys(known).filter((number) => number.startsWith("+")).map(Number));
    const made = document.createElement("template");
    made.innerHTML = document.getElementById("added-row").innerHTML
      .replaceAll("added.999.999", `added.${pane.shown.id}.${next}`).replaceAll("999", String(next)); // our own macro, numbers only
    const line = made.content.firstElementChild;
    for (const input of line.querySelectorAll("input[type=radio]")) input.dataset.was = "";
    placeOf(line).forEach((input, index) => { input.value = [row, col][index]; });
    list.append(line);
    known[`+${next}`] = { row, col, pictures: [] };
    for (const each of panes) if (each.shown?.id === pane.shown.id && each.size) each.drawMark(`+${next}`);
    setAdding(false);
    pick(`+${next}`);
    markUnsaved();
  }

  function takeAway(line) {
    const photograph = line.parentElement.dataset.photograph;
    const number = line.dataset.crossing;
    if (crossing?.number === number) pick(null);
    delete crossings[photograph][number];
    for (const pane of panes) {
      const found = pane.shown?.id === photograph && pane.marks?.find((one) => one.number === number);
      if (!found) continue;
      pane.viewer.removeOverlay(found.mark);
      pane.marks = pane.marks.filter((one) => one !== found);
    }
    line.remove();
    markUnsaved();
    preview();
    addButton.focus();
  }

  addButton?.addEventListener("click", () => setAdding(!adding));

  function drawDetail(one) {
    const box = document.getElementById("crossing-detail");
    if (!box) return;
    box.replaceChildren();
    if (!one) return;
    const patches = document.createElement("div");
    patches.className = "patches";
    for (const [url, alt] of one.pictures) {
      const picture = new Image();
      [picture.src, picture.alt, picture.title] = [url, alt, alt];
      patches.append(picture);
    }
    if (one.pictures.length) box.append(patches);
    if (one.profile) box.append(drawProfile(one));
    if (one.reason) {
      const line = document.createElement("p");
      line.textContent = one.reason;
      box.append(line);
    }
  }

  const SVG = "http://www.w3.org/2000/svg";
  function shape(parent, kind, attributes, text = "") {
    const made = document.createElementNS(SVG, kind);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.textContent = text;
    parent.append(made);
    return made;
  }

  /** The measured width of the vein on both sides of its artery; coordinates come from the grader. */
  function drawProfile(one) {
    const p = one.profile;
    const svg = document.createElementNS(SVG, "svg");
    const words = (value) => value === null || value === undefined ? texts.notMeasured
      : Math.round(100 * value) === 0 ? texts.asWide
      : (value > 0 ? texts.narrower : texts.wider).replace("{percent}", Math.round(100 * Math.abs(value)));
    svg.setAttribute("class", "profile");
    svg.setAttribute("viewBox", `0 0 ${p.width} ${p.height}`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${texts.profile}: ${words(one.narrowing_1)}, ${words(one.narrowing_2)}`);
    shape(svg, "rect", { class: "artery", x: p.artery[0], y: p.top, width: p.artery[1], height: p.bottom - p.top });
    shape(svg, "text", { x: p.middle, y: p.bottom + 12, "text-anchor": "middle" }, texts.artery);
    for (const [text, y] of p.rises) {
      shape(svg, "rect", { class: "track", x: p.left, y, width: p.right - p.left, height: 0.6 });
      shape(svg, "text", { x: p.left - 6, y: y + 4, "text-anchor": "end" }, text);
    }
    for (const [text, x] of p.steps) shape(svg, "text", { x, y: p.bottom + 12, "text-anchor": "middle" }, text);
    if (p.level !== null) shape(svg, "path", { class: "level", d: `M${p.left} ${p.level}H${p.right}` });
    for (const side of p.sides) {
      if (side.measured) shape(svg, "path", { class: "pinch", d: `M${side.beside[0]} ${p.level}V${side.beside[1]}` });
      for (const points of side.curves) shape(svg, "polyline", { class: "curve", points });
      for (const [cx, cy] of side.points) shape(svg, "circle", { class: "bin", cx, cy, r: 1.8 });
      if (side.beside) shape(svg, "circle", { class: "beside", cx: side.beside[0], cy: side.beside[1], r: 4.2 });
      const first = side.number === 1;
      const place = { x: first ? p.left : p.right, "text-anchor": first ? "start" : "end" };
      shape(svg, "text", { class: "told", y: 12, ...place }, words(first ? one.narrowing_1 : one.narrowing_2));
      shape(svg, "text", { y: 27, ...place }, first ? texts.nearer : texts.farther);
    }
    return svg;
  }

  reader.querySelector("#crossings")?.addEventListener("click", (event) => {
    const row = event.target.closest(".crossing");
    if (event.target.closest(".take-away")) return takeAway(row);
    if (row && (event.target.closest(".pick") || !row.classList.contains("chosen"))) pick(row.dataset.crossing, true);
  });

  // --- the form
  let eye = "right";
  let dirty = false;
  const saved = document.getElementById("saved");

  function markUnsaved() {
    dirty = true;
    saved.textContent = texts.notSaved;
    saved.classList.add("unsaved");
  }

  function setEye(name) {
    eye = name;
    for (const tab of reader.querySelectorAll(".eye-tab")) tab.setAttribute("aria-pressed", String(tab.dataset.eye === name));
    for (const fields of reader.querySelectorAll("fieldset.eye")) fields.classList.toggle("active", fields.dataset.eye === name);
  }

  const radios = (name) => [...form.querySelectorAll(`input[type=radio][name="${name}"]`)];
  const valueOf = (name) => radios(name).find((one) => one.checked)?.value || "";
  function setRadio(name, value) {
    const wanted = radios(name).find((one) => one.value === value);
    if (!wanted) return;
    wanted.checked = true;
    wanted.dispatchEvent(new Event("change", { bubbles: true }));
  }
  function cycle(name, values) {
    setRadio(name, values[values.indexOf(valueOf(name)) + 1] || "");
  }
  function flip(name) {
    const box = form.elements.namedItem(name);
    if (!box) return;
    box.checked = !box.checked;
    box.dispatchEvent(new Event("change", { bubbles: true }));
  }

  /** Fields that exclude each other: an eye that cannot be graded has no findings, posterior belongs to zone II. */
  function settle(changed) {
    for (const name of ["right", "left"]) {
      const fields = document.getElementById(`eye-${name}`);
      const not = valueOf(`${name}.quality`) === "none";
      fields.classList.toggle("not-gradable", not);
      if (adult || !changed) continue;
      if (not && changed.name.startsWith(`${name}.`)) {
        if (changed.name === `${name}.quality`) {
          for (const input of fields.querySelectorAll(".findings input")) {
            if (input.name !== `${name}.treated`) input.checked = input.type === "radio" && input.value === "";
          }
        } else if (changed.closest(".findings") && changed.name !== `${name}.treated`) setRadio(`${name}.quality`, "");
      }
      if (!not && changed.name === `${name}.quality`) form.elements.namedItem(`${name}.reason`).value = "";
      if (valueOf(`${name}.zone`) !== "II") form.elements.namedItem(`${name}.posterior`).checked = false;
      if (!valueOf(`${name}.zone`)) form.elements.namedItem(`${name}.notch`).checked = false;
    }
  }

  function summarise() {
    for (const piece of document.querySelectorAll("#outcome template[data-summary]")) {
      document.getElementById(`summary-${piece.dataset.summary}`)?.replaceChildren(piece.content.cloneNode(true));
    }
  }

  /** Send the form; where the session was unlocked in another tab meanwhile, with the token of the new one. */
  async function send(url, again = true) {
    const answer = await fetch(url, {
      method: "POST", body: new URLSearchParams(new FormData(form)), credentials: "same-origin",
      headers: { "X-CSRF-Token": form.elements.namedItem("csrf").value, Accept: "application/json", "X-Requested-With": "fetch" },
    });
    if (answer.status !== 403 || !again) return answer;
    const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
    const token = page.querySelector('meta[name="csrf"]')?.content;
    if (!token || token === form.elements.namedItem("csrf").value) return answer;
    for (const field of document.querySelectorAll('input[name="csrf"]')) field.value = token;
    return send(url, false);
  }

  let asked = 0;
  let timer = 0;
  function preview() {
    clearTimeout(timer);
    timer = setTimeout(async () => {
      const mine = ++asked;
      try {
        const answer = await send(form.dataset.preview);
        if (mine !== asked || !answer.ok) return;
        const { html } = await answer.json();
        document.getElementById("outcome").innerHTML = html; // our own template, with every value escaped
        summarise();
      } catch { /* the next change asks again */ }
    }, 180);
  }

  async function save() {
    saved.textContent = "…";
    try {
      const answer = await send(form.action);
      const told = await answer.json().catch(() => ({}));
      if (!answer.ok) {
        saved.textContent = "";
        window.room.say(answer.status === 401 ? texts.sessionOver : told.detail || texts.failed);
        return false;
      }
      dirty = false;
      if (texts.hidden && !texts.masked) location.reload(); // what was hidden is shown now
      saved.textContent = texts.saved;
      saved.classList.remove("unsaved");
      document.getElementById("messages").replaceChildren();
      return true;
    } catch {
      saved.textContent = "";
      window.room.say(texts.failed);
      return false;
    }
  }

  if (form) {
    for (const input of form.querySelectorAll("input[type=radio]")) input.dataset.was = input.checked ? "1" : "";
    form.addEventListener("click", (event) => {
      const input = event.target;
      if (!input.matches?.("input[type=radio]")) return;
      if (input.dataset.was && input.value) setRadio(input.name, ""); // pressed again: taken back
      for (const one of radios(input.name)) one.dataset.was = one.checked ? "1" : "";
      if (event.detail) input.blur(); // by mouse: arrow keys go on turning photographs
    });
    form.addEventListener("input", (event) => {
      if (event.target.id === "single-keys") return;
      markUnsaved();
      if (event.target.matches("textarea, input:not([type=radio], [type=checkbox])")) preview();
    });
    form.addEventListener("change", (event) => {
      if (event.target.id === "single-keys") return;
      markUnsaved();
      for (const one of event.target.type === "radio" ? radios(event.target.name) : []) one.dataset.was = one.checked ? "1" : "";
      settle(event.target);
      if (adult) paintMarks();
      preview();
    });
    form.addEventListener("submit", (event) => {
      if (event.submitter?.value === "sign") { dirty = false; return; } // saved by the server, which then asks for the password
      event.preventDefault();
      event.stopImmediatePropagation();
      save();
    }, true);
    window.addEventListener("beforeunload", (event) => { if (dirty) event.preventDefault(); });
    document.getElementById("eye-tabs").addEventListener("click", (event) => {
      const tab = event.target.closest(".eye-tab");
      if (!tab) return;
      setEye(tab.dataset.eye);
      const there = own.find((one) => one.eye === tab.dataset.eye && one.view === active.shown?.view) || own.find((one) => one.eye === tab.dataset.eye);
      if (there) choose(there);
    });
    settle(null);
    summarise();
  }

  const dialog = document.getElementById("sign-dialog");
  if (dialog) {
    dialog.close();
    dialog.showModal();
    document.getElementById("password")?.focus();
    dialog.addEventListener("click", (event) => {
      if (!event.target.closest("[data-close]")) return;
      event.preventDefault();
      dialog.close();
    });
  }

  // --- keys
  const single = document.getElementById("single-keys");
  const keep = (value) => { try { localStorage.setItem("single-keys", value); } catch { /* private windows keep nothing */ } };
  const kept = () => { try { return localStorage.getItem("single-keys"); } catch { return null; } };
  if (single) {
    single.checked = kept() !== "off";
    reader.classList.toggle("keys-off", !single.checked);
    single.addEventListener("change", () => {
      keep(single.checked ? "on" : "off");
      reader.classList.toggle("keys-off", !single.checked);
    });
  }
  const stages = { 4: ["4", "4A", "4B"], 5: ["5", "5A", "5B", "5C"] };
  const look = {
    ArrowRight: () => step(1), ArrowDown: () => step(1), ArrowLeft: () => step(-1), ArrowUp: () => step(-1),
    "+": () => active.zoom(1.4), "=": () => active.zoom(1.4), "-": () => active.zoom(1 / 1.4), f: () => active.fit(false),
    r: () => setFilter("redFree", !filter.redFree), m: () => setFilter("map", filter.map ? 0 : 70), b: () => setLayout("eyes"),
    l: () => setLayout("earlier"), "[": () => setFilter("contrast", Math.max(50, filter.contrast - 20)),
    "]": () => setFilter("contrast", Math.min(250, filter.contrast + 20)), ",": () => setFilter("brightness", Math.max(50, filter.brightness - 15)),
    ".": () => setFilter("brightness", Math.min(200, filter.brightness + 15)), Backspace: reset, c: toggleMarks,
  };
  const write = form ? {
    s: save, w: () => document.getElementById("note").focus(), "?": () => { form.querySelector(".keys").open = !form.querySelector(".keys").open; },
    e: () => reader.querySelector(`.eye-tab[data-eye="${eye === "right" ? "left" : "right"}"]`).click(),
    q: () => cycle(`${eye}.quality`, ["good", "limited"]),
  } : {};
  const infants = {
    x: () => setRadio(`${eye}.quality`, valueOf(`${eye}.quality`) === "none" ? "" : "none"),
    z: () => cycle(`${eye}.zone`, ["I", "II", "III"]), o: () => flip(`${eye}.posterior`), h: () => flip(`${eye}.notch`),
    p: () => cycle(`${eye}.plus`, ["no", "pre-plus", "plus"]), g: () => cycle(`${eye}.regression`, ["no", "regressing", "regressed", "reactivated"]),
    a: () => flip(`${eye}.aggressive`), v: () => flip(`${eye}.vascularised`), t: () => flip(`${eye}.treated`),
  };
  const adults = { j: () => stepCrossing(1), k: () => stepCrossing(-1), n: () => stepCrossing(1), x: () => grade("x"), a: () => setAdding(!adding) };

  /** While a crossing is being added the arrows move the photograph under the cross, Enter marks, Escape ends it. */
  const STEP = 0.02; // of what is seen
  const move = (x, y) => {
    const viewport = active.viewer.viewport;
    const seen = viewport.getBounds(true);
    viewport.panBy(new window.OpenSeadragon.Point(x * STEP * seen.width, y * STEP * seen.width), true);
  };
  const aim = {
    ArrowLeft: () => move(-1, 0), ArrowRight: () => move(1, 0), ArrowUp: () => move(0, -1), ArrowDown: () => move(0, 1),
    Enter: () => addCrossing(active, active.viewer.viewport.getCenter(true)), Escape: () => setAdding(false),
  };

  function grade(value) {
    if (!crossing) return stepCrossing(1);
    setRadio(fieldOf(crossing.photograph, crossing.number), value);
    stepCrossing(1);
  }

  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input:not([type=radio], [type=checkbox], [type=range]), textarea, select, dialog");
    if ((event.ctrlKey || event.metaKey) && form && !document.querySelector("dialog[open]")) {
      if (event.key === "s") { event.preventDefault(); save(); }
      if (event.key === "Enter") { event.preventDefault(); document.getElementById("sign").click(); }
      return;
    }
    if (event.key === "Escape" && writing && !event.target.closest("dialog")) { event.target.blur(); return; }
    if (writing || event.altKey || event.ctrlKey || event.metaKey) return;
    if (adding && aim[event.key] && !(event.key === "Enter" && event.target.closest("button, a"))) {
      event.preventDefault();
      return aim[event.key]();
    }
    if (single && !single.checked) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key.startsWith("Arrow") && event.target.closest("input[type=range], input[type=radio]")) return;
    let act = look[key] || write[key] || (form && (adult ? adults : infants)[key]);
    if (!act && form && /^[0-5]$/.test(key)) {
      if (adult && key <= "3") act = () => grade(key);
      if (!adult) act = () => key < "4" ? setRadio(`${eye}.stage`, valueOf(`${eye}.stage`) === key ? "" : key) : cycle(`${eye}.stage`, stages[key]);
    }
    if (!act || (form && infants[key] === act && !adult && !radios(`${eye}.zone`).length)) return;
    event.preventDefault();
    act();
  });

  setEye("right");
  document.querySelector('[data-only="map"]')?.toggleAttribute("hidden", true);
  choose(own.find((one) => !one.link.classList.contains("refused")) || own[0] || photographs[0]);
})();
