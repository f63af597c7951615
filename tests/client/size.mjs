import { readFileSync } from "node:fs";
import { gzipSync } from "node:zlib";
import { minify } from "terser";

const FILES = new URL("../../watchdog/web/client/", import.meta.url);

/** Bytes of the files together, as a page loads them: each minified and compressed for itself. */
export const sizes = async (names) => {
  const found = {};
  for (const name of names) {
    const { code } = await minify(readFileSync(new URL(name, FILES), "utf8"), { module: true, ecma: 2020 });
    found[name] = gzipSync(code, { level: 9 }).length;
  }
  return found;
};
if (process.argv[2]) console.log(await sizes(process.argv.slice(2)));
