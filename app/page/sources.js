// Where bytes come from, in the order in which they are stacked: what spares upstream first, upstream on top.

import { bytes, share } from "./format.js";
import { make } from "./dom.js";

export const SOURCES = [
  ["cache", "own cache"],
  ["containerd", "containerd"],
  ["peer", "peers"],
  ["upstream", "upstream"],
];

export const total = (served) => SOURCES.reduce((sum, [name]) => sum + served[name], 0);

export function added(many) {
  return Object.fromEntries(SOURCES.map(([name]) => [name, many.reduce((sum, served) => sum + served[name], 0)]));
}

// A bar that is split by source; `whole` is what its full length stands for.
export function split(bar, served, whole = total(served)) {
  if (bar.children.length !== SOURCES.length) {
    bar.replaceChildren(...SOURCES.map(([name]) => make("i", { dataset: { source: name } })));
  }
  SOURCES.forEach(([name], place) => {
    bar.children[place].style.width = whole > 0 ? `${(100 * served[name]) / whole}%` : "0";
  });
  const parts = SOURCES.filter(([name]) => served[name] > 0).map(([name, words]) => `${bytes(served[name])} from ${words}`);
  const text = parts.join(", ") || "nothing yet";
  if (bar.getAttribute("aria-label") !== text) {
    bar.setAttribute("aria-label", text);
    bar.title = text;
  }
}

export const fromNear = (served) => share(total(served) - served.upstream, total(served));
