"use strict";
(() => {
  const list = document.getElementById("findings");
  const tools = document.getElementById("tools");
  const said = document.getElementById("shown");
  const count = () => {
    const cards = Array.from(list.querySelectorAll(".crossing"));
    const shown = cards.filter((card) => card.offsetParent !== null).length;
    said.textContent = shown + " of " + cards.length + (cards.length === 1 ? " crossing" : " crossings") + " shown";
  };
  tools.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    for (const other of tools.querySelectorAll("button")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    list.dataset.show = button.dataset.show;
    count();
  });
  tools.hidden = false;
  count();
})();
