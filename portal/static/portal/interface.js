"use strict";
/* What makes unfold's pages work under a Content-Security-Policy without inline code and without eval.
 *
 * Loaded before Alpine starts (UNFOLD["SCRIPTS"]). Alpine asks `evaluate` for every attribute; htmx is told to
 * leave eval and inline styles alone; what reacts to clicks only is made to work by keyboard as well.
 */
(() => {
  // What expressions may name besides their page's own state: functions of unfold's app.js, and two of the browser's.
  const GLOBALS = {
    window: () => window,
    localStorage: () => localStorage,
    theme: () => theme,
    getCurrentTab: () => getCurrentTab,
    searchForm: () => searchForm,
    searchDropdown: () => navigableDropdown,
    searchCommand: () => navigableCommand,
    sortRecords: () => sortRecords,
    moveRecords: () => moveRecords,
  };
  const INTERACTIVE = "a[href], button, input, select, textarea, summary, label, [tabindex]";

  /* unfold's own drop-down counts `li`, of which it has none: neither the arrows nor Enter did anything. */
  function navigableDropdown() {
    const links = () => document.querySelectorAll("#search-results a");
    return Object.assign(searchDropdown(), {
      maxItem: () => links().length,
      selectItem() {
        const chosen = links()[Math.max(this.currentIndex, 1) - 1];
        if (chosen) window.location = chosen.href;
      },
    });
  }

  /* Enter without a chosen entry takes the first one, and nothing where there is none. */
  function navigableCommand() {
    const found = searchCommand();
    const select = found.selectItem;
    found.selectItem = function (...given) {
      this.currentIndex = Math.max(this.currentIndex, 1);
      if (this.items?.[this.currentIndex - 1]) select.apply(this, given);
    };
    return found;
  }

  function own(el) {
    const send = (name, detail = {}) => el.dispatchEvent(new CustomEvent(name, { detail, bubbles: true, composed: true, cancelable: true }));
    return { $el: el, $dispatch: send };
  }

  /* Style as an object reaches the element through its properties; as text it would be an inline attribute. */
  function withoutInlineStyle(el, expression, value) {
    if (typeof value !== "string" || el.getAttribute("x-bind:style") !== expression) return value;
    return Object.fromEntries(value.split(";").map((rule) => rule.split(":").map((part) => part.trim())).filter((pair) => pair.length === 2));
  }

  function evaluate(el, expression) {
    const stack = [own(el), ...Alpine.closestDataStack(el)];
    return (receive = () => {}, { scope = {}, params = [] } = {}) => {
      const names = Alpine.mergeProxies([scope, ...stack]);
      try {
        let value;
        if (typeof expression === "function") value = expression.apply(names, params);
        else value = portalExpressions.read(expression, GLOBALS, Alpine.mergeProxies)(names);
        if (typeof value === "function") value = value.apply(names, params);
        receive(withoutInlineStyle(el, expression, value));
      } catch (error) {
        console.error(`${error.message} in ${expression}`, el);
      }
    };
  }

  /* Give what only listens to clicks a place in the order of the Tab key, and Enter and Space. */
  function reachByKeyboard(el) {
    const clicked = el.getAttributeNames?.().some((name) => /^(x-on:|@)click(\.prevent)?$/.test(name));
    if (!clicked || el.matches(INTERACTIVE) || el.querySelector(INTERACTIVE)) return;
    el.tabIndex = 0;
    el.setAttribute("role", "button");
    el.addEventListener("keydown", (event) => {
      if (event.target !== el || (event.key !== "Enter" && event.key !== " ")) return;
      event.preventDefault();
      el.click();
    });
  }

  Object.assign(htmx.config, { allowEval: false, allowScriptTags: false, includeIndicatorStyles: false, selfRequestsOnly: true });
  document.addEventListener("alpine:init", () => {
    Alpine.setEvaluator(evaluate);
    Alpine.interceptInit(reachByKeyboard);
  });
})();
