// Light, dark, or as the system has it.

import { byId } from "./dom.js";

const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
const NAME = "peerd-theme";

export function theme(changed) {
  const button = byId("theme");
  const stored = localStorage.getItem(NAME);
  let current = stored !== null && stored in THEMES ? stored : "system";

  function apply() {
    if (current === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = current;
    const [sign, words] = THEMES[current];
    button.textContent = sign;
    button.setAttribute("aria-label", `Colours: ${words}`);
    button.title = `Colours: ${words}`;
  }

  button.addEventListener("click", () => {
    const names = Object.keys(THEMES);
    current = names[(names.indexOf(current) + 1) % names.length];
    localStorage.setItem(NAME, current);
    apply();
    changed();
  });
  apply();
}
