import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const CLIENT = new URL("../../watchdog/web/client/", import.meta.url);

const size = async (...names) => {
  let all = "";
  for (const name of names) {
    const source = readFileSync(new URL(name, CLIENT), "utf8");
    const { code } = await minify(source, { module: true, ecma: 2020, compress: { passes: 3 } });
    all += code;
  }
  return gzipSync(all, { level: 9 }).length;
};

test("core, worker and page are at most 4 KiB together, minified and compressed", async () => {
  const bytes = await size("core.js", "worker.js", "presence.js");
  assert.ok(bytes > 1000 && bytes <= 4096, `${bytes} bytes`);
});

test("the banner, which is loaded only where it is asked for, is another 1.25 KiB at most", async () => {
  const bytes = await size("banner.js");
  assert.ok(bytes > 500 && bytes <= 1280, `${bytes} bytes`);
});
