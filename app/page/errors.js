// The last warnings and errors of the node's log, with their reasons.

import { byId, make, renew, setText } from "./dom.js";
import { ago } from "./format.js";

export function errors(list) {
  byId("errors-empty").hidden = list.length > 0;
  byId("errors").hidden = list.length === 0;
  setText(byId("errors-count"), list.length > 0 ? `${list.length}` : "");
  renew(byId("errors"), list, (one) => one.message, create, update);
}

function create(one) {
  return make("li", {}, make("time", { dateTime: one.at }), make("p", {}, one.message), make("span", { className: "badge" }));
}

function update(element, one) {
  const [time, , count] = element.children;
  time.dateTime = one.at;
  time.title = new Date(one.at).toLocaleString();
  setText(time, ago(one.at));
  count.hidden = one.count === 1;
  setText(count, `${one.count} times`);
}
