// What the desk does beside htmx: the reader's own time, copying a command, files that are dropped.
"use strict";

(() => {
  const zone = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", timeZoneName: "short" });
  const local = (root) => root.querySelectorAll("time.both").forEach((one) => {
    const said = zone.format(new Date(one.dateTime));
    if (one.dataset.local !== said) one.dataset.local = said;
  });
  const dress = (root) => {
    local(root);
    root.querySelectorAll("button.copy").forEach((one) => { one.hidden = false; });
  };
  dress(document);
  for (const name of ["htmx:sseMessage", "htmx:afterSwap"]) document.body.addEventListener(name, () => dress(document));

  const select = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
  };
  document.body.addEventListener("click", async (event) => {
    const button = event.target.closest("button.copy");
    if (!button) return;
    const command = document.getElementById(button.dataset.copy);
    const said = document.querySelector(".said");
    try {
      await navigator.clipboard.writeText(command.textContent);
      said.textContent = "Copied.";
    } catch {
      select(command);
      said.textContent = "Selected: copy it with your keyboard.";
    }
  });

  const form = document.getElementById("verify");
  if (!form) return;
  const drop = document.getElementById("drop");
  const verdict = document.getElementById("verdict");
  drop.hidden = false;
  const refuse = (words) => {
    const line = document.createElement("p");
    line.className = "refused";
    line.setAttribute("role", "alert");
    line.textContent = words;
    verdict.replaceChildren(line);
  };
  const send = async (files) => {
    if (!files.length) return;
    const size = [...files].reduce((sum, one) => sum + one.size, 0);
    if (size > Number(form.dataset.most)) {
      refuse(`Nothing was checked. ${size.toLocaleString("en-US")} bytes; at most ${Number(form.dataset.most).toLocaleString("en-US")} can be sent, more at home: btcfi verify.`);
      return;
    }
    verdict.textContent = "Checking…";
    const texts = await Promise.all([...files].map((one) => one.text()));
    const body = texts.length === 1 ? texts[0] : `[${texts.join(",")}]`;
    try {
      const answer = await fetch(form.action, { method: "POST", headers: { "Content-Type": "application/json", "HX-Request": "true" }, body });
      // our own page, escaped by its template
      verdict.replaceChildren(...new DOMParser().parseFromString(await answer.text(), "text/html").body.childNodes);
      verdict.focus({ preventScroll: true });
      verdict.scrollIntoView({ block: "nearest" });
    } catch {
      refuse("Nothing was checked: the service does not answer.");
    }
  };
  document.getElementById("files").addEventListener("change", (event) => { send([...event.target.files]); event.target.value = ""; });
  for (const name of ["dragenter", "dragover"]) form.addEventListener(name, (event) => { event.preventDefault(); drop.classList.add("over"); });
  form.addEventListener("dragleave", () => drop.classList.remove("over"));
  form.addEventListener("drop", (event) => { event.preventDefault(); drop.classList.remove("over"); send(event.dataTransfer.files); });
})();
