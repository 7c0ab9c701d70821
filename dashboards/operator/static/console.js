// The price chart.
"use strict";

(() => {
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
  const clock = (at) => new Date(at * 1e3).toISOString().slice(11, 16);
  const points = (value, agreed) => (value == null || !agreed ? null : ((value - agreed) / agreed) * 1e4);
  let plots = [];
  let drawn = null;

  const common = (data, height) => {
    const axis = { stroke: style("--muted"), grid: { stroke: style("--line"), width: 1 }, ticks: { stroke: style("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    return {
      axis,
      width: Math.max(240, box.clientWidth - 20), height,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1e3), "Etc/UTC"),
      cursor: { sync: { key: "minutes" }, drag: { x: false, y: false } },
      few: data.slots.length < 90,
      x: { ...axis, space: 70, values: (self, ticks) => ticks.map(clock) },
    };
  };

  const shade = () => (dark.matches ? "rgba(231,236,242,.16)" : "rgba(20,26,34,.13)");

  const priceChart = (data) => {
    const c = common(data, 190);
    return {
      width: c.width, height: c.height, tzDate: c.tzDate, cursor: c.cursor, legend: { show: false },
      series: [{}, { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } },
        { label: "agreed", stroke: style("--text"), width: 2.5, points: { show: c.few, size: 5, fill: style("--text") } }],
      bands: [{ series: [2, 1], fill: shade() }],
      axes: [c.x, { ...c.axis, size: 78, values: (self, ticks) => ticks.map((t) => "$" + t.toLocaleString("en-US")) }],
    };
  };

  const venueChart = (data) => {
    const c = common(data, 210);
    const colours = shades[dark.matches ? "dark" : "light"];
    const venue = (one, n) => ({
      label: one.name, stroke: colours[n % colours.length], width: 1.75, dash: dashes[n % dashes.length], points: { show: c.few, size: 5 },
      value: (self, value, seriesAt, index) => {
        if (index == null) return "–";
        const why = drawn.venues[n].dropped[index];
        const off = value == null ? "" : ` ${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} bp`;
        return dollars(drawn.venues[n].usd[index]) + off + (why ? `, left out: ${why}` : "");
      },
    });
    return {
      width: c.width, height: c.height, tzDate: c.tzDate, cursor: c.cursor,
      series: [
        { label: "UTC", value: (self, at) => (at == null ? "–" : clock(at)) },
        { stroke: "transparent", points: { show: false } }, { stroke: "transparent", points: { show: false } },
        { label: "agreed", stroke: style("--text"), width: 2.5, points: { show: false }, value: (self, v, seriesAt, index) => (index == null ? "–" : dollars(drawn.agreed[index])) },
        ...data.venues.map(venue),
      ],
      bands: [{ series: [2, 1], fill: shade() }],
      axes: [c.x, { ...c.axis, size: 78, values: (self, ticks) => ticks.map((t) => (t > 0 ? "+" : t < 0 ? "−" : "") + Math.abs(t)) }],
      legend: { live: true, markers: { width: 2.5, dash: (self, n) => (n < 4 ? "solid" : ["solid", "dashed", "dotted", "double", "dashed", "dotted"][(n - 4) % 6]) } },
    };
  };

  const columnsOf = (data) => [
    [data.slots, data.low, data.high, data.agreed],
    [data.slots, data.low.map((v, n) => points(v, data.agreed[n])), data.high.map((v, n) => points(v, data.agreed[n])),
      data.agreed.map((v) => (v == null ? null : 0)), ...data.venues.map((one) => one.usd.map((v, n) => points(v, data.agreed[n])))],
  ];

  const clear = () => { plots.forEach((plot) => plot.destroy()); plots = []; };

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
    const columns = columnsOf(data);
    const same = drawn && drawn.venues.map((v) => v.name).join() === data.venues.map((v) => v.name).join();
    drawn = data;
    if (plots.length && same) {
      plots.forEach((plot, n) => plot.setData(columns[n]));
      return;
    }
    clear();
    box.replaceChildren();
    for (const [n, [title, make]] of [["Agreed price and confidence band", priceChart], ["Venues, basis points from the agreed price", venueChart]].entries()) {
      const heading = document.createElement("h3");
      heading.textContent = title;
      box.append(heading);
      plots.push(new uPlot(make(data), columns[n], box));
    }
  };

  const anew = () => { clear(); drawn = null; draw(); };
  let waiting = 0;
  addEventListener("resize", () => { clearTimeout(waiting); waiting = setTimeout(anew, 150); });
  dark.addEventListener("change", anew);
  document.body.addEventListener("htmx:sseMessage", (event) => { if (event.detail.type === "rounds") draw(); });
  draw();
})();
