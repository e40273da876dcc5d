import { setAttribute, setText } from "./dom.js";

const storeName = "coupon-console-theme";
const themes = ["auto", "dark", "light"] as const;
type Theme = (typeof themes)[number];

const listeners = new Set<() => void>();
const dark = window.matchMedia("(prefers-color-scheme: dark)");

/** Plots are drawn once in their colours, and must be told. Answers how to stop listening. */
export function onThemeChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A colour of the style sheet as a canvas takes it, in the theme that is shown. */
export function color(name: string): string {
  const probe = document.createElement("span");
  probe.style.color = `var(--${name})`;
  document.body.append(probe);
  const { color: found } = getComputedStyle(probe);
  probe.remove();
  return found;
}

export function startTheme(button: HTMLElement): void {
  let theme = stored();
  const apply = () => {
    setAttribute(document.documentElement, "data-theme", theme);
    setText(button, `Theme: ${theme}`);
    for (const listener of listeners) listener();
  };
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length] as Theme;
    try {
      localStorage.setItem(storeName, theme);
    } catch {
      // Where the browser keeps nothing, the choice holds for as long as the page.
    }
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}

function stored(): Theme {
  try {
    const found = localStorage.getItem(storeName);
    return themes.find((theme) => theme === found) ?? "auto";
  } catch {
    return "auto";
  }
}
