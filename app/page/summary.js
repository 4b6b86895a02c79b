// The tiles on top: does the cluster work, and what does it save.

import { byId, setText } from "./dom.js";
import { bytes, duration, plural, share } from "./format.js";
import { added, fromNear, split, total } from "./sources.js";

export function summary(status, members) {
  head(status);
  health(status, members);
  const loads = members.filter((member) => member.load).map((member) => member.load);
  const served = added(loads.map((load) => load.served));
  const upstream = loads.reduce((sum, load) => sum + load.received.upstream, 0);
  saved(total(served), upstream, plural(loads.length, "member"));
  setText(byId("served"), bytes(total(served)));
  split(byId("served-split"), served);
  setText(byId("served-remark"), total(served) > 0 ? `${fromNear(served)} from caches and peers` : "nothing yet");
  cache(status.cache);
}

function head({ node }) {
  document.title = `peerd: ${node.name}`;
  setText(byId("node-name"), node.name);
  const facts = [node.zone, node.state, `up ${duration(node.uptime_seconds)}`, `version ${node.version}`];
  setText(byId("node-facts"), facts.filter(Boolean).join(" · "));
}

function health(status, members) {
  const counts = { alive: 0, failed: 0, left: 0 };
  for (const member of members) counts[member.state] += 1;
  const alone = status.node.membership === "alone";
  const state = counts.failed > 0 ? "failed" : alone ? "alone" : "alive";
  byId("tile-health").dataset.state = state;
  setText(byId("health"), alone ? "alone" : counts.failed > 0 ? `${counts.failed} of ${counts.failed + counts.alive} failed` : `${counts.alive} alive`);
  const zones = new Set(members.filter((member) => member.state === "alive").map((member) => member.zone)).size;
  const remarks = alone
    ? ["no peers: neither certificates nor --insecure-peers is given"]
    : [
        counts.failed > 0 ? plural(counts.alive, "member is", "members are") + " alive" : "all members answer",
        zones > 1 ? `${zones} zones` : "",
        counts.left > 0 ? `${counts.left} left` : "",
      ];
  setText(byId("health-remark"), remarks.filter(Boolean).join(" · "));
}

function saved(served, upstream, who) {
  const spared = served - upstream;
  setText(byId("saved"), served > 0 ? share(Math.max(0, spared), served) : "–");
  const words =
    served === 0 && upstream === 0
      ? "nothing was asked for yet"
      : spared >= 0
        ? `${bytes(spared)}; ${bytes(upstream)} came from upstream for ${who}`
        : `${bytes(upstream)} fetched ahead for ${who}`;
  setText(byId("saved-remark"), words);
}

function cache({ used_bytes: used, quota_bytes: quota, contents, chunks }) {
  setText(byId("cache"), bytes(used));
  byId("cache-meter").firstElementChild.style.width = quota > 0 ? `${Math.min(100, (100 * used) / quota)}%` : "0";
  setText(byId("cache-remark"), `${share(used, quota)} of ${bytes(quota)} · ${plural(contents, "content")}, ${plural(chunks, "chunk")}`);
}
