// What every page of the reading room does beside showing itself. Without scripts the pages work, too.
"use strict";

const texts = document.body.dataset;
const csrf = document.querySelector('meta[name="csrf"]').content;

// htmx: the token against forged requests goes with each, and a refusal is said where messages stand.
document.addEventListener("htmx:config:request", (event) => {
  event.detail.ctx.request.headers["X-CSRF-Token"] = csrf;
});
document.addEventListener("htmx:response:error", async (event) => {
  const { status, headers } = event.detail.ctx.response;
  if (status === 401) return location.reload(); // to sign in, or to unlock
  if (status === 422) return; // the form comes back with its errors
  const told = (headers.get("Content-Type") || "").includes("json") ? JSON.parse(event.detail.ctx.text).detail : "";
  say(told || texts.refused.replace("{status}", status));
});
document.addEventListener("htmx:error", () => say(texts.unreachable));

/** Show a message at the top of the page; screen readers speak it. */
function say(text, kind = "bad") {
  const box = document.createElement("div");
  box.className = `notice ${kind}`;
  box.textContent = text;
  document.getElementById("messages").replaceChildren(box);
  box.scrollIntoView({ block: "nearest" });
}
window.room = { say, csrf };

// A form or button that asks first; a form that is sent once.
document.addEventListener("submit", (event) => {
  const form = event.target;
  const question = event.submitter?.dataset.confirm || form.dataset.confirm;
  if (form.getAttribute("aria-busy") === "true" || (question && !window.confirm(question))) {
    event.preventDefault();
    return;
  }
  if (event.defaultPrevented || form.method === "get" || form.hasAttribute("data-download")) return;
  if (form.matches("[hx-post], [hx-put], [hx-patch], [hx-delete]")) return;
  form.setAttribute("aria-busy", "true");
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll('form[aria-busy="true"]')) form.removeAttribute("aria-busy");
});

// Keys: an element with data-key is focused or pressed by it, unless somebody is writing.
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input:not([type=radio], [type=checkbox], [type=range], [type=file]), select, textarea, [contenteditable], dialog")) return;
  const found = [...document.querySelectorAll("[data-key]")].find((element) => element.dataset.key === event.key && element.offsetParent);
  if (!found) return;
  event.preventDefault();
  if (found.matches("input:not([type=radio], [type=checkbox], [type=file]), select, textarea")) found.focus();
  else found.click();
});

// An open menu closes when one goes elsewhere.
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});
