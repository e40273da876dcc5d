import { Command } from "commander";
import { addCodesCommands } from "./commands/codes.js";
import { addCouponsCommands } from "./commands/coupons.js";
import { addDoctorCommand } from "./commands/doctor.js";
import { addKeysCommands } from "./commands/keys.js";
import { addUseCommands } from "./commands/using.js";
import { addWatchCommand } from "./commands/watch.js";
import { exitCode, failureOf } from "./failures.js";
import type { Io } from "./io.js";
import { acting, addGlobalOptions } from "./session.js";

const afterHelp = `
Ends with 0: done, 1: refused by the service, 2: not understood, 3: not reached or not available, 4: not allowed, 130: interrupted.`;

/** `couponctl ...`. Answers the exit code. */
export async function run(args: readonly string[], io: Io): Promise<number> {
  const program = new Command("couponctl")
    .description("The command line of coupon-service.")
    .exitOverride()
    .showHelpAfterError("(--help says more)")
    .configureOutput({ writeOut: io.out, writeErr: io.say })
    .addHelpText("after", afterHelp);
  addGlobalOptions(program);
  const act = acting(io);
  for (const add of [addCouponsCommands, addUseCommands, addCodesCommands, addWatchCommand, addKeysCommands]) {
    add(program, act);
  }
  addDoctorCommand(program, act, io);
  try {
    await program.parseAsync([...args], { from: "user" });
    return exitCode.ok;
  } catch (error) {
    const failure = failureOf(error, io.signal);
    if (!failure) throw error;
    if (failure.text) io.say(`couponctl: ${failure.text}\n`);
    return failure.code;
  }
}
