// How often upstream sent the same bytes: 1.00 is ideal, pulls without the cluster would be one for each node.

import { byId, make, renew, setText } from "./dom.js";
import { ago, bytes, plural } from "./format.js";

export function images(document) {
  const { images: list, members } = document;
  setText(byId("images-count"), list.length > 0 ? `received by ${plural(members, "member")} since their start` : "");
  byId("images-empty").hidden = list.length > 0;
  byId("images-table").hidden = list.length === 0;
  renew(byId("images"), list, (one) => one.name, create, update);
}

function create(one) {
  const name = make("th", { scope: "row" }, make("code", {}, one.name));
  const cells = ["Size", "From upstream", "Copies", "Last"].map((label) => make("td", { dataset: { label } }));
  cells.slice(0, 3).forEach((cell) => cell.classList.add("number"));
  return make("tr", {}, name, ...cells);
}

function update(element, one) {
  const [, size, received, copies, last] = element.children;
  setText(size, bytes(one.size_bytes));
  setText(received, bytes(one.upstream_bytes));
  setText(copies, one.copies.toFixed(2));
  copies.title = `${bytes(one.distinct_bytes)} that differ`;
  setText(last, ago(one.last_at));
}
