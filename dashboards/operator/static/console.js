// The little that htmx does not do: say whether the page is live, and draw the price chart.
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

  // a picked row stays where the eye is: live fragments keep what has the focus
  document.body.addEventListener("htmx:beforeSwap", (event) => {
    const held = document.activeElement;
    if (event.detail.target && held && held !== document.body && event.detail.target.contains(held)) {
      const again = held.getAttribute("href");
      if (again) setTimeout(() => event.detail.target.querySelector(`[href="${CSS.escape(again)}"]`)?.focus({ preventScroll: true }), 0);
    }
  });

  const box = document.getElementById("chart");
  if (!box || typeof uPlot === "undefined") return;

  const dashes = [[], [10, 5], [3, 4], [14, 4, 3, 4], [6, 6, 2, 6], [2, 2]];
  const shades = {
    light: ["#0b5cad", "#a84300", "#00695c", "#7a2e8e", "#5d5200", "#8c1d40"],
    dark: ["#71b7ff", "#ff9f5a", "#4fd1b5", "#d79bf0", "#d8c64a", "#ff8fb0"],
  };
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dollars = (value) => (value == null ? "–" : "$" + value.toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }));
  let plot = null;

  const options = (data) => {
    const colours = shades[dark.matches ? "dark" : "light"];
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const venue = (one, n) => ({
      label: one.name, stroke: colours[n % colours.length], width: 1.5, dash: dashes[(n + 1) % dashes.length], spanGaps: false,
      points: { show: (self, seriesAt) => data.slots.length < 90, size: 4 },
      value: (self, value, seriesAt, index) => (index == null ? "–" : dollars(value) + (one.dropped[index] ? ` (${one.dropped[index]})` : "")),
    });
    return {
      width: box.clientWidth - 20, height: box.clientHeight - 20 - 34 - 26 * Math.ceil(data.venues.length / 3),
      tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
      series: [
        { label: "UTC", value: (self, at) => (at == null ? "–" : new Date(at * 1e3).toISOString().slice(0, 16).replace("T", " ")) },
        { label: "band low", stroke: "transparent", points: { show: false }, value: (self, v) => dollars(v) },
        { label: "band high", stroke: "transparent", points: { show: false }, value: (self, v) => dollars(v) },
        ...data.venues.map(venue),
        { label: "agreed", stroke: style("--text"), width: 3, points: { show: data.slots.length < 90, size: 5, fill: style("--text") }, value: (self, v) => dollars(v) },
      ],
      bands: [{ series: [2, 1], fill: dark.matches ? "rgba(231,236,242,.16)" : "rgba(20,26,34,.13)" }],
      axes: [axis, { ...axis, size: 84, values: (self, ticks) => ticks.map((t) => "$" + t.toLocaleString("en-US")) }],
      legend: { live: true },
    };
  };

  const draw = async () => {
    let data;
    try {
      const answer = await fetch(box.dataset.src, { headers: { Accept: "application/json" } });
      if (!answer.ok) return;
      data = await answer.json();
    } catch {
      return;
    }
    if (!data.slots.length) {
      box.querySelector(".waiting")?.replaceChildren("No minute to draw yet.");
      return;
    }
    const columns = [data.slots, data.low, data.high, ...data.venues.map((one) => one.usd), data.agreed];
    if (plot && plot.series.length === columns.length) {
      plot.setData(columns);
      return;
    }
    plot?.destroy();
    box.replaceChildren();
    plot = new uPlot(options(data), columns, box);
  };

  const anew = () => { plot?.destroy(); plot = null; draw(); };
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(anew, 150); });
  dark.addEventListener("change", anew);
  document.body.addEventListener("htmx:sseMessage", (event) => { if (event.detail.type === "rounds") draw(); });
  draw();
})();
