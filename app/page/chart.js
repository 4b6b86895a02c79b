// Rates by source, one upon the other. uPlot draws; the legend is ours, since it is also what ears are told.

/* global uPlot */
import { byId, make, setText } from "./dom.js";
import { rate } from "./format.js";
import { SOURCES } from "./sources.js";

const HEIGHT = 220;
const WINDOW_SECONDS = 300;
const WINDOW_SECONDS_MIN = 60;

const CLOCK = { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false };

// The last minutes, but not those in which nobody looked.
function span(times) {
  const now = Date.now() / 1000;
  const first = times[0] ?? now;
  return [Math.max(now - WINDOW_SECONDS, Math.min(first, now - WINDOW_SECONDS_MIN)), now];
}

export function chart(histories) {
  const place = byId("chart");
  const legend = byId("legend");
  legend.replaceChildren(
    ...SOURCES.map(([source, words]) => make("li", {}, make("i", { dataset: { source } }), `${words} `, make("b"))),
  );
  let scope = "cluster";
  let plot = null;

  const stepped = uPlot.paths.stepped({ align: -1 });
  const colours = () => [...legend.querySelectorAll("i")].map((swatch) => getComputedStyle(swatch).backgroundColor);
  const width = () => place.clientWidth;

  function options() {
    const ink = getComputedStyle(place).color;
    const grid = { stroke: getComputedStyle(place).borderColor, width: 1 };
    const font = `12px ${getComputedStyle(place).fontFamily}`;
    const axis = { stroke: ink, grid, ticks: { show: false }, font };
    const paints = colours();
    return {
      width: width(),
      height: HEIGHT,
      legend: { show: false },
      padding: [8, 24, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: () => span(histories[scope].times) },
        y: { range: (_, __, top) => [0, Math.max(1024, top * 1.1)] },
      },
      axes: [
        { ...axis, size: 30, space: 90, values: (_, ticks) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString([], CLOCK)) },
        { ...axis, size: 84, space: 36, incrs: [...Array(30).keys()].flatMap((power) => [2 ** (power + 8)]), values: (_, ticks) => ticks.map(rate) },
      ],
      // Painted from the top of the stack down, each down to zero, so that each shows as the stretch above the one below it.
      series: [
        {},
        ...[...SOURCES.keys()].reverse().map((place) => ({ stroke: paints[place], fill: paints[place], width: 0, paths: stepped, points: { show: false } })),
      ],
    };
  }

  function data() {
    const { times, rates } = histories[scope];
    const stacked = [];
    rates.forEach((series, place) => stacked.push(place === 0 ? [...series] : series.map((value, at) => value + stacked[place - 1][at])));
    return [times, ...stacked.reverse()];
  }

  function draw() {
    const now = histories[scope].latest;
    [...legend.children].forEach((item, place) => setText(item.lastElementChild, rate(now[place])));
    if (document.hidden) return;
    if (plot === null) plot = new uPlot(options(), data(), place);
    else plot.setData(data());
  }

  function recolour() {
    plot?.destroy();
    plot = null;
    draw();
  }

  new ResizeObserver(() => plot?.setSize({ width: width(), height: HEIGHT })).observe(place);
  for (const choice of document.getElementsByName("scope")) {
    choice.addEventListener("change", () => {
      scope = choice.value;
      draw();
    });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  document.addEventListener("visibilitychange", draw);
  return { draw, recolour };
}
