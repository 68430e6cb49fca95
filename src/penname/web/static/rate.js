// One key a judgement. Without this script the page works as a plain form.
"use strict";
(() => {
  const form = document.getElementById("judgement");
  if (!form) return;
  const toggle = document.getElementById("shortcuts");
  const note = document.getElementById("note");
  const faults = [...form.querySelectorAll('input[name="categories"]')];
  let sent = false;

  try { toggle.checked = localStorage.getItem("penname-keys") !== "off"; } catch { /* storage may be forbidden */ }
  toggle.addEventListener("change", () => {
    try { localStorage.setItem("penname-keys", toggle.checked ? "on" : "off"); } catch { /* as above */ }
  });

  // Good and a fault exclude each other.
  for (const box of faults) {
    box.addEventListener("change", () => {
      if (!box.checked) return;
      for (const other of faults) {
        if (other !== box && (box.value === "good" || other.value === "good")) other.checked = false;
      }
    });
  }

  // A second press while the first is on its way would answer the next record unseen.
  form.addEventListener("submit", (event) => {
    if (sent) event.preventDefault();
    sent = true;
  });
  window.addEventListener("pageshow", () => { sent = false; });

  const choose = (input) => {
    input.checked = input.type === "checkbox" ? !input.checked : true;
    input.dispatchEvent(new Event("change", { bubbles: true }));
    input.focus();
    if (input.name === "preferred") form.requestSubmit();
  };

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
    const target = event.target;
    if (target === note) {
      if (event.key === "Escape") note.blur();
      return;
    }
    if (!toggle.checked) return;
    if (event.key === "Enter") {
      // Buttons and links keep their own Enter.
      if (target.closest("button, a")) return;
      event.preventDefault();
      form.requestSubmit(document.getElementById("send"));
      return;
    }
    const key = event.key.toLowerCase();
    const input = [...form.querySelectorAll("[data-key]")].find((choice) => choice.dataset.key === key);
    if (input) choose(input);
    else if (key === "u") document.getElementById("undo")?.click();
    else if (key === "k") document.getElementById("skip")?.click();
    else if (key === "/") note.focus();
    else return;
    event.preventDefault();
  });

  // A screen reader begins at the record, or at what is wrong with the answer.
  (document.getElementById("problem") || document.querySelector("[data-start]"))?.focus({ preventScroll: true });
})();
