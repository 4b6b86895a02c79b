// What this node holds. Asked for when the cache has changed, since a list of a thousand contents is no event.

import { byId, make, renew, setText } from "./dom.js";
import { ago, bytes, plural, share, shortKey } from "./format.js";

const ASKED_MAX = 1000;
const SHOWN_MAX = 50;
const PAUSE_MS = 2000;

export function contents() {
  const filter = byId("contents-filter");
  let all = [];
  let held = 0;
  let sign = null;
  let asking = false;
  let stale = false;

  function show() {
    const wanted = filter.value.trim().toLowerCase();
    const fitting = all.filter((one) => `${one.key} ${one.source} ${one.kind} ${one.media_type ?? ""}`.toLowerCase().includes(wanted));
    const shown = fitting.sort((one, other) => (other.last_read_at ?? "").localeCompare(one.last_read_at ?? "")).slice(0, SHOWN_MAX);
    const more = wanted ? `${fitting.length} of ${plural(held, "content")}` : plural(held, "content");
    setText(byId("contents-count"), shown.length < fitting.length ? `${more}, ${shown.length} shown` : more);
    byId("contents-empty").hidden = held > 0;
    document.querySelector(".contents").hidden = held === 0;
    renew(byId("contents"), shown, (one) => one.key, create, update);
  }

  async function ask() {
    if (asking) {
      stale = true;
      return;
    }
    asking = true;
    try {
      const answer = await fetch(`api/v1/contents?limit=${ASKED_MAX}`);
      if (answer.ok) {
        const document = await answer.json();
        all = document.contents.filter((one) => one.held_bytes > 0 || one.whole);
        held = document.total - document.contents.length + all.length;
        show();
      }
    } catch {
      // The node is away; the sign on top says so, and the next change asks again.
      sign = null;
    } finally {
      setTimeout(() => {
        asking = false;
        if (stale) {
          stale = false;
          ask();
        }
      }, PAUSE_MS);
    }
  }

  filter.addEventListener("input", show);
  return {
    changed(now) {
      if (now === sign || document.hidden) return;
      sign = now;
      ask();
    },
  };
}

function create(one) {
  const name = make("th", { scope: "row" }, make("code", { title: one.key }, shortKey(one.key)), make("span", { className: "kind" }, one.kind));
  const cells = ["Source", "Size", "Held", "Last read"].map((label) => make("td", { dataset: { label } }));
  cells[1].className = "number";
  return make("tr", {}, name, ...cells);
}

function update(element, one) {
  const [, source, size, held, read] = element.children;
  setText(source, one.source);
  setText(size, bytes(one.size_bytes));
  setText(held, `${one.whole ? "whole" : share(one.held_bytes, one.size_bytes)}${one.verified ? ", verified" : ""}`);
  setText(read, one.last_read_at ? ago(one.last_read_at) : "–");
}
