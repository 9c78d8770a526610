// Ask what standard input says: `node ask.mjs fetch|http|undici URL`. Input and output are said in asking.py.

import http from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { Readable } from "node:stream";

const [library, base] = process.argv.slice(2);
const agent = new http.Agent({ keepAlive: true });

function* pieces(body) {
  const third = Math.floor(body.length / 3) + 1;
  for (let at = 0; at < body.length; at += third) yield body.subarray(at, at + third);
}

function pairs(raw) {
  const fields = [];
  for (let at = 0; at < raw.length; at += 2) fields.push([raw[at].toString(), raw[at + 1].toString()]);
  return fields;
}

const asks = {
  async fetch({ method, url, framing, headers, body }) {
    const content = { none: undefined, length: body, chunked: framing === "chunked" && Readable.toWeb(Readable.from(pieces(body))) };
    const got = await fetch(url, { method, headers, body: content[framing], redirect: "manual", duplex: "half" });
    return { status: got.status, fields: [...got.headers], body: Buffer.from(await got.arrayBuffer()) };
  },
  http({ method, url, framing, headers, body }) {
    return new Promise((resolve, reject) => {
      if (framing === "length") headers = { ...headers, "Content-Length": body.length };
      const request = http.request(url, { method, headers, agent }, (got) => {
        const parts = [];
        got.on("data", (part) => parts.push(part));
        got.on("error", reject);
        got.on("end", () => resolve({ status: got.statusCode, fields: pairs(got.rawHeaders), body: Buffer.concat(parts) }));
      });
      request.on("error", reject);
      if (framing === "none") request.end();
      else Readable.from(framing === "length" ? [body] : pieces(body)).pipe(request);
    });
  },
  async undici({ method, url, framing, headers, body }) {
    const content = { none: null, length: body, chunked: framing === "chunked" && Readable.from(pieces(body)) };
    const got = await asks.library.request(url, { method, headers, body: content[framing], responseHeaders: "raw" });
    return { status: got.statusCode, fields: pairs(got.headers), body: Buffer.from(await got.body.arrayBuffer()) };
  },
};
if (library === "undici") asks.library = createRequire(`${process.env.PARTIES}/`)("undici");

for await (const line of createInterface({ input: process.stdin })) {
  const [method, target, framing, size] = line.split(" ");
  const body = framing === "none" ? null : Buffer.from(`"${"x".repeat(Number(size) - 2)}"`);
  const headers = framing === "none" ? {} : { "Content-Type": "application/json" };
  try {
    const got = await asks[library]({ method, url: base + target, framing, headers, body });
    const head = got.fields.map(([name, value]) => `${name}: ${value}\n`).join("");
    process.stdout.write(`= ${got.status}\n${head}. ${got.body.toString("base64")}\n`);
  } catch (error) {
    process.stdout.write(`! ${error} ${error.cause ?? ""}`.replaceAll(/[\r\n]/g, " ") + "\n");
  }
}
// undici holds on to a connection after an error, for as long as the other side keeps it, and the process with it.
process.stdout.write("", () => process.exit());
