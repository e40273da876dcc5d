// Given to a service with --import: writes which modules it has loaded into the file that LOADED_MODULES_FILE names, when it ends.
import { writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const { cache } = createRequire(import.meta.url);
const file = process.env.LOADED_MODULES_FILE;
process.on("exit", () => writeFileSync(file, JSON.stringify(Object.keys(cache))));
