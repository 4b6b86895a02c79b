// The events of the node, and whether they come.

import { byId } from "./dom.js";

const SILENCE_MS = 5000; // The status changes each second; so long without it, the node is gone or hangs.

export function listen(handlers) {
  const sign = byId("live");
  const show = (state, text) => {
    if (sign.dataset.state === state) return;
    sign.dataset.state = state;
    sign.textContent = text;
  };
  let silence;
  const heard = () => {
    show("live", "live");
    clearTimeout(silence);
    silence = setTimeout(() => show("lost", "no news"), SILENCE_MS);
  };
  // The browser connects again by itself, after the time that the node names, unless the answer was an error.
  const connect = () => {
    const events = new EventSource("api/v1/events");
    for (const [name, handle] of Object.entries(handlers)) {
      events.addEventListener(name, (event) => {
        heard();
        handle(JSON.parse(event.data));
      });
    }
    events.addEventListener("error", () => {
      clearTimeout(silence);
      show("lost", "not reached, trying again");
      if (events.readyState === EventSource.CLOSED) setTimeout(connect, 2000);
    });
  };
  connect();
}
