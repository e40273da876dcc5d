#!/usr/bin/env node
// Not the compiled file itself: npm links this one before anything is compiled.
import "../dist/ctl/main.js";
