// Counters that only grow, to rates over time.

import { SOURCES } from "./sources.js";

const SECONDS_KEPT = 600;
const SAMPLE_SECONDS = 2;

export class History {
  constructor() {
    this.times = [];
    this.rates = SOURCES.map(() => []);
    this.last = null;
  }

  // `counters` are bytes by source, by node. A node that was not there before, or was started again, begins at its new count.
  add(time, counters) {
    if (this.last !== null && time - this.last.time < SAMPLE_SECONDS * 0.9) return;
    const before = this.last;
    this.last = { time, counters };
    if (before === null) return;
    this.times.push(time);
    SOURCES.forEach(([source], place) => {
      let grown = 0;
      for (const [node, now] of Object.entries(counters)) {
        const then = before.counters[node];
        if (then !== undefined && now[source] >= then[source]) grown += now[source] - then[source];
      }
      this.rates[place].push(grown / (time - before.time));
    });
    while (this.times[0] < time - SECONDS_KEPT) {
      this.times.shift();
      for (const series of this.rates) series.shift();
    }
  }

  get latest() {
    return this.rates.map((series) => series.at(-1) ?? 0);
  }
}
