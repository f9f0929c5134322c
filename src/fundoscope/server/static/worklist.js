// The worklist by keys: j and k go from row to row, Enter opens the row that has the focus. Refreshing keeps the row.
"use strict";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !["j", "k"].includes(event.key)) return;
  if (event.target.closest("input, select, textarea, [contenteditable]")) return;
  const links = [...document.querySelectorAll("#worklist a.row-link")];
  if (!links.length) return;
  const row = document.activeElement.closest("#worklist tr");
  const at = row ? links.indexOf(row.querySelector("a.row-link")) : -1;
  const next = event.key === "j" ? Math.min(at + 1, links.length - 1) : Math.max(at - 1, 0);
  event.preventDefault();
  links[next].focus();
  links[next].closest("tr").scrollIntoView({ block: "nearest" });
});

// Escape leaves the search, so that the keys work again.
document.getElementById("search").addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.target.blur();
});
