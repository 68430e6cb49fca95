// Asks for the state of a run that goes on, every two seconds.
"use strict";
(() => {
  const part = document.getElementById("live");
  if (!part || part.dataset.finished === "yes") return;
  const ask = async () => {
    try {
      const answer = await fetch(part.dataset.url, { credentials: "same-origin" });
      if (answer.ok) part.innerHTML = await answer.text();
    } catch { /* the server was stopped; the next answer will come when it is back */ }
    if (document.visibilityState === "visible") setTimeout(ask, 2000);
    else document.addEventListener("visibilitychange", () => ask(), { once: true });
  };
  setTimeout(ask, 2000);
})();
