"use strict";
(() => {
  const lost = document.getElementById("lost");
  const period = 1000 * Number(document.body.dataset.refreshS);
  let reached = new Date();
  let timer = 0;

  const show = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    if (!page.getElementById("page")) {
      throw new Error("It is another page, such as a proxy's.");
    }
    const focused = document.activeElement && document.activeElement.id;
    const scrolled = document.getElementById("scroll");
    const left = scrolled ? scrolled.scrollLeft : 0;
    document.title = page.title;
    document.getElementById("page").replaceWith(page.getElementById("page"));
    if (focused && document.getElementById(focused)) {
      document.getElementById(focused).focus({preventScroll: true});
    }
    if (document.getElementById("scroll")) {
      document.getElementById("scroll").scrollLeft = left;
    }
  };

  const refresh = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch(location.href, {cache: "no-store", signal: AbortSignal.timeout(10000)});
      if (!answer.ok) {
        throw new Error(`HTTP ${answer.status}`);
      }
      show(await answer.text());
      reached = new Date();
      lost.hidden = true;
      document.body.classList.remove("lost");
    } catch {
      const since = reached.toLocaleTimeString();
      const words = `The exporter has not answered since ${since}: what stands below is old.`;
      if (lost.textContent !== words) {
        lost.textContent = words;
      }
      lost.hidden = false;
      document.body.classList.add("lost");
    }
    timer = setTimeout(refresh, period);
  };

  timer = setTimeout(refresh, period);
  // A laptop that was asleep shows what was true then.
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
})();
