// The little that htmx does not do on any page: say whether it is live, and change live fragments in place.
"use strict";

(() => {
  const link = document.getElementById("link");
  const say = (state, words) => {
    if (!link) return;
    link.dataset.state = state;
    link.querySelector(".say").textContent = words;
  };
  document.body.addEventListener("htmx:sseOpen", () => say("live", "live"));
  document.body.addEventListener("htmx:sseError", () => say("lost", "connection lost, trying again"));

  // A live fragment is changed into what arrived instead of replaced by it: what has the focus, a selection, what was
  // scrolled stays. Rows have ids, so that one that moves down takes its focus along.
  htmx.defineExtension("keep", {
    isInlineSwap: () => false,
    handleSwap: (style, target, fragment) => {
      if (style !== "keep") return false;
      const held = target.contains(document.activeElement) ? document.activeElement : null;
      const around = [];
      for (let one = held?.parentElement; one && one !== target.parentElement; one = one.parentElement) around.push(one);
      Idiomorph.morph(target, fragment.childNodes, {
        morphStyle: "innerHTML",
        callbacks: { beforeAttributeUpdated: (name, one) => !(name === "open" && one.tagName === "DETAILS") },
      });
      if (held && !held.isConnected) {
        // the row is no longer listed: the reader stays where the list is
        const near = around.find((one) => one.isConnected && one.tabIndex >= 0) || target;
        if (near === target) target.tabIndex = -1;
        near.focus({ preventScroll: true });
      }
      return [];
    },
  });
})();
