type Child = Node | string | null | undefined | false;
type Props = Record<string, string | number | boolean | EventListener | undefined>;

/**
 * Makes an element. Texts become text nodes and attributes: what others have called their coupons is never read as HTML.
 * A property that begins with "on" is a listener; true is an attribute without a value, false and undefined are none.
 */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  props: Props = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => !!child || child === ""));
  return element;
}

/** Writes only what has changed, so that a selection, and what a screen reader has read, stays. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

export function byId(id: string): HTMLElement {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** For those who do not see the page: once, and only what they would want to be told. */
export function announce(text: string): void {
  setText(byId("announcer"), text);
}

/** A part of the page that shows something of the service until it is left. */
export interface View {
  readonly element: HTMLElement;
  readonly title: string;
  /** Stops all that goes on for it. */
  leave(): void;
}
