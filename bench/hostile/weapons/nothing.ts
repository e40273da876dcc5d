import { setTimeout as sleep } from "node:timers/promises";
import type { Weapon } from "../weapon.js";

export const nothing: Weapon = {
  name: "nothing",
  what: "no weapon: how much the bystander's figures differ by themselves",
  seconds: 2,
  async fire(field) {
    await field.begin();
    await sleep(Math.max(0, field.untilMs - Date.now()));
  },
};
