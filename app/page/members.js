// Members by zone: who is there, how full, and what each gives and takes.

import { byId, make, renew, setText } from "./dom.js";
import { bytes, plural, share } from "./format.js";
import { split, total } from "./sources.js";

const SHOWN_MAX = 100;
const STATES = { alive: "alive", failed: "failed", left: "left" };
const before = new Map();

export function members(list) {
  announce(list);
  const shown = list.length > SHOWN_MAX ? worthShowing(list) : list;
  setText(byId("members-count"), plural(list.length, "member") + (shown.length < list.length ? `, ${shown.length} shown` : ""));
  renew(byId("members"), rows(shown), (row) => row.key, create, update);
}

// Of very many: those that are not well, this node, and some more.
function worthShowing(list) {
  const weight = (member) => (member.state === "failed" ? 0 : member.me ? 1 : member.state === "left" ? 3 : 2);
  return [...list].sort((one, other) => weight(one) - weight(other)).slice(0, SHOWN_MAX);
}

function rows(list) {
  const zones = new Map();
  for (const member of list) zones.set(member.zone ?? "", [...(zones.get(member.zone ?? "") ?? []), member]);
  const grouped = [...zones.keys()].some((zone) => zone !== "");
  const found = [];
  for (const zone of [...zones.keys()].sort()) {
    const those = zones.get(zone).sort((one, other) => one.name.localeCompare(other.name, undefined, { numeric: true }));
    if (grouped) found.push({ key: `zone ${zone}`, zone, those });
    found.push(...those.map((member) => ({ key: `member ${member.name}`, member })));
  }
  return found;
}

function create(row) {
  if (row.those !== undefined) {
    return make("tr", { className: "zone" }, make("th", { colSpan: 7, scope: "colgroup" }));
  }
  const name = make("th", { scope: "row" }, make("b"), make("span", { className: "badge", hidden: !row.member.me }, "this node"));
  const state = make("td", {}, make("span", { className: "state" }));
  const cache = make("td", { dataset: { label: "Cache" } }, make("div", { className: "meter" }, make("i")), make("span"));
  const sent = make("td", { dataset: { label: "Sent" } }, make("div", { className: "split", attributes: { role: "img" } }), make("span"));
  const numbers = ["Spared", "To peers", "Keys"].map((label) => make("td", { className: "number", dataset: { label } }));
  return make("tr", {}, name, state, cache, sent, ...numbers);
}

function update(element, row) {
  if (row.those !== undefined) {
    const alive = row.those.filter((member) => member.state === "alive").length;
    setText(element.firstElementChild, `${row.zone || "without a zone"} · ${alive} of ${row.those.length} alive`);
    return;
  }
  const { member } = row;
  const [name, state, cache, sent, spared, uploaded, keys] = element.children;
  element.dataset.state = member.state;
  setText(name.firstElementChild, member.name);
  name.title = [member.peer_address, member.version && `version ${member.version}`].filter(Boolean).join(", ");
  state.firstElementChild.dataset.state = member.state;
  setText(state.firstElementChild, STATES[member.state]);
  const { load } = member;
  const used = load ? load.cache_used_bytes : 0;
  cache.firstElementChild.firstElementChild.style.width = load ? `${Math.min(100, (100 * used) / load.cache_quota_bytes)}%` : "0";
  setText(cache.lastElementChild, load ? `${bytes(used)} of ${bytes(load.cache_quota_bytes)}` : "–");
  split(sent.firstElementChild, load ? load.served : { cache: 0, containerd: 0, peer: 0, upstream: 0 });
  setText(sent.lastElementChild, load ? bytes(total(load.served)) : "–");
  setText(spared, load && total(load.served) > 0 ? share(total(load.served) - load.served.upstream, total(load.served)) : "–");
  setText(uploaded, load ? bytes(load.uploaded) : "–");
  setText(keys, member.state === "alive" ? String(member.keys) : "–");
}

// What changed is told to ears too; eyes see it in the table.
function announce(list) {
  const news = [];
  for (const member of list) {
    const was = before.get(member.name);
    if (before.size > 0 && was !== member.state) news.push(`${member.name} ${member.state === "alive" ? "is alive" : member.state}`);
  }
  list.forEach((member) => before.set(member.name, member.state));
  if (news.length > 0) byId("announcer").textContent = news.join(", ");
}
