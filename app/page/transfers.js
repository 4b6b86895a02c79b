// What clients of this node are being sent, and what lately ended.

import { byId, make, renew, setText } from "./dom.js";
import { ago, bytes, rate, share, shortKey } from "./format.js";
import { split } from "./sources.js";

const ENDED_SHOWN = 6;
const STATES = { waiting: "waiting", running: "running", finished: "finished", broken: "broken off" };

export function transfers(list) {
  const running = list.filter((one) => one.state === "waiting" || one.state === "running");
  const ended = list.filter((one) => one.state === "finished" || one.state === "broken").slice(0, ENDED_SHOWN);
  setText(byId("transfers-count"), running.length > 0 ? `${running.length} running` : "none running");
  byId("transfers-empty").hidden = list.length > 0;
  renew(byId("transfers"), [...running, ...ended], (one) => one.id, create, update);
}

function create(one) {
  const what = make("p", { className: "what" }, make("code", { title: one.key }, shortKey(one.key)), make("span", { className: "kind" }, `${one.kind} · ${one.door === "mirror" ? "/v2" : "/blobs"}`));
  const bar = make("div", { className: "split progress", attributes: { role: "img" } });
  const facts = make("p", { className: "facts" }, make("span", { className: "state" }), make("span"), make("span"));
  return make("li", { title: `request ${one.correlation_id}` }, what, bar, facts);
}

function update(element, one) {
  const [, bar, facts] = element.children;
  const [state, amount, speed] = facts.children;
  element.dataset.state = one.state;
  split(bar, one.source_bytes, one.total_bytes ?? one.done_bytes);
  state.dataset.state = one.state;
  setText(state, STATES[one.state]);
  const whole = one.total_bytes === null ? "" : ` of ${bytes(one.total_bytes)}`;
  const under_way = one.state === "running" || one.state === "waiting";
  setText(amount, under_way || one.state === "broken" ? `${bytes(one.done_bytes)}${whole}${one.total_bytes ? ` · ${share(one.done_bytes, one.total_bytes)}` : ""}` : bytes(one.done_bytes));
  setText(speed, under_way ? rate(one.rate_bytes_per_second) : `${rate(one.rate_bytes_per_second)} · ${ago(one.started_at)}`);
}

