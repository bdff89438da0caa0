"use strict";
/* The counter's page: where the focus goes, blanks picked by touch, and a card's steps while it is made. */
(() => {
  const FAST = 700, SLOW = 2500, PATIENCE = 15 * 60 * 1000;
  const live = document.getElementById("live");
  const announcement = document.getElementById("announcement");
  const trouble = document.getElementById("trouble");

  document.querySelector("[data-focus]")?.focus();
  for (const button of document.querySelectorAll("[data-pick]")) {
    button.addEventListener("click", () => {
      const box = document.getElementById("serial");
      box.value = button.dataset.pick;
      box.focus();
    });
  }
  document.querySelector("[data-print]")?.addEventListener("click", () => window.print());
  // A second click must not send a form twice; the portal would refuse it, but the message would confuse.
  document.addEventListener("submit", (event) => {
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "1";
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
  if (!live) return;

  let changedAt = Date.now();

  function tell(text) {
    trouble.textContent = text;
    trouble.hidden = !text;
  }

  /* Only what changed is replaced: the face is not asked for again, and what was said is not said again. */
  function take(html) {
    const next = new DOMParser().parseFromString(html, "text/html");
    for (const part of next.querySelectorAll("[data-part]")) {
      const present = live.querySelector(`[data-part="${part.dataset.part}"]`);
      if (present.dataset.key === part.dataset.key) continue;
      changedAt = Date.now();
      present.replaceWith(document.importNode(part, true));
      if (part.dataset.part === "task") arrive();
    }
  }

  function arrive() {
    const task = live.querySelector('[data-part="task"]');
    announcement.textContent = [...task.querySelectorAll("[data-say]")].map((one) => one.textContent.trim()).join("。");
    if (task.querySelector("form, a")) task.querySelector("#task-heading").focus();
  }

  function ended() {
    return Boolean(live.querySelector('[data-part="task"]').dataset.ended);
  }

  async function ask() {
    const answer = await fetch(live.dataset.address, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected || answer.status === 403) {
      tell(live.dataset.expired);
      return false;
    }
    if (!answer.ok) throw new Error(String(answer.status));
    tell("");
    take(await answer.text());
    return !ended();
  }

  async function follow() {
    let pause = FAST;
    try {
      if (!(await ask())) return;
      const waits = /^(awaiting_look|unknown)/.test(live.querySelector('[data-part="task"]').dataset.key);
      pause = waits ? SLOW : FAST;
    } catch {
      tell(live.dataset.lost);
      pause = SLOW;
    }
    // A page left open must not keep its session alive for ever.
    if (Date.now() - changedAt > PATIENCE) return tell(live.dataset.paused);
    window.setTimeout(follow, pause);
  }

  arrive();
  if (!ended()) window.setTimeout(follow, FAST);
})();
