import { call, keepKey, key, newRequestId } from "./api.js";
import { announce, h } from "./dom.js";
import { count } from "./model/format.js";
import { type Coupon, numberOf } from "./model/messages.js";
import { Problem } from "./model/problem.js";
import { notice } from "./parts.js";

/**
 * Asks a second time, names the coupon, and does it. The button that does nothing has the focus at first, so that Enter,
 * pressed twice, stops no sale. Answers whether it was done.
 */
export function pauseOrResume(coupon: Coupon, isPaused: boolean): Promise<boolean> {
  const name = coupon.name || "(no name)";
  const left = coupon.remainingCount === undefined ? "" : ` ${count(numberOf(coupon.remainingCount))} are left.`;
  const text = isPaused
    ? `It can be had again at once.${left}`
    : `Nobody is issued it until you resume it.${left} What users hold stays usable.`;
  const problem = notice();
  // The same for each try of this dialog: however often it is pressed, it is done once.
  const requestId = newRequestId();
  const verb = isPaused ? "Resume" : "Pause";
  const yes = h("button", { type: "submit", class: isPaused ? "good" : "bad" }, `${verb} it`);
  const no = h("button", { type: "button", class: "quiet" }, isPaused ? "Leave it paused" : "Go on selling");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "dialog-title" }, `${verb} “${name}”?`),
    h("p", { id: "dialog-text" }, text),
    problem.element,
    h("p", { class: "buttons" }, no, yes),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title", "aria-describedby": "dialog-text" }, form);
  return new Promise((resolve) => {
    let isDone = false;
    no.addEventListener("click", () => dialog.close());
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      yes.disabled = true;
      call(`CatalogService/${verb}Coupon`, { couponId: coupon.id, requestId })
        .then(() => {
          isDone = true;
          announce(`${name} is ${isPaused ? "on sale again" : "paused"}.`);
          dialog.close();
        })
        .catch((error: unknown) => {
          yes.disabled = false;
          problem.show(error instanceof Problem ? error : new Problem("NO_ANSWER", ""));
        });
    });
    open(dialog, () => resolve(isDone));
    no.focus();
  });
}

let keyDialog: Promise<boolean> | undefined;

/** Asks for a key; one dialog at a time. Answers whether there is another one now. */
export function askForKey(why: string): Promise<boolean> {
  keyDialog ??= showKeyDialog(why).finally(() => {
    keyDialog = undefined;
  });
  return keyDialog;
}

function showKeyDialog(why: string): Promise<boolean> {
  const input = h("input", {
    ...{ id: "key-input", type: "password", autocomplete: "off", spellcheck: "false", maxlength: 8_192 },
    // No header can carry others, so that the call would fail as if the service were away.
    ...{ pattern: "\\s*[!-~]+\\s*", title: "Keys and tokens are visible ASCII characters, without blanks." },
    "aria-describedby": "key-help",
  });
  const forget = h("button", { type: "button", class: "quiet" }, key() ? "Forget the key" : "Not now");
  const form = h(
    "form",
    { method: "dialog" },
    h("h2", { id: "dialog-title" }, "Key"),
    h("p", {}, why),
    h("label", { for: "key-input" }, "Key, or token"),
    input,
    h(
      "p",
      { id: "key-help", class: "help" },
      "It is kept in this tab until you close it. To look on, it needs the scopes catalog.read, usage.read, codes.read and user_coupons.read; to pause, catalog.write.",
    ),
    h("p", { class: "buttons" }, forget, h("button", { type: "submit", class: "good" }, "Use this key")),
  );
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
  return new Promise((resolve) => {
    let isChanged = false;
    forget.addEventListener("click", () => {
      isChanged = key() !== "";
      keepKey("");
      dialog.close();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = input.value.trim();
      if (!given) return input.focus();
      keepKey(given);
      isChanged = true;
      dialog.close();
    });
    open(dialog, () => resolve(isChanged));
    input.focus();
  });
}

/** The browser keeps the focus inside, closes it with Escape, and gives the focus back to where it was. */
function open(dialog: HTMLDialogElement, onClose: () => void): void {
  dialog.addEventListener("close", () => {
    dialog.remove();
    onClose();
  });
  document.body.append(dialog);
  dialog.showModal();
}
