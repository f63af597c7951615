import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const CLIENT = new URL("../../watchdog/web/client/", import.meta.url);
const MOST = 4096;

test("core, worker and page are at most 4 KiB together, minified and compressed", async () => {
  let all = "";
  for (const name of ["core.js", "worker.js", "presence.js"]) {
    const source = readFileSync(new URL(name, CLIENT), "utf8");
    const { code } = await minify(source, { module: true, ecma: 2020, compress: { passes: 3 } });
    all += code;
  }
  const size = gzipSync(all, { level: 9 }).length;
  assert.ok(size > 1000 && size <= MOST, `${size} bytes`);
});
