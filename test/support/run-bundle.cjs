/**
 * Runs what bundle.mjs made, and answers what it exports. What Node has compiled of it is kept by the first process that ends in
 * order, functions too that are compiled only when they are called; all later ones read it. That is a quarter of what a start costs.
 */
const { readFileSync, renameSync, writeFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { Script, constants } = require("node:vm");

module.exports = (file) => {
  const kept = `${file}.compiled`;
  const script = new Script(`(function (exports, require) {${readFileSync(file, "latin1")}\n})`, {
    filename: file,
    cachedData: ifThere(kept),
    importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
  });
  // Refused is that of another Node.
  if (script.cachedDataRejected !== false) process.once("exit", (code) => isServed(code) && keep(script, kept));
  const exported = {};
  script.runInThisContext()(exported, createRequire(file));
  return exported;
};

/** A command, and a start that fails, call too little of it. */
function isServed(code) {
  return code === 0 && process.argv.length === 2;
}

function keep(script, path) {
  const own = `${path}.${process.pid}`;
  try {
    writeFileSync(own, script.createCachedData());
    renameSync(own, path);
  } catch {
    // The bundle has been made anew since.
  }
}

function ifThere(path) {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
