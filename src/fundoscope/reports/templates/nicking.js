"use strict";
(() => {
  const list = document.getElementById("findings");
  const rows = Array.from(list.children);
  const tools = document.getElementById("tools");
  const said = document.getElementById("shown");
  const count = () => {
    const cards = Array.from(list.querySelectorAll(".crossing"));
    const shown = cards.filter((card) => card.offsetParent !== null).length;
    said.textContent = (cards.length === 1 ? said.dataset.one : said.dataset.many).replace("{shown}", shown).replace("{total}", cards.length);
  };
  const order = {
    given: (a, b) => a.dataset.number - b.dataset.number,
    worst: (a, b) => (b.dataset.worst ?? -1) - (a.dataset.worst ?? -1) || order.given(a, b),
  };
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of button.parentElement.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    if (button.dataset.show) list.dataset.show = button.dataset.show;
    if (button.dataset.order) list.append(...rows.sort(order[button.dataset.order]));
    count();
  });
  // written last, read first: the style sheet shows it at the top, and readers of the screen find it there, too
  const worst = document.querySelector(".attention");
  if (worst) document.querySelector(".summary").after(worst);
  // a link to a crossing or a photograph that is not shown shows all again
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    const place = link && document.getElementById(link.getAttribute("href").slice(1));
    if (place && list.contains(place) && place.offsetParent === null) tools.querySelector('[data-show="all"]').click();
  });
  tools.hidden = false;
  count();
})();
