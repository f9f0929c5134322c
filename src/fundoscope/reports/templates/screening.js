"use strict";
(() => {
  const list = document.getElementById("findings");
  const rows = Array.from(list.children);
  const said = document.getElementById("shown");
  const tools = document.getElementById("tools");
  const press = (button) => {
    for (const other of button.parentElement.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
  };
  const count = () => {
    const shown = rows.filter((row) => row.offsetParent !== null).length;
    said.textContent = (rows.length === 1 ? said.dataset.one : said.dataset.many).replace("{shown}", shown).replace("{total}", rows.length);
  };
  const order = {
    given: (a, b) => a.dataset.number - b.dataset.number,
    probable: (a, b) => (b.dataset.p || -1) - (a.dataset.p || -1) || order.given(a, b),
  };
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    press(button);
    if (button.dataset.show) list.dataset.show = button.dataset.show;
    if (button.dataset.order) list.append(...rows.sort(order[button.dataset.order]));
    count();
  });
  // written last, read first: the style sheet shows these at the top, and readers of the screen find them there, too
  let place = document.querySelector(".summary");
  for (const part of [".attention", ".eyes"].map((name) => document.querySelector(name))) {
    if (!part) continue;
    place.after(part);
    place = part;
  }
  list.parentElement.addEventListener("click", (event) => {
    const target = event.target.closest('a[href^="#photograph-"]');
    const row = target && document.getElementById(target.getAttribute("href").slice(1));
    if (row && row.offsetParent === null) tools.querySelector('[data-show="all"]').click();
  });
  tools.hidden = false;
  count();
})();
