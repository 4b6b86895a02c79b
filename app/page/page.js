// Joins the parts: what arrives goes to the panels that show it.

import { chart } from "./chart.js";
import { contents } from "./contents.js";
import { errors } from "./errors.js";
import { History } from "./history.js";
import { images } from "./images.js";
import { listen } from "./live.js";
import { members } from "./members.js";
import { summary } from "./summary.js";
import { theme } from "./theme.js";
import { transfers } from "./transfers.js";

const histories = { cluster: new History(), node: new History() };
const drawing = chart(histories);
const shelf = contents();
theme(() => drawing.recolour());

let status = null;
let known = null;
let received = null;

function summed() {
  if (status !== null && known !== null) summary(status, known);
}

listen({
  status(document) {
    status = document;
    summed();
    if (received !== null) images(received); // Their age changes without news.
    errors(document.recent_errors);
    shelf.changed(`${document.cache.contents} ${document.cache.chunks}`);
    histories.node.add(Date.now() / 1000, { [document.node.name]: document.bytes.served });
    drawing.draw();
  },
  members(document) {
    known = document.members;
    summed();
    members(known);
    const served = known.filter((member) => member.load).map((member) => [member.name, member.load.served]);
    histories.cluster.add(Date.now() / 1000, Object.fromEntries(served));
  },
  transfers(document) {
    transfers(document.transfers);
  },
  images(document) {
    received = document;
    images(received);
  },
});
